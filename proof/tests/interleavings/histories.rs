//! Histories of three threads with four operations each, checked for linearizability.

use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use async_lru::AsyncLru;
use futures_lite::future::yield_now;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::scope;

use crate::explore::explore_in_either_order;
use crate::linearizability::{
    Call, History, OPERATIONS, Operation, Span, THREADS, Value, is_linearizable, show,
};
use crate::witness::Hasher;

type Cache = AsyncLru<u64, Value, Hasher>;

/// What the threads of a history share.
struct Track {
    cache: Cache,
    time: AtomicU64,
}

impl Track {
    fn tick(&self) -> u64 {
        self.time.fetch_add(1, Ordering::Relaxed)
    }

    /// What `thread` does to keys below `keys`.
    fn play(&self, thread: usize, keys: u64) -> [Operation; OPERATIONS] {
        array::from_fn(|number| {
            let value = Value::of(0, thread, number);
            // The scheduler's own chance, so that a schedule tells what was done as well.
            let call = match thread_rng().gen_range(0..10) {
                0..2 => Call::Get,
                2..4 => Call::Insert(value),
                4..6 => Call::Remove,
                _ => Call::GetOrInsert(value),
            };
            self.perform(thread_rng().gen_range(0..keys), call)
        })
    }

    fn perform(&self, key: u64, call: Call) -> Operation {
        let load = Cell::new(None);
        let from = self.tick();
        let returned = match call {
            Call::Get => self.cache.get(&key),
            Call::Insert(value) => self.cache.insert_blocking(key, value),
            Call::Remove => self.cache.remove_blocking(&key),
            Call::GetOrInsert(value) => {
                Some(block_on(self.cache.get_or_insert_with(key, async || {
                    let from = self.tick();
                    yield_now().await;
                    load.set(Some(Span { from, to: self.tick() }));
                    value
                })))
            }
        };
        let time = Span { from, to: self.tick() };
        Operation { key, call, returned, time, load: load.get() }
    }
}

/// Plays one history with `keys` keys and checks it.
fn check(cache: Cache, keys: u64) {
    let track = Track { cache, time: AtomicU64::new(0) };
    let history: History = scope(|scope| {
        let track = &track;
        let players: [_; THREADS] =
            array::from_fn(|thread| scope.spawn(move || track.play(thread, keys)));
        players.map(|player| player.join().unwrap())
    });
    for key in 0..keys {
        assert!(is_linearizable(&history, key), "key {key} of:\n{}", show(&history));
    }
    assert_eq!(track.cache.validate(), 0);
}

#[test]
fn every_history_of_one_key_is_linearizable() {
    explore_in_either_order(|eviction| {
        let builder = AsyncLru::builder().maxsize(4).hasher(Hasher::new());
        check(builder.eviction(eviction).build(), 1);
    });
}

#[test]
fn every_history_of_two_keys_in_a_cache_of_two_shards_is_linearizable_for_each() {
    explore_in_either_order(|eviction| {
        let builder = AsyncLru::builder().maxsize(4).shards(2).hasher(Hasher::new());
        check(builder.eviction(eviction).measure_with(|_, _| 1).build(), 2);
    });
}
