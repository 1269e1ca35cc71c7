//! The entries of a shard, found by key; knows no lock and no hasher.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use equivalent::Equivalent;
use hashbrown::HashTable;
use slab::Slab;

use crate::clock::{NEVER, Nanos};
use crate::lifetime::Deadlines;
use crate::stamp::{self, Stamp};
use crate::sync::AtomicU64;

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
    /// One that is in no index.
    pub(crate) fn new(hash: u64, key: K, value: V) -> Self {
        Self { key, value, hash }
    }

    pub(crate) fn into_parts(self) -> (K, V) {
        (self.key, self.value)
    }

    pub(crate) fn into_value(self) -> V {
        let Self { key, value, .. } = self;
        // Before the value is on its way out, where a `Drop` that panics would leak it.
        drop(key);
        value
    }
}

/// An index of fewer slots than this is not worth compacting. Few where a scheduler chooses among the steps
/// of each insertion.
const WORTH_COMPACTING: usize = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 8 } else { 32 };

/// What an entry brings along besides its key.
pub(crate) struct Incoming<V> {
    pub(crate) value: V,
    /// `None` for [`Extras::NONE`], which most caches have of all entries.
    pub(crate) extras: Option<Extras>,
}

/// What few caches keep of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extras {
    pub(crate) deadlines: Deadlines,
    /// Whether a call has given the entry a lifetime of its own, which outlives updates.
    pub(crate) is_own: bool,
    /// Bytes of key and value, in a cache that measures them.
    pub(crate) size: Option<usize>,
    /// In a cache that weighs its entries.
    pub(crate) weight: Option<u64>,
}

impl Extras {
    pub(crate) const NONE: Self =
        Self { deadlines: Deadlines::NONE, is_own: false, size: None, weight: None };
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
    /// Atomic because readers store them, and shared because a search for a victim goes over them
    /// while entries come and go. Longer than the slab now and then.
    stamps: Arc<[AtomicU64]>,
    /// Raised by every write that adds an entry, and by every search for victims.
    epoch: u64,
    /// Slots that have ever been in use.
    slots: usize,
    /// Of all slots up to the last that ever had one.
    deadlines: Vec<Nanos>,
    /// Whether the deadline is that of a lifetime of the entry's own, of all slots up to the last where it
    /// ever was.
    are_own: Vec<bool>,
    /// Up to when each entry lives unless it is used; atomic because readers put it off.
    idle_deadlines: Vec<AtomicU64>,
    sizes: Vec<usize>,
    /// Sum of `sizes` over the slots in use; wide enough never to overflow.
    measured: u128,
    weights: Vec<u64>,
    /// Sum of `weights` over the slots in use, which is bounded.
    weighed: u64,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            entries: Slab::new(),
            stamps: Arc::default(),
            epoch: 0,
            slots: 0,
            deadlines: Vec::new(),
            are_own: Vec::new(),
            idle_deadlines: Vec::new(),
            sizes: Vec::new(),
            measured: 0,
            weights: Vec::new(),
            weighed: 0,
        }
    }
}

impl<K, V> Index<K, V> {
    /// Takes out everything. The epoch goes on, so that no stamp is ever given twice.
    pub(crate) fn take(&mut self) -> Self {
        let epoch = self.epoch;
        std::mem::replace(self, Self { epoch, ..Self::default() })
    }

    /// Whether less than a quarter of the slots are in use, of so many that it matters.
    pub(crate) fn is_sparse(&self) -> bool {
        let slots = self.stamps.len();
        slots >= WORTH_COMPACTING && self.len() < slots / 4
    }

    /// Moves all entries to the first slots of an index that is no larger than they need. Each keeps its
    /// stamp and its extras. Returns the old index, empty.
    pub(crate) fn compact(&mut self) -> Self {
        let mut old = self.take();
        let len = old.len();
        self.table = HashTable::with_capacity(len);
        self.entries = Slab::with_capacity(len);
        reserve_like(&mut self.deadlines, &old.deadlines, len);
        reserve_like(&mut self.are_own, &old.are_own, len);
        reserve_like(&mut self.idle_deadlines, &old.idle_deadlines, len);
        reserve_like(&mut self.sizes, &old.sizes, len);
        reserve_like(&mut self.weights, &old.weights, len);
        let mut stamps = Vec::with_capacity(len);
        for from in 0..old.slots {
            let Some(entry) = old.entries.try_remove(from) else { continue };
            let hash = entry.hash;
            let to = self.entries.insert(entry);
            stamps.push(AtomicU64::new(old.stamps[from].load(Ordering::Relaxed)));
            self.set_extras(to, Some(old.extras(from)));
            self.table.insert_unique(hash, to as Slot, |&slot| self.entries[slot as usize].hash);
        }
        self.slots = len;
        self.stamps = stamps.into();
        old
    }

    /// Unmoved if no entry was added: whoever saw a key missing knows by it whether to look again.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Starts a new epoch; all uses from now on have its first stamp, which it returns, or later ones.
    pub(crate) fn begin_epoch(&mut self) -> Stamp {
        self.epoch += 1;
        stamp::of_write(self.epoch)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is an entry in `slot`.
    pub(crate) fn is_in_use(&self, slot: Slot) -> bool {
        self.entries.contains(slot as usize)
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

    /// The value in a slot that is in use.
    #[inline]
    pub(crate) fn value(&self, slot: Slot) -> &V {
        &self.entries[slot as usize].value
    }

    /// Whether the entry's time is over at `now`.
    #[inline]
    pub(crate) fn is_expired(&self, slot: Slot, now: Nanos) -> bool {
        self.deadline(slot) <= now
    }

    /// When the entry expires: [`NEVER`] if it does not.
    #[inline]
    pub(crate) fn deadline(&self, slot: Slot) -> Nanos {
        let slot = slot as usize;
        let deadline = self.deadlines.get(slot).copied().unwrap_or(NEVER);
        match self.idle_deadlines.get(slot) {
            Some(idle) => deadline.min(idle.load(Ordering::Relaxed)),
            None => deadline,
        }
    }

    /// When the entry expires, used or not.
    pub(crate) fn deadlines(&self, slot: Slot) -> Deadlines {
        let slot = slot as usize;
        let idle = self.idle_deadlines.get(slot);
        Deadlines {
            fixed: self.deadlines.get(slot).copied().unwrap_or(NEVER),
            idle: idle.map_or(NEVER, |idle| idle.load(Ordering::Relaxed)),
        }
    }

    /// Whether a call has given the entry a lifetime of its own.
    pub(crate) fn has_own_lifetime(&self, slot: Slot) -> bool {
        self.are_own.get(slot as usize).copied().unwrap_or(false)
    }

    /// Gives the entry a lifetime of its own that ends at `deadline`.
    pub(crate) fn set_own_deadline(&mut self, slot: Slot, deadline: Nanos) {
        set(&mut self.deadlines, slot as usize, deadline, || NEVER);
        set(&mut self.are_own, slot as usize, true, || false);
    }

    /// Whether entries may expire.
    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty() || !self.idle_deadlines.is_empty()
    }

    /// Whether the deadlines of entries may be put off.
    pub(crate) fn has_idle_deadlines(&self) -> bool {
        !self.idle_deadlines.is_empty()
    }

    /// Puts off when the entry expires unless it is used. A shared lock is enough.
    pub(crate) fn put_off(&self, slot: Slot, idle_deadline: Nanos) {
        if let Some(current) = self.idle_deadlines.get(slot as usize) {
            if current.load(Ordering::Relaxed) < idle_deadline {
                current.store(idle_deadline, Ordering::Relaxed);
            }
        }
    }

    /// Records a use of the entry.
    ///
    /// A shared lock is enough. Two threads that read one entry at the same instant may leave the lower
    /// of their two stamps; both are of one epoch, in which reads of different threads count as
    /// simultaneous. Keeping the greater for certain would take a read-modify-write on every hit.
    #[inline]
    pub(crate) fn touch(&self, slot: Slot) {
        let stamp = stamp::of_read(self.epoch);
        let current = &self.stamps[slot as usize];
        if current.load(Ordering::Relaxed) < stamp {
            current.store(stamp, Ordering::Relaxed);
        }
    }

    /// The stamps by slot, [`VACANT`](stamp::VACANT) where there is no entry.
    pub(crate) fn stamps(&self) -> &Arc<[AtomicU64]> {
        &self.stamps
    }

    /// How many slots have ever been in use.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// The entries in these slots with their slots and stamps, in no order.
    pub(crate) fn iter(
        &self,
        slots: Range<usize>,
    ) -> impl Iterator<Item = (Slot, Stamp, &Entry<K, V>)> {
        (slots.start..slots.end.min(self.slots)).filter_map(|slot| {
            let entry = self.entries.get(slot)?;
            Some((slot as Slot, self.stamps[slot].load(Ordering::Relaxed), entry))
        })
    }

    /// Adds an entry whose key is not there yet, to a shard that will hold `share` of them or somewhat
    /// more.
    pub(crate) fn insert(&mut self, hash: u64, key: K, new: Incoming<V>, share: usize) -> Slot {
        let Incoming { value, extras } = new;
        if self.entries.len() == self.stamps.len() {
            self.grow(share);
        }
        let slot = self.entries.insert(Entry { key, value, hash });
        self.slots = self.slots.max(slot + 1);
        self.stamp_write(slot);
        self.set_extras(slot, extras);
        self.table.insert_unique(hash, slot as Slot, |&slot| self.entries[slot as usize].hash);
        slot as Slot
    }

    /// Puts an entry in the place of one with an equal key, as a use of it, and returns the old one.
    ///
    /// The new key comes with its value, since the two were measured together.
    pub(crate) fn replace(&mut self, slot: Slot, key: K, new: Incoming<V>) -> Entry<K, V> {
        let slot = slot as usize;
        self.stamp_write(slot);
        self.forget_extras(slot);
        self.set_extras(slot, new.extras);
        let entry = &mut self.entries[slot];
        let hash = entry.hash;
        std::mem::replace(entry, Entry { key, value: new.value, hash })
    }

    /// Puts an entry whose key is not there yet in the place of another, which it returns.
    pub(crate) fn supplant(
        &mut self,
        slot: Slot,
        hash: u64,
        key: K,
        new: Incoming<V>,
    ) -> Entry<K, V> {
        let Incoming { value, extras } = new;
        let entry = &mut self.entries[slot as usize];
        let old = std::mem::replace(entry, Entry { key, value, hash });
        self.forget_key(old.hash, slot);
        self.stamp_write(slot as usize);
        self.forget_extras(slot as usize);
        self.set_extras(slot as usize, extras);
        self.table.insert_unique(hash, slot, |&slot| self.entries[slot as usize].hash);
        old
    }

    /// Takes the entry out of `slot`.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry<K, V> {
        let entry = self.entries.remove(slot as usize);
        self.forget_key(entry.hash, slot);
        self.stamps[slot as usize].store(stamp::VACANT, Ordering::Relaxed);
        self.forget_extras(slot as usize);
        entry
    }

    /// The weight that the entry came with.
    #[inline]
    pub(crate) fn weight(&self, slot: Slot) -> Option<u64> {
        self.weights.get(slot as usize).copied()
    }

    /// The size that the entry came with.
    #[inline]
    pub(crate) fn size(&self, slot: Slot) -> Option<usize> {
        self.sizes.get(slot as usize).copied()
    }

    /// Counts the entry as used just now. Adds none, but starts an epoch as if it did.
    pub(crate) fn make_newest(&mut self, slot: Slot) {
        self.stamp_write(slot as usize);
    }

    /// Takes the entry out of `slot`, if there is one, of an index that nobody looks into any more.
    pub(crate) fn vacate(&mut self, slot: Slot) -> Option<Entry<K, V>> {
        self.entries.try_remove(slot as usize)
    }

    /// Sum of the sizes that entries came with.
    pub(crate) fn measured(&self) -> u128 {
        self.measured
    }

    /// Sum of the weights that entries came with.
    pub(crate) fn weighed(&self) -> u64 {
        self.weighed
    }

    /// Bytes that the index has allocated, room for further entries included.
    pub(crate) fn heap_size(&self) -> usize {
        self.table.allocation_size()
            + self.entries.capacity() * size_of::<SlabSlot<Entry<K, V>>>()
            + size_of_val(&*self.stamps)
            + self.deadlines.capacity() * size_of::<Nanos>()
            + self.are_own.capacity()
            + self.idle_deadlines.capacity() * size_of::<AtomicU64>()
            + self.sizes.capacity() * size_of::<usize>()
            + self.weights.capacity() * size_of::<u64>()
    }

    /// Makes room for more entries than there ever were: twice as many, but no more than the shard will
    /// need if its keys are spread as by chance (four standard deviations above its share), and beyond
    /// that an eighth more.
    #[cold]
    fn grow(&mut self, share: usize) {
        const FEWEST: usize = 4;
        let len = self.stamps.len();
        let likely = share.saturating_add(4 * share.isqrt());
        let more = match likely.checked_sub(len) {
            None | Some(0) => len / 8,
            Some(missing) => len.min(missing),
        };
        let more = more.max(FEWEST);
        self.stamps = with_more_room(&self.stamps, more);
        self.entries.reserve_exact(more);
        if !self.deadlines.is_empty() {
            self.deadlines.reserve_exact(more);
        }
        if !self.idle_deadlines.is_empty() {
            self.idle_deadlines.reserve_exact(more);
        }
        if !self.sizes.is_empty() {
            self.sizes.reserve_exact(more);
        }
        if !self.weights.is_empty() {
            self.weights.reserve_exact(more);
        }
    }

    /// Makes the entry in `slot` unknown to those who ask for its key.
    fn forget_key(&mut self, hash: u64, slot: Slot) {
        if let Ok(found) = self.table.find_entry(hash, |&other| other == slot) {
            found.remove();
        }
    }

    /// Starts a new epoch with the entry in `slot`.
    fn stamp_write(&mut self, slot: usize) {
        let stamp = self.begin_epoch();
        self.stamps[slot].store(stamp, Ordering::Relaxed);
    }

    /// What the entry in `slot` came with.
    fn extras(&self, slot: usize) -> Extras {
        let slot = slot as Slot;
        let (deadlines, is_own) = (self.deadlines(slot), self.has_own_lifetime(slot));
        Extras { deadlines, is_own, size: self.size(slot), weight: self.weight(slot) }
    }

    #[inline]
    fn set_extras(&mut self, slot: usize, extras: Option<Extras>) {
        if extras.is_some() || self.has_deadlines() {
            self.set_some_extras(slot, extras.unwrap_or(Extras::NONE));
        }
    }

    fn set_some_extras(&mut self, slot: usize, extras: Extras) {
        let Extras { deadlines: Deadlines { fixed, idle }, is_own, size, weight } = extras;
        if is_own || slot < self.are_own.len() {
            set(&mut self.are_own, slot, is_own, || false);
        }
        if fixed != NEVER || slot < self.deadlines.len() {
            set(&mut self.deadlines, slot, fixed, || NEVER);
        }
        if idle != NEVER || slot < self.idle_deadlines.len() {
            let never = || AtomicU64::new(NEVER);
            set(&mut self.idle_deadlines, slot, AtomicU64::new(idle), never);
        }
        if let Some(size) = size {
            set(&mut self.sizes, slot, size, || 0);
            self.measured += size as u128;
        }
        if let Some(weight) = weight {
            set(&mut self.weights, slot, weight, || 0);
            self.weighed += weight;
        }
    }

    fn forget_extras(&mut self, slot: usize) {
        if let Some(size) = self.sizes.get(slot) {
            self.measured -= *size as u128;
        }
        if let Some(weight) = self.weights.get(slot) {
            self.weighed -= weight;
        }
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Index<K, V> {
    /// Asserts that table, entries, stamps, deadlines and sizes agree.
    pub(crate) fn validate(&self) {
        let Self { table, entries, stamps, epoch, slots, deadlines, sizes, measured, .. } = self;
        assert_eq!(table.len(), entries.len(), "every entry is in the table once");
        assert!(*slots <= stamps.len() && stamps.len() <= entries.capacity());
        for (slot, entry) in entries {
            assert!(slot < *slots);
            assert_eq!(
                self.find(entry.hash, &entry.key),
                Some(slot as Slot),
                "a key finds its entry"
            );
            let stamp = stamps[slot].load(Ordering::Relaxed);
            assert!(stamp < stamp::of_write(epoch + 1), "no use lies ahead");
        }
        let is_stamped = |stamp: &&AtomicU64| stamp.load(Ordering::Relaxed) != stamp::VACANT;
        assert_eq!(stamps.iter().filter(is_stamped).count(), entries.len());
        assert!(deadlines.len() <= *slots && self.idle_deadlines.len() <= *slots);
        assert!(sizes.is_empty() || sizes.len() == *slots);
        assert!(self.weights.is_empty() || self.weights.len() == *slots);
        if !self.weights.is_empty() {
            let sum: u64 = entries.iter().map(|(slot, _)| self.weights[slot]).sum();
            assert_eq!(sum, self.weighed);
        }
        if !sizes.is_empty() {
            let sum: u128 = entries.iter().map(|(slot, _)| sizes[slot] as u128).sum();
            assert_eq!(sum, *measured);
        }
    }
}

/// A copy of the stamps with room for `more`; nobody stores one meanwhile.
fn with_more_room(stamps: &[AtomicU64], more: usize) -> Arc<[AtomicU64]> {
    let stamp =
        |slot: usize| stamps.get(slot).map_or(stamp::VACANT, |stamp| stamp.load(Ordering::Relaxed));
    (0..stamps.len() + more).map(|slot| AtomicU64::new(stamp(slot))).collect()
}

/// Makes room for so many elements, if there are any in the array that this one replaces.
fn reserve_like<T>(array: &mut Vec<T>, old: &[T], len: usize) {
    if !old.is_empty() {
        array.reserve_exact(len);
    }
}

/// Sets the element of `slot`, and those before it that have none to what `filler` makes.
fn set<T>(array: &mut Vec<T>, slot: usize, value: T, filler: impl FnMut() -> T) {
    if array.len() <= slot {
        array.resize_with(slot, filler);
        array.push(value);
    } else {
        array[slot] = value;
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
            extras: Some(Extras {
                deadlines: Deadlines { fixed: value.len() as u64, idle: NEVER },
                is_own: false,
                size: Some(value.len()),
                weight: None,
            }),
        }
    }

    fn stamp(index: &Index<impl Sized, String>, slot: Slot) -> Stamp {
        index.stamps()[slot as usize].load(Ordering::Relaxed)
    }

    #[test]
    fn a_vacated_slot_is_reused_and_its_old_stamp_gone() {
        let mut index = Index::default();
        let first = index.insert(1, "a", incoming("one"), 100);
        let old = stamp(&index, first);
        assert_eq!(index.remove(first).value, "one");
        assert_eq!(stamp(&index, first), stamp::VACANT);
        assert_eq!(index.insert(2, "b", incoming("two"), 100), first);
        assert!(stamp(&index, first) > old);
        assert_eq!(index.find(1, "a"), None);
        assert_eq!(index.find(2, "b"), Some(first));
    }

    #[test]
    fn a_supplanted_entry_is_gone_and_the_new_one_in_its_slot() {
        let mut index = Index::default();
        let slot = index.insert(1, "a", incoming("one"), 100);
        let old = stamp(&index, slot);
        assert_eq!(index.supplant(slot, 2, "b", incoming("three")).value, "one");
        assert!(stamp(&index, slot) > old);
        assert_eq!((index.find(1, "a"), index.find(2, "b")), (None, Some(slot)));
        assert_eq!((index.len(), index.measured(), index.deadline(slot)), (1, 5, 5));
    }

    #[test]
    fn one_hash_for_all_keys_still_tells_them_apart() {
        let mut index = Index::default();
        let slots: Vec<Slot> =
            (0..100).map(|key| index.insert(0, key, incoming("x"), 100)).collect();
        for (key, slot) in slots.iter().enumerate() {
            assert_eq!(index.find(0, &key), Some(*slot));
        }
        index.remove(slots[50]);
        assert_eq!(index.find(0, &50), None);
        assert_eq!(index.find(0, &51), Some(slots[51]));
    }

    #[test]
    fn the_measured_sum_follows_inserts_replacements_and_removals() {
        let mut index = Index::default();
        let a = index.insert(1, 1, incoming("four"), 100);
        let b = index.insert(2, 2, incoming("sixsix"), 100);
        assert_eq!(index.measured(), 10);
        assert_eq!(index.replace(a, 1, incoming("a")).value, "four");
        assert_eq!(index.measured(), 7);
        index.remove(b);
        assert_eq!(index.measured(), 1);
    }

    #[test]
    fn room_doubles_up_to_what_is_likely_and_then_grows_by_an_eighth() {
        let mut index = Index::default();
        let mut rooms = vec![0];
        for key in 0..190 {
            index.insert(key, key, incoming("x"), 100);
            rooms.push(index.stamps().len());
        }
        rooms.dedup();
        // Four times the square root of the share is 40.
        assert_eq!(rooms, [0, 4, 8, 16, 32, 64, 128, 140, 157, 176, 198]);
    }

    #[test]
    fn room_is_made_for_what_entries_have_and_for_nothing_else() {
        fn room(extras: Option<Extras>) -> [usize; 4] {
            let mut index = Index::default();
            for key in 0..100 {
                index.insert(key, key, Incoming { value: (), extras }, 100);
            }
            assert_eq!(index.stamps().len(), 128);
            let Index { deadlines, idle_deadlines, sizes, weights, .. } = index;
            let deadlines = [deadlines.capacity(), idle_deadlines.capacity()];
            [deadlines[0], deadlines[1], sizes.capacity(), weights.capacity()]
        }
        let expiring =
            |fixed, idle| Some(Extras { deadlines: Deadlines { fixed, idle }, ..Extras::NONE });
        assert_eq!(room(None), [0, 0, 0, 0]);
        assert_eq!(room(Some(Extras::NONE)), [0, 0, 0, 0]);
        assert_eq!(room(expiring(1, NEVER)), [128, 0, 0, 0]);
        assert_eq!(room(expiring(NEVER, 1)), [0, 128, 0, 0]);
        assert_eq!(room(Some(Extras { size: Some(1), ..Extras::NONE })), [0, 0, 128, 0]);
        assert_eq!(room(Some(Extras { weight: Some(1), ..Extras::NONE })), [0, 0, 0, 128]);
    }

    #[test]
    fn entries_that_are_compacted_keep_all_but_their_slots_and_take_no_more_than_they_need() {
        let mut index = Index::default();
        for key in 0..100 {
            index.insert(key % 7, key, incoming(&"x".repeat(key as usize)), 1_000);
        }
        for key in 0..80 {
            let slot = index.find(key % 7, &key).unwrap();
            index.remove(slot);
        }
        assert!(index.is_sparse());
        let looks = |index: &Index<u64, String>| -> Vec<_> {
            let look = |key: u64| {
                let slot = index.find(key % 7, &key)?;
                let extras = index.extras(slot as usize);
                Some((index.value(slot).clone(), stamp(index, slot), extras))
            };
            (0..100).map(look).collect()
        };
        let (before, epoch) = (looks(&index), index.epoch());
        let old = index.compact();
        assert!(old.is_empty() && !index.is_sparse());
        assert_eq!((looks(&index), index.epoch()), (before, epoch));
        assert_eq!((index.slots(), index.stamps().len(), index.sizes.capacity()), (20, 20, 20));
        #[cfg(feature = "__validate")]
        index.validate();
        index.insert(100, 100, incoming("new"), 1_000);
        assert_eq!((index.len(), index.stamps().len()), (21, 40));
    }

    #[test]
    fn a_stamp_never_goes_back_nor_comes_again() {
        let mut index = Index::default();
        let slot = index.insert(1, 1, incoming("x"), 100);
        let later = stamp::of_write(1_000);
        index.stamps()[slot as usize].store(later, Ordering::Relaxed);
        index.touch(slot);
        assert_eq!(stamp(&index, slot), later);

        let before = index.take().epoch();
        let slot = index.insert(1, 1, incoming("x"), 100);
        assert!(index.epoch() > before);
        let written = stamp(&index, slot);
        index.touch(slot);
        assert!(stamp(&index, slot) > written);
    }
}
