//! Where the cache's time comes from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A source of monotonic time.
///
/// The cache asks it only when it was built with a [`ttl`](crate::Builder::ttl), never while it holds
/// a lock, and may ask from several threads at once. A clock that stands still keeps entries alive;
/// one that steps back revives none that the cache has already seen expired. A panic of the clock
/// reaches the caller of the cache and leaves the cache as it was.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, Clock};
/// use std::time::Duration;
///
/// /// A clock that never moves.
/// struct Frozen;
///
/// impl Clock for Frozen {
///     fn now(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
///
/// let cache = AsyncLru::<u32, u32>::builder().ttl(Duration::from_nanos(1)).clock(Frozen).build();
/// cache.insert_blocking(1, 10);
/// assert_eq!(cache.get(&1), Some(10));
/// ```
pub trait Clock: Send + Sync + 'static {
    /// Returns the time since a fixed origin of the clock's own choosing.
    ///
    /// Times beyond 2^64 - 2 nanoseconds (584 years) count as that.
    fn now(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Duration {
        (**self).now()
    }
}

/// The operating system's monotonic clock; what a cache uses unless it is given another.
///
/// # Examples
///
/// ```
/// use async_lru::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// let earlier = clock.now();
/// assert!(clock.now() >= earlier);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Creates a clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        // Saturates where a platform's clock is not as monotonic as it should be.
        self.origin.elapsed()
    }
}

/// A clock that moves only when it is told to, for tests that must not sleep.
///
/// A clone is another handle to the same time.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let cache = AsyncLru::<u32, u32>::builder()
///     .ttl(Duration::from_secs(60))
///     .clock(clock.clone())
///     .build();
///
/// cache.insert_blocking(1, 10);
/// clock.advance(Duration::from_secs(59));
/// assert_eq!(cache.get(&1), Some(10));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(cache.get(&1), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// Creates a clock that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward by `step`; it stops at the latest time that it can show.
    pub fn advance(&self, step: Duration) {
        let step = nanos(step);
        let moved = |now: u64| Some(now.saturating_add(step));
        // The closure never declines, so there is no error to handle.
        let _ = self.nanos.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
    }

    /// Sets the clock to `time` since its origin, which may be a step back.
    pub fn set(&self, time: Duration) {
        self.nanos.store(nanos(time), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}

/// A point in time, in nanoseconds since the clock's origin.
pub(crate) type Nanos = u64;

/// The deadline of an entry that lives for ever: later than any time a clock can show.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// Converts to nanoseconds; what does not fit is the largest time, just short of [`NEVER`].
pub(crate) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).map_or(NEVER - 1, |nanos| nanos.min(NEVER - 1))
}

/// How long entries live, and the clock that says so.
#[derive(Clone)]
pub(crate) struct Lifetime {
    ttl: Duration,
    clock: Option<Arc<dyn Clock>>,
    /// The default clock, inline: a hit must not pay for a virtual call.
    system: SystemClock,
}

impl Lifetime {
    pub(crate) fn new(ttl: Duration, clock: Option<Arc<dyn Clock>>) -> Self {
        Self { ttl, clock, system: SystemClock::new() }
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Reads the clock. Calls user code: never under a lock.
    pub(crate) fn now(&self) -> Nanos {
        nanos(match &self.clock {
            None => self.system.now(),
            Some(clock) => clock.now(),
        })
    }

    /// When an entry published at `now` is gone.
    pub(crate) fn deadline(&self, now: Nanos) -> Nanos {
        let ttl = Nanos::try_from(self.ttl.as_nanos()).unwrap_or(NEVER);
        now.saturating_add(ttl)
    }
}

impl fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetime").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
