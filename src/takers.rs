//! The slots whose entries take something of a bound, where others take nothing of it; knows no key and
//! no lock.
//!
//! What weighs nothing makes no room by weight. So where weight is short the victim is looked for among
//! these slots only, and no search goes over all others for it.

use crate::index::Slot;
use crate::list::LruList;
use crate::stamp::Stamp;
use crate::sync::AtomicU64;

/// What stands for the place of a slot that is not in the list.
const NOWHERE: u32 = u32::MAX;

/// The slots whose entries take something of one bound, and who of them is evicted next.
pub(crate) struct Takers {
    /// In no order.
    slots: Vec<Slot>,
    /// Where each slot is in `slots`.
    places: Vec<u32>,
    lru: LruList,
}

impl Takers {
    pub(crate) fn new(slots: impl Iterator<Item = Slot>) -> Self {
        let mut takers = Self { slots: Vec::new(), places: Vec::new(), lru: LruList::default() };
        slots.for_each(|slot| takers.add(slot));
        takers
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The least recently used; `None` if a search has to run first.
    pub(crate) fn oldest(&mut self, stamps: &[AtomicU64]) -> Option<Slot> {
        self.lru.oldest(stamps)
    }

    /// Finds the next of them; see [`LruList::search`].
    pub(crate) fn search(&mut self, stamps: &[AtomicU64], since: Stamp) {
        self.lru.search_among(&self.slots, stamps, since);
    }

    /// Takes the list for a search, and a copy of the slots to search.
    pub(crate) fn lend(&mut self) -> (LruList, Vec<Slot>) {
        (self.lru.lend(), self.slots.clone())
    }

    /// Takes the list back.
    pub(crate) fn take_back(&mut self, lru: LruList) {
        self.lru = lru;
    }

    /// Adds a slot, unless it is there.
    pub(crate) fn add(&mut self, slot: Slot) {
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, NOWHERE);
        }
        let place = &mut self.places[slot as usize];
        if *place == NOWHERE {
            *place = self.slots.len() as u32;
            self.slots.push(slot);
        }
    }

    /// Takes out a slot, if it is there; the order of eviction finds out by the stamp.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let Some(place) = self.places.get_mut(slot as usize) else { return };
        let place = std::mem::replace(place, NOWHERE);
        if place == NOWHERE {
            return;
        }
        self.slots.swap_remove(place as usize);
        if let Some(moved) = self.slots.get(place as usize) {
            self.places[*moved as usize] = place;
        }
    }

    /// Bytes that all of it has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.places.capacity() * size_of::<u32>()
            + self.lru.heap_size()
    }
}

#[cfg(feature = "__validate")]
impl Takers {
    /// Asserts that slots, places and the order of eviction agree, and that the slots are these.
    pub(crate) fn validate(&self, takers: impl Iterator<Item = Slot>, stamps: &[AtomicU64]) {
        let mut slots = self.slots.clone();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(takers), "what takes something is listed once");
        self.lru.validate(self.slots.iter().copied(), stamps);
        for (place, slot) in (0..).zip(&self.slots) {
            assert_eq!(self.places[*slot as usize], place);
        }
        let placed = self.places.iter().filter(|place| **place != NOWHERE).count();
        assert_eq!(placed, self.slots.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_and_go_in_any_order_and_are_there_once() {
        let mut takers = Takers::new([5, 0, 9].into_iter());
        takers.add(5);
        takers.remove(0);
        takers.remove(0);
        takers.remove(100);
        takers.add(2);
        takers.remove(9);
        takers.add(0);
        let mut slots = takers.slots.clone();
        slots.sort_unstable();
        assert_eq!(slots, [0, 2, 5]);
        #[cfg(feature = "__validate")]
        takers.validate(slots.into_iter(), &[]);
    }
}
