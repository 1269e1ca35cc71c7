//! Where the cache's time comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tells a cache the time, which is monotonic.
///
/// The cache asks it if its entries may expire, by [`ttl`](crate::Builder::ttl),
/// [`time_to_idle`](crate::Builder::time_to_idle), [`expiry`](crate::Builder::expiry) or a lifetime that
/// one was [inserted](crate::AsyncLru::insert_with_ttl), [updated](crate::Update::PutFor) or
/// [restored](crate::AsyncLru::restore) with or [given later](crate::AsyncLru::set_ttl), or that all were
/// [limited](crate::AsyncLru::limit_ttl) to; if it is [asked for it](crate::AsyncLru::now); and for the time
/// that a load takes, if that is [recorded](crate::Builder::record_load_time) or traced. Else it never does.
/// It may ask from several threads at once, but never while it holds a lock. A clock that stands still keeps
/// entries alive; one that steps back revives none that the cache has already seen expired. A panic of the
/// clock reaches the caller of the cache and leaves the cache as it was.
///
/// A closure that returns the time is a clock too.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let clock = move || start.elapsed();
/// let cache = AsyncLru::<u32, u32>::builder().ttl(Duration::from_secs(60)).clock(clock).build();
/// cache.insert_blocking(1, 10);
/// assert_eq!(cache.get(&1), Some(10));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no clock for a cache",
    note = "use `SystemClock`, `ManualClock` or a closure that returns a `Duration`, or implement `async_lru::Clock`"
)]
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

impl<F: Fn() -> Duration + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Duration {
        self()
    }
}

/// Tells the time by the operating system's monotonic clock; what a cache uses unless it is given another.
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
    coarse: coarse::CoarseClock,
}

impl SystemClock {
    /// Creates a clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now(), coarse: coarse::CoarseClock::new() }
    }
}

impl SystemClock {
    /// A time that is not over yet, where one can be told at less cost than the exact one.
    #[inline]
    pub(crate) fn at_most(&self) -> Option<Nanos> {
        self.coarse.at_most()
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

/// Tells a time that moves only when it is told to, for tests that must not sleep.
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
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos().into()).min(NEVER - 1)
}

/// A lifetime in nanoseconds; [`NEVER`] if no clock can show its end.
pub(crate) fn in_nanos(lifetime: Duration) -> Nanos {
    Nanos::try_from(lifetime.as_nanos()).unwrap_or(NEVER)
}

/// The time as far as a reader has to know it.
#[derive(Clone, Copy)]
pub(crate) enum Now<'a> {
    Exactly(Nanos),
    /// Exactly too; an entry that is used now lives on until `idle_deadline`.
    Using {
        now: Nanos,
        idle_deadline: Nanos,
    },
    /// Hardly so late: a deadline beyond it is still to come, and for others the clock has to be read.
    AtMost(Nanos, &'a SystemClock),
}

impl Now<'_> {
    /// Tells whether `deadline` has come.
    #[inline]
    pub(crate) fn has_reached(self, deadline: Nanos) -> bool {
        match self {
            Self::Exactly(now) | Self::Using { now, .. } => deadline <= now,
            Self::AtMost(latest, clock) => deadline <= latest && deadline <= nanos(clock.now()),
        }
    }
}

/// The monotonic clock as of the system's last tick.
#[cfg(target_os = "linux")]
mod coarse {
    use rustix::time::{ClockId, clock_gettime};

    use super::Nanos;

    const SECOND: Nanos = 1_000_000_000;

    /// More than the clock lags behind: a tick is at most a hundredth of it, and a machine that is so
    /// overloaded that it misses a hundred ticks does not run the reader on time either.
    const SLACK: Nanos = SECOND;

    #[derive(Clone, Copy, Debug)]
    pub(super) struct CoarseClock {
        origin: Nanos,
    }

    impl CoarseClock {
        pub(super) fn new() -> Self {
            Self { origin: read() }
        }

        /// A time since the creation of the clock that is not over yet.
        #[inline]
        pub(super) fn at_most(self) -> Option<Nanos> {
            Some(read().saturating_sub(self.origin).saturating_add(SLACK))
        }
    }

    #[inline]
    fn read() -> Nanos {
        let time = clock_gettime(ClockId::MonotonicCoarse);
        (time.tv_sec as Nanos).wrapping_mul(SECOND).wrapping_add(time.tv_nsec as Nanos)
    }
}

/// No such clock.
#[cfg(not(target_os = "linux"))]
mod coarse {
    use super::Nanos;

    #[derive(Clone, Copy, Debug)]
    pub(super) struct CoarseClock;

    impl CoarseClock {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) fn at_most(self) -> Option<Nanos> {
            None
        }
    }
}
