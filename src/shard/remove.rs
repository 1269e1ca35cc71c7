//! Removing the entry of a key, or all.

use equivalent::Equivalent;

use super::Shard;
use super::departed::Departed;
use super::removals::{Deliveries, RemovedEntry};
use super::writer::Writer;
use crate::clock::Nanos;
use crate::entries::emptied::Emptied;
use crate::removal::RemovalCause;
use crate::sync::counters::Event;

/// The entry that was removed with a key, and what had expired.
pub(crate) struct Removed<K, V> {
    /// The entry, if it was alive.
    pub(super) entry: Option<RemovedEntry<K, V>>,
    /// Whether loads in flight were fenced.
    pub(super) fenced: bool,
    pub(super) departed: Departed<K, V>,
}

impl<K, V> Default for Removed<K, V> {
    fn default() -> Self {
        Self { entry: None, fenced: false, departed: Departed::default() }
    }
}

impl<K, V> Removed<K, V> {
    pub(crate) fn into_value(self) -> (Option<V>, Deliveries<K, V>) {
        let mut deliveries = self.departed.into_deliveries();
        let value = self.entry.map(|entry| entry.into_value(&mut deliveries));
        (value, deliveries)
    }

    /// Tells whether there was anything to remove.
    pub(crate) fn into_found(mut self) -> (bool, Deliveries<K, V>) {
        let found = self.entry.is_some() || self.fenced;
        if let Some(entry) = self.entry {
            self.departed.keep_removed(entry);
        }
        (found, self.departed.into_deliveries())
    }
}

impl<K, V> Shard<K, V> {
    /// Removes the entry of `key` and fences its loads.
    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q, now: Option<Nanos>) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.remove_by(now, |writer| writer.remove(hash, key))
    }

    /// Does the same, and keeps loads that begin from now on out.
    pub(crate) fn begin_writing<Q>(&self, hash: u64, key: &Q, now: Option<Nanos>) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.remove_by(now, |writer| {
            let removed = writer.remove(hash, key);
            writer.state.guards.add(hash);
            removed
        })
    }

    /// Ends a guard, removes the entry of `key` and fences its loads.
    pub(crate) fn end_writing<Q>(&self, hash: u64, key: &Q, now: Option<Nanos>) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.remove_by(now, |writer| {
            // Before the user's `Eq`, which may panic.
            writer.state.guards.release(hash);
            writer.remove(hash, key)
        })
    }

    fn remove_by(
        &self,
        now: Option<Nanos>,
        remove: impl FnOnce(&mut Writer<'_, K, V>) -> (Option<RemovedEntry<K, V>>, bool),
    ) -> Removed<K, V> {
        // Made before the lock is taken, so that a panic of `Eq` drops it after that is released.
        let mut removed = Removed::default();
        let Removed { entry, fenced, departed } = &mut removed;
        (*entry, *fenced) = remove(&mut self.write(now, departed));
        removed
    }

    /// Ends a guard whose value is in, or was kept out.
    pub(crate) fn release_guard(&self, hash: u64) {
        self.lock().guards.release(hash);
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Removes the entry of `key` and fences its loads; tells whether there were any.
    pub(super) fn remove<Q>(&mut self, hash: u64, key: &Q) -> (Option<RemovedEntry<K, V>>, bool)
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.free_some_expired();
        self.state.guards.disturb(hash);
        let found = self.entries().find(hash, key);
        let fenced = self.entries().fence(hash, key);
        let entry = found.and_then(|slot| self.take_out(slot, RemovalCause::Removed));
        if entry.is_some() {
            self.count(Event::Invalidation);
        }
        (entry, fenced)
    }

    /// Takes out everything and fences all loads. What was there is for the listener, or to be dropped.
    pub(crate) fn clear(mut self, deliveries: &mut Deliveries<K, V>) -> Option<Emptied<K, V>> {
        self.capacity().release(self.total_cost());
        self.state.order = self.common.order();
        self.state.guards.disturb_all();
        let entries = self.entries().take();
        self.common.counters.add(Event::Invalidation, entries.len() as u64);
        match self.removals() {
            None => Some(Emptied::by_use(entries)),
            Some(removals) => {
                if !entries.is_empty() {
                    deliveries.add(removals, removals.post_all(entries));
                }
                None
            }
        }
    }
}
