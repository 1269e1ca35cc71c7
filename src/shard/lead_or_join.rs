//! Has a call lead the flight of its key or join the one there is, and answers later questions about a
//! flight.

use std::sync::Arc;

use super::Shard;
use super::departed::Departed;
use super::hit::{Found, Use};
use super::publication::{Fate, Origin, Publication};
use super::state::State;
use crate::clock::Now;
use crate::entries::freshness::Claim;
use crate::entries::freshness::Freshness;
use crate::entries::{Ended, Entries, FlightKey, Kind, Predicate, Slot, Sweeps};
use crate::flight::{Coalescing, Completion, FlightId, FlightName};
use crate::sync::MutexGuard;

/// A call on its way to a value or a flight.
pub(crate) struct LoadRequest<K> {
    pub(crate) hash: u64,
    /// `None` once it is the flight's.
    pub(crate) key: Option<FlightKey<K>>,
    /// Where its load would be.
    pub(crate) kind: Kind,
    /// How a value that it finds counts.
    pub(crate) of: Use,
}

/// The way on for a call.
pub(crate) enum LeadOrJoin<'a, K, V> {
    /// Nothing: here is the value.
    Hit(Found<V>),
    Lead(FlightRef<'a, K, V>),
    Join(OpenFlight<'a, K, V>),
}

/// A flight that the call has joined, and is counted in.
pub(crate) struct OpenFlight<'a, K, V> {
    pub(crate) flight: FlightRef<'a, K, V>,
    pub(crate) kind: Kind,
    pub(crate) completion: Arc<Completion<V>>,
}

/// A detached flight that its last caller has left, and that still counts this one as a caller.
pub(crate) struct LeftFlight<V> {
    /// The number of its shard.
    pub(crate) shard: usize,
    pub(crate) id: FlightId,
    pub(crate) name: FlightName,
    pub(crate) kind: Kind,
    pub(crate) completion: Arc<Completion<V>>,
    /// Whether the outcome is for others.
    pub(crate) is_late: bool,
}

impl<K: Eq, V> Shard<K, V> {
    /// Finds the live value of the key, joins the flight that is open for it, or leads one, which takes the
    /// key. In one section under the lock, so that nothing comes between.
    #[inline]
    pub(crate) fn lead_or_join(
        &self,
        request: &mut LoadRequest<K>,
        now: Option<Now<'_>>,
        departed: &mut Departed<K, V>,
    ) -> LeadOrJoin<'_, K, V>
    where
        V: Clone,
    {
        let LoadRequest { hash, key, kind, of } = request;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut state = self.lock();
        let found = state.entries.find(*hash, query);
        if let Some(slot) = found {
            if now.is_none_or(|now| !self.is_expired(&state.entries, slot, now)) {
                let value = self.hit(&mut state, slot, now, *of);
                let age = state.entries.age(slot, now, Claim::Yes);
                return LeadOrJoin::Hit(self.found(value, age, *of));
            }
        }
        match found {
            // Before another is loaded in its place.
            Some(slot) => state = self.expire(state, slot, departed),
            None => self.begin_write(&mut state),
        }
        let State { entries, guards, .. } = &mut *state;
        let entries = entries.owned();
        if self.common.coalescing == Coalescing::On {
            if let Some((completion, id, kind)) = entries.join(*hash, query) {
                let flight = FlightRef { shard: self, id };
                return LeadOrJoin::Join(OpenFlight { flight, kind, completion });
            }
        }
        let key = key.take().expect("it was looked for");
        let id = match self.common.coalescing {
            Coalescing::On => entries.lead(*hash, key, *kind),
            Coalescing::Off => entries.lead_alone(*hash, key, *kind),
        };
        if guards.hold(*hash) {
            entries.guard(id);
        }
        LeadOrJoin::Lead(FlightRef { shard: self, id })
    }

    /// Takes out the entry in `slot`, whose time is over.
    #[inline(never)]
    fn expire<'a>(
        &'a self,
        state: MutexGuard<'a, State<K, V>>,
        slot: Slot,
        departed: &'a mut Departed<K, V>,
    ) -> MutexGuard<'a, State<K, V>> {
        let mut writer = self.write_to(state, None, departed);
        writer.release(slot);
        writer.expire(slot);
        writer.state
    }

    /// Keeps the values of loads of `key` that are in flight out of the cache.
    pub(crate) fn fence(&self, hash: u64, key: &K) {
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        writer.state.guards.disturb(hash);
        writer.entries().fence(hash, key);
    }
}

impl<K, V> Shard<K, V> {
    /// Has a sweep asked about the values of all loads that are in flight.
    pub(crate) fn await_sweep(&self, sweep: &Arc<Predicate<K, V>>) {
        self.write(None, &mut Departed::default()).entries().await_sweep(sweep);
    }

    /// Keeps the values of those loads in flight out of the cache whose keys are chosen; asked while no
    /// lock is held.
    pub(crate) fn fence_if(&self, is_chosen: &mut impl FnMut(&K) -> bool)
    where
        K: Clone,
    {
        // Made before the lock is taken, so that it is dropped after it is released.
        let mut keys = Vec::new();
        self.lock().entries.flight_keys_into(&mut keys);
        keys.retain(|(_, key)| is_chosen(key));
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        keys.iter().for_each(|(id, _)| writer.entries().fence_if_there(*id));
    }

    /// Changes what there is of flights.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Entries<K, V>) -> R) -> R {
        change(self.write(None, &mut Departed::default()).entries())
    }
}

/// A flight, as its leader and its waiters know it.
pub(crate) struct FlightRef<'a, K, V> {
    pub(super) shard: &'a Shard<K, V>,
    pub(super) id: FlightId,
}

impl<K, V> Clone for FlightRef<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for FlightRef<'_, K, V> {}

/// Questions to a flight that has not ended.
impl<'a, K, V> FlightRef<'a, K, V> {
    pub(crate) fn new(shard: &'a Shard<K, V>, id: FlightId) -> Self {
        Self { shard, id }
    }

    pub(crate) fn shard(self) -> &'a Shard<K, V> {
        self.shard
    }

    pub(crate) fn id(self) -> FlightId {
        self.id
    }

    #[inline]
    pub(crate) fn name(self) -> FlightName {
        (self.shard.address(), self.id)
    }

    /// Where it will complete.
    pub(crate) fn completion(self) -> Arc<Completion<V>> {
        self.shard.change(|entries| entries.flight_mut(self.id).completion())
    }

    /// Its key, in a cache that appraises its entries.
    pub(crate) fn shared_key(self) -> Option<Arc<K>> {
        self.shard.lock().entries.flight(self.id).shared_key()
    }

    /// Takes a caller off it, if it is a detached one and has not ended. If that was the last caller this
    /// ends it; its key is the caller's to drop. An entry that it was to refresh is to be by another when it is
    /// `due`.
    pub(crate) fn leave(self, due: Freshness) -> Option<Ended<K, V>> {
        self.shard.change(|entries| entries.leave(self.id, due))
    }

    /// Takes a caller off it, if it is a detached one, has not ended, and has others; tells whether it has not,
    /// but somebody has to move it on.
    pub(crate) fn leave_unless_last(self) -> bool {
        self.shard.change(|entries| entries.leave_unless_last(self.id))
    }

    /// Ends it without publishing a value; its key is the caller's to drop.
    pub(crate) fn end(self) -> Ended<K, V> {
        self.shard.change(|entries| entries.end_flight(self.id))
    }

    /// Keeps the values of other loads of its key out of the cache, unless a later write has won over it.
    pub(crate) fn fence_others(self)
    where
        K: Eq,
    {
        self.shard.change(|entries| {
            if entries.flight(self.id).is_kept() {
                entries.fence_others(self.id);
            }
        });
    }

    /// Takes the sweeps to be asked about its value, and its key to ask them with.
    fn take_sweeps(self) -> (Option<Arc<K>>, Sweeps<K, V>) {
        self.shard.change(|entries| entries.flight_mut(self.id).take_sweeps())
    }

    /// Keeps its value out of the cache, as if a later write had won.
    fn fence(self) {
        self.shard.change(|entries| entries.fence_one(self.id));
    }
}

impl<K, V> Publication<'_, K, V> {
    /// Lets those of the sweeps say whether the entry is kept that began while its load was in flight.
    /// Calls user code: never under a lock.
    #[cold]
    pub(crate) fn judge(&mut self, shard: &Shard<K, V>) {
        let (id, is_update) = match self.origin {
            Origin::Caller(..) => return,
            Origin::Load(id) => (id, false),
            Origin::Update(id) => (id, true),
        };
        let flight = FlightRef { shard, id };
        let (key, sweeps) = flight.take_sweeps();
        let (Some(key), Some(value)) = (key, &self.value) else { return };
        let is_chosen = sweeps.choose(&key, value);
        // The flight gets its key back before it needs it.
        drop(key);
        if !is_chosen {
            return;
        }
        if is_update {
            // It is carried out, and its value swept away at once.
            self.fate = Fate::Swept;
        } else {
            flight.fence();
        }
    }
}
