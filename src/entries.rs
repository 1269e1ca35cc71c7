//! The nodes of a shard, found by key: its entries, and the loads in progress; knows no lock and no hasher.
//!
//! One table leads to both, since most loads become entries: a publication has the load's place in the
//! table lead to the entry. A load that a later write has won over leaves the table at once, and ends where
//! only its leader knows it.

mod deadlines;
pub(crate) mod emptied;
pub(crate) mod expiry;
mod flights;
pub(crate) mod freshness;
mod loading;
pub(crate) mod lru_list;
mod node;
pub(crate) mod ranks;
pub(crate) mod takers;
#[cfg(feature = "__validate")]
mod validate;
pub(crate) mod wheel;

use std::ops::Range;
use std::sync::atomic::Ordering;

use equivalent::Equivalent;
use hashbrown::HashTable;
use slab::Slab;

use self::freshness::{Fresh, Freshness};
use self::loading::FlightState;
pub(crate) use self::loading::{Ended, Flight, FlightKey, Kind, Predicate, Sweeps};
use self::lru_list::{Candidate, Places};
pub(crate) use self::node::{Bucket, Deadlines, Entry, Extras, MAX_ENTRIES, Slot, Stamp};
use self::node::{Node, narrow, wide};
use self::ranks::counted;
use crate::appraisal::Measured;
use crate::clock::{NEVER, Nanos};
use crate::flight::FlightId;
use crate::sync::AtomicU64;
use crate::sync::desk::Notes;

/// Shards of fewer slots than this are not worth compacting. Few where a scheduler chooses among the steps
/// of each insertion.
const WORTH_COMPACTING: usize = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 8 } else { 32 };

/// All nodes of a shard, and the table that leads to them.
///
/// Deadlines and measures, which only some caches keep of an entry, lie in arrays of their own, by slot:
/// a cache without a time to live or a measure pays for neither.
///
/// The fields that a hit reads come first, and in this order.
#[repr(C)]
pub(crate) struct Entries<K, V> {
    table: HashTable<Node>,
    entries: Slab<Entry<K, V>>,
    /// The latest stamp: the number of uses up to now.
    epoch: Stamp,
    /// How many of them are no hits of a call: insertions, and uses by calls that were counted otherwise.
    uncounted: u64,
    /// What arrivals round the latest stamp up by: zero where uses are not counted.
    within_tick: Stamp,
    /// Where uses are counted, those of entries with earlier stamps than this are gains.
    gain_bar: Stamp,
    gains: AtomicU64,
    flights: Slab<Flight<K, V>>,
    /// How many flights there were, which tells those of one slot apart.
    started: u32,
    /// Slots that have ever been in use.
    slots: usize,
    /// Of all slots up to the last that ever had one.
    deadlines: Vec<Nanos>,
    /// Up to when each entry lives unless it is used; atomic because readers put it off.
    idle_deadlines: Vec<AtomicU64>,
    freshness: Vec<Fresh>,
    sizes: Vec<usize>,
    /// Sum of `sizes` over the slots in use; wide enough never to overflow.
    total_bytes: u128,
    weights: Vec<u64>,
    /// Sum of `weights` over the slots in use, which is bounded.
    total_weight: u64,
}

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            entries: Slab::new(),
            epoch: 0,
            uncounted: 0,
            within_tick: 0,
            gain_bar: 0,
            gains: AtomicU64::new(0),
            flights: Slab::new(),
            started: 0,
            slots: 0,
            deadlines: Vec::new(),
            idle_deadlines: Vec::new(),
            freshness: Vec::new(),
            sizes: Vec::new(),
            total_bytes: 0,
            weights: Vec::new(),
            total_weight: 0,
        }
    }
}

/// The hash of a node; of these slabs, as the table is borrowed at the same time.
#[inline]
fn hash_of<K, V>(entries: &Slab<Entry<K, V>>, flights: &Slab<Flight<K, V>>, node: Node) -> u64 {
    wide(match node.is_flight() {
        true => flights[node.slot()].hash,
        false => entries[node.slot()].hash,
    })
}

/// Entries, as one finds and uses them.
impl<K, V> Entries<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells whether there is an entry in `slot`.
    pub(crate) fn is_in_use(&self, slot: Slot) -> bool {
        self.entries.contains(slot as usize)
    }

    /// Finds the slot of `key`, expired or not. Calls the user's `Eq`, before anything has changed.
    #[inline]
    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let is_key =
            |node: &Node| !node.is_flight() && key.equivalent(&self.entries[node.slot()].key);
        self.table.find(wide(narrow(hash)), is_key).map(|node| node.slot() as Slot)
    }

    /// Finds the slot of the key of this flight, which its leader has not ended.
    #[inline(never)]
    pub(crate) fn find_of_flight(&self, id: FlightId) -> Option<Slot>
    where
        K: Eq,
    {
        let flight = self.flight(id);
        self.find(flight.hash(), flight.key())
    }

    /// The entry in a slot that is in use.
    #[inline]
    pub(crate) fn entry(&self, slot: Slot) -> &Entry<K, V> {
        &self.entries[slot as usize]
    }

    /// The value in a slot that is in use.
    #[inline]
    pub(crate) fn value(&self, slot: Slot) -> &V {
        &self.entries[slot as usize].value
    }

    /// How many uses there were that were hits of a call.
    pub(crate) fn hits(&self) -> u64 {
        self.epoch - self.uncounted
    }

    /// The latest stamp.
    pub(crate) fn epoch(&self) -> Stamp {
        self.epoch
    }

    /// Records a use of the entry: a hit.
    #[inline]
    pub(crate) fn touch(&mut self, slot: Slot) {
        self.epoch += 1;
        let entry = &self.entries[slot as usize];
        if self.counts_uses() {
            self.count_use(entry);
        }
        entry.stamp.store(self.epoch, Ordering::Relaxed);
    }

    /// Records a use of the entry that counts for no hit.
    #[inline]
    pub(crate) fn touch_uncounted(&mut self, slot: Slot) {
        self.uncounted += 1;
        self.touch(slot);
    }

    /// Records a use of this entry, that in `slot`, by a reader, who has no right to write: by a stamp, or by
    /// a note that [`merge`](Self::merge) understands. `None` if there is no number for it.
    #[inline(always)]
    pub(crate) fn note(&self, notes: Notes<'_>, slot: Slot, entry: &Entry<K, V>) -> Option<()> {
        let note = |before, read| match self.counts_uses() {
            false => u32::try_from(read).ok(),
            true => counted(before, read),
        };
        let store = |read| {
            if self.counts_uses() {
                self.count_use(entry);
            }
            self.touch_pinned(entry, read);
        };
        notes.add(slot, note, store)
    }

    /// Records the use of this number since the entries were pinned.
    ///
    /// Two threads that read one entry at the same instant may leave the lower of their two stamps; reads
    /// of different threads of what nobody writes count as simultaneous.
    #[inline]
    fn touch_pinned(&self, entry: &Entry<K, V>, read: u64) {
        let (stamp, current) = (self.epoch + read, &entry.stamp);
        if current.load(Ordering::Relaxed) < stamp {
            current.store(stamp, Ordering::Relaxed);
        }
    }

    /// Records the uses that a reader has noted, by slot; zero for none.
    pub(crate) fn merge(&self, notes: &[u32]) {
        let noted = notes.iter().enumerate().filter(|(_, note)| **note != 0);
        for (slot, &note) in noted {
            match self.entries.get(slot) {
                Some(entry) if self.counts_uses() => self.merge_uses(entry, note),
                Some(entry) => self.touch_pinned(entry, note.into()),
                None => {}
            }
        }
    }

    /// Goes past all stamps of readers who have read so often since the entries were pinned, and have
    /// counted their reads themselves.
    pub(crate) fn pass(&mut self, reads: u64) {
        self.epoch += reads;
        self.uncounted += reads;
    }

    /// How many entries there is room for.
    pub(crate) fn room(&self) -> usize {
        self.entries.capacity()
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
            Some((slot as Slot, entry.stamp(), entry))
        })
    }

    /// Returns what was measured of the entry as it came.
    #[inline]
    pub(crate) fn measured(&self, slot: Slot) -> Measured {
        let slot = slot as usize;
        Measured { bytes: self.sizes.get(slot).copied(), weight: self.weights.get(slot).copied() }
    }

    /// Sum of the bytes that entries came with.
    pub(crate) fn total_bytes(&self) -> u128 {
        self.total_bytes
    }

    /// Sum of the weights that entries came with.
    pub(crate) fn total_weight(&self) -> u64 {
        self.total_weight
    }

    /// Bytes that all of it has allocated, room for further entries included.
    pub(crate) fn heap_size(&self) -> usize {
        self.table.allocation_size()
            + self.entries.capacity() * size_of::<SlabSlot<Entry<K, V>>>()
            + self.flights.capacity() * size_of::<SlabSlot<Flight<K, V>>>()
            + self.deadlines.capacity() * size_of::<Nanos>()
            + self.idle_deadlines.capacity() * size_of::<AtomicU64>()
            + self.freshness.capacity() * size_of::<Fresh>()
            + self.sizes.capacity() * size_of::<usize>()
            + self.weights.capacity() * size_of::<u64>()
    }
}

/// Entries, as they come and go.
impl<K, V> Entries<K, V> {
    /// Adds an entry whose key is not there yet, to a shard that will hold `share` of them or somewhat
    /// more. It gets the flight's place in the table that it comes from, if it comes from one.
    pub(crate) fn insert(
        &mut self,
        mut entry: Entry<K, V>,
        extras: Option<&Extras>,
        bucket: Bucket,
        share: usize,
    ) -> Slot {
        if self.entries.len() == self.entries.capacity() {
            self.grow(share);
        }
        self.stamp_write(&mut entry);
        let hash = entry.hash;
        let slot = self.entries.insert(entry);
        self.slots = self.slots.max(slot + 1);
        self.set_extras(slot, extras);
        self.list(hash, Node::entry(slot as Slot), bucket);
        slot as Slot
    }

    /// Puts an entry in the place of one with an equal key, as a use of it, and returns the old one.
    ///
    /// The new key comes with its value, since the two were measured together.
    pub(crate) fn replace(
        &mut self,
        slot: Slot,
        entry: Entry<K, V>,
        extras: Option<&Extras>,
        bucket: Bucket,
    ) -> Entry<K, V> {
        let old = self.exchange(slot, entry, extras);
        self.unlist_bucket(bucket);
        self.entries[slot as usize].take_rank(&old);
        old
    }

    /// Puts an entry whose key is not there yet in the place of another, which it returns.
    pub(crate) fn supplant(
        &mut self,
        slot: Slot,
        entry: Entry<K, V>,
        extras: Option<&Extras>,
        bucket: Bucket,
    ) -> Entry<K, V> {
        let hash = entry.hash;
        let old = self.exchange(slot, entry, extras);
        self.unlist(old.hash, Node::entry(slot));
        self.list(hash, Node::entry(slot), bucket);
        old
    }

    /// Puts an entry in the place of another, which it returns; what the table says is the caller's.
    #[inline]
    fn exchange(
        &mut self,
        slot: Slot,
        mut entry: Entry<K, V>,
        extras: Option<&Extras>,
    ) -> Entry<K, V> {
        self.stamp_write(&mut entry);
        let old = std::mem::replace(&mut self.entries[slot as usize], entry);
        self.forget_extras(slot as usize);
        self.set_extras(slot as usize, extras);
        old
    }

    /// Takes the entry out of `slot`.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry<K, V> {
        let entry = self.entries.remove(slot as usize);
        self.unlist(entry.hash, Node::entry(slot));
        self.forget_extras(slot as usize);
        entry
    }

    /// Takes out all entries, and fences all flights. The stamps go on, so that none is ever given twice.
    pub(crate) fn take(&mut self) -> Self {
        for (_, flight) in &mut self.flights {
            flight.state = FlightState::Fenced;
        }
        self.take_entries()
    }

    fn take_entries(&mut self) -> Self {
        let flights = std::mem::take(&mut self.flights);
        let Self { epoch, uncounted, started, within_tick, gain_bar, .. } = *self;
        let left =
            Self { epoch, uncounted, started, within_tick, gain_bar, flights, ..Self::default() };
        let taken = std::mem::replace(self, left);
        self.list_flights();
        taken
    }

    /// Takes the entry out of `slot`, if there is one, where nobody looks into the table any more.
    pub(crate) fn vacate(&mut self, slot: Slot) -> Option<Entry<K, V>> {
        self.entries.try_remove(slot as usize)
    }

    /// Tells whether less than a quarter of the slots are in use, of so many that it matters.
    pub(crate) fn is_sparse(&self) -> bool {
        let slots = self.entries.capacity();
        slots >= WORTH_COMPACTING && self.len() < slots / 4
    }

    /// Moves all entries to the first slots of room that is no larger than they need. Each keeps its stamp
    /// and its extras; flights stay where they are. Returns the old room, empty.
    pub(crate) fn compact(&mut self) -> Self {
        let mut old = self.take_entries();
        let len = old.len();
        self.gains = std::mem::take(&mut old.gains);
        self.table = HashTable::with_capacity(len + self.flights.len());
        self.entries = Slab::with_capacity(len);
        reserve_like(&mut self.deadlines, &old.deadlines, len);
        reserve_like(&mut self.idle_deadlines, &old.idle_deadlines, len);
        reserve_like(&mut self.freshness, &old.freshness, len);
        reserve_like(&mut self.sizes, &old.sizes, len);
        reserve_like(&mut self.weights, &old.weights, len);
        for from in 0..old.slots {
            let Some(extras) = old.is_in_use(from as Slot).then(|| old.extras(from)) else {
                continue;
            };
            let entry = old.entries.remove(from);
            let hash = entry.hash;
            let to = self.entries.insert(entry);
            self.set_extras(to, Some(&extras));
            self.list(hash, Node::entry(to as Slot), Bucket::NONE);
        }
        self.slots = len;
        self.list_flights();
        old
    }

    /// Makes room for more entries than there ever were: twice as many, but no more than the shard will
    /// need if its keys are spread as by chance (four standard deviations above its share), and beyond
    /// that an eighth more.
    #[cold]
    fn grow(&mut self, share: usize) {
        const FEWEST: usize = 4;
        let len = self.entries.capacity();
        let likely = share.saturating_add(4 * share.isqrt());
        let more = match likely.checked_sub(len) {
            None | Some(0) => len / 8,
            Some(missing) => len.min(missing),
        };
        let more = more.max(FEWEST);
        self.entries.reserve_exact(more);
        if !self.deadlines.is_empty() {
            self.deadlines.reserve_exact(more);
        }
        if !self.idle_deadlines.is_empty() {
            self.idle_deadlines.reserve_exact(more);
        }
        if !self.freshness.is_empty() {
            self.freshness.reserve_exact(more);
        }
        if !self.sizes.is_empty() {
            self.sizes.reserve_exact(more);
        }
        if !self.weights.is_empty() {
            self.weights.reserve_exact(more);
        }
    }

    /// Stamps an entry on its way in.
    #[inline]
    fn stamp_write(&mut self, entry: &mut Entry<K, V>) {
        let stamp = (self.epoch | self.within_tick) + 1;
        self.uncounted += stamp - self.epoch;
        self.epoch = stamp;
        entry.stamp = AtomicU64::new(stamp);
    }

    /// Has the table lead to a node, which is there: in the place of a flight if that left one.
    #[inline(always)]
    fn list(&mut self, hash: u32, node: Node, Bucket(bucket): Bucket) {
        match bucket.and_then(|bucket| self.table.get_bucket_mut(bucket)) {
            Some(place) => {
                *place = node;
                self.end_burst();
            }
            None => {
                self.list_anew(hash, node);
            }
        }
    }

    /// Has the table lead to a node, and returns where it does so until it grows.
    #[inline]
    fn list_anew(&mut self, hash: u32, node: Node) -> usize {
        let Self { table, entries, flights, .. } = self;
        let place = table.insert_unique(wide(hash), node, |&node| hash_of(entries, flights, node));
        place.bucket_index()
    }

    /// Has the table lead to the flights that can be found; it leads to none yet.
    fn list_flights(&mut self) {
        let Self { table, entries, flights, .. } = self;
        for (slot, flight) in flights.iter().filter(|(_, flight)| flight.is_listed()) {
            let node = Node::flight(slot);
            table.insert_unique(wide(flight.hash), node, |&node| hash_of(entries, flights, node));
        }
    }

    /// Has the table lead to a node no more.
    #[inline]
    fn unlist(&mut self, hash: u32, node: Node) {
        if let Ok(found) = self.table.find_entry(wide(hash), |other| *other == node) {
            found.remove();
        }
    }

    fn unlist_bucket(&mut self, Bucket(bucket): Bucket) {
        if let Some(Ok(found)) = bucket.map(|bucket| self.table.get_bucket_entry(bucket)) {
            found.remove();
            self.end_burst();
        }
    }

    /// Returns what the entry in `slot` came with.
    fn extras(&self, slot: usize) -> Extras {
        let slot = slot as Slot;
        let (deadlines, is_own) = (self.deadlines(slot), self.has_own_lifetime(slot));
        Extras { deadlines, is_own, measured: self.measured(slot) }
    }

    #[inline]
    fn set_extras(&mut self, slot: usize, extras: Option<&Extras>) {
        if extras.is_some() || self.has_deadlines() {
            self.set_some_extras(slot, extras.unwrap_or(&Extras::NONE));
        }
    }

    #[inline(never)]
    fn set_some_extras(&mut self, slot: usize, extras: &Extras) {
        let Extras { deadlines: Deadlines { fixed, idle, fresh }, is_own, measured } = *extras;
        let Measured { bytes, weight } = measured;
        self.entries[slot].has_own_lifetime = is_own;
        if fixed != NEVER || slot < self.deadlines.len() {
            set(&mut self.deadlines, slot, fixed, || NEVER);
        }
        if idle != NEVER || slot < self.idle_deadlines.len() {
            let never = || AtomicU64::new(NEVER);
            set(&mut self.idle_deadlines, slot, AtomicU64::new(idle), never);
        }
        if fresh != Freshness::Endless || slot < self.freshness.len() {
            set(&mut self.freshness, slot, Fresh::new(fresh), || Fresh::new(Freshness::Endless));
        }
        if let Some(bytes) = bytes {
            set(&mut self.sizes, slot, bytes, || 0);
            self.total_bytes += bytes as u128;
        }
        if let Some(weight) = weight {
            set(&mut self.weights, slot, weight, || 0);
            self.total_weight += weight;
        }
    }

    fn forget_extras(&mut self, slot: usize) {
        if let Some(size) = self.sizes.get(slot) {
            self.total_bytes -= *size as u128;
        }
        if let Some(weight) = self.weights.get(slot) {
            self.total_weight -= weight;
        }
    }
}

/// All slots, one after another.
impl<K, V> Places for Entries<K, V> {
    #[inline]
    fn len(&self) -> usize {
        self.slots
    }

    #[inline]
    fn at(&self, place: usize) -> Option<Candidate> {
        let slot = place as Slot;
        Some(Candidate { stamp: self.stamp(slot)?, slot })
    }

    #[inline]
    fn stamp(&self, slot: Slot) -> Option<Stamp> {
        self.entries.get(slot as usize).map(Entry::stamp)
    }
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

/// Stands for what a slab keeps for each slot: its own type is private, and this one has the same layout.
#[allow(dead_code, reason = "only its size is of interest")]
enum SlabSlot<T> {
    Vacant(usize),
    Occupied(T),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes what a cache keeps of `value` that measures it by its length.
    fn extras(value: &str) -> Extras {
        Extras {
            deadlines: Deadlines {
                fixed: value.len() as u64,
                idle: NEVER,
                fresh: Freshness::Endless,
            },
            measured: Measured { bytes: Some(value.len()), weight: None },
            ..Extras::NONE
        }
    }

    fn stamp<K, V>(entries: &Entries<K, V>, slot: Slot) -> Stamp {
        entries.stamp(slot).expect("there is an entry")
    }

    /// Adds an entry to a shard that is to hold a hundred.
    fn add<K>(entries: &mut Entries<K, String>, hash: u64, key: K, value: &str) -> Slot {
        let entry = Entry::new(hash << 32, key, value.to_owned());
        entries.insert(entry, Some(&extras(value)), Bucket::NONE, 100)
    }

    #[test]
    fn a_vacated_slot_is_reused_and_its_old_stamp_gone() {
        let mut entries = Entries::default();
        let first = add(&mut entries, 1, "a", "one");
        let old = stamp(&entries, first);
        assert_eq!(entries.remove(first).value, "one");
        assert_eq!(entries.stamp(first), None);
        assert_eq!(add(&mut entries, 2, "b", "two"), first);
        assert!(stamp(&entries, first) > old);
        assert_eq!(entries.find(1 << 32, "a"), None);
        assert_eq!(entries.find(2 << 32, "b"), Some(first));
    }

    #[test]
    fn a_supplanted_entry_is_gone_and_the_new_one_in_its_slot() {
        let mut entries = Entries::default();
        let slot = add(&mut entries, 1, "a", "one");
        let old = stamp(&entries, slot);
        let new = Entry::new(2 << 32, "b", "three".to_owned());
        assert_eq!(entries.supplant(slot, new, Some(&extras("three")), Bucket::NONE).value, "one");
        assert!(stamp(&entries, slot) > old);
        assert_eq!((entries.find(1 << 32, "a"), entries.find(2 << 32, "b")), (None, Some(slot)));
        assert_eq!((entries.len(), entries.total_bytes(), entries.deadline(slot)), (1, 5, 5));
    }

    #[test]
    fn one_hash_for_all_keys_still_tells_them_apart() {
        let mut entries = Entries::default();
        let slots: Vec<Slot> = (0..100).map(|key| add(&mut entries, 0, key, "x")).collect();
        for (key, slot) in slots.iter().enumerate() {
            assert_eq!(entries.find(0, &key), Some(*slot));
        }
        entries.remove(slots[50]);
        assert_eq!(entries.find(0, &50), None);
        assert_eq!(entries.find(0, &51), Some(slots[51]));
    }

    #[test]
    fn the_measured_sum_follows_inserts_replacements_and_removals() {
        let mut entries = Entries::default();
        let a = add(&mut entries, 1, 1, "four");
        let b = add(&mut entries, 2, 2, "sixsix");
        assert_eq!(entries.total_bytes(), 10);
        let new = Entry::new(1 << 32, 1, "a".to_owned());
        assert_eq!(entries.replace(a, new, Some(&extras("a")), Bucket::NONE).value, "four");
        assert_eq!(entries.total_bytes(), 7);
        entries.remove(b);
        assert_eq!(entries.total_bytes(), 1);
    }

    #[test]
    fn room_doubles_up_to_what_is_likely_and_then_grows_by_an_eighth() {
        let mut entries = Entries::default();
        let mut rooms = vec![0];
        for key in 0..190 {
            add(&mut entries, key, key, "x");
            rooms.push(entries.entries.capacity());
        }
        rooms.dedup();
        // Four times the square root of the share is 40.
        assert_eq!(rooms, [0, 4, 8, 16, 32, 64, 128, 140, 157, 176, 198]);
    }

    #[test]
    fn room_is_made_for_what_entries_have_and_for_nothing_else() {
        fn room(extras: Option<Extras>) -> [usize; 4] {
            let mut entries = Entries::default();
            for key in 0..100 {
                let entry = Entry::new(key << 32, key, ());
                entries.insert(entry, extras.as_ref(), Bucket::NONE, 100);
            }
            assert_eq!(entries.entries.capacity(), 128);
            let Entries { deadlines, idle_deadlines, sizes, weights, .. } = entries;
            let deadlines = [deadlines.capacity(), idle_deadlines.capacity()];
            [deadlines[0], deadlines[1], sizes.capacity(), weights.capacity()]
        }
        let expiring = |fixed, idle| {
            Some(Extras {
                deadlines: Deadlines { fixed, idle, fresh: Freshness::Endless },
                ..Extras::NONE
            })
        };
        let measured =
            |bytes, weight| Some(Extras { measured: Measured { bytes, weight }, ..Extras::NONE });
        assert_eq!(room(None), [0, 0, 0, 0]);
        assert_eq!(room(Some(Extras::NONE)), [0, 0, 0, 0]);
        assert_eq!(room(expiring(1, NEVER)), [128, 0, 0, 0]);
        assert_eq!(room(expiring(NEVER, 1)), [0, 128, 0, 0]);
        assert_eq!(room(measured(Some(1), None)), [0, 0, 128, 0]);
        assert_eq!(room(measured(None, Some(1))), [0, 0, 0, 128]);
    }

    #[test]
    fn entries_that_are_compacted_keep_all_but_their_slots_and_take_no_more_than_they_need() {
        let mut entries = Entries::default();
        for key in 0..100 {
            add(&mut entries, key % 7, key, &"x".repeat(key as usize));
        }
        for key in 0..80 {
            let slot = entries.find((key % 7) << 32, &key).unwrap();
            entries.remove(slot);
        }
        assert!(entries.is_sparse());
        let looks = |entries: &Entries<u64, String>| -> Vec<_> {
            let look = |key: u64| {
                let slot = entries.find((key % 7) << 32, &key)?;
                let extras = entries.extras(slot as usize);
                Some((entries.value(slot).clone(), stamp(entries, slot), extras))
            };
            (0..100).map(look).collect()
        };
        let (before, epoch) = (looks(&entries), entries.epoch());
        let old = entries.compact();
        assert!(old.is_empty() && !entries.is_sparse());
        assert_eq!((looks(&entries), entries.epoch()), (before, epoch));
        assert_eq!(
            (entries.slots(), entries.entries.capacity(), entries.sizes.capacity()),
            (20, 20, 20)
        );
        #[cfg(feature = "__validate")]
        entries.validate();
        add(&mut entries, 100, 100, "new");
        assert_eq!((entries.len(), entries.entries.capacity()), (21, 40));
    }

    #[test]
    fn a_stamp_never_goes_back_nor_comes_again() {
        let mut entries = Entries::default();
        let slot = add(&mut entries, 1, 1, "x");
        entries.touch_pinned(entries.entry(slot), 1_000);
        entries.touch_pinned(entries.entry(slot), 999);
        let latest = stamp(&entries, slot);
        assert_eq!(latest, entries.epoch() + 1_000);
        entries.pass(1_000);
        entries.touch(slot);
        assert_eq!((stamp(&entries, slot), entries.hits()), (latest + 1, 1));

        let before = entries.take().epoch();
        let slot = add(&mut entries, 1, 1, "x");
        assert!(entries.epoch() > before);
        let written = stamp(&entries, slot);
        entries.touch(slot);
        assert!(stamp(&entries, slot) > written);
    }

    fn flight(entries: &mut Entries<u32, u32>, hash: u64, key: u32, kind: Kind) -> FlightId {
        entries.lead(hash << 32, FlightKey::Owned(key), kind)
    }

    #[test]
    fn a_published_entry_takes_the_place_of_its_flight_in_the_table() {
        let mut entries = Entries::default();
        // All of one hash.
        let ids: Vec<FlightId> =
            (0..50).map(|key| flight(&mut entries, 7, key, Kind::Led)).collect();
        for (key, id) in (0..).zip(ids) {
            assert_eq!(entries.find(7 << 32, &key), None);
            assert!(entries.join(7 << 32, &key).is_some());
            let (flight, bucket) = entries.take_flight(id);
            let key = flight.end().key.into_inner();
            let slot = entries.insert(Entry::new(7 << 32, key, key), None, bucket, 100);
            assert_eq!(entries.find(7 << 32, &key), Some(slot));
            assert!(entries.join(7 << 32, &key).is_none());
            #[cfg(feature = "__validate")]
            assert_eq!(entries.validate(), 49 - key as usize);
        }
    }

    #[test]
    fn a_fenced_load_is_found_no_more_and_a_fenced_update_by_updates() {
        for (kind, is_found) in [(Kind::Led, false), (Kind::Update, true)] {
            let mut entries = Entries::default();
            let id = flight(&mut entries, 1, 1, kind);
            assert!(entries.fence(1 << 32, &1));
            assert!(!entries.fence(1 << 32, &1), "it is fenced already");
            assert!(entries.join(1 << 32, &1).is_none());
            assert_eq!(entries.join_for_update(1 << 32, &1, true).is_some(), is_found);
            let newer = flight(&mut entries, 1, 1, Kind::Led);
            assert_eq!(entries.join(1 << 32, &1).map(|(_, id, _)| id), Some(newer));
            drop((entries.end_flight(id).completion, entries.end_flight(newer).completion));
            #[cfg(feature = "__validate")]
            assert_eq!(entries.validate(), 0);
        }
    }

    #[test]
    fn an_entry_of_two_words_takes_four() {
        assert_eq!(size_of::<SlabSlot<Entry<u64, u64>>>(), 32);
    }

    #[test]
    fn flights_stay_where_they_are_when_entries_leave_or_move() {
        let mut entries = Entries::default();
        let [load, update] = [Kind::Led, Kind::Update]
            .map(|kind| flight(&mut entries, 1, if kind == Kind::Led { 1 } else { 2 }, kind));
        for key in 100..200 {
            entries.insert(Entry::new(3 << 32, key, key), None, Bucket::NONE, 100);
        }
        for key in 110..200 {
            let slot = entries.find(3 << 32, &key).unwrap();
            entries.remove(slot);
        }
        drop(entries.compact());
        assert!(entries.join(1 << 32, &1).is_some());
        drop(entries.take());
        assert!(entries.flight(load).is_fenced() && entries.flight(update).is_fenced());
        assert!(entries.join(1 << 32, &1).is_none());
        assert!(entries.join_for_update(1 << 32, &2, true).is_some());
        for id in [load, update] {
            drop(entries.end_flight(id).completion);
        }
        #[cfg(feature = "__validate")]
        assert_eq!(entries.validate(), 0);
    }
}
