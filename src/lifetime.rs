//! How long an entry lives, if a call says so of it alone.

use std::time::Duration;

/// Says how long one entry lives, and how long of that it is fresh, in place of what holds for all entries of
/// the cache.
///
/// A load gives it with its [value](crate::Entry::or_insert_timed) or with
/// [each](crate::Entries::or_insert_timed) of many, and the [guard](crate::WriteGuard::ttl) of a write with the
/// one that it ends with.
///
/// A `Duration` is the same without a fresh time of its own.
///
/// # Examples
///
/// What a server says of its answer, in `Cache-Control: max-age=60, stale-while-revalidate=600`:
///
/// ```
/// use async_lru::{AsyncLru, Lifetime, LookupOutcome, ManualClock};
/// use std::time::Duration;
///
/// let (minute, clock) = (Duration::from_secs(60), ManualClock::new());
/// let pages = AsyncLru::<&str, u32>::builder().fresh_for(10 * minute).clock(clock.clone()).build();
/// let load = async || (1, Lifetime::new(11 * minute).fresh_for(minute));
/// futures_lite::future::block_on(async {
///     assert_eq!(pages.entry("/").or_insert_timed(load).await.outcome, LookupOutcome::Loaded);
///     clock.advance(minute);
///     let renewed = pages.entry("/").or_insert_timed(async || (2, 11 * minute)).await;
///     assert_eq!((renewed.value, renewed.outcome), (2, LookupOutcome::Loaded), "it was stale");
///     clock.advance(minute);
///     let found = pages.entry("/").or_insert_with(async || 3).await;
///     assert_eq!((found.value, found.outcome), (2, LookupOutcome::Hit));
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lifetime {
    ttl: Duration,
    fresh: Option<Duration>,
}

impl Lifetime {
    /// Makes the lifetime of an entry that lives for `ttl`, longer or shorter than the cache's
    /// [`ttl`](crate::Builder::ttl), and is fresh as long as the others of its cache are.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::Lifetime;
    /// use std::time::Duration;
    ///
    /// let minute = Duration::from_secs(60);
    /// assert_eq!(Lifetime::new(minute), Lifetime::from(minute));
    /// assert_eq!((Lifetime::new(minute).ttl(), Lifetime::new(minute).fresh()), (minute, None));
    /// ```
    #[must_use]
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, fresh: None }
    }

    /// Sets how long the entry is fresh, in place of the cache's [`fresh_for`](crate::Builder::fresh_for),
    /// longer or shorter; with zero it is stale from the first.
    ///
    /// Shortened by the [`ttl_jitter`](crate::Builder::ttl_jitter) as that and the time to live are. Has no
    /// effect in a cache that was built without `fresh_for`, whose entries keep no such time.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::Lifetime;
    /// use std::time::Duration;
    ///
    /// let lifetime = Lifetime::new(Duration::from_secs(60)).fresh_for(Duration::from_secs(10));
    /// assert_eq!(lifetime.fresh(), Some(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub const fn fresh_for(self, fresh_for: Duration) -> Self {
        Self { fresh: Some(fresh_for), ..self }
    }

    /// Returns how long the entry lives.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns how long it is fresh; `None` for as long as the others of its cache.
    #[must_use]
    pub const fn fresh(&self) -> Option<Duration> {
        self.fresh
    }
}

impl From<Duration> for Lifetime {
    fn from(ttl: Duration) -> Self {
        Self::new(ttl)
    }
}
