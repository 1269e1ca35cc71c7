//! Knows when the next entry expires, and tells those who wait for that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::{NEVER, Nanos};
use crate::shard::departed::Departed;
use crate::sync::AtomicU64;
use crate::sync::notify::Notify;

pub(super) struct Alarm {
    /// No entry of any shard expires before this time. Spares a full cache the search for an expired
    /// entry in all shards before every eviction.
    soonest: AtomicU64,
    /// Notifies of an entry that expires before all others, and of the end of the cache.
    notify: Arc<Notify>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { soonest: AtomicU64::new(NEVER), notify: Arc::default() }
    }

    /// Returns what notifies of an entry that expires before all others, and of the end of the cache.
    pub(super) fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.notify)
    }

    /// Tells whether an entry may have expired by `now`.
    #[inline]
    pub(super) fn may_be_due(&self, now: Nanos) -> bool {
        now >= self.soonest.load(Ordering::Relaxed)
    }

    /// Notes that an entry expires at `deadline`, and has those told who wait for the first to expire.
    /// They are woken with what the call drops: a waker is the user's code, and may panic.
    #[inline]
    pub(super) fn expect<K, V>(&self, deadline: Nanos, departed: &mut Departed<K, V>) {
        if deadline < self.soonest.load(Ordering::Relaxed) {
            self.expect_sooner(deadline, departed);
        }
    }

    #[cold]
    fn expect_sooner<K, V>(&self, deadline: Nanos, departed: &mut Departed<K, V>) {
        // In one order with the first look of whoever listens: either that undoes this, and so does
        // not keep a later entry from notifying, or this notifies of it.
        self.soonest.fetch_min(deadline, Ordering::SeqCst);
        if self.notify.has_listeners() {
            departed.notify(&self.notify);
        }
    }

    /// Forgets what it knows before a look at all shards: an entry that is added to a shard after the look
    /// at that brings its deadline in by itself.
    pub(super) fn forget(&self) {
        self.soonest.store(NEVER, Ordering::SeqCst);
    }

    /// Notes what a look at all shards has found.
    pub(super) fn remember(&self, soonest: Nanos) {
        self.soonest.fetch_min(soonest, Ordering::Relaxed);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.notify.notify_all();
    }
}
