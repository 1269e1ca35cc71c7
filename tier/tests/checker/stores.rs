//! Stores that are slower than others, or that lack what makes them sound.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru_tier::store::{
    Ask, BoxFuture, Claim, Connected, Event, Events, Found, Instance, Lease, Session, Space, Turn,
};
use async_lru_tier::{ErrorKind, Key, Store, StoreError};

use crate::ledger::dawdle;

/// A store whose calls and messages take time, as if there was a network.
pub(crate) struct Distant<S>(pub(crate) S);

struct DistantSession(Arc<dyn Session>);

struct DistantEvents(Box<dyn Events>);

impl<S: Store> Store for Distant<S> {
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>> {
        Box::pin(async move {
            dawdle().await;
            let Connected { session, events } = self.0.connect(space, instance).await?;
            dawdle().await;
            let session = Arc::new(DistantSession(session));
            Ok(Connected { session, events: Box::new(DistantEvents(events)) })
        })
    }
}

async fn there_and_back<T>(call: impl Future<Output = T>) -> T {
    dawdle().await;
    let answer = call.await;
    dawdle().await;
    answer
}

impl Session for DistantSession {
    fn get_or_lease<'a>(
        &'a self,
        keys: &'a [Key],
        ask: Ask,
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>> {
        Box::pin(there_and_back(self.0.get_or_lease(keys, ask)))
    }

    fn put<'a>(
        &'a self,
        lease: Lease,
        values: &'a [(Key, Vec<u8>)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<bool>, StoreError>> {
        Box::pin(there_and_back(self.0.put(lease, values, ttl)))
    }

    fn release<'a>(
        &'a self,
        lease: Lease,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(there_and_back(self.0.release(lease, keys)))
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [Key],
        claim: Option<Claim>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(there_and_back(self.0.remove(keys, claim)))
    }

    fn remove_all(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(there_and_back(self.0.remove_all()))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        // Not itself late, or it would find messages missing that are merely on their way.
        self.0.ping()
    }
}

impl Events for DistantEvents {
    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(async {
            // Before there is anything to be lost.
            dawdle().await;
            self.0.next().await
        })
    }
}

/// A store that takes what is put whether its lease is still held or not.
pub(crate) struct WithoutLease<S>(pub(crate) S);

struct WithoutLeaseSession(Arc<dyn Session>);

impl<S: Store> Store for WithoutLease<S> {
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>> {
        Box::pin(async move {
            let Connected { session, events } = self.0.connect(space, instance).await?;
            Ok(Connected { session: Arc::new(WithoutLeaseSession(session)), events })
        })
    }
}

impl WithoutLeaseSession {
    /// Puts a value with a lease of this moment, if nobody else has one.
    async fn force(&self, value: &(Key, Vec<u8>), ttl: Duration) -> Result<bool, StoreError> {
        let lease = Lease(fastrand::u64(..));
        let ask = Ask { lease, lease_for: Duration::from_secs(1), stale_below: Duration::MAX };
        let found = self.0.get_or_lease(std::slice::from_ref(&value.0), ask).await?;
        let (Found::Value { turn, .. } | Found::Absent(turn) | Found::Foreign(turn)) = found[0];
        if turn != Turn::Mine {
            return Ok(false);
        }
        Ok(self.0.put(lease, std::slice::from_ref(value), ttl).await? == [true])
    }
}

impl Session for WithoutLeaseSession {
    fn put<'a>(
        &'a self,
        lease: Lease,
        values: &'a [(Key, Vec<u8>)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<bool>, StoreError>> {
        Box::pin(async move {
            let mut kept = self.0.put(lease, values, ttl).await?;
            for (kept, value) in kept.iter_mut().zip(values) {
                *kept = *kept || self.force(value, ttl).await?;
            }
            Ok(kept)
        })
    }

    fn get_or_lease<'a>(
        &'a self,
        keys: &'a [Key],
        ask: Ask,
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>> {
        self.0.get_or_lease(keys, ask)
    }

    fn release<'a>(
        &'a self,
        lease: Lease,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.release(lease, keys)
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [Key],
        claim: Option<Claim>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.remove(keys, claim)
    }

    fn remove_all(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.remove_all()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.ping()
    }
}

/// A store that connects anew by itself and says nothing of what was missed meanwhile, as clients of other
/// caches do.
pub(crate) struct Silent<S>(pub(crate) Arc<S>);

/// The session as it is now.
#[derive(Clone)]
struct SilentSession(Arc<Mutex<Arc<dyn Session>>>);

struct SilentEvents<S> {
    store: Arc<S>,
    space: Space,
    instance: Instance,
    session: SilentSession,
    events: Option<Box<dyn Events>>,
}

impl<S: Store> Store for Silent<S> {
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>> {
        Box::pin(async move {
            let Connected { session, events } = self.0.connect(space, instance).await?;
            let session = SilentSession(Arc::new(Mutex::new(session)));
            let events = SilentEvents {
                store: Arc::clone(&self.0),
                space: space.clone(),
                instance,
                session: session.clone(),
                events: Some(events),
            };
            Ok(Connected { session: Arc::new(session), events: Box::new(events) })
        })
    }
}

impl<S: Store> Events for SilentEvents<S> {
    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(async {
            loop {
                if let Some(events) = &mut self.events {
                    if let Some(event) = events.next().await {
                        return Some(event);
                    }
                    self.events = None;
                    // Long enough to miss something.
                    let pause = fastrand::u64(20..200);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                match self.store.connect(&self.space, self.instance).await {
                    Ok(Connected { session, events }) => {
                        *self.session.0.lock().unwrap() = session;
                        self.events = Some(events);
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
    }
}

impl SilentSession {
    fn now(&self) -> Arc<dyn Session> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// An error that is not the end of the link.
fn passing(error: StoreError) -> StoreError {
    match error.kind() {
        ErrorKind::Lost | ErrorKind::ReadOnly => StoreError::new(ErrorKind::Other, error),
        _ => error,
    }
}

impl Session for SilentSession {
    fn get_or_lease<'a>(
        &'a self,
        keys: &'a [Key],
        ask: Ask,
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>> {
        Box::pin(async move { self.now().get_or_lease(keys, ask).await.map_err(passing) })
    }

    fn put<'a>(
        &'a self,
        lease: Lease,
        values: &'a [(Key, Vec<u8>)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<bool>, StoreError>> {
        Box::pin(async move { self.now().put(lease, values, ttl).await.map_err(passing) })
    }

    fn release<'a>(
        &'a self,
        lease: Lease,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.now().release(lease, keys).await.map_err(passing) })
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [Key],
        claim: Option<Claim>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.now().remove(keys, claim).await.map_err(passing) })
    }

    fn remove_all(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.now().remove_all().await.map_err(passing) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
