//! What is cached: keys, values and their loaders.

use std::cell::Cell;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Types of a key and a value, and the loader of the value.
pub(crate) trait Workload: Copy + Send + Sync + 'static {
    type Key: Clone + Debug + Hash + Eq + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;
    /// A call's place in a sequence: the key itself where it is small, else its number.
    type Step: Copy + Send + Sync + 'static;

    fn key(number: u64) -> Self::Key;
    fn value(key: &Self::Key) -> Self::Value;
    fn step(number: u64) -> Self::Step;
    /// The key of a step, with all keys by their numbers.
    fn resolve<'a>(keys: &'a [Self::Key], step: &'a Self::Step) -> &'a Self::Key;

    /// What a load does before it has the value.
    fn work() -> impl Future<Output = ()> + Send;

    /// The loader that every peer is given. Every call counts as a load.
    fn load(key: &Self::Key) -> impl Future<Output = Self::Value> + Send {
        async {
            count_load();
            Self::work().await;
            Self::value(key)
        }
    }
}

/// What the loader of [`Numbers`] does.
pub(crate) trait Work: Copy + Send + Sync + 'static {
    fn work() -> impl Future<Output = ()> + Send;
}

/// `u64 -> u64`.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<L>(PhantomData<L>);

impl<L: Work> Workload for Numbers<L> {
    type Key = u64;
    type Value = u64;
    type Step = u64;

    fn key(number: u64) -> u64 {
        number
    }

    fn value(key: &u64) -> u64 {
        !*key
    }

    fn step(number: u64) -> u64 {
        number
    }

    fn resolve<'a>(_: &'a [u64], step: &'a u64) -> &'a u64 {
        step
    }

    fn work() -> impl Future<Output = ()> + Send {
        L::work()
    }
}

/// `String -> Arc<str>`, loaded at once.
#[derive(Clone, Copy)]
pub(crate) struct Strings;

impl Workload for Strings {
    type Key = String;
    type Value = Arc<str>;
    type Step = u32;

    fn key(number: u64) -> String {
        format!("user:{number:010}:profile")
    }

    fn value(key: &String) -> Arc<str> {
        Arc::from(key.as_str())
    }

    fn step(number: u64) -> u32 {
        number as u32
    }

    fn resolve<'a>(keys: &'a [String], step: &'a u32) -> &'a String {
        &keys[*step as usize]
    }

    async fn work() {}
}

#[derive(Clone, Copy)]
pub(crate) struct AtOnce;

impl Work for AtOnce {
    async fn work() {}
}

/// Keeps its thread busy for 20 microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Spin;

/// Off while a cache is filled.
static SPINS: AtomicBool = AtomicBool::new(false);

impl Spin {
    pub(crate) const TIME: Duration = Duration::from_micros(20);

    pub(crate) fn switch_on() {
        SPINS.store(true, Ordering::Relaxed);
    }
}

impl Work for Spin {
    async fn work() {
        if SPINS.load(Ordering::Relaxed) {
            let start = Instant::now();
            while start.elapsed() < Self::TIME {
                spin_loop();
            }
        }
    }
}

/// Lets the executor's other tasks run ten times.
#[derive(Clone, Copy)]
pub(crate) struct Yield;

impl Work for Yield {
    async fn work() {
        for _ in 0..10 {
            futures_lite::future::yield_now().await;
        }
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
