//! A second tier for async-lru.
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
mod store;
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
pub use store::{
    Ask, BoxFuture, Claim, Connected, ErrorKind, Event, Events, Found, Instance, Lease, Session,
    Space, Store, StoreError, Turn,
};
pub use tiered::Tiered;
pub use write::{NotPropagated, WriteGuard};
