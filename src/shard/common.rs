//! Shared by all shards of a cache: desks, capacity, counters.

use std::sync::Arc;

use super::state::Order;
use crate::entries::Entries;
use crate::flight::Coalescing;
use crate::policy::adaptive::Adaptive;
use crate::policy::capacity::{Capacity, Limits};
use crate::policy::eviction::Eviction;
use crate::sync::AtomicU64;
use crate::sync::counters::Counters;
use crate::sync::desk::Desks;

/// Shared by all shards of a cache.
pub(crate) struct Common<K, V> {
    /// Where threads keep their pins.
    pub(crate) desks: Desks<Entries<K, V>>,
    pub(crate) capacity: Capacity,
    pub(crate) eviction: Eviction,
    pub(crate) counters: Arc<Counters>,
    /// The latest deadline that was seen to have passed: what expired before it stays expired, also for
    /// those who write to other shards by a clock that has stepped back.
    pub(crate) last_expiry: AtomicU64,
    pub(crate) coalescing: Coalescing,
}

impl<K, V> Common<K, V> {
    /// Makes what so many shards share.
    pub(crate) fn new(
        shards: usize,
        limits: Limits,
        eviction: Eviction,
        coalescing: Coalescing,
    ) -> Self {
        Self {
            desks: Desks::new(shards),
            capacity: Capacity::new(limits),
            eviction,
            counters: Arc::new(Counters::new()),
            last_expiry: AtomicU64::new(0),
            coalescing,
        }
    }

    /// Makes the orders in which the entries of a shard leave that has none.
    pub(super) fn order(&self) -> Order {
        let adaptive = match self.eviction {
            Eviction::Lru => None,
            Eviction::Adaptive => Some(Box::new(Adaptive::new(self.capacity.measure()))),
        };
        Order { adaptive, ..Order::default() }
    }
}
