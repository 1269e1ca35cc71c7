//! A load that lives in its flight, and that whoever waits for the flight polls.
//!
//! The load's own waker is a [`Bell`], which wakes all callers: which of them will be polled again is
//! not known, so each must be able to go on. It also notes that the load is due, so that of those who
//! come only the first polls it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use super::{Completion, Mode, Outcome, Waiters};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, OnceLock};

/// A load that any thread may poll.
pub(crate) type Load<V> = Pin<Box<dyn Future<Output = Outcome<V>> + Send>>;

/// What a completion has of a detached flight.
pub(super) struct Detached<V> {
    bell: Arc<Bell>,
    /// `None` before the leader has called its closure, while somebody polls the load, and after it.
    load: Mutex<Option<Load<V>>>,
    /// Callers aboard, the leader among them. Changed only under the shard's lock.
    callers: AtomicUsize,
}

impl<V> Detached<V> {
    pub(super) fn waiters(&self) -> &Waiters {
        &self.bell.waiters
    }

    fn load(&self) -> MutexGuard<'_, Option<Load<V>>> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Completion<V> {
    /// The completion of a detached flight, with the leader aboard.
    pub(crate) fn detached() -> Self {
        let bell = Arc::default();
        let (load, callers) = (Mutex::new(None), AtomicUsize::new(1));
        let mode = Mode::Detached(Detached { bell, load, callers });
        Self { outcome: OnceLock::new(), mode }
    }

    /// Counts a caller that joins.
    pub(crate) fn count_in(&self) {
        if let Mode::Detached(detached) = &self.mode {
            detached.callers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a caller that leaves; tells whether it was the last one to move the load on.
    pub(crate) fn count_out(&self) -> bool {
        match &self.mode {
            Mode::Led(_) => false,
            Mode::Detached(detached) => detached.callers.fetch_sub(1, Ordering::Relaxed) == 1,
        }
    }

    /// Whether a caller that goes now may be the last one to move the load on.
    pub(crate) fn needs_callers(&self) -> bool {
        matches!(self.mode, Mode::Detached(_)) && self.outcome.get().is_none()
    }

    /// Brings the load aboard, for all callers to poll.
    pub(crate) fn bring(&self, load: Load<V>) {
        let Mode::Detached(detached) = &self.mode else {
            unreachable!("a load is brought to a flight that was made for it")
        };
        *detached.load() = Some(load);
        // Not only for the leader, which goes on anyway: a panic may keep it from that.
        detached.bell.ring();
    }

    /// Takes the load to move it on, if it is due and nobody else is at it.
    pub(crate) fn take_guard(&self) -> Option<(PollGuard<'_, V>, Load<V>)> {
        let Mode::Detached(detached) = &self.mode else { return None };
        if !detached.bell.begin() {
            return None;
        }
        let guard = PollGuard { detached };
        let load = detached.load().take()?;
        Some((guard, load))
    }
}

/// The right to move a load on, which one caller at a time has.
pub(crate) struct PollGuard<'a, V> {
    detached: &'a Detached<V>,
}

impl<V> PollGuard<'_, V> {
    /// What to poll the load with.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.detached.bell))
    }

    /// Gives the load back, to be moved on when it wakes.
    pub(crate) fn give_back(self, load: Load<V>) {
        *self.detached.load() = Some(load);
    }
}

impl<V> Drop for PollGuard<'_, V> {
    fn drop(&mut self) {
        self.detached.bell.finish();
    }
}

/// Whether a load wants to be polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PollState {
    /// Not before it wakes.
    #[default]
    Nothing,
    /// It has woken, and all callers with it.
    Poll,
    /// Somebody is polling it.
    Polled,
    /// Somebody is polling it, and it has woken meanwhile.
    PolledAndPoll,
}

/// The waker of a load; has no type of the user's, as wakers must not.
#[derive(Default)]
pub(super) struct Bell {
    waiters: Waiters,
    state: Mutex<PollState>,
}

impl Bell {
    fn state(&self) -> MutexGuard<'_, PollState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the load polled: by one of all the callers, which register before they look at `want`.
    ///
    /// While somebody polls it the others could do nothing; they are woken after that.
    fn ring(&self) {
        {
            let mut state = self.state();
            match *state {
                PollState::Polled | PollState::PolledAndPoll => {
                    *state = PollState::PolledAndPoll;
                    return;
                }
                PollState::Nothing | PollState::Poll => *state = PollState::Poll,
            }
        }
        self.waiters.wake();
    }

    /// Begins a poll, if the load wants one.
    fn begin(&self) -> bool {
        let mut state = self.state();
        let is_due = *state == PollState::Poll;
        if is_due {
            *state = PollState::Polled;
        }
        is_due
    }

    /// Ends a poll.
    fn finish(&self) {
        {
            let mut state = self.state();
            if *state == PollState::Polled {
                *state = PollState::Nothing;
                return;
            }
            *state = PollState::Poll;
        }
        self.waiters.wake();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
