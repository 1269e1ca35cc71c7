//! The way of a call for many keys whose load lives in all their flights, and goes on without the call.
//!
//! The keys share one load, which has a completion of its own. What lives in the flight of a key is a part
//! of it: it waits for that completion and takes the value of its key, and so publishes it under the rules
//! of any other load. The call itself waits for the common load first, and polls the parts when all is
//! there: each poll of the load costs it nothing for its keys.
//!
//! A call that is not polled any more publishes nothing. What the load has brought then goes to those who
//! came before its end, and not to whoever asks for a key an hour later ([`Completion::comes_late`]).

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;

use ahash::RandomState;
use futures_lite::future::yield_now;

use super::answer::{DetachedErrors, ManyTerms, Source};
use super::bulk::{Answers, Asked, Leaders, names, refresh, settle};
use super::join::Joined;
use super::joins::AT_ONCE;
use crate::entries::Kind;
use crate::flight::attempt::{Attempt, Running};
use crate::flight::{
    Completion, FlightName, LoadEnd, LoadGuard, LoadProgress, Loaded, Outcome, PollScope,
};
use crate::store::Store;
use crate::sync::AtomicBool;

/// Answers a call for many keys, with a load that goes on without the call.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch_many_detached<P, T, K, V, S, F, Fut, A>(
    store: &Store<K, V>,
    hasher: &S,
    keys: impl IntoIterator<Item = K>,
    mut load: F,
    (new_errors, terms): (impl Fn() -> P, T),
) -> impl Future<Output = P::Answer<Answers<K, T::Told>>>
where
    P: DetachedErrors + Send + 'static,
    T: ManyTerms<V> + Copy + Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher,
    F: FnMut(Vec<K>) -> Fut,
    Fut: Future<Output = P::Given<A>> + Send + 'static,
    A: IntoIterator<Item = T::Item<K>> + 'static,
{
    async move {
        let errors = new_errors();
        let mut asked = Asked::of(hasher, keys).await;
        let mut steps = asked.start_all(store, Kind::Detached).await;
        let mut found = Source::Cache;
        let result = loop {
            if steps.is_empty() {
                break Ok(());
            }
            let (mut leaders, mut stale) = (Vec::new(), Vec::new());
            let apart = store.has_spawner().then_some(&mut stale);
            let waiters = asked.take_steps(steps, found, &mut leaders, apart);
            if !stale.is_empty() {
                let keys = asked.keys_of(&stale).await;
                let batch = Batch::begin(store, &stale, (new_errors(), terms), || load(keys));
                let own = Box::pin(batch.detach(stale, &asked)).await;
                Joined::hand_over(store, own.into_iter().map(|(_, joined)| joined));
            }
            found = Source::Flight;
            let mut loaded = Ok(());
            if !leaders.is_empty() {
                let missing = asked.keys_of(&leaders).await;
                let batch = Batch::begin(store, &leaders, (new_errors(), terms), || load(missing));
                let own = Box::pin(batch.detach(leaders, &asked)).await;
                loaded = Box::pin(batch.settle(store, own, &mut asked, &errors)).await;
            }
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

/// What a load has brought: of each key the first value.
type Brought<K, V> = HashMap<K, Loaded<V>, RandomState>;

/// A load of many keys, shared by their flights.
struct Batch<K, V> {
    completion: Completion<Brought<K, V>>,
    /// In order.
    flights: Arc<[FlightName]>,
    attempt: Attempt,
    has_ended: Arc<AtomicBool>,
}

impl<K, V> Batch<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Calls the user's closure.
    fn begin<P, T, Fut, A>(
        store: &Store<K, V>,
        leaders: &Leaders<'_, K, V>,
        forms: (P, T),
        load: impl FnOnce() -> Fut,
    ) -> Arc<Self>
    where
        P: DetachedErrors + Send + 'static,
        T: ManyTerms<V> + Send + 'static,
        Fut: Future<Output = P::Given<A>> + Send + 'static,
        A: IntoIterator<Item = T::Item<K>> + 'static,
    {
        let flights = names(leaders);
        let running = store.begin_load(refresh(leaders));
        let attempt = running.attempt().clone();
        let load = Box::pin(run(running.span().call(load), forms, running));
        let completion = Completion::detached();
        completion.bring(load);
        Arc::new(Self { completion, flights, attempt, has_ended: Arc::default() })
    }

    /// Hands the flights over to all who wait for them, each with its part of the load.
    async fn detach<'a>(
        self: &Arc<Self>,
        leaders: Leaders<'a, K, V>,
        asked: &Asked<K, V>,
    ) -> Vec<(usize, Joined<'a, K, V>)> {
        let mut joined = Vec::with_capacity(leaders.len());
        for (place, leader) in leaders {
            let Some(leader) = leader else { continue };
            leader.flight.completion().make_part(&self.has_ended);
            let part = Arc::clone(self).part(asked.key(place).clone());
            joined.push((place, leader.detach(|| Box::pin(part))));
            if joined.len() % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        joined
    }

    /// The load of one key.
    async fn part(self: Arc<Self>, key: K) -> LoadEnd<V> {
        let end = match self.outcome().await {
            Outcome::Value(brought) => match brought.get(&key) {
                Some(loaded) => {
                    // It has failed if that panics.
                    let running = Running::of(&self.attempt);
                    let value = loaded.value.clone();
                    LoadEnd::Value(Loaded { value, own: loaded.own }, running)
                }
                None => LoadEnd::Nothing,
            },
            Outcome::Failure(failure) => LoadEnd::Failure(Arc::clone(failure)),
            Outcome::Abandoned | Outcome::Stale(..) => LoadEnd::Nothing,
        };
        // Before the value is on its way: a `Drop` of the user's that panics would leak it.
        drop(key);
        drop(self);
        end
    }

    /// Waits for the load, and moves it on.
    async fn outcome(&self) -> &Outcome<Brought<K, V>> {
        let poll_load = |guard: LoadGuard<'_, _>, load, cx: &Context<'_>| {
            self.poll_load(guard, load, cx);
            ControlFlow::<Infallible>::Continue(())
        };
        let ControlFlow::Continue(outcome) = self.completion.outcome(None, poll_load).await;
        outcome
    }

    fn poll_load(
        &self,
        guard: LoadGuard<'_, Brought<K, V>>,
        load: LoadProgress<Brought<K, V>>,
        cx: &Context<'_>,
    ) {
        let mut end = AbandonedUnless { batch: Some(self) };
        let polled = {
            let waker = guard.waker();
            let _scope = PollScope::enter_batch(&self.flights, &waker, cx);
            load.poll(&mut Context::from_waker(&waker))
        };
        end.batch = None;
        let ended = match polled {
            Ok(ended) => ended,
            Err(load) => return guard.give_back(load),
        };
        self.has_ended.store(true, Ordering::SeqCst);
        self.completion.complete(match ended {
            LoadEnd::Value(brought, mut running) => {
                running.succeed();
                Outcome::Value(brought.value)
            }
            LoadEnd::Failure(failure) => Outcome::Failure(failure),
            LoadEnd::Nothing | LoadEnd::Begun(..) => Outcome::Abandoned,
        });
    }

    /// Waits for the load, publishes what it has brought and nobody else has published, and takes note of
    /// it.
    async fn settle<P: DetachedErrors>(
        &self,
        store: &Store<K, V>,
        own: Vec<(usize, Joined<'_, K, V>)>,
        asked: &mut Asked<K, V>,
        errors: &P,
    ) -> Result<(), P::Error> {
        let (brought, failure) = match self.outcome().await {
            Outcome::Value(brought) => (Some(brought), None),
            Outcome::Failure(failure) => (None, Some(failure)),
            // Its closure is spent.
            Outcome::Abandoned | Outcome::Stale(..) => {
                panic!("the load of this call panicked while another call polled it")
            }
        };
        let mut has_all = true;
        for (number, (place, joined)) in own.into_iter().enumerate() {
            let (outcome, deliveries) = joined.outcome().await;
            deliveries.settle().await;
            let loaded = brought.and_then(|brought| brought.get(asked.key(place)));
            match (loaded, outcome) {
                (Some(loaded), _) => {
                    asked.answer(place, loaded.value.clone(), Source::Closure);
                }
                (None, Outcome::Stale(left, _)) => {
                    asked.answer(place, left.clone(), Source::Stale);
                }
                _ => has_all = false,
            }
            if store.is_turn_over(number + 1, AT_ONCE) {
                yield_now().await;
            }
        }
        if let Some(failure) = failure.filter(|_| !has_all) {
            let error = errors.take(failure);
            return Err(error.expect("it is an error of this call's load"));
        }
        Ok(())
    }
}

/// Runs the load of a batch.
async fn run<P, T, Fut, A, K, V>(
    load: Fut,
    (errors, terms): (P, T),
    mut running: Running,
) -> LoadEnd<Brought<K, V>>
where
    P: DetachedErrors,
    T: ManyTerms<V>,
    K: Hash + Eq,
    Fut: Future<Output = P::Given<A>>,
    A: IntoIterator<Item = T::Item<K>>,
{
    // No longer than this, for nothing of the user's but its pairs need be `Send`.
    let pairs = {
        let result = P::result(running.span().instrument(load).await);
        running.answered(result.is_ok());
        match result {
            Ok(items) => items.into_iter().map(|item| terms.take_item(item)).collect::<Vec<_>>(),
            Err(error) => return LoadEnd::Failure(errors.keep(error)),
        }
    };
    let mut brought = Brought::with_capacity_and_hasher(pairs.len(), RandomState::new());
    for (number, (key, loaded)) in pairs.into_iter().enumerate() {
        brought.entry(key).or_insert(loaded);
        if number % AT_ONCE == AT_ONCE - 1 {
            yield_now().await;
        }
    }
    LoadEnd::Value(Loaded { value: brought, own: None }, running)
}

/// Lets those who wait for a batch go on if a poll of its load panics.
struct AbandonedUnless<'a, K, V> {
    batch: Option<&'a Batch<K, V>>,
}

impl<K, V> Drop for AbandonedUnless<'_, K, V> {
    fn drop(&mut self) {
        if let Some(batch) = self.batch {
            batch.completion.complete(Outcome::Abandoned);
        }
    }
}
