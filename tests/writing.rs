//! Guards of keys whose source is written.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use async_lru::{AsyncLru, RemovalCause, Update};
use common::{Gate, hand, now, poll};
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
            _ => drop(cache.writing(&1)),
        };
        for kind in 0..4 {
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

#[test]
fn a_guard_that_is_leaked_keeps_its_key_out() {
    let cache = Cache::new(10);
    std::mem::forget(cache.writing(&1));
    assert_eq!(now(cache.get_or_insert_with(1, async || 10)), 10);
    assert_eq!((cache.get(&1), cache.len()), (None, 0));
}
