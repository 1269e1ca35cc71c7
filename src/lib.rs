//! A runtime-agnostic async LRU cache: an expensive async call runs once per key, however many tasks
//! ask for its answer at once.
//!
//! ```
//! use async_lru::AsyncLru;
//! use std::time::Duration;
//!
//! let squares = AsyncLru::<u64, u64>::builder()
//!     .maxsize(1024)
//!     .ttl(Duration::from_secs(60))
//!     .build();
//!
//! futures_lite::future::block_on(async {
//!     let square = squares.get_or_insert_with(7, async || 7 * 7).await;
//!     assert_eq!(square, 49);
//!     assert_eq!(squares.get(&7), Some(49));
//! });
//! ```
//!
//! # What is where
//!
//! - [`AsyncLru`] is the cache, [`Builder`] its configuration.
//! - [`AsyncLru::get_or_insert_with`] and [`AsyncLru::try_get_or_insert_with`] load what is missing, and
//!   [`AsyncLru::get_or_insert_many`] many keys in one go.
//! - [`AsyncLru::entry`] is one call in full: an [`Entry`] takes a lifetime for what it loads, has the load
//!   outlive the call that started it ([`Entry::detached`]), and tells by a [`Lookup`] where its value came
//!   from. [`AsyncLru::entries`] is the same for many keys.
//! - [`Builder::wrap`] makes a [`Memo`]: a function with a cache of its answers; [`Builder::try_wrap`] a
//!   [`TryMemo`] of one that can fail, and [`Builder::wrap_local`] a [`LocalMemo`]. A [`KeyExtractor`] says
//!   what of the arguments tells calls apart.
//! - [`Builder::maxsize`], [`Builder::max_weight`] and [`Builder::max_bytes`] bound the cache, and
//!   [`AsyncLru::set_maxsize`] and its like move a bound while the cache is in use.
//! - [`Builder::ttl`], [`Builder::time_to_idle`] and [`Builder::expiry`] say how long entries live, and
//!   [`AsyncLru::insert_with_ttl`], [`AsyncLru::set_ttl`] and [`Update::PutFor`] say it of one. A load gives a
//!   [`Lifetime`] with its value ([`Entry::or_insert_timed`]), and [`AsyncLru::limit_ttl`] limits what is
//!   there.
//! - [`Builder::fresh_for`] has stale values served while one call renews them, [`Builder::spawner`] has that
//!   done by nobody's call, and [`AsyncLru::refresh`] at once.
//! - [`AsyncLru::snapshot_with_ttl`] and [`AsyncLru::restore`] carry entries over a restart, each a
//!   [`Saved`].
//! - [`CacheStats`] and [`CacheInfo`] tell what a cache does and how it is configured; [`DeepSize`]
//!   and [`impl_deep_size!`] make its memory estimate count what keys and values own.
//! - [`Builder::on_remove`] tells a listener of every entry that leaves, and by which [`RemovalCause`].
//! - [`Update`] says what [`AsyncLru::update_with`] does with a value.
//! - [`Clock`] is where time comes from; [`ManualClock`] is one for tests.
//!
//! # What it promises
//!
//! - **Bounded**: never more than `maxsize` entries, nor more weight or bytes than allowed; and nothing
//!   is evicted while there is room.
//! - **Exact**, unless told otherwise ([`Eviction`]): the victim is the least recently used entry, of the
//!   cache if it has one shard (by default under 512 entries), else of a shard. Reads by different threads
//!   with no write between them count as simultaneous.
//! - **One load per key at a time**; all callers that arrive meanwhile get its value.
//! - **Cancellation and panics** of any call, at any await and in any of the user's code, leave the
//!   cache valid. A caller that takes over runs its own closure; a future that is kept but not polled
//!   any more holds up nobody, unless it is the one that loads, and not detached.
//! - **Writes win**: `insert`, `remove`, `invalidate` and `clear` are never undone by a load that started
//!   before them, nor are `invalidate_if` and `invalidate_keys_if` for what they choose; loads and updates
//!   of other keys they leave alone.
//! - **Hits never wait** for a load, for a writer of their shard no longer than one short section, and for
//!   nobody while nobody writes; they allocate nothing.
//! - **No executor needed**: nothing is spawned, no thread started, nothing sleeps.
//!
//! # Platforms
//!
//! Whatever has the standard library. On `wasm32-unknown-unknown` that has neither a clock nor random
//! numbers, so there
//!
//! - a cache whose entries expire needs a [`Clock`] of its own ([`Builder::clock`]); one whose entries do
//!   not never asks for the time;
//! - the crate `getrandom`, from which the default hasher takes its seeds (`ahash` depends on it), does
//!   not compile before a backend has been chosen as its documentation says: in a browser its feature
//!   `wasm_js`. With its backend `unsupported` a cache needs a hasher of its own ([`Builder::hasher`]).

#![forbid(unsafe_code)]

mod appraisal;
mod cache;
mod clock;
mod deep_size;
mod entries;
mod flight;
mod lifetime;
mod load;
mod policy;
mod removal;
mod shard;
mod store;
mod sync;

pub use cache::AsyncLru;
pub use cache::background::background;
pub use cache::builder::Builder;
pub use cache::bulk::{DetachedEntries, Entries};
pub use cache::entry::{DetachedEntry, Entry};
pub use cache::local_memo::LocalMemo;
pub use cache::lookup::{Lookup, LookupOutcome};
pub use cache::memo::{ArgsAsKey, KeyExtractor, Memo, TryMemo};
pub use cache::stats::{CacheInfo, CacheStats};
pub use cache::weak::WeakAsyncLru;
pub use cache::writing::{OwnedWriteGuard, WriteGuard};
pub use clock::{Clock, ManualClock, SystemClock};
pub use deep_size::DeepSize;
/// Keys of another type than `K` that a cache can be asked for; from the crate `equivalent`.
#[doc(inline)]
pub use equivalent::Equivalent;
pub use lifetime::Lifetime;
pub use load::key::{BorrowedKey, EntryKey, MadeKey, OwnedKey};
pub use load::task::Task;
pub use load::update::Update;
pub use policy::eviction::Eviction;
pub use removal::RemovalCause;
pub use store::snapshot::Saved;

/// The examples of the README and of the pages under `docs/`, run as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/python.md")]
    struct Python;

    /// Some need features.
    #[cfg(all(
        feature = "metrics",
        feature = "serde",
        feature = "serde_json",
        feature = "tracing"
    ))]
    #[doc = include_str!("../docs/recipes.md")]
    struct Recipes;
}
