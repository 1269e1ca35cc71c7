//! The adaptive order of eviction of entries that weigh more or less, or have more or fewer bytes.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Eviction, ManualClock, RemovalCause};

/// The same hash in every cache.
type Fixed = BuildHasherDefault<DefaultHasher>;

type Cache = AsyncLru<u32, u64, Fixed>;

/// A cache whose values say what is bounded of them.
type Make = fn(u64) -> Builder<u32, u64, Fixed>;

const MAKES: [(&str, Make); 2] = [("weight", weighed), ("bytes", measured)];

fn adaptive() -> Builder<u32, u64, Fixed> {
    AsyncLru::builder().hasher(Fixed::default()).shards(1).eviction(Eviction::Adaptive)
}

fn weighed(max: u64) -> Builder<u32, u64, Fixed> {
    adaptive().max_weight(max, |_, value| *value)
}

fn measured(max: u64) -> Builder<u32, u64, Fixed> {
    adaptive().max_bytes_with(max, |_, value| *value as usize)
}

/// What all entries weigh, or how many bytes they have.
fn held(cache: &Cache) -> u64 {
    let stats = cache.stats();
    stats.current_weight.or(stats.current_bytes).unwrap()
}

/// The same of those with keys below this one.
fn held_below(cache: &Cache, end: u32) -> u64 {
    let old = cache.snapshot().into_iter().filter(|(key, _)| *key < end);
    old.map(|(_, value)| value).sum()
}

#[test]
fn a_scan_takes_no_more_weight_than_the_share_of_the_cold_whatever_each_entry_weighs() {
    for (name, make) in MAKES {
        for weight in [1, 10, 50] {
            let cache = make(1_000).build();
            (0..100).for_each(|key| _ = cache.insert_blocking(key, 10));
            assert_eq!(held(&cache), 1_000);
            for key in 1_000..1_300 {
                cache.insert_blocking(key, weight);
                assert!(held(&cache) <= 1_000);
            }
            let kept = held_below(&cache, 1_000);
            // A twentieth, and what the last entry to become hot may weigh beyond that.
            assert!((940..=960).contains(&kept), "{name}, {weight} each: {kept} is left");
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn a_heavy_hot_entry_leaves_little_room_for_others_that_are_hot() {
    for (name, make) in MAKES {
        let cache = make(1_000).build();
        cache.insert_blocking(0, 800);
        (1..=200).for_each(|key| _ = cache.insert_blocking(key, 1));
        // As it came it was more than may be hot of so little.
        (0..2).for_each(|_| _ = cache.get(&0));
        for key in 1_000..3_000 {
            cache.insert_blocking(key, 1);
            cache.get(&0);
        }
        assert!(cache.contains_key(&0), "{name}");
        assert_eq!(held_below(&cache, 1_000), 950, "{name}");
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn what_weighs_nothing_stays_however_short_weight_is() {
    for (name, make) in MAKES {
        for maxsize in [None, Some(10_000)] {
            for weightless in [1, 50, 500, 5_000] {
                let builder = make(100);
                let builder = maxsize.into_iter().fold(builder, Builder::maxsize);
                let cache = builder.build();
                for key in 0..weightless {
                    cache.insert_blocking(key, 0);
                    // Some are used, some often, most are not.
                    (0..(key % 7).saturating_sub(2)).for_each(|_| _ = cache.get(&key));
                }
                for number in 0..2_000 {
                    let key = 100_000 + number * 7 % 300;
                    if cache.get(&key).is_none() {
                        cache.insert_blocking(key, 1 + u64::from(key % 9));
                    }
                    assert!(held(&cache) <= 100);
                }
                let left = cache.keys().into_iter().filter(|key| *key < weightless).count();
                assert_eq!(left, weightless as usize, "{name}, at most {maxsize:?}");
                assert!(cache.len() > left && cache.stats().evictions > 1_000, "{name}");
                assert_eq!(cache.validate(), 0);
            }
        }
    }
}

#[test]
fn a_value_that_gets_heavier_makes_others_leave_and_stays_itself() {
    for (name, make) in MAKES {
        for key in [0, 50, 99] {
            for uses in 0..4 {
                let cache = make(1_000).build();
                (0..100).for_each(|key| _ = cache.insert_blocking(key, 10));
                (0..uses).for_each(|_| _ = cache.get(&key));
                for weight in [11, 30, 500, 999, 1_000] {
                    let before = cache.peek(&key);
                    assert_eq!(cache.insert_blocking(key, weight), before, "{name}, {key}");
                    assert_eq!(cache.peek(&key), Some(weight), "{name}, {key}");
                    assert!(held(&cache) <= 1_000);
                    assert_eq!(cache.validate(), 0);
                }
                assert_eq!(cache.keys(), [key], "{name}");
                // Alone it gets lighter, and others find room.
                cache.insert_blocking(key, 1);
                (200..300).for_each(|key| _ = cache.insert_blocking(key, 9));
                assert_eq!((cache.len(), cache.validate()), (101, 0));
            }
        }
    }
}

#[test]
fn a_value_that_gets_heavier_counts_as_one_use() {
    for (name, make) in MAKES {
        for (uses, is_hot) in [(1, false), (2, true)] {
            let cache = make(1_000).build();
            (0..100).for_each(|key| _ = cache.insert_blocking(key, 10));
            cache.insert_blocking(500, 10);
            // There is no room for any of them.
            (0..uses).for_each(|turn| _ = cache.insert_blocking(500, 11 + turn));
            (1_000..1_020).for_each(|key| _ = cache.insert_blocking(key, 10));
            assert_eq!(cache.contains_key(&500), is_hot, "{name}: {uses} uses");
        }
    }
}

#[test]
fn a_value_that_gets_too_heavy_leaves_and_takes_nothing_with_it() {
    for (name, make) in MAKES {
        let cache = make(1_000).build();
        (0..100).for_each(|key| _ = cache.insert_blocking(key, 10));
        for key in [3, 99] {
            assert_eq!(cache.insert_blocking(key, 1_001), Some(10), "{name}");
            assert_eq!((cache.contains_key(&key), cache.validate()), (false, 0));
        }
        assert_eq!((cache.len(), held(&cache), cache.stats().evictions), (98, 980, 0));
    }
}

/// Entries that left, with their weights.
type Left = Arc<Mutex<Vec<(u32, u64, RemovalCause)>>>;

/// A cache that bounds weight and bytes, in half of the sequences the number of entries, too.
struct Bounded {
    cache: Cache,
    clock: ManualClock,
    left: Left,
    max: u64,
    maxsize: Option<usize>,
    random: fastrand::Rng,
}

const MAX_BYTES: u64 = 100_000;

/// How many bytes an entry with this key has.
fn bytes(key: u32) -> usize {
    500 * (key as usize % 3)
}

impl Bounded {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (clock, left) = (ManualClock::new(), Left::default());
        let log = Arc::clone(&left);
        let hear = move |key, value, cause| log.lock().unwrap().push((key, value, cause));
        let max = 1 + random.u64(..400);
        let maxsize = (seed % 2 == 0).then(|| random.usize(1..100));
        let shards = [1, 1, 4][seed as usize % 3];
        let builder = weighed(max).shards(shards).clock(clock.clone()).on_remove(hear);
        let builder = builder.max_bytes_with(MAX_BYTES, |key, _| bytes(*key));
        let cache = maxsize.into_iter().fold(builder, Builder::maxsize).build();
        Self { cache, clock, left, max, maxsize, random }
    }

    /// Often nothing, mostly little, now and then as much as there is room for, or more.
    fn weight(&mut self) -> u64 {
        match self.random.u32(..10) {
            0..4 => 0,
            4..9 => self.random.u64(..20),
            _ => self.random.u64(..=self.max + self.max / 8),
        }
    }

    fn insert(&mut self, key: u32) {
        let (value, before) = (self.weight(), self.cache.peek(&key));
        assert_eq!(self.cache.insert_blocking(key, value), before);
        let is_kept = value <= self.max && self.maxsize != Some(0);
        assert_eq!(self.cache.peek(&key), is_kept.then_some(value), "what has come is there");
        let left = self.left.lock().unwrap();
        let own = left.iter().filter(|left| left.0 == key).map(|left| left.2);
        // One that was there may have been over.
        let causes: Vec<_> = own.filter(|cause| *cause != RemovalCause::Expired).collect();
        let replaced = before.map(|_| RemovalCause::Replaced);
        let rejected = (!is_kept).then_some(RemovalCause::Rejected);
        let expected: Vec<_> = replaced.into_iter().chain(rejected).collect();
        assert_eq!(causes, expected, "no entry makes room for its own key");
    }

    fn call(&mut self) {
        let key = self.random.u32(..200).min(self.random.u32(..200));
        let cache = &self.cache;
        match self.random.u32(..100) {
            0..60 => assert_eq!(cache.peek(&key), cache.get(&key)),
            60..85 => self.insert(key),
            85..90 => assert_eq!(cache.peek(&key), cache.remove_blocking(&key)),
            90..93 => {
                let ttl = Duration::from_secs(self.random.u64(..50));
                let weight = self.weight();
                self.cache.insert_with_ttl_blocking(key, weight, ttl);
            }
            93..96 => self.clock.advance(Duration::from_secs(self.random.u64(..10))),
            96 => {
                self.max = self.random.u64(..400);
                cache.set_max_weight_blocking(self.max);
            }
            97 if self.maxsize.is_some() => {
                let maxsize = self.random.usize(..100);
                self.maxsize = Some(maxsize);
                cache.set_maxsize_blocking(maxsize);
            }
            98 if self.random.u32(..5) == 0 => cache.clear_blocking(),
            _ => {}
        }
    }

    fn check(&self) {
        assert_eq!(self.cache.validate(), 0);
        let stats = self.cache.stats();
        assert!(stats.current_weight.is_some_and(|weight| weight <= self.max));
        assert!(stats.current_bytes.is_some_and(|bytes| bytes <= MAX_BYTES));
        assert!(self.maxsize.is_none_or(|maxsize| self.cache.len() <= maxsize));
        for (key, weight, cause) in self.left.lock().unwrap().drain(..) {
            let helps = weight > 0 || bytes(key) > 0 || self.maxsize.is_some();
            assert!(cause != RemovalCause::Capacity || helps, "{key} made no room");
        }
    }
}

#[test]
fn random_calls_exceed_no_bound_and_lose_nothing_that_has_just_come() {
    for seed in 0..60 {
        let mut bounded = Bounded::new(seed);
        for _ in 0..1_500 {
            bounded.call();
            bounded.check();
        }
    }
}
