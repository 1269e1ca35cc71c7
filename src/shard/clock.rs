//! The time as one shard knows it: for it, time does not step back, whatever the clock does.

use std::sync::atomic::Ordering;

use crate::clock::{Nanos, Now};
use crate::sync::AtomicU64;

#[derive(Default)]
pub(super) struct ShardClock {
    /// The latest time at which an entry was written or seen expired here.
    latest: AtomicU64,
}

impl ShardClock {
    fn latest(&self) -> Nanos {
        self.latest.load(Ordering::Relaxed)
    }

    /// Corrects a reading of the clock by what the shard knows of the time.
    pub(super) fn as_of(&self, now: Nanos) -> Nanos {
        now.max(self.latest())
    }

    /// Does the same, and has the shard know that time too. The caller has the right to write.
    pub(super) fn settle(&self, now: Nanos) -> Nanos {
        let latest = self.as_of(now);
        self.latest.store(latest, Ordering::Relaxed);
        latest
    }

    /// Tells whether a deadline has passed for a reader, and from then on it has for everybody: nobody may
    /// see an entry alive again if the clock steps back. What has passed is noted in `last_expiry` too.
    pub(super) fn has_passed(
        &self,
        deadline: Nanos,
        now: Now<'_>,
        last_expiry: &AtomicU64,
    ) -> bool {
        let is_known = deadline <= self.latest();
        if !is_known && now.has_reached(deadline) {
            self.latest.fetch_max(deadline, Ordering::Relaxed);
            last_expiry.fetch_max(deadline, Ordering::Relaxed);
            return true;
        }
        is_known
    }
}
