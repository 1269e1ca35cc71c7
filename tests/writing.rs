//! Guards of keys whose source is written.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru::{AsyncLru, Clock, Lifetime, ManualClock, RemovalCause, Update};
use common::{Gate, Hand, hand, now, poll};
use futures_lite::future::{pending, yield_now};

type Cache = AsyncLru<u32, u32>;

executors! {
    async fn a_guard_invalidates_keeps_loads_out_and_invalidates_once_more() {
        let cache = Cache::new(10);
        cache.insert(1, 10).await;
        cache.insert(2, 20).await;
        let writing = cache.writing(&1);
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
        assert_eq!(cache.get_or_insert_with(1, async || 11).await, 11);
        assert_eq!(cache.get(&1), None, "it may be of before the write");
        cache.insert(1, 12).await;
        assert_eq!(cache.get(&1), Some(12));
        drop(writing);
        assert_eq!(cache.get(&1), None);
        assert_eq!(cache.get_or_insert_with(1, async || 13).await, 13);
        assert_eq!((cache.get(&1), cache.validate()), (Some(13), 0));
    }

    async fn a_value_that_ends_a_guard_is_there_at_once() {
        let cache = AsyncLru::<String, u32>::new(10);
        cache.insert("a".to_owned(), 1).await;
        cache.writing("a").insert(2).await;
        assert_eq!(cache.get("a"), Some(2));
        cache.writing("a").insert_as("a".to_owned(), 3).await;
        assert_eq!((cache.get("a"), cache.validate()), (Some(3), 0));
    }

    async fn after_another_write_nobody_knows_whose_value_is_the_newer_one() {
        let cache = Cache::new(10);
        let write = async |kind: u32| match kind {
            0 => drop(cache.insert(1, 10).await),
            1 => drop(cache.remove(&1).await),
            2 => drop(cache.invalidate(&1).await),
            3 => cache.invalidate_all().await,
            4 => cache.clear().await,
            5 => drop(cache.limit_ttl(Duration::from_secs(1)).await),
            _ => drop(cache.writing(&1)),
        };
        for kind in 0..7 {
            let writing = cache.writing(&1);
            write(kind).await;
            writing.insert(11).await;
            assert_eq!(cache.get(&1), None, "{kind}");
        }
        let (first, second) = (cache.writing(&1), cache.writing(&1));
        second.insert(11).await;
        assert_eq!(cache.get(&1), None);
        first.insert(12).await;
        assert_eq!(cache.get(&1), None);
        cache.writing(&1).insert(13).await;
        assert_eq!((cache.get(&1), cache.validate()), (Some(13), 0), "all of them have ended");
    }

    async fn an_update_during_a_guard_is_not_kept() {
        let cache = Cache::new(10);
        let writing = cache.writing(&1);
        let put = async |old: Option<u32>| Update::Put(old.unwrap_or(0) + 1);
        assert_eq!(cache.update_with(1, put).await, Some(1));
        assert_eq!(cache.get(&1), None);
        cache.insert(1, 5).await;
        assert_eq!(cache.update_with(1, async |_| Update::Remove).await, None);
        assert_eq!(cache.get(&1), Some(5));
        drop(writing);
        assert_eq!(cache.update_with(1, put).await, Some(1));
        assert_eq!((cache.get(&1), cache.validate()), (Some(1), 0));
    }

    async fn a_guard_works_in_every_kind_of_cache() {
        let builder = Cache::builder;
        for cache in [builder().maxsize(0).build(), builder().without_single_flight().build()] {
            let writing = cache.writing(&1);
            assert_eq!(cache.get_or_insert_with(1, async || 10).await, 10);
            assert_eq!(cache.get(&1), None);
            writing.insert(11).await;
            let is_kept = cache.info().maxsize > 0;
            assert_eq!((cache.get(&1), cache.validate()), (is_kept.then_some(11), 0));
        }
    }
}

#[test]
fn a_load_from_before_a_guard_and_one_from_during_it_come_too_late() {
    let cache = Cache::new(10);
    let (before, during) = (Gate::new(), Gate::new());
    let wait = |gate: &Gate, value| {
        let gate = gate.clone();
        async move {
            gate.wait().await;
            value
        }
    };
    let mut first = hand(cache.get_or_insert_with(1, || wait(&before, 10)));
    assert!(poll(&mut first).is_pending());
    let writing = cache.writing(&1);
    let mut second = hand(cache.get_or_insert_with(1, || wait(&during, 11)));
    assert!(poll(&mut second).is_pending());
    let mut joined = hand(cache.get_or_insert_with(1, async || unreachable!("one load at a time")));
    assert!(poll(&mut joined).is_pending());
    before.open();
    assert_eq!(now(first), 10);
    drop(writing);
    let mut third = hand(cache.get_or_insert_with(1, pending));
    assert!(poll(&mut third).is_pending(), "it does not join a load that began before the end");
    during.open();
    assert_eq!((now(second), now(joined)), (11, 11));
    assert_eq!(cache.get(&1), None);
    drop(third);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_task_that_is_cancelled_within_a_write_leaves_no_stale_value() {
    let cache = Cache::new(10);
    let source = Rc::new(RefCell::new(1));
    let load = || {
        let source = Rc::clone(&source);
        async move { *source.borrow() }
    };
    assert_eq!(now(cache.get_or_insert_with(1, load)), 1);
    let mut write = hand(async {
        let writing = cache.writing(&1);
        *source.borrow_mut() = 2;
        yield_now().await;
        pending::<()>().await;
        writing.insert(2).await;
    });
    assert!(poll(&mut write).is_pending());
    drop(write);
    assert_eq!((cache.get(&1), now(cache.get_or_insert_with(1, load))), (None, 2));

    let unpolled = cache.writing(&1).insert(3);
    drop(unpolled);
    assert_eq!((cache.get(&1), cache.validate()), (None, 0));
}

#[test]
fn a_value_that_ends_a_guard_takes_the_room_of_another_shard() {
    let cache = Cache::builder().maxsize(2).shards(16).build();
    for key in 0..100 {
        now(cache.writing(&key).insert(key));
        assert_eq!((cache.get(&key), cache.len()), (Some(key), (key as usize + 1).min(2)));
    }
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_restored_entry_of_a_guarded_key_stays_out() {
    let cache = Cache::new(10);
    let writing = cache.writing(&1);
    assert_eq!(cache.restore_blocking([(1, 10), (2, 20)]), 1);
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(20)));
    drop(writing);
    assert_eq!(cache.restore_blocking([(1, 10)]), 1);
}

#[test]
fn a_listener_hears_of_what_a_guard_removes_and_of_what_it_keeps_out() {
    use RemovalCause::{Rejected, Removed, Replaced};
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let note = move |key, value, cause| log.lock().unwrap().push((key, value, cause));
    let cache = Cache::builder().on_remove(note).build();
    let take = || std::mem::take(&mut *heard.lock().unwrap());
    cache.insert_blocking(1, 10);
    let writing = cache.writing(&1);
    assert_eq!(take(), [(1, 10, Removed)]);
    now(cache.get_or_insert_with(1, async || 11));
    assert_eq!(take(), [(1, 11, Rejected)]);
    cache.insert_blocking(1, 12);
    now(writing.insert(13));
    assert_eq!(take(), [(1, 12, Replaced), (1, 13, Rejected)]);
    assert_eq!(cache.validate(), 0);
}

const SECOND: Duration = Duration::from_secs(1);

/// The ways to end a guard of the key 1 with the value 11 that has a lifetime of its own.
const ENDS: [(&str, End); 3] = [
    ("insert", |cache, lifetime| now(cache.writing(&1).ttl(lifetime).insert(11))),
    ("insert_as", |cache, lifetime| now(cache.writing(&1).ttl(lifetime).insert_as(1, 11))),
    ("owned", |cache, lifetime| now(cache.writing_owned(1).ttl(lifetime).insert(11))),
];

type End = fn(&Cache, Lifetime);

#[test]
fn a_guard_ends_with_a_value_that_has_a_lifetime_of_its_own() {
    for (name, end) in ENDS {
        let clock = ManualClock::new();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let cache = Cache::builder()
            .ttl(10 * SECOND)
            .fresh_for(5 * SECOND)
            .clock(clock.clone())
            .on_remove(move |_, value, cause| log.lock().unwrap().push((value, cause)))
            .build();
        end(&cache, (20 * SECOND).into());
        let saved = &cache.snapshot_with_ttl()[0];
        assert_eq!((saved.time_left, saved.own_lifetime), (Some(20 * SECOND), true), "{name}");
        assert_eq!(saved.fresh_left, Some(5 * SECOND), "{name}");
        end(&cache, Lifetime::new(SECOND).fresh_for(SECOND / 2));
        let saved = &cache.snapshot_with_ttl()[0];
        let left = (saved.time_left, saved.fresh_left);
        assert_eq!(left, (Some(SECOND), Some(SECOND / 2)), "{name}");
        clock.advance(SECOND);
        assert_eq!(cache.get(&1), None, "{name}");
        cache.insert_blocking(1, 10);
        heard.lock().unwrap().clear();
        end(&cache, Duration::ZERO.into());
        let expected = [(10, RemovalCause::Removed), (11, RemovalCause::Rejected)];
        assert_eq!(*heard.lock().unwrap(), expected, "{name}");
        assert_eq!((cache.get(&1), cache.validate()), (None, 0), "{name}");
        // It has ended: a load is kept.
        now(cache.get_or_insert_with(1, async || 12));
        assert_eq!(cache.get(&1), Some(12), "{name}");
    }
}

#[test]
fn a_guard_with_a_lifetime_is_overtaken_as_any_other() {
    let cache = Cache::new(10);
    for owned in [false, true] {
        let end: Hand<'_, ()> = if owned {
            let writing = cache.writing_owned(1).ttl(SECOND);
            hand(async move { writing.insert(11).await })
        } else {
            let writing = cache.writing(&1).ttl(SECOND);
            hand(async move { writing.insert(11).await })
        };
        cache.insert_blocking(1, 10);
        now(end);
        assert_eq!((cache.get(&1), cache.validate()), (None, 0));
    }
}

#[test]
fn an_owned_guard_is_kept_moved_and_dropped_anywhere() {
    let cache = AsyncLru::<String, u32>::new(10);
    cache.insert_blocking("a".to_owned(), 1);
    let mut kept = Some(cache.writing_owned("a".to_owned()));
    assert_eq!(cache.get("a"), None);
    assert_eq!(now(cache.get_or_insert_with_ref("a", async || 2)), 2);
    assert_eq!(cache.get("a"), None, "it may be of before the write");
    cache.insert_blocking("a".to_owned(), 3);
    let other = kept.take().unwrap();
    std::thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!((cache.get("a"), cache.validate()), (None, 0));
    let writing = cache.writing_owned("a".to_owned());
    let insert = std::thread::spawn(move || futures_lite::future::block_on(writing.insert(4)));
    insert.join().unwrap();
    assert_eq!((cache.get("a"), cache.validate()), (Some(4), 0));
    // Overlapping with one that borrows.
    let (owned, borrowed) = (cache.writing_owned("a".to_owned()), cache.writing("a"));
    now(owned.insert(5));
    assert_eq!(cache.get("a"), None);
    now(borrowed.insert(6));
    assert_eq!((cache.get("a"), cache.validate()), (None, 0));
    assert_eq!(format!("{:?}", cache.writing_owned("a".to_owned())), "OwnedWriteGuard { .. }");
}

#[test]
fn an_owned_guard_keeps_the_cache_and_lets_it_go_in_the_end() {
    let cache = Cache::new(10);
    let weak = cache.downgrade();
    let writing = cache.writing_owned(1);
    drop(cache);
    assert!(weak.upgrade().is_some());
    let insert = writing.insert(10);
    assert!(weak.upgrade().is_some());
    now(insert);
    assert!(weak.upgrade().is_none());
    let cache = Cache::new(10);
    let weak = cache.downgrade();
    let unpolled = cache.writing_owned(1).insert(10);
    drop(cache);
    drop(unpolled);
    assert!(weak.upgrade().is_none());
}

/// A value of hundreds of entries' weight makes its room in turns.
#[test]
fn a_guard_that_is_cut_short_while_it_makes_room_invalidates() {
    let filled = || {
        let cache =
            Cache::builder().max_weight(1_000, |_, value| u64::from(*value)).shards(1).build();
        (10..1_010).for_each(|key| _ = cache.insert_blocking(key, 1));
        cache
    };
    type Insert = fn(&Cache) -> Hand<'_, ()>;
    let inserts: [Insert; 2] = [
        |cache| hand(cache.writing(&1).insert(1_000)),
        |cache| hand(cache.writing_owned(1).insert(1_000)),
    ];
    for insert in inserts {
        let cache = filled();
        let mut polls = 0;
        let mut whole = insert(&cache);
        while poll(&mut whole).is_pending() {
            polls += 1;
        }
        assert_eq!((cache.keys(), cache.validate()), (vec![1], 0));
        assert!(polls > 1, "it takes turns");
        for cut in 0..=polls {
            let cache = filled();
            let mut call = insert(&cache);
            (0..cut).for_each(|_| assert!(poll(&mut call).is_pending()));
            drop(call);
            assert_eq!((cache.get(&1), cache.validate()), (None, 0));
            assert_eq!(now(cache.get_or_insert_with(1, async || 2)), 2);
            assert_eq!(cache.get(&1), Some(2), "after {cut} polls");
        }
    }
}

#[test]
fn a_guard_does_not_outlive_a_panic_of_what_it_removes() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "a drop that panics");
        }
    }
    let cache = AsyncLru::<u32, Arc<Bomb>>::new(10);
    for owned in [false, true] {
        cache.insert_blocking(1, Arc::new(Bomb(true)));
        let begin = AssertUnwindSafe(|| match owned {
            false => drop(cache.writing(&1)),
            true => drop(cache.writing_owned(1)),
        });
        assert!(catch_unwind(begin).is_err());
        now(cache.get_or_insert_with(1, async || Arc::new(Bomb(false))));
        assert!(cache.get(&1).is_some(), "loads of the key are kept again");
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_guard_ends_though_the_clock_panics() {
    struct Broken(Arc<AtomicBool>);
    impl Clock for Broken {
        fn now(&self) -> Duration {
            assert!(!self.0.load(Ordering::Relaxed), "the clock is broken");
            Duration::ZERO
        }
    }
    let is_broken = Arc::<AtomicBool>::default();
    let clock = Broken(Arc::clone(&is_broken));
    let cache = AsyncLru::<u32, u32>::builder().ttl(Duration::from_secs(1)).clock(clock).build();
    let writing = cache.writing(&1);
    cache.insert_blocking(1, 10);
    is_broken.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(writing))).is_err());
    is_broken.store(false, Ordering::Relaxed);
    assert_eq!(cache.get(&1), None);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    assert_eq!((cache.get(&1), cache.validate()), (Some(11), 0));
}

#[test]
fn a_guard_that_is_leaked_keeps_its_key_out() {
    let cache = Cache::new(10);
    std::mem::forget(cache.writing(&1));
    assert_eq!(now(cache.get_or_insert_with(1, async || 10)), 10);
    assert_eq!((cache.get(&1), cache.len()), (None, 0));
}
