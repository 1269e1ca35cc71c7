//! What the two tiers cost, beside plain calls of the server and the Redis store of `cached`.
//!
//! `cargo bench --manifest-path tier/benches/Cargo.toml` starts a server on the loopback interface if there is a `redis-server` or
//! `valkey-server` on the path, else it measures the store in memory; prints a table, and writes it to a file
//! with `-- --out FILE`. One caller on one thread, all in turns. Values are strings of 100 bytes.

#[path = "../examples/fleet/server.rs"]
#[allow(dead_code, reason = "nothing is killed here")]
mod server;

use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_lru::AsyncLru;
use async_lru_tier::Key;
use async_lru_tier::{Json, MemoryStore, RedisStore, Store, Tiered};
use cached::{AsyncRedisCache, ConcurrentCachedAsync};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use crate::server::Server;

/// Hits in the process, of each cache in each turn: few, so that whoever else runs here disturbs few turns.
const HITS: u32 = 100;
const HIT_TURNS: usize = 20_000;
/// Operations of each kind that ask the server.
const CALLS: u64 = 2_000;
/// Those for many keys at once.
const CALLS_FOR_MANY: u64 = 300;
const MANY: u64 = 100;
const TTL: Duration = Duration::from_secs(300);

/// Cheap to clone, so that hits show what the caches cost.
type Value = Arc<str>;
type Cache = Tiered<u64, Value>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench --manifest-path tier/benches/Cargo.toml`");
        return Ok(());
    }
    let out = arguments.iter().position(|argument| argument == "--out");
    let out = out.map(|place| arguments.get(place + 1).ok_or("--out needs a file")).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = runtime.block_on(measure())?;
    print!("{table}");
    if let Some(file) = out {
        std::fs::write(file, table)?;
    }
    Ok(())
}

async fn measure() -> Result<String, Box<dyn Error>> {
    let mut rows = Rows::default();
    match Server::start()? {
        Some(server) => {
            let store = RedisStore::open(&server.url())?;
            hits(&mut rows, &linked(store.clone()).await).await;
            let plain = Plain::connect(&server).await?;
            calls(&mut rows, store, Some(plain)).await?;
        }
        None => {
            eprintln!("neither redis-server nor valkey-server is on the path: a store in memory");
            let store = MemoryStore::new();
            hits(&mut rows, &linked(store.clone()).await).await;
            calls(&mut rows, store, None).await?;
        }
    }
    Ok(rows.table())
}

/// An instance that uses `store`.
async fn linked(store: impl Store) -> Cache {
    linked_with(store, AsyncLru::builder()).await
}

async fn linked_with(store: impl Store, local: async_lru::Builder<Key, Value>) -> Cache {
    let cache = Tiered::builder(store, Json, tokio::time::sleep).ttl(TTL).local(local).build();
    tokio::spawn(cache.driver());
    cache.linked().await;
    cache
}

/// Hits in the process.
async fn hits(rows: &mut Rows, cache: &Cache) {
    let bare = AsyncLru::<u64, Value>::builder().ttl(TTL).build();
    let load = async || value();
    for key in 0..MANY {
        bare.get_or_insert_with(key, load).await;
        cache.get(&key, load).await;
    }
    for _ in 0..HIT_TURNS {
        rows.time_each("hit of a bare `AsyncLru`", HITS, async |number| {
            black_box(bare.get_or_insert_with(u64::from(number) % MANY, load).await);
        })
        .await;
        rows.time_each("hit in the instance", HITS, async |number| {
            black_box(cache.get(&(u64::from(number) % MANY), load).await);
        })
        .await;
    }
}

/// All that asks the store, and with a server the same by others.
async fn calls(
    rows: &mut Rows,
    store: impl Store + Clone,
    plain: Option<Plain>,
) -> Result<(), Box<dyn Error>> {
    let (removed, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let local = AsyncLru::builder().on_remove(move |_, _, _| {
        // Who hears it has gone, in the end.
        let _ = removed.send(());
    });
    let (cache, other) = (linked(store.clone()).await, linked_with(store, local).await);
    let load = async || value();
    let nobody = async || unreachable!();
    for number in 0..CALLS {
        let key = number % MANY;
        if let Some(plain) = &plain {
            plain.one(rows, key).await?;
        }
        rows.time("insert", cache.insert(&key, value())).await?;
        cache.local().invalidate(&Key::of(&key)).await;
        rows.time("hit in the store", cache.get(&key, nobody)).await;
        rows.time("miss: lease, load and put", cache.get(&(number + MANY), load)).await;
        rows.time("invalidate", cache.invalidate(&(number + MANY))).await?;

        other.get(&key, nobody).await;
        let invalidate = async { tokio::join!(cache.invalidate(&key), gone.recv()).0 };
        rows.time("invalidate, until it is gone in another", invalidate).await?;
    }
    for number in 0..CALLS_FOR_MANY {
        if let Some(plain) = &plain {
            plain.many(rows).await?;
        }
        let first = (number + 1) << 32;
        let keys = || first..first + MANY;
        let load = async |keys: Vec<u64>| keys.into_iter().map(|key| (key, value()));
        rows.time("100 keys: misses", cache.get_many(keys(), load)).await;
        cache.local().invalidate_all().await;
        rows.time("100 keys: hits in the store", cache.get_many(keys(), load)).await;
        rows.time("100 keys: hits in the instance", cache.get_many(keys(), load)).await;
    }
    Ok(())
}

/// What one would use else.
struct Plain {
    redis: MultiplexedConnection,
    cached: AsyncRedisCache<u64, Value>,
}

impl Plain {
    async fn connect(server: &Server) -> Result<Self, Box<dyn Error>> {
        let redis = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
        let cached = AsyncRedisCache::builder("bench")
            .connection_string(&server.url())
            .ttl(TTL)
            .build()
            .await?;
        Ok(Self { redis, cached })
    }

    /// Writes and reads one key.
    async fn one(&self, rows: &mut Rows, key: u64) -> Result<(), Box<dyn Error>> {
        let (mut redis, name) = (self.redis.clone(), format!("plain:{key}"));
        let milliseconds = TTL.as_millis() as u64;
        rows.time("`redis`: SET PX", redis.pset_ex::<_, _, ()>(&name, &*value(), milliseconds))
            .await?;
        rows.time("`redis`: GET", redis.get::<_, String>(&name)).await?;
        rows.time("`cached`: set", self.cached.async_cache_set(key, value())).await?;
        let hit = rows.time("`cached`: hit", self.cached.async_cache_get(&key)).await?;
        assert_eq!(hit, Some(value()));
        Ok(())
    }

    /// Reads many.
    async fn many(&self, rows: &mut Rows) -> Result<(), Box<dyn Error>> {
        let mut redis = self.redis.clone();
        let names: Vec<_> = (0..MANY).map(|key| format!("plain:{key}")).collect();
        let values = rows.time("`redis`: MGET of 100", redis.mget::<_, Vec<String>>(names)).await?;
        assert_eq!(values.len(), MANY as usize);
        Ok(())
    }
}

fn value() -> Value {
    "x".repeat(100).into()
}

/// Times by what took them.
#[derive(Default)]
struct Rows(Vec<(&'static str, Vec<Duration>)>);

impl Rows {
    async fn time<T>(&mut self, title: &'static str, operation: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let output = operation.await;
        self.add(title, start.elapsed());
        output
    }

    /// Times many operations that are too short to be timed one by one.
    async fn time_each(&mut self, title: &'static str, count: u32, operation: impl AsyncFn(u32)) {
        let start = Instant::now();
        for number in 0..count {
            operation(number).await;
        }
        self.add(title, start.elapsed() / count);
    }

    fn add(&mut self, title: &'static str, time: Duration) {
        match self.0.iter_mut().find(|row| row.0 == title) {
            Some((_, times)) => times.push(time),
            None => self.0.push((title, vec![time])),
        }
    }

    fn table(&self) -> String {
        let mut table = format!("| {:<40} | {:>10} | {:>10} |\n", "", "p50", "p99");
        let _ = writeln!(table, "|{:-<42}|{:->12}|{:->12}|", "", ":", ":");
        for (title, times) in &self.0 {
            let mut times = times.clone();
            times.sort();
            let [p50, p99] =
                [0.5, 0.99].map(|share| times[((times.len() - 1) as f64 * share) as usize]);
            let _ = writeln!(table, "| {title:<40} | {:>10} | {:>10} |", shown(p50), shown(p99));
        }
        table
    }
}

fn shown(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ ..1_000 => format!("{nanos} ns"),
        nanos => format!("{:.1} us", nanos as f64 / 1_000.0),
    }
}
