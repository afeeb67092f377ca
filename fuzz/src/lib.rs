//! What the fuzz targets hold to be true. Each is one function over bytes, which panics if they find
//! it false; the targets in `fuzz_targets/` call them, and so do ordinary tests over the kept seeds.

pub mod address;
pub mod connection;
pub mod decoder;
pub mod engine;
pub mod frames;
pub mod rules;
pub mod text_headers;
