//! Notes which slots of a shard are written, for those who look at entries while the shard is not locked.
//!
//! A stamp does not tell, for reads move it as well, and a number of its own for each entry would be
//! paid for by all entries all the time. So who needs to know names a few slots beforehand, and writers
//! note what they put there. While nobody does, that costs a write a look at an empty list.

use crate::entries::Slot;

/// How many slots one watch sees.
pub(super) const WATCHED: usize = u64::BITS as usize;

/// Those who watch slots of a shard.
#[derive(Default)]
pub(super) struct Watchers {
    /// Mostly nobody, who takes no memory.
    all: Vec<Watcher>,
    next_number: u64,
}

pub(super) struct Watcher {
    number: u64,
    first: Slot,
    /// A bit for each slot from the first on that was written.
    written: u64,
}

impl Watcher {
    fn bit(&self, slot: Slot) -> u64 {
        slot.checked_sub(self.first).and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
    }

    pub(super) fn has_seen(&self, slot: Slot) -> bool {
        self.written & self.bit(slot) != 0
    }
}

impl Watchers {
    /// Notes that another entry is in `slot` now.
    #[inline]
    pub(super) fn note(&mut self, slot: Slot) {
        for watcher in &mut self.all {
            watcher.written |= watcher.bit(slot);
        }
    }

    /// Notes that there may be another entry in every slot.
    pub(super) fn note_all(&mut self) {
        for watcher in &mut self.all {
            watcher.written = u64::MAX;
        }
    }

    pub(super) fn add(&mut self, first: Slot) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.all.push(Watcher { number, first, written: 0 });
        number
    }

    pub(super) fn get(&self, number: u64) -> &Watcher {
        let watcher = self.all.iter().find(|watcher| watcher.number == number);
        watcher.expect("a watcher stays until it leaves")
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.all.retain(|watcher| watcher.number != number);
        if self.all.is_empty() {
            self.all = Vec::new();
        }
    }
}

#[cfg(feature = "__validate")]
impl Watchers {
    /// Asserts that nobody watches any more.
    pub(super) fn validate(&self) {
        assert!(self.all.is_empty(), "{} watches outlive their calls", self.all.len());
    }
}
