//! The completion of a load: who waits for it, and who is told of its end.
//!
//! The waiters of a load share a [`Completion`] with its node, made by the first of them, so that a load
//! nobody waits for allocates nothing. It is closed exactly once, by the [`CompletionGuard`], whatever
//! becomes of the leader.

mod detached;
mod recursion;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use self::detached::Detached;
pub(crate) use self::detached::{Load, PollGuard};
use self::recursion::assert_not_within;
pub(crate) use self::recursion::{FlightName, PollScope};
use crate::sync::notify::wake_all;
use crate::sync::{Mutex, MutexGuard, OnceLock};

/// Whether callers that miss the same key share a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coalescing {
    On,
    Off,
}

/// Tells the flights of one shard apart: where its node is, and which of those that were there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlightId(u64);

impl FlightId {
    pub(crate) fn new(number: u32, slot: usize) -> Self {
        Self(u64::from(number) << 32 | slot as u64)
    }

    #[inline]
    pub(crate) fn slot(self) -> usize {
        self.0 as u32 as usize
    }
}

/// What the waiters of a flight get.
pub(crate) enum Outcome<V> {
    Value(V),
    /// An error that the leader shares; of the type that its own call returns.
    Failure(Box<dyn Any + Send + Sync>),
    /// Nothing: the load failed, panicked or was dropped, and the waiters are on their own.
    Abandoned,
}

/// Where a flight and its waiters meet.
pub(crate) struct Completion<V> {
    outcome: OnceLock<Outcome<V>>,
    mode: Mode<V>,
}

/// How a flight comes to its end.
enum Mode<V> {
    /// By its leader, for whom these wait.
    Led(Waiters),
    /// By all who wait for it.
    Detached(Detached<V>),
}

impl<V> Default for Completion<V> {
    fn default() -> Self {
        Self { outcome: OnceLock::new(), mode: Mode::Led(Waiters::default()) }
    }
}

impl<V> Completion<V> {
    /// Wakes all waiters for the last time.
    #[cold]
    fn close(&self) {
        self.waiters().close();
    }

    fn waiters(&self) -> &Waiters {
        match &self.mode {
            Mode::Led(waiters) => waiters,
            Mode::Detached(detached) => detached.waiters(),
        }
    }

    /// Waits for the end of `flight`, whose completion this is.
    ///
    /// # Panics
    ///
    /// If it is polled by the load of that very flight.
    pub(crate) fn wait(&self, flight: FlightName) -> Join<'_, V> {
        Join { completion: self, flight, place: None }
    }
}

/// Who to wake; `None` once the flight has ended.
///
/// Wakers are taken out and woken after unlocking. An event that wakes under its own lock would
/// deadlock on a waker whose last clone drops the task it wakes, and with it another waiter.
struct Waiters(Mutex<Option<Slab<Option<Waker>>>>);

impl Default for Waiters {
    fn default() -> Self {
        Self(Mutex::new(Some(Slab::new())))
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Option<Slab<Option<Waker>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody, to look again; each keeps its place.
    fn wake(&self) {
        let wakers: Vec<Waker> = match self.lock().as_mut() {
            Some(wakers) => wakers.iter_mut().filter_map(|(_, waker)| waker.take()).collect(),
            None => return,
        };
        wake_all(wakers.into_iter());
    }

    /// Wakes everybody for the last time.
    fn close(&self) {
        let wakers = self.lock().take();
        wake_all(wakers.into_iter().flatten().filter_map(|(_, waker)| waker));
    }
}

/// The future of a waiter. Dropping it takes the waiter off the list; nobody depends on it.
pub(crate) struct Join<'a, V> {
    completion: &'a Completion<V>,
    flight: FlightName,
    /// Where this waiter's waker is kept.
    place: Option<usize>,
}

impl<'a, V> Future for Join<'a, V> {
    type Output = &'a Outcome<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let completion = self.completion;
        if let Some(outcome) = completion.outcome.get() {
            // Whoever has set it takes all wakers out.
            self.place = None;
            return Poll::Ready(outcome);
        }
        assert_not_within(self.flight, cx.waker());
        // Cloning runs the executor's code, so not under the lock.
        let mut fresh = self.place.is_none().then(|| cx.waker().clone());
        loop {
            // Declared before the lock is taken, so dropped after it is released.
            let _stale: Option<Waker>;
            let mut waiting = completion.waiters().lock();
            let Some(wakers) = waiting.as_mut() else { break };
            let known = self.place.and_then(|place| wakers[place].as_ref());
            if known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let Some(waker) = fresh.take() else {
                drop(waiting);
                fresh = Some(cx.waker().clone());
                continue;
            };
            match self.place {
                Some(place) => _stale = wakers[place].replace(waker),
                None => self.place = Some(wakers.insert(Some(waker))),
            }
            return Poll::Pending;
        }
        self.place = None;
        Poll::Ready(completion.outcome.get().unwrap_or(&Outcome::Abandoned))
    }
}

impl<V> Drop for Join<'_, V> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waiters = self.completion.waiters();
            let _waker = waiters.lock().as_mut().and_then(|wakers| wakers.remove(place));
        }
    }
}

/// The duty to tell the waiters of an ended flight. Without [`complete`](Self::complete) it was abandoned.
#[must_use]
pub(crate) struct CompletionGuard<V> {
    completion: Option<Arc<Completion<V>>>,
}

/// Nobody waits.
impl<V> Default for CompletionGuard<V> {
    fn default() -> Self {
        Self { completion: None }
    }
}

impl<V> CompletionGuard<V> {
    pub(crate) fn new(completion: Option<Arc<Completion<V>>>) -> Self {
        Self { completion }
    }

    /// Gives the waiters, if there are any, what `outcome` makes.
    #[inline(always)]
    pub(crate) fn complete(self, outcome: impl FnOnce() -> Outcome<V>) {
        match &self.completion {
            Some(completion) => {
                // Empty until now: only the one guard of the flight sets it.
                let _ = completion.outcome.set(outcome());
            }
            // There is nothing to drop, which takes a call to find out.
            None => std::mem::forget(self),
        }
    }
}

impl<V> Drop for CompletionGuard<V> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(completion) = &self.completion {
            completion.close();
        }
    }
}
