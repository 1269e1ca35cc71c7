//! Keys and values that are counted, so that none is lost or kept.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many keys and values are alive.
#[derive(Clone, Default)]
pub struct Census {
    keys: Arc<AtomicUsize>,
    values: Arc<AtomicUsize>,
}

impl Census {
    pub fn key(&self, number: u8) -> Key {
        Key { number, _alive: Alive::new(&self.keys) }
    }

    pub fn value(&self, number: u32) -> Value {
        Value { number, _alive: Alive::new(&self.values) }
    }

    /// Asserts that there is a key and a value for each of `entries` entries, and none besides.
    #[track_caller]
    pub fn assert_only(&self, entries: usize) {
        let alive = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        assert_eq!((alive(&self.keys), alive(&self.values)), (entries, entries), "alive");
    }
}

/// Counts itself as long as it lives.
#[derive(Debug)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Clone for Alive {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
pub struct Key {
    pub number: u8,
    _alive: Alive,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

#[derive(Clone, Debug)]
pub struct Value {
    pub number: u32,
    _alive: Alive,
}

/// The numbers of values, for comparison.
pub fn numbers(value: Option<Value>) -> Option<u32> {
    value.map(|value| value.number)
}
