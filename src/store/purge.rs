//! Frees all that has expired.

use super::Store;
use super::steps::{Step, Steps};
use crate::clock::Nanos;
use crate::shard::departed::Departed;
use crate::shard::expire::Purged;
use crate::shard::removals::Deliveries;

/// How many entries one step frees, or somewhat more.
const MANY: usize = 256;

/// The freeing of all entries that have expired at one time.
pub(crate) struct Purge {
    /// `None` in a cache that does not use time.
    now: Option<Nanos>,
    /// The first shard that may still hold expired entries.
    shard: usize,
    freed: usize,
}

impl Purge {
    pub(crate) fn new<K, V>(store: &Store<K, V>) -> Self {
        Self { now: store.lifetimes.now(), shard: 0, freed: 0 }
    }

    /// Returns how many entries were freed so far.
    pub(crate) fn freed(&self) -> usize {
        self.freed
    }
}

impl<K, V> Steps<K, V> for Purge {
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        let Some(now) = self.now else { return Step::Done };
        let enough = self.freed + MANY;
        while let Some(shard) = store.shards.get(self.shard) {
            let mut departed = Departed::default();
            let (purged, freed) = shard.purge(now, &mut departed);
            self.freed += freed;
            self.shard += usize::from(purged == Purged::All);
            deliveries.append(departed.into_deliveries());
            if purged == Purged::Some || self.freed >= enough {
                return Step::Again;
            }
        }
        Step::Done
    }
}
