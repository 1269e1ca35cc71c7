//! What wakes a task that waits for something to happen in a cache.

use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use slab::Slab;

use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard};

/// Rung when something has happened, heard by all who listen.
#[derive(Default)]
pub(crate) struct Bell {
    /// How often it was rung; changed under the lock of `wakers`.
    rung: AtomicU64,
    /// How many hear it. Spares those who ring the lock as long as there is nobody.
    hearers: AtomicUsize,
    wakers: Mutex<Slab<Waker>>,
}

impl Bell {
    fn wakers(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody listens.
    pub(crate) fn has_hearers(&self) -> bool {
        self.hearers.load(Ordering::SeqCst) > 0
    }

    /// Wakes all who listen. Calls user code: never under a lock, nor where a panic would leave
    /// something half done.
    pub(crate) fn ring(&self) {
        if !self.has_hearers() {
            return;
        }
        let wakers = {
            let mut wakers = self.wakers();
            self.rung.fetch_add(1, Ordering::SeqCst);
            std::mem::take(&mut *wakers)
        };
        wake_all(wakers.into_iter().map(|(_, waker)| waker));
    }

    /// Begins to listen: what is rung from now on is heard.
    pub(crate) fn ear(self: &Arc<Self>) -> Ear {
        self.hearers.fetch_add(1, Ordering::SeqCst);
        Ear { since: self.rung.load(Ordering::SeqCst), bell: Arc::clone(self), place: None }
    }
}

/// Ready once the bell was rung since this was made.
pub(crate) struct Ear {
    bell: Arc<Bell>,
    since: u64,
    /// Where its waker is kept, until the bell is rung.
    place: Option<usize>,
}

impl Ear {
    fn has_heard(&self) -> bool {
        self.bell.rung.load(Ordering::SeqCst) != self.since
    }
}

impl Future for Ear {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned before the lock is taken, and the old one dropped after it is released.
        let waker = cx.waker().clone();
        let _old;
        {
            let bell = Arc::clone(&self.bell);
            let mut wakers = bell.wakers();
            if self.has_heard() {
                // Whoever has rung takes all wakers out.
                self.place = None;
                return Poll::Ready(());
            }
            match self.place {
                Some(place) => _old = Some(std::mem::replace(&mut wakers[place], waker)),
                None => {
                    self.place = Some(wakers.insert(waker));
                    _old = None;
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.bell.hearers.fetch_sub(1, Ordering::SeqCst);
        let _waker = {
            let mut wakers = self.bell.wakers();
            let place = self.place.filter(|_| !self.has_heard());
            place.map(|place| wakers.remove(place))
        };
    }
}

/// Wakes everybody, even if a waker panics; then the first panic goes on.
pub(crate) fn wake_all(wakers: impl Iterator<Item = Waker>) {
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
