//! Caches of any settings, however odd, each used a little.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::time::Duration;

use async_lru::{AsyncLru, Eviction, ManualClock};
use futures_lite::future::{block_on, yield_now, zip};

use super::bytes::Bytes;
use super::census::{Census, Key, Value, numbers};

const KEYS: usize = 10;

/// A thousand shards are slow to look at, and what a setting breaks shows soon.
const MAX_STEPS: u32 = 40;

/// Builds the cache that `input` asks for, and uses it.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let census = Census::default();
    let settings = Settings::from(&mut bytes);
    let cache = settings.build();
    settings.assert_kept(&cache);
    let written = HashMap::new();
    let mut run =
        Run { cache, settings, census: census.clone(), written, evictions: 0, was_full: false };
    let empty = run.cache.stats().total_size_in_memory_bytes;
    let mut number = 0;
    while !bytes.is_empty() && number < MAX_STEPS {
        number += 1;
        run.step(&mut bytes, number);
        run.check();
    }
    run.cache.clear_blocking();
    let cleared = run.cache.stats().total_size_in_memory_bytes;
    assert!(cleared < empty + (1 << 16), "{cleared} bytes after clear, {empty} before");
    drop(run);
    census.assert_only(0);
}

/// A hasher that is good, or bad in one of the ways that hashers are bad.
#[derive(Clone, Copy, Debug)]
enum Hashing {
    Good,
    Constant(u64),
    /// The number itself, shifted: all other bits are zero.
    Shifted(u32),
}

struct AnyHasher(Hashing, DefaultHasher, u64);

impl BuildHasher for Hashing {
    type Hasher = AnyHasher;

    fn build_hasher(&self) -> AnyHasher {
        AnyHasher(*self, DefaultHasher::new(), 0)
    }
}

impl Hasher for AnyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.1.write(bytes);
        self.2 = bytes.iter().fold(self.2, |number, byte| number << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        match self.0 {
            Hashing::Good => self.1.finish(),
            Hashing::Constant(hash) => hash,
            Hashing::Shifted(by) => self.2 << by,
        }
    }
}

/// What the cache is told of the bytes of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measuring {
    Nothing,
    Each(usize),
    /// Another number each time.
    Growing,
}

#[derive(Debug)]
struct Settings {
    maxsize: usize,
    shards: Option<usize>,
    ttl: Option<Duration>,
    measuring: Measuring,
    hashing: Hashing,
    without_single_flight: Option<()>,
    eviction: Eviction,
    weighing: Option<Weighing>,
}

/// A bound by weight, and what entries weigh.
#[derive(Clone, Copy, Debug)]
struct Weighing {
    max: u64,
    each: u64,
    /// One value in so many weighs nothing instead.
    light: Option<u32>,
}

impl Weighing {
    fn weight(self, value: u32) -> u64 {
        if self.light.is_some_and(|share| value % share == 0) { 0 } else { self.each }
    }

    /// Whether one more that weighs something would be too much.
    fn is_full(self, weight: u64) -> bool {
        weight.checked_add(self.each).is_none_or(|weight| weight > self.max)
    }
}

impl Settings {
    fn from(bytes: &mut Bytes<'_>) -> Self {
        let large = u32::MAX as usize;
        let any = bytes.next_u64() as usize;
        let mut settings = Self {
            maxsize: bytes.pick(&[0, 1, 2, 3, 7, 511, 512, large - 1, large, usize::MAX, any]),
            shards: bytes.pick(&[None, Some(0), Some(1), Some(3), Some(64), Some(any)]),
            ttl: bytes.pick(&[
                None,
                Some(Duration::ZERO),
                Some(Duration::from_nanos(1)),
                Some(Duration::from_nanos(any as u64)),
                Some(Duration::MAX),
            ]),
            measuring: bytes.pick(&[
                Measuring::Nothing,
                Measuring::Each(0),
                Measuring::Each(1),
                Measuring::Each(usize::MAX),
                Measuring::Each(any),
                Measuring::Growing,
            ]),
            hashing: bytes.pick(&[
                Hashing::Good,
                Hashing::Constant(0),
                Hashing::Constant(u64::MAX),
                Hashing::Constant(any as u64),
                Hashing::Shifted(0),
                Hashing::Shifted(56),
            ]),
            without_single_flight: None,
            eviction: Eviction::Lru,
            weighing: None,
        };
        let (is_without, eviction) = bytes.bit_and_eviction();
        settings.without_single_flight = is_without.then_some(());
        settings.eviction = eviction;
        settings.weighing = bytes.pick(&[false, true]).then(|| {
            let weights = [0, 1, 2, 5, u64::MAX - 1, u64::MAX, any as u64];
            Weighing {
                max: bytes.pick(&weights),
                each: bytes.pick(&weights),
                light: bytes.pick(&[None, Some(2), Some(3)]),
            }
        });
        settings
    }

    fn build(&self) -> AsyncLru<Key, Value, Hashing> {
        let mut builder = AsyncLru::<Key, Value>::builder()
            .maxsize(self.maxsize)
            .eviction(self.eviction)
            .clock(ManualClock::new())
            .hasher(self.hashing);
        if let Some(shards) = self.shards {
            builder = builder.shards(shards);
        }
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(ttl);
        }
        if self.without_single_flight.is_some() {
            builder = builder.without_single_flight();
        }
        if let Some(weighing) = self.weighing {
            let weigher = move |_: &Key, value: &Value| weighing.weight(value.number);
            builder = builder.max_weight(weighing.max, weigher);
        }
        match self.measuring {
            Measuring::Nothing => builder.build(),
            Measuring::Each(bytes) => builder.measure_with(move |_, _| bytes).build(),
            Measuring::Growing => builder.measure_with(|_, value| 1 << (value.number % 64)).build(),
        }
    }

    /// Whether an entry of this value is cached at all.
    fn keeps(&self, value: u32) -> bool {
        let fits = |weighing: Weighing| weighing.weight(value) <= weighing.max;
        self.maxsize > 0 && self.ttl != Some(Duration::ZERO) && self.weighing.is_none_or(fits)
    }

    fn is_full(&self, entries: usize, weight: u64) -> bool {
        entries >= self.maxsize || self.weighing.is_some_and(|weighing| weighing.is_full(weight))
    }

    fn assert_kept(&self, cache: &AsyncLru<Key, Value, Hashing>) {
        let info = cache.info();
        assert!(
            info.maxsize == self.maxsize || info.maxsize >= 1 << 30 && info.maxsize < self.maxsize
        );
        assert_eq!((info.ttl, info.eviction), (self.ttl, self.eviction));
        assert!(info.shards.is_power_of_two() && info.shards <= 1024);
        assert!(self.shards.is_none_or(|asked| info.shards >= asked.min(1024)));
        let most = match self.eviction {
            Eviction::Adaptive => 5 << 18,
            _ => 1 << 20,
        };
        assert!(cache.stats().total_size_in_memory_bytes < most, "room in advance: {self:?}");
    }
}

struct Run {
    cache: AsyncLru<Key, Value, Hashing>,
    settings: Settings,
    census: Census,
    /// What each key has unless it was evicted; nothing expires, as the clock stands still.
    written: HashMap<u8, u32>,
    /// As of the step before.
    evictions: u64,
    /// Whether there were ever as many entries as there may be.
    was_full: bool,
}

impl Run {
    fn step(&mut self, bytes: &mut Bytes<'_>, number: u32) {
        let Self { cache, settings, census, written, .. } = self;
        let kind = bytes.below(8);
        let at = bytes.below(KEYS) as u8;
        let key = || census.key(at);
        let load = async || {
            yield_now().await;
            census.value(number)
        };
        match kind {
            0 => {
                let found = numbers(cache.get(&key()));
                assert!(found.is_none() || found == written.get(&at).copied());
                return;
            }
            1 => {
                let old = numbers(cache.remove_blocking(&key()));
                assert!(old.is_none() || old == written.remove(&at));
                written.remove(&at);
                return;
            }
            2 if at == 0 => {
                cache.clear_blocking();
                written.clear();
                return;
            }
            2..=4 => {
                let old = numbers(block_on(cache.insert(key(), census.value(number))));
                assert!(old.is_none() || old == written.get(&at).copied());
                written.insert(at, number);
            }
            _ => {
                let misses = cache.stats().misses;
                let borrowed = key();
                let both = zip(
                    cache.get_or_insert_with(key(), load),
                    cache.get_or_insert_with_ref(&borrowed, load),
                );
                let (one, two) = block_on(both);
                drop(borrowed);
                assert_eq!(one.number, two.number);
                let expected = if settings.without_single_flight.is_some() { 2 } else { 1 };
                let missed = cache.stats().misses - misses;
                assert!(missed == 0 || missed == expected, "{missed} loads of one moment");
                if missed == 0 {
                    assert_eq!(written.get(&at), Some(&one.number));
                }
                written.insert(at, one.number);
            }
        }
        let expected = Some(written[&at]).filter(|value| settings.keeps(*value));
        assert_eq!(numbers(cache.peek(&key())), expected, "the newest entry is there");
    }

    fn check(&mut self) {
        let Self { cache, settings, census, written, evictions, was_full } = self;
        assert_eq!(cache.validate(), 0);
        let stats = cache.stats();
        let len = cache.len();
        assert!(len <= settings.maxsize);
        let is_full = settings.is_full(len, stats.current_weight.unwrap_or(0));
        assert!(is_full || stats.evictions <= *evictions, "evicted with room left");
        assert!(stats.current_weight <= stats.max_weight);
        *evictions = stats.evictions;
        if *evictions == 0 {
            let kept = written.values().filter(|value| settings.keeps(**value));
            assert_eq!(len, kept.count());
        }
        *was_full |= len >= settings.maxsize;
        let is_watched = !*was_full && settings.ttl != Some(Duration::ZERO);
        if let Some(weighing) = settings.weighing.filter(|_| is_watched) {
            let light = written.iter().filter(|(_, value)| weighing.weight(**value) == 0);
            for (at, value) in light {
                let found = numbers(cache.peek(&census.key(*at)));
                assert_eq!(found, Some(*value), "what weighs nothing stays");
            }
        }
        assert_eq!(cache.keys().len(), len);
        assert_eq!(stats.expirations, 0);
        census.assert_only(len);
        if let Measuring::Each(bytes) = settings.measuring {
            let least = (bytes as u64).saturating_mul(len as u64);
            assert!(stats.total_size_in_memory_bytes >= least, "{stats}");
        }
        assert!(!format!("{cache:?} {} {stats}", cache.info()).is_empty());
    }
}
