//! A second tier for [async-lru](async_lru): several instances of a service share Redis or Valkey, and no
//! stale value stays.
//!
//! A [`Tiered`] cache looks for a value in the memory of its instance, then in the server that all share, and
//! then has one instance load it for all. What one instance [invalidates](Tiered::invalidate) or
//! [writes](Tiered::writing), the others drop as soon as they hear of it; what they could have missed, as
//! their link was down, they drop too. The server never makes a call fail: without it each instance goes on
//! alone, and keeps what it loads for a short time.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use async_lru::AsyncLru;
//! use async_lru_tier::{Json, MemoryStore, Tiered};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // In a service: `RedisStore::open("redis://127.0.0.1:6379/")?`.
//! let store = MemoryStore::new();
//! let users: Tiered<u64, Arc<str>> = Tiered::builder(store, Json, tokio::time::sleep)
//!     .namespace("users")
//!     .ttl(Duration::from_secs(300))
//!     .local(AsyncLru::builder().maxsize(10_000))
//!     .build();
//! tokio::spawn(users.driver());
//! users.linked().await;
//!
//! // Stands for a query.
//! let load = async || Ok::<_, String>(Arc::from("Ann"));
//! assert_eq!(&*users.try_get(&7, load).await.unwrap(), "Ann");
//!
//! let writing = users.writing(&7).await;
//! // Here the row is updated.
//! writing.insert(Arc::from("Anna")).await.unwrap();
//! assert_eq!(&*users.try_get(&7, load).await.unwrap(), "Anna");
//! # });
//! ```
//!
//! # Where to look
//!
//! - [`Tiered`]: reading and writing. [`Builder`]: times, bounds, and [what a lost link means](CutOff).
//! - [`TierKey`] for keys of your own, [`Codec`] for values that are neither JSON nor postcard.
//! - [`RedisStore`] for what it asks of a server, [`MemoryStore`] for tests and its [`Faults`].
//! - [`Figures`] for what to watch; with the feature `metrics` they are published.
//! - [`Store`] and the module [`store`] for another server.
//!
//! # Features
//!
//! By default `json` and `tokio`.
//!
//! | feature | what it adds |
//! |---|---|
//! | `json` | [`Json`], values as JSON; enables serde's `rc`, so that values may be `Arc`s |
//! | `postcard` | [`Postcard`], values in a compact format; enables serde's `rc` too |
//! | `tokio`, `smol` | [`RedisStore`] under that runtime |
//! | `tls`, `smol-tls` | `rediss://` addresses, under tokio and under smol |
//! | `metrics` | [`Figures::record`], which publishes the figures |
//! | `tracing` | events for the link and for errors of the store |
//!
//! Without `tokio` and `smol` there is the [`MemoryStore`], and stores of your own.
//!
//! The README has the promises one by one, what happens when something fails, sizes, the rights that the
//! server must give, and what all of this costs.
#![forbid(unsafe_code)]

mod builder;
mod codec;
mod core;
mod driver;
mod fetch;
mod figures;
mod key;
mod link;
mod many;
mod memory;
#[cfg(any(feature = "tokio", feature = "smol"))]
mod redis;
pub mod store;
mod sync;
mod tiered;
mod timer;
mod trace;
mod waits;
mod write;

pub use self::core::CutOff;
#[cfg(any(feature = "tokio", feature = "smol"))]
pub use self::redis::RedisStore;
pub use builder::Builder;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, CodecError};
pub use figures::Figures;
pub use key::{Key, KeyBytes, TierKey};
pub use memory::{Faults, MemoryFigures, MemoryStore};
#[doc(inline)]
pub use store::{ErrorKind, Store, StoreError};
pub use tiered::Tiered;
pub use write::{NotPropagated, WriteGuard};

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "json", feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
