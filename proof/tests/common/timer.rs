//! A clock to sleep by. Like the witness, no point at which another thread may go on but where it wakes.

#![allow(dead_code, reason = "each test uses a part")]

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_lru::Clock;

use crate::witness::Gate;

/// A clock that is set by hand, and wakes those who sleep by it.
#[derive(Clone, Default)]
pub struct Timer(Arc<Inner>);

#[derive(Default)]
struct Inner {
    now: AtomicU64,
    /// Until when somebody sleeps, unless that sleep is over or dropped.
    sleeps: Mutex<Vec<(u64, Weak<Gate>)>>,
    /// Who waits for somebody to fall asleep.
    watching: Mutex<Vec<Waker>>,
}

impl Timer {
    fn now(&self) -> u64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// Moves the clock on to this second.
    pub fn set(&self, now: u64) {
        self.0.now.store(now, Ordering::Relaxed);
        let mut over = Vec::new();
        self.0.sleeps.lock().unwrap().retain(|(until, sleep)| {
            let is_over = *until <= now;
            over.extend(sleep.upgrade().filter(|_| is_over));
            !is_over
        });
        over.iter().for_each(|sleep| sleep.open());
    }

    /// Sleeps for `time`, of which only whole seconds count.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        let sleep = Arc::new(Gate::default());
        if time.is_zero() {
            sleep.open();
        } else {
            let until = self.now() + time.as_secs();
            self.0.sleeps.lock().unwrap().push((until, Arc::downgrade(&sleep)));
        }
        let watching = std::mem::take(&mut *self.0.watching.lock().unwrap());
        watching.into_iter().for_each(Waker::wake);
        async move { sleep.pass().await }
    }

    /// Waits until somebody sleeps, for as long as until this second at most.
    pub async fn is_slept_by(&self, second: u64) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            self.0.watching.lock().unwrap().push(waker);
            let sleeps = self.0.sleeps.lock().unwrap();
            let is_meant =
                |(until, sleep): &(u64, Weak<Gate>)| *until <= second && sleep.strong_count() > 0;
            if sleeps.iter().any(is_meant) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Clock for Timer {
    fn now(&self) -> Duration {
        Duration::from_secs(Self::now(self))
    }
}
