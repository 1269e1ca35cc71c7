//! An instance that is connected to a store.

use std::sync::Arc;
use std::time::Duration;

use async_lru_tier::store::{
    Ask, Claim, Connected, Event, Events, Found, Instance, Lease, Session, Space, Turn,
};
use async_lru_tier::{ErrorKind, Key, RedisStore, Store, StoreError};
use futures_lite::future::poll_once;

use crate::common::server::Server;
use crate::common::within;

/// A time that does not come while a test runs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// An instance, whose leases are all the same, with its number.
pub(crate) struct Peer {
    pub(crate) session: Arc<dyn Session>,
    pub(crate) events: Box<dyn Events>,
    lease: Lease,
}

impl Peer {
    pub(crate) async fn connect(server: &Server, number: u64) -> Self {
        Self::connect_to(&server.url(), "users", number).await.unwrap()
    }

    pub(crate) async fn connect_to(
        url: &str,
        namespace: &str,
        number: u64,
    ) -> Result<Self, StoreError> {
        let store = RedisStore::open(url)?;
        let Connected { session, events } =
            store.connect(&Space::new(namespace, 3), Instance(number)).await?;
        Ok(Self { session, events, lease: Lease(number) })
    }

    pub(crate) fn ask(&self) -> Ask {
        Ask { lease: self.lease, lease_for: LONG, stale_below: Duration::ZERO }
    }

    pub(crate) async fn get(&self, key: &str) -> Found {
        self.get_stale_below(key, Duration::ZERO).await
    }

    pub(crate) async fn get_stale_below(&self, key: &str, stale_below: Duration) -> Found {
        let found = self.try_get(key, Ask { stale_below, ..self.ask() }).await;
        found.unwrap()
    }

    pub(crate) async fn try_get(&self, key: &str, ask: Ask) -> Result<Found, StoreError> {
        let found = self.session.get_or_lease(&keys(&[key]), ask).await?;
        let [found] = found.try_into().expect("one answer to one key");
        Ok(found)
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> bool {
        self.put_for(key, value, LONG).await
    }

    pub(crate) async fn put_for(&self, key: &str, value: &str, ttl: Duration) -> bool {
        let values = [(Key::of(key), value.as_bytes().to_vec())];
        self.session.put(self.lease, &values, ttl).await.unwrap() == [true]
    }

    /// Leases a key and puts its value.
    pub(crate) async fn load(&self, key: &str, value: &str) {
        assert_eq!(self.get(key).await, Found::Absent(Turn::Mine));
        assert!(self.put(key, value).await);
    }

    pub(crate) async fn release(&self, key: &str) {
        self.session.release(self.lease, &keys(&[key])).await.unwrap();
    }

    pub(crate) async fn remove(&self, key: &str) {
        self.session.remove(&keys(&[key]), None).await.unwrap();
    }

    /// What a write claims its key with.
    pub(crate) fn claim(&self) -> Option<Claim> {
        Some(Claim { lease: self.lease, lease_for: LONG })
    }

    /// Claims a key, and puts its value; tells whether it is kept.
    pub(crate) async fn try_replace(&self, key: &str, value: &str) -> bool {
        self.session.remove(&keys(&[key]), self.claim()).await.unwrap();
        self.put(key, value).await
    }

    pub(crate) async fn replace(&self, key: &str, value: &str) {
        assert!(self.try_replace(key, value).await);
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        within(self.events.next()).await
    }

    /// Asserts that nothing more has been told.
    pub(crate) async fn hears_nothing(&mut self) {
        // After the reply all has arrived that was sent before.
        self.session.ping().await.unwrap();
        assert_eq!(poll_once(self.events.next()).await, None);
    }

    /// Asserts that the connection is lost, for all calls and for good.
    pub(crate) async fn is_lost(&mut self) {
        for _ in 0..2 {
            assert_eq!(self.next().await, None);
        }
        let keys = keys(&["ann"]);
        let values = [(keys[0].clone(), Vec::new())];
        let session = &self.session;
        let errors = [
            session.get_or_lease(&keys, self.ask()).await.unwrap_err(),
            session.put(self.lease, &values, LONG).await.unwrap_err(),
            session.release(self.lease, &keys).await.unwrap_err(),
            session.remove(&keys, None).await.unwrap_err(),
            session.remove(&keys, self.claim()).await.unwrap_err(),
            session.remove_all().await.unwrap_err(),
            session.ping().await.unwrap_err(),
        ];
        assert_eq!(errors.map(|error| error.kind()), [ErrorKind::Lost; 7]);
    }
}

pub(crate) fn keys(names: &[&str]) -> Vec<Key> {
    names.iter().map(|&name| Key::of(name)).collect()
}

pub(crate) fn gone(names: &[&str]) -> Option<Event> {
    Some(Event::Gone(keys(names)))
}

pub(crate) fn ready(names: &[&str]) -> Option<Event> {
    Some(Event::Ready(keys(names)))
}

/// Asserts that a value was found, and whose turn it is; returns what time it has left.
#[track_caller]
pub(crate) fn value(found: Found, expected: &str, whose: Turn) -> Duration {
    let Found::Value { bytes, left, turn } = found else { panic!("{found:?}") };
    assert_eq!((bytes.as_slice(), turn), (expected.as_bytes(), whose));
    left
}
