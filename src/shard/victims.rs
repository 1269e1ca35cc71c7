//! Who is evicted: of those that help, the least recently used.

use std::sync::Arc;

use super::state::{Order, State};
use super::submission::Departed;
use crate::clock::Nanos;
use crate::index::Slot;
use crate::ledger::{Bound, Ledger, Room};
use crate::list::LruList;
use crate::stamp::Stamp;
use crate::sync::AtomicU64;
use crate::takers::Takers;

/// A search for victims, which goes on while the shard is not locked.
pub(super) struct Search {
    lru: LruList,
    stamps: Arc<[AtomicU64]>,
    among: Among,
    since: Stamp,
    generation: u64,
}

/// Which slots a search goes over.
enum Among {
    /// All that were ever in use: so many.
    All(usize),
    /// Those that take something of a bound, as of when the search began.
    Takers(Bound, Vec<Slot>),
}

impl Search {
    pub(super) fn run(&mut self) {
        match &self.among {
            Among::All(slots) => self.lru.search(&self.stamps[..*slots], self.since),
            Among::Takers(_, slots) => self.lru.search_among(slots, &self.stamps, self.since),
        }
    }
}

impl Order {
    /// The slots whose entries take something of this bound; `None` as long as all do.
    pub(super) fn takers(&mut self, bound: Bound) -> Option<&mut Takers> {
        match bound {
            Bound::Entries => None,
            Bound::Weight => self.weight_takers.as_deref_mut(),
            Bound::Bytes => self.byte_takers.as_deref_mut(),
        }
    }

    /// Takes the entry in `slot` out; the orders of eviction find out by the stamp.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        self.expiry.remove(slot);
        for takers in self.weight_takers.iter_mut().chain(&mut self.byte_takers) {
            takers.remove(slot);
        }
    }

    /// Bytes that all of it has allocated.
    pub(super) fn heap_size(&self) -> usize {
        let takers = self.weight_takers.iter().chain(&self.byte_takers);
        let takers = takers.map(|takers| size_of::<Takers>() + takers.heap_size());
        self.lru.heap_size() + takers.sum::<usize>() + self.expiry.heap_size()
    }
}

impl<K, V> State<K, V> {
    /// Whether it helps to evict the entry in `slot` where this bound is short.
    pub(super) fn helps(&self, slot: Slot, bound: Bound) -> bool {
        match bound {
            Bound::Entries => true,
            Bound::Weight => self.index.weight(slot).is_some_and(|weight| weight > 0),
            Bound::Bytes => self.index.size(slot).is_some_and(|size| size > 0),
        }
    }

    /// How many entries it helps to evict where this bound is short.
    pub(super) fn count_helpful(&mut self, bound: Bound) -> usize {
        self.order.takers(bound).map_or(self.index.len(), |takers| takers.len())
    }

    fn slots_in_use(&self) -> impl Iterator<Item = Slot> {
        (0..self.index.slots() as Slot).filter(|slot| self.index.is_in_use(*slot))
    }

    /// Notes of which bounds the entry takes something that has come into `slot`.
    #[inline]
    pub(super) fn note_cost(&mut self, slot: Slot, ledger: &Ledger) {
        if !ledger.weighs() {
            return;
        }
        for bound in [Bound::Weight, Bound::Bytes].into_iter().filter(|bound| ledger.has(*bound)) {
            let helps = self.helps(slot, bound);
            match self.order.takers(bound) {
                Some(takers) if helps => takers.add(slot),
                Some(takers) => takers.remove(slot),
                None if helps => {}
                None => self.list_takers(bound),
            }
        }
    }

    /// Tells from now on apart who takes something of this bound: the first that takes nothing is here.
    /// Who has none of those pays nothing for it.
    #[cold]
    fn list_takers(&mut self, bound: Bound) {
        let helpful = self.slots_in_use().filter(|slot| self.helps(*slot, bound));
        let takers = Box::new(Takers::new(helpful));
        match bound {
            Bound::Entries => {}
            Bound::Weight => self.order.weight_takers = Some(takers),
            Bound::Bytes => self.order.byte_takers = Some(takers),
        }
    }

    /// Takes out the least recently used of the entries that help where this bound is `short`, if it is
    /// known, and adds what it held to the room.
    pub(super) fn evict(
        &mut self,
        short: Bound,
        now: Option<Nanos>,
        room: &mut Room<'_>,
        departed: &mut Departed<K, V>,
    ) -> Option<()> {
        let ledger = room.ledger();
        let victim = match self.order.takers(short) {
            Some(takers) => takers.oldest(self.index.stamps()),
            None => self.order.lru.oldest(self.index.stamps()),
        }?;
        let cause = self.cause_of_eviction(victim, now, ledger);
        room.inherit(self.cost(victim, ledger));
        let entry = self.detach(victim);
        self.part_with(entry, cause, departed);
        Some(())
    }

    /// Finds the next victims where this bound is `short`.
    pub(super) fn search(&mut self, short: Bound) {
        let since = self.index.get_mut().begin_epoch();
        let stamps = self.index.stamps();
        match self.order.takers(short) {
            Some(takers) => takers.search(stamps, since),
            None => self.order.lru.search(&stamps[..self.index.slots()], since),
        }
    }

    /// Begins a search for the next victims where this bound is `short`.
    pub(super) fn begin_search(&mut self, short: Bound) -> Search {
        let since = self.index.get_mut().begin_epoch();
        let (lru, among) = match self.order.takers(short) {
            Some(takers) => {
                let (lru, slots) = takers.lend();
                (lru, Among::Takers(short, slots))
            }
            None => (self.order.lru.lend(), Among::All(self.index.slots())),
        };
        let stamps = Arc::clone(self.index.stamps());
        Search { lru, stamps, among, since, generation: self.generation }
    }

    /// Ends a search: takes what it has found, unless the entries have moved meanwhile. A slot that it has
    /// found may hold another one then, even of the same stamp, with older ones elsewhere.
    pub(super) fn end_search(&mut self, search: Search) {
        let Search { lru, among, generation, .. } = search;
        if generation != self.generation {
            return;
        }
        match among {
            Among::All(_) => self.order.lru = lru,
            Among::Takers(bound, _) => {
                // None if the shard was emptied meanwhile.
                if let Some(takers) = self.order.takers(bound) {
                    takers.take_back(lru);
                }
            }
        }
    }
}

#[cfg(feature = "__validate")]
impl<K, V> State<K, V> {
    /// Asserts that those who take something of a bound are listed, if others take nothing.
    pub(super) fn validate_takers(&self, ledger: &Ledger) {
        let takers = [&self.order.weight_takers, &self.order.byte_takers];
        for (bound, takers) in [Bound::Weight, Bound::Bytes].into_iter().zip(takers) {
            let helpful = self.slots_in_use().filter(|slot| self.helps(*slot, bound));
            match takers {
                Some(takers) => takers.validate(helpful, self.index.stamps()),
                None => assert!(!ledger.has(bound) || helpful.count() == self.index.len()),
            }
        }
    }
}
