//! What the tasks do: calls of every kind, which succeed, fail, panic or are dropped.

use std::future::{Future, pending};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, Update};
use futures_lite::FutureExt;
use futures_lite::future::{or, yield_now};

use crate::census::{Census, Key, Number, Value};

pub(crate) const MAXSIZE: usize = 20_000;

/// Keys of the random load; few are asked for often and many seldom.
const KEYS: u64 = 80_000;

const TTL: Duration = Duration::from_secs(60);

/// What all tasks share.
pub(crate) struct Ground {
    pub(crate) cache: AsyncLru<Key, Value>,
    pub(crate) census: Census,
    clock: ManualClock,
    pub(crate) counts: Arc<Counts>,
}

/// What was done, as the tasks count it; all but the steps since the cache was last emptied.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) steps: AtomicU64,
    /// Calls that the cache counts.
    pub(crate) calls: AtomicU64,
    pub(crate) loads: AtomicU64,
    /// Loads that ended with a value.
    pub(crate) values: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a load is to end.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Value,
    Error,
    Panic,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::new();
        let builder = AsyncLru::builder().maxsize(MAXSIZE).ttl(TTL).clock(clock.clone());
        // One key in eight lives half as long as the others, so that not all expire in the order in
        // which they came.
        let lifetime = |key: &Key, _: &Value| (key.number % 8 == 0).then_some(TTL / 2);
        let builder = builder.time_to_idle(TTL * 3 / 4).expiry(lifetime);
        Self { cache: builder.build(), census: Census::default(), clock, counts: Arc::default() }
    }

    /// Fills the cache with entries that are all alike, so that its memory can be compared.
    pub(crate) fn fill(&self) {
        let Self { cache, census, .. } = self;
        for key in KEYS..KEYS + MAXSIZE as u64 {
            cache.insert_blocking(census.key(key), census.value(key));
        }
        assert_eq!(cache.len(), MAXSIZE);
    }

    /// Starts `number` loads at once and drops them: the cache keeps the room that its table of loads
    /// has taken, within limits, and in the random load that would grow for a long time.
    pub(crate) fn crowd(&self, number: u64) {
        let start = |key| {
            let mut call = Box::pin(self.cache.get_or_insert_with(self.census.key(key), pending));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            call
        };
        let calls: Vec<_> = (0..number).map(start).collect();
        drop(calls);
        self.clear();
    }

    /// Empties the cache, which resets its statistics.
    pub(crate) fn clear(&self) {
        self.cache.clear_blocking();
        let Counts { calls, loads, values, .. } = &*self.counts;
        for counter in [calls, loads, values] {
            counter.store(0, Ordering::SeqCst);
        }
    }

    /// A row of random steps.
    pub(crate) async fn random_load(&self, seed: u64, steps: u64) {
        let mut random = Random(seed);
        for _ in 0..steps {
            self.random_step(&mut random).await;
            Counts::add(&self.counts.steps);
        }
    }

    async fn random_step(&self, random: &mut Random) {
        let Self { cache, census, clock, counts } = self;
        let number = random.below(KEYS);
        let number = random.below(number + 1);
        let yields = random.below(4);
        match random.below(1200) {
            0..500 => self.call(number, yields, Ending::Value).await,
            500..600 => {
                let ending = if random.below(3) == 0 { Ending::Error } else { Ending::Value };
                let call = cache.entry(census.key(number));
                let call = call.or_try_insert_own(|| self.load(number, yields, ending));
                Counts::add(&counts.calls);
                let is_as_loaded = call.await.is_ok_and(|found| found.value.key == number);
                assert!(is_as_loaded || ending == Ending::Error);
            }
            600..650 => {
                let call = cache.try_get_or_insert_with(census.key(number), || {
                    self.load(number, yields, Ending::Error)
                });
                Counts::add(&counts.calls);
                // The error may be that of a batch.
                assert!(call.await.map_or(true, |value| value.key == number));
            }
            650..700 => {
                let call = AssertUnwindSafe(self.call(number, yields, Ending::Panic));
                // Those that found a value or waited for another's do not panic.
                drop(call.catch_unwind().await);
            }
            700..800 => {
                let call = async {
                    self.call(number, yields + 2, Ending::Value).await;
                };
                // The loser is dropped.
                or(call, async {
                    for _ in 0..yields {
                        yield_now().await;
                    }
                })
                .await;
            }
            800..880 => {
                Counts::add(&counts.calls);
                let found = cache.get(&Number(number));
                assert!(found.is_none_or(|value| value.key == number));
            }
            880..930 => {
                let old = cache.insert(census.key(number), census.value(number)).await;
                assert!(old.is_none_or(|value| value.key == number));
            }
            930..960 => {
                let old = cache.remove(&Number(number)).await;
                assert!(old.is_none_or(|value| value.key == number));
            }
            960..990 => drop(cache.invalidate(&Number(number)).await),
            990 => drop(cache.purge_expired().await),
            991..1000 => clock.advance(TTL / 500),
            _ => self.newer_step(number, yields, random).await,
        }
        assert!(cache.len() <= MAXSIZE);
    }

    /// Loads that live in the cache, calls for many keys, and writes of other kinds.
    async fn newer_step(&self, number: u64, yields: u64, random: &mut Random) {
        let Self { cache, census, counts, .. } = self;
        let key = || census.key(number);
        match random.below(200) {
            0..60 => self.detached_call(number, yields).await,
            60..90 => {
                // The loser is dropped, and its load goes on if another waits for it.
                or(self.detached_call(number, yields + 2), async {
                    for _ in 0..yields {
                        yield_now().await;
                    }
                })
                .await;
            }
            90..120 => self.many(number, yields, random.below(4)).await,
            120..150 => {
                let change = random.below(4);
                let update = async |old: Option<Value>| {
                    assert!(old.is_none_or(|old| old.key == number));
                    for _ in 0..yields {
                        yield_now().await;
                    }
                    match change {
                        0 => Ok(Update::Keep),
                        1 => Ok(Update::Remove),
                        2 => Err(number),
                        _ => Ok(Update::Put(census.value(number))),
                    }
                };
                let left = cache.try_update_with(key(), update).await;
                assert!(left.map_or_else(
                    |key| key == number,
                    |left| left.is_none_or(|left| left.key == number)
                ));
            }
            150..190 => {
                let ttl = TTL / 1000 * random.below(700) as u32;
                let old = cache.insert_with_ttl(key(), census.value(number), ttl).await;
                assert!(old.is_none_or(|value| value.key == number));
                cache.set_ttl(&Number(number), ttl / 2).await;
            }
            190..198 => {
                let entries = [number, number + 1]
                    .map(|number| (census.key(number), census.value(number), Some(TTL / 4)));
                assert!(cache.restore(entries).await <= 2);
            }
            198 if random.below(50) == 0 => {
                let is_chosen = move |key: &Key, _: &Value| key.number % 1000 == number % 1000;
                cache.invalidate_if(is_chosen).await;
                cache.invalidate_keys_if(|key| key.number % 1000 == (number + 1) % 1000).await;
            }
            _ => {
                Counts::add(&counts.calls);
                let found = cache.get_many([&Number(number)]);
                assert!(found.into_iter().flatten().all(|value| value.key == number));
            }
        }
    }

    async fn detached_call(&self, number: u64, yields: u64) {
        let Self { cache, census, counts, .. } = self;
        let load = || {
            Counts::add(&counts.loads);
            let (alive, value, counts) = (census.load(), census.value(number), Arc::clone(counts));
            async move {
                let _alive = alive;
                for _ in 0..yields {
                    yield_now().await;
                }
                Counts::add(&counts.values);
                value
            }
        };
        Counts::add(&counts.calls);
        let call = cache.entry(census.key(number)).detached().or_insert_with(load);
        assert_eq!(call.await.value.key, number);
    }

    /// A call for some keys whose load may fail, or leave the first of them out.
    async fn many(&self, number: u64, yields: u64, fate: u64) {
        let Self { cache, census, counts, .. } = self;
        let numbers = [number, number / 2 + 1, number + 7];
        let distinct = 3 - u64::from(number == numbers[1]) - u64::from(numbers[1] == numbers[2]);
        counts.calls.fetch_add(distinct, Ordering::Relaxed);
        let load = async |missing: Vec<Key>| {
            Counts::add(&counts.loads);
            let _alive = census.load();
            for _ in 0..yields {
                yield_now().await;
            }
            if fate == 0 {
                return Err(number);
            }
            Counts::add(&counts.values);
            let kept = missing.into_iter().filter(|key| fate > 1 || key.number != number);
            let pairs = kept.map(|key| {
                let value = census.value(key.number);
                (key, value)
            });
            Ok(pairs.collect::<Vec<_>>())
        };
        // An error may be that of a load that it has joined.
        let answers = cache.try_get_or_insert_many(numbers.map(|key| census.key(key)), load).await;
        for (key, value) in answers.into_iter().flatten() {
            assert!(value.is_none_or(|value| value.key == key.number));
        }
    }

    async fn call(&self, number: u64, yields: u64, ending: Ending) {
        let load = || async move {
            // Only a failing load has no value, and there is none here.
            self.load(number, yields, ending).await.unwrap_or_else(|_| unreachable!())
        };
        Counts::add(&self.counts.calls);
        let value = self.cache.get_or_insert_with(self.census.key(number), load).await;
        assert_eq!(value.key, number);
    }

    async fn load(&self, number: u64, yields: u64, ending: Ending) -> Result<Value, u64> {
        Counts::add(&self.counts.loads);
        let _alive = self.census.load();
        for _ in 0..yields {
            yield_now().await;
        }
        match ending {
            Ending::Value => {
                Counts::add(&self.counts.values);
                Ok(self.census.value(number))
            }
            Ending::Error => Err(number),
            // Unlike `panic!` it prints nothing.
            Ending::Panic => resume_unwind(Box::new("on purpose")),
        }
    }

    /// Keys that were never asked for, each of whose loads fails.
    pub(crate) async fn failing_keys(&self, keys: Range<u64>) {
        for number in keys {
            // Not a key that the cache is filled with.
            let number = number | 1 << 40;
            Counts::add(&self.counts.calls);
            let load = || self.load(number, number % 2, Ending::Error);
            let failed = self.cache.try_get_or_insert_with(self.census.key(number), load).await;
            assert!(failed.is_err_and(|key| *key == number));
            Counts::add(&self.counts.steps);
        }
    }

    /// Asserts that the cache has counted the same, which only holds when nobody calls it.
    pub(crate) fn assert_statistics(&self) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let stats = self.cache.stats();
        let Counts { calls, loads, values, .. } = &*self.counts;
        assert_eq!(stats.calls(), count(calls), "{stats}");
        assert_eq!(stats.loads, count(loads), "{stats}");
        // A call that is dropped while it waits to publish its value counts as failed.
        assert!(stats.loads - stats.load_failures <= count(values), "{stats}");
    }
}

/// A generator of random numbers: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ bits >> 31) % limit
    }
}
