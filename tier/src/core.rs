//! What the handles of a cache and its driver share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, Lifetime};

use crate::codec::Codec;
use crate::figures::Counters;
use crate::key::Key;
use crate::link::Link;
use crate::store::{Instance, Lease, Session, Space, Store, StoreError};
use crate::timer::Timer;
use crate::trace;
use crate::waits::Waits;

pub(crate) struct Core<V> {
    pub(crate) store: Box<dyn Store>,
    pub(crate) space: Space,
    pub(crate) instance: Instance,
    pub(crate) codec: Box<dyn Codec<V>>,
    pub(crate) timer: Timer,
    pub(crate) local: AsyncLru<Key, V>,
    pub(crate) times: Times,
    pub(crate) cut_off: CutOff,
    pub(crate) most_pending: usize,
    pub(crate) link: Link,
    pub(crate) waits: Waits,
    pub(crate) counters: Counters,
    /// Held by the driver that runs.
    pub(crate) driving: async_lock::Mutex<()>,
}

/// What handles and guards of writes hold: the driver ends with the last.
pub(crate) struct Alive<V>(pub(crate) Arc<Core<V>>);

impl<V> Drop for Alive<V> {
    fn drop(&mut self) {
        self.0.link.close();
    }
}

/// How long everything takes and holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// How long a value lives in the store.
    pub(crate) ttl: Duration,
    /// How long what was loaded without the store is kept.
    pub(crate) alone: Duration,
    pub(crate) lease: Duration,
    /// How long an operation of the store may take.
    pub(crate) operation: Duration,
    pub(crate) heartbeat: Duration,
    /// How long a value is fresh, from its put into the store.
    pub(crate) fresh: Option<Duration>,
    /// The local cache's own.
    pub(crate) local_ttl: Option<Duration>,
    pub(crate) retry: Duration,
    /// The largest part by which lifetimes are shortened.
    pub(crate) jitter: f64,
}

/// What a lost link means for what the local cache has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutOff {
    /// It is gone, as nobody knows what is still true; and once more when the link is there again.
    #[default]
    Clear,
    /// It is served for [`ttl_alone`](crate::Builder::ttl_alone) at most, as what is loaded meanwhile.
    Keep,
}

impl Times {
    /// How long a value that is put now lives in the store: shortened at random, if so set, that what was
    /// loaded together does not end together.
    pub(crate) fn ttl_of_put(&self) -> Duration {
        let span = self.fresh.unwrap_or(self.ttl).min(self.ttl);
        self.ttl - span.mul_f64(self.jitter * fastrand::f64())
    }

    /// A value is stale that has this left, or less.
    pub(crate) fn stale_below(&self) -> Duration {
        self.fresh.map_or(Duration::ZERO, |fresh| self.ttl.saturating_sub(fresh))
    }

    /// The lifetime of a local entry whose value has `left` in the store.
    pub(crate) fn local(&self, left: Duration) -> Lifetime {
        let lifetime = self.at_most(left);
        match self.fresh {
            None => lifetime,
            Some(_) => lifetime.fresh_for(left.saturating_sub(self.stale_below())),
        }
    }

    /// That of a value that is stale, but not this instance's to load.
    pub(crate) fn local_stale(&self, left: Duration) -> Lifetime {
        self.at_most(left).fresh_for(self.retry)
    }

    /// That of a value that was loaded without the store.
    pub(crate) fn local_alone(&self) -> Lifetime {
        self.at_most(self.alone.min(self.ttl))
    }

    /// `ttl`, or the local cache's own if that is shorter.
    fn at_most(&self, ttl: Duration) -> Lifetime {
        Lifetime::new(self.local_ttl.map_or(ttl, |own| own.min(ttl)))
    }
}

impl<V> Core<V> {
    /// Asks `session` something, in the time that it has for it, and takes note of how it went.
    pub(crate) async fn ask<T>(
        &self,
        session: &Arc<dyn Session>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = self.timer.bounded(self.times.operation, call).await;
        match &result {
            Ok(_) => self.link.answered(),
            Err(error) => {
                self.store_failed(error);
                if self.link.failed(session, error) {
                    self.counters.breaker_opened.add(1);
                }
            }
        }
        result
    }

    /// Counts and tells of a failure of the store.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        self.take_note(error);
        trace::store_failed(&self.space, error);
    }

    /// The same for one that kept the driver from connecting, the first or one more.
    pub(crate) fn connect_failed(&self, error: &StoreError, has_failed_before: bool) {
        self.take_note(error);
        trace::connect_failed(&self.space, error, has_failed_before);
    }

    fn take_note(&self, error: &StoreError) {
        self.counters.failed(error);
        self.link.note(error.kind());
    }

    /// The time since `earlier`, by the local cache's clock.
    pub(crate) fn since(&self, earlier: Duration) -> Duration {
        self.local.now().saturating_sub(earlier)
    }

    /// Puts values; gives the lifetime in the local cache of each that the store keeps.
    pub(crate) async fn put(
        &self,
        session: &Arc<dyn Session>,
        lease: Lease,
        values: &[(Key, Vec<u8>)],
    ) -> Result<Vec<Option<Lifetime>>, StoreError> {
        let ttl = self.times.ttl_of_put();
        let asked = self.local.now();
        let kept = self.ask(session, session.put(lease, values, ttl)).await?;
        let lifetime = self.times.local(ttl.saturating_sub(self.since(asked)));
        self.counters.puts.add(kept.iter().filter(|&&kept| kept).count());
        Ok(kept.into_iter().map(|kept| kept.then_some(lifetime)).collect())
    }
}

/// A lease that no other call has.
pub(crate) fn new_lease() -> Lease {
    Lease(fastrand::u64(..))
}

impl<V> fmt::Debug for Core<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("space", &self.space).finish_non_exhaustive()
    }
}
