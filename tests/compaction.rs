//! Memory that is given back while a cache is in use: what is left stays as it was, for everybody.

mod common;

use std::future::pending;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Eviction, ManualClock};
use common::{Gate, hand, now, poll};
use futures_lite::future::block_on;

type Cache = AsyncLru<u32, u32>;

/// A tick of the clock.
const TICK: Duration = Duration::from_nanos(1);

/// From this key on entries come only to make a cache large.
const FILLERS: u32 = 1_000;

/// How many of these: more than any cache here needs slots for.
const MANY: u32 = 500;

/// A cache whose values say what they weigh and how many bytes they have: often nothing.
fn builder(clock: &ManualClock) -> Builder<u32, u32> {
    Cache::builder()
        .shards(1)
        .maxsize(10_000)
        .max_weight(30, |_, value| u64::from(value % 3))
        .max_bytes_with(50, |_, value| (value % 5) as usize)
        .clock(clock.clone())
}

/// Inserts entries of these keys, each with its key as its value.
fn fill(cache: &Cache, keys: Range<u32>) {
    for key in keys {
        cache.insert_blocking(key, key);
    }
}

fn memory(cache: &Cache) -> u64 {
    cache.stats().total_size_in_memory_bytes
}

/// Takes the fillers out of a cache again, which then gives its memory back.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sweep,
    AwaitedSweep,
    Purge,
    AwaitedPurge,
}

impl Way {
    const ALL: [Self; 4] = [Self::Sweep, Self::AwaitedSweep, Self::Purge, Self::AwaitedPurge];

    /// Makes the cache large and small again; takes a tick.
    fn swell(self, cache: &Cache, clock: &ManualClock) {
        for key in FILLERS..FILLERS + MANY {
            match self {
                Self::Sweep | Self::AwaitedSweep => cache.insert_blocking(key, 0),
                Self::Purge | Self::AwaitedPurge => cache.insert_with_ttl_blocking(key, 0, TICK),
            };
        }
        let large = memory(cache);
        let is_filler = |key: &u32, _: &u32| *key >= FILLERS;
        match self {
            Self::Sweep => assert_eq!(cache.invalidate_if_blocking(is_filler), MANY as usize),
            Self::AwaitedSweep => {
                assert_eq!(block_on(cache.invalidate_if(is_filler)), MANY as usize);
            }
            Self::Purge | Self::AwaitedPurge => {}
        }
        clock.advance(TICK);
        match self {
            Self::Sweep | Self::AwaitedSweep => {}
            Self::Purge => assert!(cache.purge_expired_blocking() > 0),
            Self::AwaitedPurge => assert!(block_on(cache.purge_expired()) > 0),
        }
        assert!(memory(cache) < large / 2, "{} of {large}", memory(cache));
    }
}

/// Against a twin that never held more.
#[test]
fn order_deadlines_and_weights_are_as_if_nothing_else_had_been_there() {
    type Make = fn(Builder<u32, u32>) -> Builder<u32, u32>;
    let makes: [Make; 4] = [
        |builder| builder,
        |builder| builder.ttl(60 * TICK),
        |builder| builder.time_to_idle(30 * TICK),
        |builder| builder.ttl(60 * TICK).time_to_idle(30 * TICK),
    ];
    for (seed, make) in (0..).zip(makes) {
        let clock = ManualClock::new();
        let twins = [(); 2].map(|()| make(builder(&clock)).build());
        let [cache, twin] = &twins;
        let mut random = fastrand::Rng::with_seed(seed);
        for step in 0..2_000 {
            let (key, value) = (random.u32(0..40), random.u32(0..1_000));
            let lifetime = random.u32(1..100) * TICK;
            match random.u32(0..100) {
                0..30 => assert_eq!(cache.get(&key), twin.get(&key)),
                30..60 => assert_eq!(now(cache.insert(key, value)), now(twin.insert(key, value))),
                60..80 => {
                    let put = |cache: &Cache| cache.insert_with_ttl_blocking(key, value, lifetime);
                    assert_eq!(put(cache), put(twin));
                }
                80..85 => assert_eq!(cache.remove_blocking(&key), twin.remove_blocking(&key)),
                85..97 => clock.advance(random.u32(1..5) * TICK),
                _ => random.choice(Way::ALL).unwrap().swell(cache, &clock),
            }
            assert_eq!(cache.keys(), twin.keys(), "step {step}");
            let look = |cache: &Cache| {
                (0..40).map(|key| (cache.peek(&key), cache.time_left(&key))).collect::<Vec<_>>()
            };
            assert_eq!(look(cache), look(twin), "step {step}");
            assert_eq!(cache.stats().evictions, twin.stats().evictions);
        }
        assert!(twins.iter().all(|cache| cache.validate() == 0 && cache.stats().evictions > 50));
    }
}

#[test]
fn a_lowered_bound_that_gives_memory_back_leaves_the_order_of_use() {
    let cache = Cache::builder().maxsize(10_000).shards(1).build();
    fill(&cache, FILLERS..FILLERS + MANY);
    for key in [7, 1, 5, 3, 0, 4] {
        cache.insert_blocking(key, key);
    }
    cache.get(&1);
    cache.get(&7);
    let large = memory(&cache);
    assert_eq!(cache.set_maxsize_blocking(5), MANY as usize + 1);
    assert!(memory(&cache) < large / 2, "{} of {large}", memory(&cache));
    assert_eq!(cache.keys(), [3, 0, 4, 1, 7]);
    cache.get(&0);
    for key in 10..13 {
        cache.insert_blocking(key, key);
    }
    assert_eq!(cache.keys(), [7, 0, 10, 11, 12]);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_sweep_finds_all_that_it_chooses_though_they_move_to_where_it_has_been() {
    let cache = Cache::builder().maxsize(1_000).shards(1).build();
    fill(&cache, 0..1_000);
    for polls in 0..17 {
        let mut sweep = hand(cache.invalidate_if(|key, _| *key % 2 == 0));
        // Each poll goes over 64 slots.
        assert!((0..polls).all(|_| poll(&mut sweep).is_pending()));
        cache.set_maxsize_blocking(100);
        block_on(sweep);
        let odd: Vec<u32> = (0..1_000).filter(|key| key % 2 == 1).collect();
        assert!(cache.keys().iter().all(|key| odd.contains(key)), "after {polls} polls");
        assert!(cache.len() >= 50);
        cache.set_maxsize_blocking(1_000);
        cache.clear_blocking();
        fill(&cache, 0..1_000);
    }
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_sweep_takes_no_entry_for_another_that_was_chosen_where_it_is_now() {
    let cache = Cache::builder().maxsize(1_000).shards(1).build();
    fill(&cache, 0..1_000);
    let (handle, has_moved) = (cache.clone(), AtomicBool::new(false));
    let removed = cache.invalidate_if_blocking(move |key, _| {
        if !has_moved.swap(true, Ordering::Relaxed) {
            assert_eq!(handle.set_maxsize_blocking(100), 900);
        }
        *key % 7 == 0
    });
    let left: Vec<u32> = (900..1_000).filter(|key| key % 7 != 0).collect();
    assert_eq!((cache.keys(), removed), (left, 14));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn what_is_written_while_a_sweep_gives_memory_back_stays() {
    let cache = Cache::builder().maxsize(1_000).shards(1).build();
    fill(&cache, 0..1_000);
    let (handle, has_moved) = (cache.clone(), AtomicBool::new(false));
    cache.invalidate_if_blocking(move |_, value| {
        if !has_moved.swap(true, Ordering::Relaxed) {
            handle.set_maxsize_blocking(100);
            for key in 950..1_000 {
                assert_eq!(handle.insert_blocking(key, 5_000), Some(key));
            }
        }
        *value < 5_000
    });
    assert_eq!(cache.keys(), (950..1_000).collect::<Vec<_>>());
    assert_eq!(cache.validate(), 0);
}

#[test]
fn loads_that_are_in_flight_when_memory_is_given_back_are_cached() {
    let cache = Cache::builder().maxsize(10_000).shards(1).build();
    fill(&cache, FILLERS..FILLERS + MANY);
    let gate = Gate::new();
    let load = |key: u32| {
        let gate = &gate;
        cache.get_or_insert_with(key, async move || {
            gate.wait().await;
            key
        })
    };
    let mut loads: Vec<_> = (0..10).map(|key| hand(load(key))).collect();
    let mut waiters: Vec<_> = (0..10).map(|key| hand(load(key))).collect();
    let mut burst: Vec<_> =
        (2_000..10_000).map(|key| hand(cache.get_or_insert_with(key, pending))).collect();
    for call in loads.iter_mut().chain(&mut waiters).chain(&mut burst) {
        assert!(poll(call).is_pending());
    }
    drop(burst);
    let large = memory(&cache);
    assert_eq!(cache.set_maxsize_blocking(20), MANY as usize - 20);
    assert!(memory(&cache) < large / 10, "{} of {large}", memory(&cache));
    assert_eq!(cache.validate(), 10);
    gate.open();
    for (key, (load, waiter)) in (0..).zip(loads.into_iter().zip(waiters)) {
        assert_eq!((block_on(load), block_on(waiter)), (key, key));
        assert_eq!(cache.get(&key), Some(key));
    }
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_call_that_gives_memory_back_is_dropped_at_any_poll_and_leaves_all_that_there_is() {
    for eviction in [Eviction::Lru, Eviction::Adaptive] {
        drop_at_any_poll(eviction);
    }
}

fn drop_at_any_poll(eviction: Eviction) {
    for polls in 0.. {
        let cache = Cache::builder().maxsize(10_000).shards(4).eviction(eviction).build();
        fill(&cache, 0..1_000);
        let mut calls = hand(async {
            cache.invalidate_if(|key, _| *key < 900).await;
            cache.set_maxsize(80).await;
            fill(&cache, 0..1_000);
            cache.set_maxsize(8).await
        });
        let is_done = (0..polls).any(|_| poll(&mut calls).is_ready());
        drop(calls);
        let keys = cache.keys();
        assert!(keys.iter().all(|key| cache.get(key) == Some(*key)));
        assert_eq!((keys.len(), cache.validate()), (cache.len(), 0));
        cache.insert_blocking(5_000, 1);
        assert_eq!(cache.get(&5_000), Some(1));
        if is_done {
            assert!(polls > 20);
            break;
        }
    }
}

#[test]
fn readers_find_what_is_there_while_memory_is_given_back() {
    for eviction in [Eviction::Lru, Eviction::Adaptive] {
        let builder = Cache::builder().maxsize(10_000).shards(1);
        read_beside_sweeps(&builder.eviction(eviction).build());
    }
}

fn read_beside_sweeps(cache: &Cache) {
    fill(cache, 0..10);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    for key in 0..10 {
                        assert_eq!(cache.get(&key), Some(key));
                    }
                }
            });
        }
        for _ in 0..100 {
            fill(cache, FILLERS..FILLERS + MANY);
            let removed = cache.invalidate_if_blocking(|key, _| *key >= FILLERS);
            assert_eq!(removed, MANY as usize);
            thread::yield_now();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!((cache.len(), cache.validate()), (10, 0));
}
