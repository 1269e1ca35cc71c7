//! The entries of a shard, found by key; knows no lock and no hasher.

use std::sync::atomic::{AtomicU64, Ordering};

use equivalent::Equivalent;
use hashbrown::HashTable;
use slab::Slab;

use crate::clock::Nanos;
use crate::stamp::{self, Stamp};

/// Where an entry lives; free for reuse once the entry has left.
pub(crate) type Slot = u32;

/// The most entries that slots can number.
pub(crate) const MAX_ENTRIES: usize = Slot::MAX as usize - 1;

/// A cached key and value.
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    /// Kept so that growing the table never calls the user's `Hash`.
    hash: u64,
}

impl<K, V> Entry<K, V> {
    pub(crate) fn into_value(self) -> V {
        let Self { key, value, .. } = self;
        // Before the value is on its way out, where a `Drop` that panics would leak it.
        drop(key);
        value
    }
}

/// What an entry brings along besides its key.
pub(crate) struct Incoming<V> {
    pub(crate) value: V,
    /// When it expires, in a cache with a time to live.
    pub(crate) deadline: Option<Nanos>,
    /// Bytes of key and value, in a cache that measures them.
    pub(crate) size: Option<usize>,
}

/// A table from key to slot, and what each slot holds.
///
/// What a victim search or a clock reads of every entry lies in arrays of its own, by slot: a search
/// runs over dense numbers, and a cache without a time to live or a measure pays for neither.
///
/// What a hit reads comes first, and in this order.
#[repr(C)]
pub(crate) struct Index<K, V> {
    table: HashTable<Slot>,
    entries: Slab<Entry<K, V>>,
    /// Atomic because readers store them under a shared lock.
    stamps: Vec<AtomicU64>,
    deadlines: Vec<Nanos>,
    sizes: Vec<usize>,
    /// Sum of `sizes` over the slots in use; wide enough never to overflow.
    measured: u128,
}

impl<K, V> Index<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            table: HashTable::new(),
            entries: Slab::new(),
            stamps: Vec::new(),
            deadlines: Vec::new(),
            sizes: Vec::new(),
            measured: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Finds the slot of `key`, expired or not. Calls the user's `Eq`, before anything has changed.
    #[inline]
    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let is_key = |&slot: &Slot| key.equivalent(&self.entries[slot as usize].key);
        self.table.find(hash, is_key).copied()
    }

    #[inline]
    pub(crate) fn entry(&self, slot: Slot) -> &Entry<K, V> {
        &self.entries[slot as usize]
    }

    /// Whether the entry's time is over at `now`.
    #[inline]
    pub(crate) fn is_expired(&self, slot: Slot, now: Nanos) -> bool {
        self.deadline(slot) <= now
    }

    /// When the entry expires.
    pub(crate) fn deadline(&self, slot: Slot) -> Nanos {
        self.deadlines[slot as usize]
    }

    /// Whether entries expire: all of them or none.
    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Records a use of the entry.
    ///
    /// A shared lock is enough. Two threads that read one entry at the same instant may leave the lower
    /// of their two stamps; both are of one epoch, in which reads of different threads count as
    /// simultaneous. Keeping the greater for certain would take a read-modify-write on every hit.
    #[inline]
    pub(crate) fn touch(&self, slot: Slot, stamp: Stamp) {
        let current = &self.stamps[slot as usize];
        if current.load(Ordering::Relaxed) < stamp {
            current.store(stamp, Ordering::Relaxed);
        }
    }

    /// The stamps by slot, [`VACANT`](stamp::VACANT) where there is no entry.
    pub(crate) fn stamps(&self) -> &[AtomicU64] {
        &self.stamps
    }

    /// All entries with their slots and stamps, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, Stamp, &Entry<K, V>)> {
        self.entries
            .iter()
            .map(|(slot, entry)| (slot as Slot, self.stamps[slot].load(Ordering::Relaxed), entry))
    }

    /// Adds an entry whose key is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, key: K, new: Incoming<V>, stamp: Stamp) -> Slot {
        let Incoming { value, deadline, size } = new;
        let slot = self.entries.insert(Entry { key, value, hash });
        if slot == self.stamps.len() {
            self.stamps.push(AtomicU64::new(stamp));
        } else {
            *self.stamps[slot].get_mut() = stamp;
        }
        self.set_extras(slot, deadline, size);
        self.table.insert_unique(hash, slot as Slot, |&slot| self.entries[slot as usize].hash);
        slot as Slot
    }

    /// Puts an entry in the place of one with an equal key, as a use of it, and returns the old one.
    ///
    /// The new key comes with its value, since the two were measured together.
    pub(crate) fn replace(
        &mut self,
        slot: Slot,
        key: K,
        new: Incoming<V>,
        stamp: Stamp,
    ) -> Entry<K, V> {
        let slot = slot as usize;
        *self.stamps[slot].get_mut() = stamp;
        self.forget_size(slot);
        self.set_extras(slot, new.deadline, new.size);
        let entry = &mut self.entries[slot];
        let hash = entry.hash;
        std::mem::replace(entry, Entry { key, value: new.value, hash })
    }

    /// Takes the entry out of `slot`.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry<K, V> {
        let entry = self.entries.remove(slot as usize);
        if let Ok(found) = self.table.find_entry(entry.hash, |&other| other == slot) {
            found.remove();
        }
        *self.stamps[slot as usize].get_mut() = stamp::VACANT;
        self.forget_size(slot as usize);
        entry
    }

    /// Sum of the sizes that entries came with.
    pub(crate) fn measured(&self) -> u128 {
        self.measured
    }

    /// Bytes that the index has allocated, room for further entries included.
    pub(crate) fn heap_size(&self) -> usize {
        self.table.allocation_size()
            + self.entries.capacity() * size_of::<SlabSlot<Entry<K, V>>>()
            + self.stamps.capacity() * size_of::<AtomicU64>()
            + self.deadlines.capacity() * size_of::<Nanos>()
            + self.sizes.capacity() * size_of::<usize>()
    }

    fn set_extras(&mut self, slot: usize, deadline: Option<Nanos>, size: Option<usize>) {
        if let Some(deadline) = deadline {
            set(&mut self.deadlines, slot, deadline);
        }
        if let Some(size) = size {
            set(&mut self.sizes, slot, size);
            self.measured += size as u128;
        }
    }

    fn forget_size(&mut self, slot: usize) {
        if let Some(size) = self.sizes.get(slot) {
            self.measured -= *size as u128;
        }
    }
}

/// Sets the element of `slot`, which is in the array or the next to be.
fn set<T>(array: &mut Vec<T>, slot: usize, value: T) {
    match array.get_mut(slot) {
        Some(element) => *element = value,
        None => array.push(value),
    }
}

/// What a slab keeps for each slot; its own type is private, and this one has the same layout.
#[allow(dead_code, reason = "only its size is of interest")]
enum SlabSlot<T> {
    Vacant(usize),
    Occupied(T),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(value: &str) -> Incoming<String> {
        Incoming {
            value: value.to_owned(),
            deadline: Some(value.len() as u64),
            size: Some(value.len()),
        }
    }

    #[test]
    fn a_vacated_slot_is_reused_and_its_old_stamp_gone() {
        let mut index = Index::new();
        let first = index.insert(1, "a", incoming("one"), 10);
        assert_eq!(index.remove(first).value, "one");
        assert_eq!(index.stamps()[first as usize].load(Ordering::Relaxed), stamp::VACANT);
        assert_eq!(index.insert(2, "b", incoming("two"), 11), first);
        assert_eq!(index.find(1, "a"), None);
        assert_eq!(index.find(2, "b"), Some(first));
    }

    #[test]
    fn one_hash_for_all_keys_still_tells_them_apart() {
        let mut index = Index::new();
        let slots: Vec<Slot> = (0..100).map(|key| index.insert(0, key, incoming("x"), 0)).collect();
        for (key, slot) in slots.iter().enumerate() {
            assert_eq!(index.find(0, &key), Some(*slot));
        }
        index.remove(slots[50]);
        assert_eq!(index.find(0, &50), None);
        assert_eq!(index.find(0, &51), Some(slots[51]));
    }

    #[test]
    fn the_measured_sum_follows_inserts_replacements_and_removals() {
        let mut index = Index::new();
        let a = index.insert(1, 1, incoming("four"), 0);
        let b = index.insert(2, 2, incoming("sixsix"), 1);
        assert_eq!(index.measured(), 10);
        assert_eq!(index.replace(a, 1, incoming("a"), 2).value, "four");
        assert_eq!(index.measured(), 7);
        index.remove(b);
        assert_eq!(index.measured(), 1);
    }

    #[test]
    fn a_stamp_never_goes_back() {
        let mut index = Index::new();
        let slot = index.insert(1, 1, incoming("x"), 5);
        index.touch(slot, 3);
        assert_eq!(index.stamps()[slot as usize].load(Ordering::Relaxed), 5);
        index.touch(slot, 8);
        assert_eq!(index.stamps()[slot as usize].load(Ordering::Relaxed), 8);
    }
}
