//! The queue of cold entries, first in, first out: linked by slot, so that one that leaves early leaves
//! nothing behind.

use crate::entries::Slot;

/// Stands for the end of the queue.
const END: Slot = Slot::MAX;

/// Slots in the order in which they were pushed.
pub(super) struct Queue {
    /// By slot; those of a slot that is not in the queue mean nothing.
    links: Vec<Link>,
    oldest: Slot,
    newest: Slot,
}

#[derive(Clone, Copy)]
struct Link {
    older: Slot,
    newer: Slot,
}

impl Default for Queue {
    fn default() -> Self {
        Self { links: Vec::new(), oldest: END, newest: END }
    }
}

impl Queue {
    pub(super) fn oldest(&self) -> Option<Slot> {
        self.iter().next()
    }

    /// Adds a slot that is not in the queue, one of so many.
    pub(super) fn push(&mut self, slot: Slot, slots: usize) {
        if self.links.len() <= slot as usize {
            self.links.reserve_exact(slots.saturating_sub(self.links.len()));
            self.links.resize(slot as usize + 1, Link { older: END, newer: END });
        }
        self.links[slot as usize] = Link { older: self.newest, newer: END };
        *self.newer_of(self.newest) = slot;
        self.newest = slot;
    }

    /// Takes a slot out that is in the queue.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Link { older, newer } = self.links[slot as usize];
        *self.newer_of(older) = newer;
        *self.older_of(newer) = older;
    }

    /// Has the slot that is the oldest be the newest.
    pub(super) fn requeue(&mut self, slot: Slot) {
        self.remove(slot);
        self.push(slot, 0);
    }

    /// All slots, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        let existing = |slot: Slot| (slot != END).then_some(slot);
        let newer = move |slot: &Slot| existing(self.links[*slot as usize].newer);
        std::iter::successors(existing(self.oldest), newer)
    }

    /// Bytes that the queue has allocated.
    pub(super) fn heap_size(&self) -> usize {
        self.links.capacity() * size_of::<Link>()
    }

    /// Where it is kept who comes after this slot; after the end comes the oldest.
    fn newer_of(&mut self, slot: Slot) -> &mut Slot {
        match self.links.get_mut(slot as usize) {
            Some(link) => &mut link.newer,
            None => &mut self.oldest,
        }
    }

    fn older_of(&mut self, slot: Slot) -> &mut Slot {
        match self.links.get_mut(slot as usize) {
            Some(link) => &mut link.older,
            None => &mut self.newest,
        }
    }
}

#[cfg(feature = "__validate")]
impl Queue {
    /// Asserts that the links agree in both directions.
    pub(super) fn validate(&self) {
        let mut older = END;
        for slot in self.iter() {
            assert_eq!(self.links[slot as usize].older, older);
            older = slot;
        }
        assert_eq!(self.newest, older);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn slots_leave_in_the_order_in_which_they_came_whoever_leaves_before() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut queue = Queue::default();
        let mut expected = VecDeque::new();
        for _ in 0..2_000 {
            let slot = random.u32(..40);
            match expected.iter().position(|other| *other == slot) {
                None => {
                    queue.push(slot, 40);
                    expected.push_back(slot);
                }
                Some(place) => {
                    queue.remove(slot);
                    expected.remove(place);
                }
            }
            if let Some(oldest) = queue.oldest().filter(|_| random.u32(..4) == 0) {
                queue.requeue(oldest);
                expected.rotate_left(1);
            }
            assert!(queue.iter().eq(expected.iter().copied()));
            #[cfg(feature = "__validate")]
            queue.validate();
        }
    }
}
