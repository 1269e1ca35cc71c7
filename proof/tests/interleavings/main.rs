//! Interleavings that a scheduler chooses.
//!
//! The library takes its locks and atomics from `src/sync.rs`, and built with `--cfg async_lru_shuttle`
//! these are shuttle's: each use of one is a point at which another thread may go on. Every scenario
//! here runs under many schedules. In each of them it holds what its name says, and: no thread is left
//! waiting, no two loads of one key that callers may join are live at once, a value that is seen was
//! written, there are never more entries than `maxsize`, all values that left were dropped, and in the
//! end the cache is whole.
//!
//! Shuttle orders all uses of atomics one after another. What weaker memory may do is asked in
//! `tests/loom`, of less at a time.

#![cfg(async_lru_shuttle)]

mod adaptive;
mod batches;
mod bounds;
mod compaction;
mod detached;
mod eviction;
mod explore;
mod fences;
mod histories;
mod janitor;
mod lifetimes;
#[path = "../../../tests/common/linearizability.rs"]
mod linearizability;
mod pinned_readers;
mod refreshes;
mod removals;
mod single_flight;
mod spawners;
mod sweeps;
mod tiers;
#[path = "../common/timer.rs"]
mod timer;
mod updates;
mod warm_starts;
mod whole_cache;
#[path = "../common/witness.rs"]
mod witness;
