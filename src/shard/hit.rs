//! Hits: the use of an entry that is there, under the lock, or while nobody writes, by a pin.

use std::sync::atomic::Ordering;

use equivalent::Equivalent;

use super::Shard;
use super::state::State;
use crate::clock::Now;
use crate::entries::freshness::{Age, Claim};
use crate::entries::{Entries, Slot};
use crate::sync::Locked;
use crate::sync::counters::Event;
use crate::sync::desk::{Notes, Pin};
use crate::sync::threads;

/// Whether a use is a hit of a call, or of one that was counted otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Hit,
    Uncounted,
}

/// A value that was found, and how old it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<V> {
    pub(crate) value: V,
    pub(crate) age: Age,
}

impl<K, V> Shard<K, V> {
    /// Tells whether the thread may have a pin.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Relaxed)
    }

    /// Returns the live value of `key` under the lock, as a hit.
    #[inline(never)]
    pub(crate) fn get_locked<Q>(
        &self,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
        claim: Claim,
    ) -> Option<Found<V>>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let state = &mut *self.lock();
        let slot = self.find_live(&state.entries, hash, key, now)?;
        let value = self.hit(state, slot, now, Use::Hit);
        Some(self.found(value, state.entries.age(slot, now, claim), Use::Hit))
    }

    /// Counts the value that was found, if it is stale and the use a hit.
    pub(super) fn found(&self, value: V, age: Age, of: Use) -> Found<V> {
        if age != Age::Fresh && of == Use::Hit {
            self.common.counters.count(Event::StaleHit);
        }
        Found { value, age }
    }

    /// Returns the live value of `key` by a pin of the shard, as a hit.
    #[inline(always)]
    pub(crate) fn get_pinned<Q>(
        &self,
        mut pin: Locked<'_, Pin<Entries<K, V>>>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let (entries, notes) = pin.read()?;
        let slot = self.find_live(entries, hash, key, now)?;
        self.use_pinned(entries, notes, slot, now)
    }

    /// Uses the entry in `slot`, which is alive, by a pin.
    #[inline(always)]
    fn use_pinned(
        &self,
        entries: &Entries<K, V>,
        notes: Notes<'_>,
        slot: Slot,
        now: Option<Now<'_>>,
    ) -> Option<V>
    where
        V: Clone,
    {
        let entry = entries.entry(slot);
        let value = entry.value.clone();
        if let Some(Now::Using { idle_deadline, .. }) = now {
            entries.put_off(slot, idle_deadline);
        }
        entries.note(notes, slot, entry)?;
        Some(value)
    }

    /// The same where entries are kept fresh, and how old the value is.
    #[inline(never)]
    pub(crate) fn get_pinned_fresh<Q>(
        &self,
        mut pin: Locked<'_, Pin<Entries<K, V>>>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
        claim: Claim,
    ) -> Option<Found<V>>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let (entries, notes) = pin.read()?;
        let slot = self.find_live(entries, hash, key, now)?;
        let value = self.use_pinned(entries, notes, slot, now)?;
        Some(self.found(value, entries.age(slot, now, claim), Use::Hit))
    }

    /// The same where entries expire, compiled apart: other caches have no use for the code.
    #[inline(never)]
    pub(crate) fn get_pinned_alive<Q>(
        &self,
        pin: Locked<'_, Pin<Entries<K, V>>>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.get_pinned(pin, hash, key, now)
    }

    /// Uses the entry in `slot`, which is alive, under the lock.
    #[inline(always)]
    pub(super) fn hit(
        &self,
        state: &mut State<K, V>,
        slot: Slot,
        now: Option<Now<'_>>,
        of: Use,
    ) -> V
    where
        V: Clone,
    {
        // Before anything is changed: a clone may panic.
        let value = state.entries.value(slot).clone();
        if let Some(Now::Using { idle_deadline, .. }) = now {
            state.entries.put_off(slot, idle_deadline);
        }
        if state.entries.is_shared() {
            if of == Use::Hit && self.hit_quiet(state, slot) {
                return value;
            }
            self.take_back(state);
        }
        let entries = state.entries.owned();
        match of {
            Use::Hit => entries.touch(slot),
            Use::Uncounted => entries.touch_uncounted(slot),
        }
        if entries.epoch() >= state.quiet_at {
            self.pin(state);
        }
        value
    }

    /// Records the use where others may read by their pins: the thread gets one as well, if it can.
    #[cold]
    fn hit_quiet(&self, state: &mut State<K, V>, slot: Slot) -> bool {
        if !self.pin(state) {
            return false;
        }
        let pin = self.common.desks.try_pin(threads::number(), self.number());
        let Some(mut pin) = pin else { return false };
        let Some((entries, notes)) = pin.read() else { return false };
        entries.note(notes, slot, entries.entry(slot)).is_some()
    }

    /// Has the thread read by a pin from now on; `false` if it cannot.
    #[cold]
    fn pin(&self, state: &mut State<K, V>) -> bool {
        let slots = state.entries.slots();
        let pins = state.entries.pin(&self.common.desks, self.number(), threads::number(), slots);
        if pins {
            self.is_quiet.store(true, Ordering::Relaxed);
        } else {
            state.note_write();
        }
        pins
    }

    /// Uses that were hits, ever.
    pub(crate) fn hits(&self) -> u64 {
        let state = self.lock();
        state.entries.hits() + self.common.desks.reads(self.number())
    }

    #[inline(always)]
    pub(super) fn find_live<Q>(
        &self,
        entries: &Entries<K, V>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let slot = entries.find(hash, key)?;
        match now {
            Some(now) if self.is_expired(entries, slot, now) => None,
            _ => Some(slot),
        }
    }
}
