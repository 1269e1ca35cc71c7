//! The janitor against those who give it work, and against the end of the cache.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_lru::Clock;
use shuttle::future::block_on;
use shuttle::thread::spawn;

use crate::explore::explore;
use crate::witness::{Cache, Gate, Mint, builder};

/// A clock that is set by hand, and wakes those who sleep by it.
#[derive(Clone, Default)]
struct Timer(Arc<Inner>);

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
    fn set(&self, now: u64) {
        self.0.now.store(now, Ordering::Relaxed);
        let mut over = Vec::new();
        self.0.sleeps.lock().unwrap().retain(|(until, sleep)| {
            let is_over = *until <= now;
            over.extend(sleep.upgrade().filter(|_| is_over));
            !is_over
        });
        over.iter().for_each(|sleep| sleep.open());
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
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
    async fn is_slept_by(&self, second: u64) {
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

/// A cache that is kept clean on a thread of its own.
struct Kept {
    cache: Cache,
    timer: Timer,
    mint: Arc<Mint>,
    janitor: shuttle::thread::JoinHandle<()>,
}

impl Kept {
    fn new() -> Self {
        let (timer, mint) = (Timer::default(), Arc::default());
        let cache = builder(4).shards(2).clock(timer.clone()).build();
        let sleeping = timer.clone();
        let work = cache.janitor(move |time| sleeping.sleep(time));
        Self { cache, timer, mint, janitor: spawn(move || block_on(work)) }
    }

    /// Puts an entry on another thread, by a handle of that one's own.
    fn put(&self, key: u32, lifetime: u64) -> shuttle::thread::JoinHandle<()> {
        let (cache, mint) = (self.cache.clone(), Arc::clone(&self.mint));
        spawn(move || {
            let lifetime = Duration::from_secs(lifetime);
            cache.insert_with_ttl_blocking(key, mint.value(key), lifetime);
        })
    }

    /// Drops the last handle, after which nothing is left and the janitor ends.
    fn close(self) {
        let Self { cache, mint, janitor, .. } = self;
        assert_eq!(cache.validate(), 0);
        drop(cache);
        janitor.join().unwrap();
        assert_eq!(mint.alive(), 0, "a value has outlived its cache");
    }
}

#[test]
fn an_entry_that_expires_sooner_than_all_before_it_is_freed_in_time() {
    explore(|| {
        let kept = Kept::new();
        let writers = [kept.put(1, 100), kept.put(2, 10)];
        // Whichever of the two comes first, and wherever the janitor is.
        block_on(kept.timer.is_slept_by(10));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        kept.timer.set(10);
        block_on(kept.timer.is_slept_by(100));
        assert_eq!((kept.cache.len(), kept.mint.alive()), (1, 1));
        assert_eq!(kept.cache.stats().expirations, 1);
        kept.close();
    });
}

#[test]
fn an_entry_that_comes_while_others_are_freed_is_freed_in_its_time() {
    explore(|| {
        let kept = Kept::new();
        kept.put(1, 10).join().unwrap();
        block_on(kept.timer.is_slept_by(10));
        kept.timer.set(10);
        let late = kept.put(2, 5);
        let sooner = kept.put(6, 3);
        block_on(kept.timer.is_slept_by(13));
        late.join().unwrap();
        sooner.join().unwrap();
        kept.timer.set(15);
        // It sleeps again once there is more to wait for.
        kept.put(3, 100).join().unwrap();
        block_on(kept.timer.is_slept_by(115));
        assert_eq!((kept.cache.len(), kept.mint.alive()), (1, 1));
        assert_eq!(kept.cache.stats().expirations, 3);
        kept.close();
    });
}

#[test]
fn the_janitor_ends_wherever_it_is_when_the_last_handle_goes() {
    explore(|| {
        let kept = Kept::new();
        let writers = [kept.put(1, 10), kept.put(2, 5)];
        let Kept { cache, timer, mint, janitor } = kept;
        let moving = spawn(move || timer.set(7));
        drop(cache);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        janitor.join().unwrap();
        moving.join().unwrap();
        assert_eq!(mint.alive(), 0, "a value has outlived its cache");
    });
}

#[test]
fn two_janitors_free_each_entry_once_and_both_end() {
    explore(|| {
        let kept = Kept::new();
        let sleeping = kept.timer.clone();
        let work = kept.cache.janitor(move |time| sleeping.sleep(time));
        let second = spawn(move || block_on(work));
        let writer = kept.put(1, 10);
        block_on(kept.timer.is_slept_by(10));
        writer.join().unwrap();
        kept.timer.set(20);
        kept.put(2, 100).join().unwrap();
        block_on(kept.timer.is_slept_by(120));
        assert_eq!((kept.cache.len(), kept.cache.stats().expirations), (1, 1));
        kept.close();
        second.join().unwrap();
    });
}
