//! What the calls of a stage bring along: keys, values, errors and loads, all on one ledger.

#![allow(unreachable_pub, reason = "a module of one test file")]

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

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
    /// Calls of a `get_or_insert` form that were polled.
    pub calls: Cell<u64>,
    /// Loads that were started.
    pub loads: Cell<u64>,
    /// Loads that ended without a value, whatever ended them.
    pub failures: Cell<u64>,
    /// How many writes may have fenced loads.
    pub fences: Cell<u32>,
    /// The loads that live: their keys, and how many fences were before them.
    pub running: RefCell<Vec<(u32, u32)>>,
    pub is_single_flight: bool,
}

pub fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// The load that a call brings along.
pub struct Load {
    pub maker: u32,
    pub key: u32,
    pub ending: Ending,
    pub has_started: Rc<Cell<bool>>,
    pub notes: Rc<Notes>,
    pub ledger: Ledger,
    pub item: Item,
}

impl Load {
    /// What the closure does: starts a load, which must be the only one of its key.
    pub fn start(self) -> impl Future<Output = Result<Value, Failure>> {
        let Self { maker, key, ending, has_started, notes, ledger, item } = self;
        has_started.set(true);
        count(&notes.loads);
        let running = Running::enter(notes, key);
        async move {
            let _alive = (running, item);
            for _ in 0..YIELDS {
                yield_now().await;
            }
            match ending {
                Ending::Value => Ok(Value::new(&ledger, maker)),
                Ending::Failure => Err(Failure { maker, _item: ledger.make("failure") }),
            }
        }
    }
}

/// A load that lives.
struct Running {
    notes: Rc<Notes>,
    name: (u32, u32),
}

impl Running {
    fn enter(notes: Rc<Notes>, key: u32) -> Self {
        // A load that a write has won over lives on beside one that starts after the write.
        let name = (key, notes.fences.get());
        {
            let mut running = notes.running.borrow_mut();
            let is_alone = !running.contains(&name) || !notes.is_single_flight;
            assert!(is_alone, "a second load of a key that is being loaded");
            running.push(name);
        }
        Self { notes, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.notes.running.borrow_mut();
        let place = running.iter().position(|name| *name == self.name);
        running.swap_remove(place.expect("it runs until it is dropped"));
    }
}
