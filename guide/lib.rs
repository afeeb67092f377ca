//! The guide under test: every Rust block of its chapters is compiled and run as a doctest of this crate, and
//! its figures are drawn by it.
//!
//! `tests/` holds the rest to the truth: links, anchors, and tables that have a row for everything that the
//! library knows.

#![forbid(unsafe_code)]

pub mod figures;

/// A module for each chapter with Rust in it, so that a failing block is named by its chapter. They are there
/// for nobody but the tests.
macro_rules! chapters {
    ($($name:ident: $file:literal,)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("src/", $file))]
            mod $name {}
        )*

        /// The files of the chapters whose Rust is run.
        pub const CHAPTERS: &[&str] = &[$($file),*];
    };
}

chapters! {
    introduction: "introduction.md",
    first: "first.md",
    thinking: "thinking.md",
    flows: "flows.md",
    addresses: "addresses.md",
    sockets: "sockets.md",
    patterns: "patterns.md",
    errors: "errors.md",
    backpressure: "backpressure.md",
    closing: "closing.md",
    contract: "contract.md",
    performance: "performance.md",
    operations: "operations.md",
    from_zig: "from-zig.md",
    from_zeromq: "from-zeromq.md",
    from_tarpc: "from-tarpc.md",
    internals: "internals.md",
}
