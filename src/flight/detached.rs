//! A load that lives in its flight, and that whoever waits for the flight polls.
//!
//! The load's own waker is a [`LoadWaker`], which wakes all callers: which of them will be polled again is
//! not known, so each must be able to go on. It also notes that the load is due, so that of those who
//! come only the first polls it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::notify::Notify;
use crate::sync::{AtomicUsize, Mutex, MutexGuard};

/// A load that any thread may poll, with the outcome `T`.
pub(super) type Load<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How far a load has come.
pub(crate) enum Progress<T> {
    Load(Load<T>),
    /// It has ended, and what comes of it takes another turn.
    Ended(T),
}

impl<T> Progress<T> {
    /// Moves the load on.
    pub(crate) fn poll(self, cx: &mut Context<'_>) -> Result<T, Self> {
        match self {
            Self::Load(mut load) => match load.as_mut().poll(cx) {
                Poll::Ready(end) => {
                    drop(load);
                    Ok(end)
                }
                Poll::Pending => Err(Self::Load(load)),
            },
            Self::Ended(end) => Ok(end),
        }
    }
}

/// The load of a detached flight, and those who move it on.
pub(super) struct Detached<T> {
    waker: Arc<LoadWaker>,
    /// `None` before the leader has called its closure, while somebody polls the load, and after it.
    load: Mutex<Option<Progress<T>>>,
    /// Callers that have not left, the leader among them. Changed only under the shard's lock.
    callers: AtomicUsize,
}

impl<T> Detached<T> {
    /// Makes what a flight has before its load, and counts the leader.
    pub(super) fn new() -> Self {
        Self { waker: Arc::default(), load: Mutex::new(None), callers: AtomicUsize::new(1) }
    }

    /// Wakes all callers.
    pub(super) fn notify(&self) -> &Notify {
        &self.waker.callers
    }

    fn load(&self) -> MutexGuard<'_, Option<Progress<T>>> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_in(&self) {
        self.callers.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells whether the caller that leaves was the last.
    pub(super) fn count_out(&self) -> bool {
        self.callers.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Counts a caller that leaves unless it is the last; tells whether it has.
    pub(super) fn count_out_unless_last(&self) -> bool {
        let is_last = self.callers.load(Ordering::Relaxed) == 1;
        if !is_last {
            self.count_out();
        }
        !is_last
    }

    pub(super) fn bring(&self, load: Load<T>) {
        *self.load() = Some(Progress::Load(load));
        // Not only for the leader, which goes on anyway: a panic may keep it from that.
        self.waker.make_due();
    }

    /// Takes the load to move it on, if it is due and nobody else is at it.
    pub(super) fn take_guard(&self) -> Option<(PollGuard<'_, T>, Progress<T>)> {
        if !self.waker.begin_poll() {
            return None;
        }
        let guard = PollGuard { detached: self };
        let load = self.load().take()?;
        Some((guard, load))
    }
}

/// The right to move a load on, which one caller at a time has.
pub(crate) struct PollGuard<'a, T> {
    detached: &'a Detached<T>,
}

impl<T> PollGuard<'_, T> {
    /// The waker to poll the load with.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.detached.waker))
    }

    /// Gives the load back, to be moved on when it wakes.
    pub(crate) fn give_back(self, load: Progress<T>) {
        *self.detached.load() = Some(load);
    }

    /// Has whoever comes next go on with the end of the load.
    pub(crate) fn hand_on(self, end: T) {
        *self.detached.load() = Some(Progress::Ended(end));
        self.detached.waker.make_due();
    }
}

impl<T> Drop for PollGuard<'_, T> {
    fn drop(&mut self) {
        self.detached.waker.end_poll();
    }
}

/// Whether a load is to be polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PollState {
    /// Not before it wakes.
    #[default]
    Idle,
    /// It has woken, and all callers with it.
    Due,
    /// Somebody is polling it.
    Polled,
    /// Somebody is polling it, and it has woken meanwhile.
    PolledAndDue,
}

/// The waker of a load; has no type of the user's, as wakers must not.
#[derive(Default)]
struct LoadWaker {
    callers: Notify,
    state: Mutex<PollState>,
}

impl LoadWaker {
    fn state(&self) -> MutexGuard<'_, PollState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the load polled: by one of all the callers, which listen before they look at the state.
    ///
    /// While somebody polls it the others could do nothing; they are woken after that.
    fn make_due(&self) {
        {
            let mut state = self.state();
            match *state {
                PollState::Polled | PollState::PolledAndDue => {
                    *state = PollState::PolledAndDue;
                    return;
                }
                PollState::Idle | PollState::Due => *state = PollState::Due,
            }
        }
        self.callers.notify_all();
    }

    /// Begins a poll, if the load is due.
    fn begin_poll(&self) -> bool {
        let mut state = self.state();
        let is_due = *state == PollState::Due;
        if is_due {
            *state = PollState::Polled;
        }
        is_due
    }

    fn end_poll(&self) {
        {
            let mut state = self.state();
            if *state == PollState::Polled {
                *state = PollState::Idle;
                return;
            }
            *state = PollState::Due;
        }
        self.callers.notify_all();
    }
}

impl Wake for LoadWaker {
    fn wake(self: Arc<Self>) {
        self.make_due();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.make_due();
    }
}
