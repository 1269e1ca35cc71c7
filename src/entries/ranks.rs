//! What an adaptive order of eviction knows of an entry beside its last use: whether it is hot or cold, how
//! often it was used, and at which tick.
//!
//! Readers count uses, up to three. Time is counted in *ticks*: each arrival of an entry begins one, and so
//! does the last of as many uses in a row as find room in the stamps of one.

use std::sync::atomic::Ordering;

use super::Entries;
use super::lru_list::{Candidate, Places};
use super::node::{Entry, Slot, Stamp};
use crate::sync::AtomicU8;

/// The number of arrivals up to then, or somewhat more.
pub(crate) type Tick = u64;

/// The bits of a stamp below its tick. Those that are left are enough for seventy years of a million
/// arrivals a second.
const TICK_BITS: u32 = 10;

/// More uses than this count as this many.
const MOST_USES: u8 = (1 << USES_BITS) - 1;
const USES_BITS: u32 = 2;

/// The tick of a stamp, where uses are counted.
#[inline]
pub(crate) fn tick_of(stamp: Stamp) -> Tick {
    stamp >> TICK_BITS
}

/// The note of one more read, by its number: with that goes how many there were. `None` if it has no room
/// for the number.
#[inline]
pub(super) fn counted(before: u32, read: u64) -> Option<u32> {
    let (_, uses) = read_and_uses(before);
    let read = u32::try_from(read).ok().filter(|read| read >> (u32::BITS - USES_BITS) == 0)?;
    Some(read << USES_BITS | u32::from((uses + 1).min(MOST_USES)))
}

/// The number of the last read that was noted, and how many there were, up to three.
fn read_and_uses(note: u32) -> (u32, u8) {
    (note >> USES_BITS, note as u8 & MOST_USES)
}

/// How an entry stands in an adaptive order of eviction. That of entries in any other is hot and unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rank {
    pub(crate) is_cold: bool,
    /// Counted since it came, or since the order of eviction began to count anew.
    pub(crate) uses: u8,
}

impl Rank {
    const COLD: u8 = MOST_USES + 1;

    fn from_byte(byte: u8) -> Self {
        Self { is_cold: byte & Self::COLD != 0, uses: byte & MOST_USES }
    }

    fn into_byte(self) -> u8 {
        self.uses | if self.is_cold { Self::COLD } else { 0 }
    }
}

/// Uses, where they are counted.
impl<K, V> Entries<K, V> {
    /// Makes none, whose uses will be counted.
    pub(crate) fn with_ranks() -> Self {
        Self { within_tick: (1 << TICK_BITS) - 1, ..Self::default() }
    }

    /// Tells whether uses are counted.
    #[inline]
    pub(crate) fn counts_uses(&self) -> bool {
        self.within_tick != 0
    }

    /// The latest stamp once an entry has come, or somewhat more.
    #[inline]
    pub(crate) fn epoch_after_write(&self) -> Stamp {
        self.epoch + self.within_tick
    }

    /// The tick of the latest stamp.
    pub(crate) fn tick(&self) -> Tick {
        tick_of(self.epoch)
    }

    /// The tick of the last use of the entry.
    pub(crate) fn last_tick(&self, slot: Slot) -> Tick {
        tick_of(self.entries[slot as usize].stamp())
    }

    /// Counts a use of the entry, which is not stamped with it yet; a reader may.
    #[inline]
    pub(super) fn count_use(&self, entry: &Entry<K, V>) {
        let rank = entry.rank.load(Ordering::Relaxed);
        if rank & MOST_USES < MOST_USES {
            entry.rank.store(rank + 1, Ordering::Relaxed);
        }
        if entry.stamp() < self.gain_bar {
            self.count_gain();
        }
    }

    #[cold]
    fn count_gain(&self) {
        self.gains.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the uses of an entry that a reader has noted.
    pub(super) fn merge_uses(&self, entry: &Entry<K, V>, note: u32) {
        let (read, uses) = read_and_uses(note);
        (0..uses).for_each(|_| {
            self.count_use(entry);
            // Only the first of them may find the entry unused for long.
            self.touch_pinned(entry, read.into());
        });
    }

    /// Counts uses of entries that were last used before this tick as gains from now on.
    pub(crate) fn set_gain_bar(&mut self, tick: Tick) {
        self.gain_bar = tick << TICK_BITS;
    }

    /// Takes the count of the gains that there were.
    pub(crate) fn take_gains(&mut self) -> u64 {
        // Nobody reads now.
        let gains = self.gains.load(Ordering::Relaxed);
        if gains != 0 {
            self.gains.store(0, Ordering::Relaxed);
        }
        gains
    }

    pub(crate) fn rank(&self, slot: Slot) -> Rank {
        Rank::from_byte(self.entries[slot as usize].rank.load(Ordering::Relaxed))
    }

    pub(crate) fn set_rank(&mut self, slot: Slot, rank: Rank) {
        self.entries[slot as usize].rank.store(rank.into_byte(), Ordering::Relaxed);
    }

    /// Stamps the entry as if it had been used, which it was not.
    pub(crate) fn renew(&mut self, slot: Slot) {
        self.epoch += 1;
        self.uncounted += 1;
        self.entries[slot as usize].stamp.store(self.epoch, Ordering::Relaxed);
    }

    /// When the entry was queued, as [`set_queued`](Self::set_queued) was told.
    pub(crate) fn queued(&self, slot: Slot) -> u16 {
        self.entries[slot as usize].queued
    }

    pub(crate) fn set_queued(&mut self, slot: Slot, time: u16) {
        self.entries[slot as usize].queued = time;
    }
}

impl<K, V> Entry<K, V> {
    /// Takes the rank of the entry in whose place it comes, used once more.
    pub(super) fn take_rank(&mut self, old: &Self) {
        let rank = old.rank.load(Ordering::Relaxed);
        self.rank = AtomicU8::new(rank + u8::from(rank & MOST_USES < MOST_USES));
        self.queued = old.queued;
    }
}

/// The hot ones of some entries.
pub(crate) struct Hot<'a, K, V>(pub(crate) &'a Entries<K, V>);

impl<K, V> Places for Hot<'_, K, V> {
    fn len(&self) -> usize {
        self.0.slots()
    }

    fn at(&self, place: usize) -> Option<Candidate> {
        let slot = place as Slot;
        Some(Candidate { stamp: self.stamp(slot)?, slot })
    }

    fn stamp(&self, slot: Slot) -> Option<Stamp> {
        let entry = self.0.entries.get(slot as usize)?;
        let is_cold = Rank::from_byte(entry.rank.load(Ordering::Relaxed)).is_cold;
        (!is_cold).then(|| entry.stamp())
    }
}
