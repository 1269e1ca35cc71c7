//! The adaptive order of eviction: what it keeps, what it costs, and that it goes with everything else.

mod common;
#[path = "common/traffic.rs"]
mod traffic;

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Eviction, ManualClock, RemovalCause, Update};
use common::{Calls, now};

/// The same hash in every cache: of some thousands of keys, one or another is taken for one that has left, and
/// it is the same ones in each run.
type Fixed = BuildHasherDefault<DefaultHasher>;

type Cache = AsyncLru<u32, u64, Fixed>;

const SECOND: Duration = Duration::from_secs(1);

fn builder() -> Builder<u32, u64, Fixed> {
    AsyncLru::builder().hasher(Fixed::default())
}

fn adaptive() -> Builder<u32, u64, Fixed> {
    builder().shards(1).eviction(Eviction::Adaptive)
}

/// The part of requests that a cache in one shard answers without a load.
fn hit_ratio(eviction: Eviction, maxsize: usize, shards: usize, requests: &[u32]) -> f64 {
    let builder = AsyncLru::<u32, ()>::builder().maxsize(maxsize).shards(shards);
    let cache = builder.eviction(eviction).build();
    for key in requests {
        if cache.get(key).is_none() {
            cache.insert_blocking(*key, ());
        }
    }
    assert_eq!((cache.validate(), cache.len()), (0, maxsize));
    cache.stats().hits as f64 / requests.len() as f64
}

#[test]
fn it_keeps_what_simulation_says_of_every_kind_of_traffic() {
    for ((name, make), (lru, adaptive)) in traffic::KINDS.into_iter().zip(SIMULATED) {
        let requests = make();
        let measured = [Eviction::Lru, Eviction::Adaptive]
            .map(|eviction| hit_ratio(eviction, 1_000, 1, &requests));
        println!("{name}: {measured:.3?}, simulated {lru} {adaptive}");
        assert!((measured[0] - lru).abs() < 0.002, "{name}: {measured:?}");
        assert!((measured[1] - adaptive).abs() < 0.015, "{name}: {measured:?}");
    }
}

/// Of each kind the ratios of least recently used and of adaptive in the simulation that the policy comes from.
const SIMULATED: [(f64, f64); 6] =
    [(0.671, 0.735), (0.0, 0.482), (0.413, 0.489), (0.499, 0.494), (0.661, 0.662), (0.213, 0.404)];

#[test]
fn it_answers_more_requests_of_a_web_server() {
    let requests = traffic::web07();
    let measured = [Eviction::Lru, Eviction::Adaptive]
        .map(|eviction| hit_ratio(eviction, 2_048, 1, &requests));
    println!("{measured:.4?}");
    assert!((measured[0] - 0.557).abs() < 0.001, "{measured:?}");
    assert!((measured[1] - 0.579).abs() < 0.005, "{measured:?}");
}

#[test]
fn several_shards_are_hardly_worse_than_one() {
    let requests = &traffic::KINDS[0].1()[..100_000];
    let [one, sixteen] =
        [1, 16].map(|shards| hit_ratio(Eviction::Adaptive, 1_024, shards, requests));
    println!("{one:.3} and {sixteen:.3}");
    assert!((one - sixteen).abs() < 0.02, "{one} and {sixteen}");
}

/// A full cache of a hundred entries with keys below that, about ninety-five of them hot, which nobody has used.
fn full() -> Cache {
    filled(adaptive().maxsize(100))
}

fn filled(builder: Builder<u32, u64, Fixed>) -> Cache {
    let cache = builder.build();
    (0..100).for_each(|key| _ = cache.insert_blocking(key, 1));
    assert_eq!((cache.len(), cache.validate()), (100, 0));
    cache
}

/// Has so many keys come that were never there before and are never used.
fn scan(cache: &Cache, keys: u32) {
    let first = 1_000_000 + cache.stats().evictions as u32;
    (first..first + keys).for_each(|key| _ = cache.insert_blocking(key, 1));
    assert_eq!(cache.validate(), 0);
}

/// How many of the keys below this one are there.
fn count_below(cache: &Cache, end: u32) -> usize {
    cache.keys().into_iter().filter(|key| *key < end).count()
}

/// Another key than those of a scan and of a full cache.
const KEY: u32 = 500;

/// Tells whether the entry of the key that has just come, or come and been used, is hot.
fn is_hot(cache: &Cache) -> bool {
    assert!(cache.contains_key(&KEY));
    // Each of five cold ones goes through the queue twice, at most.
    scan(cache, 20);
    cache.contains_key(&KEY)
}

type Way = (&'static str, fn(&Cache));

const WAYS_TO_USE: [Way; 11] = [
    ("get", |cache| assert!(cache.get(&KEY).is_some())),
    ("get_many", |cache| assert!(cache.get_many([&KEY])[0].is_some())),
    ("get_or_insert_with", |cache| {
        now(cache.get_or_insert_with(KEY, async || unreachable!()));
    }),
    ("get_or_insert_with_ref", |cache| {
        now(cache.get_or_insert_with_ref(&KEY, async || unreachable!()));
    }),
    ("get_or_insert_many", |cache| {
        let load = async |_| -> Vec<(u32, u64)> { unreachable!() };
        assert_eq!(now(cache.get_or_insert_many([KEY], load)), [(KEY, Some(1))]);
    }),
    ("entry", |cache| {
        now(cache.entry(KEY).or_insert_with(async || unreachable!()));
    }),
    ("detached", |cache| {
        now(cache.get_detached(KEY, async || unreachable!()));
    }),
    ("update_with", |cache| {
        now(cache.update_with(KEY, async |_| Update::Keep));
    }),
    ("insert", |cache| assert!(cache.insert_blocking(KEY, 1).is_some())),
    ("insert_many", |cache| cache.insert_many_blocking([(KEY, 1)])),
    ("refresh", |cache| {
        now(cache.refresh(KEY, async || 1));
    }),
];

#[test]
fn an_entry_that_was_used_twice_while_it_was_cold_is_hot_whatever_the_use() {
    for (name, use_it) in WAYS_TO_USE {
        let cache = full();
        cache.insert_blocking(KEY, 1);
        use_it(&cache);
        use_it(&cache);
        assert!(is_hot(&cache), "{name}");
    }
}

#[test]
fn an_entry_that_was_used_once_is_not() {
    for (name, use_it) in WAYS_TO_USE {
        let cache = full();
        cache.insert_blocking(KEY, 1);
        use_it(&cache);
        assert!(!is_hot(&cache), "{name}");
    }
    // Nor is one that was used once in each of its turns.
    let cache = full();
    cache.insert_blocking(KEY, 1);
    cache.get(&KEY);
    // The four that came before it leave, and one that came after it.
    scan(&cache, 5);
    for _ in 0..10 {
        cache.get(&KEY);
        scan(&cache, 4);
        assert!(cache.contains_key(&KEY));
    }
    scan(&cache, 4);
    assert!(!cache.contains_key(&KEY));
}

#[test]
fn what_looks_at_an_entry_without_using_it_does_not_make_it_hot() {
    let ways: [Way; 6] = [
        ("peek", |cache| assert!(cache.peek(&KEY).is_some())),
        ("contains_key", |cache| assert!(cache.contains_key(&KEY))),
        ("keys", |cache| drop(cache.keys())),
        ("snapshot", |cache| drop(cache.snapshot())),
        ("stats", |cache| drop((cache.stats(), cache.info()))),
        ("invalidate_if", |cache| assert_eq!(cache.invalidate_if_blocking(|_, _| false), 0)),
    ];
    for (name, look) in ways {
        let cache = full();
        cache.insert_blocking(KEY, 1);
        (0..4).for_each(|_| look(&cache));
        assert!(!is_hot(&cache), "{name}");
    }
}

const WAYS_TO_BRING: [Way; 12] = [
    ("insert", |cache| _ = cache.insert_blocking(KEY, 1)),
    ("insert_many", |cache| cache.insert_many_blocking([(KEY, 1)])),
    ("insert_with_ttl", |cache| {
        assert_eq!(cache.insert_with_ttl_blocking(KEY, 1, SECOND), None);
    }),
    ("get_or_insert_with", |cache| {
        now(cache.get_or_insert_with(KEY, async || 1));
    }),
    ("get_or_insert_with_ref", |cache| {
        now(cache.get_or_insert_with_ref(&KEY, async || 1));
    }),
    ("get_or_insert_many", |cache| {
        now(cache.get_or_insert_many([KEY], async |_| [(KEY, 1)]));
    }),
    ("entry", |cache| {
        now(cache.entry(KEY).or_insert_with(async || 1));
    }),
    ("detached", |cache| {
        now(cache.get_detached(KEY, async || 1));
    }),
    ("update_with", |cache| {
        now(cache.update_with(KEY, async |_| Update::Put(1)));
    }),
    ("writing", |cache| now(cache.writing(&KEY).insert(1))),
    ("writing_owned", |cache| now(cache.writing_owned(KEY).insert(1))),
    ("refresh", |cache| {
        now(cache.refresh(KEY, async || 1));
    }),
];

#[test]
fn an_entry_that_is_new_to_a_full_cache_is_cold_however_it_comes() {
    for (name, bring) in WAYS_TO_BRING {
        for builder in [adaptive(), adaptive().without_single_flight()] {
            let cache = filled(builder.maxsize(100));
            bring(&cache);
            assert!(!is_hot(&cache), "{name}");
            assert!(count_below(&cache, 100) >= 95, "{name}: a scan takes what is cold");
        }
    }
}

#[test]
fn an_entry_that_comes_back_soon_after_it_was_evicted_is_hot_however_it_comes() {
    for (name, bring) in WAYS_TO_BRING {
        let cache = full();
        cache.insert_blocking(KEY, 1);
        assert!(!is_hot(&cache));
        bring(&cache);
        assert!(is_hot(&cache), "{name}");
    }
}

#[test]
fn an_entry_that_has_left_otherwise_leaves_no_trace() {
    type Way = (&'static str, fn(&Cache, &ManualClock));
    let ways: [Way; 9] = [
        ("remove", |cache, _| assert!(cache.remove_blocking(&KEY).is_some())),
        ("invalidate", |cache, _| assert!(cache.invalidate_blocking(&KEY))),
        ("invalidate_if", |cache, _| {
            assert_eq!(cache.invalidate_if_blocking(|key, _| *key == KEY), 1);
        }),
        ("update_with", |cache, _| {
            now(cache.update_with(KEY, async |_| Update::Remove));
        }),
        ("writing", |cache, _| drop(cache.writing(&KEY))),
        ("limit_ttl", |cache, _| {
            assert!(cache.limit_ttl_blocking(Duration::ZERO) > 0);
            (0..100).for_each(|key| _ = cache.insert_blocking(key, 1));
        }),
        ("clear", |cache, _| {
            cache.clear_blocking();
            (0..100).for_each(|key| _ = cache.insert_blocking(key, 1));
        }),
        ("its time", |cache, clock| {
            cache.set_ttl_blocking(&KEY, SECOND);
            clock.advance(SECOND);
            scan(cache, 1);
        }),
        ("a purge", |cache, clock| {
            cache.set_ttl_blocking(&KEY, SECOND);
            clock.advance(SECOND);
            assert_eq!(cache.purge_expired_blocking(), 1);
        }),
    ];
    for (name, take_out) in ways {
        let clock = ManualClock::new();
        let cache = filled(adaptive().maxsize(100).clock(clock.clone()));
        // There is something to judge by.
        scan(&cache, 10);
        cache.insert_blocking(KEY, 1);
        take_out(&cache, &clock);
        assert!(!cache.contains_key(&KEY), "{name}");
        scan(&cache, 5);
        cache.insert_blocking(KEY, 1);
        assert_eq!(cache.len(), 100);
        assert!(!is_hot(&cache), "{name}");
    }
}

#[test]
fn an_entry_that_is_found_to_have_expired_as_it_is_evicted_leaves_no_trace() {
    for key in 0..100 {
        let clock = ManualClock::new();
        let builder = adaptive().maxsize(100).time_to_idle(10 * SECOND).clock(clock.clone());
        let (builder, heard) = heard_by(builder);
        let cache = filled(builder);
        // Before it is found that this one has expired, it may be found of many others that they have not.
        clock.advance(5 * SECOND);
        (0..100).filter(|other| *other != key).for_each(|other| _ = cache.get(&other));
        clock.advance(6 * SECOND);
        scan(&cache, 1);
        let left = take(&heard);
        assert_eq!((left.len(), cache.len()), (1, 100), "{key}: {left:?}");
        if left[0].0 != key {
            continue;
        }
        assert_eq!(left, [(key, RemovalCause::Expired)]);
        cache.insert_blocking(key, 1);
        scan(&cache, 20);
        assert!(!cache.contains_key(&key), "{key} was cold again");
    }
}

/// What a listener hears: keys and causes.
type Heard = Arc<Mutex<Vec<(u32, RemovalCause)>>>;

fn heard_by(builder: Builder<u32, u64, Fixed>) -> (Builder<u32, u64, Fixed>, Heard) {
    let heard = Heard::default();
    let log = Arc::clone(&heard);
    let builder = builder.on_remove(move |key, _, cause| log.lock().unwrap().push((key, cause)));
    (builder, heard)
}

fn take(heard: &Heard) -> Vec<(u32, RemovalCause)> {
    std::mem::take(&mut heard.lock().unwrap())
}

#[test]
fn a_listener_hears_why_each_entry_has_left() {
    let clock = ManualClock::new();
    let (builder, heard) = heard_by(adaptive().maxsize(3).clock(clock.clone()));
    let cache = builder.build();
    (1..=4).for_each(|key| _ = cache.insert_blocking(key, 1));
    // With room for three, two are hot, and the first of those that were not used leaves.
    let left = take(&heard);
    assert_eq!((left.len(), left[0].1), (1, RemovalCause::Capacity));
    assert!(left[0].0 < 4, "what comes stays");
    cache.insert_blocking(4, 2);
    assert_eq!(take(&heard), [(4, RemovalCause::Replaced)]);
    cache.remove_blocking(&4);
    assert_eq!(take(&heard), [(4, RemovalCause::Removed)]);
    cache.insert_with_ttl_blocking(5, 1, SECOND);
    clock.advance(SECOND);
    cache.insert_blocking(6, 1);
    assert_eq!(take(&heard), [(5, RemovalCause::Expired)]);
    cache.set_maxsize_blocking(2);
    let left = take(&heard);
    assert_eq!((left.len(), left[0].1), (1, RemovalCause::Capacity));
    cache.clear_blocking();
    let left = take(&heard);
    assert!(left.len() == 2 && left.iter().all(|(_, cause)| *cause == RemovalCause::Cleared));
    cache.set_maxsize_blocking(0);
    cache.insert_blocking(7, 1);
    assert_eq!(take(&heard), [(7, RemovalCause::Rejected)]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn expired_entries_leave_before_any_that_are_alive() {
    for idle in [false, true] {
        let clock = ManualClock::new();
        let builder = adaptive().maxsize(100).clock(clock.clone());
        let builder = if idle { builder.time_to_idle(3 * SECOND) } else { builder };
        let (builder, heard) = heard_by(builder);
        let cache = builder.build();
        for key in 0..100 {
            // Some are hot and some are cold, some were used and some were not.
            if !idle && key % 3 == 0 {
                cache.insert_with_ttl_blocking(key, 1, 2 * SECOND);
            } else {
                cache.insert_blocking(key, 1);
            }
            (0..key % 4).for_each(|_| _ = cache.get(&key));
        }
        clock.advance(2 * SECOND);
        if idle {
            (0..100).filter(|key| key % 3 != 0).for_each(|key| _ = cache.get(&key));
            clock.advance(SECOND);
        }
        let expired = 34;
        for new in 0..expired {
            cache.insert_blocking(1_000 + new, 1);
            assert_eq!(cache.validate(), 0);
        }
        let left = take(&heard);
        assert_eq!(left.len(), expired as usize);
        let is_over = |(key, cause): &(u32, _)| key % 3 == 0 && *cause == RemovalCause::Expired;
        assert!(left.iter().all(is_over), "{left:?}");
        // A write takes some out even where there is room, so that there is room now only if it has.
        cache.insert_blocking(2_000, 1);
        let left = take(&heard);
        assert_eq!((left.len(), left[0].1), (1, RemovalCause::Capacity));
        let stats = cache.stats();
        assert_eq!((stats.expirations, stats.evictions), (34, 1));
    }
}

#[test]
fn keys_are_in_the_order_of_use_whether_they_are_hot_or_cold() {
    let mut random = fastrand::Rng::with_seed(1);
    let cache = adaptive().maxsize(300).build();
    let mut order: Vec<u32> = Vec::new();
    for _ in 0..4_000 {
        // No more than there is room for.
        let key = random.u32(..300);
        let place = order.iter().position(|other| *other == key);
        if random.u32(..20) == 0 {
            assert_eq!(cache.remove_blocking(&key).is_some(), place.is_some());
            order.retain(|other| *other != key);
            continue;
        }
        match (place, random.bool()) {
            (Some(_), true) => assert!(cache.get(&key).is_some()),
            (is_there, _) => {
                assert_eq!(cache.insert_blocking(key, 1).is_some(), is_there.is_some());
            }
        }
        order.retain(|other| *other != key);
        order.push(key);
    }
    assert_eq!(cache.keys(), order);
    let snapshot: Vec<u32> = cache.snapshot().into_iter().map(|(key, _)| key).collect();
    assert_eq!(snapshot, order);
    assert_eq!((cache.stats().evictions, cache.validate()), (0, 0));
}

#[test]
fn restored_entries_are_hot_and_a_scan_takes_no_more_of_them_than_the_share_of_the_cold() {
    let old = adaptive().maxsize(1_000).build();
    (0..1_000).for_each(|key| _ = old.insert_blocking(key, key.into()));
    (0..1_000).rev().for_each(|key| _ = old.get(&key));
    let cache = adaptive().maxsize(1_000).build();
    assert_eq!(cache.restore_blocking(old.snapshot_with_ttl()), 1_000);
    assert_eq!(cache.keys(), old.keys());
    assert_eq!(cache.validate(), 0);
    for new in 10_000..15_000 {
        cache.insert_blocking(new, 1);
    }
    // A twentieth.
    assert_eq!(count_below(&cache, 1_000), 950);
    // Those that were last used the longest time ago.
    assert!((0..950).all(|key| cache.contains_key(&key)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn restored_entries_are_hot_beside_what_is_cold() {
    let cache = full();
    (0..20).for_each(|key| _ = cache.remove_blocking(&key));
    scan(&cache, 10);
    assert_eq!(cache.restore_blocking((200..210).map(|key| (key, 1))), 10);
    assert_eq!((cache.validate(), cache.len()), (0, 100));
    scan(&cache, 200);
    // They were used last, so that others of the hot ones had to go.
    assert!((200..210).all(|key| cache.contains_key(&key)));
}

#[test]
fn a_cache_of_any_size_takes_what_comes_and_keeps_its_bound() {
    for maxsize in [0, 1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 100] {
        let cache = adaptive().maxsize(maxsize).build();
        let mut random = fastrand::Rng::with_seed(maxsize as u64);
        let keys = 1 + 3 * maxsize as u32;
        for number in 0..3_000 {
            let key = random.u32(..keys).min(random.u32(..keys));
            if cache.get(&key).is_none() {
                cache.insert_blocking(key, number);
            }
            assert_eq!(cache.peek(&key).is_some(), maxsize > 0, "what has come is there");
            assert!(cache.len() <= maxsize);
            assert_eq!(cache.validate(), 0);
        }
        assert_eq!(cache.len(), maxsize);
    }
}

#[test]
fn a_bound_moves_down_to_nothing_and_up_again_while_entries_come_and_go() {
    for shards in [1, 4] {
        let cache = adaptive().maxsize(1_000).shards(shards).build();
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..60 {
            let maxsize = match round % 6 {
                0 => 1_000,
                1 => random.usize(..1_000),
                2 => 0,
                3 => 1,
                4 => random.usize(..100),
                _ => 2_000,
            };
            let before = (cache.len(), cache.stats().evictions);
            let evicted = cache.set_maxsize_blocking(maxsize);
            assert_eq!(evicted, before.0.saturating_sub(maxsize));
            assert_eq!(cache.stats().evictions - before.1, evicted as u64);
            assert_eq!((cache.len(), cache.validate()), (before.0.min(maxsize), 0));
            for _ in 0..1_500 {
                let key = random.u32(..3_000).min(random.u32(..3_000));
                if cache.get(&key).is_none() {
                    cache.insert_blocking(key, 1);
                }
                assert!(cache.len() <= maxsize);
            }
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn each_of_the_shards_that_a_cache_has_by_default_has_sixty_four_entries_or_more() {
    let mut most = 0;
    for maxsize in [0, 1, 100, 511, 512, 513, 600, 800, 1_000, 1_023, 1_024, 3_000, 100_000] {
        let cache = builder().maxsize(maxsize).eviction(Eviction::Adaptive).build();
        let shards = cache.info().shards;
        assert!(shards == 1 || shards * 64 <= maxsize, "{maxsize} entries in {shards} shards");
        most = most.max(shards);
    }
    assert!(most >= 32, "{most}");
}

#[test]
fn threads_that_read_and_write_all_shards_leave_them_in_order() {
    let cache = builder().maxsize(1_024).eviction(Eviction::Adaptive).shards(4).build();
    let run = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..30_000 {
            let key = random.u32(..3_000).min(random.u32(..3_000));
            match random.u32(..40) {
                0 => _ = cache.remove_blocking(&key),
                1 => _ = cache.insert_blocking(key, seed),
                // Quiet for long enough that all read by their pins.
                _ if round % 5_000 < 1_000 => _ = cache.get(&key),
                _ if cache.get(&key).is_none() => _ = cache.insert_blocking(key, seed),
                _ => {}
            }
            assert!(cache.len() <= 1_024);
        }
    };
    thread::scope(|scope| (0..4).for_each(|seed| drop(scope.spawn(move || run(seed)))));
    assert_eq!(cache.validate(), 0);
    assert!(cache.stats().evictions > 10_000);
}

#[test]
fn a_use_counts_as_much_where_a_thread_reads_without_the_lock() {
    for (uses, is_to_be_hot) in [(0, false), (1, false), (2, true)] {
        let cache = full();
        cache.insert_blocking(KEY, 1);
        (0..1_000).for_each(|turn| _ = cache.get(&(turn % 50)));
        (0..uses).for_each(|_| _ = cache.get(&KEY));
        assert_eq!(is_hot(&cache), is_to_be_hot, "{uses} uses");
    }
}

#[test]
fn a_use_counts_as_much_by_the_notes_of_several_threads() {
    let cache = full();
    cache.insert_blocking(KEY, 1);
    // Both read so long that they do it by pins, and keep notes.
    for _ in 0..2 {
        let read = || (0..1_000).for_each(|turn| _ = cache.get(&(turn % 50)));
        thread::scope(|scope| drop(scope.spawn(read).join()));
        read();
    }
    cache.get(&KEY);
    thread::scope(|scope| assert!(scope.spawn(|| cache.get(&KEY)).join().unwrap().is_some()));
    assert!(is_hot(&cache));
}

#[test]
fn the_order_of_eviction_is_shown_where_it_is_not_the_usual_one() {
    let cache = builder().maxsize(10).eviction(Eviction::Adaptive).build();
    let info = cache.info();
    assert_eq!(info.eviction, Eviction::Adaptive);
    assert_eq!(
        info.to_string(),
        "at most 10 entries in 1 shard, adaptive eviction, no time to live"
    );
    assert!(format!("{cache:?}").contains("eviction: Adaptive"), "{cache:?}");
    assert_eq!(
        [Eviction::Adaptive, Eviction::Lru].map(|order| order.to_string()),
        ["adaptive", "lru"]
    );
    let usual = builder().maxsize(10).build().info();
    assert_eq!((usual.eviction, Eviction::default()), (Eviction::Lru, Eviction::Lru));
    assert_eq!(usual.to_string(), "at most 10 entries in 1 shard, no time to live");
    assert_ne!(usual, info);
}

#[cfg(feature = "serde")]
#[test]
fn information_of_before_there_was_a_choice_is_read_as_that_of_the_usual_order() {
    let info = builder().maxsize(10).eviction(Eviction::Adaptive).build().info();
    let mut json = serde_json::to_value(&info).unwrap();
    assert_eq!(serde_json::from_value::<async_lru::CacheInfo>(json.clone()).unwrap(), info);
    assert!(json.as_object_mut().unwrap().remove("eviction").is_some());
    let old: async_lru::CacheInfo = serde_json::from_value(json).unwrap();
    assert_eq!(old, builder().maxsize(10).build().info());
}

#[test]
fn the_usual_order_is_exact_whether_it_is_asked_for_or_not() {
    for builder in [builder(), builder().eviction(Eviction::Lru)] {
        let (builder, heard) = heard_by(builder.maxsize(50).shards(1));
        let cache = builder.build();
        let (mut order, mut evicted) = (Vec::new(), Vec::new());
        let mut random = fastrand::Rng::with_seed(9);
        for _ in 0..5_000 {
            let key = random.u32(..120).min(random.u32(..120));
            let is_there = order.contains(&key);
            assert_eq!(cache.get(&key).is_some(), is_there);
            if !is_there {
                cache.insert_blocking(key, 1);
                if order.len() == 50 {
                    evicted.push((order.remove(0), RemovalCause::Capacity));
                }
            }
            order.retain(|other| *other != key);
            order.push(key);
        }
        assert_eq!(cache.keys(), order);
        assert_eq!(take(&heard), evicted);
    }
}

#[test]
fn the_memory_of_a_cache_is_bounded_whatever_is_removed_and_comes_again() {
    let cache = adaptive().maxsize(1_000).build();
    let size = || cache.stats().total_size_in_memory_bytes;
    let mut random = fastrand::Rng::with_seed(11);
    let mut turn = |rounds: usize| {
        for _ in 0..rounds {
            let key = random.u32(..2_000);
            match random.u32(..3) {
                0 => _ = cache.remove_blocking(&key),
                _ if cache.get(&key).is_none() => _ = cache.insert_blocking(key, 1),
                _ => {}
            }
        }
    };
    turn(20_000);
    let before = size();
    turn(200_000);
    assert!(size() <= before + before / 20, "{} and {before} bytes", size());
    // Others come into a full cache and leave again.
    let come_and_leave = |keys: std::ops::Range<u32>| {
        for key in keys {
            cache.insert_blocking(key, 1);
            cache.remove_blocking(&key);
        }
    };
    come_and_leave(10_000..60_000);
    let before = size();
    come_and_leave(60_000..160_000);
    assert_eq!(size(), before);
    assert_eq!(cache.validate(), 0);
}
