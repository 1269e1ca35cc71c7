//! The order of eviction, found from stamps: a run of the oldest entries, and a hand that collects the
//! next run; knows no key and no lock.
//!
//! Entries are not linked in the order of their use, for then every hit would have to relink one. The
//! list holds only the oldest *run* of them, in the order of their stamps. A candidate at its end whose
//! stamp is still the recorded one is the least recently used of all: everything outside the run has a
//! later stamp, and stamps only grow. A candidate whose stamp has moved was used since, and is passed
//! over.
//!
//! Each candidate that leaves the run moves the *hand* on over its share of all places, so that the hand
//! comes round as the run is used up. It collects what belongs to the next run: the entries with stamps
//! up to one that was chosen when the hand set out. Whatever is used or inserted later has a later stamp
//! and does not belong there, so it does not matter when the hand comes by.

use std::cmp::Reverse;

use super::node::{Slot, Stamp};

/// A run takes about one entry in this many.
const RUN_SHARE: usize = 4;

/// The most that a run is meant to take. It is sorted under the lock of the shard, in less than half a
/// millisecond; a shorter one has the hand go over all places more often.
const MAX_RUN: usize = 1 << 14;

/// Of fewer places than this all are taken into a run.
const SMALL: usize = 128;

/// How many stamps are looked at, at most, to choose where a run ends; and at most one in this many,
/// which is enough of a smaller shard.
const SAMPLE: usize = 512;
const SAMPLE_STEP: usize = 12;

/// How many places an insertion moves the hand over while the run is short.
const PLACES_PER_INSERTION: usize = 4;

/// Where entries are looked at one after another.
pub(crate) trait Places {
    /// How many places there are.
    fn len(&self) -> usize;

    /// The entry at a place, if there is one.
    fn at(&self, place: usize) -> Option<Candidate>;

    /// The stamp of the entry in `slot`, if there is one.
    fn stamp(&self, slot: Slot) -> Option<Stamp>;
}

/// An entry, as it was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) stamp: Stamp,
    pub(crate) slot: Slot,
}

/// The outcome of a search for the oldest entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oldest {
    Slot(Slot),
    /// There is no entry.
    Nothing,
    /// It takes more steps to find it.
    Unfinished,
}

/// The oldest entries of a shard.
#[derive(Default)]
pub(crate) struct LruList {
    /// All entries with stamps up to `covered`, least recently used last, and some that were used since.
    run: Vec<Candidate>,
    /// Zero while the hand collects a run that is to take the place of this one.
    covered: Stamp,
    /// All entries in the places before the `hand` with stamps above `covered` and up to `until`, in no
    /// order, and some that were used since.
    next: Vec<Candidate>,
    hand: usize,
    until: Stamp,
}

impl LruList {
    /// Finds the least recently used entry, in so many `steps`, each a look at a place or a stamp.
    ///
    /// It stays in the run until its stamp moves, as it does when the entry leaves. `now` is the latest
    /// stamp. The answer is exact if no stamp moves meanwhile; between two calls they may.
    pub(crate) fn oldest(&mut self, places: &impl Places, now: Stamp, steps: &mut usize) -> Oldest {
        loop {
            while let Some(candidate) = self.run.last() {
                if places.stamp(candidate.slot) == Some(candidate.stamp) {
                    return Oldest::Slot(candidate.slot);
                }
                let left = places.len().saturating_sub(self.hand);
                let share = left.div_ceil(self.run.len());
                if *steps <= share {
                    self.advance(places, std::mem::take(steps));
                    return Oldest::Unfinished;
                }
                *steps -= share + 1;
                self.run.pop();
                self.advance(places, share);
            }
            let left = places.len().saturating_sub(self.hand);
            if left > *steps {
                self.advance(places, std::mem::take(steps));
                return Oldest::Unfinished;
            }
            *steps -= left;
            self.advance(places, left);
            if self.next.is_empty() && self.until >= now {
                // Everything up to now was looked at.
                return Oldest::Nothing;
            }
            self.turn(places, now);
        }
    }

    /// Takes note of an insertion, which evicts nobody: collects a run while the shard fills, so that the
    /// first eviction finds one.
    #[inline]
    pub(crate) fn prepare(&mut self, places: &impl Places, now: Stamp) {
        if self.hand < places.len() {
            self.advance(places, PLACES_PER_INSERTION);
            if self.hand >= places.len() && self.covered == 0 {
                self.turn(places, now);
            }
        } else if self.run.len() < wanted(places.len()) / 2 {
            self.start_anew(places, now);
        }
    }

    /// Takes note of an entry that has moved to `place` from one that the hand has not come by yet.
    pub(crate) fn pass(&mut self, candidate: Candidate, place: usize) {
        if place < self.hand && self.belongs_to_next(candidate) {
            self.next.push(candidate);
        }
    }

    /// Where the hand is.
    pub(crate) fn hand(&self) -> usize {
        self.hand
    }

    /// Bytes that the list has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        (self.run.capacity() + self.next.capacity()) * size_of::<Candidate>()
    }

    fn belongs_to_next(&self, Candidate { stamp, .. }: Candidate) -> bool {
        self.covered < stamp && stamp <= self.until
    }

    /// Moves the hand over so many places.
    #[inline]
    fn advance(&mut self, places: &impl Places, by: usize) {
        let end = self.hand.saturating_add(by).min(places.len());
        for place in self.hand..end {
            if let Some(candidate) = places.at(place) {
                if self.belongs_to_next(candidate) {
                    self.next.push(candidate);
                }
            }
        }
        self.hand = self.hand.max(end);
    }

    /// Makes a run of what the hand has collected, which has come round, and has it set out again.
    #[cold]
    fn turn(&mut self, places: &impl Places, now: Stamp) {
        std::mem::swap(&mut self.run, &mut self.next);
        self.next.clear();
        self.run.sort_unstable_by_key(|candidate| Reverse(candidate.stamp));
        self.covered = self.until;
        self.set_out(places, now, self.run.len());
    }

    /// Has the hand set out to collect a run of all that is oldest, the present run included.
    #[cold]
    fn start_anew(&mut self, places: &impl Places, now: Stamp) {
        self.next.clear();
        self.covered = 0;
        self.set_out(places, now, 0);
    }

    /// Has the hand set out, and chooses what it collects: about as many as are wanted, beyond so many
    /// that the run has already.
    fn set_out(&mut self, places: &impl Places, now: Stamp, present: usize) {
        let until = self.choose_end(places, now, present);
        // At least something above what is covered, so that the hand gets on.
        self.until = if until > self.covered { until } else { now };
        self.hand = 0;
    }

    /// The stamp up to which entries belong to the next run.
    fn choose_end(&mut self, places: &impl Places, now: Stamp, present: usize) -> Stamp {
        let len = places.len();
        if len <= SMALL {
            return now;
        }
        // Neighbours were often inserted together, so the sample is spread over all of them.
        let step = len.div_ceil(SAMPLE).max(SAMPLE_STEP);
        // The next run is empty, and has the room for it.
        let sample = &mut self.next;
        sample.extend((0..len).step_by(step).filter_map(|place| places.at(place)));
        let rank = sample.len() * (present + wanted(len)) / len;
        let end = if rank + 1 >= sample.len() {
            now
        } else {
            sample.select_nth_unstable_by_key(rank, |sampled| sampled.stamp).1.stamp
        };
        sample.clear();
        end
    }
}

/// How many entries a run of so many is to take.
fn wanted(len: usize) -> usize {
    (len / RUN_SHARE).min(MAX_RUN)
}

#[cfg(feature = "__validate")]
impl LruList {
    /// Asserts that the run is in order, and that it and what was collected for the next hold all that they
    /// have to.
    pub(crate) fn validate(&self, places: &impl Places) {
        assert!(self.run.is_sorted_by_key(|candidate| Reverse(candidate.stamp)));
        let key = |candidate: &Candidate| (candidate.stamp, candidate.slot);
        let sorted = |mut list: Vec<Candidate>| {
            list.sort_unstable_by_key(key);
            list
        };
        let unused = |list: &[Candidate]| {
            let list = list.iter().filter(|one| places.stamp(one.slot) == Some(one.stamp));
            sorted(list.copied().collect())
        };
        let there = |places_from: std::ops::Range<usize>, is_wanted: &dyn Fn(Candidate) -> bool| {
            let there = places_from.filter_map(|place| places.at(place));
            sorted(there.filter(|entry| is_wanted(*entry)).collect())
        };
        if self.covered > 0 {
            let oldest = there(0..places.len(), &|entry| entry.stamp <= self.covered);
            assert_eq!(unused(&self.run), oldest, "the oldest are the run");
        }
        let passed = 0..self.hand.min(places.len());
        let next = there(passed, &|entry| self.belongs_to_next(entry));
        assert_eq!(unused(&self.next), next, "the hand has collected what it came by");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Entries without keys: their stamps by slot, and the latest of them.
    struct Stamps {
        of: RefCell<Vec<Option<Stamp>>>,
        now: Stamp,
    }

    impl Places for Stamps {
        fn len(&self) -> usize {
            self.of.borrow().len()
        }

        fn at(&self, place: usize) -> Option<Candidate> {
            let stamp = self.of.borrow()[place]?;
            Some(Candidate { stamp, slot: place as Slot })
        }

        fn stamp(&self, slot: Slot) -> Option<Stamp> {
            self.of.borrow().get(slot as usize).copied().flatten()
        }
    }

    impl Stamps {
        fn new(of: impl IntoIterator<Item = Stamp>) -> Self {
            let of: Vec<_> = of.into_iter().map(Some).collect();
            let now = of.iter().flatten().copied().max().unwrap_or(0);
            Self { of: RefCell::new(of), now }
        }

        fn set(&self, slot: usize, stamp: Option<Stamp>) {
            self.of.borrow_mut()[slot] = stamp;
        }

        /// Uses the entry in `slot`.
        fn touch(&mut self, slot: usize) {
            self.now += 1;
            self.set(slot, Some(self.now));
        }

        fn oldest(&self, list: &mut LruList) -> Option<Slot> {
            match list.oldest(self, self.now, &mut usize::MAX.clone()) {
                Oldest::Slot(slot) => Some(slot),
                Oldest::Nothing => None,
                Oldest::Unfinished => unreachable!("it had all the steps there are"),
            }
        }

        /// Evicts everything, returning the slots in order.
        fn drain(&self, list: &mut LruList) -> Vec<Slot> {
            let mut order = Vec::new();
            while let Some(slot) = self.oldest(list) {
                self.set(slot as usize, None);
                order.push(slot);
                #[cfg(feature = "__validate")]
                list.validate(self);
            }
            order
        }
    }

    /// A permutation of so many stamps: the multiplier is prime and divides none of the lengths here.
    fn shuffled(len: u64) -> impl Iterator<Item = Stamp> {
        (0..len).map(move |slot| slot * 7_919 % len + 1)
    }

    #[test]
    fn slots_leave_in_the_order_of_their_stamps_whatever_the_size() {
        for len in [1, 2, 127, 128, 129, 1_000, 2_000] {
            let of: Vec<Stamp> = shuffled(len).collect();
            let order = Stamps::new(of.iter().copied()).drain(&mut LruList::default());
            let mut expected: Vec<Slot> = (0..len as Slot).collect();
            expected.sort_by_key(|slot| of[*slot as usize]);
            assert_eq!(order, expected, "{len} slots");
        }
    }

    #[test]
    fn an_entry_used_after_it_was_collected_is_passed_over() {
        let mut stamps = Stamps::new([1, 2, 3]);
        let mut list = LruList::default();
        assert_eq!(stamps.oldest(&mut list), Some(0));
        stamps.touch(0);
        assert_eq!(stamps.oldest(&mut list), Some(1));
        stamps.touch(1);
        stamps.touch(2);
        assert_eq!(stamps.oldest(&mut list), Some(0));
    }

    /// Uses, evictions and insertions at random, in steps as small as they come.
    #[test]
    fn the_oldest_is_exact_whatever_is_used_inserted_or_removed_meanwhile() {
        let mut random = fastrand::Rng::with_seed(7);
        for len in [1, 5, 100, 300, 1_500] {
            let mut stamps = Stamps::new(shuffled(len));
            let mut list = LruList::default();
            for turn in 0..6_000 {
                let slot = random.usize(..len as usize);
                match random.u32(..8) {
                    0..3 => stamps.touch(slot),
                    3 => stamps.set(slot, None),
                    4..6 => {
                        stamps.touch(slot);
                        list.prepare(&stamps, stamps.now);
                    }
                    _ => {
                        let quota = 1 + random.usize(..2 * len as usize);
                        let found = loop {
                            match list.oldest(&stamps, stamps.now, &mut { quota }) {
                                Oldest::Unfinished => {}
                                found => break found,
                            }
                        };
                        let of = stamps.of.borrow().clone();
                        let entries =
                            (0..).zip(of).filter_map(|(slot, stamp)| Some((stamp?, slot)));
                        let expected =
                            entries.min().map_or(Oldest::Nothing, |(_, slot)| Oldest::Slot(slot));
                        assert_eq!(found, expected, "turn {turn}, {len} places");
                        if let (Oldest::Slot(slot), true) = (found, random.bool()) {
                            stamps.touch(slot as usize);
                        }
                    }
                }
                #[cfg(feature = "__validate")]
                if turn % 16 == 0 {
                    list.validate(&stamps);
                }
            }
        }
    }

    #[test]
    fn a_search_takes_no_more_steps_than_it_may_and_gets_on() {
        let stamps = Stamps::new(shuffled(10_000));
        let mut list = LruList::default();
        let mut calls = 0;
        loop {
            let mut steps = 100;
            let found = list.oldest(&stamps, stamps.now, &mut steps);
            calls += 1;
            if found != Oldest::Unfinished {
                break;
            }
            assert_eq!(steps, 0);
        }
        // Once to choose where the run ends, once to collect it.
        assert!((100..=210).contains(&calls), "{calls}");
    }

    #[test]
    fn a_shard_that_fills_has_a_run_by_the_time_that_it_is_full() {
        for len in [10, 1_000, 100_000] {
            let mut stamps = Stamps::new([]);
            let mut list = LruList::default();
            for _ in 0..len {
                stamps.now += 1;
                stamps.of.get_mut().push(Some(stamps.now));
                list.prepare(&stamps, stamps.now);
            }
            let mut steps = len;
            assert_eq!(list.oldest(&stamps, stamps.now, &mut steps), Oldest::Slot(0));
            assert!(steps > len / 2, "{} of {len} steps", len - steps);
        }
    }
}
