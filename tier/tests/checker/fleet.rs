//! Instances that read and write in real time, and what watches them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_lru::AsyncLru;
use async_lru_tier::{Codec, CodecError, Key, NotPropagated, Store, Tiered};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::ledger::{Ledger, dawdle};

const INSTANCES: usize = 4;
const READERS: usize = 2;
const WRITERS: usize = 2;
/// Few keys are written all the time, so that writes race each other; the rest seldom, so that what is stale
/// stays so.
const HOT: usize = 6;
const KEYS: usize = 96;
/// Longer than any recovery, on any machine.
const LONGEST: Duration = Duration::from_secs(20);

/// Several instances over one store.
pub(crate) struct Fleet {
    instances: Vec<Tiered<usize, u64>>,
    ledger: Ledger,
    is_over: AtomicBool,
    /// The number of the last beacon; above those of the keys.
    last_beacon: AtomicUsize,
}

struct Versions;

impl Codec<u64> for Versions {
    fn encode(&self, version: &u64) -> Result<Vec<u8>, CodecError> {
        Ok(version.to_be_bytes().to_vec())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, CodecError> {
        Ok(u64::from_be_bytes(bytes.try_into()?))
    }
}

impl Fleet {
    /// Must be called within the runtime that is to drive the instances.
    pub(crate) fn start(store: &Arc<dyn Store>) -> Arc<Self> {
        let instance = |number: usize| {
            // One shard, so that all of an instance is cleared at once: see `watch`.
            let mut local = AsyncLru::builder().shards(1);
            // No more than one: what is refreshed from the store does not stay stale, cleared or not.
            if number == 0 {
                local = local.fresh_for(Duration::from_millis(30));
            }
            let users = Tiered::builder(Arc::clone(store), Versions, sleep)
                .namespace("checked")
                .ttl(Duration::from_secs(60))
                .ttl_alone(Duration::ZERO)
                // Soon over, for those whose holder has lost its link.
                .lease(Duration::from_millis(150))
                .heartbeat(Duration::from_millis(200))
                .local(local)
                .build();
            tokio::spawn(users.driver());
            users
        };
        Arc::new(Self {
            instances: (0..INSTANCES).map(instance).collect(),
            ledger: Ledger::new(INSTANCES, KEYS),
            is_over: AtomicBool::new(false),
            last_beacon: AtomicUsize::new(KEYS),
        })
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Reads and writes for `time`, and does `trouble` now and then, on a thread where it may take its time;
    /// then lets all of it end.
    pub(crate) async fn run(
        self: &Arc<Self>,
        time: Duration,
        mut trouble: impl FnMut() + Send + 'static,
    ) {
        let mut tasks = JoinSet::new();
        for instance in 0..INSTANCES {
            for _ in 0..READERS {
                let fleet = Arc::clone(self);
                tasks.spawn(async move { fleet.read_on(instance).await });
            }
            let fleet = Arc::clone(self);
            tasks.spawn(async move { fleet.watch_on(instance).await });
        }
        for _ in 0..WRITERS {
            let fleet = Arc::clone(self);
            tasks.spawn(async move { fleet.write_on().await });
        }
        let end = Instant::now() + time;
        let troubles = tokio::task::spawn_blocking(move || {
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(400).min(end - Instant::now()));
                if Instant::now() < end {
                    trouble();
                }
            }
        });
        sleep(time).await;
        troubles.await.unwrap();
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Waits until all instances are linked, know all that was acknowledged, and reads it.
    pub(crate) async fn settle(&self) {
        for (instance, users) in self.instances.iter().enumerate() {
            timeout(LONGEST, users.linked()).await.expect("the link comes back");
            let last = self.ledger.acknowledged();
            let start = Instant::now();
            while !self.watch(instance).await {
                assert!(start.elapsed() < LONGEST, "an instance hears nothing");
                sleep(Duration::from_millis(10)).await;
            }
            self.ledger.heard(instance, &last);
            for key in 0..KEYS {
                self.get(instance, key).await;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    // Reading.

    async fn read_on(&self, instance: usize) {
        while !self.is_over() {
            for _ in 0..8 {
                self.read(instance).await;
                yield_now().await;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read(&self, instance: usize) {
        match fastrand::u8(..32) {
            0 => self.get_many(instance).await,
            1 => self.refresh(instance, random_key()).await,
            _ => self.get(instance, random_key()).await,
        }
    }

    async fn get(&self, instance: usize, key: usize) {
        let read = self.ledger.read(instance, key);
        read.gave(self.instances[instance].get(&key, || self.ledger.load(key)).await);
    }

    async fn refresh(&self, instance: usize, key: usize) {
        let read = self.ledger.read(instance, key);
        let load = || async { Ok::<_, ()>(self.ledger.load(key).await) };
        read.gave(self.instances[instance].refresh(&key, load).await.unwrap());
    }

    async fn get_many(&self, instance: usize) {
        let keys: Vec<usize> = (0..4).map(|_| random_key()).collect();
        let reads: Vec<_> = keys.iter().map(|&key| self.ledger.read(instance, key)).collect();
        let load = async |keys: Vec<usize>| {
            let mut rows = Vec::new();
            for key in keys {
                rows.push((key, self.ledger.load(key).await));
            }
            rows
        };
        let answers = self.instances[instance].get_many(keys, load).await;
        for (read, (_, version)) in reads.into_iter().zip(answers) {
            read.gave(version.expect("the source has all keys"));
        }
    }

    // Writing.

    async fn write_on(&self) {
        while !self.is_over() {
            let (instance, key) = (fastrand::usize(..INSTANCES), random_key());
            self.write(instance, key).await;
            sleep(Duration::from_millis(fastrand::u64(1..6))).await;
        }
    }

    async fn write(&self, instance: usize, key: usize) {
        let users = &self.instances[instance];
        match fastrand::u8(..16) {
            // What is inserted without a guard needs writers that wait for each other, here those of all
            // even keys.
            0..6 if key % 2 == 0 => {
                let turn = self.ledger.lock(key).await;
                let version = self.ledger.write(key);
                let result = users.insert(&key, version).await;
                self.ledger.written(instance, key, version, result);
                drop(turn);
            }
            0..6 => {
                let guard = users.writing(&key).await;
                dawdle().await;
                let version = self.ledger.write(key);
                dawdle().await;
                let result = match fastrand::u8(..4) {
                    0 => guard.finish().await,
                    _ => guard.insert(version).await,
                };
                self.ledger.written(instance, key, version, result);
            }
            6 => {
                let turn = self.turn(key).await;
                let keys = [key, random_odd_key(), random_odd_key()];
                let versions = keys.map(|key| self.ledger.write(key));
                let result = users.invalidate_many(&keys).await.map_err(drop);
                for (key, version) in keys.into_iter().zip(versions) {
                    self.ledger.written(instance, key, version, result);
                }
                drop(turn);
            }
            7 if fastrand::u8(..8) == 0 => {
                let turn = self.turn(key).await;
                let version = self.ledger.write(key);
                let result = users.invalidate_all().await;
                self.ledger.written(instance, key, version, result);
                drop(turn);
            }
            8 => {
                // Given up, perhaps halfway: then nothing is acknowledged but to this instance.
                let turn = self.turn(key).await;
                let version = self.ledger.write(key);
                let result = timeout(Duration::from_millis(1), users.invalidate(&key)).await;
                let result = result.map_err(drop).and_then(|result| result.map_err(drop));
                self.ledger.written(instance, key, version, result);
                drop(turn);
            }
            9 => {
                let guard = users.writing(&key).await;
                let turn = self.turn(key).await;
                let version = self.ledger.write(key);
                drop(guard);
                self.ledger.written(instance, key, version, Err(()));
                drop(turn);
            }
            _ => {
                let turn = self.turn(key).await;
                let version = self.ledger.write(key);
                let result: Result<(), NotPropagated> = users.invalidate(&key).await;
                self.ledger.written(instance, key, version, result);
                drop(turn);
            }
        }
    }

    /// The turn to write a key, if it is one whose writers wait for each other.
    async fn turn(&self, key: usize) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if key % 2 == 0 { Some(self.ledger.lock(key).await) } else { None }
    }

    // Watching.

    async fn watch_on(&self, instance: usize) {
        while !self.is_over() {
            self.watch(instance).await;
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Finds out what an instance must know: a beacon in its local cache is removed by another instance, after
    /// a look at what is acknowledged. When the beacon is gone the instance has done the message, and so all
    /// that was sent before; or it has cleared all, which does as well.
    ///
    /// Tells whether the beacon went.
    async fn watch(&self, instance: usize) -> bool {
        let local = self.instances[instance].local();
        // Each time another, so that no message of before is taken for the one that is waited for.
        let number = self.last_beacon.fetch_add(1, Ordering::Relaxed) + 1;
        let beacon = Key::of(&number);
        local.insert(beacon.clone(), 0).await;
        let snapshot = self.ledger.acknowledged();
        if local.peek(&beacon).is_none() {
            // Gone before the look.
            return false;
        }
        let other = (instance + 1 + fastrand::usize(..INSTANCES - 1)) % INSTANCES;
        if self.instances[other].invalidate(&number).await.is_err() {
            return false;
        }
        let start = Instant::now();
        while local.peek(&beacon).is_some() {
            // Of what is lost nothing follows.
            if start.elapsed() > Duration::from_millis(100) {
                return false;
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.ledger.heard(instance, &snapshot);
        true
    }
}

fn random_key() -> usize {
    if fastrand::bool() { fastrand::usize(..HOT) } else { fastrand::usize(HOT..KEYS) }
}

fn random_odd_key() -> usize {
    fastrand::usize(..KEYS / 2) * 2 + 1
}
