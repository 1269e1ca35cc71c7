//! Finds the slot that expires next: keeps the slots in the order of their deadlines, as far as that is
//! cheap.
//!
//! With one time to live for all entries and a time that does not step back, that is the order of their
//! publication. Such slots are linked in a list, so that one which leaves early, evicted or removed,
//! leaves no trace behind. A slot that expires before the last of the list goes into a [`Wheel`].

use super::node::Slot;
use super::wheel::{Due, Wheel};
use crate::clock::{NEVER, Nanos};

const NONE: Slot = Slot::MAX;

/// Stands for the next slot where a slot is not in the list.
const ABSENT: Slot = Slot::MAX - 1;

#[derive(Clone, Copy)]
struct Link {
    previous: Slot,
    next: Slot,
}

/// Slots by their deadlines. Takes no room until it is used.
pub(crate) struct ExpiryOrder {
    /// Of the slots in the list, soonest deadline first.
    links: Vec<Link>,
    first: Slot,
    last: Slot,
    /// When the last of the list expires.
    last_deadline: Nanos,
    /// The other slots.
    wheel: Option<Box<Wheel>>,
}

impl Default for ExpiryOrder {
    fn default() -> Self {
        Self { links: Vec::new(), first: NONE, last: NONE, last_deadline: 0, wheel: None }
    }
}

impl ExpiryOrder {
    /// A slot whose deadline has come by `now`, if one is found in so many `steps`. It stays where it is
    /// until it is removed.
    ///
    /// `deadline` tells those of the slots in the list.
    pub(crate) fn due(
        &mut self,
        now: Nanos,
        steps: &mut usize,
        deadline: impl Fn(Slot) -> Nanos,
    ) -> Due {
        if self.first != NONE && deadline(self.first) <= now {
            return Due::Slot(self.first);
        }
        self.wheel.as_mut().map_or(Due::Nothing, |wheel| wheel.due(now, steps))
    }

    /// A time before which no slot is due: [`NEVER`] if there is none.
    pub(crate) fn soonest(&self, deadline: impl Fn(Slot) -> Nanos) -> Nanos {
        let listed = if self.first == NONE { NEVER } else { deadline(self.first) };
        let filed = self.wheel.as_ref().and_then(|wheel| wheel.soonest());
        filed.map_or(listed, |filed| filed.min(listed))
    }

    /// Adds a slot that is not there, and whose deadline will not change.
    pub(crate) fn push(&mut self, slot: Slot, deadline: Nanos) {
        if self.last != NONE && deadline < self.last_deadline {
            self.push_moving(slot, deadline);
        } else {
            self.append(slot);
            self.last_deadline = deadline;
        }
    }

    /// Adds a slot that is not there, and whose deadline may be put off.
    pub(crate) fn push_moving(&mut self, slot: Slot, deadline: Nanos) {
        self.wheel.get_or_insert_with(|| Box::new(Wheel::new())).insert(slot, deadline);
    }

    /// Takes out a slot, if it is there. Inlined, so that a cache without lifetimes pays next to nothing.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) {
        match &mut self.wheel {
            Some(wheel) if wheel.contains(slot) => wheel.remove(slot),
            _ if self.first != NONE => self.unlink(slot),
            _ => {}
        }
    }

    fn append(&mut self, slot: Slot) {
        let link = Link { previous: self.last, next: NONE };
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, Link { previous: NONE, next: ABSENT });
        }
        self.links[slot as usize] = link;
        match self.last {
            NONE => self.first = slot,
            last => self.links[last as usize].next = slot,
        }
        self.last = slot;
    }

    fn unlink(&mut self, slot: Slot) {
        let Some(link) = self.links.get_mut(slot as usize) else { return };
        let Link { previous, next } = *link;
        link.next = ABSENT;
        match previous {
            _ if next == ABSENT => return,
            NONE => self.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => self.last = previous,
            next => self.links[next as usize].previous = previous,
        }
    }

    /// Bytes that the order has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        let wheel = self.wheel.as_ref().map_or(0, |wheel| size_of::<Wheel>() + wheel.heap_size());
        self.links.capacity() * size_of::<Link>() + wheel
    }
}

#[cfg(feature = "__validate")]
impl ExpiryOrder {
    /// Asserts that the links agree in both directions and with the deadlines; returns how many slots
    /// there are.
    pub(crate) fn validate(&self, deadline: impl Fn(Slot) -> Nanos) -> usize {
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
        assert!(slots.is_sorted_by_key(|slot| deadline(*slot)));
        slots.len() + self.wheel.as_ref().map_or(0, |wheel| wheel.validate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes out all slots in order, as time goes by.
    fn drain(order: &mut ExpiryOrder, deadlines: &[Nanos]) -> Vec<Slot> {
        let mut left = Vec::new();
        for now in 0..100 {
            while let Due::Slot(slot) = order.due(now, &mut 99, |slot| deadlines[slot as usize]) {
                order.remove(slot);
                left.push(slot);
            }
        }
        left
    }

    #[test]
    fn slots_leave_in_the_order_of_their_arrival_and_from_the_middle() {
        let mut order = ExpiryOrder::default();
        for slot in 0..5 {
            order.push(slot, 10);
        }
        order.remove(2);
        order.remove(0);
        order.remove(4);
        order.push(2, 10);
        assert_eq!(order.soonest(|_| 10), 10);
        assert_eq!(drain(&mut order, &[10; 5]), [1, 3, 2]);
        assert_eq!(order.soonest(|_| 10), NEVER);
    }

    #[test]
    fn slots_that_expire_sooner_than_those_before_them_leave_in_the_order_of_their_deadlines() {
        let deadlines = [30, 10, 40, 20, 30];
        let mut order = ExpiryOrder::default();
        for (slot, deadline) in (0..).zip(deadlines) {
            order.push(slot, deadline);
        }
        assert_eq!(order.soonest(|slot| deadlines[slot as usize]), 10);
        assert_eq!(drain(&mut order, &deadlines), [1, 3, 0, 4, 2]);
    }
}
