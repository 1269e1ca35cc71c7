//! The nodes that a shard holds: an entry with its stamp, and with the extras that few caches keep of it.

use std::sync::atomic::Ordering;

use super::freshness::Freshness;
use crate::appraisal::{Appraised, Measured};
use crate::clock::{NEVER, Nanos};
use crate::sync::{AtomicU8, AtomicU64};

/// Where an entry lives; free for reuse once the entry has left.
pub(crate) type Slot = u32;

/// When an entry was last used: the number of that use among all of its shard. At a hundred million uses a
/// second a shard needs five thousand years to run out of them.
pub(crate) type Stamp = u64;

/// The most entries that a cache can have: as many as slots can number.
pub(crate) const MAX_ENTRIES: usize = Node::FLIGHT as usize - 1;

/// The place of a node, as the table keeps it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(u32);

impl Node {
    /// Set where it is a load in progress; the rest is the slot.
    pub(super) const FLIGHT: u32 = 1 << 31;

    pub(super) fn entry(slot: Slot) -> Self {
        Self(slot)
    }

    pub(super) fn flight(slot: usize) -> Self {
        Self(slot as u32 | Self::FLIGHT)
    }

    #[inline]
    pub(super) fn is_flight(self) -> bool {
        self.0 & Self::FLIGHT != 0
    }

    #[inline]
    pub(super) fn slot(self) -> usize {
        (self.0 & !Self::FLIGHT) as usize
    }
}

/// A cached key and value.
pub(crate) struct Entry<K, V> {
    /// Atomic because readers store it.
    pub(super) stamp: AtomicU64,
    pub(crate) key: K,
    pub(crate) value: V,
    /// Kept so that growing the table never calls the user's `Hash`.
    pub(super) hash: u32,
    /// Whether its fixed deadline is that of a lifetime of its own, given by a call. (Has a place that
    /// would be padding, and values that tell a free slot from one in use.)
    pub(super) has_own_lifetime: bool,
    /// A [`Rank`](super::ranks::Rank), which readers raise; in such a place, too.
    pub(super) rank: AtomicU8,
    /// When it was queued, if it is cold.
    pub(super) queued: u16,
}

impl<K, V> Entry<K, V> {
    /// One that is in no shard.
    pub(crate) fn new(hash: u64, key: K, value: V) -> Self {
        Self {
            stamp: AtomicU64::new(0),
            key,
            value,
            hash: narrow(hash),
            has_own_lifetime: false,
            rank: AtomicU8::new(0),
            queued: 0,
        }
    }

    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    pub(crate) fn into_parts(self) -> (K, V) {
        (self.key, self.value)
    }

    pub(crate) fn into_value(self) -> V {
        let Self { key, value, .. } = self;
        // Before the value is on its way out, where a `Drop` that panics would leak it.
        drop(key);
        value
    }

    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp.load(Ordering::Relaxed)
    }
}

/// When an entry expires; [`NEVER`] where there is no end to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Whatever happens to it.
    pub(crate) fixed: Nanos,
    /// Unless it is used before.
    pub(crate) idle: Nanos,
    /// It is renewed after this one, if it is still there.
    pub(crate) fresh: Freshness,
}

impl Deadlines {
    pub(crate) const NONE: Self = Self { fixed: NEVER, idle: NEVER, fresh: Freshness::Endless };

    pub(crate) fn soonest(self) -> Nanos {
        self.fixed.min(self.idle)
    }

    /// The same, later by `delay`.
    pub(crate) fn put_off(self, delay: Nanos) -> Self {
        let Self { fixed, idle, fresh } = self;
        Self {
            fixed: fixed.saturating_add(delay),
            idle: idle.saturating_add(delay),
            fresh: fresh.put_off(delay),
        }
    }
}

/// Kept of an entry by few caches; instead of [`Extras::NONE`] there may be `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extras {
    pub(crate) deadlines: Deadlines,
    /// Whether a call has given the entry a lifetime of its own, which outlives updates.
    pub(crate) is_own: bool,
    pub(crate) measured: Measured,
}

impl Extras {
    pub(crate) const NONE: Self =
        Self { deadlines: Deadlines::NONE, is_own: false, measured: Measured::NOTHING };

    /// What is kept of an entry that was found to be so.
    pub(crate) fn new(appraised: Appraised, deadlines: Deadlines) -> Self {
        Self { deadlines, is_own: appraised.is_given, measured: appraised.measured }
    }
}

/// The place that a flight had in the table.
#[must_use]
pub(crate) struct Bucket(pub(super) Option<usize>);

impl Bucket {
    /// That of what was in no table.
    pub(crate) const NONE: Self = Self(None);
}

/// Returns the part of a hash by which nodes are found in their shard.
#[inline]
pub(super) fn narrow(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Returns the hash as the table takes it, which uses the lowest bits and the highest.
#[inline]
pub(super) fn wide(hash: u32) -> u64 {
    u64::from(hash) | u64::from(hash) << 32
}
