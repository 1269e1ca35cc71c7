//! What has become of a value that a leader has delivered, and what is left of that.

use crate::appraisal::Appraised;
use crate::flight::Outcome;
use crate::shard::removals::Deliveries;
use crate::store::publish::Insertion;

/// What has become of a value that was delivered.
#[must_use]
pub(super) struct Delivered<'a, K, V> {
    /// What is left to do for the listener.
    pub(super) deliveries: Deliveries<K, V>,
    /// What is left of it before the flight ends.
    pub(super) unfinished: Option<Box<Unfinished<'a, K, V>>>,
}

impl<K, V> Delivered<'_, K, V> {
    /// Tells whether nothing is left to do, and nobody to wait for.
    #[inline(always)]
    pub(super) fn is_done(&self) -> bool {
        self.unfinished.is_none() && self.deliveries.is_empty()
    }
}

impl<K, V> From<Deliveries<K, V>> for Delivered<'_, K, V> {
    #[inline(always)]
    fn from(deliveries: Deliveries<K, V>) -> Self {
        Self { deliveries, unfinished: None }
    }
}

/// A publication that goes on in another turn.
pub(super) struct Unfinished<'a, K, V> {
    pub(super) insertion: Insertion<'a, K, V>,
    pub(super) appraised: Appraised,
    pub(super) outcome: Outcome<V>,
}

impl<K, V> Unfinished<'_, K, V> {
    /// Gives up the room that it has made; returns what was found out about the entry, and after how many
    /// more turns it is done at the latest.
    pub(super) fn into_parts(self) -> (Appraised, usize) {
        (self.appraised, self.insertion.turns)
    }
}
