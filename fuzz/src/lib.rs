//! What the fuzz targets do with their input.
//!
//! Each target turns bytes into calls of the cache, and panics when what comes back is not what it
//! has to be. Every input means something: bytes that are missing count as zero. `tests/fuzz_corpus.rs`
//! includes this crate as a module, so that the same code runs as an ordinary test.

pub mod bytes;
pub mod census;
pub mod operations;
pub mod options;
pub mod schedule;
pub mod time;

/// A target: its name, which is also that of its folder of inputs, and what it does with one.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 4] = [
    ("operations", operations::run),
    ("schedule", schedule::run),
    ("time", time::run),
    ("options", options::run),
];
