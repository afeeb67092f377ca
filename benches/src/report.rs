//! What a run leaves behind.

pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod svg;
