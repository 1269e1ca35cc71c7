//! How a value comes into the local cache: from the store, or from the user's load, which one instance
//! runs for all.
//!
//! Runs within a load of the local cache, so for each key at most once at a time in an instance. A removal
//! that is heard meanwhile keeps out of the local cache what it brings, whatever the store said before.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_lru::Lifetime;
use futures_lite::FutureExt;

use crate::core::{Core, new_lease};
use crate::key::Key;
use crate::store::{Ask, Found, Lease, Session, Turn};

/// The first pause before a key is looked for again that another instance loads; each next one is twice as
/// long. Word from that instance ends it at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// What a load of the local cache brings.
pub(crate) type Fetched<V> = (V, Lifetime);

/// Which values of the store do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those that are fresh; stale ones too, if another instance refreshes them.
    Fresh,
    /// None that is there: it is to be loaded anew.
    New,
}

/// A lease that this instance has, or may have: given back if it is dropped.
pub(crate) struct Held<'a, V> {
    core: &'a Core<V>,
    lease: Lease,
    keys: Vec<Key>,
}

/// How long a call waits for the load of another instance.
pub(crate) struct Patience {
    until: Duration,
    pause: Duration,
}

impl<V: 'static> Core<V> {
    /// Brings the value of `key`.
    pub(crate) async fn fetch<E, F, Fut>(
        &self,
        key: Key,
        mut wanted: Wanted,
        load: F,
    ) -> Result<Fetched<V>, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        let mut patience = Patience::new(self);
        let stale_does = wanted == Wanted::Fresh;
        // Without a session the store is down, or may have what was removed here.
        while let Some(session) = self.link.session_for(&key) {
            let waiting = self.waits.wait(&key);
            let heard = waiting.listen();
            let held = Held::new(self, vec![key.clone()]);
            let asked = self.local.now();
            let look = session.get_or_lease(&held.keys, self.terms(held.lease, wanted));
            let found = self.ask(&session, look).await;
            let Some(found) = found.ok().and_then(|found| found.into_iter().next()) else {
                break;
            };
            let (value, turn) = self.read(found, self.since(asked));
            match (turn, value) {
                (Turn::Mine, stale) => {
                    drop(waiting);
                    self.counters.misses.add(1);
                    let stale = stale.filter(|_| stale_does);
                    return self.load_leased(held, &session, stale, load).await;
                }
                (Turn::Nobodys, Some((value, left))) => {
                    held.end();
                    self.counters.hits.add(1);
                    return Ok((value, self.times.local(left)));
                }
                // Bytes that nobody can read are to be loaded anew.
                (Turn::Nobodys, None) if wanted == Wanted::Fresh => {
                    held.end();
                    wanted = Wanted::New;
                }
                (Turn::Anothers, Some((value, left))) if wanted == Wanted::Fresh => {
                    held.end();
                    self.counters.hits.add(1);
                    return Ok((value, self.times.local_stale(left)));
                }
                (Turn::Anothers, _) => {
                    held.end();
                    let Some(pause) = patience.pause(self) else {
                        break;
                    };
                    self.counters.waits.add(1);
                    heard.or(self.timer.sleep(pause)).await;
                    // What the other brings is as new as what this call would.
                    wanted = Wanted::Fresh;
                }
                (Turn::Full | Turn::Nobodys, _) => {
                    held.end();
                    self.counters.full.add(usize::from(turn == Turn::Full));
                    break;
                }
            }
        }
        self.counters.loads.add(1);
        self.counters.loads_alone.add(1);
        Ok((load().await?, self.times.local_alone()))
    }

    /// Loads what this instance has leased, and puts it; if the load fails, a stale value does.
    async fn load_leased<E, F, Fut>(
        &self,
        held: Held<'_, V>,
        session: &Arc<dyn Session>,
        stale: Option<(V, Duration)>,
        load: F,
    ) -> Result<Fetched<V>, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.counters.loads.add(1);
        let looked = self.local.now();
        let value = match (load().await, stale) {
            (Ok(value), _) => value,
            (Err(_), Some((stale, left))) => {
                self.counters.stale_on_error.add(1);
                let left = left.saturating_sub(self.since(looked));
                return Ok((stale, self.times.local_stale(left)));
            }
            (Err(error), None) => return Err(error),
        };
        let lifetime = match self.encode(&value) {
            Some(bytes) => {
                let key = held.keys[0].clone();
                self.put_leased(held, session, vec![(key, bytes)]).await.pop()
            }
            None => None,
        };
        Ok((value, lifetime.unwrap_or_else(|| self.times.local_alone())))
    }

    /// Puts what was loaded; gives the lifetime that each value has in the local cache.
    pub(crate) async fn put_leased(
        &self,
        mut held: Held<'_, V>,
        session: &Arc<dyn Session>,
        values: Vec<(Key, Vec<u8>)>,
    ) -> Vec<Lifetime> {
        let Ok(kept) = self.put(session, held.lease, &values).await else {
            return values.iter().map(|_| self.times.local_alone()).collect();
        };
        // What the load left out is still held.
        let put: HashSet<_> = values.iter().map(|(key, _)| key).collect();
        held.keys.retain(|key| !put.contains(key));
        let lifetime = |kept: Option<Lifetime>| {
            kept.unwrap_or_else(|| {
                // Removed meanwhile: it may be what was there before.
                self.counters.puts_refused.add(1);
                Lifetime::new(Duration::ZERO)
            })
        };
        kept.into_iter().map(lifetime).collect()
    }

    /// What a look asks for.
    pub(crate) fn terms(&self, lease: Lease, wanted: Wanted) -> Ask {
        let stale_below = match wanted {
            Wanted::Fresh => self.times.stale_below(),
            Wanted::New => Duration::MAX,
        };
        Ask { lease, lease_for: self.times.lease, stale_below }
    }

    /// The value that was found, if it is one, with the time that it has left, of which `late` is over
    /// since the store was asked; and who may load it.
    pub(crate) fn read(&self, found: Found, late: Duration) -> (Option<(V, Duration)>, Turn) {
        match found {
            Found::Value { bytes, left, turn } => {
                let value = self.codec.decode(&bytes).ok();
                // Where it is nobody's turn, a look that leases the key comes next, and counts it.
                if value.is_none() && matches!(turn, Turn::Mine | Turn::Full) {
                    self.counters.undecodable.add(1);
                }
                (value.map(|value| (value, left.saturating_sub(late))), turn)
            }
            Found::Absent(turn) => (None, turn),
            Found::Foreign(turn) => {
                self.counters.foreign.add(1);
                (None, turn)
            }
        }
    }

    /// The bytes of `value`, if it has any.
    pub(crate) fn encode(&self, value: &V) -> Option<Vec<u8>> {
        let bytes = self.codec.encode(value).ok();
        if bytes.is_none() {
            self.counters.unencodable.add(1);
        }
        bytes
    }
}

impl<'a, V> Held<'a, V> {
    pub(crate) fn new(core: &'a Core<V>, keys: Vec<Key>) -> Self {
        Self { core, lease: new_lease(), keys }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Of all the keys, these may be held.
    pub(crate) fn keep_only(&mut self, keys: Vec<Key>) {
        self.keys = keys;
    }

    /// Nothing is held, or no longer.
    pub(crate) fn end(mut self) {
        self.keys.clear();
    }
}

impl<V> Drop for Held<'_, V> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.core.link.defer_release(self.lease, std::mem::take(&mut self.keys));
        }
    }
}

impl Patience {
    pub(crate) fn new<V>(core: &Core<V>) -> Self {
        Self { until: core.local.now() + core.times.lease, pause: FIRST_PAUSE }
    }

    pub(crate) fn is_over<V>(&self, core: &Core<V>) -> bool {
        core.local.now() >= self.until
    }

    /// How long to wait before the next look, if there is to be one. The last comes when the lease that was
    /// met first is over.
    pub(crate) fn pause<V>(&mut self, core: &Core<V>) -> Option<Duration> {
        let left = self.until.checked_sub(core.local.now()).filter(|left| !left.is_zero())?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        Some(pause)
    }
}
