//! Operations one after another, against a model that does everything the slow and simple way.

use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use futures_lite::future::block_on;

use super::bytes::Bytes;
use super::census::{Census, Key, Value, numbers};

const KEYS: usize = 12;

/// Runs the operations that `input` stands for.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let census = Census::default();
    let clock = ManualClock::new();
    let maxsize = bytes.below(9);
    let shards = bytes.pick(&[1, 1, 1, 2, 4, 8]);
    let ttl = bytes.pick(&[None, None, Some(0), Some(1), Some(3), Some(20)]);
    let mut builder = AsyncLru::builder().maxsize(maxsize).shards(shards).clock(clock.clone());
    if let Some(ttl) = ttl {
        builder = builder.ttl(Duration::from_nanos(ttl));
    }
    if bytes.next_byte() % 2 == 1 {
        builder = builder.measure_with(|_, value: &Value| value.number as usize);
    }
    let model = Model { maxsize, ttl, ..Model::default() };
    let mut run = Run { cache: builder.build(), shards, clock, census: census.clone(), model };
    let mut number = 0;
    while !bytes.is_empty() {
        number += 1;
        run.step(&mut bytes, number);
        run.check();
    }
    drop(run);
    census.assert_only(0);
}

/// A live entry of the model.
struct Entry {
    key: u8,
    value: u32,
    deadline: Option<u64>,
}

/// What the cache has to be like. What has expired is gone at once.
#[derive(Default)]
struct Model {
    maxsize: usize,
    ttl: Option<u64>,
    now: u64,
    /// Least recently used first.
    entries: Vec<Entry>,
    hits: u64,
    misses: u64,
    loads: u64,
    load_failures: u64,
    evictions: u64,
    /// Entries that came to a key which had none.
    came: u64,
    removed: u64,
}

impl Model {
    fn find(&self, key: u8) -> Option<u32> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    fn take(&mut self, key: u8) -> Option<u32> {
        let place = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(place).value)
    }

    /// A use, counted.
    fn get(&mut self, key: u8) -> Option<u32> {
        let Some(place) = self.entries.iter().position(|entry| entry.key == key) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.entries[place..].rotate_left(1);
        self.find(key)
    }

    /// Puts an entry, and returns the value that it replaces. There may be one too many then.
    fn put(&mut self, key: u8, value: u32) -> Option<u32> {
        if self.maxsize == 0 || self.ttl == Some(0) {
            return None;
        }
        let old = self.take(key);
        self.came += u64::from(old.is_none());
        let deadline = self.ttl.map(|ttl| self.now + ttl);
        self.entries.push(Entry { key, value, deadline });
        old
    }

    /// A load, counted; returns what the call has to answer.
    fn load(&mut self, key: u8, value: u32) -> u32 {
        if let Some(value) = self.get(key) {
            return value;
        }
        self.loads += 1;
        self.put(key, value);
        value
    }

    /// A load that fails, counted.
    fn fail(&mut self, key: u8) -> Option<u32> {
        let found = self.get(key);
        let failed = u64::from(found.is_none());
        self.loads += failed;
        self.load_failures += failed;
        found
    }

    fn remove(&mut self, key: u8) -> Option<u32> {
        let value = self.take(key);
        self.removed += u64::from(value.is_some());
        value
    }

    fn wait(&mut self, time: u64) {
        self.now += time;
        let now = self.now;
        self.entries.retain(|entry| entry.deadline.is_none_or(|deadline| deadline > now));
    }

    fn clear(&mut self) {
        let Self { maxsize, ttl, now, .. } = *self;
        *self = Self { maxsize, ttl, now, ..Self::default() };
    }

    /// Counts anew; of the entries that came, only those that are `there` still count.
    fn reset_counts(&mut self, there: usize) {
        let entries = std::mem::take(&mut self.entries);
        self.clear();
        self.entries = entries;
        self.came = there as u64;
    }

    /// Makes room as the cache has done, which has only `left`. With one shard it has no choice.
    fn evict(&mut self, left: &[u8], shards: usize) {
        if self.entries.len() <= self.maxsize {
            return;
        }
        let newest = self.entries.len() - 1;
        let gone = self.entries.iter().position(|entry| !left.contains(&entry.key));
        let victim = gone.expect("a full cache has kept everything");
        assert!(victim < newest, "the entry that came was the victim");
        assert!(shards > 1 || victim == 0, "the victim was not the least recently used");
        self.entries.remove(victim);
        self.evictions += 1;
    }
}

struct Run {
    cache: AsyncLru<Key, Value>,
    shards: usize,
    clock: ManualClock,
    census: Census,
    model: Model,
}

impl Run {
    fn step(&mut self, bytes: &mut Bytes<'_>, number: u32) {
        let Self { cache, clock, census, model, .. } = self;
        let kind = bytes.below(18);
        let at = bytes.below(KEYS) as u8;
        let key = || census.key(at);
        let value = || census.value(number);
        let load = async || value();
        let fails = async || Err::<Value, _>(number);
        match kind {
            0 | 1 => assert_eq!(numbers(cache.get(&key())), model.get(at)),
            2 => assert_eq!(numbers(cache.peek(&key())), model.find(at)),
            3 => assert_eq!(cache.contains_key(&key()), model.find(at).is_some()),
            4 | 5 => {
                let old = block_on(cache.insert(key(), value()));
                assert_eq!(numbers(old), model.put(at, number));
            }
            6 => {
                let old = cache.insert_blocking(key(), value());
                assert_eq!(numbers(old), model.put(at, number));
            }
            7 => assert_eq!(numbers(block_on(cache.remove(&key()))), model.remove(at)),
            8 => assert_eq!(numbers(cache.remove_blocking(&key())), model.remove(at)),
            9 => assert_eq!(cache.invalidate_blocking(&key()), model.remove(at).is_some()),
            10 => {
                let loaded = block_on(cache.get_or_insert_with(key(), load));
                assert_eq!(loaded.number, model.load(at, number));
            }
            11 => {
                let loaded = block_on(cache.get_or_insert_with_ref(&key(), load));
                assert_eq!(loaded.number, model.load(at, number));
            }
            12 => {
                let load = async || Ok::<_, u32>(value());
                let loaded = block_on(cache.try_get_or_insert_with(key(), load));
                assert_eq!(loaded.map(|value| value.number), Ok(model.load(at, number)));
            }
            13 => {
                let failed = block_on(cache.try_get_or_insert_with_ref(&key(), fails));
                assert_eq!(numbers(failed.ok()), model.fail(at));
            }
            14 => {
                let failed = block_on(cache.try_get_or_insert_shared(key(), fails));
                assert_eq!(numbers(failed.ok()), model.fail(at));
            }
            15 => {
                block_on(cache.purge_expired());
                assert_eq!(cache.len(), model.entries.len());
            }
            16 => {
                clock.advance(Duration::from_nanos(u64::from(at)));
                model.wait(u64::from(at));
            }
            _ if at == 0 => {
                cache.clear_blocking();
                model.clear();
            }
            _ => {
                cache.reset_stats();
                model.reset_counts(cache.len());
            }
        }
    }

    fn check(&mut self) {
        let Self { cache, shards, census, model, .. } = self;
        let keys: Vec<u8> = cache.keys().iter().map(|key| key.number).collect();
        model.evict(&keys, *shards);
        let mut expected: Vec<u8> = model.entries.iter().map(|entry| entry.key).collect();
        if *shards > 1 {
            expected.sort_by_key(|key| keys.iter().position(|found| found == key));
        }
        assert_eq!(keys, expected);

        let stats = cache.stats();
        assert!(cache.len() <= model.maxsize);
        assert_eq!((stats.hits, stats.misses, stats.coalesced), (model.hits, model.misses, 0));
        assert_eq!((stats.loads, stats.load_failures), (model.loads, model.load_failures));
        assert_eq!(stats.evictions, model.evictions);
        let left = stats.evictions + stats.expirations + model.removed;
        assert_eq!(model.came, cache.len() as u64 + left);
        // Whatever has left was dropped before the call returned.
        census.assert_only(cache.len());
    }
}
