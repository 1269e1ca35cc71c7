//! Keys and values that are counted from their making to their drop.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_lru::Equivalent;

/// How many there are of what must be gone in the end.
#[derive(Debug, Default)]
pub(crate) struct Census {
    keys: Arc<AtomicI64>,
    values: Arc<AtomicI64>,
    loads: Arc<AtomicI64>,
}

impl Census {
    pub(crate) fn key(&self, number: u64) -> Key {
        Key { number, _alive: Alive::new(&self.keys) }
    }

    pub(crate) fn value(&self, key: u64) -> Value {
        Value { key, _payload: Box::new([key as u8; 64]), _alive: Alive::new(&self.values) }
    }

    /// A load, for as long as it runs.
    pub(crate) fn load(&self) -> Alive {
        Alive::new(&self.loads)
    }

    /// Asserts that there is a key and a value for each entry, and that nothing is being loaded.
    pub(crate) fn assert_only(&self, entries: usize) {
        let count = |counter: &AtomicI64| counter.load(Ordering::SeqCst);
        let entries = entries as i64;
        assert_eq!(count(&self.loads), 0, "loads in progress");
        assert_eq!(count(&self.keys), entries, "keys alive");
        assert_eq!(count(&self.values), entries, "values alive");
    }
}

/// Counts itself as long as it lives.
#[derive(Debug)]
pub(crate) struct Alive(Arc<AtomicI64>);

impl Alive {
    fn new(count: &Arc<AtomicI64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
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
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) number: u64,
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

/// What a [`Key`] is looked up by.
#[derive(Hash)]
pub(crate) struct Number(pub(crate) u64);

impl Equivalent<Key> for Number {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.number
    }
}

#[derive(Clone)]
pub(crate) struct Value {
    /// The number of the key that it was made for.
    pub(crate) key: u64,
    /// All values take the same memory.
    _payload: Box<[u8; 64]>,
    _alive: Alive,
}
