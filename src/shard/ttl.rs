//! Gives entries another time to live.

use std::time::Duration;

use equivalent::Equivalent;

use super::Shard;
use super::departed::Departed;
use super::watch::Position;
use super::writer::Writer;
use crate::clock::{Nanos, in_nanos};
use crate::entries::Slot;

/// How far all entries of a shard have been limited.
pub(crate) struct Limited {
    /// How many slots were looked at.
    pub(crate) looked_at: usize,
    /// How many entries end sooner by it.
    pub(crate) shortened: usize,
    /// Where to go on; `None` if those were the last.
    pub(crate) next: Option<Position>,
}

impl<K, V> Shard<K, V> {
    /// Keeps what all flights and guards bring out of the cache, and returns the time as the shard knows it.
    pub(crate) fn fence_all(&self, now: Nanos) -> Nanos {
        let mut departed = Departed::default();
        let mut writer = self.write(Some(now), &mut departed);
        writer.entries().fence_all();
        writer.state.guards.disturb_all();
        writer.now.unwrap_or(now)
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Gives the live entry of `key` another time to live from now on, which is no use of it; returns its
    /// deadline. One that is over at once takes the entry out.
    pub(crate) fn set_ttl<Q>(&mut self, hash: u64, key: &Q, ttl: Duration) -> Option<Nanos>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let now = self.now?;
        let slot = self.entries().find(hash, key).filter(|slot| !self.is_expired(*slot))?;
        let deadline = now.saturating_add(in_nanos(ttl));
        self.set_deadline(slot, deadline);
        Some(deadline)
    }

    /// Has the live entries in some slots, from `position` on, end at `deadline` unless they do so before, used
    /// or not. If that has come, takes them out.
    pub(crate) fn limit_ttl(&mut self, position: Position, deadline: Nanos) -> Limited {
        const MANY: usize = 256;
        let (generation, slots) = (self.state.generation, self.state.entries.slots());
        let first = position.first(generation).min(slots);
        let end = slots.min(first + MANY);
        let mut shortened = 0;
        for slot in first as Slot..end as Slot {
            let entries = &self.state.entries;
            let ends_later = entries.is_in_use(slot) && entries.deadlines(slot).fixed > deadline;
            if ends_later && !self.is_expired(slot) {
                self.set_deadline(slot, deadline);
                shortened += 1;
            }
        }
        let next = (end < slots).then(|| Position::new(generation, end));
        Limited { looked_at: end - first, shortened, next }
    }

    /// Gives the entry in `slot` a lifetime of its own, or takes it out if that is over.
    fn set_deadline(&mut self, slot: Slot, deadline: Nanos) {
        if self.now.is_none_or(|now| deadline > now) {
            self.state.order.expiry.remove(slot);
            self.entries().set_own_deadline(slot, deadline);
            self.file(slot);
        } else {
            self.release(slot);
            self.expire(slot);
        }
    }
}
