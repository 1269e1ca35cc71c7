//! The way of a call whose load lives in its flight, and goes on without the call.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use super::answer::{KeySource, Loader, Source};
use super::join::Joined;
use super::leader::{Leader, Stage};
use super::waiter::{Start, Waited, answer, start};
use crate::entries::Kind;
use crate::flight::Outcome;
use crate::store::{Store, hash_of};

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
                Start::Found(value) => {
                    drop(load);
                    return P::answer(Ok(P::tell(value, Source::Cache)));
                }
                Start::Lead(leader) => break 'leads leader,
                Start::Wait(waiter) => Box::pin(waiter.wait(&loader)),
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
