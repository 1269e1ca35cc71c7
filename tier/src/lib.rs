//! A second tier for async-lru.
#![forbid(unsafe_code)]

mod key;
mod store;

pub use key::{Key, KeyBytes, TierKey};
pub use store::{
    Ask, BoxFuture, Connected, ErrorKind, Event, Events, Found, Instance, Lease, Session, Space,
    Store, StoreError, Turn,
};
