//! What all shards of a cache share: how many entries it may hold, and the counts of what happened.

use std::sync::atomic::Ordering;

use crate::counters::Counters;
use crate::sync::AtomicUsize;

/// The bound of the cache and its counters.
///
/// The bound is one for all shards, so that no shard evicts while another has room.
pub(crate) struct Ledger {
    maxsize: usize,
    /// Entries, and rooms that are held for an entry on its way in.
    taken: AtomicUsize,
    pub(crate) counters: Counters,
}

impl Ledger {
    pub(crate) fn new(maxsize: usize) -> Self {
        Self { maxsize, taken: AtomicUsize::new(0), counters: Counters::new() }
    }

    pub(crate) fn maxsize(&self) -> usize {
        self.maxsize
    }

    pub(crate) fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many more entries there is room for.
    pub(crate) fn room(&self) -> usize {
        self.maxsize.saturating_sub(self.len())
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.maxsize
    }

    /// Takes a room if there is one. In a full cache, the usual case, only a load.
    #[inline]
    pub(crate) fn reserve(&self) -> Option<Room<'_>> {
        let more = |taken| (taken < self.maxsize).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { ledger: self })
    }

    /// The room of an entry that was just taken out, for another.
    #[inline]
    pub(crate) fn inherit(&self) -> Room<'_> {
        Room { ledger: self }
    }

    /// Gives back the rooms of `entries` that were taken out.
    #[inline]
    pub(crate) fn release(&self, entries: usize) {
        self.taken.fetch_sub(entries, Ordering::Relaxed);
    }
}

/// The right to add one entry; given back when dropped.
pub(crate) struct Room<'a> {
    ledger: &'a Ledger,
}

impl Room<'_> {
    /// Hands the room to an entry that is in now.
    #[inline]
    pub(crate) fn fill(self) {
        std::mem::forget(self);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.ledger.release(1);
    }
}
