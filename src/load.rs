//! The way of one `get_or_insert` call: a hit, or a flight that it leads or waits for.
//!
//! Whatever is on its way to the caller would be leaked by a `Drop` of the user's that panics after
//! it, so here everything else is dropped first.
//!
//! The ways are functions that return an `async` block, for an `async fn` would keep room for its
//! arguments twice: as they came, and as its body has them. Nor does an arm of a `match` on a value
//! wait, since that would keep room for the value.

pub(crate) mod answer;
pub(crate) mod bulk;
pub(crate) mod bulk_detached;
mod delivery;
pub(crate) mod detached;
mod join;
pub(crate) mod joins;
pub(crate) mod key;
mod leader;
mod refresh;
pub(crate) mod task;
mod turns;
pub(crate) mod update;
mod waiter;

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;

use self::answer::{Errors, Source, Terms};
use self::key::KeySource;
use self::waiter::{Start, Waited, start};
use crate::entries::Kind;
use crate::flight::{Loaded, PollScope};
use crate::store::{Store, hash_of};

/// Answers a call: from the cache, from a flight that somebody else leads, or by running `load`.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn fetch<P, T, K, V, S, F, Fut>(
    store: &Store<K, V>,
    hasher: &S,
    key: impl KeySource<K>,
    load: F,
    (errors, terms): (P, T),
) -> impl Future<Output = P::Answer<T::Told>>
where
    P: Errors,
    T: Terms<V>,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    F: FnOnce() -> Fut,
    Fut: Future<Output = P::Given<T::Given>>,
{
    async move {
        let mut leader = 'leads: {
            let kind = if T::REFRESHES { Kind::Refresh } else { Kind::Led };
            let waits = match start(store, hash_of(hasher, key.query()), key, kind) {
                Start::Found(found) => {
                    drop(load);
                    return P::answer(Ok(T::tell(found.value, found.age.into())));
                }
                Start::Lead(leader) => break 'leads leader,
                Start::Refresh(leader, old) => {
                    // Before the leader is on its way, which a `Drop` that panics would leak.
                    drop(old);
                    break 'leads leader;
                }
                // In a box, so that the futures of all calls need no room for what waiters remember.
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
        let mut span = leader.span();
        let given = {
            let mut load = pin!(leader.start(|| span.call(load)));
            poll_fn(|cx| {
                let _entered = span.enter();
                let _scope = PollScope::enter(leader.flight.name(), cx);
                load.as_mut().poll(cx)
            })
            .await
        };
        leader.count_time();
        let (answer, delivered) = {
            // No longer than this, or the future would keep room for it.
            let result = P::result(given);
            span.end(result.is_ok());
            match result {
                Ok(given) => {
                    let Loaded { value, own } = terms.take(given);
                    let delivered = leader.deliver(&value, own);
                    (Ok(T::tell(value, Source::Closure)), delivered)
                }
                Err(error) => {
                    let left = leader.fail(|| errors.share(&error));
                    let answer = match left.filter(|_| !T::REFRESHES) {
                        Some(left) => {
                            drop(error);
                            Ok(T::tell(left, Source::Stale))
                        }
                        None => Err(error),
                    };
                    (answer, leader.backlog().into())
                }
            }
        };
        if delivered.is_done() {
            drop(leader);
            // There is nothing to drop, which would take a hundredth of a miss to find out.
            std::mem::forget(delivered);
        } else {
            delivered.settle(leader).await;
        }
        P::answer(answer)
    }
}
