//! What the calls of a stage bring along: keys, values, errors and loads, all on one ledger.

#![allow(unreachable_pub, reason = "a module of one test file")]

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_lite::future::yield_now;

use crate::ledger::{Item, Ledger};

/// How often a load yields.
pub const YIELDS: usize = 3;

/// A key; ten neighbours have one hash.
#[derive(Clone)]
pub struct Key {
    number: u32,
    _item: Item,
}

impl Key {
    pub fn new(ledger: &Ledger, number: u32) -> Self {
        Self { number, _item: ledger.make("key") }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.number / 10).hash(state);
    }
}

/// A value, which says by whom it was made.
#[derive(Clone)]
pub struct Value {
    pub maker: u32,
    _item: Item,
}

impl Value {
    pub fn new(ledger: &Ledger, maker: u32) -> Self {
        Self { maker, _item: ledger.make("value") }
    }
}

/// An error, which says by whom it was made.
#[derive(Clone)]
pub struct Failure {
    pub maker: u32,
    _item: Item,
}

/// How a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Value,
    Failure,
}

/// What all calls of a stage write down.
#[derive(Default)]
pub struct Notes {
    /// Calls of a `get_or_insert` form that were polled, and keys of such that ask for several.
    pub calls: Counter,
    /// Those that found a stale value.
    pub stale_hits: Counter,
    /// Loads that were started.
    pub loads: Counter,
    /// Loads that ended without a value, whatever ended them.
    pub failures: Counter,
    /// Keys whose refresh was begun.
    pub refreshes: Counter,
    /// Those whose refresh ended without a value.
    pub refresh_failures: Counter,
    /// How many writes may have fenced loads.
    pub fences: Counter,
    /// The loads that live: their keys, and how many fences were before them.
    pub running: Mutex<Vec<(u32, u64)>>,
    pub is_single_flight: bool,
}

/// A number that any thread may raise.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The load that a call brings along.
pub struct Load {
    pub maker: u32,
    pub key: u32,
    pub ending: Ending,
    /// How many keys it refreshes.
    pub refreshes: u64,
    /// How many refreshes end with it.
    pub ends: u64,
    pub has_started: Arc<AtomicBool>,
    pub notes: Arc<Notes>,
    pub ledger: Ledger,
    pub item: Item,
}

impl Load {
    /// What the closure does: starts a load, which must be the only one of its key.
    pub fn start(self) -> impl Future<Output = Result<Value, Failure>> + Send + use<> {
        let Self { maker, key, ending, refreshes, ends, has_started, notes, ledger, item } = self;
        has_started.store(true, Ordering::Relaxed);
        notes.loads.add(1);
        notes.refreshes.add(refreshes);
        let mut running = Running::enter(notes, key, ends);
        async move {
            let _alive = item;
            for _ in 0..YIELDS {
                yield_now().await;
            }
            match ending {
                Ending::Value => {
                    running.succeed();
                    Ok(Value::new(&ledger, maker))
                }
                Ending::Failure => Err(Failure { maker, _item: ledger.make("failure") }),
            }
        }
    }
}

/// A load that lives.
struct Running {
    notes: Arc<Notes>,
    name: (u32, u64),
    ends: u64,
    has_value: bool,
}

impl Running {
    fn enter(notes: Arc<Notes>, key: u32, ends: u64) -> Self {
        // A load that a write has won over lives on beside one that starts after the write.
        let name = (key, notes.fences.get());
        {
            let mut running = notes.running.lock().unwrap_or_else(PoisonError::into_inner);
            let is_alone = !running.contains(&name) || !notes.is_single_flight;
            assert!(is_alone, "a second load of a key that is being loaded");
            running.push(name);
        }
        Self { notes, name, ends, has_value: false }
    }

    fn succeed(&mut self) {
        self.has_value = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_value {
            self.notes.failures.add(1);
            self.notes.refresh_failures.add(self.ends);
        }
        let mut running = self.notes.running.lock().unwrap_or_else(PoisonError::into_inner);
        let place = running.iter().position(|name| *name == self.name);
        running.swap_remove(place.expect("it runs until it is dropped"));
    }
}
