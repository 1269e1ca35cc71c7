//! What a cache has found out about an entry before it is published.

use std::time::Duration;

use crate::lifetime::Lifetime;

/// The measures of an entry, as far as its cache takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Of key and value.
    pub(crate) bytes: Option<usize>,
    pub(crate) weight: Option<u64>,
}

impl Measured {
    pub(crate) const NOTHING: Self = Self { bytes: None, weight: None };
}

/// The findings about an entry before it is published.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Appraised {
    pub(crate) measured: Measured,
    /// How long the entry lives, if it has a lifetime of its own.
    pub(crate) lifetime: Option<Lifetime>,
    /// Whether a call has given it that, and not the rule of the cache.
    pub(crate) is_given: bool,
}

impl Appraised {
    /// How long the entry lives, fresh or not, if it has a lifetime of its own.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.lifetime.map(|lifetime| lifetime.ttl())
    }

    /// The same for an entry that a call has given a lifetime of its `own`, which goes before the rule.
    pub(crate) fn with_own(self, own: Option<Lifetime>) -> Self {
        match own {
            Some(_) => Self { lifetime: own, is_given: true, ..self },
            None => self,
        }
    }
}
