//! The way of a call that changes a value by what it is.
//!
//! An update leads the flight of its key, so that there is one at a time, and those who miss the key
//! meanwhile wait for it as for a load.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::time::Duration;

use super::answer::Errors;
use super::join::Joined;
use super::leader::{Leader, Stage};
use crate::entries::{Ended, FlightKey, Kind};
use crate::flight::PollScope;
use crate::lifetime::Lifetime;
use crate::shard::departed::Departed;
use crate::shard::hit::Use;
use crate::shard::lead_or_join::{LeadOrJoin, LoadRequest};
use crate::shard::removals::Deliveries;
use crate::shard::update::Fenced;
use crate::store::{Store, hash_of};

/// Says what an update does with the entry of its key; see
/// [`AsyncLru::update_with`](crate::AsyncLru::update_with).
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, Update};
///
/// let cache = AsyncLru::<&str, u32>::new(10);
/// let halve = async |value: Option<u32>| match value {
///     Some(value) if value % 2 == 1 => Update::Keep,
///     Some(0) | None => Update::Remove,
///     Some(value) => Update::Put(value / 2),
/// };
/// futures_lite::future::block_on(async {
///     cache.insert("a", 6).await;
///     assert_eq!(cache.update_with("a", halve).await, Some(3));
///     assert_eq!(cache.update_with("a", halve).await, Some(3));
///     cache.insert("a", 0).await;
///     assert_eq!(cache.update_with("a", halve).await, None);
///     assert!(cache.is_empty());
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Update<V> {
    /// Caches this value, in place of what is there.
    ///
    /// As by any write, the cache's [`ttl`](crate::Builder::ttl) starts anew, or what its
    /// [`expiry`](crate::Builder::expiry) says of the new value. Unlike other writes it leaves an entry the
    /// lifetime of its own that it has from [`insert_with_ttl`](crate::AsyncLru::insert_with_ttl),
    /// [`set_ttl`](crate::AsyncLru::set_ttl), a timed load or `PutFor`: so a counter for a minute stays one,
    /// however often it is raised.
    Put(V),
    /// Caches this value, in place of what is there, with this time to live of its own.
    PutFor(V, Duration),
    /// Leaves what is there, or nothing.
    Keep,
    /// Removes what is there.
    Remove,
}

/// Changes the value of `key` as `update` says, and returns what it has left.
#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
pub(crate) fn update<P, K, V, S, F, Fut>(
    store: &Store<K, V>,
    hasher: &S,
    key: K,
    update: F,
    _protocol: P,
) -> impl Future<Output = P::Answer<Option<V>>>
where
    P: Errors,
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    F: FnOnce(Option<V>) -> Fut,
    Fut: Future<Output = P::Given<Update<V>>>,
{
    async move {
        let hash = hash_of(hasher, &key);
        let Begun { mut leader, old, kept } = Box::pin(lead(store, hash, key)).await;
        let answer = {
            let mut update = pin!(update(old));
            poll_fn(|cx| {
                let _scope = PollScope::enter(leader.flight.name(), cx);
                update.as_mut().poll(cx)
            })
            .await
        };
        // What is matched on stays in the future for as long as its arms wait, so they do not.
        let (value, own) = 'put: {
            let deliveries = match P::result(answer) {
                Ok(Update::Put(value)) => break 'put (value, None),
                Ok(Update::PutFor(value, ttl)) => break 'put (value, Some(Lifetime::new(ttl))),
                Ok(Update::Keep) => {
                    drop(leader);
                    return P::answer(Ok(kept));
                }
                Ok(Update::Remove) => {
                    let deliveries = leader.remove();
                    drop((kept, leader));
                    deliveries
                }
                Err(error) => {
                    drop((kept, leader));
                    return P::answer(Err(error));
                }
            };
            deliveries.settle().await;
            return P::answer(Ok(None));
        };
        let delivered = leader.deliver(&value, own);
        drop(kept);
        delivered.settle(leader).await;
        P::answer(Ok(Some(value)))
    }
}

/// An update that leads its flight.
struct Begun<'a, K, V> {
    leader: Leader<'a, K, V>,
    /// The value that it is given.
    old: Option<V>,
    /// The same, for its answer if it leaves that.
    kept: Option<V>,
}

/// Leads the flight of `key` once there is none that has to be waited for.
async fn lead<K: Eq, V: Clone>(store: &Store<K, V>, hash: u64, key: K) -> Begun<'_, K, V> {
    let shard = store.shard(hash);
    let key = Some(FlightKey::new(key, store.appraises()));
    let mut request = LoadRequest { hash, key, kind: Kind::Update, of: Use::Uncounted };
    loop {
        // Before the flight: a clock of the user's that writes could fence it every time.
        let now = store.lifetimes().roughly_now();
        match shard.lead_update(&mut request, now) {
            LeadOrJoin::Join(open) => {
                // If it has published the value, it waits for the listener when it is done itself.
                drop(Joined::new(store, open).outcome().await.1);
            }
            LeadOrJoin::Lead(flight) => {
                let leader = Leader::new(store, flight, Kind::Update);
                match flight.start_update(now) {
                    Ok(old) => return Begun { leader, kept: old.clone(), old },
                    Err(Fenced) => request.key = Some(leader.step_back()),
                }
            }
            LeadOrJoin::Hit(_) => unreachable!("an update looks once it leads"),
        }
    }
}

impl<K, V> Leader<'_, K, V> {
    /// Ends the flight as if it had not been, and takes its key back.
    fn step_back(mut self) -> FlightKey<K> {
        self.stage = Stage::Ended;
        let Ended { key, completion, sweeps } = self.flight.end();
        drop(completion);
        drop(sweeps);
        key
    }

    /// Ends the flight and removes the entry of its key, unless a later write has won. Returns what is left
    /// to do for the listener.
    fn remove(&mut self) -> Deliveries<K, V>
    where
        K: Eq,
    {
        let now = self.store.lifetimes().now();
        let mut departed = Departed::default();
        let (entry, ended) = self.flight.remove_by_update(now, &mut departed);
        self.stage = Stage::Ended;
        // The waiters come before the user's `Drop`.
        drop(ended.completion);
        drop((ended.key, ended.sweeps));
        if let Some(entry) = entry {
            departed.keep_removed(entry);
        }
        let mut deliveries = departed.into_deliveries();
        deliveries.append(self.backlog());
        deliveries
    }
}
