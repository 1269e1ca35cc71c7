//! Gives an entry another time to live.

use std::time::Duration;

use equivalent::Equivalent;

use super::writer::Writer;
use crate::clock::{Nanos, in_nanos};

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
        if deadline > now {
            self.state.order.expiry.remove(slot);
            self.entries().set_own_deadline(slot, deadline);
            self.file(slot);
        } else {
            self.release(slot);
            self.expire(slot);
        }
        Some(deadline)
    }
}
