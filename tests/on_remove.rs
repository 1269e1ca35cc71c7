//! The listener: what it hears of, when, in which order, and what becomes of keys and values.

mod common;
#[path = "common/ledger.rs"]
mod ledger;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use async_lru::RemovalCause::{self, Capacity, Cleared, Expired, Rejected, Removed, Replaced};
use async_lru::{AsyncLru, Builder, ManualClock, Update};
use common::{Calls, Gate, Hand, hand, now, poll};
use futures_lite::future::{block_on, or, yield_now};
use ledger::{Item, Ledger};

const TTL: Duration = Duration::from_secs(60);

type Heard = (u32, u32, RemovalCause);

/// What a listener has heard. A clone is another handle to it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Heard>>>);

impl Log {
    fn note(&self, heard: Heard) {
        self.0.lock().unwrap().push(heard);
    }

    /// What was heard since the last time.
    fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The same, sorted, for what comes from several shards.
    fn take_sorted(&self) -> Vec<Heard> {
        let mut heard = self.take();
        heard.sort_unstable_by_key(|(key, value, _)| (*key, *value));
        heard
    }

    fn builder(&self) -> Builder<u32, u32> {
        let log = self.clone();
        AsyncLru::builder().on_remove(move |key, value, cause| log.note((key, value, cause)))
    }
}

executors! {
    async fn every_way_of_leaving_is_reported_once_and_with_its_cause() {
        for shards in [1, 4] {
            let log = Log::default();
            let cache = log.builder().maxsize(8).shards(shards).build();
            cache.insert(1, 10).await;
            assert_eq!(cache.insert(1, 11).await, Some(10));
            assert_eq!(cache.insert_blocking(1, 12), Some(11));
            assert_eq!(log.take(), [(1, 10, Replaced), (1, 11, Replaced)]);
            assert_eq!(cache.remove(&1).await, Some(12));
            assert_eq!(log.take(), [(1, 12, Removed)]);
            assert_eq!(cache.remove_blocking(&1), None);

            cache.insert(2, 20).await;
            assert!(cache.invalidate(&2).await);
            cache.insert(2, 21).await;
            assert!(cache.invalidate_blocking(&2));
            assert_eq!(log.take(), [(2, 20, Removed), (2, 21, Removed)]);

            for key in 0..8 {
                assert_eq!(cache.get_or_insert_with(key, async || key * 10).await, key * 10);
            }
            assert_eq!(log.take(), []);
            assert_eq!(cache.invalidate_if(|key, _| key % 4 == 3).await, 2);
            assert_eq!(log.take_sorted(), [(3, 30, Removed), (7, 70, Removed)]);

            let put = async |_| Update::Put(1);
            assert_eq!(cache.update_with(1, put).await, Some(1));
            assert_eq!(cache.update_with(7, put).await, Some(1));
            assert_eq!(cache.update_with(1, async |_| Update::Keep).await, Some(1));
            assert_eq!(cache.update_with(1, async |_| Update::Remove).await, None);
            assert_eq!(log.take(), [(1, 10, Replaced), (1, 1, Removed)]);

            cache.clear().await;
            let cleared = [(0, 0), (2, 20), (4, 40), (5, 50), (6, 60), (7, 1)];
            assert_eq!(log.take_sorted(), cleared.map(|(key, value)| (key, value, Cleared)));
            cache.insert(1, 10).await;
            cache.clear_blocking();
            cache.clear_blocking();
            assert_eq!(log.take(), [(1, 10, Cleared)]);
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn what_makes_room_is_reported_before_the_call_returns() {
        let log = Log::default();
        let cache = log.builder().maxsize(2).build();
        cache.insert(1, 10).await;
        cache.insert(2, 20).await;
        cache.get(&1);
        cache.insert(3, 30).await;
        assert_eq!(log.take(), [(2, 20, Capacity)]);
        cache.get_or_insert_with(4, async || 40).await;
        assert_eq!(log.take(), [(1, 10, Capacity)]);
        cache.get_detached(5, async || 50).await;
        assert_eq!(log.take(), [(3, 30, Capacity)]);
        let load = async |keys: Vec<u32>| keys.into_iter().map(|key| (key, key * 10));
        cache.get_or_insert_many([6, 7], load).await;
        assert_eq!(log.take(), [(4, 40, Capacity), (5, 50, Capacity)]);
        assert_eq!(cache.restore([(8, 80, None)]).await, 0);
        assert_eq!(log.take(), [(8, 80, Rejected)]);
        assert_eq!(cache.validate(), 0);
    }

    async fn an_entry_of_another_shard_that_makes_room_is_reported_too() {
        for timed in [false, true] {
            let (log, clock) = (Log::default(), ManualClock::new());
            let mut builder = log.builder().maxsize(1).shards(16).clock(clock.clone());
            if timed {
                builder = builder.ttl(TTL);
            }
            let cache = builder.build();
            let mut expected = Vec::new();
            for key in 0..50 {
                cache.insert(key, key).await;
                expected.push((key, key, if timed { Expired } else { Capacity }));
                clock.advance(TTL);
            }
            expected.pop();
            assert_eq!(log.take(), expected);
            let _ = cache.validate();
        }
    }

    /// Against (A29) of `docs/reliability.md`.
    async fn an_entry_whose_time_is_over_is_reported_as_expired_whoever_finds_it() {
        let (log, clock) = (Log::default(), ManualClock::new());
        let cache = log.builder().shards(1).ttl(TTL).clock(clock.clone()).build();
        let expire = async || {
            cache.insert(1, 10).await;
            clock.advance(TTL);
            assert_eq!(log.take(), []);
        };
        let expired = [(1, 10, Expired)];
        expire().await;
        assert_eq!(cache.insert(1, 11).await, None);
        assert_eq!(log.take(), expired);
        cache.invalidate(&1).await;
        log.take();
        expire().await;
        assert_eq!(cache.remove(&1).await, None);
        assert_eq!(log.take(), expired);
        expire().await;
        assert!(!cache.invalidate(&1).await);
        assert_eq!(log.take(), expired);
        expire().await;
        assert_eq!(cache.update_with(1, async |_| Update::Remove).await, None);
        assert_eq!(log.take(), expired);
        expire().await;
        assert_eq!(cache.purge_expired().await, 1);
        assert_eq!(log.take(), expired);
        expire().await;
        cache.insert(2, 20).await;
        assert_eq!(log.take(), expired);
        cache.invalidate(&2).await;
        log.take();
        expire().await;
        assert_eq!(cache.get(&1), None);
        assert_eq!(log.take(), [], "readers free nothing");
        assert_eq!(cache.get_or_insert_with(1, async || 11).await, 11);
        assert_eq!(log.take(), expired);
        cache.invalidate(&1).await;
        log.take();
        expire().await;
        assert_eq!(cache.restore([(1, 11, None)]).await, 1);
        assert_eq!(log.take(), expired);
        cache.invalidate(&1).await;
        log.take();
        expire().await;
        assert_eq!(cache.invalidate_if(|_, _| true).await, 0);
        assert_eq!(log.take(), [], "it was not even asked about");
        // The one exception, as a clear asks nobody for the time.
        cache.clear().await;
        assert_eq!(log.take(), [(1, 10, Cleared)]);
        assert_eq!(cache.validate(), 0);
    }

    /// More than a write frees on its way, so that the call at hand finds the entry itself.
    async fn an_expired_entry_that_a_call_comes_upon_is_reported_behind_those_that_it_frees_first() {
        type Call = fn(&AsyncLru<u32, u32>);
        let calls: [Call; 6] = [
            |cache| assert_eq!(cache.insert_blocking(9, 1), None),
            |cache| assert_eq!(cache.remove_blocking(&9), None),
            |cache| assert!(!cache.invalidate_blocking(&9)),
            |cache| assert_eq!(now(cache.get_or_insert_with(9, async || 1)), 1),
            |cache| assert_eq!(now(cache.update_with(9, async |_| Update::Put(1))), Some(1)),
            |cache| assert_eq!(now(cache.update_with(9, async |_| Update::Remove)), None),
        ];
        for (number, call) in calls.into_iter().enumerate() {
            let (log, clock) = (Log::default(), ManualClock::new());
            let cache = log.builder().shards(1).ttl(TTL).clock(clock.clone()).build();
            for key in 0..10 {
                cache.insert(key, key * 10).await;
            }
            clock.advance(TTL);
            call(&cache);
            // A load has it leave before it starts, and so before it writes anything.
            let order = if number == 3 { [9, 0, 1, 2, 3] } else { [0, 1, 2, 3, 9] };
            assert_eq!(log.take(), order.map(|key| (key, key * 10, Expired)));
            assert_eq!(cache.stats().expirations, 5);
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn a_janitor_reports_what_it_frees() {
        let (log, clock) = (Log::default(), ManualClock::new());
        let cache = log.builder().ttl(TTL).clock(clock.clone()).build();
        cache.insert(1, 10).await;
        let sleep = |time| {
            clock.advance(time);
            yield_now()
        };
        let heard = async {
            while log.0.lock().unwrap().is_empty() {
                yield_now().await;
            }
        };
        or(cache.janitor(sleep), heard).await;
        assert_eq!(log.take(), [(1, 10, Expired)]);
        assert_eq!(cache.validate(), 0);
    }

    async fn what_is_handed_over_and_not_kept_is_reported_as_rejected() {
        let log = Log::default();
        let nothing = log.builder().maxsize(0).build();
        let never = log.builder().ttl(Duration::ZERO).build();
        let idle = log.builder().time_to_idle(Duration::ZERO).build();
        for cache in [nothing, never, idle] {
            assert_eq!(cache.get_or_insert_with(1, async || 10).await, 10);
            assert_eq!(cache.get_detached(1, async || 11).await, 11);
            assert_eq!(cache.insert(1, 12).await, None);
            assert_eq!(cache.insert_blocking(1, 13), None);
            assert_eq!(cache.update_with(1, async |_| Update::Put(14)).await, Some(14));
            let load = async |keys: Vec<u32>| keys.into_iter().map(|key| (key, 15));
            assert_eq!(cache.get_or_insert_many([1], load).await, [(1, Some(15))]);
            assert_eq!(log.take(), (10..=15).map(|value| (1, value, Rejected)).collect::<Vec<_>>());
            // Nobody has been handed anything.
            let failed = cache.get_or_insert_own(1, async || Err::<u32, _>("no")).await;
            assert_eq!(failed, Err("no"));
            cache.clear().await;
            assert_eq!(cache.restore([(1, 16)]).await, 0);
            assert_eq!(log.take(), [(1, 16, Rejected)]);
            assert_eq!(cache.validate(), 0);
        }
    }

    async fn what_is_too_heavy_or_has_no_time_is_rejected_after_what_it_has_replaced() {
        let log = Log::default();
        let short = |_: &u32, value: &u32| (*value == 0).then_some(Duration::ZERO);
        let heavy = |_: &u32, value: &u32| u64::from(*value);
        let builder = log.builder().expiry(short).max_weight(100, heavy);
        let cache = builder.clock(ManualClock::new()).build();
        assert_eq!(cache.get_or_insert_with(1, async || 0).await, 0);
        assert_eq!(cache.insert(1, 0).await, None);
        assert_eq!(cache.insert(1, 101).await, None);
        assert_eq!(log.take(), [(1, 0, Rejected), (1, 0, Rejected), (1, 101, Rejected)]);
        cache.insert(1, 10).await;
        assert_eq!(cache.insert(1, 0).await, Some(10));
        cache.insert(1, 11).await;
        assert_eq!(cache.insert_with_ttl(1, 12, Duration::ZERO).await, Some(11));
        cache.insert(1, 13).await;
        assert_eq!(cache.update_with(1, async |_| Update::Put(101)).await, Some(101));
        let pairs = [(10, 0), (11, 12), (13, 101)];
        let expected =
            pairs.into_iter().flat_map(|(old, new)| [(1, old, Replaced), (1, new, Rejected)]);
        assert_eq!(log.take(), expected.collect::<Vec<_>>());
        assert_eq!(cache.validate(), 0);
    }

    async fn a_load_that_a_write_or_a_sweep_wins_over_is_rejected_whatever_its_form() {
        type Fence = fn(&AsyncLru<u32, u32>);
        let fences: [Fence; 4] = [
            |cache| assert!(cache.invalidate_blocking(&2)),
            |cache| assert_eq!(cache.invalidate_if_blocking(|_, value| *value == 20), 0),
            |cache| assert_eq!(cache.invalidate_keys_if_blocking(|key| *key == 2), 0),
            |cache| cache.clear_blocking(),
        ];
        type Load = for<'a> fn(&'a AsyncLru<u32, u32>, Gate) -> Hand<'a, ()>;
        let loads: [Load; 4] = [
            |cache, gate| {
                let load = async move || {
                    gate.wait().await;
                    20
                };
                hand(async move { assert_eq!(cache.get_or_insert_with(2, load).await, 20) })
            },
            |cache, gate| {
                let load = async move {
                    gate.wait().await;
                    20
                };
                hand(async move { assert_eq!(cache.get_detached(2, || load).await, 20) })
            },
            |cache, gate| {
                hand(async move {
                    let load = async |_: Vec<u32>| {
                        gate.wait().await;
                        [(2, 20)]
                    };
                    assert_eq!(cache.get_or_insert_many([2], load).await, [(2, Some(20))]);
                })
            },
            |cache, gate| {
                let update = async move |_| {
                    gate.wait().await;
                    Update::Put(20)
                };
                hand(async move { assert_eq!(cache.update_with(2, update).await, Some(20)) })
            },
        ];
        for fence in fences {
            for load in loads {
                let (log, gate) = (Log::default(), Gate::new());
                let cache = log.builder().build();
                let mut call = load(&cache, gate.clone());
                assert!(poll(&mut call).is_pending());
                fence(&cache);
                gate.open();
                assert!(poll(&mut call).is_ready());
                assert_eq!(log.take(), [(2, 20, Rejected)]);
                assert!(cache.is_empty());
                assert_eq!(cache.validate(), 0);
            }
        }
    }

    async fn what_restore_leaves_out_is_rejected() {
        let log = Log::default();
        let cache = log.builder().maxsize(3).clock(ManualClock::new()).build();
        cache.insert(1, 10).await;
        let entries = [
            (1, 11, None),
            (2, 20, Some(TTL)),
            (3, 30, Some(Duration::ZERO)),
            (4, 40, None),
            (5, 50, None),
        ];
        assert_eq!(cache.restore(entries).await, 2);
        assert_eq!(log.take_sorted(), [(1, 11, Rejected), (2, 20, Rejected), (3, 30, Rejected)]);
        assert_eq!(cache.keys(), [1, 4, 5]);
        assert_eq!(cache.validate(), 0);
    }

    async fn an_expired_entry_in_the_way_of_a_load_is_reported_when_that_starts_and_not_when_it_ends() {
        for shared in [true, false] {
            let (log, clock) = (Log::default(), ManualClock::new());
            let mut builder = log.builder().ttl(TTL).clock(clock.clone());
            if !shared {
                builder = builder.without_single_flight();
            }
            let cache = builder.build();
            cache.insert(1, 10).await;
            clock.advance(TTL);
            let failed = cache.get_or_insert_own(1, async || {
                assert_eq!(log.take(), [(1, 10, Expired)]);
                assert!(cache.is_empty());
                Err::<u32, _>("down")
            });
            assert_eq!(failed.await, Err("down"));
            assert_eq!(log.take(), []);
            assert_eq!((cache.stats().expirations, cache.validate()), (1, 0));
        }
    }

    async fn a_wrapped_function_has_a_listener_like_any_cache() {
        let log = Log::default();
        let double = log.builder().maxsize(1).wrap(async |number: u32| 2 * number);
        assert_eq!(double.call(4).await, 8);
        assert_eq!(double.call(5).await, 10);
        assert!(double.invalidate(&5).await);
        assert_eq!(double.call(6).await, 12);
        double.clear().await;
        assert_eq!(log.take(), [(4, 8, Capacity), (5, 10, Removed), (6, 12, Cleared)]);
        assert_eq!(double.cache().validate(), 0);
    }
}

#[test]
fn a_clear_reports_the_entries_of_a_shard_in_their_order_of_use() {
    let log = Log::default();
    let cache = log.builder().shards(1).build();
    for key in 0..10 {
        cache.insert_blocking(key, key);
    }
    cache.remove_blocking(&4);
    for key in [7, 2, 7, 0] {
        cache.get(&key);
    }
    let order = cache.keys();
    assert_eq!(log.take(), [(4, 4, Removed)]);
    cache.clear_blocking();
    assert_eq!(log.take(), Vec::from_iter(order.into_iter().map(|key| (key, key, Cleared))));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn an_invalidation_of_all_reports_as_a_clear_does_and_the_statistics_go_on() {
    let log = Log::default();
    let cache = log.builder().shards(1).build();
    cache.insert_many_blocking([(1, 10), (2, 20)]);
    assert_eq!(cache.get(&1), Some(10));
    cache.invalidate_all_blocking();
    assert_eq!(log.take(), [(2, 20, Cleared), (1, 10, Cleared)]);
    assert_eq!((cache.stats().hits, cache.validate()), (1, 0));
}

#[test]
fn the_last_of_several_listeners_hears() {
    let (first, last) = (Log::default(), Log::default());
    let heard = last.clone();
    let cache = first.builder().on_remove(move |key, value, cause| heard.note((key, value, cause)));
    let cache = cache.build();
    cache.insert_blocking(1, 10);
    cache.clear_blocking();
    assert_eq!((first.take(), last.take()), (vec![], vec![(1, 10, Cleared)]));
}

#[test]
fn the_last_handle_takes_its_entries_along_without_a_report() {
    let value = Arc::new(());
    let heard = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&heard);
    let listener = move |_: u32, _: Arc<()>, _| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let cache = AsyncLru::<u32, Arc<()>>::builder().on_remove(listener).build();
    for key in 0..10 {
        cache.insert_blocking(key, Arc::clone(&value));
    }
    drop(cache);
    assert_eq!((heard.load(Ordering::Relaxed), Arc::strong_count(&value)), (0, 1));
    assert_eq!(Arc::strong_count(&heard), 1, "the listener is gone as well");
}

/// A value that tells the original from its clones, and counts them.
#[derive(Debug)]
struct Marked {
    number: u32,
    is_clone: bool,
    clones: Arc<AtomicU32>,
}

impl Clone for Marked {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { number: self.number, is_clone: true, clones: Arc::clone(&self.clones) }
    }
}

#[test]
fn the_listener_gets_the_values_themselves_and_who_asks_for_one_a_clone() {
    let clones = Arc::new(AtomicU32::new(0));
    let mark = |number| Marked { number, is_clone: false, clones: Arc::clone(&clones) };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    let cache = AsyncLru::<u32, Marked>::builder()
        .maxsize(2)
        .on_remove(move |_, value: Marked, _| log.lock().unwrap().push(value))
        .build();
    cache.insert_blocking(1, mark(10));
    let replaced = cache.insert_blocking(1, mark(11)).unwrap();
    let removed = cache.remove_blocking(&1).unwrap();
    assert_eq!((replaced.number, removed.number), (10, 11));
    assert!(replaced.is_clone && removed.is_clone);
    assert_eq!(clones.load(Ordering::Relaxed), 2);

    // Nobody asks for these.
    cache.insert_blocking(1, mark(12));
    assert!(cache.invalidate_blocking(&1));
    for number in [13, 14, 15] {
        cache.insert_blocking(number, mark(number));
    }
    cache.clear_blocking();
    assert_eq!(clones.load(Ordering::Relaxed), 2);
    let heard: Vec<_> =
        heard.lock().unwrap().drain(..).map(|value| (value.number, value.is_clone)).collect();
    assert_eq!(heard, [10, 11, 12, 13, 14, 15].map(|number| (number, false)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_value_replaced_or_removed_by_an_update_or_a_load_is_not_cloned_for_that() {
    let clones = Arc::new(AtomicU32::new(0));
    let mark = |number| Marked { number, is_clone: false, clones: Arc::clone(&clones) };
    let clones_of = |change: &dyn Fn(&AsyncLru<u32, Marked>)| {
        let builder = AsyncLru::<u32, Marked>::builder();
        let counts = [builder.build(), AsyncLru::builder().on_remove(|_, _, _| {}).build()];
        counts.map(|cache| {
            cache.insert_blocking(1, mark(10));
            clones.store(0, Ordering::Relaxed);
            change(&cache);
            assert_eq!(cache.validate(), 0);
            clones.load(Ordering::Relaxed)
        })
    };
    let [without, with] = clones_of(&|cache| {
        drop(now(cache.update_with(1, async |_| Update::Put(mark(11)))));
    });
    assert_eq!(without, with);
    let [without, with] = clones_of(&|cache| {
        drop(now(cache.update_with(1, async |_| Update::Remove)));
    });
    assert_eq!(without, with);
}

/// A key and a value whose fates are on a ledger.
#[derive(Clone)]
struct Tracked {
    number: u32,
    _item: Item,
}

impl PartialEq for Tracked {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Tracked {}

impl Hash for Tracked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

#[test]
fn keys_and_values_are_dropped_exactly_once_whether_the_listener_keeps_them_or_not() {
    let ledger = Ledger::default();
    let key = |number| Tracked { number, _item: ledger.make("key") };
    let value = |number| Tracked { number, _item: ledger.make("value") };
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let clock = ManualClock::new();
    let cache = AsyncLru::<Tracked, Tracked>::builder()
        .maxsize(4)
        .shards(2)
        .ttl(TTL)
        .clock(clock.clone())
        .on_remove(move |key: Tracked, value, _| {
            if key.number % 2 == 0 {
                keep.lock().unwrap().push((key, value));
            }
        })
        .build();
    for round in 0..3 {
        for number in 0..10 {
            drop(cache.insert_blocking(key(number), value(number)));
            drop(cache.insert_blocking(key(number), value(number)));
        }
        drop(cache.remove_blocking(&key(9)));
        match round {
            0 => cache.clear_blocking(),
            1 => {
                clock.advance(TTL);
                cache.purge_expired_blocking();
            }
            _ => {}
        }
    }
    assert_eq!(cache.validate(), 0);
    let left = ledger.left().len();
    assert_eq!(left, 2 * (cache.len() + kept.lock().unwrap().len()));
    drop(cache);
    kept.lock().unwrap().clear();
    assert_eq!(ledger.left(), []);
}

#[test]
fn values_that_are_not_send_may_be_heard_of_where_they_are() {
    thread_local! {
        static HEARD: RefCell<Vec<(Rc<str>, Rc<u32>)>> = const { RefCell::new(Vec::new()) };
    }
    let cache = AsyncLru::<Rc<str>, Rc<u32>>::builder()
        .maxsize(1)
        .on_remove(|key, value, _| HEARD.with_borrow_mut(|heard| heard.push((key, value))))
        .build();
    let executor = smol::LocalExecutor::new();
    let task = executor.spawn(async move {
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            let load = async || Rc::new(number as u32);
            cache.get_or_insert_with(Rc::from(name), load).await;
        }
        cache.remove("c").await
    });
    assert_eq!(block_on(executor.run(task)).as_deref(), Some(&2));
    let heard = HEARD.take();
    let expected = [("a", 0), ("b", 1), ("c", 2)].map(|(key, value)| (key.into(), Rc::new(value)));
    assert_eq!(heard, expected);
}

// What the listener does.

/// Against (A23) of `docs/reliability.md`.
#[test]
fn a_listener_may_call_the_cache_and_is_never_called_within_itself() {
    thread_local! {
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }
    let handle = Arc::new(Mutex::new(None::<AsyncLru<u32, u32>>));
    let (log, own_handle) = (Log::default(), Arc::clone(&handle));
    let note = log.clone();
    let listener = move |key: u32, value, cause| {
        DEPTH.set(DEPTH.get() + 1);
        assert_eq!(DEPTH.get(), 1, "the listener is called within itself");
        note.note((key, value, cause));
        let cache = own_handle.lock().unwrap().clone().unwrap();
        if key < 5 {
            // This one and the next leave at once, and are heard of later.
            assert_eq!(cache.insert_blocking(key + 10, 0), None);
            assert_eq!(cache.remove_blocking(&(key + 10)), Some(0));
            cache.insert_blocking(key + 1, value + 1);
            cache.clear_blocking();
        }
        DEPTH.set(0);
    };
    let cache = AsyncLru::<u32, u32>::builder().shards(1).on_remove(listener).build();
    *handle.lock().unwrap() = Some(cache.clone());
    cache.insert_blocking(3, 30);
    assert_eq!(cache.remove_blocking(&3), Some(30));
    let expected =
        [(3, 30, Removed), (13, 0, Removed), (4, 31, Cleared), (14, 0, Removed), (5, 32, Cleared)];
    assert_eq!(log.take(), expected);
    assert_eq!(cache.validate(), 0);
    handle.lock().unwrap().take();
}

#[test]
fn a_call_that_comes_while_the_listener_runs_elsewhere_waits_for_nobody_and_is_reported_there() {
    let (at_work, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (log, heard_by) = (Log::default(), Arc::new(Mutex::new(Vec::new())));
    let (note, by) = (log.clone(), Arc::clone(&heard_by));
    let (is_there, may_go) = (Arc::clone(&at_work), Arc::clone(&go_on));
    let listener = move |key, value, cause| {
        note.note((key, value, cause));
        by.lock().unwrap().push(thread::current().id());
        if key == 1 {
            is_there.wait();
            may_go.wait();
        }
    };
    let cache = AsyncLru::<u32, u32>::builder().shards(1).on_remove(listener).build();
    for key in 1..4 {
        cache.insert_blocking(key, key);
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| assert_eq!(cache.remove_blocking(&1), Some(1)));
        at_work.wait();
        assert_eq!(cache.remove_blocking(&2), Some(2));
        assert!(cache.invalidate_blocking(&3));
        assert_eq!(log.take(), [(1, 1, Removed)], "one call of the listener at a time");
        go_on.wait();
        let id = other.thread().id();
        other.join().unwrap();
        assert_eq!(log.take(), [(2, 2, Removed), (3, 3, Removed)]);
        assert_eq!(*heard_by.lock().unwrap(), [id; 3]);
    });
    assert_eq!(cache.validate(), 0);
}

/// The payload of a panic on purpose: the number of the listener's call.
#[derive(Debug, PartialEq, Eq)]
struct Bang(usize);

fn silence_panics_on_purpose() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Bang>() {
            default(info);
        }
    }));
}

/// Runs `call`; which panic on purpose has reached it, if one has.
fn bang_of<T>(call: impl FnOnce() -> T) -> Option<Bang> {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(call()))).err()?;
    match payload.downcast::<Bang>() {
        Ok(bang) => Some(*bang),
        Err(other) => resume_unwind(other),
    }
}

/// A cache of four entries whose listener panics on purpose after it has heard of what `panics_at` says.
fn banging(
    log: &Log,
    shards: usize,
    clock: &ManualClock,
    panics_at: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> AsyncLru<u32, u32> {
    let note = log.clone();
    let listener = move |key, value, cause| {
        let call = note.0.lock().unwrap().len();
        note.note((key, value, cause));
        if panics_at(call) {
            panic_any(Bang(call));
        }
    };
    let builder = AsyncLru::builder().maxsize(4).shards(shards).ttl(TTL).clock(clock.clone());
    builder.on_remove(listener).build()
}

/// Takes a cache of four entries through every way of leaving. Each step may panic on purpose, after
/// having left it to the listener to hear of what it should; returns what was heard before each step,
/// and the panic that has reached it.
fn empty_in_every_way(
    cache: &AsyncLru<u32, u32>,
    clock: &ManualClock,
    log: &Log,
) -> Vec<(usize, Option<Bang>)> {
    let mut steps = Vec::new();
    let mut step = |call: &dyn Fn()| {
        let heard = log.0.lock().unwrap().len();
        steps.push((heard, bang_of(call)));
        // The queue is empty, whoever has panicked.
        assert_eq!(cache.validate(), 0);
    };
    for key in 1..=6 {
        step(&|| assert_eq!(cache.insert_blocking(key, key), None));
    }
    step(&|| assert_eq!(cache.insert_blocking(6, 16), Some(6)));
    step(&|| assert_eq!(now(cache.remove(&6)), Some(16)));
    step(&|| assert!(now(cache.invalidate(&5))));
    step(&|| assert_eq!(cache.invalidate_if_blocking(|_, _| true), 2));
    for key in 11..=14 {
        step(&|| assert_eq!(now(cache.get_or_insert_with(key, async || key)), key));
    }
    step(&|| assert_eq!(now(cache.update_with(11, async |_| Update::Put(21))), Some(21)));
    step(&|| assert_eq!(now(cache.update_with(11, async |_| Update::Remove)), None));
    clock.advance(TTL);
    step(&|| assert_eq!(cache.purge_expired_blocking(), 3));
    for key in 31..=34 {
        step(&|| assert_eq!(cache.insert_blocking(key, key), None));
    }
    clock.advance(TTL);
    step(&|| assert_eq!(cache.insert_blocking(35, 35), None));
    step(&|| cache.clear_blocking());
    assert!(cache.is_empty());
    steps
}

#[test]
fn a_listener_that_panics_at_any_call_hears_of_everything_and_its_first_panic_reaches_the_call() {
    silence_panics_on_purpose();
    let run = |panics_at: Box<dyn Fn(usize) -> bool + Send + Sync>| {
        let (log, clock) = (Log::default(), ManualClock::new());
        let cache = banging(&log, 1, &clock, panics_at);
        let steps = empty_in_every_way(&cache, &clock, &log);
        (log.take(), steps)
    };
    let (expected, steps) = run(Box::new(|_| false));
    assert_eq!(expected.len(), 17);
    assert!(steps.iter().all(|(_, bang)| bang.is_none()));
    for point in 0..expected.len() {
        let (heard, steps) = run(Box::new(move |call| call == point));
        assert_eq!(heard, expected);
        let (before, bang) = steps.into_iter().rfind(|(before, _)| *before <= point).unwrap();
        assert_eq!(bang, Some(Bang(point)), "of the call with the reports from {before} on");
    }
    // Of the panics within one call the first.
    let (heard, steps) = run(Box::new(|_| true));
    assert_eq!(heard, expected);
    let ends = steps.iter().skip(1).map(|(before, _)| *before).chain([expected.len()]);
    for ((before, bang), end) in steps.iter().zip(ends) {
        assert_eq!(*bang, (end > *before).then_some(Bang(*before)));
    }
}

#[test]
fn a_listener_that_panics_for_one_shard_hears_of_the_others() {
    silence_panics_on_purpose();
    for point in 0..4 {
        let (log, clock) = (Log::default(), ManualClock::new());
        let cache = banging(&log, 4, &clock, move |call| call == point);
        for key in 0..4 {
            cache.insert_blocking(key, key);
        }
        assert_eq!(bang_of(|| cache.clear_blocking()), Some(Bang(point)));
        assert_eq!(log.take_sorted(), [0, 1, 2, 3].map(|key| (key, key, Cleared)));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_listener_that_panics_while_another_panic_unwinds_is_not_heard_of_and_hears_of_all() {
    struct ClearsWhenDropped(AsyncLru<u32, u32>);
    impl Drop for ClearsWhenDropped {
        fn drop(&mut self) {
            self.0.clear_blocking();
        }
    }
    silence_panics_on_purpose();
    let log = Log::default();
    let note = log.clone();
    let builder = AsyncLru::<u32, u32>::builder().shards(1).on_remove(move |key, value, cause| {
        note.note((key, value, cause));
        panic_any(Bang(99));
    });
    let cache = builder.build();
    for key in 0..3 {
        cache.insert_blocking(key, key);
    }
    let bang = bang_of(|| {
        let _clears = ClearsWhenDropped(cache.clone());
        panic_any(Bang(7));
    });
    assert_eq!(bang, Some(Bang(7)));
    assert_eq!(log.take(), [0, 1, 2].map(|key| (key, key, Cleared)));
    assert_eq!(cache.validate(), 0);
}

thread_local! {
    /// Whether the next clone panics.
    static CLONES_PANIC: Cell<bool> = const { Cell::new(false) };
}

/// A value whose clone may panic.
struct Brittle(u32);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        if CLONES_PANIC.get() {
            panic_any(Bang(0));
        }
        Self(self.0)
    }
}

#[test]
fn an_entry_whose_clone_for_the_caller_panics_is_reported_all_the_same() {
    silence_panics_on_purpose();
    let log = Log::default();
    let note = log.clone();
    let cache = AsyncLru::<u32, Brittle>::builder()
        .shards(1)
        .on_remove(move |key, value: Brittle, cause| note.note((key, value.0, cause)))
        .build();
    cache.insert_blocking(1, Brittle(10));
    cache.insert_blocking(2, Brittle(20));
    CLONES_PANIC.set(true);
    assert!(bang_of(|| cache.insert_blocking(1, Brittle(11))).is_some());
    assert_eq!(log.take(), [(1, 10, Replaced)]);
    assert!(bang_of(|| now(cache.remove(&2))).is_some());
    assert_eq!(log.take(), [(2, 20, Removed)]);
    CLONES_PANIC.set(false);
    assert_eq!(cache.peek(&1).map(|value| value.0), Some(11), "the new value is in");
    assert!(!cache.contains_key(&2));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn what_leaves_while_a_value_is_cloned_for_its_caller_is_reported_after_it() {
    thread_local! {
        static ON_CLONE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    }
    struct Calling(u32);
    impl Clone for Calling {
        fn clone(&self) -> Self {
            if let Some(call) = ON_CLONE.take() {
                call();
            }
            Self(self.0)
        }
    }
    let log = Log::default();
    let note = log.clone();
    let cache = AsyncLru::<u32, Calling>::builder()
        .shards(1)
        .on_remove(move |key, value: Calling, cause| note.note((key, value.0, cause)))
        .build();
    for key in 1..=3 {
        cache.insert_blocking(key, Calling(key));
    }
    // No lock is held: the clone may even call the cache.
    let (other, heard) = (cache.clone(), log.clone());
    ON_CLONE.set(Some(Box::new(move || {
        assert!(other.invalidate_blocking(&2));
        other.clear_blocking();
        assert_eq!(heard.take(), [], "the one in front is still to come");
    })));
    assert_eq!(cache.remove_blocking(&1).map(|value| value.0), Some(1));
    assert_eq!(log.take(), [(1, 1, Removed), (2, 2, Removed), (3, 3, Cleared)]);
    assert_eq!(cache.validate(), 0);
}

/// A write takes no more than so many steps towards entries that have expired, and then any victim.
#[test]
fn a_victim_whose_time_is_over_is_reported_and_counted_as_expired() {
    for expiring in [0, 100, 199] {
        let (log, clock) = (Log::default(), ManualClock::new());
        let cache = log.builder().maxsize(200).shards(1).clock(clock.clone()).build();
        for key in 0..200 {
            // In no order, so that the timer wheel has them all, and all together.
            let later = if key == expiring { 0 } else { u64::from(key * 77 % 200 + 1) << 28 };
            cache.insert_with_ttl_blocking(key, key, Duration::from_nanos((1 << 42) + later));
        }
        for key in (0..200).filter(|key| *key != expiring) {
            assert_eq!(cache.get(&key), Some(key));
        }
        clock.advance(Duration::from_nanos((1 << 42) + 1));
        cache.insert_blocking(1_000, 0);
        assert_eq!(log.take(), [(expiring, expiring, Expired)]);
        let stats = cache.stats();
        assert_eq!((stats.evictions, stats.expirations), (0, 1));
        assert_eq!(cache.validate(), 0);
    }
}

// Listeners that are slower than those who write.

/// The most entries that may wait for a listener while nobody has to wait for it.
const SHORT: usize = 128;

/// A listener that one thread is held in, at the entries of some keys, until the test lets it go.
struct Held {
    log: Log,
    heard_by: Arc<Mutex<Vec<thread::ThreadId>>>,
    at_work: Arc<Barrier>,
    go_on: Arc<Barrier>,
}

impl Held {
    fn new() -> Self {
        let barrier = || Arc::new(Barrier::new(2));
        let (log, heard_by) = (Log::default(), Arc::default());
        Self { log, heard_by, at_work: barrier(), go_on: barrier() }
    }

    /// Waits until the thread is in the listener.
    fn until_at_work(&self) -> LetGo<'_> {
        self.at_work.wait();
        LetGo(&self.go_on)
    }

    fn cache(&self, maxsize: usize, key_held: u32) -> AsyncLru<u32, u32> {
        self.cache_of(maxsize, [key_held])
    }

    fn cache_of<const N: usize>(&self, maxsize: usize, held: [u32; N]) -> AsyncLru<u32, u32> {
        let (log, heard_by) = (self.log.clone(), Arc::clone(&self.heard_by));
        let (at_work, go_on) = (Arc::clone(&self.at_work), Arc::clone(&self.go_on));
        let listener = move |key, value, cause| {
            log.note((key, value, cause));
            heard_by.lock().unwrap().push(thread::current().id());
            if held.contains(&key) {
                at_work.wait();
                go_on.wait();
            }
        };
        AsyncLru::builder().maxsize(maxsize).shards(1).on_remove(listener).build()
    }
}

/// Lets the thread in the listener go on when it is dropped, also by a test that fails.
struct LetGo<'a>(&'a Barrier);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// A waker that notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn writers_wait_for_a_slow_listener_with_their_entries_in_and_readers_do_not() {
    let held = Held::new();
    let cache = held.cache(1, 0);
    cache.insert_blocking(0, 0);
    thread::scope(|scope| {
        let first = scope.spawn(|| cache.insert_blocking(1, 1));
        let let_go = held.until_at_work();
        // What one takes over from others while its queue is short.
        for key in 2..=SHORT as u32 + 1 {
            assert_eq!(now(cache.insert(key, key)), None, "{key}");
        }
        let last = SHORT as u32 + 2;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut insert = hand(cache.insert(last, last));
        let mut load = hand(cache.get_or_insert_with(last + 1, async || last + 1));
        let removed = last + 2;
        let mut kept = hand(cache.remove(&removed));
        assert!(insert.as_mut().poll(&mut cx).is_pending());
        assert_eq!(cache.get(&last), Some(last), "published before it waits");
        assert!(poll(&mut load).is_pending());
        assert_eq!(now(cache.get_or_insert_with(last + 1, async || 0)), last + 1, "a hit");
        let handle = cache.clone();
        let second = scope.spawn(move || handle.insert_blocking(last + 2, last + 2));
        while !cache.contains_key(&(last + 2)) {
            thread::yield_now();
        }
        assert!(poll(&mut kept).is_pending());
        assert!(!second.is_finished(), "a call for synchronous code blocks its thread");
        assert!(!woken.0.load(Ordering::SeqCst));
        drop(let_go);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (None, None));
        assert!(woken.0.load(Ordering::SeqCst));
        assert_eq!(poll(&mut insert), Poll::Ready(None));
        assert_eq!(poll(&mut load), Poll::Ready(last + 1));
        let heard = held.log.take();
        // Nobody has waited for the one that is not polled any more.
        assert_eq!(heard, Vec::from_iter((0..=last + 1).map(|key| (key, key, Capacity))));
        assert_eq!(poll(&mut kept), Poll::Ready(Some(removed)));
        assert_eq!(held.log.take(), [(removed, removed, Removed)]);
    });
    assert_eq!(cache.validate(), 0);
}

/// A waker that panics when it is woken.
struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic_any(Bang(77));
    }
}

#[test]
fn a_panic_of_the_waker_of_a_writer_that_waits_reaches_the_call_that_delivers_and_wakes_the_others()
{
    silence_panics_on_purpose();
    let held = Held::new();
    let cache = held.cache(1, 0);
    cache.insert_blocking(0, 0);
    let last = SHORT as u32 + 3;
    thread::scope(|scope| {
        let first = scope.spawn(|| bang_of(|| cache.insert_blocking(1, 1)));
        let let_go = held.until_at_work();
        for key in 2..last - 1 {
            assert_eq!(now(cache.insert(key, key)), None);
        }
        let woken = Arc::new(Woken::default());
        let wakers = [Waker::from(Arc::new(PanickingWaker)), Waker::from(Arc::clone(&woken))];
        let mut inserts = [last - 1, last].map(|key| hand(cache.insert(key, key)));
        for (insert, waker) in inserts.iter_mut().zip(&wakers) {
            assert!(insert.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        drop(let_go);
        assert_eq!(first.join().unwrap(), Some(Bang(77)));
        assert!(woken.0.load(Ordering::SeqCst));
        for insert in &mut inserts {
            assert_eq!(poll(insert), Poll::Ready(None));
        }
    });
    assert_eq!(held.log.take(), Vec::from_iter((0..last).map(|key| (key, key, Capacity))));
    assert_eq!(cache.validate(), 0);
}

/// Against (A42) of `docs/reliability.md`.
#[test]
fn values_alive_stay_near_the_bound_however_many_threads_outrun_the_listener() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    struct Value(u32);
    impl Value {
        fn new(number: u32) -> Self {
            let alive = ALIVE.fetch_add(1, Ordering::SeqCst) + 1;
            MOST.fetch_max(alive, Ordering::SeqCst);
            Self(number)
        }
    }
    impl Clone for Value {
        fn clone(&self) -> Self {
            Self::new(self.0)
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    const THREADS: u32 = 4;
    const MAXSIZE: usize = 100;
    let listener = |_, value, _| {
        thread::yield_now();
        drop::<Value>(value);
    };
    let cache = AsyncLru::<u32, Value>::builder().maxsize(MAXSIZE).shards(1).on_remove(listener);
    let cache = cache.build();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let cache = &cache;
            scope.spawn(move || {
                for turn in 0..3_000 {
                    let key = turn * THREADS + thread;
                    match turn % 4 {
                        0 => drop(block_on(cache.insert(key, Value::new(key)))),
                        1 => {
                            drop(block_on(cache.get_or_insert_with(key, async || Value::new(key))))
                        }
                        _ => drop(cache.insert_blocking(key, Value::new(key))),
                    }
                }
            });
        }
    });
    let most = MOST.load(Ordering::SeqCst);
    println!("values alive at most: {most}");
    // Those in the cache, those that wait, and what each thread has in hand.
    assert!(most <= MAXSIZE + SHORT + 8 * THREADS as usize, "{most}");
    assert_eq!(cache.validate(), 0);
    drop(cache);
    assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
}

#[test]
fn one_call_delivers_for_others_only_so_long() {
    let held = Held::new();
    let cache = held.cache(10_000, 0);
    for key in 0..5_000 {
        cache.insert_blocking(key, key);
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| cache.remove_blocking(&0));
        let let_go = held.until_at_work();
        let others = scope.spawn(|| {
            for key in 1..5_000 {
                assert_eq!(cache.remove_blocking(&key), Some(key));
            }
        });
        drop(let_go);
        let id = first.thread().id();
        assert_eq!(first.join().unwrap(), Some(0));
        others.join().unwrap();
        let by_first = held.heard_by.lock().unwrap().iter().filter(|by| **by == id).count();
        println!("delivered by the first: {by_first}");
        assert!(by_first <= 2 * SHORT, "{by_first}");
    });
    let heard = held.log.take();
    assert_eq!(heard, Vec::from_iter((0..5_000).map(|key| (key, key, Removed))));
    assert_eq!(cache.validate(), 0);
}

/// How many entries a caller delivers before it takes none over from others any more.
const TURN: u32 = 64;

#[test]
fn who_has_delivered_for_its_turn_takes_nothing_over_and_leaves_it_to_the_one_who_comes() {
    const LAST: u32 = 100;
    for (key_held, is_taken_over) in [(TURN - 1, true), (TURN, false)] {
        let held = Held::new();
        let cache = held.cache_of(1_000, [0, key_held]);
        for key in 0..=LAST {
            cache.insert_blocking(key, key);
        }
        thread::scope(|scope| {
            let first = scope.spawn(|| cache.remove_blocking(&0));
            let first_id = first.thread().id();
            let let_go = held.until_at_work();
            for key in 1..LAST {
                assert_eq!(now(cache.remove(&key)), Some(key), "taken over at the first delivery");
            }
            drop(let_go);
            let let_go = held.until_at_work();
            // What is left before it is far from too much.
            let mut remove = hand(cache.remove(&LAST));
            let polled = poll(&mut remove);
            assert!(!cache.contains_key(&LAST), "removed before it waits");
            drop(let_go);
            assert_eq!(first.join().unwrap(), Some(0));
            if is_taken_over {
                assert_eq!(polled, Poll::Ready(Some(LAST)));
            } else {
                assert_eq!(polled, Poll::Pending);
                assert_eq!(poll(&mut remove), Poll::Ready(Some(LAST)));
            }
            let by = Vec::from_iter(held.heard_by.lock().unwrap().iter().map(|by| *by == first_id));
            assert!(by[..LAST as usize].iter().all(|is_first| *is_first), "those before it");
            assert_eq!(by[LAST as usize..], [is_taken_over]);
        });
        let heard = held.log.take();
        assert_eq!(heard, Vec::from_iter((0..=LAST).map(|key| (key, key, Removed))));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn calls_of_the_listener_wait_for_nobody_however_many_they_are() {
    let handles = Arc::new(Mutex::new(Vec::<AsyncLru<u32, u32>>::new()));
    let (log, own_handles) = (Log::default(), Arc::clone(&handles));
    let note = log.clone();
    let builder = || {
        let (note, handles) = (note.clone(), Arc::clone(&own_handles));
        AsyncLru::<u32, u32>::builder().maxsize(1).shards(1).on_remove(move |key, value, cause| {
            note.note((key, value, cause));
            if key == 0 {
                // Of this cache and of another one.
                let handles = handles.lock().unwrap().clone();
                for key in 1..=1_000 {
                    for cache in &handles {
                        cache.insert_blocking(key, key);
                        now(cache.insert(key + 1_000, key));
                    }
                }
            }
        })
    };
    let (one, other) = (builder().build(), builder().build());
    handles.lock().unwrap().extend([one.clone(), other.clone()]);
    one.insert_blocking(0, 0);
    assert_eq!(one.remove_blocking(&0), Some(0));
    let heard = log.take();
    assert_eq!(heard.len(), 1 + 2 * 1_999);
    assert_eq!((one.validate(), other.validate()), (0, 0));
    handles.lock().unwrap().clear();
}

/// With a turn of its own each time it is polled.
#[test]
fn a_clear_lets_others_have_the_thread_between_its_reports_and_keeps_them_in_order() {
    const ENTRIES: u32 = 1_000;
    enum Fate {
        Polled,
        Dropped,
        Kept,
    }
    for fate in [Fate::Polled, Fate::Dropped, Fate::Kept] {
        let log = Log::default();
        let cache = log.builder().maxsize(2_000).shards(1).build();
        for key in 0..ENTRIES {
            cache.insert_blocking(key, key);
        }
        let mut expected: Vec<Heard> = (0..ENTRIES).map(|key| (key, key, Cleared)).collect();
        let mut clear = hand(cache.clear());
        assert!(poll(&mut clear).is_pending());
        assert!(cache.is_empty(), "whatever the listener has still before it");
        let heard = log.0.lock().unwrap().len();
        assert!(heard < 2 * SHORT, "{heard} at once");
        match fate {
            Fate::Polled => {
                let mut polls = 1;
                while poll(&mut clear).is_pending() {
                    polls += 1;
                }
                assert!(polls >= 8, "{polls}");
            }
            Fate::Dropped => drop(clear),
            Fate::Kept => {
                // Whoever is behind it delivers for it.
                cache.insert_blocking(1, 7);
                assert_eq!(block_on(cache.remove(&1)), Some(7));
                expected.push((1, 7, Removed));
                assert_eq!(log.take(), expected);
                assert!(poll(&mut clear).is_ready());
                expected.clear();
            }
        }
        assert_eq!(log.take(), expected);
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn a_writer_that_waits_for_a_listener_and_is_dropped_or_leaked_leaves_its_report_to_others() {
    for is_leaked in [false, true] {
        let held = Held::new();
        let cache = held.cache(1, 0);
        cache.insert_blocking(0, 0);
        thread::scope(|scope| {
            let first = scope.spawn(|| cache.insert_blocking(1, 1));
            let let_go = held.until_at_work();
            for key in 2..300 {
                let mut insert = hand(cache.insert(key, key));
                assert_eq!(poll(&mut insert).is_pending(), key as usize > SHORT + 1);
                if is_leaked {
                    std::mem::forget(insert);
                }
            }
            drop(let_go);
            first.join().unwrap();
        });
        cache.insert_blocking(300, 300);
        let heard = held.log.take();
        assert_eq!(heard, Vec::from_iter((0..300).map(|key| (key, key, Capacity))));
        assert_eq!(cache.validate(), 0);
    }
}

// Several threads.

#[test]
fn every_entry_of_several_threads_is_reported_once_and_those_of_one_key_in_their_order() {
    const THREADS: u32 = 4;
    const TURNS: u32 = 3_000;
    for shards in [1, 4] {
        let log = Log::default();
        let cache = log.builder().maxsize(6).shards(shards).build();
        // Which value came after which, by key, where the call has told.
        let followers = Mutex::new(BTreeMap::new());
        let all_inserted = Mutex::new(Vec::new());
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (cache, followers, start) = (&cache, &followers, &start);
                let all_inserted = &all_inserted;
                scope.spawn(move || {
                    start.wait();
                    let (mut inserted, mut own) = (Vec::new(), Vec::new());
                    for turn in 0..TURNS {
                        let value = thread * TURNS + turn;
                        let key = turn / 2 * 7 % 10;
                        match turn % 50 {
                            17 => cache.clear_blocking(),
                            23 => {
                                cache.invalidate_if_blocking(|key, _| key % 3 == 0);
                            }
                            n if n % 5 == 3 => {
                                cache.remove_blocking(&key);
                            }
                            n if n % 5 == 4 => {
                                block_on(cache.get_or_insert_with(key, async || value));
                            }
                            _ => {
                                let old = cache.insert_blocking(key, value);
                                inserted.push(value);
                                own.extend(old.map(|old| ((key, old), value)));
                            }
                        }
                    }
                    followers.lock().unwrap().extend(own);
                    all_inserted.lock().unwrap().extend(inserted);
                });
            }
        });
        assert_eq!(cache.validate(), 0);
        let heard = log.take();
        let mut seen: Vec<u32> = heard.iter().map(|(_, value, _)| *value).collect();
        seen.extend(cache.snapshot().into_iter().map(|(_, value)| value));
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "no entry is reported twice, nor while it is there");
        let mut all_inserted = all_inserted.into_inner().unwrap();
        all_inserted.retain(|value| seen.binary_search(value).is_err());
        assert!(all_inserted.is_empty(), "lost: {all_inserted:?}");
        let stats = cache.stats();
        // Since the last clear, everything that was evicted was reported so.
        let evicted = heard.iter().filter(|(.., cause)| *cause == Capacity).count() as u64;
        assert!(evicted >= stats.evictions && evicted > 0);

        // What came right after an entry of the same key leaves right after it.
        let mut last = BTreeMap::new();
        let followers = followers.into_inner().unwrap();
        assert!(followers.len() > 100);
        for (key, value, cause) in heard {
            // A load that a write or a sweep wins over never was an entry.
            if cause == Rejected {
                assert!(!followers.contains_key(&(key, value)));
                continue;
            }
            if let Some(expected) = last.insert(key, followers.get(&(key, value))).flatten() {
                assert_eq!(value, *expected, "{cause}");
            }
            assert_eq!(followers.contains_key(&(key, value)), cause == Replaced);
        }
    }
}

#[test]
fn a_cause_says_its_name() {
    let names = [Expired, Capacity, Removed, Replaced, Cleared].map(|cause| cause.to_string());
    assert_eq!(names, ["expired", "capacity", "removed", "replaced", "cleared"]);
    assert_eq!(format!("[{Expired:>9}] {Cleared:?}"), "[  expired] Cleared");
}
