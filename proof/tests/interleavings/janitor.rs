//! The janitor against those who give it work, and against the end of the cache.

use std::sync::Arc;
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::thread::{JoinHandle, spawn};

use crate::explore::explore;
use crate::timer::Timer;
use crate::witness::{Cache, Mint, builder};

/// A cache that is kept clean on a thread of its own.
struct Kept {
    cache: Cache,
    timer: Timer,
    mint: Arc<Mint>,
    janitors: Vec<JoinHandle<()>>,
}

impl Kept {
    fn new() -> Self {
        let (timer, mint) = (Timer::default(), Arc::default());
        let cache = builder(4).shards(2).clock(timer.clone()).build();
        let mut kept = Self { cache, timer, mint, janitors: Vec::new() };
        kept.start_janitor();
        kept
    }

    fn start_janitor(&mut self) {
        let sleeping = self.timer.clone();
        let work = self.cache.janitor(move |time| sleeping.sleep(time));
        self.janitors.push(spawn(move || block_on(work)));
    }

    /// Puts an entry on another thread, by a handle of that one's own.
    fn put(&self, key: u32, lifetime: u64) -> JoinHandle<()> {
        let (cache, mint) = (self.cache.clone(), Arc::clone(&self.mint));
        spawn(move || {
            let lifetime = Duration::from_secs(lifetime);
            cache.insert_with_ttl_blocking(key, mint.value(key), lifetime);
        })
    }

    /// Drops the last handle, after which nothing is left once all janitors have ended.
    fn close(self) {
        let Self { cache, mint, janitors, .. } = self;
        assert_eq!(cache.validate(), 0);
        drop(cache);
        janitors.into_iter().for_each(|janitor| janitor.join().unwrap());
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
        let Kept { cache, timer, mint, janitors } = kept;
        let moving = spawn(move || timer.set(7));
        drop(cache);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        janitors.into_iter().for_each(|janitor| janitor.join().unwrap());
        moving.join().unwrap();
        assert_eq!(mint.alive(), 0, "a value has outlived its cache");
    });
}

#[test]
fn two_janitors_free_each_entry_once_and_both_end() {
    explore(|| {
        let mut kept = Kept::new();
        kept.start_janitor();
        let writer = kept.put(1, 10);
        block_on(kept.timer.is_slept_by(10));
        writer.join().unwrap();
        kept.timer.set(20);
        kept.put(2, 100).join().unwrap();
        block_on(kept.timer.is_slept_by(120));
        assert_eq!((kept.cache.len(), kept.cache.stats().expirations), (1, 1));
        kept.close();
    });
}
