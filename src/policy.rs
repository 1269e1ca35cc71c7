//! The rules of a cache: what bounds it, who leaves for want of room, what of its entries is measured, and
//! how long they live.

pub(crate) mod adaptive;
pub(crate) mod capacity;
pub(crate) mod eviction;
pub(crate) mod lifetime;
pub(crate) mod measure;
