//! Every public call of the cache, and what it answers.

mod common;

use async_lru::{AsyncLru, Builder, Clock, Equivalent, ManualClock, SystemClock};
use common::{Calls, Gate, hand, join_all, now, poll};
use futures_lite::future::{or, yield_now, zip};
use std::collections::HashMap;
use std::future::{Future, ready};
use std::hash::{Hash, Hasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The error of the loads here.
#[derive(Clone, Debug, PartialEq)]
struct Down;

/// The ways to read or load.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    With,
    WithRef,
    TryWith,
    TryWithRef,
    Shared,
    SharedRef,
}

impl Form {
    const ALL: [Self; 6] =
        [Self::With, Self::WithRef, Self::TryWith, Self::TryWithRef, Self::Shared, Self::SharedRef];

    const FALLIBLE: [Self; 4] = [Self::TryWith, Self::TryWithRef, Self::Shared, Self::SharedRef];

    fn shares_errors(self) -> bool {
        matches!(self, Self::Shared | Self::SharedRef)
    }

    /// Calls the cache in this form. An infallible form must not be given a load that fails.
    async fn call<F, Fut>(
        self,
        cache: &AsyncLru<String, u32>,
        key: &str,
        load: F,
    ) -> Result<u32, Down>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<u32, Down>>,
    {
        let owned = || key.to_owned();
        let own = |error: Arc<Down>| Down::clone(&error);
        match self {
            Self::With => {
                let load = async || load().await.expect("an infallible form");
                Ok(cache.get_or_insert_with(owned(), load).await)
            }
            Self::WithRef => {
                let load = async || load().await.expect("an infallible form");
                Ok(cache.get_or_insert_with_ref(key, load).await)
            }
            Self::TryWith => cache.get_or_insert_own(owned(), load).await,
            Self::TryWithRef => cache.get_or_insert_own_ref(key, load).await,
            Self::Shared => cache.try_get_or_insert_with(owned(), load).await.map_err(own),
            Self::SharedRef => cache.try_get_or_insert_with_ref(key, load).await.map_err(own),
        }
    }
}

/// The ways to write to a key, or to all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Write {
    Insert,
    Remove,
    Invalidate,
    Clear,
}

/// What a write answers.
#[derive(Debug, PartialEq)]
enum Answer {
    Value(Option<u32>),
    Found(bool),
    Nothing,
}

impl Write {
    const ALL: [Self; 4] = [Self::Insert, Self::Remove, Self::Invalidate, Self::Clear];

    async fn apply(self, cache: &AsyncLru<String, u32>, key: &str, value: u32) -> Answer {
        match self {
            Self::Insert => Answer::Value(cache.insert(key.to_owned(), value).await),
            Self::Remove => Answer::Value(cache.remove(key).await),
            Self::Invalidate => Answer::Found(cache.invalidate(key).await),
            Self::Clear => {
                cache.clear().await;
                Answer::Nothing
            }
        }
    }

    fn apply_blocking(self, cache: &AsyncLru<String, u32>, key: &str, value: u32) -> Answer {
        match self {
            Self::Insert => Answer::Value(cache.insert_blocking(key.to_owned(), value)),
            Self::Remove => Answer::Value(cache.remove_blocking(key)),
            Self::Invalidate => Answer::Found(cache.invalidate_blocking(key)),
            Self::Clear => {
                cache.clear_blocking();
                Answer::Nothing
            }
        }
    }
}

/// Answers at the second poll, so that others can join the load.
async fn later<T>(answer: T) -> T {
    yield_now().await;
    answer
}

fn cache() -> AsyncLru<String, u32> {
    AsyncLru::new(10)
}

/// Keys of one letter each, in this order.
async fn filled(letters: &str) -> AsyncLru<String, u32> {
    let cache = cache();
    for (value, letter) in (0..).zip(letters.chars()) {
        cache.insert(letter.to_string(), value).await;
    }
    cache
}

// Reading.

executors! {
    async fn get_returns_the_value_counts_and_is_a_use() {
        let cache = filled("abc").await;
        assert_eq!(cache.get("a"), Some(0));
        assert_eq!(cache.get("x"), None);
        assert_eq!(cache.keys(), ["b", "c", "a"]);
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.coalesced, stats.loads), (1, 1, 0, 0));
    }

    async fn peek_and_contains_key_neither_count_nor_are_uses() {
        let cache = filled("abc").await;
        assert_eq!(cache.peek("a"), Some(0));
        assert_eq!(cache.peek("x"), None);
        assert!(cache.contains_key("b"));
        assert!(!cache.contains_key("x"));
        assert_eq!(cache.keys(), ["a", "b", "c"]);
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.coalesced), (0, 0, 0));
    }

    async fn an_expired_value_is_found_by_no_read() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder().ttl(SECOND).clock(clock.clone()).build();
        cache.insert(1, 10).await;
        clock.advance(SECOND);
        assert_eq!((cache.get(&1), cache.peek(&1), cache.contains_key(&1)), (None, None, false));
        assert!(cache.keys().is_empty());
        assert_eq!(cache.len(), 1, "it counts until a write or a purge frees it");
        assert_eq!(cache.get_or_insert_with(1, async || 11).await, 11);
    }

    async fn keys_come_least_recently_used_first() {
        let cache = filled("abcd").await;
        cache.get("b");
        cache.insert("a".to_owned(), 9).await;
        cache.get_or_insert_with_ref("c", async || unreachable!()).await;
        cache.get_or_insert_with_ref("e", async || 5).await;
        assert_eq!(cache.keys(), ["d", "b", "a", "c", "e"]);
    }

    async fn len_and_is_empty_follow_every_write() {
        let cache = cache();
        assert!(cache.is_empty());
        for (expected, key) in [(1, "a"), (2, "b"), (2, "b"), (3, "c")] {
            cache.insert(key.to_owned(), 0).await;
            assert_eq!(cache.len(), expected);
        }
        cache.remove("a").await;
        assert_eq!(cache.len(), 2);
        cache.invalidate("b").await;
        assert_eq!(cache.len(), 1);
        assert!(!cache.is_empty());
        cache.clear().await;
        assert_eq!((cache.len(), cache.is_empty()), (0, true));
    }
}

// Reading or loading.

executors! {
    async fn every_form_loads_on_a_miss_and_finds_on_a_hit() {
        for form in Form::ALL {
            let cache = cache();
            assert_eq!(form.call(&cache, "a", async || Ok(1)).await, Ok(1), "{form:?}");
            let unused = async || unreachable!("a hit runs no loader");
            assert_eq!(form.call(&cache, "a", unused).await, Ok(1), "{form:?}");
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses, stats.loads), (1, 1, 1), "{form:?}");
        }
    }

    async fn a_hit_of_every_form_is_a_use() {
        for form in Form::ALL {
            let cache = filled("abc").await;
            form.call(&cache, "a", async || unreachable!()).await.unwrap();
            assert_eq!(cache.keys(), ["b", "c", "a"], "{form:?}");
        }
    }

    async fn an_error_is_returned_and_not_cached() {
        for form in Form::FALLIBLE {
            let cache = cache();
            for _ in 0..2 {
                assert_eq!(form.call(&cache, "a", async || Err(Down)).await, Err(Down), "{form:?}");
                assert!(cache.is_empty());
            }
            assert_eq!(form.call(&cache, "a", async || Ok(1)).await, Ok(1), "{form:?}");
            assert_eq!((cache.stats().loads, cache.stats().load_failures), (3, 2), "{form:?}");
        }
    }

    async fn a_value_reaches_waiters_of_every_form() {
        for leader in Form::ALL {
            for waiter in Form::ALL {
                let cache = cache();
                let leading = leader.call(&cache, "a", || later(Ok(1)));
                let waiting = waiter.call(&cache, "a", async || unreachable!("it waits"));
                assert_eq!(zip(leading, waiting).await, (Ok(1), Ok(1)), "{leader:?}, {waiter:?}");
                let stats = cache.stats();
                assert_eq!((stats.misses, stats.coalesced, stats.loads), (1, 1, 1));
            }
        }
    }

    /// A `try` waiter, an infallible one, and any waiter of a `try` leader run their own closures.
    async fn an_error_reaches_a_waiter_only_if_both_share_errors() {
        for leader in Form::FALLIBLE {
            for waiter in Form::ALL {
                let cache = cache();
                let leading = leader.call(&cache, "a", || later(Err(Down)));
                let waiting = waiter.call(&cache, "a", || later(Ok(2)));
                let (led, waited) = zip(leading, waiting).await;
                assert_eq!(led, Err(Down));
                let shared = leader.shares_errors() && waiter.shares_errors();
                let (answer, cached, loads) =
                    if shared { (Err(Down), None, 1) } else { (Ok(2), Some(2), 2) };
                assert_eq!(waited, answer, "{leader:?}, {waiter:?}");
                assert_eq!(cache.peek("a"), cached, "{leader:?}, {waiter:?}");
                let stats = cache.stats();
                assert_eq!((stats.misses, stats.coalesced, stats.loads), (1, 1, loads));
            }
        }
    }

    async fn a_waiter_whose_error_has_another_type_runs_its_own_closure() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let leading = cache.try_get_or_insert_with(1, || later(Err(Down)));
        let waiting = cache.try_get_or_insert_with(1, async || Err("its own".to_owned()));
        assert_eq!(zip(leading, waiting).await, (Err(Arc::new(Down)), Err(Arc::new("its own".to_owned()))));
        assert_eq!(cache.stats().loads, 2);
    }

    async fn all_waiters_of_a_failed_load_share_one_error() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let started = AtomicUsize::new(0);
        let calls = (0..50).map(|_| {
            cache.try_get_or_insert_with(1, || {
                started.fetch_add(1, Ordering::Relaxed);
                later(Err(Down))
            })
        });
        let errors: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap_err).collect();
        assert_eq!(started.into_inner(), 1);
        assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
        assert_eq!(errors.len(), 50);
    }

    /// Against (A20) of `docs/reliability.md`.
    async fn waiters_of_failed_loads_try_one_after_another_until_one_succeeds() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let started = AtomicUsize::new(0);
        let calls = (0..6).map(|_| {
            cache.get_or_insert_own(1, || {
                let turn = started.fetch_add(1, Ordering::Relaxed) as u32;
                later(if turn < 3 { Err(turn) } else { Ok(turn) })
            })
        });
        let answers = join_all(calls).await;
        assert_eq!(started.into_inner(), 4);
        let mut errors: Vec<_> = answers.iter().filter_map(|answer| answer.err()).collect();
        errors.sort_unstable();
        assert_eq!(errors, [0, 1, 2]);
        assert_eq!(answers.iter().filter(|answer| **answer == Ok(3)).count(), 3);
    }

    async fn a_call_does_nothing_before_it_is_polled() {
        let cache = cache();
        for form in Form::ALL {
            drop(form.call(&cache, "a", async || unreachable!("nobody polls it")));
        }
        drop(cache.insert("a".to_owned(), 1));
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.loads, stats.load_failures), (0, 0, 0));
        assert!(cache.is_empty());
    }
}

// Loaders of all kinds.

async fn load_nothing() -> u32 {
    1
}

fn load_now() -> std::future::Ready<u32> {
    ready(2)
}

fn load_opaque() -> impl Future<Output = u32> {
    later(3)
}

fn load_boxed() -> Pin<Box<dyn Future<Output = u32> + Send>> {
    Box::pin(later(4))
}

executors! {
    async fn functions_that_return_futures_are_loaders() {
        let cache = AsyncLru::<u32, u32>::new(10);
        assert_eq!(cache.get_or_insert_with(1, load_nothing).await, 1);
        assert_eq!(cache.get_or_insert_with(2, load_now).await, 2);
        assert_eq!(cache.get_or_insert_with(3, load_opaque).await, 3);
        assert_eq!(cache.get_or_insert_with(4, load_boxed).await, 4);
        let pointer: fn() -> Pin<Box<dyn Future<Output = u32> + Send>> = load_boxed;
        assert_eq!(cache.get_or_insert_with(5, pointer).await, 4);
        assert_eq!(cache.get_or_insert_with(6, || ready(6)).await, 6);
    }

    async fn an_async_closure_may_borrow_what_is_around_the_call() {
        let cache = AsyncLru::<u32, String>::new(10);
        let source = "text".to_owned();
        let mut calls = 0;
        let loaded = cache.get_or_insert_with(1, async || {
            calls += 1;
            later(()).await;
            source.clone()
        });
        assert_eq!(loaded.await, "text");
        assert_eq!((calls, source.as_str()), (1, "text"));
    }

    async fn a_closure_may_give_away_what_it_owns() {
        let cache = AsyncLru::<u32, String>::new(10);
        let owned = "text".to_owned();
        let loaded = cache.get_or_insert_with(1, || async move { later(owned).await });
        assert_eq!(loaded.await, "text");
        let owned = vec!["more".to_owned()];
        let loaded = cache.get_or_insert_with(2, async move || owned.into_iter().next().unwrap());
        assert_eq!(loaded.await, "more");
    }

    async fn a_loader_may_use_the_cache_for_other_keys() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let sum = cache.get_or_insert_with(3, async || {
            let one = cache.get_or_insert_with(1, || later(1)).await;
            let two = cache.get_or_insert_with(2, || later(2)).await;
            cache.insert(9, 9).await;
            one + two
        });
        assert_eq!(sum.await, 3);
        assert_eq!(cache.keys(), [1, 2, 9, 3]);
    }

    async fn the_loser_of_a_race_leaves_the_key_free() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let never = Gate::new();
        let slow = cache.get_or_insert_with(1, async || {
            never.wait().await;
            1
        });
        assert_eq!(or(slow, later(0)).await, 0);
        assert_eq!(cache.get_or_insert_with(1, async || 2).await, 2);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
    }

    async fn a_waiter_takes_over_from_the_loser_of_a_race() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let never = Gate::new();
        let stuck = async || {
            never.wait().await;
            1
        };
        let race = async { or(cache.get_or_insert_with(1, stuck), later(0)).await };
        let waiting = cache.get_or_insert_with(1, async || 2);
        assert_eq!(zip(race, waiting).await, (0, 2));
        assert_eq!((cache.stats().coalesced, cache.stats().loads), (1, 2));
    }
}

// Writing.

executors! {
    async fn insert_returns_the_live_value_that_it_replaces() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder().ttl(SECOND).clock(clock.clone()).build();
        assert_eq!(cache.insert(1, 10).await, None);
        assert_eq!(cache.insert(1, 11).await, Some(10));
        clock.advance(SECOND);
        assert_eq!(cache.insert(1, 12).await, None, "an expired value is not handed out");
        assert_eq!(cache.get(&1), Some(12));
    }

    async fn remove_returns_the_live_value() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder().ttl(SECOND).clock(clock.clone()).build();
        assert_eq!(cache.remove(&1).await, None);
        cache.insert(1, 10).await;
        assert_eq!(cache.remove(&1).await, Some(10));
        assert_eq!(cache.remove(&1).await, None);
        cache.insert(1, 11).await;
        clock.advance(SECOND);
        assert_eq!(cache.remove(&1).await, None, "an expired value is not handed out");
        assert!(cache.is_empty());
    }

    async fn invalidate_tells_whether_there_was_a_live_entry() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u32, u32>::builder().ttl(SECOND).clock(clock.clone()).build();
        assert!(!cache.invalidate(&1).await);
        cache.insert(1, 10).await;
        assert!(cache.invalidate(&1).await);
        assert!(!cache.invalidate(&1).await);
        cache.insert(1, 11).await;
        clock.advance(SECOND);
        assert!(!cache.invalidate(&1).await, "what has expired is gone");
    }

    async fn every_write_has_a_blocking_twin_with_the_same_answers() {
        let (cache, twin) = (cache(), cache());
        let script = "iaibicrarariavavxrdicidxsiaraic";
        let mut writes = 0;
        let mut steps = script.chars();
        while let (Some(write), Some(key)) = (steps.next(), steps.next()) {
            let write = match write {
                'i' => Write::Insert,
                'r' => Write::Remove,
                'v' => Write::Invalidate,
                _ => Write::Clear,
            };
            let key = key.to_string();
            let answer = write.apply(&cache, &key, writes).await;
            assert_eq!(write.apply_blocking(&twin, &key, writes), answer, "{write:?} of {key}");
            assert_eq!(twin.keys(), cache.keys());
            writes += 1;
        }
        assert_eq!(writes, 15);
    }

    async fn purge_expired_frees_what_has_expired_and_its_twin_does_the_same() {
        for blocking in [false, true] {
            let clock = ManualClock::new();
            let cache = AsyncLru::<u32, u32>::builder().ttl(SECOND).clock(clock.clone()).build();
            let purge = async || {
                if blocking { cache.purge_expired_blocking() } else { cache.purge_expired().await }
            };
            for key in 0..300 {
                cache.insert(key, key).await;
            }
            clock.advance(SECOND / 2);
            for key in 300..350 {
                cache.insert(key, key).await;
            }
            assert_eq!(purge().await, 0);
            clock.advance(SECOND / 2);
            assert_eq!(purge().await, 300);
            assert_eq!(cache.len(), 50);
            clock.advance(SECOND / 2);
            assert_eq!(purge().await, 50);
            assert!(cache.is_empty());
        }
    }

    async fn purge_expired_does_nothing_without_a_time_to_live() {
        let cache = filled("abc").await;
        assert_eq!(cache.purge_expired().await, 0);
        assert_eq!(cache.purge_expired_blocking(), 0);
        assert_eq!(cache.len(), 3);
    }

    async fn every_write_wins_over_a_load_in_flight() {
        for write in Write::ALL {
            for blocking in [false, true] {
                for leader in Form::ALL {
                    let cache = cache();
                    let gate = Gate::new();
                    let mut leading = hand(leader.call(&cache, "a", async || {
                        gate.wait().await;
                        Ok(1)
                    }));
                    let mut joined = hand(leader.call(&cache, "a", async || unreachable!()));
                    assert!(poll(&mut leading).is_pending());
                    assert!(poll(&mut joined).is_pending());
                    let answer = if blocking {
                        write.apply_blocking(&cache, "a", 7)
                    } else {
                        now(write.apply(&cache, "a", 7))
                    };
                    let expected = match write {
                        Write::Insert | Write::Remove => Answer::Value(None),
                        Write::Invalidate => Answer::Found(true),
                        Write::Clear => Answer::Nothing,
                    };
                    assert_eq!(answer, expected, "{write:?} during {leader:?}");
                    gate.open();
                    assert_eq!(poll(&mut leading), Poll::Ready(Ok(1)));
                    assert_eq!(poll(&mut joined), Poll::Ready(Ok(1)));
                    let kept = (write == Write::Insert).then_some(7);
                    assert_eq!(cache.peek("a"), kept, "{write:?} during {leader:?}");
                }
            }
        }
    }

    async fn a_caller_after_the_write_starts_afresh() {
        for write in [Write::Remove, Write::Invalidate, Write::Clear] {
            let cache = cache();
            let gate = Gate::new();
            let mut stale = hand(Form::With.call(&cache, "a", async || {
                gate.wait().await;
                Ok(1)
            }));
            assert!(poll(&mut stale).is_pending());
            write.apply_blocking(&cache, "a", 0);
            assert_eq!(now(Form::With.call(&cache, "a", async || Ok(2))), Ok(2), "{write:?}");
            gate.open();
            assert_eq!(poll(&mut stale), Poll::Ready(Ok(1)));
            assert_eq!(cache.peek("a"), Some(2), "{write:?}");
        }
    }

    async fn invalidate_finds_a_load_once() {
        let cache = AsyncLru::<u32, u32>::new(10);
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            1
        }));
        assert!(poll(&mut load).is_pending());
        assert!(now(cache.invalidate(&1)));
        assert!(!now(cache.invalidate(&1)), "its value is kept out already");
        assert!(!now(cache.invalidate(&2)));
    }
}

// The cache as a whole.

executors! {
    /// Against (A21) of `docs/reliability.md`.
    async fn clear_removes_everything_and_resets_the_statistics() {
        for blocking in [false, true] {
            let cache = AsyncLru::<u32, u32>::builder().maxsize(2_000).shards(8).build();
            for key in 0..3_000 {
                cache.get_or_insert_with(key, async || key).await;
            }
            if blocking { cache.clear_blocking() } else { cache.clear().await }
            assert!(cache.is_empty() && cache.keys().is_empty());
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.misses, stats.loads, stats.evictions), (0, 0, 0, 0));
            assert_eq!(cache.get_or_insert_with(1, async || 5).await, 5);
        }
    }

    async fn a_clone_is_another_handle_to_the_same_cache() {
        let cache = cache();
        let other = cache.clone();
        cache.insert("a".to_owned(), 1).await;
        assert_eq!(other.get("a"), Some(1));
        other.remove("a").await;
        assert!(cache.is_empty());
        assert_eq!(cache.stats(), other.stats());
        drop(cache);
        assert_eq!(Form::With.call(&other, "b", async || Ok(2)).await, Ok(2));
    }

    async fn reset_stats_forgets_counts_and_keeps_entries() {
        let cache = filled("ab").await;
        cache.get("a");
        cache.get("x");
        cache.reset_stats();
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.current_size), (0, 0, 2));
        cache.get("a");
        assert_eq!(cache.stats().hits, 1);
    }

    async fn info_tells_the_configuration() {
        let info = AsyncLru::<u32, u32>::builder().maxsize(7).ttl(SECOND).shards(3).build().info();
        assert_eq!((info.maxsize, info.ttl, info.shards), (7, Some(SECOND), 4));
        let info = AsyncLru::<u32, u32>::new(7).info();
        assert_eq!((info.maxsize, info.ttl, info.shards), (7, None, 1));
        let info = AsyncLru::<u32, u32>::builder().build().info();
        assert_eq!((info.maxsize, info.ttl), (1024, None));
    }

    async fn stats_tell_the_configuration_too() {
        let cache = AsyncLru::<u32, u32>::builder().maxsize(7).ttl(SECOND).build();
        let stats = cache.stats();
        assert_eq!((stats.current_size, stats.max_size, stats.ttl), (0, Some(7), Some(SECOND)));
    }

    async fn settings_survive_those_that_follow() {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let cache = AsyncLru::<u32, u32>::builder()
            .clock(shared)
            .measure_with(|_, _| 1_000_000)
            .without_single_flight()
            .shards(2)
            .ttl(SECOND)
            .maxsize(3)
            .hasher(RandomState::new())
            .build();
        let info = cache.info();
        assert_eq!((info.maxsize, info.ttl, info.shards), (3, Some(SECOND), 2));
        let (first, second) = (|| later(1), || later(2));
        let both = zip(cache.get_or_insert_with(1, first), cache.get_or_insert_with(1, second));
        assert_eq!(both.await, (1, 2));
        assert!(cache.stats().total_size_in_memory_bytes >= 1_000_000);
        clock.advance(SECOND);
        assert_eq!(cache.get(&1), None);
    }

    async fn the_system_clock_keeps_a_young_entry() {
        let hour = 3_600 * SECOND;
        let cache = AsyncLru::<u32, u32>::builder().ttl(hour).clock(SystemClock::new()).build();
        cache.insert(1, 10).await;
        assert_eq!(cache.get(&1), Some(10));
    }
}

// Debug.

executors! {
    async fn debug_shows_the_configuration_but_no_keys_and_no_values() {
        let cache = AsyncLru::<String, String>::builder().maxsize(77).ttl(SECOND).build();
        cache.insert("secret key".to_owned(), "secret value".to_owned()).await;
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with("secret load".to_owned(), async || {
            gate.wait().await;
            String::new()
        }));
        assert!(poll(&mut load).is_pending());
        for shown in [format!("{cache:?}"), format!("{cache:#?}")] {
            assert!(!shown.contains("secret"), "{shown}");
            assert!(shown.contains("77") && shown.contains("1s"), "{shown}");
        }
    }

    async fn a_builder_shows_its_settings() {
        let builder: Builder<u32, u32> = AsyncLru::builder().maxsize(77).ttl(SECOND);
        let shown = format!("{builder:?}");
        assert!(shown.contains("77") && shown.contains("1s"), "{shown}");
    }
}

/// A key whose first comparison stops until the test lets it go on.
struct Slow(Option<Arc<Stop>>);

struct Stop {
    is_due: AtomicBool,
    /// Met on the way into the comparison, and again on the way out.
    barrier: Barrier,
}

impl Hash for Slow {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Slow {
    fn eq(&self, other: &Self) -> bool {
        if let Some(stop) = self.0.as_ref().or(other.0.as_ref()) {
            if stop.is_due.swap(false, Ordering::Relaxed) {
                stop.barrier.wait();
                stop.barrier.wait();
            }
        }
        true
    }
}

impl Eq for Slow {}

#[test]
fn debug_len_and_info_wait_for_no_writer() {
    let cache = AsyncLru::<Slow, u32>::new(10);
    cache.insert_blocking(Slow(None), 1);
    let stop = Arc::new(Stop { is_due: AtomicBool::new(true), barrier: Barrier::new(2) });
    thread::scope(|scope| {
        // Stops in the middle of its write, with the shard's locks held.
        scope.spawn(|| cache.insert_blocking(Slow(Some(stop.clone())), 2));
        stop.barrier.wait();
        let shown = format!("{cache:?}");
        let (len, info) = (cache.len(), cache.info());
        stop.barrier.wait();
        assert!(shown.contains("len: 1"), "{shown}");
        assert_eq!((len, info.maxsize), (1, 10));
    });
    assert_eq!(cache.peek(&Slow(None)), Some(2));
}

// Borrowed keys.

/// A `(String, u32)` in parts.
#[derive(Hash)]
struct Pair<'a>(&'a str, u32);

impl Equivalent<(String, u32)> for Pair<'_> {
    fn equivalent(&self, key: &(String, u32)) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

/// A key that counts how often it is cloned.
#[derive(Debug, Default)]
struct Counted {
    name: &'static str,
    clones: Arc<AtomicUsize>,
}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Counted {}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { name: self.name, clones: Arc::clone(&self.clones) }
    }
}

executors! {
    async fn a_str_finds_a_string_in_every_call() {
        let cache = cache();
        cache.insert("a".to_owned(), 1).await;
        let key = "a";
        assert_eq!((cache.get(key), cache.peek(key)), (Some(1), Some(1)));
        assert!(cache.contains_key(key));
        for form in [Form::WithRef, Form::TryWithRef, Form::SharedRef] {
            assert_eq!(form.call(&cache, key, async || unreachable!()).await, Ok(1));
        }
        assert!(cache.invalidate(key).await);
        assert_eq!(cache.remove(key).await, None);
        assert_eq!(cache.remove_blocking(key), None);
        assert!(!cache.invalidate_blocking(key));
    }

    async fn slices_and_paths_find_what_owns_them() {
        let bytes = AsyncLru::<Vec<u8>, u32>::new(10);
        assert_eq!(bytes.get_or_insert_with_ref(&[1, 2][..], async || 3).await, 3);
        assert_eq!(bytes.get(&[1, 2][..]), Some(3));
        let shared = AsyncLru::<Arc<str>, u32>::new(10);
        shared.insert("a".into(), 1).await;
        assert_eq!(shared.get("a"), Some(1));
        let boxed = AsyncLru::<Box<str>, u32>::new(10);
        boxed.insert("a".into(), 1).await;
        assert_eq!(boxed.get("a"), Some(1));
    }

    async fn a_pair_of_ones_own_finds_a_tuple() {
        let cache = AsyncLru::<(String, u32), u32>::new(10);
        cache.insert(("a".to_owned(), 1), 10).await;
        assert_eq!(cache.get(&Pair("a", 1)), Some(10));
        assert_eq!(cache.get(&Pair("a", 2)), None);
        assert_eq!(cache.get(&Pair("b", 1)), None);
        assert_eq!(cache.peek(&Pair("a", 1)), Some(10));
        assert!(cache.contains_key(&Pair("a", 1)));
        assert!(!cache.invalidate(&Pair("b", 1)).await);
        assert_eq!(cache.remove(&Pair("a", 1)).await, Some(10));
        assert!(cache.is_empty());
    }

    async fn a_pair_of_ones_own_keeps_out_a_load_in_flight() {
        let cache = AsyncLru::<(String, u32), u32>::new(10);
        let gate = Gate::new();
        let mut load = hand(cache.get_or_insert_with(("a".to_owned(), 1), async || {
            gate.wait().await;
            1
        }));
        assert!(poll(&mut load).is_pending());
        assert!(now(cache.invalidate(&Pair("a", 1))));
        gate.open();
        assert_eq!(poll(&mut load), Poll::Ready(1));
        assert!(cache.is_empty());
    }

    async fn the_ref_forms_clone_the_key_only_on_a_miss() {
        let cache = AsyncLru::<Counted, u32>::new(10);
        let count = |key: &Counted| key.clones.load(Ordering::Relaxed);
        let [plain, tried, shared] =
            ["plain", "tried", "shared"].map(|name| Counted { name, ..Counted::default() });
        for _ in 0..3 {
            let load = async || Ok::<_, Down>(1);
            cache.get_or_insert_with_ref(&plain, async || 1).await;
            cache.get_or_insert_own_ref(&tried, load).await.unwrap();
            cache.try_get_or_insert_with_ref(&shared, load).await.unwrap();
            assert_eq!([&plain, &tried, &shared].map(count), [1, 1, 1]);
        }
    }

    async fn no_call_with_an_owned_key_clones_it() {
        let cache = AsyncLru::<Counted, u32>::builder().measure_with(|_, _| 1).maxsize(1).build();
        let clones = Arc::new(AtomicUsize::new(0));
        let key = |name| Counted { name, clones: Arc::clone(&clones) };
        for name in ["a", "b", "a"] {
            let load = async || Ok::<_, Down>(1);
            cache.get_or_insert_with(key(name), async || 1).await;
            cache.get_or_insert_own(key(name), load).await.unwrap();
            cache.try_get_or_insert_with(key(name), load).await.unwrap();
            cache.insert(key(name), 2).await;
        }
        assert_eq!(clones.load(Ordering::Relaxed), 0);
        assert_eq!(cache.keys().len(), 1);
        assert_eq!(clones.load(Ordering::Relaxed), 1, "a list of keys is made of clones");
    }

    async fn values_may_be_anything_that_clones() {
        let cache = AsyncLru::<u32, Option<HashMap<u32, Arc<str>>>>::new(10);
        assert_eq!(cache.get_or_insert_with(1, async || None).await, None);
        assert_eq!(cache.get(&1), Some(None), "an answer of nothing is an answer");
        let map = HashMap::from([(1, "a".into())]);
        assert_eq!(cache.insert(1, Some(map.clone())).await, Some(None));
        assert_eq!(cache.get(&1), Some(Some(map)));
    }
}
