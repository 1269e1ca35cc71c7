//! The memory that the cache takes, as its estimate has it and as an allocator counts it.

mod common;
#[path = "common/counting.rs"]
mod counting;

use async_lru::{AsyncLru, Builder, DeepSize, Equivalent, Eviction, ManualClock};
use common::{Calls, hand, now, poll};
use counting::{allocations, live};
use futures_lite::future::block_on;
use std::fmt::Debug;
use std::future::pending;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A cache with what was live before it.
struct Counted<K, V> {
    cache: AsyncLru<K, V>,
    before: usize,
}

impl<K, V> Counted<K, V> {
    fn new(build: impl FnOnce() -> AsyncLru<K, V>) -> Self {
        // What a process or a thread allocates once is not the cache's.
        AsyncLru::<u8, u8>::new(1).get(&1);
        let before = live();
        Self { cache: build(), before }
    }

    fn live(&self) -> usize {
        live().wrapping_sub(self.before)
    }

    /// Asserts that the estimate is within 5 % of what is live because of the cache.
    #[track_caller]
    fn check(&self, when: impl Debug) {
        let live = self.live();
        let estimate = self.cache.stats().total_size_in_memory_bytes as usize;
        let ratio = estimate as f64 / live as f64;
        assert!(
            (0.95..=1.05).contains(&ratio),
            "{when:?}, {} entries: estimated {estimate}, counted {live}: {ratio:.3}",
            self.cache.len()
        );
    }
}

/// Fills caches of several makes beyond their capacity and empties them again, checking on the way.
fn follow<K, V>(key: impl Fn(usize) -> K, value: impl Fn(usize) -> V)
where
    K: Hash + Eq + Clone + DeepSize,
    V: Clone + DeepSize,
{
    type Make<K, V> = fn(Builder<K, V>) -> Builder<K, V>;
    let makes: [(&str, Make<K, V>); 6] = [
        ("one shard", |builder| builder.shards(1)),
        ("sixteen shards", |builder| builder.shards(16)),
        ("the default", |builder| builder),
        ("with a time to live", |builder| {
            builder.ttl(Duration::from_secs(1)).clock(ManualClock::new())
        }),
        ("with a time to idle", |builder| {
            builder.time_to_idle(Duration::from_secs(1)).clock(ManualClock::new())
        }),
        ("in an adaptive order", |builder| builder.eviction(Eviction::Adaptive)),
    ];
    for (name, make) in makes {
        for maxsize in [1_000, 10_000] {
            let counted = Counted::new(|| {
                make(AsyncLru::<K, V>::builder().maxsize(maxsize).deep_size()).build()
            });
            let cache = &counted.cache;
            let when = |what: &'static str| (name, maxsize, what);
            for n in 0..maxsize / 2 {
                cache.insert_blocking(key(n), value(n));
            }
            counted.check(when("half full"));
            for n in maxsize / 2..maxsize * 2 {
                now(cache.get_or_insert_with(key(n), async || value(n)));
            }
            assert_eq!(cache.len(), maxsize);
            counted.check(when("filled beyond its capacity"));
            for key in cache.keys() {
                cache.insert_blocking(key, value(7));
            }
            counted.check(when("with other values"));
            for key in cache.keys().iter().take(maxsize / 2) {
                cache.remove_blocking(key);
            }
            counted.check(when("half emptied"));
            for key in cache.keys() {
                cache.remove_blocking(&key);
            }
            counted.check(when("emptied"));
            for n in 0..maxsize * 2 {
                cache.insert_blocking(key(n), value(n));
            }
            counted.check(when("full again"));
            let full = cache.stats().total_size_in_memory_bytes;
            cache.clear_blocking();
            assert!(cache.stats().total_size_in_memory_bytes < full / 4);
        }
    }
}

#[test]
fn the_estimate_is_within_5_percent_for_an_empty_cache() {
    for shards in [1, 16] {
        let counted = Counted::new(|| AsyncLru::<u64, u64>::builder().shards(shards).build());
        counted.check((shards, "new"));
        for key in 0..2_000 {
            counted.cache.insert_blocking(key, key);
        }
        counted.cache.clear_blocking();
        counted.check((shards, "cleared"));
    }
}

#[test]
fn the_estimate_is_within_5_percent_when_a_value_comes_with_a_smaller_key() {
    let counted = Counted::new(|| AsyncLru::<String, u64>::builder().deep_size().build());
    let mut roomy = String::with_capacity(1 << 20);
    roomy.push('a');
    counted.cache.insert_blocking(roomy, 1);
    counted.check("a roomy key");
    counted.cache.insert_blocking("a".to_owned(), 2);
    counted.check("an equal one that is smaller");
}

#[test]
fn the_estimate_is_within_5_percent_for_numbers_to_strings() {
    follow(|n| n as u64, |n| "x".repeat(20 + n % 100));
}

#[test]
fn the_estimate_is_within_5_percent_for_strings_to_bytes() {
    // A clone of such a key is no smaller than the key.
    let key = |n| format!("key number {n}").into_boxed_str().into_string();
    follow(key, |n| Vec::<u8>::with_capacity(n % 300));
}

#[test]
fn the_estimate_is_within_5_percent_for_numbers_to_numbers() {
    follow(|n| n as u64, |n| n as u64);
}

#[test]
fn the_estimate_is_within_5_percent_for_small_keys_and_large_values() {
    follow(|n| n as u16, |n| [n as u64; 40]);
}

#[test]
fn without_a_measure_the_estimate_leaves_out_what_entries_own() {
    let counted = Counted::new(|| AsyncLru::<u64, Box<[u8; 100]>>::new(10_000));
    for n in 0..15_000 {
        counted.cache.insert_blocking(n, Box::new([0; 100]));
    }
    let owned = 10_000 * 100;
    let estimate = counted.cache.stats().total_size_in_memory_bytes as usize;
    let ratio = estimate as f64 / (counted.live() - owned) as f64;
    assert!((0.95..=1.05).contains(&ratio), "{ratio:.3}");
}

#[test]
fn the_estimate_is_within_5_percent_while_loads_are_in_flight() {
    for loads in [1, 200, 20_000] {
        let counted = Counted::new(|| AsyncLru::<u64, u64>::builder().shards(1).build());
        let before = live();
        let mut loads: Vec<_> =
            (0..loads).map(|n| hand(counted.cache.get_or_insert_with(n, pending))).collect();
        let futures = live() - before;
        for load in &mut loads {
            assert!(poll(load).is_pending());
        }
        let live = counted.live() - futures;
        let estimate = counted.cache.stats().total_size_in_memory_bytes as usize;
        let ratio = estimate as f64 / live as f64;
        assert!((0.95..=1.05).contains(&ratio), "{estimate} of {live}: {ratio:.3}");
    }
}

/// Asserts that the estimate grows by just as many bytes as `work` allocates, and returns how many.
#[track_caller]
fn growth<K, V>(counted: &Counted<K, V>, work: impl FnOnce(&AsyncLru<K, V>)) -> usize {
    let estimate = || counted.cache.stats().total_size_in_memory_bytes as usize;
    let before = (counted.live(), estimate());
    work(&counted.cache);
    let grown = counted.live() - before.0;
    assert_eq!(estimate() - before.1, grown);
    grown
}

#[test]
fn the_estimate_counts_what_lifetimes_of_every_length_take() {
    let clock = ManualClock::new();
    let counted = Counted::new(|| {
        let builder = AsyncLru::<u64, u64>::builder().shards(1).clock(clock);
        builder.expiry(|_, nanos| (*nanos > 0).then(|| Duration::from_nanos(*nanos))).build()
    });
    for key in 0..4 {
        counted.cache.insert_blocking(key, 0);
    }
    for (key, lifetime) in [(3, 1 << 60), (0, 1 << 30), (1, 1 << 10), (2, 1)] {
        let grown =
            growth(&counted, |cache| assert_eq!(cache.insert_blocking(key, lifetime), Some(0)));
        assert!(grown > 0, "for one of {lifetime} ns");
    }
    let again = growth(&counted, |cache| assert!(cache.insert_blocking(2, 1).is_some()));
    assert_eq!(again, 0);
}

#[test]
fn the_estimate_counts_what_it_takes_to_tell_weights_of_nothing_apart() {
    let counted = Counted::new(|| {
        AsyncLru::<u64, u64>::builder().shards(1).max_weight(u64::MAX, |_, value| *value).build()
    });
    for key in 0..4 {
        counted.cache.insert_blocking(key, 1);
    }
    let lighter = growth(&counted, |cache| assert_eq!(cache.insert_blocking(3, 0), Some(1)));
    assert!(lighter > 0);
    let heavier = growth(&counted, |cache| assert_eq!(cache.insert_blocking(3, 1), Some(0)));
    assert_eq!(heavier, 0);
}

#[test]
fn the_estimate_counts_what_many_reads_take() {
    let counted = Counted::new(|| AsyncLru::<u64, u64>::builder().shards(64).build());
    counted.cache.insert_blocking(1, 10);
    let read = |cache: &AsyncLru<u64, u64>| {
        (0..1_000).for_each(|_| assert_eq!(cache.get(&1), Some(10)));
    };
    // A cache line for each shard.
    assert_eq!(growth(&counted, read), 4_096);
    assert_eq!(growth(&counted, read), 0);
    // Another thread has lines of its own, and of what two threads read, each keeps notes.
    let estimate = |cache: &AsyncLru<u64, u64>| cache.stats().total_size_in_memory_bytes;
    let before = estimate(&counted.cache);
    thread::scope(|scope| scope.spawn(|| read(&counted.cache)).join().unwrap());
    assert!((4_096 + 1..2 * 4_096).contains(&(estimate(&counted.cache) - before)));
}

/// What takes out all entries but ten, which have no lifetime; returns how many.
type Way = fn(&AsyncLru<u64, u64>, &ManualClock) -> usize;

/// The lifetime of those that may expire.
const TTL: Duration = Duration::from_secs(1);

const WAYS: [(&str, Way); 11] = [
    ("a lowered bound", |cache, _| block_on(cache.set_maxsize(10))),
    ("a lowered bound, blocking", |cache, _| cache.set_maxsize_blocking(10)),
    ("a lowered bound by weight", |cache, _| block_on(cache.set_max_weight(10))),
    ("a lowered bound by weight, blocking", |cache, _| cache.set_max_weight_blocking(10)),
    ("a lowered bound by bytes", |cache, _| block_on(cache.set_max_bytes(160))),
    ("a lowered bound by bytes, blocking", |cache, _| cache.set_max_bytes_blocking(160)),
    ("a purge", |cache, clock| {
        clock.advance(TTL);
        block_on(cache.purge_expired())
    }),
    ("a purge, blocking", |cache, clock| {
        clock.advance(TTL);
        cache.purge_expired_blocking()
    }),
    ("a janitor", |cache, clock| {
        clock.advance(TTL);
        let mut janitor = hand(cache.janitor(|_| pending::<()>()));
        // Each poll takes out some.
        (0..1_000).for_each(|_| assert!(poll(&mut janitor).is_pending()));
        cache.stats().expirations as usize
    }),
    ("a sweep", |cache, _| block_on(cache.invalidate_if(|key, _| *key >= 10))),
    ("a sweep, blocking", |cache, _| cache.invalidate_if_blocking(|key, _| *key >= 10)),
];

#[test]
fn what_leaves_few_entries_gives_back_the_memory_of_the_others() {
    let make = |(shards, eviction), clock: &ManualClock| {
        let counted = Counted::new(|| {
            let builder = AsyncLru::<u64, u64>::builder().shards(shards).maxsize(100_000);
            let builder = builder.max_weight(100_000, |_, _| 1).max_bytes(10_000_000);
            builder.eviction(eviction).clock(clock.clone()).build()
        });
        for key in 0..10 {
            counted.cache.insert_blocking(key, key);
        }
        counted
    };
    let sizes = |counted: &Counted<u64, u64>| {
        [counted.live(), counted.cache.stats().total_size_in_memory_bytes as usize]
    };
    for kind in [(1, Eviction::Lru), (16, Eviction::Lru), (1, Eviction::Adaptive)] {
        let few = sizes(&make(kind, &ManualClock::new()));
        for (way, take_out) in WAYS {
            let clock = ManualClock::new();
            let counted = make(kind, &clock);
            let cache = &counted.cache;
            for key in 10..20_000 {
                cache.insert_with_ttl_blocking(key, key, TTL);
            }
            (0..10).for_each(|key| assert_eq!(cache.get(&key), Some(key)));
            let many = sizes(&counted);
            assert_eq!(take_out(cache, &clock), 19_990, "{way}");
            assert_eq!((cache.len(), cache.validate()), (10, 0), "{way}");
            let left = sizes(&counted);
            // A few lists of deadlines may be among it.
            let is_little = left.iter().zip(few).all(|(left, few)| *left < few + few / 10);
            assert!(is_little, "{way}: {left:?} bytes of {many:?}; ten alone take {few:?}");
            counted.check(way);
        }
    }
}

#[test]
fn a_shared_value_counts_once_for_each_entry_that_holds_it() {
    let cache = AsyncLru::<u64, Arc<Vec<u8>>>::builder().deep_size().build();
    let shared = Arc::new(vec![0; 1 << 20]);
    for key in 0..10 {
        cache.insert_blocking(key, Arc::clone(&shared));
    }
    let megabytes = cache.stats().total_size_in_memory_bytes >> 20;
    assert_eq!(megabytes, 10);
}

#[test]
fn a_cache_that_is_dropped_leaves_nothing_behind() {
    let counted = Counted::new(|| {
        AsyncLru::<u64, String>::builder().ttl(Duration::from_secs(1)).deep_size().build()
    });
    for n in 0..5_000 {
        now(counted.cache.get_or_insert_with(n, async || n.to_string()));
    }
    let Counted { cache, before } = counted;
    drop(cache);
    assert_eq!(live(), before);
}

/// Against (A30) of `docs/reliability.md`.
#[test]
fn a_burst_of_loads_leaves_no_memory_behind() {
    let counted = Counted::new(|| AsyncLru::<u64, u64>::builder().maxsize(0).build());
    let idle = counted.live();
    let mut loads: Vec<_> =
        (0..20_000).map(|n| hand(counted.cache.get_or_insert_with(n, pending))).collect();
    for load in &mut loads {
        assert!(poll(load).is_pending());
    }
    drop(loads);
    now(counted.cache.get_or_insert_with(1, async || 1));
    // A stripe of counters may have come.
    assert!(counted.live() < idle + 64 * 1024, "{} and {idle}", counted.live());
}

/// Against (A36) of `docs/reliability.md`.
#[test]
fn a_large_bound_allocates_nothing_in_advance() {
    for (maxsize, shards) in [(usize::MAX, 1), (usize::MAX, usize::MAX), (1 << 20, 0)] {
        let counted = Counted::new(|| {
            let builder = AsyncLru::<u64, [u64; 100]>::builder().maxsize(maxsize).shards(shards);
            builder.ttl(Duration::MAX).deep_size().build()
        });
        let live = counted.live();
        assert!(live < 1 << 20, "{live} bytes for at most {maxsize} entries in {shards} shards");
    }
}

/// A `(String, u32)` in parts.
#[derive(Hash)]
struct Pair<'a>(&'a str, u32);

impl Equivalent<(String, u32)> for Pair<'_> {
    fn equivalent(&self, key: &(String, u32)) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

#[test]
fn a_hit_allocates_nothing() {
    let cache = AsyncLru::<(String, u32), u64>::builder().ttl(Duration::from_secs(60)).build();
    let key = ("a".to_owned(), 1);
    cache.insert_blocking(key.clone(), 10);
    let read = || {
        assert_eq!(cache.get(&key), Some(10));
        assert_eq!(cache.get(&Pair("a", 1)), Some(10));
        assert_eq!(cache.get(&Pair("b", 1)), None);
        assert_eq!(cache.peek(&Pair("a", 1)), Some(10));
        assert!(cache.contains_key(&Pair("a", 1)));
        assert_eq!(now(cache.get_or_insert_with_ref(&key, async || unreachable!())), 10);
        let unused = async || -> Result<u64, String> { unreachable!() };
        assert_eq!(now(cache.get_or_insert_own_ref(&key, unused)), Ok(10));
        assert_eq!(now(cache.try_get_or_insert_with_ref(&key, unused)), Ok(10));
    };
    read();
    assert_eq!(allocations(read), 0);
    let owned = key.clone();
    let read = || assert_eq!(now(cache.get_or_insert_with(owned, async || unreachable!())), 10);
    assert_eq!(allocations(read), 0);

    // Nor the key of a flight where entries are looked at, which is shared with the leader.
    let cache = AsyncLru::<u64, u64>::builder().max_weight(u64::MAX, |_, value| *value).build();
    cache.insert_blocking(1, 10);
    let read = || assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!())), 10);
    assert_eq!(allocations(read), 0);
}

/// Bytes that remain on a thread of its own after it has polled the load of a batch for so many keys.
fn left_by_a_poll_of_a_batch(keys: u32) -> usize {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(10_000).build();
    let has_started = AtomicBool::new(false);
    let load = async |_| -> Vec<(u32, u32)> {
        has_started.store(true, Ordering::Relaxed);
        pending().await
    };
    let mut batch = Box::pin(cache.get_or_insert_many(0..keys, load));
    // It gives the thread back on its way to so many keys.
    while !has_started.load(Ordering::Relaxed) {
        assert!(poll(&mut batch).is_pending());
    }
    std::thread::scope(|scope| {
        let polls = scope.spawn(|| {
            let before = live();
            assert!(poll(&mut batch).is_pending());
            live().wrapping_sub(before)
        });
        polls.join().unwrap()
    })
}

#[test]
fn a_poll_of_the_load_of_a_batch_takes_the_same_memory_for_any_number_of_keys() {
    let few = left_by_a_poll_of_a_batch(1);
    for keys in [100, 1_000] {
        assert_eq!(left_by_a_poll_of_a_batch(keys), few, "{keys} keys");
    }
}

#[test]
fn polling_the_load_of_a_batch_again_allocates_nothing() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(10_000).build();
    let has_started = AtomicBool::new(false);
    let load = async |_| -> Vec<(u32, u32)> {
        has_started.store(true, Ordering::Relaxed);
        pending().await
    };
    let mut batch = hand(cache.get_or_insert_many(0..10_000, load));
    while !has_started.load(Ordering::Relaxed) {
        assert!(poll(&mut batch).is_pending());
    }
    let again = || (0..100).for_each(|_| assert!(poll(&mut batch).is_pending()));
    assert_eq!(allocations(again), 0);
}

#[test]
fn a_miss_that_nobody_waits_for_allocates_nothing() {
    let cache = AsyncLru::<u64, u64>::builder().maxsize(0).build();
    let load = |key| assert_eq!(now(cache.get_or_insert_with(key, async || key)), key);
    // What the cache keeps for each thread is made once.
    (0..1_000).for_each(load);
    assert_eq!(allocations(|| (1_000..2_000).for_each(load)), 0);
}

#[test]
fn a_failed_load_that_nobody_waits_for_allocates_nothing() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let fail = |key| {
        now(cache.get_or_insert_own(key, async || Err(key))).unwrap_err();
    };
    (0..1_000).for_each(fail);
    assert_eq!(allocations(|| (1_000..2_000).for_each(fail)), 0);
}

#[test]
fn statistics_allocate_no_more_than_their_text() {
    let cache = AsyncLru::<u64, u64>::new(100_000);
    for key in 0..50_000 {
        cache.insert_blocking(key, key);
    }
    let read = || drop(cache.stats());
    read();
    assert!(allocations(read) <= 4);
}

/// Entries of a cache, each of which takes so many bytes more at most if hot ones are told from cold ones.
const MANY: u64 = 250_000;
const MORE_EACH: f64 = 13.0;

/// Bytes that a full cache takes in which entries have been evicted.
fn taken_when_full(eviction: Eviction, shards: Option<usize>) -> usize {
    let counted = Counted::new(|| {
        let builder = AsyncLru::<u64, u64>::builder().maxsize(MANY as usize).eviction(eviction);
        shards.into_iter().fold(builder, Builder::shards).build()
    });
    // Some come back, and hot ones leave for them.
    for key in (0..MANY + MANY / 4).chain(0..MANY / 8).chain(MANY..MANY + MANY / 4) {
        if counted.cache.get(&key).is_none() {
            counted.cache.insert_blocking(key, key);
        }
    }
    assert_eq!(counted.cache.len(), MANY as usize);
    counted.check((eviction, shards));
    counted.live()
}

#[test]
fn the_adaptive_order_takes_few_bytes_more_of_each_entry() {
    for shards in [None, Some(1)] {
        let [lru, adaptive] =
            [Eviction::Lru, Eviction::Adaptive].map(|order| taken_when_full(order, shards));
        let each = (adaptive as f64 - lru as f64) / MANY as f64;
        println!("{shards:?}: {each:.2} bytes more each");
        assert!((0.0..=MORE_EACH).contains(&each), "{each:.2} bytes more each");
    }
}

#[test]
fn the_estimate_is_within_5_percent_where_hot_entries_are_told_from_cold_ones() {
    for shards in [1, 16] {
        let counted = Counted::new(|| {
            let builder = AsyncLru::<u64, u64>::builder().maxsize(10_000).shards(shards);
            builder.eviction(Eviction::Adaptive).build()
        });
        let cache = &counted.cache;
        counted.check((shards, "new"));
        (0..5_000).for_each(|key| _ = cache.insert_blocking(key, key));
        counted.check((shards, "half full"));
        (0..30_000).for_each(|key| _ = cache.insert_blocking(key, key));
        counted.check((shards, "filled beyond its capacity"));
        cache.set_maxsize_blocking(100);
        counted.check((shards, "with few left"));
        cache.set_maxsize_blocking(10_000);
        (0..30_000).for_each(|key| _ = cache.insert_blocking(key, key));
        counted.check((shards, "full again"));
        cache.clear_blocking();
        counted.check((shards, "cleared"));
    }
}

#[test]
fn what_comes_and_leaves_without_end_takes_no_more_memory_of_the_adaptive_order() {
    let counted = Counted::new(|| {
        let builder = AsyncLru::<u64, u64>::builder().maxsize(1_000).shards(1);
        builder.eviction(Eviction::Adaptive).build()
    });
    let come_and_leave = |keys: std::ops::Range<u64>| {
        for key in keys {
            counted.cache.insert_blocking(key, key);
            // Hot ones and cold ones, old ones and new ones.
            counted.cache.remove_blocking(&(key - key % 3 * 100));
        }
    };
    // By then the table has grown, once and for all, for want of places that were never used.
    come_and_leave(1_000..200_000);
    let before = counted.live();
    come_and_leave(200_000..400_000);
    assert_eq!(counted.live(), before);
}
