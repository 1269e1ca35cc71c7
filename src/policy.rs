//! The rules of a cache: what bounds it, what of its entries is measured, and how long they live.

pub(crate) mod capacity;
pub(crate) mod lifetime;
pub(crate) mod measure;
