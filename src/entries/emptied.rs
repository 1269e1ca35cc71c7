//! The entries of a shard that was emptied, taken out of what is left of it step by step.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::entries::{Entries, Entry, Slot, Stamp};

/// How many slots one step looks at.
const STEP: usize = 64;

/// Entries that nobody can find any more.
pub(crate) struct Emptied<K, V> {
    entries: Entries<K, V>,
    /// The first slot that was not looked at yet.
    next: usize,
    /// The slots that were, in the order of their last use.
    by_use: BinaryHeap<Reverse<(Stamp, Slot)>>,
}

/// The outcome of one step.
pub(crate) enum Next<K, V> {
    Entry(Entry<K, V>),
    /// It takes more steps to know which entry is the next.
    Unknown,
    End,
}

impl<K, V> Emptied<K, V> {
    /// Gives the entries out least recently used first.
    pub(crate) fn by_use(entries: Entries<K, V>) -> Self {
        Self { entries, next: 0, by_use: BinaryHeap::new() }
    }

    /// Takes one step.
    pub(crate) fn next(&mut self) -> Next<K, V> {
        if self.next < self.entries.slots() {
            let slots = self.next..self.next + STEP;
            self.next = slots.end;
            let by_use = self.entries.iter(slots).map(|(slot, stamp, _)| Reverse((stamp, slot)));
            self.by_use.extend(by_use);
            return Next::Unknown;
        }
        match self.by_use.pop() {
            Some(Reverse((_, slot))) => {
                Next::Entry(self.entries.vacate(slot).expect("it was there"))
            }
            None => Next::End,
        }
    }

    /// Drops some entries in no order; returns how many.
    pub(crate) fn drop_some(&mut self) -> usize {
        let before = self.entries.len();
        let slots = self.next..(self.next + STEP).min(self.entries.slots());
        self.next = slots.end;
        for slot in slots {
            drop(self.entries.vacate(slot as Slot));
        }
        before - self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
