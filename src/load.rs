//! The way of one `get_or_insert` call: a hit, or a flight that it leads or waits for.
//!
//! Whatever is on its way to the caller would be leaked by a `Drop` of the user's that panics after
//! it, so here everything else is dropped first.
//!
//! The ways are functions that return an `async` block, for an `async fn` would keep room for its
//! arguments twice: as they came, and as its body has them. Nor does an arm of a `match` on a value
//! wait, since that would keep room for the value.

pub(crate) mod answer;
mod bulk;
mod detached;
mod joins;
mod update;

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::time::Duration;

pub(crate) use self::bulk::fetch_many;
use self::detached::Joined;
pub(crate) use self::detached::fetch_detached;
pub(crate) use self::update::update;
use crate::entries::{Ended, FlightKey, Kind};
use crate::flight::{Outcome, PollScope};
use crate::load::answer::{KeySource, Loader, Source};
use crate::policy::measure::Appraised;
use crate::shard::removals::Deliveries;
use crate::shard::{Departed, FlightRef, LeadOrJoin, LoadRequest, Origin, Publication, Use};
use crate::store::{Store, hash_of};
use crate::sync::counters::Event;

/// Answers a call: from the cache, from a flight that somebody else leads, or by running `load`.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch<P, K, V, S, F, Fut>(
    store: &Store<K, V>,
    hasher: &S,
    key: impl KeySource<K>,
    load: F,
    loader: P,
) -> impl Future<Output = P::Answer<P::Told<V>>>
where
    P: Loader,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    F: FnOnce() -> Fut,
    Fut: Future<Output = P::Answer<V>>,
{
    async move {
        let mut leader = 'leads: {
            let waits = match start(store, hash_of(hasher, key.query()), key, Kind::Led) {
                Step::Found(value) => {
                    drop(load);
                    return P::answer(Ok(P::tell(value, Source::Cache)));
                }
                Step::Lead(leader) => break 'leads leader,
                // In a box, so that the futures of all calls need no room for what waiters remember.
                Step::Wait(waiter) => Box::pin(waiter.wait(&loader)),
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
                let _scope = PollScope::enter(leader.flight.name(), cx);
                load.as_mut().poll(cx)
            })
            .await
        };
        let answer = P::result(answer);
        let deliveries = match &answer {
            Ok(value) => leader.deliver(value, None),
            Err(error) => {
                leader.fail(|| loader.failure(error));
                leader.backlog()
            }
        };
        drop(leader);
        if deliveries.is_empty() {
            // There is nothing to drop, which would take a hundredth of a miss to find out.
            std::mem::forget(deliveries);
        } else {
            deliveries.settle().await;
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
#[inline]
fn start<K, V>(store: &Store<K, V>, hash: u64, key: impl KeySource<K>, kind: Kind) -> Step<'_, K, V>
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
                return Step::Found(value);
            }
            key
        }
        Err(borrowed) => match store.get(hash, borrowed.query()) {
            Some(value) => return Step::Found(value),
            None => borrowed.into_key(),
        },
    };
    Call::new(store, hash, key, kind).board()
}

/// What a call has met.
enum Met<'a, K, V> {
    Value(V),
    Leads(Leader<'a, K, V>),
    Joins(Joined<'a, K, V>),
}

/// A call that has found no value yet.
struct Call<'a, K, V> {
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
    fn board(mut self) -> Step<'a, K, V> {
        match self.meet() {
            Met::Value(value) => {
                drop(self);
                Step::Found(value)
            }
            Met::Leads(leader) => Step::Lead(leader),
            Met::Joins(joined) => Step::Wait(Waiter { call: self, joined }),
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
                Met::Leads(Leader::new(store, flight))
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
struct Waiter<'a, K, V> {
    call: Call<'a, K, V>,
    joined: Joined<'a, K, V>,
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
    async fn wait<P: Loader>(mut self, loader: &P) -> Waited<'a, K, V, P::Error> {
        loop {
            self = match self.settle(loader).await {
                Settled::Answer(answer) => return Waited::Answer(answer),
                Settled::GoOn(call) => match call.board() {
                    Step::Found(value) => return Waited::Answer(Ok(value)),
                    Step::Lead(leader) => return Waited::Lead(leader),
                    Step::Wait(waiter) => waiter,
                },
            };
        }
    }

    /// Waits for the flight.
    async fn settle<P: Loader>(self, loader: &P) -> Settled<'a, K, V, P::Error> {
        let (outcome, deliveries) = self.joined.outcome().await;
        // Before the answer is taken, so that the future needs no room for it.
        deliveries.settle().await;
        let answer = answer(loader, outcome);
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
fn answer<P: Loader, V: Clone>(loader: &P, outcome: &Outcome<V>) -> Option<Result<V, P::Error>> {
    match outcome {
        Outcome::Value(value) => Some(Ok(value.clone())),
        Outcome::Failure(failure) => loader.shared(&**failure).map(Err),
        Outcome::Abandoned => None,
    }
}

/// The duty to end a flight. Dropped early, by a cancelled call, a panic or on the way out of an
/// error, it lets the waiters try for themselves.
struct Leader<'a, K, V> {
    store: &'a Store<K, V>,
    flight: FlightRef<'a, K, V>,
    stage: Stage,
}

/// How far a leader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It leads its flight.
    Met,
    /// Its load has started, and fails if it comes no further.
    Loading,
    /// The flight has ended, or is somebody else's to end.
    Ended,
}

impl<'a, K, V> Leader<'a, K, V> {
    #[inline]
    fn new(store: &'a Store<K, V>, flight: FlightRef<'a, K, V>) -> Self {
        Self { store, flight, stage: Stage::Met }
    }

    /// Calls the user's closure.
    #[inline]
    fn start<Fut>(&mut self, load: impl FnOnce() -> Fut) -> Fut {
        self.store.count(Event::Load);
        self.stage = Stage::Loading;
        load()
    }

    /// Ends the flight with a value, which is cached if the cache takes any, and may be given a lifetime of
    /// its `own`. Returns what is left to do for the listener.
    #[inline]
    fn deliver(&mut self, value: &V, own: Option<Duration>) -> Deliveries<K, V>
    where
        K: Eq,
        V: Clone,
    {
        let outcome = || Outcome::Value(value.clone());
        if !self.store.takes_values() {
            // An update wins over loads in flight all the same.
            self.flight.fence_others();
            self.end(outcome);
            return Deliveries::default();
        }
        if own.is_some() {
            self.store.lifetimes().use_time();
        }
        let kept = value.clone();
        let appraised = self.appraise(&kept).with_own(own);
        self.publish(kept, appraised, outcome)
    }

    /// Takes a look at the value before it is published, if the cache does that. The flight has its key
    /// back before it needs it.
    #[inline(always)]
    fn appraise(&self, value: &V) -> Appraised {
        match self.store.appraises() {
            true => self.appraise_now(value),
            false => Appraised::default(),
        }
    }

    #[cold]
    fn appraise_now(&self, value: &V) -> Appraised {
        let key = self.flight.shared_key();
        key.map(|key| self.store.appraise(&key, value)).unwrap_or_default()
    }

    /// Caches the value of the flight, which has been appraised, unless a later write has won, and ends
    /// the flight. Returns what is left to do for the listener.
    #[inline]
    fn publish(
        &mut self,
        value: V,
        appraised: Appraised,
        outcome: impl FnOnce() -> Outcome<V>,
    ) -> Deliveries<K, V>
    where
        K: Eq,
    {
        let origin = Origin::Flight(self.flight.id());
        let mut publication = self.store.publication(origin, value, appraised);
        let mut departed = Departed::default();
        self.store.publish(self.flight.shard(), &mut publication, &mut departed);
        // The waiters are told before the user's `Drop` of what the entry has displaced may panic.
        self.stage = Stage::Ended;
        publication.take_completion().complete(outcome);
        if self.store.has_listener() {
            return self.part_with(publication, departed);
        }
        departed.let_go();
        Deliveries::default()
    }

    /// Drops the rest of a publication, and returns what is left to do for the listener: to wait for it too
    /// if it is far behind, whatever has left on this call's account.
    #[cold]
    fn part_with(
        &self,
        publication: Publication<K, V>,
        departed: Departed<K, V>,
    ) -> Deliveries<K, V> {
        let mut deliveries = publication.into_notices(departed);
        deliveries.append(self.backlog());
        deliveries
    }

    /// The duty to wait for a listener that is far behind.
    fn backlog(&self) -> Deliveries<K, V> {
        match self.store.has_listener() {
            true => self.flight.shard().backlog(),
            false => Deliveries::default(),
        }
    }

    /// Ends the flight with a value that is not to be cached, or with none.
    fn end(&mut self, outcome: impl FnOnce() -> Outcome<V>) {
        self.stage = Stage::Ended;
        // The rest is dropped last: the waiters come before the user's `Drop`.
        let Ended { key: _key, completion, sweeps: _sweeps } = self.flight.end();
        completion.complete(outcome);
    }

    /// Ends the flight without a value.
    fn fail(&mut self, outcome: impl FnOnce() -> Outcome<V>) {
        self.store.count(Event::LoadFailure);
        self.end(outcome);
    }

    /// Leaves the waiters to themselves.
    #[cold]
    fn abandon(&mut self) {
        match self.stage {
            Stage::Met => self.end(|| Outcome::Abandoned),
            Stage::Loading => self.fail(|| Outcome::Abandoned),
            Stage::Ended => {}
        }
    }
}

impl<K, V> Drop for Leader<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        if self.stage != Stage::Ended {
            self.abandon();
        }
    }
}
