//! Asks the measures of a cache about an entry before it is published: its bytes, its weight, its lifetime.

use std::time::Duration;

use crate::appraisal::{Appraised, Measured};
use crate::lifetime::Lifetime;

/// A user's way to tell the bytes of a key and its value.
type MeasureFn<K, V> = dyn Fn(&K, &V) -> usize + Send + Sync;

/// A user's way to tell what an entry weighs.
type WeighFn<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;

/// How the bytes of a key and its value are told.
pub(crate) enum Measure<K, V> {
    Deep(fn(&K, &V) -> usize),
    With(Box<MeasureFn<K, V>>),
}

impl<K, V> Measure<K, V> {
    fn size(&self, key: &K, value: &V) -> usize {
        match self {
            Self::Deep(size) => size(key, value),
            Self::With(size) => size(key, value),
        }
    }
}

/// The measures that a cache takes of its entries.
pub(crate) struct Measures<K, V> {
    pub(crate) measure: Option<Measure<K, V>>,
    pub(crate) weigher: Option<Box<WeighFn<K, V>>>,
}

impl<K, V> Measures<K, V> {
    pub(crate) fn are_used(&self) -> bool {
        self.measure.is_some() || self.weigher.is_some()
    }

    /// Takes a look at an entry, which may have a `lifetime` of its own. Calls user code: never under a
    /// lock.
    pub(crate) fn appraise(&self, key: &K, value: &V, lifetime: Option<Duration>) -> Appraised {
        Appraised {
            measured: Measured {
                bytes: self.measure.as_ref().map(|measure| measure.size(key, value)),
                weight: self.weigher.as_ref().map(|weigh| weigh(key, value)),
            },
            lifetime: lifetime.map(Lifetime::new),
            is_given: false,
        }
    }
}
