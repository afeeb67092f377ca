//! What many applications need, built of nothing but messages and events: use it, or read how it is done.

pub mod stream;
