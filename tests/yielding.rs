//! Calls that go over many entries give their thread back to other tasks now and then.

mod common;

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Eviction, ManualClock, Update};
use common::{Hand, hand, poll};
use futures_lite::future::yield_now;

const ENTRIES: u32 = 10_000;

/// The most that a poll may do, in hashes, comparisons, clones and drops of keys and values, and calls
/// of predicates and listeners. One that does not pause does several times `ENTRIES`.
const MOST: u32 = 2_500;

thread_local! {
    static WORK: Cell<u32> = const { Cell::new(0) };
}

fn work() {
    WORK.set(WORK.get() + 1);
}

/// A key or a value whose uses are work.
#[derive(Debug)]
struct Item(u32);

impl Clone for Item {
    fn clone(&self) -> Self {
        work();
        Self(self.0)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        work();
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        work();
        self.0 == other.0
    }
}

impl Eq for Item {}

impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        work();
        self.0.hash(state);
    }
}

type Cache = AsyncLru<Item, Item>;

/// Polls a call to its end; how often that takes, with never too much at once.
fn polls(mut call: Hand<'_, ()>) -> u32 {
    for polls in 1.. {
        WORK.set(0);
        let polled = poll(&mut call);
        assert!(WORK.get() <= MOST, "{} at once", WORK.get());
        if polled == Poll::Ready(()) {
            return polls;
        }
    }
    unreachable!("it ends")
}

fn filled(set: impl Fn(Builder<Item, Item>) -> Builder<Item, Item>, clock: &ManualClock) -> Cache {
    let builder = Cache::builder().maxsize(2 * ENTRIES as usize).clock(clock.clone());
    let cache = set(builder).build();
    for number in 0..ENTRIES {
        cache.insert_blocking(Item(number), Item(number));
    }
    cache
}

#[test]
fn no_call_on_many_entries_does_too_much_at_once() {
    const TTL: Duration = Duration::from_secs(60);
    const HALF: usize = ENTRIES as usize / 2;
    type Call = for<'a> fn(&'a Cache, &ManualClock) -> Hand<'a, ()>;
    let calls: [(&str, Call); 14] = [
        ("clear", |cache, _| hand(cache.clear())),
        ("purge_expired", |cache, clock| {
            clock.advance(TTL);
            hand(async { assert_eq!(cache.purge_expired().await, ENTRIES as usize) })
        }),
        ("set_maxsize", |cache, _| {
            hand(async { assert_eq!(cache.set_maxsize(10).await, ENTRIES as usize - 10) })
        }),
        ("set_maxsize, of what has expired", |cache, clock| {
            clock.advance(TTL);
            hand(async { assert_eq!(cache.set_maxsize(10).await, 0) })
        }),
        ("invalidate_if", |cache, _| {
            let is_chosen = |key: &Item, _: &Item| {
                work();
                key.0 % 2 == 0
            };
            hand(async move { assert_eq!(cache.invalidate_if(is_chosen).await, HALF) })
        }),
        ("invalidate_keys_if", |cache, _| {
            let is_chosen = |key: &Item| {
                work();
                key.0 % 2 == 0
            };
            hand(async move { assert_eq!(cache.invalidate_keys_if(is_chosen).await, HALF) })
        }),
        ("get_or_insert_many", |cache, _| {
            let keys = (ENTRIES / 2..3 * ENTRIES / 2).map(Item);
            let load = async |missing: Vec<Item>| {
                assert_eq!(missing.len(), HALF);
                // What the closure itself does, and drops, is its own affair.
                let keys = missing.iter().map(|key| key.0).collect::<Vec<_>>();
                std::mem::forget(missing);
                yield_now().await;
                keys.into_iter().map(|number| (Item(number), Item(number)))
            };
            hand(async move {
                let found = cache.get_or_insert_many(keys, load).await;
                assert_eq!(found.len(), ENTRIES as usize);
                std::mem::forget(found);
            })
        }),
        ("invalidate_all", |cache, _| hand(cache.invalidate_all())),
        ("limit_ttl", |cache, _| {
            hand(async { assert_eq!(cache.limit_ttl(TTL / 2).await, ENTRIES as usize) })
        }),
        ("limit_ttl, to nothing", |cache, _| {
            hand(async { assert_eq!(cache.limit_ttl(Duration::ZERO).await, ENTRIES as usize) })
        }),
        ("insert_many", |cache, _| {
            let entries = (ENTRIES / 2..3 * ENTRIES / 2).map(|number| (Item(number), Item(number)));
            hand(cache.insert_many(entries))
        }),
        ("invalidate_many", |cache, _| {
            let keys = (ENTRIES / 2..3 * ENTRIES / 2).map(Item).collect::<Vec<_>>();
            hand(async move {
                assert_eq!(cache.invalidate_many(&keys).await, HALF);
                // The keys are the caller's.
                std::mem::forget(keys);
            })
        }),
        ("set_max_weight", |cache, _| {
            hand(async { assert_eq!(cache.set_max_weight(10).await, ENTRIES as usize - 10) })
        }),
        ("restore", |cache, _| {
            let entries = (0..2 * ENTRIES).map(|number| (Item(number), Item(number)));
            hand(async { assert_eq!(cache.restore(entries).await, ENTRIES as usize) })
        }),
    ];
    type Set = fn(Builder<Item, Item>) -> Builder<Item, Item>;
    let settings: [(&str, Set); 5] = [
        ("one shard", |builder| builder.ttl(TTL).shards(1)),
        ("many shards", |builder| builder.ttl(TTL).shards(256)),
        ("an adaptive order", |builder| builder.ttl(TTL).shards(1).eviction(Eviction::Adaptive)),
        ("by weight", |builder| {
            builder.ttl(TTL).shards(4).max_weight(2 * u64::from(ENTRIES), |_, _| {
                work();
                1
            })
        }),
        ("with a listener", |builder| builder.ttl(TTL).shards(4).on_remove(|_, _, _| work())),
    ];
    for (setting, set) in settings {
        for (name, call) in calls {
            let clock = ManualClock::new();
            let cache = filled(set, &clock);
            if name == "set_max_weight" && cache.info().max_weight.is_none() {
                continue;
            }
            let polls = polls(call(&cache, &clock));
            println!("{name}, {setting}: {polls} polls");
            assert!(polls >= 10, "{name}, {setting}: {polls} polls");
            assert_eq!(cache.validate(), 0);
        }
    }
}

/// Of this number, an item weighs as much as all others.
const HEAVY: u32 = u32::MAX;
/// Of this number, as much as half of them.
const HALF_AS_HEAVY: u32 = u32::MAX - 1;

type Set = fn(Builder<Item, Item>) -> Builder<Item, Item>;

/// Full of entries that weigh little.
fn weighed(set: Set, clock: &ManualClock) -> Cache {
    let weigh = |_: &Item, value: &Item| match value.0 {
        HEAVY => u64::from(ENTRIES),
        HALF_AS_HEAVY => u64::from(ENTRIES / 2),
        _ => 1,
    };
    filled(|builder| set(builder).max_weight(u64::from(ENTRIES), weigh), clock)
}

const TTL: Duration = Duration::from_secs(60);

const SETTINGS: [(&str, Set); 4] = [
    ("one shard", |builder| builder.shards(1)),
    ("many shards", |builder| builder.shards(256)),
    ("an adaptive order", |builder| builder.shards(1).eviction(Eviction::Adaptive)),
    ("with a listener", |builder| builder.shards(4).on_remove(|_, _, _| work())),
];

#[test]
fn an_insertion_that_takes_the_room_of_many_entries_does_not_do_too_much_at_once() {
    for (setting, set) in SETTINGS {
        for is_expired in [false, true] {
            let clock = ManualClock::new();
            let cache = weighed(set, &clock);
            let cache = if is_expired {
                let entries =
                    cache.snapshot().into_iter().map(|(key, value)| (key, value, Some(TTL)));
                let entries = entries.collect::<Vec<_>>();
                cache.clear_blocking();
                assert_eq!(cache.restore_blocking(entries), ENTRIES as usize);
                clock.advance(TTL);
                cache
            } else {
                cache
            };
            let insert = cache.insert_with_ttl(Item(7), Item(HEAVY), TTL);
            let polls = polls(hand(async {
                assert_eq!(insert.await.map(|old| old.0), (!is_expired).then_some(7));
            }));
            println!("{setting}: {polls} polls");
            assert!(polls >= 10, "{setting}: {polls} polls");
            assert_eq!((cache.len(), cache.peek(&Item(7)).map(|value| value.0)), (1, Some(HEAVY)));
            assert_eq!(cache.time_left(&Item(7)), Some(TTL));
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn an_insertion_that_is_not_polled_any_more_keeps_no_room_and_one_that_is_wins_in_the_end() {
    for (setting, set) in SETTINGS {
        let clock = ManualClock::new();
        let cache = weighed(set, &clock);
        let mut insert = hand(cache.insert_with_ttl(Item(HEAVY), Item(HEAVY), TTL));
        assert!(poll(&mut insert).is_pending());
        assert!(!cache.contains_key(&Item(HEAVY)), "{setting}: in parts it would be too heavy");
        // Others find room, and more than has been made.
        for number in ENTRIES..2 * ENTRIES {
            cache.insert_blocking(Item(number), Item(number));
        }
        assert_eq!(cache.keys().len(), ENTRIES as usize, "{setting}");
        clock.advance(TTL);
        let mut others = 2 * ENTRIES..;
        let mut polls = 0;
        while poll(&mut insert).is_pending() {
            polls += 1;
            assert!(polls <= 250, "{setting}: others keep it out");
            // Once it is in, it waits for the listener.
            let more = if cache.contains_key(&Item(HEAVY)) { 0 } else { 1_000 };
            for number in others.by_ref().take(more) {
                cache.insert_blocking(Item(number), Item(number));
            }
        }
        assert_eq!((cache.len(), cache.time_left(&Item(HEAVY))), (1, Some(TTL)), "{setting}");

        // The lifetime of its entry begins when that is in.
        let cache = weighed(set, &clock);
        let mut insert = hand(cache.insert_with_ttl(Item(HEAVY), Item(HEAVY), TTL));
        assert!(poll(&mut insert).is_pending());
        clock.advance(TTL);
        while poll(&mut insert).is_pending() {}
        assert_eq!(cache.time_left(&Item(HEAVY)), Some(TTL), "{setting}");

        // One that is dropped leaves what it has not evicted yet.
        let cache = weighed(set, &clock);
        let mut insert = hand(cache.insert(Item(HEAVY), Item(HEAVY)));
        assert!(poll(&mut insert).is_pending());
        drop(insert);
        assert!(cache.len() > ENTRIES as usize / 2 && !cache.contains_key(&Item(HEAVY)));
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn an_insertion_that_takes_the_room_of_many_expired_entries_spares_those_that_are_alive() {
    for (setting, set) in SETTINGS {
        let clock = ManualClock::new();
        let cache = weighed(set, &clock);
        // Those that were used last.
        for number in ENTRIES / 2..ENTRIES {
            cache.insert_with_ttl_blocking(Item(number), Item(number), TTL);
        }
        clock.advance(TTL);
        let insert = cache.insert(Item(HEAVY), Item(HALF_AS_HEAVY));
        let polls = polls(hand(async { assert_eq!(insert.await, None) }));
        assert!(polls >= 5, "{setting}: {polls} polls");
        let alive = (0..ENTRIES / 2).filter(|number| cache.contains_key(&Item(*number))).count();
        assert_eq!(alive, ENTRIES as usize / 2, "{setting}");
        assert!(cache.contains_key(&Item(HEAVY)));
        assert_eq!(cache.validate(), 0);
    }
}

type HeavyCall = for<'a> fn(&'a Cache) -> Hand<'a, ()>;

/// The calls that bring a heavy value in, besides `insert`.
const HEAVY_CALLS: [(&str, HeavyCall); 9] = [
    ("a led load", |cache| {
        hand(async {
            assert_eq!(cache.get_or_insert_with(Item(ENTRIES), heavy).await.0, HEAVY);
        })
    }),
    ("a detached load", |cache| {
        let call = cache.entry(Item(ENTRIES)).detached().or_insert_with(heavy);
        hand(async { assert_eq!(call.await.value.0, HEAVY) })
    }),
    ("a led batch", |cache| {
        let call = cache.get_or_insert_many([Item(ENTRIES)], async |_| [heavy_pair()]);
        hand(async { assert_eq!(call.await.len(), 1) })
    }),
    ("a led batch of half heavy values", |cache| {
        let keys = [Item(ENTRIES), Item(ENTRIES + 1)];
        let call = cache.get_or_insert_many(keys, async |missing| {
            missing.into_iter().map(|key| (key, Item(HALF_AS_HEAVY))).collect::<Vec<_>>()
        });
        hand(async { assert_eq!(call.await.len(), 2) })
    }),
    ("a detached batch", |cache| {
        let entries = cache.entries([Item(ENTRIES)]).detached();
        let call = entries.or_insert_with(|_| async { [heavy_pair()] });
        hand(async { assert_eq!(call.await.len(), 1) })
    }),
    ("an update", |cache| {
        let call = cache.update_with(Item(ENTRIES), async |_| Update::Put(Item(HEAVY)));
        hand(async { assert_eq!(call.await.map(|value| value.0), Some(HEAVY)) })
    }),
    ("writing", |cache| {
        hand(async {
            let key = Item(ENTRIES);
            cache.writing(&key).insert_as(Item(ENTRIES), Item(HEAVY)).await;
        })
    }),
    ("insert_many", |cache| hand(cache.insert_many([heavy_pair()]))),
    ("insert_many, of half heavy ones", |cache| {
        let keys = [ENTRIES, ENTRIES + 1].map(Item);
        hand(cache.insert_many(keys.map(|key| (key, Item(HALF_AS_HEAVY)))))
    }),
];

/// Tells whether what such a call brings is in: of two the last, for which the first may have gone.
fn is_in(cache: &Cache) -> bool {
    [ENTRIES, ENTRIES + 1].iter().any(|number| cache.contains_key(&Item(*number)))
}

async fn heavy() -> Item {
    Item(HEAVY)
}

fn heavy_pair() -> (Item, Item) {
    (Item(ENTRIES), Item(HEAVY))
}

#[test]
fn no_call_that_brings_a_heavy_value_does_too_much_at_once() {
    for (setting, set) in SETTINGS {
        for (name, call) in HEAVY_CALLS {
            let cache = weighed(set, &ManualClock::new());
            let polls = polls(call(&cache));
            println!("{name}, {setting}: {polls} polls");
            assert!(polls >= 10, "{name}, {setting}: {polls} polls");
            assert!(is_in(&cache), "{name}, {setting}");
            assert_eq!(cache.stats().load_failures, 0, "{name}, {setting}");
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn a_call_that_is_dropped_while_it_makes_room_leaves_its_key_to_others() {
    for (setting, set) in SETTINGS {
        for (name, call) in HEAVY_CALLS {
            let cache = weighed(set, &ManualClock::new());
            let mut dropped = call(&cache);
            for _ in 0..5 {
                assert!(poll(&mut dropped).is_pending(), "{name}, {setting}");
            }
            drop(dropped);
            assert!(!cache.contains_key(&Item(ENTRIES)), "{name}, {setting}");
            let loads = cache.stats().loads;
            assert_eq!(cache.stats().load_failures, loads, "{name}, {setting}");
            polls(call(&cache));
            assert!(is_in(&cache), "{name}, {setting}");
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn whoever_waits_for_a_detached_load_goes_on_making_room_for_it() {
    for (setting, set) in SETTINGS {
        let cache = weighed(set, &ManualClock::new());
        let mut first =
            pin!(cache.entry(Item(ENTRIES)).detached().or_insert_with(|| async { Item(HEAVY) }));
        assert!(poll(&mut first).is_pending());
        let joined = cache.get_or_insert_with(Item(ENTRIES), async || unreachable!());
        // The first is not polled any more.
        let polls = polls(hand(async { assert_eq!(joined.await.0, HEAVY) }));
        assert!(polls >= 10, "{setting}: {polls} polls");
        assert!(cache.contains_key(&Item(ENTRIES)), "{setting}");
        while poll(&mut first).is_pending() {}
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 0), "{setting}");
    }
}

#[test]
fn a_write_wins_over_a_load_that_makes_room() {
    for (setting, set) in SETTINGS {
        for (name, call) in HEAVY_CALLS.into_iter().take(3) {
            let cache = weighed(set, &ManualClock::new());
            let mut load = call(&cache);
            for _ in 0..5 {
                assert!(poll(&mut load).is_pending());
            }
            assert_eq!(cache.insert_blocking(Item(ENTRIES), Item(1)).map(|value| value.0), None);
            polls(load);
            let found = cache.peek(&Item(ENTRIES)).map(|value| value.0);
            assert_eq!(found, Some(1), "{name}, {setting}");
        }
    }
}

#[test]
fn a_heavy_value_is_weighed_once_however_long_it_takes_to_make_room_for_it() {
    for (name, call) in HEAVY_CALLS {
        let weighed = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&weighed);
        let builder = Cache::builder().maxsize(2 * ENTRIES as usize).shards(1);
        let cache = builder
            .max_weight(u64::from(ENTRIES), move |_, value| {
                counted.fetch_add(1, Ordering::Relaxed);
                match value.0 {
                    HEAVY => u64::from(ENTRIES),
                    HALF_AS_HEAVY => u64::from(ENTRIES / 2),
                    _ => 1,
                }
            })
            .build();
        (0..ENTRIES).for_each(|number| drop(cache.insert_blocking(Item(number), Item(number))));
        weighed.store(0, Ordering::Relaxed);
        polls(call(&cache));
        let entries = if name.contains("half") { 2 } else { 1 };
        assert_eq!(weighed.load(Ordering::Relaxed), entries, "{name}");
    }
}
