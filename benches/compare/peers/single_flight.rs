//! The caches whose callers share one load when they miss together.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;

use async_lru::{AsyncLru, Eviction};

use super::{ADAPTIVE, About, Cache, Config, Expiry, Flight, Home, MOKA, OURS, QUICK_CACHE};
use crate::workload::Workload;

/// A loader that holds 64 bytes and never waits.
async fn small_load(bytes: [u8; 64]) -> u64 {
    black_box(&bytes);
    u64::from(bytes[0])
}

pub(crate) struct Ours<W: Workload>(AsyncLru<W::Key, W::Value>);

impl<W: Workload> Ours<W> {
    fn build_with(Config { capacity, ttl }: Config, eviction: Eviction) -> Self {
        let builder = AsyncLru::builder().maxsize(capacity).eviction(eviction);
        Self(match ttl {
            Some(ttl) => builder.ttl(ttl).build(),
            None => builder.build(),
        })
    }
}

impl<W: Workload> Cache<W> for Ours<W> {
    const ABOUT: About = About {
        name: OURS,
        flight: Flight::Single,
        expiry: Expiry::Ttl,
        home: Home::Threads,
        note: "statistics always on",
    };

    fn build(config: Config) -> Self {
        Self::build_with(config, Eviction::Lru)
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.get(key)
    }

    fn get_or_insert(&self, key: &W::Key) -> impl Future<Output = W::Value> + Send {
        self.0.get_or_insert_with_ref(key, || W::load(key))
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.insert(key, value).await;
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn future_size() -> Option<usize> {
        let cache = AsyncLru::<u64, u64>::new(1);
        let load = small_load([1; 64]);
        Some(size_of_val(&cache.get_or_insert_with(1, || load)))
    }
}

pub(crate) struct OursAdaptive<W: Workload>(Ours<W>);

impl<W: Workload> Cache<W> for OursAdaptive<W> {
    const ABOUT: About =
        About { name: ADAPTIVE, note: "the same with `Eviction::Adaptive`", ..Ours::<W>::ABOUT };

    fn build(config: Config) -> Self {
        Self(Ours::build_with(config, Eviction::Adaptive))
    }

    fn get(&self, key: &W::Key) -> impl Future<Output = Option<W::Value>> + Send {
        self.0.get(key)
    }

    fn get_or_insert(&self, key: &W::Key) -> impl Future<Output = W::Value> + Send {
        self.0.get_or_insert(key)
    }

    fn insert(&self, key: W::Key, value: W::Value) -> impl Future<Output = ()> + Send {
        self.0.insert(key, value)
    }

    fn len(&self) -> Option<usize> {
        self.0.len()
    }

    fn future_size() -> Option<usize> {
        Ours::<W>::future_size()
    }
}

pub(crate) struct QuickCache<W: Workload>(quick_cache::sync::Cache<W::Key, W::Value>);

impl<W: Workload> Cache<W> for QuickCache<W> {
    const ABOUT: About = About {
        name: QUICK_CACHE,
        flight: Flight::Single,
        expiry: Expiry::None,
        home: Home::Threads,
        note: "no statistics in its default features",
    };

    fn build(config: Config) -> Self {
        Self(quick_cache::sync::Cache::new(config.capacity))
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.get(key)
    }

    async fn get_or_insert(&self, key: &W::Key) -> W::Value {
        let load = async { Ok::<_, Infallible>(W::load(key).await) };
        let Ok(value) = self.0.get_or_insert_async(key, load).await;
        value
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.insert(key, value);
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn future_size() -> Option<usize> {
        let cache = quick_cache::sync::Cache::<u64, u64>::new(1);
        let load = async { Ok::<_, Infallible>(small_load([1; 64]).await) };
        Some(size_of_val(&cache.get_or_insert_async(&1, load)))
    }
}

pub(crate) struct Moka<W: Workload>(moka::future::Cache<W::Key, W::Value>);

impl<W: Workload> Cache<W> for Moka<W> {
    const ABOUT: About = About {
        name: MOKA,
        flight: Flight::Single,
        expiry: Expiry::Ttl,
        home: Home::Threads,
        note: "`future`, `get_with_by_ref`",
    };

    fn build(Config { capacity, ttl }: Config) -> Self {
        let builder = moka::future::Cache::builder().max_capacity(capacity as u64);
        Self(match ttl {
            Some(ttl) => builder.time_to_live(ttl).build(),
            None => builder.build(),
        })
    }

    fn get(&self, key: &W::Key) -> impl Future<Output = Option<W::Value>> + Send {
        self.0.get(key)
    }

    fn get_or_insert(&self, key: &W::Key) -> impl Future<Output = W::Value> + Send {
        self.0.get_with_by_ref(key, W::load(key))
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.insert(key, value).await;
    }

    async fn settle(&self) {
        self.0.run_pending_tasks().await;
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.entry_count() as usize)
    }

    fn future_size() -> Option<usize> {
        let cache = moka::future::Cache::<u64, u64>::new(1);
        let load = small_load([1; 64]);
        Some(size_of_val(&cache.get_with(1, load)))
    }
}

pub(crate) struct Fibre<W: Workload>(fibre_cache::AsyncCache<W::Key, W::Value>);

impl<W: Workload> Cache<W> for Fibre<W> {
    const ABOUT: About = About {
        name: "fibre_cache",
        flight: Flight::Single,
        expiry: Expiry::Ttl,
        home: Home::Tokio,
        note: "`fetch_with` and an `async_loader`, which it spawns on tokio",
    };

    fn build(Config { capacity, ttl }: Config) -> Self {
        let load = |key: W::Key| async move { (W::load(&key).await, 1) };
        let mut builder =
            fibre_cache::CacheBuilder::default().capacity(capacity as u64).async_loader(load);
        if let Some(ttl) = ttl {
            builder = builder.time_to_live(ttl);
        }
        Self(builder.build_async().expect("a valid configuration"))
    }

    fn get(&self, key: &W::Key) -> impl Future<Output = Option<W::Value>> + Send {
        self.0.get(key, W::Value::clone)
    }

    async fn get_or_insert(&self, key: &W::Key) -> W::Value {
        (*self.0.fetch_with(key).await).clone()
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.insert(key, value, 1).await;
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.metrics().current_cost as usize)
    }
}

pub(crate) struct Foyer<W: Workload>(foyer_memory::Cache<W::Key, W::Value>);

impl<W: Workload> Cache<W> for Foyer<W> {
    const ABOUT: About = About {
        name: "foyer-memory",
        flight: Flight::Single,
        expiry: Expiry::None,
        home: Home::Tokio,
        note: "`get_or_fetch`, which spawns the load on tokio",
    };

    fn build(config: Config) -> Self {
        Self(foyer_memory::CacheBuilder::new(config.capacity).build())
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.get(key).map(|entry| entry.value().clone())
    }

    async fn get_or_insert(&self, key: &W::Key) -> W::Value {
        let load = || {
            let key = key.clone();
            async move { Ok::<_, Infallible>(W::load(&key).await) }
        };
        let entry = self.0.get_or_fetch(key, load).await.expect("the loader does not fail");
        entry.value().clone()
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.insert(key, value);
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.entries())
    }
}
