//! Giving an entry another time to live.

use std::time::Duration;

use equivalent::Equivalent;

use super::{Departed, Shard, State};
use crate::clock::Nanos;
use crate::index::Slot;
use crate::ledger::Ledger;
use crate::lifetime::in_nanos;

impl<K, V> Shard<K, V> {
    /// Gives the live entry of `key` another time to live from `now` on, which is no use of it; returns its
    /// deadline. One that is over at once takes the entry out.
    pub(crate) fn set_ttl<Q>(
        &self,
        hash: u64,
        key: &Q,
        ttl: Duration,
        now: Nanos,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> Option<Nanos>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let mut state = self.writable();
        let now = self.settle(now);
        let slot =
            state.index.find(hash, key).filter(|slot| !state.index.is_expired(*slot, now))?;
        let deadline = now.saturating_add(in_nanos(ttl));
        if deadline > now {
            state.set_own_deadline(slot, deadline);
        } else {
            ledger.release(state.cost(slot, ledger));
            state.expire_from(slot, ledger, departed);
        }
        Some(deadline)
    }
}

impl<K, V> State<K, V> {
    fn set_own_deadline(&mut self, slot: Slot, deadline: Nanos) {
        self.order.expiry.remove(slot);
        self.index.get_mut().set_own_deadline(slot, deadline);
        self.file(slot);
    }
}
