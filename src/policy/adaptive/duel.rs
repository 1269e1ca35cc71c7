//! The duel with a cache of the same size that is least recently used and nothing else, which is not kept but
//! estimated: its outcome sets the share of the cold.
//!
//! A miss of what left a short time ago is a hit that the other would have had, a hit of what was not used
//! for long one that it would have missed. What is short is told by a *bar*: the last use of the oldest entry
//! that the other would hold.

use super::ghosts::{Ghosts, RECORDS};
use crate::entries::ranks::Tick;
use crate::entries::{Entries, Slot};

/// The share of the cold at first, and its bounds.
const FIRST_SHARE: f64 = 0.05;
const LEAST_SHARE: f64 = 0.01;
const MOST_SHARE: f64 = 0.95;

/// So many entries and as many ghosts are looked at to set the bar; all, where there are no more.
const SAMPLE: usize = 64;
const SAMPLED_BUCKETS: usize = SAMPLE / RECORDS;

/// The bar is set anew after an eighth of as many arrivals as there are entries, and no fewer than these.
const SETTINGS: u64 = 8;
const FEWEST_ARRIVALS: u64 = 16;

/// How many vacant slots are passed over for a sample.
const MOST_VACANT: usize = 16;

pub(super) struct Duel {
    /// The share of the cold in all that is held.
    share: f64,
    /// The last use of the oldest entry that the other cache would hold.
    bar: Tick,
    /// When the bar is to be set anew.
    next: Tick,
    sequence: Sequence,
}

impl Default for Duel {
    fn default() -> Self {
        Self { share: FIRST_SHARE, bar: 0, next: 0, sequence: Sequence::default() }
    }
}

impl Duel {
    /// How much of so much belongs to the cold: one at least.
    pub(super) fn cold_part(&self, of: u64) -> u64 {
        ((self.share * of as f64) as u64).max(1)
    }

    /// Takes note of an entry that has come back and was last used at `tick`: the other cache would still
    /// have it if that is not long ago.
    pub(super) fn note_return(&mut self, tick: Tick, len: usize) {
        if tick >= self.bar {
            self.share = (self.share + 1.0 / len as f64).min(MOST_SHARE);
        }
    }

    /// Takes note of hits that the other cache would not have had.
    pub(super) fn note_gains(&mut self, gains: u64, len: usize) {
        if gains > 0 {
            self.share = (self.share - gains as f64 / len as f64).max(least_share(len));
        }
    }

    /// The tick before which an entry was last used whose use is a gain; zero while the share is as small as
    /// it gets, and gains are of no use.
    pub(super) fn gain_bar(&self, len: usize) -> Tick {
        if self.share > least_share(len) { self.bar } else { 0 }
    }

    /// Sets the bar, if it is time: where as many entries were used earlier as ghosts were later.
    #[inline]
    pub(super) fn set_bar<K, V>(&mut self, entries: &Entries<K, V>, ghosts: &Ghosts) {
        if entries.tick() >= self.next {
            self.bar = self.sampled(entries, ghosts);
            let len = entries.len() as u64;
            self.next = entries.tick() + (len / SETTINGS).max(FEWEST_ARRIVALS);
        }
    }

    #[cold]
    fn sampled<K, V>(&mut self, entries: &Entries<K, V>, ghosts: &Ghosts) -> Tick {
        let (len, now) = (entries.len(), entries.tick());
        let mut ticks = Vec::with_capacity(2 * SAMPLE);
        if len <= SAMPLE {
            let slots = (0..entries.slots() as Slot).filter(|slot| entries.is_in_use(*slot));
            ticks.extend(slots.map(|slot| entries.last_tick(slot)));
            let ghosts = ghosts.buckets().flat_map(|bucket| ghosts.ticks(bucket, now));
            ticks.extend(ghosts.take(len));
            // The room for ghosts may be less than that.
            ticks.resize(2 * len, 0);
        } else {
            let sequence = &mut self.sequence;
            let slots = (0..SAMPLE).map(|_| in_use(entries, sequence.below(entries.slots())));
            ticks.extend(slots.flatten().map(|slot| entries.last_tick(slot)));
            for _ in 0..SAMPLED_BUCKETS {
                ticks.extend(ghosts.ticks(ghosts.bucket(sequence.next()), now));
            }
        }
        let middle = ticks.len() / 2;
        *ticks.select_nth_unstable(middle).1
    }
}

/// The first slot in use from this one on, if it is not far away.
#[inline]
fn in_use<K, V>(entries: &Entries<K, V>, from: usize) -> Option<Slot> {
    let is_in_use = |slot: &Slot| entries.is_in_use(*slot);
    Some(from as Slot).filter(is_in_use).or_else(|| {
        let near = (from..entries.slots()).chain(0..from).take(MOST_VACANT);
        near.map(|slot| slot as Slot).find(is_in_use)
    })
}

/// The least share of the cold among so many: that of one entry, if they are few.
fn least_share(len: usize) -> f64 {
    LEAST_SHARE.max(1.0 / len as f64)
}

/// Numbers that are spread as by chance, the same in every cache: multiples of the golden ratio.
#[derive(Default)]
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.next()) * end as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_moves_by_entries_and_keeps_its_bounds() {
        let mut duel = Duel::default();
        assert_eq!(duel.cold_part(1_000), 50);
        for returns in 1..=2_000 {
            duel.note_return(0, 1_000);
            // Sums of fractions are a little less or more.
            let part = 50 + returns.min(900);
            assert!((part - 1..=part).contains(&duel.cold_part(1_000)), "{returns} returns");
        }
        duel.note_gains(100, 1_000);
        assert!((849..=850).contains(&duel.cold_part(1_000)));
        duel.note_gains(100_000, 1_000);
        assert_eq!((duel.cold_part(1_000), duel.cold_part(10)), (10, 1));
        // The least is one entry, where they are few.
        duel.note_return(0, 1_000);
        duel.note_gains(1, 10);
        assert_eq!((duel.cold_part(10), duel.cold_part(1_000)), (1, 100));
    }

    #[test]
    fn a_return_of_what_was_used_before_the_bar_moves_nothing() {
        let mut duel = Duel { bar: 7, ..Duel::default() };
        duel.note_return(6, 10);
        assert_eq!(duel.cold_part(1_000), 50);
        duel.note_return(7, 10);
        assert_eq!(duel.cold_part(1_000), 150);
    }

    #[test]
    fn nothing_is_a_gain_while_the_share_is_at_its_least() {
        let mut duel = Duel { bar: 7, ..Duel::default() };
        assert_eq!((duel.gain_bar(1_000), duel.gain_bar(10)), (7, 0));
        duel.note_gains(1_000, 1_000);
        assert_eq!(duel.gain_bar(1_000), 0);
        duel.note_return(7, 1_000);
        assert_eq!(duel.gain_bar(1_000), 7);
    }
}
