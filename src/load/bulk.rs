//! The way of a call for many keys: one load for those that nobody has and nobody loads.
//!
//! A call leads or joins the flights of all its keys before it loads, and waits for the flights of others
//! only after it has ended its own. So it never waits while others wait for it, and two calls that
//! overlap, in whatever order, do not wait for each other in a circle.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::future::yield_now;
use hashbrown::HashTable;

use super::answer::{Errors, ManyTerms, Source, Terms};
use super::join::Publishing;
use super::joins::{AT_ONCE, Joins};
use super::key::BorrowedKey;
use super::leader::Leader;
use super::waiter::{Settled, Start, Waiter, start};
use crate::entries::Kind;
use crate::flight::attempt::Running;
use crate::flight::{Failure, FlightName, Loaded, PollScope};
use crate::shard::hit::Found;
use crate::store::{Store, hash_of};

/// The answers to a call for many keys, in the order in which it asked; `None` for one that the load left
/// out.
pub(crate) type Answers<K, T> = Vec<(K, Option<T>)>;

/// Answers a call for many keys.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch_many<P, T, K, V, S, F, Fut, A>(
    store: &Store<K, V>,
    hasher: &S,
    keys: impl IntoIterator<Item = K>,
    mut load: F,
    (errors, terms): (P, T),
) -> impl Future<Output = P::Answer<Answers<K, T::Told>>>
where
    P: Errors,
    T: ManyTerms<V>,
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = P::Given<A>>,
    A: IntoIterator<Item = T::Item<K>>,
{
    async move {
        let mut asked = Asked::of(hasher, keys).await;
        let mut steps = asked.start_all(store, Kind::Led).await;
        let mut found = Source::Cache;
        let result = loop {
            if steps.is_empty() {
                break Ok(());
            }
            let mut batch = Batch { store, leaders: Vec::new() };
            let waiters = asked.take_steps(steps, found, &mut batch.leaders, None);
            found = Source::Flight;
            let loaded = batch.load::<P, _, _, _, _>(&mut asked, hasher, &mut load, &terms).await;
            // What a load has left out is for others to load.
            let failure = || loaded.as_ref().err().and_then(|error| errors.share(error));
            let has_all = batch.end(&mut asked, failure).await;
            let loaded = if has_all { Ok(()) } else { loaded };
            match settle(loaded, waiters, &mut asked, &errors).await {
                Ok(left) => steps = left,
                Err(error) => break Err(error),
            }
        };
        drop(load);
        // In a box, so that the future needs no room for it.
        Box::pin(asked.finish::<P, T>(store, result)).await
    }
}

/// The keys of a call, in the order in which they came, and their values.
pub(super) struct Asked<K, V> {
    keys: Vec<Key<K, V>>,
    /// Each key once, where it came first.
    places: HashTable<usize>,
}

struct Key<K, V> {
    hash: u64,
    key: K,
    answer: Answer<V>,
}

enum Answer<V> {
    None,
    Value(V, Source),
    /// That of the same key, which came earlier.
    As(usize),
}

impl<K: Hash + Eq + Clone, V: Clone> Asked<K, V> {
    /// The keys that `keys` gives.
    pub(super) async fn of(hasher: &impl BuildHasher, keys: impl IntoIterator<Item = K>) -> Self {
        let mut asked = Self { keys: Vec::new(), places: HashTable::new() };
        for key in keys {
            asked.add(hasher, key);
            if asked.keys.len() % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        asked
    }

    fn add(&mut self, hasher: &impl BuildHasher, key: K) {
        let hash = hash_of(hasher, &key);
        let answer = match self.find(hash, &key) {
            Some(first) => Answer::As(first),
            None => {
                let place = self.keys.len();
                self.places.insert_unique(hash, place, |&place| self.keys[place].hash);
                Answer::None
            }
        };
        self.keys.push(Key { hash, key, answer });
    }

    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        self.places.find(hash, |&place| self.keys[place].key == *key).copied()
    }

    pub(super) fn key(&self, place: usize) -> &K {
        &self.keys[place].key
    }

    pub(super) fn answer(&mut self, place: usize, value: V, source: Source) {
        self.keys[place].answer = Answer::Value(value, source);
    }

    /// Takes each key as far as it gets without waiting.
    pub(super) async fn start_all<'a>(
        &self,
        store: &'a Store<K, V>,
        kind: Kind,
    ) -> Vec<(usize, Start<'a, K, V>)> {
        let mut steps = Vec::new();
        for (place, Key { hash, key, answer }) in self.keys.iter().enumerate() {
            if let Answer::None = answer {
                steps.push((place, start(store, *hash, BorrowedKey(key), kind)));
            }
            if place % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        steps
    }

    /// Takes note of what was `found` there, adds the flights that the call leads to `leaders`, and returns
    /// those that it waits for. What is to be refreshed by a load apart, if there is one, goes there, and its
    /// value is the answer; otherwise it is loaded with the rest.
    pub(super) fn take_steps<'a>(
        &mut self,
        steps: Vec<(usize, Start<'a, K, V>)>,
        found: Source,
        leaders: &mut Leaders<'a, K, V>,
        mut apart: Option<&mut Leaders<'a, K, V>>,
    ) -> Vec<(usize, Waiter<'a, K, V>)> {
        let mut waiters = Vec::new();
        for (place, step) in steps {
            match step {
                Start::Found(Found { value, age }) => {
                    let source = if found == Source::Cache { age.into() } else { found };
                    self.answer(place, value, source);
                }
                Start::Lead(leader) => leaders.push((place, Some(leader))),
                Start::Refresh(leader, value) => match &mut apart {
                    Some(apart) => {
                        self.answer(place, value, Source::Stale);
                        apart.push((place, Some(leader)));
                    }
                    None => leaders.push((place, Some(leader))),
                },
                Start::Wait(waiter) => waiters.push((place, waiter)),
            }
        }
        waiters
    }

    /// The keys of these flights.
    pub(super) async fn keys_of(&self, leaders: &Leaders<'_, K, V>) -> Vec<K> {
        let mut keys = Vec::with_capacity(leaders.len());
        while let Some((place, _)) = leaders.get(keys.len()) {
            keys.push(self.key(*place).clone());
            if keys.len() % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        keys
    }

    /// Waits for the listener, and answers the call: with what was found and loaded, unless it has failed.
    pub(super) async fn finish<P: Errors, T: Terms<V>>(
        self,
        store: &Store<K, V>,
        result: Result<(), P::Error>,
    ) -> P::Answer<Answers<K, T::Told>> {
        match result {
            Ok(()) => {
                store.all_backlogs().settle().await;
                P::answer(Ok(self.into_answers::<T>().await))
            }
            Err(error) => {
                let_go(self.keys).await;
                store.all_backlogs().settle().await;
                P::answer(Err(error))
            }
        }
    }

    async fn into_answers<T: Terms<V>>(self) -> Answers<K, T::Told> {
        let mut answers = Vec::with_capacity(self.keys.len());
        let mut keys = self.keys;
        for place in 0..keys.len() {
            if let Answer::As(first) = keys[place].answer {
                if let Answer::Value(value, source) = &keys[first].answer {
                    keys[place].answer = Answer::Value(value.clone(), *source);
                }
            }
            if place % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        for (place, Key { key, answer, .. }) in keys.into_iter().enumerate() {
            let answer = match answer {
                Answer::Value(value, source) => Some(T::tell(value, source)),
                Answer::None | Answer::As(_) => None,
            };
            answers.push((key, answer));
            if place % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        answers
    }
}

/// The flights that a call leads, by the place of their keys; `None` once they have ended.
pub(super) type Leaders<'a, K, V> = Vec<(usize, Option<Leader<'a, K, V>>)>;

/// A load of the keys of all flights that a call leads. Ends those that are left when it is dropped.
struct Batch<'a, K, V> {
    store: &'a Store<K, V>,
    leaders: Leaders<'a, K, V>,
}

impl<'a, K: Hash + Eq + Clone, V: Clone> Batch<'a, K, V> {
    /// Loads the keys of the flights, if there are any, and publishes what comes of it.
    async fn load<P, T, F, Fut, A>(
        &mut self,
        asked: &mut Asked<K, V>,
        hasher: &impl BuildHasher,
        load: &mut F,
        terms: &T,
    ) -> Result<(), P::Error>
    where
        P: Errors,
        T: ManyTerms<V>,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = P::Given<A>>,
        A: IntoIterator<Item = T::Item<K>>,
    {
        if self.leaders.is_empty() {
            return Ok(());
        }
        let missing = asked.keys_of(&self.leaders).await;
        let flights = names(&self.leaders);
        let mut running = self.store.begin_load(refresh(&self.leaders));
        let given = {
            let mut load = pin!(running.span().call(|| load(missing)));
            poll_fn(|cx| {
                let _entered = running.span().enter();
                let _scope = PollScope::enter_batch(&flights, cx.waker(), cx);
                load.as_mut().poll(cx)
            })
            .await
        };
        // Before anything is published, so that a panic of the iterator is one of the load.
        let pairs = {
            let result = P::result(given);
            running.answered(result.is_ok());
            result?.into_iter().map(|item| terms.take_item(item)).collect::<Vec<_>>()
        };
        let mut pairs = pairs.into_iter();
        // Each stays where it is until it is published, which takes no room in the future.
        while let Some((key, Loaded { value, own })) = pairs.as_slice().first() {
            let place = asked.find(hash_of(hasher, key), key);
            let Some((place, leader)) = place.and_then(|place| self.take(place)) else {
                drop(pairs.next());
                continue;
            };
            if pairs.len() == 1 {
                running.succeed();
            }
            let publishing = Publishing::new(leader, Running::of(running.attempt()));
            if let Some(rest) = publishing.publish(value, *own) {
                // As a writer of one key would, lest what goes to a slow listener piles up.
                rest.await;
            }
            if let Some((key, Loaded { value, .. })) = pairs.next() {
                drop(key);
                asked.answer(place, value, Source::Closure);
            }
            if self.store.is_turn_over(pairs.len() + 1, AT_ONCE) {
                yield_now().await;
            }
        }
        running.succeed();
        Ok(())
    }

    /// Ends the flights that are left without a value. A refresh has left the old one, which is the answer
    /// then; tells whether there is one for each.
    async fn end(mut self, asked: &mut Asked<K, V>, failure: impl Fn() -> Option<Failure>) -> bool {
        let mut has_all = true;
        self.leaders.retain(|(_, leader)| leader.is_some());
        while let Some((place, leader)) = self.leaders.pop() {
            if let Some(mut leader) = leader {
                match leader.fail(&failure) {
                    Some(left) => asked.answer(place, left, Source::Stale),
                    None => has_all = false,
                }
            }
            if self.leaders.len() % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        has_all
    }

    /// Takes the leader of the key at `place`, if it is still to end its flight.
    fn take(&mut self, place: usize) -> Option<(usize, Leader<'a, K, V>)> {
        let number = self.leaders.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some((place, self.leaders[number].1.take()?))
    }
}

/// Drops so many things in turns with other tasks.
async fn let_go<T>(mut things: Vec<T>) {
    while things.len() > AT_ONCE {
        things.truncate(things.len() - AT_ONCE);
        yield_now().await;
    }
}

/// Tells whether these flights do nothing but refresh.
pub(super) fn refresh<K, V>(leaders: &Leaders<'_, K, V>) -> bool {
    leaders.iter().flat_map(|(_, leader)| leader).all(|leader| leader.kind.is_refresh())
}

/// The names of the flights, in the order in which [`PollScope::enter_batch`] needs them.
pub(super) fn names<K, V>(leaders: &Leaders<'_, K, V>) -> Arc<[FlightName]> {
    let leaders = leaders.iter().filter_map(|(_, leader)| leader.as_ref());
    let mut flights: Vec<_> = leaders.map(|leader| leader.flight.name()).collect();
    flights.sort_unstable();
    flights.into()
}

/// Waits for the flights of others, all at once; the keys of those without a value go on. The first failure
/// that concerns the call ends it, that of what it has `loaded` itself before all.
pub(super) async fn settle<'a, P, K, V>(
    loaded: Result<(), P::Error>,
    waiters: Vec<(usize, Waiter<'a, K, V>)>,
    asked: &mut Asked<K, V>,
    errors: &P,
) -> Result<Vec<(usize, Start<'a, K, V>)>, P::Error>
where
    P: Errors,
    K: Hash + Eq + Clone,
    V: Clone,
{
    if let Err(error) = loaded {
        let_go(waiters).await;
        return Err(error);
    }
    if waiters.is_empty() {
        return Ok(Vec::new());
    }
    let settle = |(place, waiter): (usize, Waiter<'a, K, V>)| (place, waiter.settle(errors));
    let mut settling = Joins::new(waiters.into_iter().map(settle));
    let mut left = Vec::new();
    let mut failed = None;
    poll_fn(|cx| {
        let polled = settling.poll(cx, |place, settled| match settled {
            Settled::Answer(Ok(value)) => asked.answer(place, value, Source::Flight),
            Settled::Answer(Err(error)) => failed = Some(error),
            Settled::GoOn(call) => left.push((place, call)),
        });
        if failed.is_some() { Poll::Ready(()) } else { polled }
    })
    .await;
    drop(settling);
    if let Some(error) = failed {
        return Err(error);
    }
    left.sort_by_key(|(place, _)| *place);
    Ok(left.into_iter().map(|(place, call)| (place, call.lead_or_join_again())).collect())
}
