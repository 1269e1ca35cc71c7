//! What is cached: keys, values and their loaders; and the sequences in which keys are asked for.

use std::cell::Cell;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Types of a key and a value, and the loader of the value.
pub(crate) trait Workload: Copy + Send + Sync + 'static {
    type Key: Clone + Debug + Hash + Eq + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    fn key(number: u64) -> Self::Key;
    fn value(key: &Self::Key) -> Self::Value;

    /// The loader that every peer is given. Every call counts as a load.
    fn load(key: &Self::Key) -> impl Future<Output = Self::Value> + Send {
        async {
            count_load();
            Self::value(key)
        }
    }
}

/// `u64 -> u64`, loaded at once.
#[derive(Clone, Copy)]
pub(crate) struct Numbers;

impl Workload for Numbers {
    type Key = u64;
    type Value = u64;

    fn key(number: u64) -> u64 {
        number
    }

    fn value(key: &u64) -> u64 {
        !*key
    }
}

/// `String -> Arc<str>`, loaded at once.
#[derive(Clone, Copy)]
pub(crate) struct Texts;

impl Workload for Texts {
    type Key = String;
    type Value = Arc<str>;

    fn key(number: u64) -> String {
        format!("user:{number:010}:profile")
    }

    fn value(key: &String) -> Arc<str> {
        Arc::from(key.as_str())
    }
}

/// `u64 -> u64`, loaded by about 20 microseconds of work.
#[derive(Clone, Copy)]
pub(crate) struct Laborious;

/// How many steps of the loader's work take [`LABOR`].
static STEPS: AtomicU64 = AtomicU64::new(0);
/// The work is left out while caches are warmed up.
static AT_WORK: AtomicBool = AtomicBool::new(false);
const LABOR: Duration = Duration::from_micros(20);

impl Laborious {
    /// Finds out how much work fits the time, once, so that all peers load the same amount.
    pub(crate) fn calibrate() {
        let trial = 1_000_000;
        let fastest = (0..5).map(|_| {
            let start = Instant::now();
            black_box(work(black_box(1), trial));
            start.elapsed()
        });
        let fastest = fastest.min().expect("five trials").as_nanos().max(1);
        STEPS.store((LABOR.as_nanos() * u128::from(trial) / fastest) as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_at_work(at_work: bool) {
        AT_WORK.store(at_work, Ordering::Relaxed);
    }
}

/// Steps of which each needs the one before.
fn work(mut state: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        state = (state ^ (state >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    state
}

impl Workload for Laborious {
    type Key = u64;
    type Value = u64;

    fn key(number: u64) -> u64 {
        number
    }

    fn value(key: &u64) -> u64 {
        if AT_WORK.load(Ordering::Relaxed) {
            black_box(work(*key | 1, STEPS.load(Ordering::Relaxed)));
        }
        !*key
    }
}

/// `u64 -> u64`, loaded after ten turns of the executor.
#[derive(Clone, Copy)]
pub(crate) struct Yielding;

impl Workload for Yielding {
    type Key = u64;
    type Value = u64;

    fn key(number: u64) -> u64 {
        number
    }

    fn value(key: &u64) -> u64 {
        !*key
    }

    async fn load(key: &u64) -> u64 {
        count_load();
        for _ in 0..10 {
            futures_lite::future::yield_now().await;
        }
        !*key
    }
}

/// The counters of all threads that ever loaded.
static LOADS: Mutex<Vec<&'static AtomicU64>> = Mutex::new(Vec::new());

thread_local! {
    static OWN_LOADS: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

/// A line of the processor's cache, so that counters of two threads do not share one.
#[repr(align(128))]
struct Padded(AtomicU64);

/// Adds to a counter that only this thread writes: a shared one would be the slowest part of a load.
fn count_load() {
    let counter = OWN_LOADS.get().unwrap_or_else(|| {
        // Leaked, since threads end before their counts are read.
        let padded: &'static Padded = Box::leak(Box::new(Padded(AtomicU64::new(0))));
        LOADS.lock().expect("no panic under the lock").push(&padded.0);
        OWN_LOADS.set(Some(&padded.0));
        &padded.0
    });
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// All loads so far, of all threads.
pub(crate) fn loads() -> u64 {
    let counters = LOADS.lock().expect("no panic under the lock");
    counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
}

/// Which keys are asked for, in which order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Zipf with exponent 1 over this many keys.
    Zipf(u64),
    /// Every one of this many keys with the same probability.
    Uniform(u64),
    /// Every key once, never again.
    New,
}

/// Keys in their order, made before the clock starts.
#[derive(Debug)]
pub(crate) struct Sequence<W: Workload> {
    order: Order,
    recorded: Arc<[W::Key]>,
}

/// How many keys of a sequence a peer has been asked for: a round goes on where the one before ended,
/// or a short one would ask for the same few keys again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(u64);

/// Where new keys start: above all those that fill a cache.
const FIRST_NEW: u64 = 1 << 32;

impl<W: Workload> Sequence<W> {
    pub(crate) fn new(order: Order) -> Self {
        // The same for every peer and every run.
        let mut random = SmallRng::seed_from_u64(42);
        let recorded = match order {
            Order::Zipf(keys) => {
                let zipf = Zipf::new(keys as f64, 1.0).expect("a valid distribution");
                (0..1 << 20).map(|_| W::key(zipf.sample(&mut random) as u64 - 1)).collect()
            }
            Order::Uniform(keys) => {
                (0..1 << 20).map(|_| W::key(random.random_range(0..keys))).collect()
            }
            Order::New => Arc::from([]),
        };
        Self { order, recorded }
    }

    /// Keys for `count` operations and the position of the first: the recorded keys, or new ones.
    pub(crate) fn take(&self, cursor: &mut Cursor, count: u64) -> (Arc<[W::Key]>, usize) {
        let first = cursor.0;
        cursor.0 += count;
        if matches!(self.order, Order::New) {
            let first = FIRST_NEW + first;
            return ((first..first + count).map(W::key).collect(), 0);
        }
        (Arc::clone(&self.recorded), first as usize % self.recorded.len())
    }

    /// The keys that may be in a cache of `capacity`, for those that cannot say how many they hold.
    pub(crate) fn candidates(&self, cursor: Cursor, capacity: u64) -> Vec<W::Key> {
        let numbers = match self.order {
            Order::Zipf(keys) | Order::Uniform(keys) => (0..0).chain(0..keys),
            Order::New => (0..capacity).chain(FIRST_NEW..FIRST_NEW + cursor.0),
        };
        numbers.map(W::key).collect()
    }
}
