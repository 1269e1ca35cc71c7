//! Models of what threads do at once, each run in all its executions.
//!
//! The library takes its locks and atomics from `src/sync.rs`, and built with `--cfg async_lru_loom`
//! these are loom's. Loom runs a model again and again until it has seen every order of its threads'
//! steps that makes a difference, and every value that weak memory lets a load of an atomic return. So
//! what a model says holds for its few threads and their few steps, without exception; for more of both
//! there is `tests/interleavings`. A thread that is left waiting, and a value that is not dropped, fail
//! every model.

#![cfg(async_lru_loom)]

mod detached;
mod entries;
mod explore;
mod janitor;
mod loads;
mod refreshes;
mod spawners;
#[path = "../common/timer.rs"]
mod timer;
mod updates;
#[path = "../common/witness.rs"]
mod witness;
