//! Wakes tasks: those that wait for a flight, for a slow listener or, as the janitor, for an entry to expire.
//!
//! Wakers are the executors' code: they are cloned, woken and dropped while nothing is locked, and one that
//! panics keeps no other from being woken. A set that woke under its own lock would deadlock on a waker whose
//! last clone drops a task that waits too.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;

use slab::Slab;

use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard};

/// Notifies all who listen.
#[derive(Default)]
pub(crate) struct Notify {
    /// How often it has notified; changed under the lock of `wakers`.
    times: AtomicU64,
    /// How many listen. Spares those who notify the lock as long as there is nobody.
    listeners: AtomicUsize,
    wakers: Mutex<Slab<Waker>>,
}

impl Notify {
    fn wakers(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether anybody listens, as far as the caller's last look at a lock or a sequentially
    /// consistent store puts the two in an order.
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::SeqCst) > 0
    }

    /// Wakes all who listen. Calls user code: never under a lock, nor where a panic would leave
    /// something half done.
    pub(crate) fn notify_all(&self) {
        let wakers = {
            let mut wakers = self.wakers();
            self.times.fetch_add(1, Ordering::SeqCst);
            std::mem::take(&mut *wakers)
        };
        wake_all(wakers.into_iter().map(|(_, waker)| waker));
    }

    /// Begins to listen: notifications from now on are heard, also before the first poll.
    pub(crate) fn listen(&self) -> Notified<'_> {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        Notified { notify: self, since: self.times.load(Ordering::SeqCst), place: None }
    }
}

/// Ready once there was a notification since this was made. Dropping it takes the waker off the list;
/// nobody depends on it.
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    since: u64,
    /// Where its waker is kept, until the notification.
    place: Option<usize>,
}

impl Notified<'_> {
    fn is_notified(&self) -> bool {
        self.notify.times.load(Ordering::SeqCst) != self.since
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut fresh = self.place.is_none().then(|| cx.waker().clone());
        loop {
            // Declared before the lock is taken, so dropped after it is released.
            let _stale: Waker;
            let mut wakers = self.notify.wakers();
            if self.is_notified() {
                // All wakers were taken out.
                self.place = None;
                return Poll::Ready(());
            }
            if self.place.is_some_and(|place| wakers[place].will_wake(cx.waker())) {
                return Poll::Pending;
            }
            let Some(waker) = fresh.take() else {
                drop(wakers);
                fresh = Some(cx.waker().clone());
                continue;
            };
            match self.place {
                Some(place) => _stale = std::mem::replace(&mut wakers[place], waker),
                None => self.place = Some(wakers.insert(waker)),
            }
            return Poll::Pending;
        }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        self.notify.listeners.fetch_sub(1, Ordering::SeqCst);
        // The times only go up: after a notification there is nothing to take out.
        if let Some(place) = self.place.filter(|_| !self.is_notified()) {
            let _waker = {
                let mut wakers = self.notify.wakers();
                (!self.is_notified()).then(|| wakers.remove(place))
            };
        }
    }
}

/// Wakes everybody, even if a waker panics; then the first panic goes on.
fn wake_all(wakers: impl Iterator<Item = Waker>) {
    let mut first_panic = None;
    for waker in wakers {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            first_panic.get_or_insert(payload);
        }
    }
    if let Some(payload) = first_panic {
        // A second panic while one unwinds would abort the process.
        if !thread::panicking() {
            panic::resume_unwind(payload);
        }
    }
}
