//! The way of a call for many keys: one load for those that nobody has and nobody loads.
//!
//! A call leads or joins the flights of all its keys before it loads, and waits for the flights of others
//! only after it has ended its own. So it never waits while others wait for it, and two calls that
//! overlap, in whatever order, do not wait for each other in a circle.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;

use futures_lite::future::yield_now;
use hashbrown::HashTable;

use super::answer::{Borrowed, Infallible, Loader};
use super::joins::Joins;
use super::leader::{Leader, Stage};
use super::waiter::{Settled, Start, Waiter, start};
use crate::entries::Kind;
use crate::flight::{FlightName, PollScope};
use crate::store::{Store, hash_of};
use crate::sync::counters::Event;

/// How many keys a call deals with before other tasks have the thread.
const AT_ONCE: usize = 256;

/// Answers a call for many keys; those that the load left out are not in the answer.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch_many<P, K, V, S, F, Fut, A>(
    store: &Store<K, V>,
    hasher: &S,
    keys: impl IntoIterator<Item = K>,
    mut load: F,
    loader: P,
) -> impl Future<Output = P::Answer<HashMap<K, V>>>
where
    P: Loader,
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = P::Answer<A>>,
    A: IntoIterator<Item = (K, V)>,
{
    async move {
        let mut asked = Asked::new();
        for key in keys {
            asked.add(hasher, key);
            if asked.keys.len() % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        let mut steps = Vec::new();
        for place in 0..asked.keys.len() {
            steps.push((place, asked.start(place, store)));
            if steps.len() % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        while !steps.is_empty() {
            let mut batch = Batch { store, leaders: Vec::new() };
            let mut waiters = Vec::new();
            for (place, step) in steps {
                match step {
                    Start::Found(value) => asked.answer(place, value),
                    Start::Lead(leader) => batch.leaders.push((place, Some(leader))),
                    Start::Wait(waiter) => waiters.push((place, waiter)),
                }
            }
            if let Err(error) = batch.load(&mut asked, hasher, &mut load, &loader).await {
                drop((batch, waiters, asked, load));
                store.all_backlogs().settle().await;
                return P::answer(Err(error));
            }
            // What the load left out is for others to load.
            drop(batch);
            steps = settle(waiters, &mut asked).await;
        }
        drop(load);
        store.all_backlogs().settle().await;
        // In a box, so that the future needs no room for it.
        P::answer(Ok(Box::pin(asked.into_answers()).await))
    }
}

/// The keys of a call, each once and in the order in which they came, and their values.
struct Asked<K, V> {
    keys: Vec<Key<K, V>>,
    places: HashTable<usize>,
}

struct Key<K, V> {
    hash: u64,
    key: K,
    value: Option<V>,
}

impl<K: Hash + Eq, V> Asked<K, V> {
    fn new() -> Self {
        Self { keys: Vec::new(), places: HashTable::new() }
    }

    /// Adds a key, unless it is there already.
    fn add(&mut self, hasher: &impl BuildHasher, key: K) {
        let hash = hash_of(hasher, &key);
        if self.find(hash, &key).is_none() {
            let place = self.keys.len();
            self.keys.push(Key { hash, key, value: None });
            self.places.insert_unique(hash, place, |&place| self.keys[place].hash);
        }
    }

    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        self.places.find(hash, |&place| self.keys[place].key == *key).copied()
    }

    fn answer(&mut self, place: usize, value: V) {
        self.keys[place].value = Some(value);
    }

    /// Takes the key at `place` as far as it gets without waiting.
    fn start<'a>(&self, place: usize, store: &'a Store<K, V>) -> Start<'a, K, V>
    where
        K: Clone,
        V: Clone,
    {
        let Key { hash, key, .. } = &self.keys[place];
        start(store, *hash, Borrowed(key), Kind::Led)
    }

    async fn into_answers(self) -> HashMap<K, V> {
        let mut answers = HashMap::with_capacity(self.keys.len());
        let mut keys = self.keys.into_iter();
        let answer = |Key { key, value, .. }: Key<K, V>| Some((key, value?));
        while keys.len() > AT_ONCE {
            answers.extend(keys.by_ref().take(AT_ONCE).filter_map(answer));
            yield_now().await;
        }
        answers.extend(keys.filter_map(answer));
        answers
    }
}

/// The flights that a call leads, by the place of their keys; `None` once they have ended. Ends those
/// that are left when it is dropped.
struct Batch<'a, K, V> {
    store: &'a Store<K, V>,
    leaders: Vec<(usize, Option<Leader<'a, K, V>>)>,
}

impl<'a, K: Hash + Eq, V: Clone> Batch<'a, K, V> {
    /// Loads the keys of the flights, if there are any, and publishes what comes of it.
    async fn load<P, F, Fut, A>(
        &mut self,
        asked: &mut Asked<K, V>,
        hasher: &impl BuildHasher,
        load: &mut F,
        _protocol: &P,
    ) -> Result<(), P::Error>
    where
        P: Loader,
        K: Clone,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = P::Answer<A>>,
        A: IntoIterator<Item = (K, V)>,
    {
        if self.leaders.is_empty() {
            return Ok(());
        }
        let mut missing = Vec::with_capacity(self.leaders.len());
        while let Some((place, _)) = self.leaders.get(missing.len()) {
            missing.push(asked.keys[*place].key.clone());
            if missing.len() % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        let flights = self.flights();
        let mut attempt = Attempt::begin(self.store);
        let answer = {
            let mut load = pin!(load(missing));
            poll_fn(|cx| {
                let _scope = PollScope::enter_batch(&flights, cx);
                load.as_mut().poll(cx)
            })
            .await
        };
        // Before anything is published, so that a panic of the iterator is one of the load.
        let pairs: Vec<(K, V)> = P::result(answer)?.into_iter().collect();
        let mut pairs = pairs.into_iter();
        // Each stays where it is until it is published, which takes no room in the future.
        while let Some((key, value)) = pairs.as_slice().first() {
            let place = asked.find(hash_of(hasher, key), key);
            let Some((place, mut leader)) = place.and_then(|place| self.take(place)) else {
                drop(pairs.next());
                continue;
            };
            if pairs.len() == 1 {
                attempt.rest_with(&mut leader);
            }
            // Left to whoever delivers: this call waits for the listener when it has published all.
            drop(leader.deliver(value, None));
            drop(leader);
            if let Some((key, value)) = pairs.next() {
                drop(key);
                asked.answer(place, value);
            }
            if pairs.len() % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        attempt.has_succeeded = true;
        Ok(())
    }

    /// Takes the leader of the key at `place`, if it is still to end its flight.
    fn take(&mut self, place: usize) -> Option<(usize, Leader<'a, K, V>)> {
        let number = self.leaders.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some((place, self.leaders[number].1.take()?))
    }

    /// The names of the flights, in the order in which [`PollScope::enter_batch`] needs them.
    fn flights(&self) -> Arc<[FlightName]> {
        let leaders = self.leaders.iter().filter_map(|(_, leader)| leader.as_ref());
        let mut flights: Vec<_> = leaders.map(|leader| leader.flight.name()).collect();
        flights.sort_unstable();
        flights.into()
    }
}

/// A load of many keys, which counts as one. It has failed unless all that it brought was published.
struct Attempt<'a, K, V> {
    store: &'a Store<K, V>,
    has_succeeded: bool,
}

impl<'a, K, V> Attempt<'a, K, V> {
    fn begin(store: &'a Store<K, V>) -> Self {
        store.count(Event::Load);
        Self { store, has_succeeded: false }
    }

    /// Leaves it to the leader of the last key, who alone knows how far the publication came if something
    /// panics.
    fn rest_with(&mut self, last: &mut Leader<'_, K, V>) {
        last.stage = Stage::Loading;
        self.has_succeeded = true;
    }
}

impl<K, V> Drop for Attempt<'_, K, V> {
    fn drop(&mut self) {
        if !self.has_succeeded {
            self.store.count(Event::LoadFailure);
        }
    }
}

/// Waits for the flights of others, all at once; the keys of those without a value go on.
async fn settle<'a, K, V>(
    waiters: Vec<(usize, Waiter<'a, K, V>)>,
    asked: &mut Asked<K, V>,
) -> Vec<(usize, Start<'a, K, V>)>
where
    K: Hash + Eq,
    V: Clone,
{
    if waiters.is_empty() {
        return Vec::new();
    }
    let settle = |(place, waiter): (usize, Waiter<'a, K, V>)| (place, waiter.settle(&Infallible));
    let mut settling = Joins::new(waiters.into_iter().map(settle));
    let mut left = Vec::new();
    poll_fn(|cx| {
        settling.poll(cx, |place, settled| match settled {
            Settled::Answer(Ok(value)) => asked.answer(place, value),
            Settled::GoOn(call) => left.push((place, call)),
        })
    })
    .await;
    left.sort_by_key(|(place, _)| *place);
    left.into_iter().map(|(place, call)| (place, call.lead_or_join())).collect()
}
