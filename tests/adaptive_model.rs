//! The adaptive order of eviction against a naive one, call by call: what is found, what leaves, the order of
//! use.

#[path = "common/naive_adaptive.rs"]
mod naive_adaptive;
#[path = "common/traffic.rs"]
mod traffic;

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex};

use async_lru::{AsyncLru, Eviction, RemovalCause};
use futures_lite::future::block_on;
use naive_adaptive::{NaiveAdaptive, Seen};

/// A hasher that both sides know, of which few hashes come if `different` is small.
#[derive(Clone, Copy)]
struct Hashing {
    different: u64,
    hash: u64,
}

impl Hashing {
    const GOOD: Self = Self::new(u64::MAX);

    const fn new(different: u64) -> Self {
        Self { different, hash: 0 }
    }
}

impl Hasher for Hashing {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }

    fn finish(&self) -> u64 {
        self.hash % self.different
    }
}

impl BuildHasher for Hashing {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

/// A cache, and what it has to do.
struct Pair {
    cache: AsyncLru<u32, u32, Hashing>,
    hashing: Hashing,
    /// Keys that have left the cache to make room.
    evicted: Arc<Mutex<Vec<u32>>>,
    naive: NaiveAdaptive,
    hits: u64,
}

impl Pair {
    fn new(maxsize: usize, hashing: Hashing) -> Self {
        let evicted = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&evicted);
        let hear = move |key, _, cause| {
            if cause == RemovalCause::Capacity {
                log.lock().unwrap().push(key);
            }
        };
        let builder = AsyncLru::<u32, u32>::builder().maxsize(maxsize).shards(1).hasher(hashing);
        let cache = builder.eviction(Eviction::Adaptive).on_remove(hear).build();
        Self { cache, hashing, evicted, naive: NaiveAdaptive::new(maxsize), hits: 0 }
    }

    /// The hash as an entry keeps it.
    fn hash(&self, key: u32) -> u32 {
        let product = u128::from(self.hashing.hash_one(key)) * 0x9E37_79B9_7F4A_7C15;
        ((product as u64 ^ (product >> 64) as u64) >> 32) as u32
    }

    fn get(&mut self, key: u32) -> bool {
        let is_hit = self.naive.get(key);
        assert_eq!(self.cache.get(&key).is_some(), is_hit, "the value of {key} is there");
        self.hits += u64::from(is_hit);
        is_hit
    }

    fn insert(&mut self, key: u32) {
        let is_there = self.naive.insert(key, self.hash(key));
        assert_eq!(self.cache.insert_blocking(key, key).is_some(), is_there, "{key} is replaced");
    }

    fn load(&mut self, key: u32) {
        let is_hit = self.naive.get(key);
        if !is_hit {
            self.naive.insert(key, self.hash(key));
        }
        let mut is_loaded = false;
        block_on(self.cache.get_or_insert_with(key, async || {
            is_loaded = true;
            key
        }));
        assert_eq!(is_loaded, !is_hit, "{key} is loaded");
        self.hits += u64::from(is_hit);
    }

    fn remove(&mut self, key: u32) {
        let is_there = self.naive.remove(key);
        assert_eq!(self.cache.remove_blocking(&key).is_some(), is_there, "{key} is removed");
    }

    fn set_maxsize(&mut self, maxsize: usize) {
        self.naive.set_maxsize(maxsize);
        self.cache.set_maxsize_blocking(maxsize);
    }

    fn clear(&mut self) {
        self.naive.clear();
        self.cache.clear_blocking();
        // It counts anew.
        self.hits = 0;
    }

    /// Asserts that the same keys have left, in the same order.
    #[track_caller]
    fn compare_evicted(&mut self, when: &dyn std::fmt::Debug) {
        let evicted = std::mem::take(&mut *self.evicted.lock().unwrap());
        assert_eq!(evicted, std::mem::take(&mut self.naive.evicted), "{when:?}");
    }

    /// Asserts that the same keys are left, in the same order.
    #[track_caller]
    fn compare(&mut self, when: &dyn std::fmt::Debug) {
        self.compare_evicted(when);
        assert_eq!(self.cache.keys(), self.naive.keys(), "{when:?}");
        assert_eq!((self.cache.len(), self.cache.validate()), (self.naive.len(), 0), "{when:?}");
        assert_eq!(self.cache.stats().hits, self.hits, "{when:?}");
    }

    /// Answers requests, each by a load if it has to be.
    #[track_caller]
    fn answer(&mut self, requests: &[u32], name: &str) {
        for (number, key) in requests.iter().enumerate() {
            if !self.get(*key) {
                self.insert(*key);
            }
            self.compare_evicted(&(name, number));
            if number % 1_000 == 0 {
                self.compare(&(name, number));
            }
        }
        self.compare(&name);
    }
}

/// One sequence of calls at random, with keys of which half are asked for more often than the others.
fn compare_at_random(seed: u64) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    let largest = [3, 20, 64, 80, 200][seed as usize % 5];
    let maxsize = random.usize(0..=largest);
    let keys = 1 + random.u32(..=3 * largest as u32);
    let hashing = if seed % 4 == 3 { Hashing::new(keys.into()) } else { Hashing::GOOD };
    let mut pair = Pair::new(maxsize, hashing);
    let mut next_new = keys;
    for number in 0..3_000 {
        let most = if random.bool() { keys } else { 1 + keys / 4 };
        let key = random.u32(..most);
        let op = random.u32(..1_000);
        match op {
            0..420 => _ = pair.get(key),
            420..700 => pair.load(key),
            700..850 => pair.insert(key),
            850..880 => pair.remove(key),
            880..960 => {
                pair.load(next_new);
                next_new += 1;
            }
            // As many as a thread needs to read without the lock, and some more.
            960..964 => (0..400).for_each(|turn| _ = pair.get(turn % keys)),
            964..970 => pair.set_maxsize(random.usize(0..=largest)),
            970..976 => pair.set_maxsize(maxsize),
            // What comes round again and again.
            976..996 => (0..random.u32(..keys)).for_each(|key| pair.load(key)),
            _ if random.u32(..4) == 0 => pair.clear(),
            _ => {}
        }
        pair.compare(&(seed, number, op, key));
    }
    pair.naive.seen
}

#[test]
fn random_calls_find_and_evict_what_a_naive_cache_says() {
    let mut seen = Seen::default();
    for seed in 0..60 {
        seen.add(compare_at_random(seed));
    }
    println!("{seen:?}");
    seen.assert_everything();
}

#[test]
fn every_kind_of_traffic_finds_and_evicts_what_a_naive_cache_says() {
    let mut seen = Seen::default();
    for (name, make) in traffic::KINDS {
        let mut pair = Pair::new(1_000, Hashing::GOOD);
        pair.answer(&make()[..50_000], name);
        println!("{name}: {:?}", pair.naive.seen);
        seen.add(pair.naive.seen);
    }
    seen.assert_everything_but_compactions();
}

#[test]
fn the_requests_of_a_web_server_find_and_evict_what_a_naive_cache_says() {
    for maxsize in [100, 2_048] {
        let mut pair = Pair::new(maxsize, Hashing::GOOD);
        pair.answer(&traffic::web07(), "web07");
        println!("{maxsize}: {:?}", pair.naive.seen);
    }
}
