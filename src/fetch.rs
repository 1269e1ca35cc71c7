//! The way of one `get_or_insert` call: a hit, or a flight that it leads or waits for.
//!
//! Whatever is on its way to the caller would be leaked by a `Drop` of the user's that panics after
//! it, so here everything else is dropped first.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;

use crate::counters::Event;
use crate::flight::{Boarding, FlightKey, FlightName, Landing, Outcome, Polling, Ticket};
use crate::patience::Patience;
use crate::protocol::{KeySource, Protocol, Source};
use crate::shard::{Origin, Submission};
use crate::store::Store;

/// Answers a call: from the cache, from a flight that somebody else leads, or by running `load`.
pub(crate) async fn fetch<P, K, V, S, F, Fut>(
    store: &Store<K, V>,
    hasher: &S,
    key: impl KeySource<K>,
    load: F,
    mut protocol: P,
) -> P::Answer
where
    P: Protocol<V>,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    F: FnOnce() -> Fut,
    Fut: Future<Output = P::Answer>,
{
    let mut leader = match start(store, hasher, key) {
        Step::Found(value) => {
            drop(load);
            protocol.answered(Source::Cache);
            return P::found(value);
        }
        Step::Lead(leader) => leader,
        // In a box, so that the futures of all calls need no room for what waiters remember.
        Step::Wait(waiter) => match Box::pin(waiter.wait(&protocol)).await {
            Waited::Lead(leader) => leader,
            Waited::Answer(answer) => {
                drop(load);
                protocol.answered(Source::Flight);
                return answer;
            }
        },
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

/// How a call goes on.
enum Step<'a, K, V> {
    Found(V),
    Lead(Leader<'a, K, V>),
    Wait(Waiter<'a, K, V>),
}

/// Takes a call as far as it gets without waiting.
fn start<'a, K, V, S>(store: &'a Store<K, V>, hasher: &S, key: impl KeySource<K>) -> Step<'a, K, V>
where
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
{
    let hash = hasher.hash_one(key.query());
    match store.get(hash, key.query()) {
        Ok(value) => {
            store.count(Event::Hit);
            drop(key);
            Step::Found(value)
        }
        Err(epoch) => Call::new(store, hash, key.into_key()).board(epoch),
    }
}

/// A call that has found no value yet.
struct Call<'a, K, V> {
    store: &'a Store<K, V>,
    hash: u64,
    key: FlightKey<K>,
    /// In a cache that measures its entries, the leader's share of the key.
    measured_key: Option<Arc<K>>,
    /// Whether the call has been counted, as what it met first.
    is_counted: bool,
}

impl<'a, K: Eq, V: Clone> Call<'a, K, V> {
    fn new(store: &'a Store<K, V>, hash: u64, key: K) -> Self {
        let (key, measured_key) = FlightKey::new(key, store.measures());
        Self { store, hash, key, measured_key, is_counted: false }
    }

    /// Leads a flight or joins the one there is, after a look at `epoch` that found no value.
    fn board(mut self, mut epoch: u64) -> Step<'a, K, V> {
        let shard = self.store.shard(self.hash);
        if !self.store.coalesces() {
            self.count(Event::Miss);
            let ticket = shard.fly_alone(self.hash, self.key);
            return Step::Lead(Leader::new(self.store, self.hash, ticket, self.measured_key));
        }
        loop {
            match shard.board(self.hash, self.key, epoch) {
                Boarding::Lead(ticket) => {
                    let Self { store, hash, measured_key, .. } = self;
                    if !self.is_counted {
                        store.count(Event::Miss);
                    }
                    return Step::Lead(Leader::new(store, hash, ticket, measured_key));
                }
                Boarding::Join(key, landing, ticket) => {
                    self.key = key;
                    self.count(Event::Coalesced);
                    return Step::Wait(Waiter { call: self, landing, ticket });
                }
                // A write has come between: the value may be there now.
                Boarding::LookAgain(key) => self.key = key,
            }
            match self.look() {
                Ok(value) => return self.found(value),
                Err(newer) => epoch = newer,
            }
        }
    }

    /// Goes on after a flight that was abandoned.
    fn go_on(self) -> Step<'a, K, V> {
        match self.look() {
            Ok(value) => self.found(value),
            Err(epoch) => self.board(epoch),
        }
    }

    fn look(&self) -> Result<V, u64> {
        self.store.get(self.hash, self.key.get())
    }

    fn found(mut self, value: V) -> Step<'a, K, V> {
        self.count(Event::Hit);
        drop(self);
        Step::Found(value)
    }

    fn count(&mut self, event: Event) {
        if !self.is_counted {
            self.is_counted = true;
            self.store.count(event);
        }
    }
}

/// A call that has joined a flight.
struct Waiter<'a, K, V> {
    call: Call<'a, K, V>,
    landing: Arc<Landing<V>>,
    ticket: Ticket,
}

/// What came of waiting.
enum Waited<'a, K, V, A> {
    Lead(Leader<'a, K, V>),
    Answer(A),
}

impl<'a, K: Eq, V: Clone> Waiter<'a, K, V> {
    /// Waits for the flight, and for those that follow it until one has an answer.
    ///
    /// After a flight that was abandoned all its waiters go on at once. The first to be polled leads
    /// and the others join it, so one that is not polled any more holds up nobody.
    async fn wait<P>(mut self, protocol: &P) -> Waited<'a, K, V, P::Answer>
    where
        P: Protocol<V>,
    {
        loop {
            let shard = self.call.store.shard(self.call.hash);
            let answer = match self.landing.wait((shard.address(), self.ticket)).await {
                Outcome::Value(value) => Some(P::found(value.clone())),
                Outcome::Failure(failure) => protocol.shared(&**failure),
                Outcome::Abandoned => None,
            };
            let Self { call, landing, .. } = self;
            drop(landing);
            if let Some(answer) = answer {
                drop(call);
                return Waited::Answer(answer);
            }
            self = match call.go_on() {
                Step::Found(value) => return Waited::Answer(P::found(value)),
                Step::Lead(leader) => return Waited::Lead(leader),
                Step::Wait(waiter) => waiter,
            };
        }
    }
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
            let mut submission = self.store.submit_later(waiting).await;
            self.land(&mut submission, &outcome);
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
        let mut submission = self.store.submission(self.hash, origin, value, size);
        if self.store.try_submit(&mut submission, Patience::Try).is_none() {
            return Err(Box::new(submission));
        }
        self.land(&mut submission, outcome);
        Ok(())
    }

    /// Tells the waiters, before the user's `Drop` of what the entry has displaced may panic.
    fn land(&mut self, submission: &mut Submission<K, V>, outcome: impl Fn() -> Outcome<V>) {
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
