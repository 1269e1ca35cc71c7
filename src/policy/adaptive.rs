//! An order of eviction that adapts itself to the use of the cache; knows no key and no lock.
//!
//! New entries are *cold*, and pass through a queue, first in, first out. One that was used twice by the time
//! that it comes to the end of it becomes *hot*; one that was not used leaves. The hot ones leave in the order
//! of their last use, but for those that were used more than once, which get another turn for each use, up to
//! three. A *ghost* is left of what was evicted: an entry that comes back, and was used later than the last
//! hot one that came to its turn, is hot at once. The share of the cold is set by a duel with an exact order
//! of use.
//!
//! That what comes back is judged by how long it was not used, and not by how often it was, is after LIRS
//! (Jiang and Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy", SIGMETRICS
//! 2002); the small queue before the rest, after S3-FIFO (Yang et al., "FIFO Queues Are All You Need for Cache
//! Eviction", SOSP 2023); the duel, after set duelling (Qureshi et al., "Adaptive Insertion Policies for High
//! Performance Caching", ISCA 2007).

mod duel;
mod ghosts;
mod queue;

use self::duel::Duel;
use self::ghosts::Ghosts;
use self::queue::Queue;
use super::capacity::Bound;
use crate::entries::lru_list::{LruList, Oldest};
use crate::entries::ranks::{Hot, Rank, Tick};
use crate::entries::takers::Takers;
use crate::entries::{Entries, Slot};

/// The most entries that a search for one victim gives another turn, of the cold and of the hot.
const MOST_TURNS: usize = 16;

/// Uses in the queue that make an entry hot.
const USES_OF_HOT: u8 = 2;

/// Which entries are hot and which are cold, and who leaves next.
pub(crate) struct Adaptive {
    queue: Queue,
    ghosts: Ghosts,
    duel: Duel,
    /// The last use of the latest of all hot entries that came to their turn.
    hot_bar: Tick,
    hot: u64,
    cold: u64,
    /// In what hot and cold are measured.
    measure: Bound,
    /// Whether anything was ever evicted: before that there is nothing to judge by.
    has_evicted: bool,
}

/// Where a victim is looked for.
pub(crate) struct Search<'a, K, V> {
    pub(crate) entries: &'a mut Entries<K, V>,
    /// The order of the hot ones.
    pub(crate) lru: &'a mut LruList,
    /// Those whose eviction helps, if others' does not.
    pub(crate) takers: Option<&'a mut Takers>,
    /// Stays, whatever comes.
    pub(crate) kept: Option<Slot>,
    /// How much has left already for what is to come, in the measure of hot and cold.
    pub(crate) freed: u64,
}

impl<K, V> Search<'_, K, V> {
    fn helps(&self, slot: Slot) -> bool {
        self.kept != Some(slot) && self.takers.as_ref().is_none_or(|takers| takers.has(slot))
    }
}

impl Adaptive {
    /// Makes the order of no entries, whose hot and cold ones are measured so.
    pub(crate) fn new(measure: Bound) -> Self {
        Self {
            queue: Queue::default(),
            ghosts: Ghosts::default(),
            duel: Duel::default(),
            hot_bar: 0,
            hot: 0,
            cold: 0,
            measure,
            has_evicted: false,
        }
    }

    /// Finds the entry that leaves next, in so many `steps`. It stays where it is until it leaves.
    pub(crate) fn victim<K, V>(&mut self, search: Search<'_, K, V>, steps: &mut usize) -> Oldest {
        self.has_evicted = true;
        self.ghosts.fit(search.entries.len());
        self.duel.set_bar(search.entries, &self.ghosts);
        // The shares are of all that there is once it has come.
        let room = self.hot_room(search.freed);
        if self.hot > room {
            return self.hot_victim(search, steps);
        }
        let mut turns = 0;
        while let Some(slot) = self.queue.oldest() {
            let Some(left) = steps.checked_sub(1) else { return Oldest::Unfinished };
            *steps = left;
            let Rank { uses, .. } = search.entries.rank(slot);
            if (uses == 0 || turns == MOST_TURNS) && search.helps(slot) {
                return Oldest::Slot(slot);
            }
            if turns == MOST_TURNS {
                break;
            }
            if uses >= USES_OF_HOT && self.deserves_heat(search.entries, slot, room) {
                self.heat(search.entries, slot);
                if self.hot > room {
                    break;
                }
            } else {
                turns += 1;
                self.requeue(search.entries, slot);
            }
        }
        self.hot_victim(search, steps)
    }

    /// Finds the least recently used of the hot ones that has no turn left, or a cold one if nothing is hot.
    fn hot_victim<K, V>(&mut self, mut search: Search<'_, K, V>, steps: &mut usize) -> Oldest {
        let (mut turns, mut has_met_kept) = (0, false);
        loop {
            let now = search.entries.epoch();
            let oldest = match &mut search.takers {
                None => search.lru.oldest(&Hot(search.entries), now, steps),
                // Those that help are few, and cold ones are among them.
                Some(takers) => takers.oldest(&*search.entries, now, steps),
            };
            let slot = match oldest {
                Oldest::Slot(slot) => slot,
                Oldest::Nothing if search.takers.is_none() => return self.cold_victim(&search),
                other => return other,
            };
            if search.kept == Some(slot) {
                let cold = self.cold_victim(&search);
                if has_met_kept && search.takers.is_none() && cold != Oldest::Nothing {
                    return cold;
                }
                has_met_kept = true;
                search.entries.renew(slot);
                continue;
            }
            let rank = search.entries.rank(slot);
            if !rank.is_cold {
                self.hot_bar = self.hot_bar.max(search.entries.last_tick(slot));
            }
            if rank.uses == 0 || turns == MOST_TURNS {
                return Oldest::Slot(slot);
            }
            turns += 1;
            search.entries.set_rank(slot, Rank { uses: rank.uses - 1, ..rank });
            search.entries.renew(slot);
        }
    }

    /// Finds the first of the queue that does not have to stay.
    fn cold_victim<K, V>(&self, search: &Search<'_, K, V>) -> Oldest {
        let mut cold = self.queue.iter().filter(|slot| search.kept != Some(*slot));
        cold.next().map_or(Oldest::Nothing, Oldest::Slot)
    }

    /// Tells whether a cold entry that was used often enough is hot: there is room, or it has been here for
    /// less time than the hot ones go unused.
    fn deserves_heat<K, V>(&self, entries: &Entries<K, V>, slot: Slot, room: u64) -> bool {
        let came = self.ghosts.tick(entries.queued(slot), entries.tick());
        self.hot < room || came >= self.hot_bar
    }

    /// Has a cold entry be hot from now on, as if it were used now.
    fn heat<K, V>(&mut self, entries: &mut Entries<K, V>, slot: Slot) {
        let amount = self.amount(entries, slot);
        self.cold -= amount;
        self.hot += amount;
        self.queue.remove(slot);
        let rank = entries.rank(slot);
        entries.set_rank(slot, Rank { is_cold: false, ..rank });
        entries.renew(slot);
    }

    /// Gives the first of the queue another turn, of which it has made no use yet.
    fn requeue<K, V>(&mut self, entries: &mut Entries<K, V>, slot: Slot) {
        entries.set_rank(slot, Rank { is_cold: true, uses: 0 });
        entries.set_queued(slot, self.ghosts.time(entries.last_tick(slot)));
        self.queue.requeue(slot);
    }

    /// How much may be hot of what is there and of so much that takes the place of what was `freed`.
    fn hot_room(&self, freed: u64) -> u64 {
        let all = (self.hot + self.cold).saturating_add(freed);
        all.saturating_sub(self.duel.cold_part(all))
    }

    /// What the entry in `slot` counts for: one at least, so that everything counts, and not so much that any
    /// sum could overflow.
    fn amount<K, V>(&self, entries: &Entries<K, V>, slot: Slot) -> u64 {
        if self.measure == Bound::Entries {
            return 1;
        }
        let measured = entries.measured(slot);
        let amount = match self.measure {
            Bound::Bytes => measured.bytes.map(|bytes| bytes as u64),
            _ => measured.weight,
        };
        amount.unwrap_or(1).clamp(1, u32::MAX.into())
    }

    /// Takes note of an entry that was evicted and is still there.
    pub(crate) fn remember<K, V>(&mut self, entries: &Entries<K, V>, slot: Slot) {
        let hash = entries.entry(slot).hash();
        self.ghosts.put(hash, entries.last_tick(slot), entries.tick());
    }

    /// Takes note of an entry that has come into `slot`.
    pub(crate) fn arrive<K, V>(
        &mut self,
        entries: &mut Entries<K, V>,
        lru: &mut LruList,
        slot: Slot,
    ) {
        let amount = self.amount(entries, slot);
        let comes_back_hot = self.has_evicted && self.judge_return(entries, slot);
        // As it may be with the new one, which is among the cold until it is seen to be hot.
        self.cold += amount;
        // All of it: else each of many heavy ones would find the room that was made for it, and be hot.
        let is_hot = comes_back_hot || self.hot + amount <= self.hot_room(0);
        entries.set_rank(slot, Rank { is_cold: !is_hot, uses: 0 });
        if is_hot {
            self.cold -= amount;
            self.hot += amount;
        } else {
            entries.set_queued(slot, self.ghosts.time(entries.tick()));
            self.queue.push(slot, entries.room());
        }
        if !self.has_evicted {
            lru.prepare(&Hot(entries), entries.epoch());
        }
    }

    /// Tells whether what has come into `slot` had left so short a time ago that it is hot.
    fn judge_return<K, V>(&mut self, entries: &mut Entries<K, V>, slot: Slot) -> bool {
        let (len, now) = (entries.len(), entries.tick());
        self.duel.note_gains(entries.take_gains(), len);
        let last_use = self.ghosts.take(entries.entry(slot).hash(), now);
        if let Some(last_use) = last_use {
            self.duel.note_return(last_use, len);
        }
        entries.set_gain_bar(self.duel.gain_bar(len));
        last_use.is_some_and(|last_use| last_use >= self.hot_bar)
    }

    /// Takes note of an entry that is about to leave `slot`.
    pub(crate) fn leave<K, V>(&mut self, entries: &Entries<K, V>, slot: Slot) {
        self.count_out(entries, slot);
        if entries.rank(slot).is_cold {
            self.queue.remove(slot);
        }
    }

    /// Has an entry that has just come be hot.
    pub(crate) fn warm<K, V>(&mut self, entries: &mut Entries<K, V>, slot: Slot) {
        if entries.rank(slot).is_cold {
            self.heat(entries, slot);
        }
    }

    /// Counts an entry out that is about to be replaced by one of its key, as a use of it.
    pub(crate) fn count_out<K, V>(&mut self, entries: &Entries<K, V>, slot: Slot) {
        let amount = self.amount(entries, slot);
        *self.held(entries, slot) -= amount;
    }

    /// Counts the one in that has come in its place.
    pub(crate) fn count_in<K, V>(&mut self, entries: &Entries<K, V>, slot: Slot) {
        let amount = self.amount(entries, slot);
        *self.held(entries, slot) += amount;
    }

    fn held<K, V>(&mut self, entries: &Entries<K, V>, slot: Slot) -> &mut u64 {
        if entries.rank(slot).is_cold { &mut self.cold } else { &mut self.hot }
    }

    /// Takes note of entries that move to other slots, each to that of its place in `old`.
    pub(crate) fn renumber(&mut self, old: &[Slot]) {
        let mut queue = Queue::default();
        for slot in self.queue.iter() {
            let new = old.binary_search(&slot).expect("what is cold is there");
            queue.push(new as Slot, old.len());
        }
        self.queue = queue;
    }

    /// Bytes that all of it has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.queue.heap_size() + self.ghosts.heap_size()
    }
}

#[cfg(feature = "__validate")]
impl Adaptive {
    /// Asserts that the queue holds what is cold, and hot and cold together everything.
    pub(crate) fn validate<K, V>(&self, entries: &Entries<K, V>) {
        self.queue.validate();
        let (mut hot, mut cold, mut slots) = (0, 0, Vec::new());
        for slot in (0..entries.slots() as Slot).filter(|slot| entries.is_in_use(*slot)) {
            let rank = entries.rank(slot);
            *(if rank.is_cold { &mut cold } else { &mut hot }) += self.amount(entries, slot);
            slots.extend(rank.is_cold.then_some(slot));
        }
        assert_eq!(
            (hot, cold),
            (self.hot, self.cold),
            "hot and cold are what they were counted to be"
        );
        let mut queued: Vec<Slot> = self.queue.iter().collect();
        queued.sort_unstable();
        assert_eq!(queued, slots, "what is cold is queued once");
        assert!(self.hot_bar <= entries.tick(), "no use lies ahead");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Bucket, Entry};

    const LEN: usize = 1_000;

    /// A shard of entries whose keys are their numbers.
    struct Shard {
        entries: Entries<u32, ()>,
        lru: LruList,
        adaptive: Adaptive,
        next: u32,
    }

    impl Shard {
        fn full() -> Self {
            let (entries, lru) = (Entries::with_ranks(), LruList::default());
            let adaptive = Adaptive::new(Bound::Entries);
            let mut shard = Self { entries, lru, adaptive, next: 0 };
            (0..LEN).for_each(|_| _ = shard.come());
            shard
        }

        /// Has another entry come, which one is evicted for if there are too many.
        fn come(&mut self) -> Slot {
            if self.entries.len() == LEN {
                match self.search(&mut usize::MAX.clone()) {
                    Oldest::Slot(victim) => {
                        self.adaptive.remember(&self.entries, victim);
                        self.leave(victim);
                    }
                    other => panic!("{other:?}"),
                }
            }
            let hash = u64::from(self.next).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let entry = Entry::new(hash, self.next, ());
            self.next += 1;
            let slot = self.entries.insert(entry, None, Bucket::NONE, LEN);
            self.adaptive.arrive(&mut self.entries, &mut self.lru, slot);
            slot
        }

        fn leave(&mut self, slot: Slot) {
            self.adaptive.leave(&self.entries, slot);
            self.entries.remove(slot);
        }

        fn search(&mut self, steps: &mut usize) -> Oldest {
            let Self { entries, lru, adaptive, .. } = self;
            adaptive.victim(Search { entries, lru, takers: None, kept: None, freed: 0 }, steps)
        }

        /// The slots of the cold ones, oldest first, or of the hot ones.
        fn slots(&self, is_cold: bool) -> Vec<Slot> {
            if is_cold {
                return self.adaptive.queue.iter().collect();
            }
            let slots = (0..LEN as Slot).filter(|slot| self.entries.is_in_use(*slot));
            slots.filter(|slot| !self.entries.rank(*slot).is_cold).collect()
        }

        /// Uses each of these so often, one after another.
        fn use_each(&mut self, slots: &[Slot], times: usize) {
            slots.iter().for_each(|slot| (0..times).for_each(|_| self.entries.touch(*slot)));
        }
    }

    #[test]
    fn no_more_than_sixteen_cold_ones_get_another_turn_before_one_leaves() {
        let mut shard = Shard::full();
        let mut cold = shard.slots(true);
        assert_eq!(cold.len(), 50);
        shard.use_each(&cold, 1);
        let (epoch, mut steps) = (shard.entries.epoch(), 1_000);
        assert_eq!(shard.search(&mut steps), Oldest::Slot(cold[16]));
        // Each was looked at once, and none was stamped.
        assert_eq!((1_000 - steps, shard.entries.epoch()), (17, epoch));
        cold.rotate_left(16);
        assert_eq!(shard.slots(true), cold);
        assert!(cold[34..].iter().all(|slot| shard.entries.rank(*slot).uses == 0));
    }

    #[test]
    fn no_more_than_sixteen_hot_ones_get_another_turn_before_one_leaves() {
        let mut shard = Shard::full();
        let cold = shard.slots(true);
        cold.iter().for_each(|slot| shard.adaptive.warm(&mut shard.entries, *slot));
        let hot = shard.slots(false);
        assert_eq!(hot.len(), LEN);
        shard.use_each(&hot, 3);
        let epoch = shard.entries.epoch();
        assert_eq!(shard.search(&mut usize::MAX.clone()), Oldest::Slot(hot[16]));
        assert_eq!(shard.entries.epoch() - epoch, 16);
        assert!(hot[..16].iter().all(|slot| shard.entries.rank(*slot).uses == 2));
        assert!(hot[16..].iter().all(|slot| shard.entries.rank(*slot).uses == 3));
    }

    #[test]
    fn a_search_for_a_victim_takes_no_more_steps_than_it_may_and_gets_on() {
        let mut shard = Shard::full();
        let (cold, hot) = (shard.slots(true), shard.slots(false));
        // There is room for all of the cold ones among the hot.
        shard.use_each(&cold, 2);
        hot[..900].iter().for_each(|slot| shard.leave(*slot));
        let mut searches = 0;
        let found = loop {
            let mut steps = 10;
            searches += 1;
            match shard.search(&mut steps) {
                Oldest::Unfinished => assert_eq!(steps, 0),
                found => break found,
            }
        };
        // So many that one more is too many leave the queue; then the oldest of those that were hot is found.
        assert!(shard.slots(true).len() < 10, "{:?}", shard.slots(true));
        assert!(matches!(found, Oldest::Slot(slot) if hot[900..].contains(&slot)), "{found:?}");
        // Those of the hot ones are looked at once or twice, vacant slots among them.
        assert!((4..=10 + 2 * LEN / 10).contains(&searches), "{searches}");
    }

    #[test]
    fn a_hit_of_what_was_not_used_for_long_is_a_gain_unless_the_share_is_at_its_least() {
        let mut shard = Shard::full();
        let hot = shard.slots(false);
        (0..2 * LEN).for_each(|_| _ = shard.come());
        let gains = |shard: &mut Shard, slots: &[Slot]| {
            shard.use_each(slots, 2);
            shard.entries.take_gains()
        };
        // Only the first use of each finds it unused for long.
        assert_eq!(gains(&mut shard, &hot[..10]), 10);
        let new = shard.come();
        assert_eq!(gains(&mut shard, &[new]), 0);
        // As many as make the share as small as it gets.
        shard.use_each(&hot[10..60], 1);
        shard.come();
        assert_eq!(shard.adaptive.duel.cold_part(LEN as u64), LEN as u64 / 100);
        assert_eq!(gains(&mut shard, &hot[100..110]), 0);
        // One that left a short time ago comes back, and the share is above that again.
        shard.adaptive.duel.note_return(shard.entries.tick(), LEN);
        shard.come();
        assert_eq!(gains(&mut shard, &hot[200..210]), 10);
    }

    #[test]
    fn what_has_never_evicted_anything_judges_nothing() {
        let mut shard = Shard::full();
        assert_eq!(shard.adaptive.ghosts.heap_size(), 0);
        let all: Vec<Slot> = (0..LEN as Slot).collect();
        shard.use_each(&all, 1);
        assert_eq!(shard.entries.take_gains(), 0);
        assert_eq!((shard.slots(true).len(), shard.slots(false).len()), (50, 950));
    }
}
