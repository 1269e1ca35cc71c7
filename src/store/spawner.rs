//! What goes on without a caller: the loads of flights that everybody has left, for an executor to run.

use std::sync::{Arc, Weak};

use super::Store;
use crate::entries::Kind;
use crate::flight::{Completion, FlightId, FlightName};
use crate::shard::lead_or_join::FlightRef;
use crate::sync::counters::Event;

/// Has an executor run what it makes of flights that nobody else polls.
pub(crate) type Spawn<K, V> = dyn Fn(Vec<LeftFlight<K, V>>) + Send + Sync;

/// A detached flight that its last caller has left, and that counts this one as a caller. If it is dropped
/// early, the flight ends.
pub(crate) struct LeftFlight<K, V> {
    pub(crate) store: Weak<Store<K, V>>,
    pub(crate) name: FlightName,
    pub(crate) shard: usize,
    pub(crate) id: FlightId,
    pub(crate) kind: Kind,
    pub(crate) completion: Arc<Completion<V>>,
    pub(crate) is_late: bool,
}

impl<K, V> LeftFlight<K, V> {
    /// A flight whose last caller leaves it, which is then counted as one.
    pub(crate) fn new(
        store: &Store<K, V>,
        flight: FlightRef<'_, K, V>,
        kind: Kind,
        completion: Arc<Completion<V>>,
        is_late: bool,
    ) -> Self {
        let (name, id, shard) = (flight.name(), flight.id(), flight.shard().number());
        Self { store: store.downgrade(), name, shard, id, kind, completion, is_late }
    }

    /// The flight, as its callers know it.
    pub(crate) fn flight<'a>(&self, store: &'a Store<K, V>) -> FlightRef<'a, K, V> {
        FlightRef::new(&store.shards()[self.shard], self.id)
    }
}

impl<K, V> Store<K, V> {
    /// Ends a flight that nobody is left to move on, if this was the last one to leave.
    pub(crate) fn leave(&self, flight: FlightRef<'_, K, V>, kind: Kind) {
        let ended = flight.leave();
        if ended.is_some() && kind.is_refresh() {
            self.count(Event::RefreshFailure);
        }
    }
}

impl<K, V> Drop for LeftFlight<K, V> {
    fn drop(&mut self) {
        if self.completion.needs_callers() {
            if let Some(store) = self.store.upgrade() {
                store.leave(self.flight(&store), self.kind);
            }
        }
    }
}
