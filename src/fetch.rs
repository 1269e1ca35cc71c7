//! The way of one `get_or_insert` call: a hit, or a flight that it leads or waits for.
//!
//! Whatever is on its way to the caller would be leaked by a `Drop` of the user's that panics after
//! it, so here everything else is dropped first.
//!
//! The ways are functions that return an `async` block, for an `async fn` would keep room for its
//! arguments twice: as they came, and as its body has them. Nor does an arm of a `match` on a value
//! wait, since that would keep room for the value.

mod bulk;
mod detached;
mod joins;
mod update;

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::bulk::fetch_many;
use self::detached::Passage;
pub(crate) use self::detached::fetch_detached;
pub(crate) use self::update::update;
use crate::appraisal::Appraisal;
use crate::counters::Event;
use crate::flight::{Boarding, Ended, FlightKey, FlightName, Kind, Outcome, Polling, Ticket};
use crate::outbox::Notices;
use crate::patience::Patience;
use crate::protocol::{KeySource, Protocol, Source};
use crate::shard::{Missing, Origin, Submission};
use crate::store::Store;

/// Answers a call: from the cache, from a flight that somebody else leads, or by running `load`.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch<P, K, V, S, F, Fut>(
    store: &Store<K, V>,
    hasher: &S,
    key: impl KeySource<K>,
    load: F,
    protocol: P,
) -> impl Future<Output = P::Answer<P::Told<V>>>
where
    P: Protocol,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    F: FnOnce() -> Fut,
    Fut: Future<Output = P::Answer<V>>,
{
    async move {
        let mut leader = 'leads: {
            let waits = match start(store, hasher.hash_one(key.query()), key, Kind::Led) {
                Step::Found(value) => {
                    drop(load);
                    return P::answer(Ok(P::tell(value, Source::Cache)));
                }
                Step::Lead(leader) => break 'leads leader,
                // In a box, so that the futures of all calls need no room for what waiters remember.
                Step::Wait(waiter) => Box::pin(waiter.wait(&protocol)),
            };
            match waits.await {
                Waited::Lead(leader) => leader,
                Waited::Answer(answer) => {
                    drop(load);
                    return P::answer(answer.map(|value| P::tell(value, Source::Flight)));
                }
            }
        };
        let answer = {
            let mut load = pin!(leader.start(load));
            poll_fn(|cx| {
                let _polling = Polling::enter(leader.flight(), cx);
                load.as_mut().poll(cx)
            })
            .await
        };
        let answer = P::result(answer);
        let notices = 'ends: {
            // Not by `deliver`, for some hundredths of a miss.
            let waits = match &answer {
                Ok(value) => match leader.deliver_now(value) {
                    Ok(notices) => break 'ends notices,
                    // In a box, so that the futures of all calls need no room for it.
                    Err(waiting) => Box::pin(leader.deliver_later(value, waiting)),
                },
                Err(error) => {
                    leader.fail(|| protocol.failure(error));
                    break 'ends store.backlog(leader.hash);
                }
            };
            waits.await
        };
        drop(leader);
        if notices.is_empty() {
            // There is nothing to drop, which would take a hundredth of a miss to find out.
            std::mem::forget(notices);
        } else {
            notices.settle().await;
        }
        P::answer(answer.map(|value| P::tell(value, Source::Closure)))
    }
}

/// How a call goes on.
enum Step<'a, K, V> {
    Found(V),
    Lead(Leader<'a, K, V>),
    Wait(Waiter<'a, K, V>),
}

/// Takes a call as far as it gets without waiting.
fn start<K, V>(store: &Store<K, V>, hash: u64, key: impl KeySource<K>, kind: Kind) -> Step<'_, K, V>
where
    K: Eq,
    V: Clone,
{
    match store.get(hash, key.query()) {
        Ok(value) => {
            store.count(Event::Hit);
            drop(key);
            Step::Found(value)
        }
        Err(missing) => Call::new(store, hash, key.into_key(), kind).board(missing),
    }
}

/// A call that has found no value yet.
struct Call<'a, K, V> {
    store: &'a Store<K, V>,
    hash: u64,
    key: FlightKey<K>,
    /// In a cache that appraises its entries, the leader's share of the key.
    appraised_key: Option<Arc<K>>,
    /// Whether the call has been counted, as what it met first.
    is_counted: bool,
    /// Where its load would be.
    kind: Kind,
}

impl<'a, K: Eq, V: Clone> Call<'a, K, V> {
    fn new(store: &'a Store<K, V>, hash: u64, key: K, kind: Kind) -> Self {
        let (key, appraised_key) = FlightKey::new(key, store.appraises());
        Self { store, hash, key, appraised_key, is_counted: false, kind }
    }

    /// Leads a flight or joins the one there is, after a look that found no value.
    fn board(mut self, mut missing: Missing) -> Step<'a, K, V> {
        let shard = self.store.shard(self.hash);
        if !self.store.coalesces() {
            self.count(Event::Miss);
            self.expire(missing);
            let ticket = shard.fly_alone(self.hash, self.key, self.kind);
            return Step::Lead(Leader::new(self.store, self.hash, ticket, self.appraised_key));
        }
        loop {
            self.expire(missing);
            match shard.board(self.hash, self.key, missing, self.kind) {
                Boarding::Lead(ticket) => {
                    let Self { store, hash, appraised_key, .. } = self;
                    if !self.is_counted {
                        store.count(Event::Miss);
                    }
                    return Step::Lead(Leader::new(store, hash, ticket, appraised_key));
                }
                Boarding::Join(key, landing, ticket) => {
                    self.key = key;
                    self.count(Event::Coalesced);
                    let passage = Passage::new(self.store, self.hash, ticket, landing);
                    return Step::Wait(Waiter { call: self, passage });
                }
                // A write has come between: the value may be there now.
                Boarding::LookAgain(key) => self.key = key,
            }
            match self.look() {
                Ok(value) => return self.found(value),
                Err(newer) => missing = newer,
            }
        }
    }

    /// Has an entry leave whose time is over, before another is loaded in its place.
    #[inline]
    fn expire(&self, missing: Missing) {
        if missing.has_expired() {
            // Left to whoever delivers; this call waits for the listener when it has loaded.
            drop(self.store.expire(self.hash, self.key.get()));
        }
    }

    /// Goes on after a flight that was abandoned.
    fn go_on(self) -> Step<'a, K, V> {
        match self.look() {
            Ok(value) => self.found(value),
            Err(missing) => self.board(missing),
        }
    }

    fn look(&self) -> Result<V, Missing> {
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
    passage: Passage<'a, K, V>,
}

/// What came of waiting for one flight.
enum Settled<'a, K, V, E> {
    Answer(Result<V, E>),
    /// The flight had no answer, and the call is to go on.
    GoOn(Call<'a, K, V>),
}

/// What came of waiting.
enum Waited<'a, K, V, E> {
    Lead(Leader<'a, K, V>),
    Answer(Result<V, E>),
}

impl<'a, K: Eq, V: Clone> Waiter<'a, K, V> {
    /// Waits for the flight, and for those that follow it until one has an answer.
    ///
    /// After a flight that was abandoned all its waiters go on at once. The first to be polled leads
    /// and the others join it, so one that is not polled any more holds up nobody.
    async fn wait<P: Protocol>(mut self, protocol: &P) -> Waited<'a, K, V, P::Error> {
        loop {
            self = match self.settle(protocol).await {
                Settled::Answer(answer) => return Waited::Answer(answer),
                Settled::GoOn(call) => match call.go_on() {
                    Step::Found(value) => return Waited::Answer(Ok(value)),
                    Step::Lead(leader) => return Waited::Lead(leader),
                    Step::Wait(waiter) => waiter,
                },
            };
        }
    }

    /// Waits for the flight.
    async fn settle<P: Protocol>(self, protocol: &P) -> Settled<'a, K, V, P::Error> {
        let (outcome, notices) = self.passage.outcome().await;
        // Before the answer is taken, so that the future needs no room for it.
        notices.settle().await;
        let answer = answer(protocol, outcome);
        let Self { call, passage } = self;
        drop(passage);
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
fn answer<P: Protocol, V: Clone>(
    protocol: &P,
    outcome: &Outcome<V>,
) -> Option<Result<V, P::Error>> {
    match outcome {
        Outcome::Value(value) => Some(Ok(value.clone())),
        Outcome::Failure(failure) => protocol.shared(&**failure).map(Err),
        Outcome::Abandoned => None,
    }
}

/// The duty to end a flight. Dropped early, by a cancelled call, a panic or on the way out of an
/// error, it lets the waiters try for themselves.
struct Leader<'a, K, V> {
    store: &'a Store<K, V>,
    hash: u64,
    ticket: Ticket,
    stage: Stage,
    /// In a cache that appraises its entries, the key of the flight.
    appraised_key: Option<Arc<K>>,
}

/// How far a leader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It leads its flight.
    Boarded,
    /// Its load has started, and fails if it comes no further.
    Loading,
    /// The flight has ended, or is somebody else's to end.
    Ended,
}

impl<'a, K, V> Leader<'a, K, V> {
    fn new(
        store: &'a Store<K, V>,
        hash: u64,
        ticket: Ticket,
        appraised_key: Option<Arc<K>>,
    ) -> Self {
        Self { store, hash, ticket, stage: Stage::Boarded, appraised_key }
    }

    fn flight(&self) -> FlightName {
        (self.store.shard(self.hash).address(), self.ticket)
    }

    /// Calls the user's closure.
    fn start<Fut>(&mut self, load: impl FnOnce() -> Fut) -> Fut {
        self.store.count(Event::Load);
        self.stage = Stage::Loading;
        load()
    }

    /// Ends the flight with a value, as [`deliver`](Self::deliver) does, and waits for the listener. In one
    /// future, as what its caller holds over several waits has a place of its own in that of the caller.
    async fn deliver_and_settle(mut self, value: &V, own: Option<Duration>)
    where
        K: Eq,
        V: Clone,
    {
        let notices = self.deliver(value, own).await;
        drop(self);
        notices.settle().await;
    }

    /// Ends the flight with a value, which is cached if the cache takes any, and may be given a lifetime of
    /// its `own`. Returns what is left to do for the listener.
    async fn deliver(&mut self, value: &V, own: Option<Duration>) -> Notices<K, V>
    where
        K: Eq,
        V: Clone,
    {
        let waits = match self.deliver_now_for(value, own) {
            Ok(notices) => return notices,
            Err(waiting) => Box::pin(self.deliver_later(value, waiting)),
        };
        waits.await
    }

    /// Does the same, with no lifetime of its own, if no other writer is at work.
    fn deliver_now(&mut self, value: &V) -> Result<Notices<K, V>, Box<Submission<K, V>>>
    where
        K: Eq,
        V: Clone,
    {
        self.deliver_now_for(value, None)
    }

    #[inline(always)]
    fn deliver_now_for(
        &mut self,
        value: &V,
        own: Option<Duration>,
    ) -> Result<Notices<K, V>, Box<Submission<K, V>>>
    where
        K: Eq,
        V: Clone,
    {
        let outcome = || Outcome::Value(value.clone());
        if !self.store.takes_values() {
            self.end(outcome);
            return Ok(Notices::default());
        }
        if own.is_some() {
            self.store.lifetimes().use_time();
        }
        let kept = value.clone();
        // The flight gets its key back before it needs it.
        let key = self.appraised_key.take();
        let appraisal = key.map(|key| self.store.appraise(&key, &kept)).unwrap_or_default();
        self.publish(kept, appraisal.with_own(own), outcome)
    }

    async fn deliver_later(&mut self, value: &V, waiting: Box<Submission<K, V>>) -> Notices<K, V>
    where
        K: Eq,
        V: Clone,
    {
        let mut submission = self.store.submit_later(waiting).await;
        self.land(&mut submission, || Outcome::Value(value.clone()));
        self.part_with(*submission)
    }

    /// Caches the value of the flight, which has been appraised, unless a later write has won, and ends
    /// the flight; if no other writer is at work. Returns what is left to do for the listener.
    #[inline]
    fn publish(
        &mut self,
        value: V,
        appraisal: Appraisal,
        outcome: impl Fn() -> Outcome<V>,
    ) -> Result<Notices<K, V>, Box<Submission<K, V>>>
    where
        K: Eq,
    {
        let origin = Origin::Flight(self.ticket);
        let mut submission = self.store.submission(self.hash, origin, value, appraisal);
        if self.store.try_submit(&mut submission, Patience::Try).is_none() {
            return Err(Box::new(submission));
        }
        self.land(&mut submission, outcome);
        if self.store.has_listener() {
            return Ok(self.part_with(submission));
        }
        Ok(Notices::default())
    }

    /// Tells the waiters, before the user's `Drop` of what the entry has displaced may panic.
    fn land(&mut self, submission: &mut Submission<K, V>, outcome: impl Fn() -> Outcome<V>) {
        self.stage = Stage::Ended;
        submission.take_arrival().land(outcome);
    }

    /// Drops the rest of a submission, and returns what is left to do for the listener: to wait for it too
    /// if it is far behind, whatever has left on this call's account.
    #[cold]
    fn part_with(&self, submission: Submission<K, V>) -> Notices<K, V> {
        let mut notices = submission.into_notices();
        notices.append(self.store.backlog(self.hash));
        notices
    }

    /// Ends the flight with a value that is not to be cached, or with none.
    fn end(&mut self, outcome: impl FnOnce() -> Outcome<V>) {
        self.stage = Stage::Ended;
        // The rest is dropped last: the waiters come before the user's `Drop`.
        let Ended { key: _key, arrival, sweeps: _sweeps } =
            self.store.shard(self.hash).end_flight(self.hash, self.ticket);
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
        match self.stage {
            Stage::Boarded => self.end(|| Outcome::Abandoned),
            Stage::Loading => self.fail(|| Outcome::Abandoned),
            Stage::Ended => {}
        }
    }
}
