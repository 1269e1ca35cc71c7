//! What is found out about an entry before it is published, while no lock is held.

use std::time::Duration;

/// A user's way to tell the bytes of a key and its value.
type MeasureFn<K, V> = dyn Fn(&K, &V) -> usize + Send + Sync;

/// How the bytes of a key and its value are told.
pub(crate) enum Measure<K, V> {
    Deep(fn(&K, &V) -> usize),
    With(Box<MeasureFn<K, V>>),
}

impl<K, V> Measure<K, V> {
    pub(crate) fn size(&self, key: &K, value: &V) -> usize {
        match self {
            Self::Deep(size) => size(key, value),
            Self::With(size) => size(key, value),
        }
    }
}

/// What a look at an entry has found before it is published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Appraisal {
    /// Bytes of key and value, in a cache that measures them.
    pub(crate) size: Option<usize>,
    /// How long the entry lives at most, if it has a lifetime of its own.
    pub(crate) lifetime: Option<Duration>,
}

impl Appraisal {
    /// The same for an entry that was given a lifetime of its `own`.
    pub(crate) fn with_own(self, own: Option<Duration>) -> Self {
        Self { lifetime: self.lifetime.into_iter().chain(own).min(), ..self }
    }

    /// Whether the entry lives at all.
    pub(crate) fn lets_live(&self) -> bool {
        self.lifetime != Some(Duration::ZERO)
    }
}
