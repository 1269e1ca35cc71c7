//! Who goes next: the order of eviction, found from the stamps of a shard; knows no key and no lock.
//!
//! Entries are not linked in the order of their use, for then every hit would have to relink one. The
//! list holds only the oldest *run* of slots, in the order of their stamps. A slot at its end whose
//! stamp is still the recorded one is the least recently used of all: when the run was made, every
//! entry outside it had a later stamp than every entry inside, and stamps only grow. A slot whose
//! stamp has moved was used since, and is skipped. When the run is used up, one pass over the stamps
//! makes the next, so an eviction costs a few sequential loads and a share of a sort.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;

use crate::index::Slot;
use crate::stamp::{self, Stamp};
use crate::sync::AtomicU64;

/// A pass collects about one slot in this many.
const RUN_SHARE: usize = 4;

/// The most that a pass means to collect: sorting more would keep other writers waiting for longer
/// than reading all stamps does.
const MAX_RUN: usize = 50_000;

/// A shard of no more slots than this is sorted whole.
const SMALL: usize = 128;

/// How many stamps are looked at, at most, to guess where the oldest end; and at most one in this many,
/// which is enough of a smaller shard.
const SAMPLE: usize = 512;
const SAMPLE_STEP: usize = 5;

/// How many used candidates one call of [`LruList::oldest`] skips: it runs under the exclusive lock.
const MAX_SKIPS: usize = 16;

/// A slot that was among the oldest, with the stamp that it had then.
#[derive(Clone, Copy)]
struct Candidate {
    stamp: Stamp,
    slot: Slot,
}

impl Candidate {
    /// Whether the entry has not been used, removed or replaced since it was collected.
    fn is_unused(&self, stamps: &[AtomicU64]) -> bool {
        // The slot is gone if the shard was emptied meanwhile.
        let stamp = stamps.get(self.slot as usize);
        stamp.is_some_and(|stamp| stamp.load(Ordering::Relaxed) == self.stamp)
    }
}

/// The oldest entries of a shard, least recently used last.
#[derive(Default)]
pub(crate) struct LruList {
    run: Vec<Candidate>,
    /// Room in the run that is lent for a search.
    lent: usize,
}

impl LruList {
    /// The least recently used slot; `None` if [`search`](Self::search) has to run first.
    ///
    /// It stays in the run until its stamp moves, as it does when the entry leaves. The answer is exact
    /// if no stamp moves meanwhile, so callers hold the exclusive lock.
    pub(crate) fn oldest(&mut self, stamps: &[AtomicU64]) -> Option<Slot> {
        for _ in 0..=MAX_SKIPS {
            let candidate = self.run.last()?;
            if candidate.is_unused(stamps) {
                return Some(candidate.slot);
            }
            self.run.pop();
        }
        None
    }

    /// Makes [`oldest`](Self::oldest) likely to succeed; certain if no stamp moves meanwhile.
    ///
    /// Takes time in proportion to the number of slots now and then, so callers [`lend`](Self::lend) the
    /// list and hold no lock. Stamps that move meanwhile, or of slots filled meanwhile, come to lie at
    /// `since` or later. Such slots stay out of the run: one that was used, and then read with its new
    /// stamp, must not go before another that was used, but read with its old one.
    pub(crate) fn search(&mut self, stamps: &[AtomicU64], since: Stamp) {
        if !self.finds_unused(stamps) {
            self.collect(stamps.iter().enumerate(), since);
        }
    }

    /// [`search`](Self::search) among these slots only. The list must be of the same ones, as far as their
    /// stamps have not moved.
    pub(crate) fn search_among(&mut self, slots: &[Slot], stamps: &[AtomicU64], since: Stamp) {
        if !self.finds_unused(stamps) {
            let stamp = |slot: &Slot| (*slot as usize, &stamps[*slot as usize]);
            self.collect(slots.iter().map(stamp), since);
        }
    }

    /// Skips what was used; tells whether anything is left.
    fn finds_unused(&mut self, stamps: &[AtomicU64]) -> bool {
        while let Some(candidate) = self.run.last() {
            if candidate.is_unused(stamps) {
                return true;
            }
            self.run.pop();
        }
        false
    }

    /// Takes the list for a search, after which it takes the place of what was left here.
    pub(crate) fn lend(&mut self) -> Self {
        let lent = std::mem::take(self);
        self.lent = lent.run.capacity();
        lent
    }

    /// Bytes that the list has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.run.capacity().max(self.lent) * size_of::<Candidate>()
    }

    fn collect<'a>(
        &mut self,
        stamps: impl ExactSizeIterator<Item = (usize, &'a AtomicU64)> + Clone,
        since: Stamp,
    ) {
        let newest = self.threshold(stamps.clone()).min(since - 1);
        self.run.clear();
        for (slot, stamp) in stamps {
            let stamp = stamp.load(Ordering::Relaxed);
            if stamp <= newest {
                self.run.push(Candidate { stamp, slot: slot as Slot });
            }
        }
        self.run.sort_unstable_by_key(|candidate| Reverse(candidate.stamp));
    }

    /// The stamp up to which slots belong to the next run. At least one occupied slot does, as long as
    /// no stamp moves.
    ///
    /// Leaves its sample in the run, which has the room for it.
    fn threshold<'a>(
        &mut self,
        stamps: impl ExactSizeIterator<Item = (usize, &'a AtomicU64)>,
    ) -> Stamp {
        // Whatever is in use, and what is not lies beyond every search.
        const ALL: Stamp = stamp::VACANT;
        let len = stamps.len();
        if len <= SMALL {
            return ALL;
        }
        // Neighbours were often inserted together, so the sample is spread over all of them.
        let step = len.div_ceil(SAMPLE).max(SAMPLE_STEP);
        for (_, stamp) in stamps.step_by(step) {
            let stamp = stamp.load(Ordering::Relaxed);
            if stamp != stamp::VACANT {
                self.run.push(Candidate { stamp, slot: 0 });
            }
        }
        let wanted = (len / RUN_SHARE).min(MAX_RUN);
        let place = self.run.len() * wanted / len;
        match self.run.as_mut_slice() {
            [] => ALL,
            sample => sample.select_nth_unstable_by_key(place, |sampled| sampled.stamp).1.stamp,
        }
    }
}

#[cfg(feature = "__validate")]
impl LruList {
    /// Asserts that the run is in order and that no entry of these slots outside it was used before one
    /// inside.
    pub(crate) fn validate(&self, slots: impl IntoIterator<Item = Slot>, stamps: &[AtomicU64]) {
        assert!(self.run.is_sorted_by_key(|candidate| Reverse(candidate.stamp)));
        let unused: Vec<_> = self.run.iter().filter(|one| one.is_unused(stamps)).collect();
        let Some(latest) = unused.first() else { return };
        let is_later = |slot: &Slot| stamps[*slot as usize].load(Ordering::Relaxed) > latest.stamp;
        let mut inside: Vec<Slot> = unused.iter().map(|candidate| candidate.slot).collect();
        let mut of_run: Vec<Slot> = slots.into_iter().filter(|slot| !is_later(slot)).collect();
        inside.sort_unstable();
        of_run.sort_unstable();
        assert_eq!(inside, of_run, "the oldest are all in the run, and nothing else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(of: impl IntoIterator<Item = Stamp>) -> Vec<AtomicU64> {
        of.into_iter().map(AtomicU64::new).collect()
    }

    /// Evicts everything, returning the slots in order.
    fn drain(list: &mut LruList, stamps: &[AtomicU64]) -> Vec<Slot> {
        let mut order = Vec::new();
        loop {
            list.search(stamps, stamp::VACANT);
            let Some(slot) = list.oldest(stamps) else { return order };
            stamps[slot as usize].store(stamp::VACANT, Ordering::Relaxed);
            order.push(slot);
        }
    }

    #[test]
    fn slots_leave_in_the_order_of_their_stamps_whatever_the_size() {
        for len in [1, 2, 127, 128, 129, 1_000, 5_000] {
            // A permutation of 1..=len: the multiplier is prime and divides no len here.
            let of: Vec<Stamp> = (0..len).map(|slot| slot * 7_919 % len + 1).collect();
            let order = drain(&mut LruList::default(), &stamps(of.iter().copied()));
            let mut expected: Vec<Slot> = (0..len as Slot).collect();
            expected.sort_by_key(|slot| of[*slot as usize]);
            assert_eq!(order, expected, "{len} slots");
        }
    }

    #[test]
    fn an_entry_used_after_the_search_is_passed_over() {
        let stamps = stamps([1, 2, 3]);
        let mut list = LruList::default();
        list.search(&stamps, stamp::VACANT);
        stamps[0].store(4, Ordering::Relaxed);
        assert_eq!(list.oldest(&stamps), Some(1));
    }

    #[test]
    fn an_entry_used_since_the_search_began_is_none_of_its_candidates() {
        let stamps = stamps([1, 5, 3]);
        let mut list = LruList::default();
        list.search(&stamps, 5);
        stamps[0].store(6, Ordering::Relaxed);
        stamps[2].store(7, Ordering::Relaxed);
        assert_eq!(list.oldest(&stamps), None);
        list.search(&stamps, 8);
        assert_eq!(list.oldest(&stamps), Some(1));
    }

    #[test]
    fn a_search_among_some_slots_finds_them_in_order_whatever_their_number() {
        for len in [10, 128, 129, 5_000] {
            let of: Vec<Stamp> = (0..3 * len).map(|slot| slot * 7_919 % (3 * len) + 1).collect();
            let stamps = stamps(of.iter().copied());
            let mut left: Vec<Slot> = (0..len as Slot).map(|slot| slot * 3).collect();
            let mut list = LruList::default();
            let mut order = Vec::new();
            while !left.is_empty() {
                list.search_among(&left, &stamps, stamp::VACANT);
                let slot = list.oldest(&stamps).unwrap();
                stamps[slot as usize].store(stamp::VACANT, Ordering::Relaxed);
                left.retain(|other| *other != slot);
                order.push(slot);
            }
            assert!(order.is_sorted_by_key(|slot| of[*slot as usize]), "{len} slots");
            assert_eq!(order.len() as u64, len);
        }
    }

    #[test]
    fn many_used_candidates_ask_for_a_search_instead_of_a_long_walk() {
        let stamps = stamps(1..=100);
        let mut list = LruList::default();
        list.search(&stamps, stamp::VACANT);
        for stamp in &stamps[..50] {
            stamp.fetch_add(1_000, Ordering::Relaxed);
        }
        assert_eq!(list.oldest(&stamps), None);
        list.search(&stamps, stamp::VACANT);
        assert_eq!(list.oldest(&stamps), Some(50));
    }

    #[test]
    fn a_pass_over_a_large_shard_collects_about_a_quarter_of_its_entries() {
        for vacant in [0, 1, 5_001, 9_000] {
            let mut of: Vec<Stamp> = (0..10_007).map(|slot| slot * 7_919 % 10_007 + 1).collect();
            of[..vacant].fill(stamp::VACANT);
            let mut list = LruList::default();
            list.search(&stamps(of.iter().copied()), stamp::of_write(1_000_000));
            let share = list.run.len() as f64 / (of.len() - vacant) as f64;
            assert!((0.15..0.4).contains(&share), "{share} of those beside {vacant} vacant ones");
        }
    }

    #[test]
    fn what_is_lent_for_a_search_counts_as_allocated() {
        let stamps = stamps(1..=100);
        let mut list = LruList::default();
        list.search(&stamps, stamp::VACANT);
        let allocated = list.heap_size();
        assert!(allocated >= 100 * size_of::<Candidate>());
        assert_eq!(list.oldest(&stamps), Some(0));
        let mut lent = list.lend();
        assert_eq!(list.heap_size(), allocated);
        assert_eq!(list.oldest(&stamps), None);
        assert_eq!(lent.oldest(&stamps), Some(0), "what was found is still known");
    }

    #[test]
    fn vacant_slots_are_never_victims() {
        let stamps = stamps([stamp::VACANT; 300]);
        let mut list = LruList::default();
        list.search(&stamps, stamp::VACANT);
        assert_eq!(list.oldest(&stamps), None);
    }
}
