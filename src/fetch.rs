//! The way of one `get_or_insert` call: a hit, or a flight that it leads or waits for.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;

use crate::counters::Event;
use crate::flight::{Boarding, FlightKey, FlightName, Outcome, Polling, Ticket};
use crate::protocol::{KeySource, Protocol};
use crate::shard::{Origin, Submission};
use crate::store::Store;

/// Answers a call: from the cache, from a flight that somebody else leads, or by running `load`.
pub(crate) async fn fetch<P, K, V, S, F, Fut>(
    store: &Store<K, V>,
    hasher: &S,
    key: impl KeySource<K>,
    load: F,
    protocol: P,
) -> P::Answer
where
    P: Protocol<V>,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    F: FnOnce() -> Fut,
    Fut: Future<Output = P::Answer>,
{
    let hash = hasher.hash_one(key.query());
    let epoch = match store.get(hash, key.query()) {
        Ok(value) => {
            store.count(Event::Hit);
            // What the call does not need goes first: a value that is on its way to the caller would
            // be leaked by a `Drop` that panics after it. So below, too.
            drop(key);
            drop(load);
            return P::found(value);
        }
        Err(epoch) => epoch,
    };
    let mut leader = match board(store, hash, key.into_key(), epoch, &protocol).await {
        Boarded::Lead(leader) => leader,
        Boarded::Answer(answer) => {
            drop(load);
            return answer;
        }
    };
    let answer = {
        let mut load = pin!(leader.start(load));
        poll_fn(|cx| {
            let _polling = Polling::enter(leader.flight());
            load.as_mut().poll(cx)
        })
        .await
    };
    match P::value(&answer) {
        Some(value) if store.keeps_entries() => {
            leader.publish(value.clone(), || Outcome::Value(value.clone())).await;
        }
        Some(value) => leader.end(|| Outcome::Value(value.clone())),
        None => leader.fail(|| protocol.failure(&answer)),
    }
    drop(leader);
    answer
}

/// How a call that found no value goes on.
enum Boarded<'a, K, V, A> {
    Lead(Leader<'a, K, V>),
    Answer(A),
}

/// Leads a flight, or waits for those of others until one has an answer.
///
/// After a flight that was abandoned all its waiters come back here at once. The first to be polled
/// leads and the others join it, so one that is not polled any more holds up nobody.
async fn board<'a, P, K, V>(
    store: &'a Store<K, V>,
    hash: u64,
    key: K,
    mut epoch: u64,
    protocol: &P,
) -> Boarded<'a, K, V, P::Answer>
where
    P: Protocol<V>,
    K: Eq,
    V: Clone,
{
    let shard = store.shard(hash);
    let (key, measured_key) = FlightKey::new(key, store.measures());
    if !store.coalesces() {
        store.count(Event::Miss);
        let ticket = shard.fly_alone(hash, key);
        return Boarded::Lead(Leader::new(store, hash, ticket, measured_key));
    }
    let mut key = Some(key);
    // A call counts once, as what it met first.
    let mut counted = None;
    let mut count = |event| {
        if counted.is_none() {
            counted = Some(event);
            store.count(event);
        }
    };
    let answer = loop {
        match shard.board(hash, &mut key, epoch) {
            Some(Boarding::Lead(ticket)) => {
                count(Event::Miss);
                return Boarded::Lead(Leader::new(store, hash, ticket, measured_key));
            }
            Some(Boarding::Join(landing, ticket)) => {
                count(Event::Coalesced);
                let answer = match landing.wait((shard.address(), ticket)).await {
                    Outcome::Value(value) => Some(P::found(value.clone())),
                    Outcome::Failure(failure) => protocol.shared(&**failure),
                    Outcome::Abandoned => None,
                };
                drop(landing);
                if let Some(answer) = answer {
                    break answer;
                }
            }
            None => {}
        }
        let wanted = key.as_ref().expect("the key leaves only with the flight that ends the loop");
        match store.get(hash, wanted.get()) {
            Ok(value) => {
                count(Event::Hit);
                break P::found(value);
            }
            Err(newer) => epoch = newer,
        }
    };
    drop(key);
    drop(measured_key);
    Boarded::Answer(answer)
}

/// The duty to end a flight. Dropped early, by a cancelled call, a panic or on the way out of an
/// error, it lets the waiters try for themselves.
struct Leader<'a, K, V> {
    store: &'a Store<K, V>,
    hash: u64,
    ticket: Ticket,
    has_ended: bool,
    /// In a cache that measures its entries, the key of the flight.
    measured_key: Option<Arc<K>>,
}

impl<'a, K, V> Leader<'a, K, V> {
    fn new(
        store: &'a Store<K, V>,
        hash: u64,
        ticket: Ticket,
        measured_key: Option<Arc<K>>,
    ) -> Self {
        Self { store, hash, ticket, has_ended: false, measured_key }
    }

    fn flight(&self) -> FlightName {
        (self.store.shard(self.hash).address(), self.ticket)
    }

    /// Calls the user's closure.
    fn start<Fut>(&self, load: impl FnOnce() -> Fut) -> Fut {
        self.store.count(Event::Load);
        let _polling = Polling::enter(self.flight());
        load()
    }

    /// Caches the value of the flight, unless a later write has won, and ends the flight.
    async fn publish(&mut self, value: V, outcome: impl Fn() -> Outcome<V>)
    where
        K: Eq,
    {
        if let Err(waiting) = self.publish_now(value, &outcome) {
            let submission = self.store.submit_later(waiting).await;
            self.land(*submission, &outcome);
        }
    }

    /// Does the same if no other writer is at work.
    fn publish_now(
        &mut self,
        value: V,
        outcome: impl Fn() -> Outcome<V>,
    ) -> Result<(), Box<Submission<K, V>>>
    where
        K: Eq,
    {
        // The flight gets its key back before it needs it.
        let size = self.measured_key.take().and_then(|key| self.store.size(&key, &value));
        let origin = Origin::Flight(self.ticket);
        let submission = self.store.submission(self.hash, origin, value, size);
        let submission = self.store.submit_now(submission)?;
        self.land(submission, outcome);
        Ok(())
    }

    /// Tells the waiters, before the user's `Drop` of what the entry has displaced may panic.
    fn land(&mut self, mut submission: Submission<K, V>, outcome: impl Fn() -> Outcome<V>) {
        self.has_ended = true;
        submission.take_arrival().land(outcome);
    }

    /// Ends the flight with a value that is not to be cached, or with none.
    fn end(&mut self, outcome: impl FnOnce() -> Outcome<V>) {
        self.has_ended = true;
        // The key is dropped last: the waiters come before the user's `Drop`.
        let (_key, arrival) = self.store.shard(self.hash).end_flight(self.hash, self.ticket);
        arrival.land(outcome);
    }

    /// Ends the flight without a value.
    fn fail(&mut self, outcome: impl FnOnce() -> Outcome<V>) {
        self.store.count(Event::LoadFailure);
        self.end(outcome);
    }
}

impl<K, V> Drop for Leader<'_, K, V> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.fail(|| Outcome::Abandoned);
        }
    }
}
