//! The way of a call up to its value: a hit, a flight that it leads, or others that it waits for.

use super::answer::Errors;
use super::join::Joined;
use super::key::KeySource;
use super::leader::Leader;
use crate::entries::{FlightKey, Kind};
use crate::flight::Outcome;
use crate::shard::departed::Departed;
use crate::shard::hit::Use;
use crate::shard::lead_or_join::{LeadOrJoin, LoadRequest};
use crate::store::Store;
use crate::sync::counters::Event;

/// How a call goes on.
pub(super) enum Start<'a, K, V> {
    Found(V),
    Lead(Leader<'a, K, V>),
    Wait(Waiter<'a, K, V>),
}

/// Takes a call as far as it gets without waiting.
#[inline]
pub(super) fn start<K, V>(
    store: &Store<K, V>,
    hash: u64,
    key: impl KeySource<K>,
    kind: Kind,
) -> Start<'_, K, V>
where
    K: Eq,
    V: Clone,
{
    let key = match key.try_into_key() {
        Ok(key) => {
            // With the key at hand, a hit and a flight are looked for at once, but not by a pin; nor where
            // the key of a flight is made anew, which a hit is not to pay for.
            let value = match store.appraises() {
                true => store.get(hash, &key),
                false => store.get_pinned(hash, &key),
            };
            if let Some(value) = value {
                drop(key);
                return Start::Found(value);
            }
            key
        }
        Err(borrowed) => match store.get(hash, borrowed.query()) {
            Some(value) => return Start::Found(value),
            None => borrowed.into_key(),
        },
    };
    Call::new(store, hash, key, kind).lead_or_join()
}

/// A value, or a flight: how a call looks after one section under the lock.
enum Met<'a, K, V> {
    Value(V),
    Leads(Leader<'a, K, V>),
    Joins(Joined<'a, K, V>),
}

/// A call that has found no value yet.
pub(super) struct Call<'a, K, V> {
    store: &'a Store<K, V>,
    request: LoadRequest<K>,
}

impl<'a, K: Eq, V: Clone> Call<'a, K, V> {
    #[inline]
    fn new(store: &'a Store<K, V>, hash: u64, key: K, kind: Kind) -> Self {
        let key = Some(FlightKey::new(key, store.appraises()));
        Self { store, request: LoadRequest { hash, key, kind, of: Use::Hit } }
    }

    /// Finds a value, leads a flight or joins the one there is.
    #[inline]
    pub(super) fn lead_or_join(mut self) -> Start<'a, K, V> {
        match self.meet() {
            Met::Value(value) => {
                drop(self);
                Start::Found(value)
            }
            Met::Leads(leader) => Start::Lead(leader),
            Met::Joins(joined) => Start::Wait(Waiter { call: self, joined }),
        }
    }

    /// Does the same, but for what becomes of the call.
    #[inline(never)]
    fn meet(&mut self) -> Met<'a, K, V> {
        let store = self.store;
        let mut departed = Departed::default();
        let met = match store.lead_or_join(&mut self.request, &mut departed) {
            LeadOrJoin::Hit(value) => {
                drop(departed);
                return Met::Value(value);
            }
            LeadOrJoin::Lead(flight) => {
                self.count(Event::Miss);
                Met::Leads(Leader::new(store, flight, self.request.kind))
            }
            LeadOrJoin::Join(flight, completion) => {
                self.count(Event::Coalesced);
                Met::Joins(Joined::new(store, flight, completion))
            }
        };
        // What had expired is left to whoever delivers; this call waits for the listener when it has
        // loaded.
        departed.let_go();
        met
    }

    /// Counts the call, unless that was done before: as what it met first.
    #[inline]
    fn count(&mut self, event: Event) {
        if self.request.of == Use::Hit {
            self.request.of = Use::Uncounted;
            self.store.count(event);
        }
    }
}

/// A call that has joined a flight.
pub(super) struct Waiter<'a, K, V> {
    call: Call<'a, K, V>,
    joined: Joined<'a, K, V>,
}

/// The end of waiting for one flight.
pub(super) enum Settled<'a, K, V, E> {
    Answer(Result<V, E>),
    /// The flight had no answer, and the call is to go on.
    GoOn(Call<'a, K, V>),
}

/// The end of waiting.
pub(super) enum Waited<'a, K, V, E> {
    Lead(Leader<'a, K, V>),
    Answer(Result<V, E>),
}

impl<'a, K: Eq, V: Clone> Waiter<'a, K, V> {
    /// Waits for the flight, and for those that follow it until one has an answer.
    ///
    /// After a flight that was abandoned all its waiters go on at once. The first to be polled leads
    /// and the others join it, so one that is not polled any more holds up nobody.
    pub(super) async fn wait<P: Errors>(mut self, errors: &P) -> Waited<'a, K, V, P::Error> {
        loop {
            self = match self.settle(errors).await {
                Settled::Answer(answer) => return Waited::Answer(answer),
                Settled::GoOn(call) => match call.lead_or_join() {
                    Start::Found(value) => return Waited::Answer(Ok(value)),
                    Start::Lead(leader) => return Waited::Lead(leader),
                    Start::Wait(waiter) => waiter,
                },
            };
        }
    }

    /// Waits for the flight.
    pub(super) async fn settle<P: Errors>(self, errors: &P) -> Settled<'a, K, V, P::Error> {
        let (outcome, deliveries) = self.joined.outcome().await;
        // Before the answer is taken, so that the future needs no room for it.
        deliveries.settle().await;
        let answer = if self.joined.is_late() { None } else { answer(errors, outcome) };
        let Self { call, joined } = self;
        drop(joined);
        match answer {
            Some(answer) => {
                drop(call);
                Settled::Answer(answer)
            }
            None => Settled::GoOn(call),
        }
    }
}

/// The answer of a call that waited for a flight with this outcome, if that gives one.
fn answer<P: Errors, V: Clone>(errors: &P, outcome: &Outcome<V>) -> Option<Result<V, P::Error>> {
    match outcome {
        Outcome::Value(value) => Some(Ok(value.clone())),
        Outcome::Failure(failure) => errors.shared(failure).map(Err),
        Outcome::Abandoned => None,
    }
}
