//! Counts and reserves what entries take of the bounds of a cache: `maxsize`, weight and bytes.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::appraisal::Measured;
use crate::sync::{AtomicU64, Mutex};

/// The bounds that a cache is built with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At most [`MAX_ENTRIES`](crate::entries::MAX_ENTRIES).
    pub(crate) maxsize: usize,
    /// `None` if entries are not weighed.
    pub(crate) max_weight: Option<u64>,
    /// `None` if the bytes of entries are not bounded.
    pub(crate) max_bytes: Option<u64>,
}

/// One of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Entries,
    Weight,
    Bytes,
}

/// A bound, and how much of it is taken: never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) max: u64,
    pub(crate) taken: u64,
}

impl Quota {
    pub(crate) fn new(max: u64) -> Self {
        Self { max, taken: 0 }
    }

    pub(crate) fn free(self) -> u64 {
        self.max - self.taken
    }

    /// Moves the bound to `max`, or as near to it as what is taken allows.
    pub(crate) fn set_max(&mut self, max: u64) {
        self.max = max.max(self.taken);
    }

    /// Both numbers in one word; neither may be above [`u32::MAX`].
    #[inline]
    pub(crate) fn pack(self) -> u64 {
        self.max << 32 | self.taken
    }

    #[inline]
    pub(crate) fn unpack(word: u64) -> Self {
        Self { max: word >> 32, taken: word & u64::from(u32::MAX) }
    }
}

/// An amount of each bound: taken by entries, or free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) entries: u64,
    /// Zero in a cache that does not weigh its entries.
    pub(crate) weight: u64,
    /// Zero in a cache that does not bound their bytes.
    pub(crate) bytes: u64,
}

impl Cost {
    /// That of an entry, in a cache that counts nothing else.
    pub(crate) const ENTRY: Self = Self { entries: 1, weight: 0, bytes: 0 };

    /// Returns how much this is beyond `other`, of each bound.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            weight: self.weight.saturating_sub(other.weight),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Both together. They are in one cache, so no sum is above a bound.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            weight: self.weight + other.weight,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(crate) fn fits(self, reservation: Self) -> bool {
        self.beyond(reservation) == Self::default()
    }
}

/// The bounds of the cache, and what is taken of them.
///
/// The bounds are one for all shards, so that no shard evicts while another has room.
pub(crate) struct Capacity {
    /// The [`Quota`] of entries and of rooms that are held for an entry on its way in. One word, so
    /// that who takes of it and who lowers it do not miss each other.
    entries: AtomicU64,
    /// The bounds that few caches have besides.
    weighted: Option<Box<Weighted>>,
}

/// The quotas of weight and of bytes; one that the cache does not have has no end.
struct Weighted {
    has_weight: bool,
    has_bytes: bool,
    /// Locked under the locks of a shard, for the time of a few additions.
    quotas: Mutex<[Quota; 2]>,
}

impl Weighted {
    fn change<R>(&self, change: impl FnOnce(&mut [Quota; 2]) -> R) -> R {
        change(&mut self.quotas.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn quotas(&self) -> [Quota; 2] {
        self.change(|quotas| *quotas)
    }
}

impl Capacity {
    pub(crate) fn new(Limits { maxsize, max_weight, max_bytes }: Limits) -> Self {
        let quota = |max: Option<u64>| Quota::new(max.unwrap_or(u64::MAX));
        let weighted = (max_weight.is_some() || max_bytes.is_some()).then(|| Weighted {
            has_weight: max_weight.is_some(),
            has_bytes: max_bytes.is_some(),
            quotas: Mutex::new([quota(max_weight), quota(max_bytes)]),
        });
        Self {
            entries: AtomicU64::new(Quota::new(maxsize as u64).pack()),
            weighted: weighted.map(Box::new),
        }
    }

    /// How many entries there may be, and there are, rooms included.
    #[inline]
    pub(crate) fn entries(&self) -> Quota {
        Quota::unpack(self.entries.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn maxsize(&self) -> usize {
        self.entries().max as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().taken as usize
    }

    /// Returns how much entries may weigh and how much they do, in a cache that weighs them.
    pub(crate) fn weight(&self) -> Option<Quota> {
        let weighted = self.weighted.as_ref().filter(|weighted| weighted.has_weight)?;
        Some(weighted.quotas()[0])
    }

    /// How many bytes entries may have and have, in a cache that bounds them.
    pub(crate) fn bytes(&self) -> Option<Quota> {
        let weighted = self.weighted.as_ref().filter(|weighted| weighted.has_bytes)?;
        Some(weighted.quotas()[1])
    }

    /// Tells whether one entry may need the room of several.
    #[inline]
    pub(crate) fn weighs(&self) -> bool {
        self.weighted.is_some()
    }

    /// The bound by which parts of the cache are best compared: weight or bytes, if they are bounded.
    pub(crate) fn measure(&self) -> Bound {
        let bounds = [Bound::Weight, Bound::Bytes];
        bounds.into_iter().find(|bound| self.has(*bound)).unwrap_or(Bound::Entries)
    }

    /// Tells whether the cache has this bound.
    pub(crate) fn has(&self, bound: Bound) -> bool {
        let has = |weighted: &Weighted| match bound {
            Bound::Entries => true,
            Bound::Weight => weighted.has_weight,
            Bound::Bytes => weighted.has_bytes,
        };
        self.weighted.as_deref().map_or(bound == Bound::Entries, has)
    }

    /// Returns what an entry takes that was measured so.
    #[inline]
    pub(crate) fn cost(&self, measured: Measured) -> Cost {
        let Some(weighted) = &self.weighted else { return Cost::ENTRY };
        let weight = measured.weight.filter(|_| weighted.has_weight).unwrap_or(0);
        let bytes = measured.bytes.filter(|_| weighted.has_bytes).unwrap_or(0) as u64;
        Cost { weight, bytes, ..Cost::ENTRY }
    }

    /// Tells whether something of this cost fits into the cache once that is empty.
    #[inline]
    pub(crate) fn could_hold(&self, cost: Cost) -> bool {
        let fits = |weighted: &Weighted| {
            let [weight, bytes] = weighted.quotas();
            cost.weight <= weight.max && cost.bytes <= bytes.max
        };
        self.maxsize() > 0 && self.weighted.as_deref().is_none_or(fits)
    }

    /// All that is free of each bound.
    pub(crate) fn free(&self) -> Cost {
        let free = |weighted: &Weighted| weighted.quotas().map(Quota::free);
        let [weight, bytes] = self.weighted.as_deref().map_or([u64::MAX; 2], free);
        Cost { entries: self.entries().free(), weight, bytes }
    }

    /// Bytes that all of it has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.weighted.as_deref().map_or(0, size_of_val)
    }

    /// Tells whether all of this is free.
    pub(crate) fn has_room_for(&self, cost: Cost) -> bool {
        cost.fits(self.free())
    }

    /// A room that is to become as large as it has to be.
    #[inline]
    pub(crate) fn reservation(&self) -> Reservation<'_> {
        Reservation { capacity: self, held: Cost::default() }
    }

    /// Takes so much if all of it is free, or tells which bound is short. In a cache that is full of
    /// entries, the usual case, only a load.
    ///
    /// Where several bounds are short it tells of the entries first: there everything that leaves helps.
    #[inline(always)]
    fn take(&self, cost: Cost) -> Result<(), Bound> {
        match &self.weighted {
            None => self.take_entries(cost.entries),
            Some(weighted) => self.take_of_all(weighted, cost),
        }
    }

    fn take_of_all(&self, weighted: &Weighted, cost: Cost) -> Result<(), Bound> {
        weighted.change(|[weight, bytes]| {
            if cost.entries > self.entries().free() {
                return Err(Bound::Entries);
            }
            if cost.weight > weight.free() {
                return Err(Bound::Weight);
            }
            if cost.bytes > bytes.free() {
                return Err(Bound::Bytes);
            }
            self.take_entries(cost.entries)?;
            weight.taken += cost.weight;
            bytes.taken += cost.bytes;
            Ok(())
        })
    }

    #[inline(always)]
    fn take_entries(&self, more: u64) -> Result<(), Bound> {
        let take = |word| (more <= Quota::unpack(word).free()).then_some(word + more);
        let taken = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_or(Err(Bound::Entries), |_| Ok(()))
    }

    /// Gives back what was taken.
    pub(crate) fn release(&self, cost: Cost) {
        self.entries.fetch_sub(cost.entries, Ordering::Relaxed);
        if let Some(weighted) = &self.weighted {
            weighted.change(|[weight, bytes]| {
                weight.taken -= cost.weight;
                bytes.taken -= cost.bytes;
            });
        }
    }

    /// Gives back what was taken, and in the same step moves a bound to `max`, or as near to it as what
    /// is still taken allows: nobody else gets what makes the bound move. Returns where it is now, which
    /// is `max` for a bound that the cache does not have.
    fn release_and_set_max(&self, cost: Cost, bound: Bound, max: u64) -> u64 {
        let mut now = max;
        let mut change = |quota: &mut Quota, of: Bound, released: u64| {
            quota.taken -= released;
            if of == bound {
                quota.set_max(max);
                now = quota.max;
            }
        };
        let changed = |word| {
            let mut quota = Quota::unpack(word);
            change(&mut quota, Bound::Entries, cost.entries);
            Some(quota.pack())
        };
        let _ = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
        if let Some(weighted) = &self.weighted {
            weighted.change(|[weight, bytes]| {
                if weighted.has_weight {
                    change(weight, Bound::Weight, cost.weight);
                }
                if weighted.has_bytes {
                    change(bytes, Bound::Bytes, cost.bytes);
                }
            });
        }
        now
    }
}

#[cfg(feature = "__validate")]
impl Capacity {
    /// Asserts that what is taken is what all entries together take.
    pub(crate) fn validate(&self, cost: Cost) {
        let taken = |quota: Option<Quota>| quota.map_or(0, |quota| quota.taken);
        let (weight, bytes) = (taken(self.weight()), taken(self.bytes()));
        let of_entries = Cost { entries: self.len() as u64, weight, bytes };
        assert_eq!(cost, of_entries, "all that is taken is an entry's");
        assert!(self.len() <= self.maxsize());
    }
}

/// The right to add what costs so much; what is left of it is given back when dropped.
pub(crate) struct Reservation<'a> {
    capacity: &'a Capacity,
    held: Cost,
}

impl<'a> Reservation<'a> {
    /// Makes the room large enough for `cost` if what is missing is free, or tells which bound is short.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, cost: Cost) -> Result<(), Bound> {
        let missing = cost.beyond(self.held);
        self.capacity.take(missing)?;
        self.held = self.held.plus(missing);
        Ok(())
    }

    /// Makes the room large enough for an entry, in a cache that bounds nothing else.
    #[inline(always)]
    pub(crate) fn reserve_entry(&mut self) -> Result<(), Bound> {
        if self.held.entries == 0 {
            self.capacity.take_entries(1)?;
            self.held.entries = 1;
        }
        Ok(())
    }

    /// How much of this bound the room has.
    pub(crate) fn held(&self, bound: Bound) -> u64 {
        match bound {
            Bound::Entries => self.held.entries,
            Bound::Weight => self.held.weight,
            Bound::Bytes => self.held.bytes,
        }
    }

    /// Adds what an entry held that was just taken out.
    #[inline]
    pub(crate) fn inherit(&mut self, cost: Cost) {
        self.held = self.held.plus(cost);
    }

    /// Gives the room back, and in the same step moves a bound as near to `max` as it can be then;
    /// returns where it is now.
    pub(crate) fn give_up(mut self, bound: Bound, max: u64) -> u64 {
        let held = std::mem::take(&mut self.held);
        self.capacity.release_and_set_max(held, bound, max)
    }

    /// Hands so much of the room to an entry that is in now, and gives the rest back.
    #[inline]
    pub(crate) fn fill(&mut self, cost: Cost) {
        let rest = std::mem::take(&mut self.held).beyond(cost);
        if rest != Cost::default() {
            self.capacity.release(rest);
        }
    }

    /// Gives all of the room back.
    #[inline(always)]
    pub(crate) fn give_back(&mut self) {
        if self.held != Cost::default() {
            self.capacity.release(std::mem::take(&mut self.held));
        }
    }
}

impl Drop for Reservation<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.give_back();
    }
}
