//! The content of a shard, and the orders in which entries leave it; knows no lock.

use std::sync::Arc;

use super::guards::Guards;
use super::removals::RemovalQueue;
use super::watchers::Watchers;
use crate::entries::expiry::ExpiryOrder;
use crate::entries::lru_list::LruList;
use crate::entries::takers::Takers;
use crate::entries::{Entries, Slot, Stamp};
use crate::policy::adaptive::Adaptive;
use crate::sync::desk::Pinnable;

/// So many hits under the lock without a write, and as many as half the slots, are worth the pins that the
/// next write has to take back. Few where each read makes the schedules longer.
const QUIET: u64 = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 1 } else { 256 };

/// Everything in a shard.
pub(crate) struct State<K, V> {
    pub(super) entries: Pinnable<Entries<K, V>>,
    /// The stamp at which the shard has been read so often since the last write that a pin is worth it.
    pub(super) quiet_at: Stamp,
    pub(super) order: Order,
    /// Those who want to know which entries are written.
    pub(super) watchers: Watchers,
    /// The keys that somebody writes the source of.
    pub(super) guards: Guards,
    /// Raised when entries move to other slots.
    pub(super) generation: u64,
    /// The shard's share of the bound.
    pub(super) share: usize,
    /// Where entries that leave go, in a cache with a listener.
    pub(super) removals: Option<Arc<RemovalQueue<K, V>>>,
}

/// The orders in which entries leave the shard, for want of room and for want of time.
#[derive(Default)]
pub(super) struct Order {
    /// Of all entries, or of the hot ones in a cache that tells them from cold ones.
    pub(super) lru: LruList,
    /// Tells hot entries from cold ones, in a cache that is to.
    pub(super) adaptive: Option<Box<Adaptive>>,
    /// The order of those that weigh something, from the first entry on that weighs nothing.
    pub(super) weight_takers: Option<Box<Takers>>,
    /// The same of those that have bytes.
    pub(super) byte_takers: Option<Box<Takers>>,
    pub(super) expiry: ExpiryOrder,
}

impl Order {
    /// Takes the entry in `slot`, which is still there, out; the orders of eviction find out by the stamp.
    #[inline]
    pub(super) fn remove<K, V>(&mut self, slot: Slot, entries: &Entries<K, V>) {
        self.expiry.remove(slot);
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.leave(entries, slot);
        }
        for takers in self.weight_takers.iter_mut().chain(&mut self.byte_takers) {
            takers.remove(slot, entries);
        }
    }

    /// Bytes that all of it has allocated.
    fn heap_size(&self) -> usize {
        let takers = self.weight_takers.iter().chain(&self.byte_takers);
        let takers = takers.map(|takers| size_of::<Takers>() + takers.heap_size());
        let adaptive = self.adaptive.as_deref();
        let adaptive = adaptive.map_or(0, |adaptive| size_of::<Adaptive>() + adaptive.heap_size());
        self.lru.heap_size() + adaptive + takers.sum::<usize>() + self.expiry.heap_size()
    }
}

impl<K, V> State<K, V> {
    /// Makes what is in an empty shard that has `share` of the room.
    pub(super) fn new(
        share: usize,
        order: Order,
        removals: Option<Arc<RemovalQueue<K, V>>>,
    ) -> Self {
        let mut entries = Pinnable::<Entries<K, V>>::default();
        if order.adaptive.is_some() {
            *entries.owned() = Entries::with_ranks();
        }
        let (watchers, guards) = (Watchers::default(), Guards::default());
        Self { entries, quiet_at: QUIET, order, watchers, guards, generation: 0, share, removals }
    }

    /// Begins to count anew how long the shard has not been written.
    #[inline]
    pub(super) fn note_write(&mut self) {
        let enough = QUIET.max(self.entries.slots() as u64 / 2);
        self.quiet_at = self.entries.epoch_after_write() + enough;
    }

    /// Bytes that all of it has allocated.
    pub(super) fn heap_size(&self) -> usize {
        size_of::<Entries<K, V>>()
            + self.entries.heap_size()
            + self.order.heap_size()
            + self.removals.as_ref().map_or(0, |removals| removals.size())
    }
}
