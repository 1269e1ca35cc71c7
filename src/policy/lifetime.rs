//! How long entries live: the rules, and the clock by which they are kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::{Clock, NEVER, Nanos, Now, SystemClock, in_nanos, nanos};
use crate::entries::Deadlines;
use crate::entries::freshness::Freshness;
use crate::lifetime::Lifetime;

/// A user's way to tell how long an entry lives.
type LifetimeFn<K, V> = dyn Fn(&K, &V) -> Option<Duration> + Send + Sync;

/// The time that an entry of an earlier cache has left to live.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// Whatever happens to it; `None` for as long as entries of this cache live.
    pub(crate) time: Option<Duration>,
    /// Unless it is used.
    pub(crate) idle: Option<Duration>,
    /// Until it is stale; `None` for as long as entries of this cache are fresh.
    pub(crate) fresh: Option<Duration>,
    /// Whether the time is that of a lifetime of its own.
    pub(crate) is_own: bool,
}

impl Left {
    /// Tells whether there is anything left.
    pub(crate) fn lets_live(self) -> bool {
        self.time != Some(Duration::ZERO) && self.idle != Some(Duration::ZERO)
    }
}

/// The rules of a cache. A lifetime of the entry's own takes the place of that of all entries; of its end
/// and that of its idle time the earlier counts.
pub(crate) struct Lifetimes<K, V> {
    ttl: Option<Duration>,
    /// From one use to the next.
    idle: Option<Duration>,
    of_entry: Option<Box<LifetimeFn<K, V>>>,
    /// How long an entry is fresh, in a cache that renews those that are not.
    fresh: Option<Duration>,
    /// From a refresh that fails to the next.
    retry: Duration,
    /// The largest part by which a lifetime is shortened.
    jitter: f64,
    clock: Option<Arc<dyn Clock>>,
    /// The default clock, inline: a hit must not pay for a virtual call. Made when it is first asked, for
    /// there are platforms on which it panics.
    system: OnceLock<SystemClock>,
    /// Whether any entry may expire; otherwise nobody asks for the time.
    is_used: AtomicBool,
}

impl<K, V> Lifetimes<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            ttl: None,
            idle: None,
            of_entry: None,
            fresh: None,
            retry: Duration::from_secs(1),
            jitter: 0.0,
            clock: None,
            system: OnceLock::new(),
            is_used: AtomicBool::new(false),
        }
    }

    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle
    }

    pub(crate) fn fresh(&self) -> Option<Duration> {
        self.fresh
    }

    pub(crate) fn retry(&self) -> Duration {
        self.retry
    }

    pub(crate) fn jitter(&self) -> f64 {
        self.jitter
    }

    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = Some(ttl);
        self.use_time();
    }

    pub(crate) fn set_idle(&mut self, idle: Duration) {
        self.idle = Some(idle);
        self.use_time();
    }

    pub(crate) fn set_fresh(&mut self, fresh: Duration) {
        self.fresh = Some(fresh);
        self.use_time();
    }

    pub(crate) fn set_retry(&mut self, retry: Duration) {
        self.retry = retry;
    }

    pub(crate) fn set_of_entry(&mut self, lifetime: Box<LifetimeFn<K, V>>) {
        self.of_entry = Some(lifetime);
        self.use_time();
    }

    /// Takes what is not between 0 and 1 for the nearer of the two, and what is no number for 0.
    pub(crate) fn set_jitter(&mut self, share: f64) {
        self.jitter = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    }

    pub(crate) fn set_clock(&mut self, clock: Arc<dyn Clock>) {
        self.clock = Some(clock);
    }

    /// A default clock that is there already.
    pub(crate) fn set_system(&mut self, clock: SystemClock) {
        self.clock = None;
        self.system = OnceLock::from(clock);
    }

    /// The clock, for what is not a lifetime.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match &self.clock {
            Some(clock) => Arc::clone(clock),
            None => Arc::new(SystemClock::new()),
        }
    }

    /// From now on, entries may expire.
    pub(crate) fn use_time(&self) {
        self.is_used.store(true, Ordering::Relaxed);
    }

    /// Tells whether an entry lives at all that may have a lifetime of its `own`.
    pub(crate) fn let_live(&self, own: Option<Duration>) -> bool {
        own.or(self.ttl) != Some(Duration::ZERO) && self.idle != Some(Duration::ZERO)
    }

    /// Tells whether any entry lives at all, whatever its own lifetime.
    pub(crate) fn let_any_live(&self) -> bool {
        self.idle != Some(Duration::ZERO)
    }

    /// Tells whether the lifetime of an entry depends on its key or its value.
    pub(crate) fn look_at_entries(&self) -> bool {
        self.of_entry.is_some()
    }

    /// How long an entry lives, if it is of those that have a lifetime of their own. Calls user code:
    /// never under a lock.
    pub(crate) fn of_entry(&self, key: &K, value: &V) -> Option<Duration> {
        self.of_entry.as_ref().and_then(|lifetime| lifetime(key, value))
    }

    /// Reads the clock, if time is used. Calls user code: never under a lock.
    #[inline]
    pub(crate) fn now(&self) -> Option<Nanos> {
        self.is_used.load(Ordering::Relaxed).then(|| self.exactly_now())
    }

    /// Reads the clock, whether or not time is used. Calls user code: never under a lock.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_nanos(self.exactly_now())
    }

    fn exactly_now(&self) -> Nanos {
        nanos(match &self.clock {
            None => self.system().now(),
            Some(clock) => clock.now(),
        })
    }

    #[inline]
    fn system(&self) -> &SystemClock {
        match self.system.get() {
            Some(system) => system,
            None => self.start_system(),
        }
    }

    #[cold]
    fn start_system(&self) -> &SystemClock {
        self.system.get_or_init(SystemClock::new)
    }

    /// Tells whether the operating system has been asked for the time.
    #[cfg(test)]
    pub(crate) fn have_asked_the_system(&self) -> bool {
        self.system.get().is_some()
    }

    /// Tells the time for a look at an entry, at less cost, if time is used. Calls user code: never
    /// under a lock.
    #[inline(always)]
    pub(crate) fn roughly_now(&self) -> Option<Now<'_>> {
        self.is_used.load(Ordering::Relaxed).then(|| self.rough_time())
    }

    fn rough_time(&self) -> Now<'_> {
        if let Some(idle) = self.idle {
            let now = self.exactly_now();
            return Now::Using { now, idle_deadline: now.saturating_add(in_nanos(idle)) };
        }
        if self.clock.is_some() {
            return Now::Exactly(self.exactly_now());
        }
        let system = self.system();
        match system.at_most() {
            Some(latest) => Now::AtMost(latest, system),
            None => Now::Exactly(self.exactly_now()),
        }
    }

    /// When an entry published at `now` expires, which may have a lifetime of its `own`.
    pub(crate) fn deadlines(&self, now: Nanos, own: Option<Lifetime>) -> Deadlines {
        let ttl = own.map(|own| own.ttl()).or(self.ttl);
        let fixed = now.saturating_add(self.shortened(ttl));
        let idle = now.saturating_add(self.idle.map_or(NEVER, in_nanos));
        let own_fresh = || own.and_then(|own| own.fresh());
        let fresh = self.fresh.map(|fresh| own_fresh().unwrap_or(fresh));
        let fresh = now.saturating_add(self.shortened(fresh));
        Deadlines { fixed, idle, fresh: Freshness::until(fresh) }
    }

    /// When a refresh is tried again that has failed at `now`.
    pub(crate) fn next_refresh(&self, now: Nanos) -> Freshness {
        Freshness::Due(now.saturating_add(in_nanos(self.retry)))
    }

    /// When an entry expires that returns at `now` with what it has `left`; `rule` is the lifetime of its
    /// own that it would have today.
    pub(crate) fn of_returning(&self, now: Nanos, left: Left, rule: Option<Duration>) -> Deadlines {
        let longest = if left.is_own { None } else { rule.or(self.ttl) };
        let soonest = |left: Option<Duration>, longest: Option<Duration>| {
            let lifetime = left.into_iter().chain(longest).min().map_or(NEVER, in_nanos);
            now.saturating_add(lifetime)
        };
        let idle = if self.idle.is_some() { soonest(left.idle, self.idle) } else { NEVER };
        let fresh = if self.fresh.is_some() { soonest(left.fresh, self.fresh) } else { NEVER };
        let fixed = soonest(left.time, longest);
        Deadlines { fixed, idle, fresh: Freshness::until(fresh) }
    }

    /// A lifetime, shortened by chance; [`NEVER`] if there is none, and what lives at all lives on.
    fn shortened(&self, lifetime: Option<Duration>) -> Nanos {
        let lifetime = lifetime.map_or(NEVER, in_nanos);
        if self.jitter == 0.0 || lifetime == NEVER {
            return lifetime;
        }
        let part = 1.0 - self.jitter * fastrand::f64();
        ((lifetime as f64 * part) as Nanos).clamp(1, lifetime.max(1))
    }
}
