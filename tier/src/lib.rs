//! A second tier for async-lru.
#![forbid(unsafe_code)]

mod key;
mod memory;
mod store;
mod sync;

pub use key::{Key, KeyBytes, TierKey};
pub use memory::{Faults, MemoryFigures, MemoryStore};
pub use store::{
    Ask, BoxFuture, Connected, ErrorKind, Event, Events, Found, Instance, Lease, Session, Space,
    Store, StoreError, Turn,
};
