//! Until when entries live and are fresh, by slot.

use std::sync::atomic::Ordering;

use super::freshness::{Age, Claim, Fresh, Freshness};
use super::{Deadlines, Entries, Slot, set};
use crate::clock::{NEVER, Nanos, Now};

impl<K, V> Entries<K, V> {
    /// Tells whether the entry's time is over at `now`.
    #[inline]
    pub(crate) fn is_expired(&self, slot: Slot, now: Nanos) -> bool {
        self.deadline(slot) <= now
    }

    /// When the entry expires: [`NEVER`] if it does not.
    #[inline]
    pub(crate) fn deadline(&self, slot: Slot) -> Nanos {
        let slot = slot as usize;
        let deadline = self.deadlines.get(slot).copied().unwrap_or(NEVER);
        match self.idle_deadlines.get(slot) {
            Some(idle) => deadline.min(idle.load(Ordering::Relaxed)),
            None => deadline,
        }
    }

    /// When the entry expires, used or not.
    pub(crate) fn deadlines(&self, slot: Slot) -> Deadlines {
        let slot = slot as usize;
        let idle = self.idle_deadlines.get(slot);
        Deadlines {
            fixed: self.deadlines.get(slot).copied().unwrap_or(NEVER),
            idle: idle.map_or(NEVER, |idle| idle.load(Ordering::Relaxed)),
            fresh: self.freshness(slot as Slot),
        }
    }

    /// Until when the entry is fresh, or what has become of it since.
    pub(crate) fn freshness(&self, slot: Slot) -> Freshness {
        self.freshness.get(slot as usize).map_or(Freshness::Endless, Fresh::get)
    }

    /// Tells how old the entry is, for a reader, who claims its refresh if that is due and it wants to.
    #[inline]
    pub(crate) fn age(&self, slot: Slot, now: Option<Now<'_>>, claim: Claim) -> Age {
        let Some(now) = now else { return Age::Fresh };
        self.freshness.get(slot as usize).map_or(Age::Fresh, |fresh| fresh.age(now, claim))
    }

    /// Has a stale entry refreshed no sooner than it is `due`.
    pub(crate) fn let_alone(&mut self, slot: Slot, now: Now<'_>, due: Freshness) {
        match self.freshness(slot) {
            Freshness::Until(time) if !now.has_reached(time) => {}
            Freshness::Endless => {}
            _ => self.set_freshness(slot, due),
        }
    }

    /// Notes how it stands with the refresh of an entry that is kept fresh.
    pub(crate) fn set_freshness(&mut self, slot: Slot, freshness: Freshness) {
        if let Some(fresh) = self.freshness.get(slot as usize) {
            fresh.set(freshness);
        }
    }

    /// Tells whether a call has given the entry a lifetime of its own.
    pub(crate) fn has_own_lifetime(&self, slot: Slot) -> bool {
        self.entries[slot as usize].has_own_lifetime
    }

    /// Gives the entry a lifetime of its own that ends at `deadline`.
    pub(crate) fn set_own_deadline(&mut self, slot: Slot, deadline: Nanos) {
        set(&mut self.deadlines, slot as usize, deadline, || NEVER);
        self.entries[slot as usize].has_own_lifetime = true;
    }

    /// Tells whether entries may expire.
    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty() || !self.idle_deadlines.is_empty()
    }

    /// Tells whether the deadlines of entries may be put off.
    pub(crate) fn has_idle_deadlines(&self) -> bool {
        !self.idle_deadlines.is_empty()
    }

    /// Puts off when the entry expires unless it is used; a reader may.
    pub(crate) fn put_off(&self, slot: Slot, idle_deadline: Nanos) {
        if let Some(current) = self.idle_deadlines.get(slot as usize) {
            if current.load(Ordering::Relaxed) < idle_deadline {
                current.store(idle_deadline, Ordering::Relaxed);
            }
        }
    }
}
