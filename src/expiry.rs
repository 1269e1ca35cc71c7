//! Who expires next: the slots of a shard in the order of their publication.
//!
//! With one time to live for all entries and a time that does not step back, that is the order of
//! their deadlines too; entries of an earlier cache, which come with less time, are put where they
//! belong. The slots are linked, so that one which leaves early, evicted or removed,
//! leaves no trace behind.

use crate::clock::Nanos;
use crate::index::Slot;

const NONE: Slot = Slot::MAX;

#[derive(Clone, Copy)]
struct Link {
    previous: Slot,
    next: Slot,
}

/// A doubly linked list over slots, soonest deadline first. Takes no room until it is used.
pub(crate) struct ExpiryOrder {
    links: Vec<Link>,
    first: Slot,
    last: Slot,
}

impl ExpiryOrder {
    pub(crate) fn new() -> Self {
        Self { links: Vec::new(), first: NONE, last: NONE }
    }

    /// The slot that expires before all others.
    pub(crate) fn first(&self) -> Option<Slot> {
        (self.first != NONE).then_some(self.first)
    }

    /// Appends a slot that is not in the list.
    pub(crate) fn push(&mut self, slot: Slot) {
        self.link_before(NONE, slot);
    }

    /// Puts a slot that is not in the list where it belongs by its deadline, which is not the latest.
    ///
    /// Takes time in proportion to the slots that expire later.
    pub(crate) fn insert(&mut self, slot: Slot, deadline: impl Fn(Slot) -> Nanos) {
        let mut next = NONE;
        let mut previous = self.last;
        while previous != NONE && deadline(previous) > deadline(slot) {
            next = previous;
            previous = self.links[previous as usize].previous;
        }
        self.link_before(next, slot);
    }

    /// Puts `slot` before another one, or last.
    fn link_before(&mut self, next: Slot, slot: Slot) {
        let previous = match next {
            NONE => std::mem::replace(&mut self.last, slot),
            next => std::mem::replace(&mut self.links[next as usize].previous, slot),
        };
        let link = Link { previous, next };
        if slot as usize == self.links.len() {
            self.links.push(link);
        } else {
            self.links[slot as usize] = link;
        }
        match previous {
            NONE => self.first = slot,
            previous => self.links[previous as usize].next = slot,
        }
    }

    /// Takes out a slot that is in the list.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let Link { previous, next } = self.links[slot as usize];
        match previous {
            NONE => self.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => self.last = previous,
            next => self.links[next as usize].previous = previous,
        }
    }

    /// Bytes that the list has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
    }
}

#[cfg(feature = "__validate")]
impl ExpiryOrder {
    /// Asserts that the links agree in both directions; returns the slots, soonest first.
    pub(crate) fn validate(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        let mut previous = NONE;
        let mut next = self.first;
        while next != NONE {
            assert!(slots.len() < self.links.len(), "the list has an end");
            let link = self.links[next as usize];
            assert_eq!(link.previous, previous);
            slots.push(next);
            previous = next;
            next = link.next;
        }
        assert_eq!(self.last, previous);
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_in_the_order_of_their_arrival_and_from_the_middle() {
        let mut order = ExpiryOrder::new();
        for slot in 0..5 {
            order.push(slot);
        }
        order.remove(2);
        order.remove(0);
        order.remove(4);
        order.push(2);
        let mut left = Vec::new();
        while let Some(slot) = order.first() {
            order.remove(slot);
            left.push(slot);
        }
        assert_eq!(left, [1, 3, 2]);
    }

    #[test]
    fn slots_inserted_by_their_deadlines_leave_in_the_order_of_those() {
        let deadlines = [30, 10, 40, 20, 30];
        let mut order = ExpiryOrder::new();
        for slot in 0..5 {
            order.insert(slot, |slot| deadlines[slot as usize]);
        }
        let mut left = Vec::new();
        while let Some(slot) = order.first() {
            order.remove(slot);
            left.push(slot);
        }
        assert_eq!(left, [1, 3, 0, 4, 2], "equal ones in the order of their arrival");
    }
}
