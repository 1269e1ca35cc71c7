//! Caches the values of async loads: an expensive call runs once per key, however many tasks ask for its
//! answer at once.
//!
//! ```
//! use std::io;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use async_lru::AsyncLru;
//!
//! /// Stands for a query.
//! async fn load_name(id: u64) -> io::Result<String> {
//!     Ok(format!("user {id}"))
//! }
//!
//! async fn name(names: &AsyncLru<u64, String>, id: u64) -> Result<String, Arc<io::Error>> {
//!     // All who ask meanwhile wait for this query, and get its value or its error.
//!     names.try_get_or_insert_with(id, || load_name(id)).await
//! }
//!
//! let names = AsyncLru::builder().maxsize(10_000).ttl(Duration::from_secs(60)).build();
//! futures_lite::future::block_on(async {
//!     assert_eq!(name(&names, 7).await.unwrap(), "user 7");
//!     assert_eq!(names.get(&7), Some("user 7".to_owned()));
//!     names.invalidate(&7).await;
//!     assert_eq!(names.stats().loads, 1);
//! });
//! ```
//!
//! Nothing else is needed: no executor, no task, no thread. The README has a service, and the page of recipes
//! has programs for axum, request time-outs, outages, metrics, tests and more.
//!
//! # Which call
//!
//! | you have | call |
//! |---|---|
//! | a load that cannot fail | [`get_or_insert_with`](AsyncLru::get_or_insert_with) |
//! | a load that can fail | [`try_get_or_insert_with`](AsyncLru::try_get_or_insert_with) |
//! | requests that time out sooner than the load ends | [`entry`](AsyncLru::entry) and [`detached`](Entry::detached) |
//! | a load that tells how long its value lives | [`entry`](AsyncLru::entry) and [`or_insert_timed`](Entry::or_insert_timed), with a `Duration` or a [`Lifetime`] |
//! | a need to know where the value came from | [`entry`](AsyncLru::entry), whose calls return a [`Lookup`] |
//! | many keys | [`get_or_insert_many`](AsyncLru::get_or_insert_many); with options, [`entries`](AsyncLru::entries) |
//! | a counter, or another change of a cached value | [`update_with`](AsyncLru::update_with) and an [`Update`] |
//! | a write of what is cached | [`writing`](AsyncLru::writing), [`invalidate`](AsyncLru::invalidate), [`invalidate_if`](AsyncLru::invalidate_if) |
//! | a function to wrap | [`Builder::wrap`], a [`Memo`]; [`Builder::try_wrap`], a [`TryMemo`]; [`Builder::wrap_local`], a [`LocalMemo`]; a [`KeyExtractor`] tells the key from the arguments |
//! | entries of an earlier run | [`snapshot_with_ttl`](AsyncLru::snapshot_with_ttl) and [`restore`](AsyncLru::restore), with [`Saved`] entries |
//!
//! # Which setting
//!
//! - **Bounds**: [`maxsize`](Builder::maxsize), [`max_weight`](Builder::max_weight),
//!   [`max_bytes`](Builder::max_bytes) over what [`DeepSize`] tells, for a struct by [`impl_deep_size!`].
//!   [`AsyncLru::set_maxsize`] and its like move a bound while the cache is in use.
//!   [`eviction`](Builder::eviction) chooses the order of [`Eviction`].
//! - **Lifetimes**: [`ttl`](Builder::ttl), [`time_to_idle`](Builder::time_to_idle),
//!   [`expiry`](Builder::expiry) by value; for one entry [`insert_with_ttl`](AsyncLru::insert_with_ttl),
//!   [`set_ttl`](AsyncLru::set_ttl) and [`Update::PutFor`]; for all that is cached
//!   [`limit_ttl`](AsyncLru::limit_ttl).
//! - **Renewal**: [`fresh_for`](Builder::fresh_for) has old values served while one call renews them;
//!   [`spawner`](Builder::spawner) has that done in the background, and [`AsyncLru::refresh`] at once.
//! - **Figures**: [`CacheStats`] and [`CacheInfo`] tell what a cache does and how it is configured.
//! - **Removals**: [`on_remove`](Builder::on_remove) tells a listener of every entry that leaves, and the
//!   [`RemovalCause`].
//! - **Tests**: [`clock`](Builder::clock) takes a [`ManualClock`], or any [`Clock`].
//!
//! # What it promises
//!
//! - **Bounded**: never more than `maxsize` entries, nor more weight or bytes than allowed; and nothing
//!   is evicted while there is room.
//! - **Exact**, unless told otherwise ([`Eviction`]): the least recently used entry leaves, of the whole
//!   cache if that is small (by default under 512 entries), else of one of its parts ([`Builder::shards`]).
//!   Reads by different threads with no write between them count as simultaneous.
//! - **One load per key at a time**; all callers that arrive meanwhile get its value.
//! - **Cancellation and panics** of any call, at any await and in any of the user's code, leave the
//!   cache valid. When a caller is dropped while it loads, one that waits takes over with its own closure. A
//!   future that is kept but not polled any more holds up nobody, unless it is the one that loads, and not
//!   detached.
//! - **Writes win**: `insert`, `remove`, `invalidate` and `clear` are never undone by a load that started
//!   before them, nor are `invalidate_if` and `invalidate_keys_if` for what they choose; loads and updates
//!   of other keys they leave alone.
//! - **Hits never wait** for a load. They wait for a writer of their part of the cache no longer than one short
//!   section, and for nobody while nobody writes; they allocate nothing.
//! - **No executor needed**: nothing is spawned but by a [`spawner`](Builder::spawner), no thread is started,
//!   nothing sleeps.
//!
//! # Features
//!
//! All are off by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `serde` | `Serialize` and `Deserialize` for [`Saved`] entries, [`CacheStats`] and [`CacheInfo`] |
//! | `metrics` | `CacheStats::record`, which publishes all figures through the facade `metrics` 0.24 |
//! | `tracing` | a span for each load, and events for failures and refreshes |
//! | `bytes` | [`DeepSize`] for `Bytes` and `BytesMut` |
//! | `serde_json` | [`DeepSize`] for `Value`, `Map` and `Number` |
//!
//! With `tracing`, and the target `async_lru`, there are
//!
//! - the span `load` at `DEBUG`, a child of the span in which the load was begun. Its fields are `cache`, the
//!   [`name`](Builder::name); `refresh`; `outcome`, which is `value`, `error`, `panicked` or `dropped`; and
//!   `elapsed_us`, by the cache's clock. The load runs within it, wherever it is polled. As a child it keeps the
//!   caller's span open, also if that has timed out, or if it is a refresh in the background;
//! - the event `refresh begun` at `DEBUG`, with `cache`;
//! - the events `load failed` and `refresh failed` at `WARN`, with `cache` too. They do not show the error, which need not be
//!   printable: log it in the load, whose events lie within the span.
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
/// Lets a cache be asked for keys of another type than its own; from the crate `equivalent`.
///
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

    // Some of these programs need features.
    #[cfg(all(
        feature = "metrics",
        feature = "serde",
        feature = "serde_json",
        feature = "tracing"
    ))]
    #[doc = include_str!("../docs/recipes.md")]
    struct Recipes;
}
