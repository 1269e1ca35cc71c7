//! Where a load meets the callers that wait for it: they are woken, and told of its outcome, as it ends.
//!
//! The waiters of a load share a [`Completion`] with its node, made by the first of them, so that a load
//! nobody waits for allocates nothing. It is closed exactly once, by the [`CompletionGuard`], whatever
//! becomes of the leader.

pub(crate) mod attempt;
mod detached;
mod id;
pub(crate) mod load_timer;
mod recursion;
pub(crate) mod trace;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use self::attempt::Running;
use self::detached::Detached;
pub(crate) use self::detached::{PollGuard, Progress};
pub(crate) use self::id::{FlightId, FlightName};
pub(crate) use self::recursion::PollScope;
use self::recursion::assert_not_within;
use crate::appraisal::Appraised;
use crate::clock::Nanos;
use crate::lifetime::Lifetime;
use crate::sync::notify::{Notified, Notify};
use crate::sync::{AtomicBool, OnceLock};

/// Whether callers that miss the same key share a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coalescing {
    On,
    Off,
}

/// An error for all who wait for a load, of the type that its closure gives.
pub(crate) type Failure = Arc<dyn Any + Send + Sync>;

/// The end of a flight, as its waiters get it.
pub(crate) enum Outcome<V> {
    Value(V),
    Failure(Failure),
    /// Nothing: the load failed, panicked or was dropped, and the waiters are on their own.
    Abandoned,
    /// A refresh has failed, with an error if there is one for all, and left this value in place.
    Stale(V, Option<Failure>),
}

/// What a load has brought.
pub(crate) struct Loaded<V> {
    pub(crate) value: V,
    /// A lifetime of its own.
    pub(crate) own: Option<Lifetime>,
}

/// The end of a load that lives in its flight.
pub(crate) enum LoadEnd<V> {
    /// With a value, or a part of what this load has brought.
    Value(Loaded<V>, Running),
    /// The same, whose publication has begun and takes longer than one turn.
    Begun(V, Begun),
    Failure(Failure),
    /// The load of several keys has brought nothing of this one.
    Nothing,
}

/// A publication that has begun.
pub(crate) struct Begun {
    /// The load, which has failed if nothing comes of this.
    pub(crate) running: Running,
    pub(crate) appraised: Appraised,
    /// How many turns it takes at most.
    pub(crate) turns: usize,
}

/// Where a flight and its waiters meet.
pub(crate) struct Completion<V> {
    outcome: OnceLock<Outcome<V>>,
    mode: Mode<V>,
    /// When its load began, if that is measured and the leader notes it here.
    begun: std::sync::OnceLock<Nanos>,
    /// If its load is a part of one of several keys, whether that has ended.
    whole_has_ended: std::sync::OnceLock<Arc<AtomicBool>>,
}

/// How a flight is brought to its end.
enum Mode<V> {
    /// Its leader, for whom these wait.
    Led(Notify),
    /// All who wait for it.
    Detached(Detached<LoadEnd<V>>),
}

impl<V> Default for Completion<V> {
    fn default() -> Self {
        Self::new(Mode::Led(Notify::default()))
    }
}

impl<V> Completion<V> {
    fn new(mode: Mode<V>) -> Self {
        Self {
            outcome: OnceLock::new(),
            mode,
            begun: std::sync::OnceLock::new(),
            whole_has_ended: std::sync::OnceLock::new(),
        }
    }

    /// Notes when the load began.
    pub(crate) fn note_begin(&self, now: Nanos) {
        // Once: a flight has one load.
        let _ = self.begun.set(now);
    }

    /// When the load began, if that was noted.
    pub(crate) fn begun(&self) -> Option<Nanos> {
        self.begun.get().copied()
    }

    fn set(&self, outcome: Outcome<V>) {
        // Empty until now: only the one guard of the flight, or the one poll that ends its load, sets it.
        let _ = self.outcome.set(outcome);
    }

    /// Tells whether there is an outcome.
    pub(crate) fn has_ended(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Gives the waiters their outcome, and wakes them.
    pub(crate) fn complete(&self, outcome: Outcome<V>) {
        self.set(outcome);
        self.close();
    }

    /// Wakes all waiters for the last time. They get nothing, unless there is an outcome.
    #[cold]
    fn close(&self) {
        let _ = self.outcome.set(Outcome::Abandoned);
        self.notify().notify_all();
    }

    /// Wakes the waiters.
    fn notify(&self) -> &Notify {
        match &self.mode {
            Mode::Led(notify) => notify,
            Mode::Detached(detached) => detached.notify(),
        }
    }

    /// Waits for the end of `flight`, whose completion this is, or of what has no name; `poll_load` moves
    /// the load on if it is due and nobody else is at it, and may have the wait broken off.
    ///
    /// # Panics
    ///
    /// If it is polled by the load of that very flight.
    pub(crate) async fn outcome<B>(
        &self,
        flight: Option<FlightName>,
        mut poll_load: impl FnMut(LoadGuard<'_, V>, LoadProgress<V>, &Context<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B, &Outcome<V>> {
        let mut wait = pin!(Join { completion: self, flight, notified: None });
        poll_fn(|cx| {
            // Registers before the look at the load, so that no wake-up comes between.
            let mut polled = wait.as_mut().poll(cx);
            if polled.is_pending() {
                if let Some((guard, load)) = self.take_guard() {
                    if let ControlFlow::Break(broken) = poll_load(guard, load, cx) {
                        return Poll::Ready(ControlFlow::Break(broken));
                    }
                    polled = wait.as_mut().poll(cx);
                }
            }
            polled.map(ControlFlow::Continue)
        })
        .await
    }
}

/// A load that any thread may poll.
pub(crate) type Load<V> = detached::Load<LoadEnd<V>>;

/// How far it has come.
pub(crate) type LoadProgress<V> = Progress<LoadEnd<V>>;

/// The right to move it on.
pub(crate) type LoadGuard<'a, V> = PollGuard<'a, LoadEnd<V>>;

/// Those of a flight whose load lives in it.
impl<V> Completion<V> {
    /// The completion of a detached flight, which counts the leader.
    pub(crate) fn detached() -> Self {
        Self::new(Mode::Detached(Detached::new()))
    }

    fn as_detached(&self) -> Option<&Detached<LoadEnd<V>>> {
        match &self.mode {
            Mode::Led(_) => None,
            Mode::Detached(detached) => Some(detached),
        }
    }

    /// Counts a caller that joins.
    pub(crate) fn count_in(&self) {
        self.as_detached().map(Detached::count_in);
    }

    /// Says that its load is a part of one of several keys, which sets `has_ended` when it ends.
    pub(crate) fn make_part(&self, has_ended: &Arc<AtomicBool>) {
        // Once: a flight has one load.
        let _ = self.whole_has_ended.set(Arc::clone(has_ended));
    }

    /// Tells whether what it waits for was there before this call. Somebody has brought it about who has not
    /// published it, and who comes now is not to have it: it may have lain there for long.
    pub(crate) fn comes_late(&self) -> bool {
        self.whole_has_ended.get().is_some_and(|has_ended| has_ended.load(Ordering::SeqCst))
    }

    /// Counts a caller that leaves; tells whether it was the last one to move the load on.
    pub(crate) fn count_out(&self) -> bool {
        self.as_detached().is_some_and(Detached::count_out)
    }

    /// Counts a caller that leaves unless it is the last one to move the load on; tells whether it has.
    pub(crate) fn count_out_unless_last(&self) -> bool {
        self.as_detached().is_none_or(Detached::count_out_unless_last)
    }

    /// Tells whether a caller that goes now may be the last one to move the load on.
    pub(crate) fn needs_callers(&self) -> bool {
        self.as_detached().is_some() && !self.has_ended()
    }

    /// Brings the load, for all callers to poll.
    pub(crate) fn bring(&self, load: Load<V>) {
        self.as_detached().expect("a load is brought to a flight that was made for it").bring(load);
    }

    /// Takes the load to move it on, if it is due and nobody else is at it.
    fn take_guard(&self) -> Option<(LoadGuard<'_, V>, LoadProgress<V>)> {
        self.as_detached()?.take_guard()
    }
}

/// The future of a waiter.
struct Join<'a, V> {
    completion: &'a Completion<V>,
    flight: Option<FlightName>,
    notified: Option<Notified<'a>>,
}

impl<'a, V> Future for Join<'a, V> {
    type Output = &'a Outcome<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { completion, flight, .. } = *self;
        loop {
            // Before the look at the outcome, so that none comes unheard of between the two.
            let notified = self.notified.get_or_insert_with(|| completion.notify().listen());
            if let Some(outcome) = completion.outcome.get() {
                return Poll::Ready(outcome);
            }
            if let Some(flight) = flight {
                assert_not_within(flight, cx.waker());
            }
            match Pin::new(notified).poll(cx) {
                Poll::Ready(()) => self.notified = None,
                Poll::Pending => return Poll::Pending,
            }
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
            Some(completion) => completion.set(outcome()),
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
