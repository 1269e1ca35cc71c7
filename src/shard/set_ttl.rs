//! Giving an entry another time to live.

use std::time::Duration;

use equivalent::Equivalent;

use super::{Departed, Shard, Writer};
use crate::clock::Nanos;
use crate::entries::Slot;
use crate::policy::lifetime::in_nanos;

impl<K, V> Shard<K, V> {
    /// Gives the live entry of `key` another time to live from `now` on, which is no use of it; returns its
    /// deadline. One that is over at once takes the entry out.
    pub(crate) fn set_ttl<Q>(
        &self,
        hash: u64,
        key: &Q,
        ttl: Duration,
        now: Nanos,
        departed: &mut Departed<K, V>,
    ) -> Option<Nanos>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut writer = self.write(Some(now), departed);
        let now = writer.now?;
        let slot = writer.entries().find(hash, key).filter(|slot| !writer.is_expired(*slot))?;
        let deadline = now.saturating_add(in_nanos(ttl));
        if deadline > now {
            writer.set_own_deadline(slot, deadline);
        } else {
            writer.release(slot);
            writer.expire(slot);
        }
        Some(deadline)
    }
}

impl<K, V> Writer<'_, K, V> {
    fn set_own_deadline(&mut self, slot: Slot, deadline: Nanos) {
        self.state.order.expiry.remove(slot);
        self.entries().set_own_deadline(slot, deadline);
        self.file(slot);
    }
}
