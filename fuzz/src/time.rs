//! Times to live and times of the clock from one nanosecond to the end of all time, in any order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru::{AsyncLru, Clock};
use futures_lite::future::block_on;

use super::bytes::Bytes;
use super::census::{Census, Key, Value, numbers};

const KEYS: usize = 6;

/// The last time that the cache can tell from later ones.
const END: Duration = Duration::from_nanos(u64::MAX - 1);

/// Runs what `input` stands for.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let census = Census::default();
    let clock = AnyClock::default();
    let ttl = duration(&mut bytes);
    let shards = bytes.pick(&[1, 1, 4]);
    let builder = AsyncLru::builder().maxsize(KEYS).shards(shards).ttl(ttl).clock(clock.clone());
    let cache = builder.build();
    assert_eq!(cache.info().ttl, Some(ttl));
    let keys = [const { None }; KEYS];
    let mut run = Run { cache, clock, census: census.clone(), ttl, keys, latest: Duration::ZERO };
    let mut number = 0;
    while !bytes.is_empty() {
        number += 1;
        run.step(&mut bytes, number);
        assert!(run.cache.len() <= KEYS);
        assert_eq!(run.cache.validate(), 0);
        census.assert_only(run.cache.len());
    }
    drop(run);
    census.assert_only(0);
}

/// A duration of any size; most are small, or close to where arithmetic ends.
fn duration(bytes: &mut Bytes<'_>) -> Duration {
    let end = Duration::from_nanos(u64::MAX);
    match bytes.below(12) {
        0 => Duration::ZERO,
        1 => Duration::from_nanos(1),
        2 => Duration::MAX,
        3 => end,
        4 => END,
        5 => end + Duration::from_nanos(1),
        6 => Duration::from_secs(u64::MAX),
        7 => Duration::from_nanos(u64::MAX / 2 + u64::from(bytes.next_byte())),
        8 => END - Duration::from_nanos(u64::from(bytes.next_byte())),
        9 => Duration::from_nanos(bytes.next_u64()),
        _ => Duration::from_nanos(u64::from(bytes.next_byte())),
    }
}

/// A clock that shows whatever it is set to.
#[derive(Clone, Default)]
struct AnyClock(Arc<Mutex<Duration>>);

impl AnyClock {
    fn time(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

impl Clock for AnyClock {
    fn now(&self) -> Duration {
        self.time()
    }
}

/// What is known of the entry of a key.
struct Entry {
    value: u32,
    /// What the clock showed when the entry was published.
    published: Duration,
    /// The latest time that it had shown until then. The cache may count from there.
    latest: Duration,
    /// The latest time that it has shown since.
    seen: Duration,
}

struct Run {
    cache: AsyncLru<Key, Value>,
    clock: AnyClock,
    census: Census,
    ttl: Duration,
    keys: [Option<Entry>; KEYS],
    /// The latest time that the clock has shown.
    latest: Duration,
}

impl Run {
    fn step(&mut self, bytes: &mut Bytes<'_>, number: u32) {
        let kind = bytes.below(12);
        let at = bytes.below(KEYS);
        let key = self.census.key(at as u8);
        let value = self.census.value(number);
        match kind {
            0 | 1 => self.set_clock(bytes),
            2 => {
                let found = self.cache.get(&key);
                self.assert_found(at, found);
            }
            3 => {
                let found = self.cache.peek(&key);
                self.assert_found(at, found);
            }
            4 => {
                let listed = self.cache.keys().iter().any(|key| key.number == at as u8);
                assert_eq!(listed, self.cache.contains_key(&key));
                assert_eq!(listed, self.cache.peek(&key).is_some());
            }
            5 | 6 => {
                let old = block_on(self.cache.insert(key, value));
                self.assert_found(at, old);
                self.publish(at, number);
            }
            7 => {
                let old = block_on(self.cache.remove(&key));
                self.assert_found(at, old);
                self.keys[at] = None;
            }
            8 => {
                self.cache.purge_expired_blocking();
                assert_eq!(self.cache.len(), self.cache.keys().len(), "purged, but not all");
            }
            _ => {
                let later = duration(bytes);
                let clock = self.clock.clone();
                // An entry lives from its publication: time may pass during its load.
                let load = async move || {
                    *clock.0.lock().unwrap() = later;
                    value
                };
                let loaded = block_on(self.cache.get_or_insert_with(key, load));
                if loaded.number == number {
                    self.assert_found(at, None);
                    self.note_time();
                    self.publish(at, number);
                } else {
                    self.assert_found(at, Some(loaded));
                }
            }
        }
    }

    /// Moves the clock to any time, or by a little.
    fn set_clock(&mut self, bytes: &mut Bytes<'_>) {
        let now = self.clock.time();
        let step = Duration::from_nanos(u64::from(bytes.next_byte()));
        let time = match bytes.below(4) {
            0 => duration(bytes),
            1 => now.saturating_sub(step),
            2 => now.saturating_add(self.ttl),
            _ => now.saturating_add(step),
        };
        *self.clock.0.lock().unwrap() = time;
        self.note_time();
    }

    fn note_time(&mut self) {
        let now = self.clock.time().min(END);
        self.latest = self.latest.max(now);
        for entry in self.keys.iter_mut().flatten() {
            entry.seen = entry.seen.max(now);
        }
    }

    fn publish(&mut self, at: usize, value: u32) {
        let now = self.clock.time().min(END);
        let entry = Entry { value, published: now, latest: self.latest, seen: now };
        self.keys[at] = (!self.ttl.is_zero()).then_some(entry);
    }

    /// Asserts that a read has found what it may find now, wherever the clock has been.
    fn assert_found(&mut self, at: usize, found: Option<Value>) {
        let now = self.clock.time().min(END);
        let found = numbers(found);
        let Some(entry) = &self.keys[at] else {
            assert_eq!(found, None, "revived, or never written");
            return;
        };
        let deadline = |from: Duration| from.saturating_add(self.ttl);
        if let Some(found) = found {
            assert_eq!(found, entry.value);
            assert!(now < deadline(entry.latest), "found after its time");
        } else {
            assert!(entry.seen >= deadline(entry.published), "gone before its time");
            self.keys[at] = None;
        }
    }
}
