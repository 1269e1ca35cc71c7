//! The flights among the nodes, led, joined and ended; and their fences: a write fences the flights of its
//! key, and what a fenced flight brings is not kept.

use std::sync::Arc;

use equivalent::Equivalent;
use slab::Slab;

use super::freshness::Freshness;
use super::loading::{Ended, Flight, FlightKey, FlightState, Kind, Predicate, Sweeps};
use super::node::{Bucket, Node, narrow, wide};
use super::{Entries, hash_of};
use crate::flight::{Completion, FlightId};

/// Flights: the loads in progress.
impl<K, V> Entries<K, V> {
    /// Room for more flights than this that a burst has left is given back when they have ended.
    const KEPT_FLIGHTS: usize = 256;

    /// Returns how many flights there are.
    pub(crate) fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Joins the flight that is open for `key`.
    pub(crate) fn join<Q>(
        &mut self,
        hash: u64,
        key: &Q,
    ) -> Option<(Arc<Completion<V>>, FlightId, Kind)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.join_if(hash, key, Flight::is_open)
    }

    /// Tells whether there is a flight that brings a value for `key` in place of the one there is: a refresh,
    /// or an update.
    pub(crate) fn is_being_refreshed(&self, hash: u64, key: &K) -> bool
    where
        K: Eq,
    {
        let refreshes = |flight: &Flight<K, V>| {
            let is_awaited = flight.kind.is_refresh() && !flight.is_fenced();
            (flight.is_open() || is_awaited) && flight.key() == key
        };
        self.find_flight(narrow(hash), refreshes).is_some()
    }

    /// Joins a flight that an update of `key` has to wait for: the open one, unless that only renews an entry
    /// which is alive, or an update that goes on although a later write has won over it.
    pub(crate) fn join_for_update(
        &mut self,
        hash: u64,
        key: &K,
        is_alive: bool,
    ) -> Option<(Arc<Completion<V>>, FlightId, Kind)>
    where
        K: Eq,
    {
        let is_wanted = |flight: &Flight<K, V>| {
            flight.is_open() && !(is_alive && flight.kind.is_refresh()) || flight.is_update()
        };
        self.join_if(hash, key, is_wanted)
    }

    #[inline(always)]
    fn join_if<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        is_wanted: impl Fn(&Flight<K, V>) -> bool,
    ) -> Option<(Arc<Completion<V>>, FlightId, Kind)>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let is_key = |flight: &Flight<K, V>| is_wanted(flight) && key.equivalent(flight.key());
        let bucket = self.find_flight(narrow(hash), is_key)?;
        let slot = self.table.get_bucket(bucket)?.slot();
        Some(self.flights[slot].join())
    }

    /// Where the table leads to a flight that is wanted.
    #[inline]
    fn find_flight(&self, hash: u32, is_wanted: impl Fn(&Flight<K, V>) -> bool) -> Option<usize> {
        if self.flights.is_empty() {
            return None;
        }
        self.table.find_bucket_index(wide(hash), |node| {
            node.is_flight() && is_wanted(&self.flights[node.slot()])
        })
    }

    /// Tells whether the value of a load of `key` that is in flight will be cached.
    pub(crate) fn is_awaited(&self, hash: u64, key: &K) -> bool
    where
        K: Eq,
    {
        let is_awaited = |flight: &Flight<K, V>| !flight.is_fenced() && flight.key() == key;
        self.find_flight(narrow(hash), is_awaited).is_some()
    }

    /// Starts a flight that others may join.
    #[inline(always)]
    pub(crate) fn lead(&mut self, hash: u64, key: FlightKey<K>, kind: Kind) -> FlightId {
        let (hash, state) = (narrow(hash), FlightState::Open);
        let slot = self.flights.vacant_key();
        let id = FlightId::new(self.started, slot);
        self.started = self.started.wrapping_add(1);
        let bucket = self.list_anew(hash, Node::flight(slot));
        let (completion, sweeps) = (kind.completion(), Sweeps::default());
        self.flights.insert(Flight { hash, kind, state, bucket, id, key, completion, sweeps });
        id
    }

    /// Starts a flight that others may join, for a key whose entry may be there.
    pub(crate) fn lead_refresh(&mut self, hash: u64, key: FlightKey<K>, kind: Kind) -> FlightId {
        let id = self.lead(hash, key, kind);
        self.flight_mut(id).state = FlightState::Renewing;
        id
    }

    /// Starts a flight for the caller alone.
    pub(crate) fn lead_alone(&mut self, hash: u64, key: FlightKey<K>, kind: Kind) -> FlightId {
        let id = self.lead(hash, key, kind);
        self.flight_mut(id).state = FlightState::Private;
        id
    }

    /// Keeps the value of a flight that has just begun out of the cache, while callers may join it as far as
    /// they might otherwise.
    #[cold]
    pub(crate) fn guard(&mut self, id: FlightId) {
        match self.flight(id).state {
            FlightState::Open | FlightState::Renewing => {
                self.flight_mut(id).state = FlightState::Guarded;
            }
            _ => self.fence_one(id),
        }
    }

    /// The flight of this id, which its leader has not ended.
    #[inline]
    pub(crate) fn flight(&self, id: FlightId) -> &Flight<K, V> {
        &self.flights[id.slot()]
    }

    /// The flight of this id, which its leader has not ended.
    #[inline]
    pub(crate) fn flight_mut(&mut self, id: FlightId) -> &mut Flight<K, V> {
        &mut self.flights[id.slot()]
    }

    /// The flight of this id, if it has not ended.
    fn flight_if_there(&self, id: FlightId) -> Option<&Flight<K, V>> {
        self.flights.get(id.slot()).filter(|flight| flight.id == id)
    }

    /// Takes out the flight of this id, which its leader has not ended, but for its place in the table:
    /// that is the caller's to fill, or to give up.
    #[inline(always)]
    pub(super) fn take_flight(&mut self, id: FlightId) -> (Flight<K, V>, Bucket) {
        let flight = self.flights.remove(id.slot());
        let bucket = flight.is_listed().then(|| self.bucket_of(&flight)).flatten();
        (flight, Bucket(bucket))
    }

    /// The same, of a flight whose value goes in. The entry of another key of its hash may have been left to
    /// it, as that one's own refresh ended.
    #[inline(always)]
    pub(crate) fn take_published(&mut self, id: FlightId) -> (Flight<K, V>, Bucket) {
        if self.flight(id).kind.is_refresh() {
            self.release_refresh(id, Freshness::Due(0));
        }
        self.take_flight(id)
    }

    /// Where the table leads to a flight.
    #[inline(always)]
    fn bucket_of(&self, flight: &Flight<K, V>) -> Option<usize> {
        let node = Node::flight(flight.id.slot());
        match self.table.get_bucket(flight.bucket) {
            Some(listed) if *listed == node => Some(flight.bucket),
            // The table has grown since.
            _ => self.table.find_bucket_index(wide(flight.hash), |listed| *listed == node),
        }
    }

    /// Takes out the flight of this id, which its leader has not ended.
    pub(crate) fn end_flight(&mut self, id: FlightId) -> Ended<K, V> {
        self.end_refresh(id, Freshness::Due(0))
    }

    /// The same; the entry of its key, if it was to be refreshed by this flight, is to be by another then.
    pub(crate) fn end_refresh(&mut self, id: FlightId, due: Freshness) -> Ended<K, V> {
        if !self.freshness.is_empty() {
            self.release_refresh(id, due);
        }
        let (flight, bucket) = self.take_flight(id);
        self.unlist_bucket(bucket);
        self.end_burst();
        flight.end()
    }

    /// Has the entry of a key with the hash of a flight that ends refreshed by others, when it is `due`, if a
    /// flight is noted that does and there is no other one.
    #[cold]
    fn release_refresh(&self, ending: FlightId, due: Freshness) {
        let hash = self.flight(ending).hash;
        // The table leads to flights of other hashes, too.
        let is_other = |flight: &Flight<K, V>| {
            let is_of_key = flight.id != ending && flight.hash == hash;
            is_of_key && flight.kind.is_refresh() && !flight.is_fenced()
        };
        if self.find_flight(hash, is_other).is_none() {
            self.release(hash, Freshness::Boarded, due);
        }
    }

    /// Gives up a claim of the refresh of a key with this hash that has come to no flight.
    #[cold]
    pub(crate) fn release_claim(&self, hash: u64) {
        self.release(narrow(hash), Freshness::Claimed, Freshness::Due(0));
    }

    /// Has an entry refreshed by others, when it is `due`. It may be another one of the same hash, for no key
    /// can be compared here: a call that claims its refresh then finds that there is a flight.
    fn release(&self, hash: u32, from: Freshness, due: Freshness) {
        for node in self.table.iter_hash(wide(hash)).filter(|node| !node.is_flight()) {
            let fresh = self.freshness.get(node.slot());
            let fresh = fresh.filter(|_| self.entries[node.slot()].hash == hash);
            fresh.filter(|fresh| fresh.get() == from).into_iter().for_each(|fresh| fresh.set(due));
        }
    }

    /// Gives memory back that a burst of flights has left, once they have all ended.
    #[inline]
    pub(super) fn end_burst(&mut self) {
        if self.flights.is_empty() && self.flights.capacity() > Self::KEPT_FLIGHTS {
            self.resize();
        }
    }

    #[cold]
    fn resize(&mut self) {
        self.flights = Slab::new();
        let Self { table, entries, flights, .. } = self;
        if table.capacity() > 4 * entries.len() {
            table.shrink_to(entries.len(), |&node| hash_of(entries, flights, node));
        }
    }

    /// Takes a caller off the flight of this id, if that has not ended; returns the flight if nobody
    /// is left to move its load on. An entry that it was to refresh is to be by another when it is `due`.
    pub(crate) fn leave(&mut self, id: FlightId, due: Freshness) -> Option<Ended<K, V>> {
        let completion = self.flight_if_there(id)?.completion.as_ref()?;
        completion.count_out().then(|| self.end_refresh(id, due))
    }

    /// Takes a caller off the flight of this id, if that has not ended and has others; tells whether it has not
    /// ended, and has none.
    pub(crate) fn leave_unless_last(&mut self, id: FlightId) -> bool {
        let flight = self.flight_if_there(id);
        let completion = flight.and_then(|flight| flight.completion.as_ref());
        completion.is_some_and(|completion| !completion.count_out_unless_last())
    }

    /// Keeps the values of all flights of `key` out of the cache; says whether there was one.
    #[inline(never)]
    pub(crate) fn fence<Q>(&mut self, hash: u64, key: &Q) -> bool
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.fence_each(hash, |flight| key.equivalent(flight.key()))
    }

    /// Keeps the values of refreshes of `key` out of the cache.
    pub(crate) fn fence_refresh(&mut self, hash: u64, key: &K)
    where
        K: Eq,
    {
        self.fence_each(hash, |flight| flight.kind.is_refresh() && flight.key() == key);
    }

    #[inline(always)]
    fn fence_each(&mut self, hash: u64, is_chosen: impl Fn(&Flight<K, V>) -> bool) -> bool {
        let mut found = false;
        let is_chosen = |flight: &Flight<K, V>| !flight.is_fenced() && is_chosen(flight);
        while let Some(bucket) = self.find_flight(narrow(hash), is_chosen) {
            self.fence_bucket(bucket);
            found = true;
        }
        found
    }

    /// Keeps the values of all other flights of the same key out of the cache as that of this id.
    #[inline(never)]
    pub(crate) fn fence_others(&mut self, id: FlightId)
    where
        K: Eq,
    {
        loop {
            let own = self.flight(id);
            let is_other = |flight: &Flight<K, V>| {
                flight.id != id && !flight.is_fenced() && flight.key() == own.key()
            };
            let Some(bucket) = self.find_flight(own.hash, is_other) else { return };
            self.fence_bucket(bucket);
        }
    }

    /// Keeps the value of the flight of this id, which its leader has not ended, out of the cache.
    pub(crate) fn fence_one(&mut self, id: FlightId) {
        let flight = self.flight(id);
        let (hash, was_listed) = (flight.hash, flight.is_listed());
        self.flight_mut(id).state = FlightState::Fenced;
        if was_listed && !self.flight(id).is_listed() {
            self.unlist(hash, Node::flight(id.slot()));
        }
    }

    /// Keeps the values of all flights out of the cache. An entry that one of them was to refresh is to be by
    /// another.
    pub(crate) fn fence_all(&mut self) {
        let ids: Vec<FlightId> = self.flights.iter().map(|(_, flight)| flight.id).collect();
        ids.iter().for_each(|id| self.fence_one(*id));
        if !self.freshness.is_empty() {
            let refreshes = ids.iter().filter(|id| self.flight(**id).kind.is_refresh());
            refreshes.for_each(|id| self.release_refresh(*id, Freshness::Due(0)));
        }
    }

    /// The same, if its leader has not ended it.
    pub(crate) fn fence_if_there(&mut self, id: FlightId) {
        if self.flight_if_there(id).is_some() {
            self.fence_one(id);
        }
    }

    fn fence_bucket(&mut self, bucket: usize) {
        let node = self.table.get_bucket(bucket).expect("it was found there");
        let flight = &mut self.flights[node.slot()];
        flight.state = FlightState::Fenced;
        if !flight.is_listed() {
            self.unlist_bucket(Bucket(Some(bucket)));
        }
    }

    /// Has a sweep asked about the value of every flight that there is.
    pub(crate) fn await_sweep(&mut self, sweep: &Arc<Predicate<K, V>>) {
        let slots: Vec<usize> = self.flights.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            // Taken out and put back, since a key has to be moved to be shared.
            let mut flight = self.flights.remove(slot);
            flight.key = flight.key.into_shared();
            flight.await_sweep(sweep);
            let place = self.flights.insert(flight);
            debug_assert_eq!(place, slot, "a slab gives the slot that was freed last");
        }
    }

    /// Copies the keys of all flights whose values will be cached, with what tells the flights apart.
    pub(crate) fn flight_keys_into(&self, keys: &mut Vec<(FlightId, K)>)
    where
        K: Clone,
    {
        for (_, flight) in self.flights.iter().filter(|(_, flight)| !flight.is_fenced()) {
            keys.push((flight.id, flight.key().clone()));
        }
    }

    /// Gives memory back that a burst of flights has left.
    pub(crate) fn compact_flights(&mut self) {
        self.flights.shrink_to_fit();
    }
}
