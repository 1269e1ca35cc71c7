//! The way of [`fetch`](crate::fetch) for many keys: one look into the store for all, and one load for what
//! nobody has and nobody loads.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_lru::Lifetime;
use event_listener::EventListener;
use futures_lite::FutureExt;

use crate::core::Core;
use crate::fetch::{Held, Patience, Wanted};
use crate::key::Key;
use crate::store::{Ask, Session, Turn};
use crate::waits::Waiting;

/// What a load of the local cache brings for many keys.
pub(crate) type FetchedMany<V> = Vec<(Key, V, Lifetime)>;

/// A part of it, which waits for the rest.
struct Brought<V> {
    values: FetchedMany<V>,
    /// What the lifetimes count from, by the clock of the local cache.
    since: Duration,
}

/// What a look into the store says of the keys of a call.
struct Looked<V> {
    fetched: FetchedMany<V>,
    /// Those that this call is to load, and to put.
    leased: Vec<Key>,
    /// Those of them that the store has, but stale, with the time they have left.
    stale: HashMap<Key, (V, Duration)>,
    /// Those that this call is to load for itself.
    alone: Vec<Key>,
    /// Those that another instance loads.
    anothers: Vec<Key>,
    /// Those whose bytes nobody can read.
    unread: Vec<Key>,
}

impl<V: 'static> Core<V> {
    /// Brings the values of `keys`, as far as there are any.
    pub(crate) async fn fetch_many<E, F, Fut>(
        &self,
        keys: Vec<Key>,
        load: F,
    ) -> Result<FetchedMany<V>, E>
    where
        F: Fn(Vec<Key>) -> Fut,
        Fut: Future<Output = Result<Vec<(Key, V)>, E>>,
    {
        let mut brought = Brought::new(self.local.now());
        let mut patience = Patience::new(self);
        let mut asked = keys;
        while !asked.is_empty() {
            let (session, apart) = self.link.session_for_all(&mut asked);
            let held = Held::new(self, std::mem::take(&mut asked));
            let mut looked = Looked::new(apart);
            if let Some(session) = &session {
                self.look_all(session, &held, &mut looked).await;
            }
            if patience.is_over(self) {
                looked.alone.append(&mut looked.anothers);
            }
            brought.add(std::mem::take(&mut looked.fetched), self.local.now());
            // What others load is waited for only after what they may wait for is loaded.
            let waiting: Vec<_> = looked.anothers.iter().map(|key| self.waits.wait(key)).collect();
            let heard: Vec<_> = waiting.iter().map(Waiting::listen).collect();
            asked = std::mem::take(&mut looked.anothers);
            let loaded = self.load_all(session.as_ref(), held, looked, &load).await?;
            brought.add(loaded, self.local.now());
            if !asked.is_empty() {
                self.counters.waits.add(asked.len());
                let pause = patience.pause(self).unwrap_or_default();
                any(heard).or(self.timer.sleep(pause)).await;
            }
        }
        Ok(brought.values)
    }

    /// Looks for all keys of `held`, and once more for those whose bytes nobody can read, which are to be
    /// loaded anew.
    async fn look_all(
        &self,
        session: &Arc<dyn Session>,
        held: &Held<'_, V>,
        looked: &mut Looked<V>,
    ) {
        if held.keys().is_empty() {
            return;
        }
        let ask = |wanted| self.terms(held.lease(), wanted);
        self.look(session, held.keys(), ask(Wanted::Fresh), looked).await;
        let unread = std::mem::take(&mut looked.unread);
        if !unread.is_empty() {
            self.look(session, &unread, ask(Wanted::New), looked).await;
            looked.alone.append(&mut looked.unread);
        }
    }

    async fn look(
        &self,
        session: &Arc<dyn Session>,
        keys: &[Key],
        ask: Ask,
        looked: &mut Looked<V>,
    ) {
        let asked = self.local.now();
        let Ok(found) = self.ask(session, session.get_or_lease(keys, ask)).await else {
            // It may have taken effect, or do so yet.
            self.link.defer_release(ask.lease, keys.to_vec());
            looked.alone.extend_from_slice(keys);
            return;
        };
        let late = self.since(asked);
        for (key, found) in keys.iter().zip(found) {
            let key = key.clone();
            let (value, turn) = self.read(found, late);
            match (turn, value) {
                (Turn::Mine, stale) => {
                    self.counters.misses.add(1);
                    looked.stale.extend(stale.map(|stale| (key.clone(), stale)));
                    looked.leased.push(key);
                }
                (Turn::Nobodys, Some((value, left))) => {
                    self.counters.hits.add(1);
                    looked.fetched.push((key, value, self.times.local(left)));
                }
                (Turn::Nobodys, None) => looked.unread.push(key),
                (Turn::Anothers, Some((value, left))) => {
                    self.counters.hits.add(1);
                    looked.fetched.push((key, value, self.times.local_stale(left)));
                }
                (Turn::Anothers, None) => looked.anothers.push(key),
                (Turn::Full, _) => {
                    self.counters.full.add(1);
                    looked.alone.push(key);
                }
            }
        }
    }

    /// Loads what is to be loaded, and puts what is leased; if the load fails, stale values do, if there are
    /// enough.
    async fn load_all<E, F, Fut>(
        &self,
        session: Option<&Arc<dyn Session>>,
        mut held: Held<'_, V>,
        looked: Looked<V>,
        load: &F,
    ) -> Result<FetchedMany<V>, E>
    where
        F: Fn(Vec<Key>) -> Fut,
        Fut: Future<Output = Result<Vec<(Key, V)>, E>>,
    {
        let Looked { leased, mut stale, alone, .. } = looked;
        held.keep_only(leased.clone());
        let keys: Vec<_> = leased.into_iter().chain(alone.iter().cloned()).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.counters.loads.add(keys.len());
        self.counters.loads_alone.add(alone.len());
        let looked = self.local.now();
        let loaded = match load(keys.clone()).await {
            Ok(loaded) => loaded,
            Err(_) if keys.iter().all(|key| stale.contains_key(key)) => {
                self.counters.stale_on_error.add(keys.len());
                let late = self.since(looked);
                let kept = stale.drain().map(|(key, (value, left))| {
                    (key, value, self.times.local_stale(left.saturating_sub(late)))
                });
                return Ok(kept.collect());
            }
            Err(error) => return Err(error),
        };
        let mut fetched = Vec::with_capacity(loaded.len());
        let mut puts = Vec::new();
        let leased: HashSet<_> = held.keys().iter().cloned().collect();
        for (key, value) in loaded {
            let bytes = if leased.contains(&key) { self.encode(&value) } else { None };
            if let Some(bytes) = bytes {
                puts.push((fetched.len(), key.clone(), bytes));
            }
            fetched.push((key, value, self.times.local_alone()));
        }
        if let (Some(session), false) = (session, puts.is_empty()) {
            let (places, puts): (Vec<_>, Vec<_>) =
                puts.into_iter().map(|(place, key, bytes)| (place, (key, bytes))).unzip();
            let lifetimes = self.put_leased(held, session, puts).await;
            for (place, lifetime) in places.into_iter().zip(lifetimes) {
                fetched[place].2 = lifetime;
            }
        }
        Ok(fetched)
    }
}

impl<V> Brought<V> {
    fn new(now: Duration) -> Self {
        Self { values: Vec::new(), since: now }
    }

    /// Adds values whose lifetimes count from now; what was there before has lived meanwhile.
    fn add(&mut self, mut values: FetchedMany<V>, now: Duration) {
        let lived = now.saturating_sub(self.since);
        for (_, _, lifetime) in &mut self.values {
            let fresh = lifetime.fresh();
            *lifetime = Lifetime::new(lifetime.ttl().saturating_sub(lived));
            if let Some(fresh) = fresh {
                *lifetime = lifetime.fresh_for(fresh.saturating_sub(lived));
            }
        }
        self.values.append(&mut values);
        self.since = now;
    }
}

impl<V> Looked<V> {
    fn new(alone: Vec<Key>) -> Self {
        Self {
            fetched: Vec::new(),
            leased: Vec::new(),
            stale: HashMap::new(),
            alone,
            anothers: Vec::new(),
            unread: Vec::new(),
        }
    }
}

/// Ends with the first of `heard`.
async fn any(mut heard: Vec<EventListener>) {
    poll_fn(|cx| {
        for listener in &mut heard {
            if Pin::new(listener).poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}
