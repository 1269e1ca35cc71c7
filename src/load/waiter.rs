//! The way of a call up to its value: a hit, a flight that it leads, or others that it waits for.

use super::answer::Errors;
use super::join::Joined;
use super::key::KeySource;
use super::leader::Leader;
use crate::entries::freshness::{Age, Claim};
use crate::entries::{FlightKey, Kind};
use crate::flight::Outcome;
use crate::shard::departed::Departed;
use crate::shard::hit::{Found, Use};
use crate::shard::lead_or_join::{LeadOrJoin, LoadRequest};
use crate::store::Store;
use crate::sync::counters::Event;

/// How a call goes on.
pub(super) enum Start<'a, K, V> {
    Found(Found<V>),
    Lead(Leader<'a, K, V>),
    /// It has found this value and leads its refresh.
    Refresh(Leader<'a, K, V>, V),
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
    if kind.is_refresh() {
        return start_refresh(store, hash, key, kind);
    }
    let key = match key.try_into_key() {
        Ok(key) => {
            // With the key at hand, a hit and a flight are looked for at once, but not by a pin; nor where
            // the key of a flight is made anew, which a hit is not to pay for.
            let found = match store.appraises() {
                true => store.get(hash, &key, Claim::Yes),
                false => store.get_pinned(hash, &key, Claim::Yes),
            };
            if let Some(found) = found {
                if found.age != Age::Fresh {
                    return take_up(store, hash, || key, kind, found).into();
                }
                drop(key);
                return Start::Found(found);
            }
            key
        }
        Err(borrowed) => match store.get(hash, borrowed.query(), Claim::Yes) {
            Some(found) if found.age != Age::Fresh => {
                return take_up(store, hash, || borrowed.into_key(), kind, found).into();
            }
            Some(found) => return Start::Found(found),
            None => borrowed.into_key(),
        },
    };
    Call::new(store, hash, key, kind).lead_or_join()
}

/// Does the same for a call that loads whatever value there is.
#[cold]
fn start_refresh<K: Eq, V: Clone>(
    store: &Store<K, V>,
    hash: u64,
    key: impl KeySource<K>,
    kind: Kind,
) -> Start<'_, K, V> {
    let mut call = Call::new(store, hash, key.into_key(), kind);
    let met = call.meet_anyway();
    call.go_on(met)
}

/// How a call goes on that has found a stale value. Not a [`Start`], which hits would build in memory then.
enum Stale<'a, K, V> {
    Found(V),
    Refresh(Leader<'a, K, V>, V),
}

impl<'a, K, V> From<Stale<'a, K, V>> for Start<'a, K, V> {
    #[inline(always)]
    fn from(stale: Stale<'a, K, V>) -> Self {
        match stale {
            Stale::Found(value) => Self::Found(Found { value, age: Age::Stale }),
            Stale::Refresh(leader, value) => Self::Refresh(leader, value),
        }
    }
}

/// Takes up the refresh of a stale value if the call has claimed that, and nothing has come between.
#[cold]
fn take_up<K, V>(
    store: &Store<K, V>,
    hash: u64,
    key: impl FnOnce() -> K,
    kind: Kind,
    Found { value, age }: Found<V>,
) -> Stale<'_, K, V>
where
    K: Eq,
{
    if age != Age::Due {
        drop(key);
        return Stale::Found(value);
    }
    let claim = ClaimGuard { store, hash };
    let key = Some(FlightKey::new(key(), store.appraises()));
    let kind = kind.refreshing();
    let mut request = LoadRequest { hash, key, kind, of: Use::Uncounted };
    let flight = store.shard(hash).board(&mut request);
    std::mem::forget(claim);
    // The key may be left, and its `Drop` may panic.
    drop(request);
    match flight {
        Some(flight) => {
            store.count(Event::Refresh);
            Stale::Refresh(Leader::new(store, flight, kind), value)
        }
        None => Stale::Found(value),
    }
}

/// Gives a claim up that comes to no flight, as the user's code panics.
struct ClaimGuard<'a, K, V> {
    store: &'a Store<K, V>,
    hash: u64,
}

impl<K, V> Drop for ClaimGuard<'_, K, V> {
    fn drop(&mut self) {
        self.store.shard(self.hash).release_claim(self.hash);
    }
}

/// A value, or a flight: how a call looks after one section under the lock.
enum Met<'a, K, V> {
    Value(Found<V>),
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
        let of = if kind.is_refresh() { Use::Uncounted } else { Use::Hit };
        Self { store, request: LoadRequest { hash, key, kind, of } }
    }

    /// Finds a value, leads a flight or joins the one there is.
    #[inline]
    fn lead_or_join(mut self) -> Start<'a, K, V> {
        let met = self.meet();
        self.go_on(met)
    }

    /// The same for a call that has waited in vain.
    #[cold]
    pub(super) fn lead_or_join_again(mut self) -> Start<'a, K, V> {
        let met = if self.request.kind.is_refresh() { self.meet_anyway() } else { self.meet() };
        self.go_on(met)
    }

    #[inline(always)]
    fn go_on(self, met: Met<'a, K, V>) -> Start<'a, K, V> {
        match met {
            Met::Value(found) if found.age != Age::Fresh => {
                let Self { store, request: LoadRequest { hash, key, kind, .. } } = self;
                let key = || key.expect("it is the call's until it leads").into_inner();
                take_up(store, hash, key, kind, found).into()
            }
            Met::Value(found) => {
                drop(self);
                Start::Found(found)
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
            LeadOrJoin::Hit(found) => {
                drop(departed);
                return Met::Value(found);
            }
            LeadOrJoin::Lead(flight) => {
                self.count(Event::Miss);
                Met::Leads(Leader::new(store, flight, self.request.kind))
            }
            LeadOrJoin::Join(open) => {
                self.count(Event::Coalesced);
                Met::Joins(Joined::new(store, open))
            }
        };
        // What had expired is left to whoever delivers; this call waits for the listener when it has
        // loaded.
        departed.let_go();
        met
    }

    /// Looks for a flight alone, whatever value there is.
    #[cold]
    fn meet_anyway(&mut self) -> Met<'a, K, V> {
        let store = self.store;
        match store.shard(self.request.hash).lead_refresh(&mut self.request) {
            LeadOrJoin::Hit(_) => unreachable!("it does not look for one"),
            LeadOrJoin::Lead(flight) => {
                store.count(Event::Refresh);
                Met::Leads(Leader::new(store, flight, self.request.kind))
            }
            LeadOrJoin::Join(open) => Met::Joins(Joined::new(store, open)),
        }
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
                Settled::GoOn(call) => match call.lead_or_join_again() {
                    Start::Found(found) => return Waited::Answer(Ok(found.value)),
                    Start::Lead(leader) => return Waited::Lead(leader),
                    Start::Refresh(leader, old) => {
                        // Before the leader is on its way, which a `Drop` that panics would leak.
                        drop(old);
                        return Waited::Lead(leader);
                    }
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
        let Self { call, joined } = &self;
        // What an update has left may be the old value, which a call is not to have that loads anyway.
        let is_for_others =
            joined.is_late() || call.request.kind.is_refresh() && joined.kind() == Kind::Update;
        let answer = if is_for_others { None } else { answer(errors, outcome) };
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
        Outcome::Stale(_, failure) => errors.shared(failure.as_ref()?).map(Err),
    }
}
