//! What a listener hears of, how often, and in which order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use async_lru::{Builder, RemovalCause};
use shuttle::future::block_on;
use shuttle::thread::{self, scope};

use crate::explore::explore;
use crate::witness::{Cache, Hasher, Mint, Moment, Value, builder, number};

/// What was heard: values by their numbers, and causes.
#[derive(Clone, Default)]
struct Log {
    heard: Arc<Mutex<Vec<(u32, RemovalCause)>>>,
    /// Whether the listener is running, which it does once at a time for each shard.
    is_running: Arc<AtomicBool>,
}

impl Log {
    /// A cache of one shard whose listener does `then`, with a handle if there is one.
    fn builder(
        &self,
        maxsize: usize,
        handle: &Arc<Mutex<Option<Cache>>>,
        then: fn(&Cache, u32),
    ) -> Builder<u32, Value, Hasher> {
        let (log, handle) = (self.clone(), Arc::clone(handle));
        builder(maxsize).shards(1).on_remove(move |_, value: Value, cause| {
            assert!(!log.is_running.swap(true, Ordering::Relaxed), "called within a call");
            log.heard.lock().unwrap().push((value.number, cause));
            let handle = handle.lock().unwrap().clone();
            if let Some(cache) = handle {
                then(&cache, value.number);
            }
            log.is_running.store(false, Ordering::Relaxed);
        })
    }

    fn cache(&self, maxsize: usize) -> Cache {
        self.builder(maxsize, &Arc::default(), |_, _| {}).build()
    }

    fn numbers(&self) -> Vec<u32> {
        self.heard.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    /// The place of a value in the order of what was heard, of which it is only once.
    fn place(&self, number: u32) -> usize {
        let heard = self.numbers();
        assert_eq!(
            heard.iter().filter(|heard| **heard == number).count(),
            1,
            "{number}: {heard:?}"
        );
        heard.iter().position(|heard| *heard == number).unwrap()
    }
}

#[test]
fn what_two_threads_remove_is_heard_of_once_and_in_the_order_in_which_it_left() {
    explore(|| {
        let (log, mint, half) = (Log::default(), Mint::default(), Moment::default());
        let cache = log.cache(4);
        mint.fill(&cache, 1..=4);
        scope(|scope| {
            scope.spawn(|| {
                assert_eq!(number(cache.remove_blocking(&1)), Some(1));
                half.reach();
                assert!(cache.invalidate_blocking(&2));
            });
            scope.spawn(|| {
                let late = half.is_reached();
                assert_eq!(number(cache.remove_blocking(&3)), Some(3));
                if late {
                    // Its call has left it to the one that comes before this, or reported it itself.
                    assert!(log.place(1) == 0);
                }
                assert!(cache.invalidate_blocking(&4));
            });
        });
        assert!(log.place(1) < log.place(2));
        assert!(log.place(3) < log.place(4));
        assert_eq!(log.numbers().len(), 4);
        mint.close(cache);
    });
}

#[test]
fn the_values_of_a_key_are_heard_of_in_the_order_in_which_they_replaced_each_other() {
    explore(|| {
        let (log, mint, followers) = (Log::default(), Mint::default(), Mutex::new(HashMap::new()));
        let cache = log.cache(2);
        mint.fill(&cache, [1]);
        scope(|scope| {
            for thread in [10, 20] {
                let (cache, mint, followers) = (&cache, &mint, &followers);
                scope.spawn(move || {
                    for new in [thread, thread + 1] {
                        let old = number(cache.insert_blocking(1, mint.value(new)));
                        followers.lock().unwrap().extend(old.map(|old| (old, new)));
                    }
                });
            }
            scope.spawn(|| drop(cache.remove_blocking(&1)));
        });
        let mut order = log.numbers();
        order.extend(number(cache.peek(&1)));
        for one in [1, 10, 11, 20, 21] {
            assert_eq!(order.iter().filter(|other| **other == one).count(), 1, "{one}: {order:?}");
        }
        for pair in order.windows(2) {
            let follower = followers.lock().unwrap().get(&pair[0]).copied();
            assert!(follower.is_none_or(|follower| follower == pair[1]), "{order:?}");
        }
        let heard = log.heard.lock().unwrap().clone();
        for (number, cause) in heard {
            let has_follower = followers.lock().unwrap().contains_key(&number);
            assert_eq!(has_follower, cause == RemovalCause::Replaced);
        }
        mint.close(cache);
    });
}

#[test]
fn a_listener_that_removes_further_entries_hears_of_them_once_and_later() {
    explore(|| {
        let (log, mint, handle) = (Log::default(), Mint::default(), Arc::default());
        let builder = log.builder(4, &handle, |cache, number| {
            let other = number + 10;
            assert_eq!(cache.remove_blocking(&other).is_some(), number < 10);
        });
        let cache = builder.build();
        mint.fill(&cache, [1, 2, 11, 12]);
        *handle.lock().unwrap() = Some(cache.clone());
        scope(|scope| {
            for key in [1, 2] {
                let cache = &cache;
                scope.spawn(move || assert!(cache.invalidate_blocking(&key)));
            }
        });
        handle.lock().unwrap().take();
        assert!(log.place(1) < log.place(11));
        assert!(log.place(2) < log.place(12));
        assert_eq!(log.numbers().len(), 4);
        mint.close(cache);
    });
}

#[test]
fn what_is_cleared_or_evicted_while_others_write_is_heard_of_once() {
    explore(|| {
        let (log, mint) = (Log::default(), Mint::default());
        let cache = log.cache(2);
        mint.fill(&cache, [1, 2]);
        scope(|scope| {
            scope.spawn(|| cache.clear_blocking());
            scope.spawn(|| mint.fill(&cache, [3, 4]));
            scope.spawn(|| drop(cache.remove_blocking(&2)));
        });
        let mut seen = log.numbers();
        seen.extend([1, 2, 3, 4].into_iter().filter_map(|key| number(cache.peek(&key))));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4]);
        mint.close(cache);
    });
}

/// With a queue that is long from the second entry on.
#[test]
fn writers_that_wait_for_the_listener_all_go_on_and_are_heard_of_in_their_order() {
    explore(|| {
        let (log, mint) = (Log::default(), Mint::default());
        let cache = log.builder(1, &Arc::default(), |_, _| thread::yield_now()).build();
        mint.fill(&cache, [0]);
        scope(|scope| {
            for keys in [[1, 2], [3, 4]] {
                let (cache, mint) = (&cache, &mint);
                scope.spawn(move || {
                    for key in keys {
                        drop(cache.insert_blocking(key, mint.value(key)));
                    }
                });
            }
            scope.spawn(|| {
                block_on(cache.get_or_insert_with(5, async || mint.value(5)));
                drop(block_on(cache.remove(&5)));
            });
            // A call that is polled once and dropped leaves what it owes to others.
            let mut insert = Box::pin(cache.insert(6, mint.value(6)));
            let _ = insert.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        });
        let mut seen = log.numbers();
        assert!(number(cache.peek(&2)).is_some() || log.place(1) < log.place(2));
        seen.extend((0..7).filter_map(|key| number(cache.peek(&key))));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        mint.close(cache);
    });
}
