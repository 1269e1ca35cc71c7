//! Order, bound and time to live, against a naive model.

mod common;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use async_lru::{AsyncLru, Builder, ManualClock};
use common::now;
use proptest::prelude::*;

type Cache<S> = AsyncLru<u8, u32, S>;

/// The same hash in every cache, so that keys fall into the same shards.
type Fixed = BuildHasherDefault<DefaultHasher>;

const KEYS: u8 = 16;

/// One call, or a step of the clock.
#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Peek(u8),
    Contains(u8),
    Insert(u8),
    Remove(u8),
    Invalidate(u8),
    Load(u8),
    LoadRef(u8),
    TryLoad(u8),
    Fail(u8),
    Purge,
    Clear,
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..KEYS;
    let op = prop_oneof![
        40 => key.clone().prop_map(Op::Get),
        10 => key.clone().prop_map(Op::Peek),
        10 => key.clone().prop_map(Op::Contains),
        30 => key.clone().prop_map(Op::Insert),
        10 => key.clone().prop_map(Op::Remove),
        10 => key.clone().prop_map(Op::Invalidate),
        40 => key.clone().prop_map(Op::Load),
        20 => key.clone().prop_map(Op::LoadRef),
        20 => key.clone().prop_map(Op::TryLoad),
        10 => key.clone().prop_map(Op::Fail),
        10 => Just(Op::Purge),
        1 => Just(Op::Clear),
        30 => (0..6_u64).prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 1..200)
}

/// A live entry of the model.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: u8,
    value: u32,
    deadline: Option<u64>,
}

/// Live entries, least recently used first; what has expired is gone at once.
struct Model {
    maxsize: usize,
    ttl: Option<u64>,
    now: u64,
    entries: Vec<Entry>,
    hits: u64,
    misses: u64,
    evictions: u64,
}

impl Model {
    fn find(&self, key: u8) -> Option<u32> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    fn take(&mut self, key: u8) -> Option<Entry> {
        let place = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(place))
    }

    fn get(&mut self, key: u8) -> Option<u32> {
        let entry = self.take(key);
        *(if entry.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        self.entries.extend(entry.clone());
        Some(entry?.value)
    }

    /// Puts an entry; returns the value replaced, and whether a victim has to go first.
    fn put(&mut self, key: u8, value: u32) -> (Option<u32>, bool) {
        if self.maxsize == 0 || self.ttl == Some(0) {
            return (None, false);
        }
        let old = self.take(key);
        let crowded = old.is_none() && self.entries.len() == self.maxsize;
        let deadline = self.ttl.map(|ttl| self.now + ttl);
        self.entries.push(Entry { key, value, deadline });
        (old.map(|entry| entry.value), crowded)
    }

    /// Removes the victim of a put of `key`: the oldest of its shard or, if that has no other, the
    /// oldest of any shard, which only the cache can choose.
    fn evict(&mut self, key: u8, shard_of: &[usize], left: &[u8]) {
        let own = |entry: &Entry| shard_of[entry.key as usize] == shard_of[key as usize];
        let mut candidates: Vec<u8> = Vec::new();
        let oldest_own = self.entries.iter().find(|entry| entry.key != key && own(entry));
        if let Some(oldest) = oldest_own {
            candidates.push(oldest.key);
        } else {
            let mut seen = BTreeSet::new();
            for entry in self.entries.iter().filter(|entry| entry.key != key) {
                if seen.insert(shard_of[entry.key as usize]) {
                    candidates.push(entry.key);
                }
            }
        }
        let victim = candidates.iter().find(|victim| !left.contains(victim));
        let victim = victim.unwrap_or_else(|| panic!("none of {candidates:?} left, but {left:?}"));
        self.take(*victim);
        self.evictions += 1;
    }

    fn wait(&mut self, time: u64) {
        self.now += time;
        let now = self.now;
        self.entries.retain(|entry| entry.deadline.is_none_or(|deadline| deadline > now));
    }

    /// The keys as the cache lists them: shard by shard, each in the order of use.
    fn keys(&self, shard_of: &[usize]) -> Vec<u8> {
        let mut keys: Vec<u8> = self.entries.iter().map(|entry| entry.key).collect();
        keys.sort_by_key(|key| shard_of[*key as usize]);
        keys
    }
}

/// Which shard each key lives in, found out from the outside: a key that is used moves to the end of
/// its shard in the list of keys.
fn shards_of_keys(shards: usize) -> Vec<usize> {
    let cache: Cache<Fixed> = builder(100, shards).build();
    for key in 0..KEYS {
        cache.insert_blocking(key, 0);
    }
    let end_of_shard = |key| {
        cache.get(&key);
        cache.keys().iter().position(|other| *other == key).unwrap()
    };
    (0..KEYS).map(end_of_shard).collect()
}

fn builder(maxsize: usize, shards: usize) -> Builder<u8, u32, Fixed> {
    AsyncLru::<u8, u32>::builder().hasher(Fixed::new()).maxsize(maxsize).shards(shards)
}

/// Runs `ops` on a cache and on the model, comparing returns, order, victims and counts.
fn check(maxsize: usize, shards: usize, ttl: Option<u64>, ops: Vec<Op>) {
    let clock = ManualClock::new();
    let mut builder = builder(maxsize, shards).clock(clock.clone());
    if let Some(ttl) = ttl {
        builder = builder.ttl(Duration::from_nanos(ttl));
    }
    let cache = builder.build();
    let shard_of = shards_of_keys(shards);
    let mut model =
        Model { maxsize, ttl, now: 0, entries: Vec::new(), hits: 0, misses: 0, evictions: 0 };
    for (value, op) in (0..).zip(ops) {
        let mut put = None;
        match op.clone() {
            Op::Get(key) => assert_eq!(cache.get(&key), model.get(key)),
            Op::Peek(key) => assert_eq!(cache.peek(&key), model.find(key)),
            Op::Contains(key) => assert_eq!(cache.contains_key(&key), model.find(key).is_some()),
            Op::Insert(key) => {
                let (old, crowded) = model.put(key, value);
                assert_eq!(now(cache.insert(key, value)), old);
                put = crowded.then_some(key);
            }
            Op::Remove(key) => {
                let old = model.take(key).map(|entry| entry.value);
                assert_eq!(now(cache.remove(&key)), old);
            }
            Op::Invalidate(key) => {
                assert_eq!(now(cache.invalidate(&key)), model.take(key).is_some());
            }
            Op::Load(key) | Op::LoadRef(key) | Op::TryLoad(key) => {
                let expected = model.get(key).unwrap_or_else(|| {
                    put = model.put(key, value).1.then_some(key);
                    value
                });
                let load = async || value;
                let loaded = match op {
                    Op::Load(_) => now(cache.get_or_insert_with(key, load)),
                    Op::LoadRef(_) => now(cache.get_or_insert_with_ref(&key, load)),
                    _ => {
                        now(cache.try_get_or_insert_with(key, async || Ok::<_, ()>(value))).unwrap()
                    }
                };
                assert_eq!(loaded, expected);
            }
            Op::Fail(key) => {
                let expected = model.get(key).ok_or("failed");
                let load = async || Err("failed");
                assert_eq!(now(cache.try_get_or_insert_with(key, load)), expected);
            }
            Op::Purge => {
                now(cache.purge_expired());
                assert_eq!(cache.len(), model.entries.len());
            }
            Op::Clear => {
                now(cache.clear());
                model.entries.clear();
                (model.hits, model.misses, model.evictions) = (0, 0, 0);
            }
            Op::Wait(time) => {
                clock.advance(Duration::from_nanos(time));
                model.wait(time);
            }
        }
        let keys = cache.keys();
        if let Some(key) = put {
            model.evict(key, &shard_of, &keys);
        }
        assert_eq!(keys, model.keys(&shard_of), "after {op:?}");
        assert!(cache.len() <= maxsize);
        let stats = cache.stats();
        let counts = (stats.hits, stats.misses, stats.evictions);
        assert_eq!(counts, (model.hits, model.misses, model.evictions), "after {op:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_shard_is_the_model(maxsize in 0..=8_usize, ops in ops()) {
        check(maxsize, 1, None, ops);
    }

    #[test]
    fn one_shard_with_a_time_to_live_is_the_model(
        maxsize in 0..=8_usize,
        ttl in 0..=8_u64,
        ops in ops(),
    ) {
        check(maxsize, 1, Some(ttl), ops);
    }

    #[test]
    fn several_shards_are_the_model_each_by_itself_under_one_bound(
        maxsize in 0..=8_usize,
        shards in prop::sample::select(vec![2, 4, 8]),
        ops in ops(),
    ) {
        check(maxsize, shards, None, ops);
    }

    #[test]
    fn several_shards_with_a_time_to_live_are_the_model(
        maxsize in 0..=8_usize,
        shards in prop::sample::select(vec![2, 4]),
        ttl in 0..=8_u64,
        ops in ops(),
    ) {
        check(maxsize, shards, Some(ttl), ops);
    }
}

#[test]
fn a_large_single_shard_evicts_in_the_exact_order_of_use() {
    const SIZE: u32 = 5_000;
    let cache = AsyncLru::<u32, u32>::builder().maxsize(SIZE as usize).shards(1).build();
    let mut order: Vec<u32> = (0..SIZE).collect();
    for key in &order {
        cache.insert_blocking(*key, 0);
    }
    // Uses in an order of no pattern: the multiplier is prime to the size.
    for use_ in 0..3 * SIZE {
        let key = use_ * 3_571 % SIZE;
        assert!(cache.get(&key).is_some());
    }
    order.sort_by_key(|key| (0..SIZE).position(|use_| use_ * 3_571 % SIZE == *key));
    assert_eq!(cache.keys(), order);
    for (new, victim) in (SIZE..).zip(order) {
        assert!(cache.contains_key(&victim));
        cache.insert_blocking(new, 0);
        assert!(!cache.contains_key(&victim), "the oldest goes first");
        assert_eq!(cache.len(), SIZE as usize);
    }
}

#[test]
fn reads_between_evictions_are_honoured_in_a_large_shard() {
    const SIZE: u32 = 3_000;
    let cache = AsyncLru::<u32, u32>::builder().maxsize(SIZE as usize).shards(1).build();
    let mut model: Vec<u32> = (0..SIZE).collect();
    for key in &model {
        cache.insert_blocking(*key, 0);
    }
    let mut random = 12_345_u32;
    for new in SIZE..3 * SIZE {
        for _ in 0..3 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = random as usize % 40 * model.len() / 40;
            let key = model.remove(place);
            model.push(key);
            assert!(cache.get(&key).is_some());
        }
        let victim = model.remove(0);
        model.push(new);
        cache.insert_blocking(new, 0);
        assert!(!cache.contains_key(&victim));
    }
    assert_eq!(cache.keys(), model);
}

#[test]
fn nothing_is_evicted_while_there_is_room_whatever_the_number_of_shards() {
    for shards in [1, 4, 64] {
        let cache = AsyncLru::<u32, u32>::builder().maxsize(1_000).shards(shards).build();
        for key in 0..1_000 {
            cache.insert_blocking(key, key);
        }
        assert_eq!((cache.len(), cache.stats().evictions), (1_000, 0));
        for key in 1_000..3_000 {
            cache.insert_blocking(key, key);
            assert_eq!(cache.len(), 1_000);
        }
        assert_eq!(cache.stats().evictions, 2_000);
    }
}

#[test]
fn more_shards_than_entries_still_hold_the_newest() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(2).shards(64).build();
    for key in 0..1_000 {
        cache.insert_blocking(key, key);
        assert_eq!(cache.get(&key), Some(key), "an entry just inserted is there");
        assert!(cache.len() <= 2);
    }
}

#[test]
fn the_bound_holds_at_every_moment_under_threads() {
    for (maxsize, shards) in [(1, 1), (3, 1), (5, 8), (100, 4)] {
        let cache = AsyncLru::<u32, u32>::builder().maxsize(maxsize).shards(shards).build();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for step in 0..5_000 {
                        let key = (step * 7 + thread * 13) % 150;
                        match step % 4 {
                            0 => drop(cache.insert_blocking(key, step)),
                            1 => drop(cache.get(&key)),
                            2 => drop(cache.remove_blocking(&key)),
                            _ => {
                                let load = cache.get_or_insert_with(key, async || step);
                                futures_lite::future::block_on(load);
                            }
                        }
                        assert!(cache.len() <= maxsize);
                    }
                });
            }
        });
        assert_eq!(cache.len(), cache.keys().len());
        let stats = cache.stats();
        assert!(stats.current_size <= maxsize);
    }
}

#[test]
fn an_entry_that_is_read_all_the_time_does_not_keep_writers_waiting() {
    let cache = AsyncLru::<u32, u32>::builder().maxsize(1).build();
    cache.insert_blocking(0, 0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while cache.get(&u32::MAX).is_none() {
                for key in 0..8 {
                    cache.get(&key);
                }
            }
        });
        for round in 0..20_000 {
            cache.insert_blocking(round % 8, round);
        }
        cache.insert_blocking(u32::MAX, 0);
        reader.join().unwrap();
    });
}

#[test]
fn equal_hashers_hash_equally() {
    // What `shards_of_keys` rests on.
    assert_eq!(Fixed::new().hash_one(7_u8), Fixed::new().hash_one(7_u8));
}
