//! A store in the memory of the process.

mod contents;
mod expiring;
mod faults;
mod settings;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_lru::{Clock, SystemClock};
use event_listener::Event as Bell;
use futures_lite::future::yield_now;

pub use self::faults::{Faults, MemoryFigures};
use self::state::{Link, State};
use crate::key::Key;
use crate::store::{
    Ask, BoxFuture, Claim, Connected, Event, Events, Found, Instance, Lease, Session, Space, Store,
    StoreError,
};
use crate::sync::Mutex;

/// A store in the memory of the process, which does what [`RedisStore`](crate::RedisStore) does: for tests,
/// for trying things out, and for a service that runs alone.
///
/// A clone is another handle to the same store. Values and leases that are over are freed a few at a time
/// by whichever calls come; nothing else bounds the memory.
///
/// Calls are done at their first poll, unless [`faults`](Self::faults) ask otherwise. The end of the
/// [`Events`] is the end of their session, as nobody hears any longer of what others remove.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use async_lru_tier::store::{Ask, Found, Instance, Lease, Space, Turn};
/// use async_lru_tier::{Key, MemoryStore, Store};
/// use futures_lite::future::block_on;
///
/// let store = MemoryStore::new();
/// let connected = block_on(store.connect(&Space::new("users", 1), Instance(7)))?;
/// let session = connected.session;
///
/// let lease = Lease(42);
/// let ask = Ask { lease, lease_for: Duration::from_secs(5), stale_below: Duration::ZERO };
/// let keys = [Key::of("ann")];
/// assert_eq!(block_on(session.get_or_lease(&keys, ask))?, [Found::Absent(Turn::Mine)]);
///
/// let values = [(Key::of("ann"), b"Ann".to_vec())];
/// let minute = Duration::from_secs(60);
/// assert_eq!(block_on(session.put(lease, &values, minute))?, [true]);
///
/// let found = block_on(session.get_or_lease(&keys, ask))?;
/// assert!(matches!(&found[0], Found::Value { bytes, turn: Turn::Nobodys, .. } if bytes == b"Ann"));
/// # Ok::<(), async_lru_tier::StoreError>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// Nothing of the user's is called, dropped or woken under the lock: see [`Shared::locked`].
    state: Mutex<State>,
    clock: Box<dyn Clock>,
    /// Wakes those who wait for a stopped store.
    resumed: Arc<Bell>,
}

impl MemoryStore {
    /// Creates an empty store that goes by the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SystemClock::new())
    }

    /// Creates an empty store that goes by `clock`. One that steps back stands still for the store until it
    /// is past the latest time that it showed.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::ManualClock;
    /// use async_lru_tier::MemoryStore;
    ///
    /// let clock = ManualClock::new();
    /// let store = MemoryStore::with_clock(clock.clone());
    /// assert_eq!(store.faults().figures().values, 0);
    /// ```
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        let resumed = Arc::new(Bell::new());
        let state = Mutex::new(State::new(Arc::clone(&resumed)));
        Self { shared: Arc::new(Shared { state, clock: Box::new(clock), resumed }) }
    }

    /// Returns what has the store go wrong, and tells what it holds.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.shared))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>> {
        Box::pin(async move {
            self.shared.step().await;
            let connected = self.shared.connect(space, instance).await?;
            self.shared.step().await;
            Ok(connected)
        })
    }
}

impl Shared {
    /// Does what depends on the time.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let now = self.clock.now();
        self.locked(|state| {
            state.set_now(now);
            act(state)
        })
    }

    /// The one way to the state.
    fn locked<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (result, after) = {
            let mut state = self.state.lock();
            let result = act(&mut state);
            (result, state.take_after())
        };
        drop(after.garbage);
        for bell in after.wake {
            bell.notify(usize::MAX);
        }
        result
    }

    async fn connect(
        self: &Arc<Self>,
        space: &Space,
        instance: Instance,
    ) -> Result<Connected, StoreError> {
        loop {
            let resumed = self.resumed.listen();
            if let Some(linked) = self.locked(|state| state.connect(space, instance)) {
                let (link, bell) = linked?;
                let session = MemorySession { shared: Arc::clone(self), link };
                let events = MemoryEvents { shared: Arc::clone(self), link, bell };
                return Ok(Connected { session: Arc::new(session), events: Box::new(events) });
            }
            resumed.await;
        }
    }

    /// Waits for the next poll, if calls go in steps.
    async fn step(&self) {
        if self.locked(|state| state.settings.in_steps) {
            yield_now().await;
        }
    }
}

struct MemorySession {
    shared: Arc<Shared>,
    link: Link,
}

/// The answer to a call that waits for a stopped store, once it is there.
type Answer<T> = Arc<Mutex<Option<Result<T, StoreError>>>>;

impl MemorySession {
    /// Does a call in its steps.
    async fn call<T, C>(&self, run: C) -> Result<T, StoreError>
    where
        T: Send + 'static,
        C: FnOnce(&mut State, Link) -> Result<T, StoreError> + Send + 'static,
    {
        self.shared.step().await;
        let result = match self.begin(run) {
            Begun::Done(result) => result,
            Begun::Waits(answer) => self.wait(&answer).await,
        };
        self.shared.step().await;
        result
    }

    /// Does a call, or leaves it with the store, if that is stopped.
    fn begin<T, C>(&self, run: C) -> Begun<T>
    where
        T: Send + 'static,
        C: FnOnce(&mut State, Link) -> Result<T, StoreError> + Send + 'static,
    {
        let link = self.link;
        self.shared.with(|state| {
            if !state.is_linked(link) {
                return Begun::Done(Err(state::ended()));
            }
            if !state.is_stopped_for(link) {
                return Begun::Done(run(state, link));
            }
            let answer = Answer::default();
            let answered = Arc::clone(&answer);
            state.hold(move |state| *answered.lock() = Some(run(state, link)));
            Begun::Waits(answer)
        })
    }

    async fn wait<T>(&self, answer: &Answer<T>) -> Result<T, StoreError> {
        loop {
            let resumed = self.shared.resumed.listen();
            if let Some(result) = answer.lock().take() {
                return result;
            }
            if !self.shared.locked(|state| state.is_linked(self.link)) {
                return Err(state::ended());
            }
            resumed.await;
        }
    }
}

enum Begun<T> {
    Done(Result<T, StoreError>),
    Waits(Answer<T>),
}

impl Session for MemorySession {
    fn get_or_lease<'a>(
        &'a self,
        keys: &'a [Key],
        ask: Ask,
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>> {
        let keys = keys.to_vec();
        Box::pin(self.call(move |state, link| {
            state.figures.get_or_lease += 1;
            state.call(link, keys.len(), |contents, at| contents.get_or_lease(&keys, ask, at))
        }))
    }

    fn put<'a>(
        &'a self,
        lease: Lease,
        values: &'a [(Key, Vec<u8>)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<bool>, StoreError>> {
        let values = values.to_vec();
        Box::pin(self.call(move |state, link| {
            state.figures.put += 1;
            state.call(link, values.len(), |contents, at| contents.put(lease, values, ttl, at))
        }))
    }

    fn release<'a>(
        &'a self,
        lease: Lease,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let keys = keys.to_vec();
        Box::pin(self.call(move |state, link| {
            state.figures.release += 1;
            state.call(link, keys.len(), |contents, at| contents.release(lease, keys, at))
        }))
    }

    fn remove<'a>(
        &'a self,
        keys: &'a [Key],
        claim: Option<Claim>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let keys = keys.to_vec();
        Box::pin(self.call(move |state, link| {
            state.figures.remove += 1;
            state.call(link, keys.len(), |contents, at| contents.remove(keys, claim, at))
        }))
    }

    fn remove_all(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(|state, link| {
            state.figures.remove_all += 1;
            state.remove_all(link)
        }))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(|state, link| {
            state.figures.ping += 1;
            state.ping(link)
        }))
    }
}

/// Ends the session when it is dropped.
struct MemoryEvents {
    shared: Arc<Shared>,
    link: Link,
    bell: Arc<Bell>,
}

impl Events for MemoryEvents {
    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(async move {
            loop {
                let news = self.bell.listen();
                match self.shared.locked(|state| state.next_event(self.link)) {
                    Err(state::Lost) => return None,
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => news.await,
                }
            }
        })
    }
}

impl Drop for MemoryEvents {
    fn drop(&mut self) {
        self.shared.locked(|state| state.unlink(self.link));
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
