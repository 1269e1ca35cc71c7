//! The way of a call whose load lives in its flight, and of all who wait for one.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Leader, Stage, Step, Waited, answer, start};
use crate::entries::Kind;
use crate::flight::{Completion, Load, Outcome, PollGuard, PollScope};
use crate::load::answer::{KeySource, Loader, Source};
use crate::shard::FlightRef;
use crate::shard::removals::Deliveries;
use crate::store::{Store, hash_of};
use crate::sync::counters::Event;

/// Answers a call: from the cache, from a flight that is under way, or by running `load` in a flight
/// that goes on without the call.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch_detached<P, K, V, S, F, Fut>(
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
    Fut: Future<Output = Outcome<V>> + Send + 'static,
{
    async move {
        let leader = 'leads: {
            let waits = match start(store, hash_of(hasher, key.query()), key, Kind::Detached) {
                Step::Found(value) => {
                    drop(load);
                    return P::answer(Ok(P::tell(value, Source::Cache)));
                }
                Step::Lead(leader) => break 'leads leader,
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
        let joined = leader.detach(load);
        let (outcome, deliveries) = Box::pin(joined.outcome()).await;
        // Before the answer is taken, so that the future needs no room for it.
        deliveries.settle().await;
        let answer = answer(&loader, outcome);
        drop(joined);
        // Its closure is spent, so it cannot go on as others do.
        let answer = answer.expect("the load of this call panicked while another call polled it");
        P::answer(answer.map(|value| P::tell(value, Source::Closure)))
    }
}

/// A share in a flight. In a detached one, those who have a share poll the load; when the last one
/// goes, the load goes with it.
pub(super) struct Joined<'a, K, V> {
    store: &'a Store<K, V>,
    flight: FlightRef<'a, K, V>,
    completion: Arc<Completion<V>>,
}

impl<'a, K, V> Joined<'a, K, V> {
    /// A share in a flight, which has counted it.
    pub(super) fn new(
        store: &'a Store<K, V>,
        flight: FlightRef<'a, K, V>,
        completion: Arc<Completion<V>>,
    ) -> Self {
        Self { store, flight, completion }
    }

    /// Waits for the end of the flight, and helps to bring it about. Returns besides what is left to do for
    /// the listener, if this caller has published the value.
    pub(super) async fn outcome(&self) -> (&Outcome<V>, Deliveries<K, V>)
    where
        K: Eq,
        V: Clone,
    {
        let mut deliveries = Deliveries::default();
        let mut wait = pin!(self.completion.wait(self.flight.name()));
        let outcome = poll_fn(|cx| {
            // Registers before the look at the load, so that no wake-up comes between.
            let polled = wait.as_mut().poll(cx);
            if polled.is_pending() {
                if let Some((guard, load)) = self.completion.take_guard() {
                    self.poll_load(guard, load, cx, &mut deliveries);
                    return wait.as_mut().poll(cx);
                }
            }
            polled
        })
        .await;
        (outcome, deliveries)
    }

    /// Moves the load on as far as it gets; adds what is left to do for the listener to `notices`, which
    /// a `Drop` that panics here would otherwise leak.
    fn poll_load(
        &self,
        guard: PollGuard<'_, V>,
        mut load: Load<V>,
        cx: &Context<'_>,
        deliveries: &mut Deliveries<K, V>,
    ) where
        K: Eq,
        V: Clone,
    {
        let mut leader = Leader::new(self.store, self.flight);
        leader.stage = Stage::Loading;
        let polled = {
            let waker = guard.waker();
            let _scope = PollScope::enter_with(self.flight.name(), &waker, cx);
            load.as_mut().poll(&mut Context::from_waker(&waker))
        };
        let Poll::Ready(outcome) = polled else {
            leader.stage = Stage::Ended;
            guard.give_back(load);
            return;
        };
        drop(load);
        match &outcome {
            Outcome::Value(value) if self.store.takes_values() => {
                let appraised = leader.appraise(value);
                let kept = value.clone();
                deliveries.append(leader.publish(kept, appraised, || outcome));
            }
            Outcome::Value(_) => leader.end(|| outcome),
            Outcome::Failure(_) | Outcome::Abandoned => {
                leader.fail(|| outcome);
                deliveries.append(leader.backlog());
            }
        }
    }
}

impl<K, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        if self.completion.needs_callers() && self.flight.leave().is_some() {
            self.store.count(Event::LoadFailure);
        }
    }
}

impl<'a, K, V> Leader<'a, K, V> {
    /// Calls the user's closure, and hands its future and the duty to end the flight over to all who
    /// wait for it.
    fn detach<Fut>(mut self, load: impl FnOnce() -> Fut) -> Joined<'a, K, V>
    where
        Fut: Future<Output = Outcome<V>> + Send + 'static,
    {
        let load = Box::pin(self.start(load));
        let completion = self.flight.completion();
        completion.bring(load);
        self.stage = Stage::Ended;
        Joined::new(self.store, self.flight, completion)
    }
}
