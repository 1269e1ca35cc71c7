//! Event counters that cost a load and a store.
//!
//! A shared counter is a read-modify-write that drags its cache line from core to core. Here every
//! thread has a stripe of its own in each cache, so plain loads and stores count exactly, and reading
//! adds the stripes up. Threads without a number of their own share one stripe and pay for atomic
//! additions.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::sync::threads::{self, NUMBERS};
use crate::sync::{AtomicU64, Mutex, OnceLock};

/// An event that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Miss,
    Coalesced,
    StaleHit,
    Load,
    LoadFailure,
    Refresh,
    RefreshFailure,
    /// Counted by the nanosecond.
    LoadTime,
    Eviction,
    /// Counted by the weight.
    EvictedWeight,
    Expiration,
    Invalidation,
}

const EVENTS: usize = 12;

/// Counts of one owner, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; EVENTS]);

/// A snapshot of all counters, and of the hits, which the shards count by their uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) hits: u64,
    events: [u64; EVENTS],
}

impl Totals {
    pub(crate) fn of(&self, event: Event) -> u64 {
        self.events[event as usize]
    }
}

/// The counters of one cache.
pub(crate) struct Counters {
    /// In place, as are the pins of threads: a hit has enough pointers to follow.
    owned: [OnceLock<Box<Stripe>>; NUMBERS],
    shared: Stripe,
    /// The totals at the last reset. Owners alone may write their stripes, so a reset moves the zero
    /// point and leaves the stripes as they are.
    zero: Mutex<Totals>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            owned: std::array::from_fn(|_| OnceLock::new()),
            shared: Stripe::default(),
            zero: Mutex::default(),
        }
    }

    /// Counts one `event`.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts `n` times `event`.
    #[inline]
    pub(crate) fn add(&self, event: Event, n: u64) {
        match self.owned.get(threads::number()) {
            Some(stripe) => {
                // This thread alone writes here, so nothing is lost between the load and the store.
                let counter = &stripe.get_or_init(Box::default).0[event as usize];
                counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
            }
            None => {
                self.shared.0[event as usize].fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// Reads the totals since the last reset; there were so many `hits` ever.
    pub(crate) fn totals(&self, hits: u64) -> Totals {
        let zero = *self.zero.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = self.sum(hits);
        // A reset on another thread may have seen a count that this one does not see yet.
        totals.hits = totals.hits.saturating_sub(zero.hits);
        for (total, zero) in totals.events.iter_mut().zip(zero.events) {
            *total = total.saturating_sub(zero);
        }
        totals
    }

    /// Starts counting from zero again; there were so many `hits` ever.
    pub(crate) fn reset(&self, hits: u64) {
        let mut zero = self.zero.lock().unwrap_or_else(PoisonError::into_inner);
        *zero = self.sum(hits);
    }

    /// Bytes that the stripes take on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        let stripes = self.owned.iter().filter(|stripe| stripe.get().is_some()).count();
        stripes * size_of::<Stripe>()
    }

    fn sum(&self, hits: u64) -> Totals {
        let mut totals = Totals { hits, events: [0; EVENTS] };
        let owned = self.owned.iter().filter_map(|stripe| Some(&**stripe.get()?));
        for stripe in owned.chain([&self.shared]) {
            for (total, counter) in totals.events.iter_mut().zip(&stripe.0) {
                *total = total.wrapping_add(counter.load(Ordering::Relaxed));
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn more_threads_than_stripes_lose_no_count() {
        let counters = Counters::new();
        let threads = NUMBERS + 16;
        let barrier = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..1_000 {
                        counters.count(Event::Miss);
                    }
                    // All alive at once: some had to share.
                    barrier.wait();
                });
            }
        });
        assert_eq!(counters.totals(0).of(Event::Miss), threads as u64 * 1_000);
    }

    #[test]
    fn threads_one_after_another_lose_no_count() {
        let counters = Counters::new();
        for _ in 0..3 * NUMBERS {
            thread::scope(|scope| {
                scope.spawn(|| counters.add(Event::Miss, 2));
            });
        }
        assert_eq!(counters.totals(0).of(Event::Miss), 6 * NUMBERS as u64);
    }

    #[test]
    fn a_reset_starts_from_zero() {
        let counters = Counters::new();
        counters.add(Event::Load, 5);
        counters.reset(7);
        counters.count(Event::Load);
        let totals = counters.totals(9);
        assert_eq!((totals.of(Event::Load), totals.hits), (1, 2));
    }
}
