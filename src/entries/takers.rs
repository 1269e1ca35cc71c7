//! The slots whose entries take something of a bound, where others take nothing of it; knows no key and
//! no lock.
//!
//! An entry that weighs nothing makes no room by weight. So where weight is short the victim is looked
//! for among these slots only, and no search goes over all others for it.

use super::lru_list::{Candidate, LruList, Oldest, Places};
use super::node::{Slot, Stamp};

/// Stands for the place of a slot that is not in the list.
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

    /// Tells whether a slot is there.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.places.get(slot as usize).is_some_and(|place| *place != NOWHERE)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Finds the least recently used; see [`LruList::oldest`].
    pub(crate) fn oldest(
        &mut self,
        entries: &impl Places,
        now: Stamp,
        steps: &mut usize,
    ) -> Oldest {
        self.lru.oldest(&Among { slots: &self.slots, entries }, now, steps)
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
    pub(crate) fn remove(&mut self, slot: Slot, entries: &impl Places) {
        let Some(place) = self.places.get_mut(slot as usize) else { return };
        let place = std::mem::replace(place, NOWHERE);
        if place == NOWHERE {
            return;
        }
        self.slots.swap_remove(place as usize);
        if let Some(&moved) = self.slots.get(place as usize) {
            self.places[moved as usize] = place;
            let old_place = self.slots.len();
            if let Some(stamp) = entries.stamp(moved).filter(|_| old_place >= self.lru.hand()) {
                self.lru.pass(Candidate { stamp, slot: moved }, place as usize);
            }
        }
    }

    /// Bytes that all of it has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.places.capacity() * size_of::<u32>()
            + self.lru.heap_size()
    }
}

/// Some of the entries.
struct Among<'a, P> {
    slots: &'a [Slot],
    entries: &'a P,
}

impl<P: Places> Places for Among<'_, P> {
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn at(&self, place: usize) -> Option<Candidate> {
        let slot = self.slots[place];
        Some(Candidate { stamp: self.entries.stamp(slot)?, slot })
    }

    fn stamp(&self, slot: Slot) -> Option<Stamp> {
        self.entries.stamp(slot)
    }
}

#[cfg(feature = "__validate")]
impl Takers {
    /// Asserts that slots, places and the order of eviction agree, and that the slots are these.
    pub(crate) fn validate(&self, takers: impl Iterator<Item = Slot>, entries: &impl Places) {
        let mut slots = self.slots.clone();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(takers), "what takes something is listed once");
        self.lru.validate(&Among { slots: &self.slots, entries });
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

    /// Entries whose stamps are as their slots.
    struct BySlot;

    impl Places for BySlot {
        fn len(&self) -> usize {
            100
        }

        fn at(&self, place: usize) -> Option<Candidate> {
            Some(Candidate { stamp: place as Stamp, slot: place as Slot })
        }

        fn stamp(&self, slot: Slot) -> Option<Stamp> {
            Some(slot.into())
        }
    }

    #[test]
    fn slots_come_and_go_in_any_order_and_are_there_once() {
        let mut takers = Takers::new([5, 7, 9].into_iter());
        takers.add(5);
        takers.remove(7, &BySlot);
        takers.remove(7, &BySlot);
        takers.remove(90, &BySlot);
        takers.add(2);
        takers.remove(9, &BySlot);
        takers.add(7);
        let mut slots = takers.slots.clone();
        slots.sort_unstable();
        assert_eq!(slots, [2, 5, 7]);
        #[cfg(feature = "__validate")]
        takers.validate(slots.into_iter(), &BySlot);
    }

    #[test]
    fn an_entry_that_moves_past_the_hand_is_found_all_the_same() {
        // Enough of them that the hand stops on its way, at each place in turn.
        for quota in 1..400 {
            let mut takers = Takers::new((1..=200).rev());
            let mut steps = quota;
            let found = takers.oldest(&BySlot, 200, &mut steps);
            // The last in the list comes to where the first one was.
            takers.remove(200, &BySlot);
            assert!(matches!(found, Oldest::Unfinished | Oldest::Slot(1)), "{found:?}");
            assert_eq!(takers.oldest(&BySlot, 200, &mut 1_000), Oldest::Slot(1), "{quota} steps");
        }
    }
}
