//! The way of a call whose load lives in its flight, and goes on without the call.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use super::answer::{DetachedErrors, Source, Terms};
use super::join::Joined;
use super::key::KeySource;
use super::leader::{Leader, Stage};
use super::waiter::{Start, Waited, start};
use crate::entries::Kind;
use crate::flight::attempt::Running;
use crate::flight::{Load, LoadEnd, Outcome};
use crate::store::{Store, hash_of};

/// Answers a call: from the cache, from a flight that is under way, or by what `load` makes in a flight
/// that goes on without the call.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch_detached<P, T, K, V, S>(
    store: &Store<K, V>,
    hasher: &S,
    key: impl KeySource<K>,
    load: impl FnOnce(Running) -> Load<V>,
    (errors, _terms): (P, T),
) -> impl Future<Output = P::Answer<T::Told>>
where
    P: DetachedErrors,
    T: Terms<V>,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
{
    async move {
        let leader = 'leads: {
            let kind = if T::REFRESHES { Kind::DetachedRefresh } else { Kind::Detached };
            let waits = match start(store, hash_of(hasher, key.query()), key, kind) {
                Start::Found(found) => {
                    drop(load);
                    return P::answer(Ok(T::tell(found.value, found.age.into())));
                }
                Start::Refresh(leader, value) if store.has_spawner() => {
                    // The only caller leaves it, and it goes to the spawner.
                    drop(leader.detach(|| load(store.begin_load(true))));
                    return P::answer(Ok(T::tell(value, Source::Stale)));
                }
                Start::Lead(leader) => break 'leads leader,
                Start::Refresh(leader, old) => {
                    // Before the leader is on its way, which a `Drop` that panics would leak.
                    drop(old);
                    break 'leads leader;
                }
                Start::Wait(waiter) => Box::pin(waiter.wait(&errors)),
            };
            match waits.await {
                Waited::Lead(leader) => leader,
                Waited::Answer(answer) => {
                    drop(load);
                    return P::answer(answer.map(|value| T::tell(value, Source::Flight)));
                }
            }
        };
        let is_refresh = leader.kind.is_refresh();
        let joined = leader.detach(|| load(store.begin_load(is_refresh)));
        let (outcome, deliveries) = Box::pin(joined.outcome()).await;
        // Before the answer is taken, so that the future needs no room for it.
        deliveries.settle().await;
        let answer = match outcome {
            Outcome::Value(value) => Some(Ok(T::tell(value.clone(), Source::Closure))),
            Outcome::Stale(left, _) if !T::REFRESHES => {
                Some(Ok(T::tell(left.clone(), Source::Stale)))
            }
            Outcome::Failure(failure) | Outcome::Stale(_, Some(failure)) => {
                errors.take(failure).map(Err)
            }
            Outcome::Abandoned | Outcome::Stale(_, None) => None,
        };
        drop(joined);
        // Its closure is spent, so it cannot go on as others do.
        let answer = answer.expect("the load of this call panicked while another call polled it");
        P::answer(answer)
    }
}

/// Runs a load of a flight's own.
pub(crate) async fn run<P, T, V>(
    load: impl Future<Output = P::Given<T::Given>>,
    (errors, terms): (P, T),
    mut running: Running,
) -> LoadEnd<V>
where
    P: DetachedErrors,
    T: Terms<V>,
{
    let result = P::result(running.span().instrument(load).await);
    running.answered(result.is_ok());
    match result {
        Ok(given) => LoadEnd::Value(terms.take(given), running),
        Err(error) => LoadEnd::Failure(errors.keep(error)),
    }
}

impl<'a, K, V> Leader<'a, K, V> {
    /// Calls the user's closure, and hands its future and the duty to end the flight over to all who
    /// wait for it.
    pub(super) fn detach(mut self, load: impl FnOnce() -> Load<V>) -> Joined<'a, K, V> {
        let load = load();
        let completion = self.flight.completion();
        completion.bring(load);
        self.stage = Stage::Ended;
        Joined::of_leader(self.store, self.flight, self.kind, completion)
    }
}
