//! Looking at entries without using them: at one, at all of a shard, or at how long one has left.

use std::ops::Range;
use std::time::Duration;

use equivalent::Equivalent;

use super::Shard;
use crate::clock::{NEVER, Nanos, Now};
use crate::entries::{Deadlines, Entries, Entry, Slot, Stamp};
use crate::policy::lifetime::Left;
use crate::sync::threads;

/// More slots than there are.
pub(crate) const EVERY_SLOT: Range<usize> = 0..usize::MAX;

/// The size of a shard: what it holds, and what it takes.
pub(crate) struct Size {
    pub(crate) entries: usize,
    pub(crate) flights: usize,
    /// Sum of the entries' measured bytes.
    pub(crate) measured: u128,
    /// Bytes that the shard has allocated.
    pub(crate) allocated: usize,
}

/// A live entry.
pub(crate) struct Live<'a, K, V> {
    pub(crate) slot: Slot,
    pub(crate) stamp: Stamp,
    /// Those of a cache that does not use time are [`NEVER`](crate::clock::NEVER).
    deadlines: Deadlines,
    has_own_lifetime: bool,
    pub(crate) entry: &'a Entry<K, V>,
}

impl<K, V> Live<'_, K, V> {
    /// How long the entry has left at `now`.
    fn left(&self, now: Option<Nanos>) -> Left {
        let duration = |deadline| match time_left(deadline, now) {
            NEVER => None,
            left => Some(Duration::from_nanos(left)),
        };
        let Deadlines { fixed, idle, fresh } = self.deadlines;
        let fresh = match now.map_or(NEVER, |now| fresh.left(now)) {
            NEVER => None,
            left => Some(Duration::from_nanos(left)),
        };
        Left { time: duration(fixed), idle: duration(idle), fresh, is_own: self.has_own_lifetime }
    }
}

/// A copy of an entry.
pub(crate) struct Copied<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) left: Left,
}

impl<K, V> Shard<K, V> {
    /// Lets `look` at the live value of `key`, without counting that as a use.
    pub(crate) fn peek<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
        look: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.read(|entries| {
            let slot = self.find_live(entries, hash, key, now)?;
            Some(look(entries.value(slot)))
        })
    }

    /// Adds the live keys to `keys`, least recently used first.
    pub(crate) fn keys_into(&self, keys: &mut Vec<K>, now: Option<Now<'_>>)
    where
        K: Clone,
    {
        let mut found: Vec<(Stamp, K)> = Vec::new();
        self.each_live(EVERY_SLOT, now, |live| found.push((live.stamp, live.entry.key.clone())));
        found.sort_by_key(|(stamp, _)| *stamp);
        keys.extend(found.into_iter().map(|(_, key)| key));
    }

    /// Lets `look` at the entries: by the thread's pin, or else under the lock.
    fn read<R>(&self, look: impl FnOnce(&Entries<K, V>) -> R) -> R {
        if self.is_quiet() {
            let pin = self.common.desks.try_pin(threads::number(), self.number());
            if let Some(entries) = pin.as_ref().and_then(|pin| pin.get()) {
                return look(entries);
            }
        }
        look(&self.lock().entries)
    }

    /// Returns what the shard holds and takes.
    pub(crate) fn size(&self) -> Size {
        let state = self.lock();
        Size {
            entries: state.entries.len(),
            flights: state.entries.flights(),
            measured: state.entries.total_bytes(),
            allocated: state.heap_size(),
        }
    }

    /// A time before which no entry expires: [`NEVER`](crate::clock::NEVER) if none ever does.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let state = self.lock();
        state.order.expiry.soonest(|slot| state.entries.deadline(slot))
    }

    /// Lets `look` at the live entries in these slots, in no order.
    ///
    /// It runs under the lock and may clone keys and values; where it puts the clones is the caller's,
    /// so that a panic drops them after the lock is released. One clone at a time must be on its way
    /// there.
    ///
    /// By the lock and not by a pin, for this takes longer than a hit, and who waits for a lock sleeps. What
    /// readers have noted of their uses is asked for first.
    pub(crate) fn each_live(
        &self,
        slots: Range<usize>,
        now: Option<Now<'_>>,
        mut look: impl FnMut(Live<'_, K, V>),
    ) {
        let mut state = self.lock();
        if state.entries.is_shared() {
            self.take_back(&mut state);
        }
        let entries = &*state.entries;
        for (slot, stamp, entry) in entries.iter(slots) {
            if now.is_some_and(|now| self.is_expired(entries, slot, now)) {
                continue;
            }
            let deadlines = now.map_or(Deadlines::NONE, |_| entries.deadlines(slot));
            let has_own_lifetime = entries.has_own_lifetime(slot);
            look(Live { slot, stamp, deadlines, has_own_lifetime, entry });
        }
    }

    /// Copies all live entries, least recently used first.
    pub(crate) fn copies(&self, now: Option<Nanos>) -> Vec<Copied<K, V>>
    where
        K: Clone,
        V: Clone,
    {
        let now = now.map(|now| self.clock.as_of(now));
        let mut keys = Vec::new();
        let mut rest = Vec::new();
        self.each_live(EVERY_SLOT, now.map(Now::Exactly), |live| {
            keys.push(live.entry.key.clone());
            rest.push((live.stamp, live.entry.value.clone(), live.left(now)));
        });
        let mut found: Vec<_> = keys.into_iter().zip(rest).collect();
        found.sort_by_key(|(_, (stamp, ..))| *stamp);
        let copied = |(key, (_, value, left))| Copied { key, value, left };
        found.into_iter().map(copied).collect()
    }

    /// How long the live entry of `key` has left; [`NEVER`] if there is no end to it.
    pub(crate) fn time_left<Q>(&self, hash: u64, key: &Q, now: Option<Nanos>) -> Option<Nanos>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let now = now.map(|now| self.clock.as_of(now));
        self.read(|entries| {
            let slot = self.find_live(entries, hash, key, now.map(Now::Exactly))?;
            Some(now.map_or(NEVER, |now| time_left(entries.deadline(slot), Some(now))))
        })
    }
}

/// How long an entry has left that is alive at `now`.
fn time_left(deadline: Nanos, now: Option<Nanos>) -> Nanos {
    match (deadline, now) {
        (NEVER, _) | (_, None) => NEVER,
        (deadline, Some(now)) => deadline - now,
    }
}
