//! The caches without single flight, which do less: callers that miss together each load.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::RwLock;
use std::time::Duration;

use super::{About, Cache, Config, Expiry, FLOOR, Flight, HASHLINK, Home};
use crate::workload::Workload;

pub(crate) struct HashlinkLru<W: Workload>(
    parking_lot::Mutex<hashlink::LruCache<W::Key, W::Value>>,
);

impl<W: Workload> Cache<W> for HashlinkLru<W> {
    const ABOUT: About = About {
        name: HASHLINK,
        flight: Flight::None,
        expiry: Expiry::None,
        home: Home::Threads,
        note: "`parking_lot::Mutex<hashlink::LruCache>`",
    };

    fn build(config: Config) -> Self {
        Self(parking_lot::Mutex::new(hashlink::LruCache::new(config.capacity)))
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.lock().get(key).cloned()
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.lock().insert(key, value);
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.lock().len())
    }
}

pub(crate) struct TokioLru<W: Workload>(tokio::sync::Mutex<lru::LruCache<W::Key, W::Value>>);

impl<W: Workload> Cache<W> for TokioLru<W> {
    const ABOUT: About = About {
        name: "tokio+lru",
        flight: Flight::None,
        expiry: Expiry::None,
        home: Home::Tokio,
        note: "`tokio::sync::Mutex<lru::LruCache>`",
    };

    fn build(config: Config) -> Self {
        let capacity = NonZeroUsize::new(config.capacity).expect("room for something");
        Self(tokio::sync::Mutex::new(lru::LruCache::new(capacity)))
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.lock().await.get(key).cloned()
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.lock().await.put(key, value);
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.try_lock().expect("nobody else is there").len())
    }
}

pub(crate) struct Scc<W: Workload>(scc::HashCache<W::Key, W::Value>);

impl<W: Workload> Cache<W> for Scc<W> {
    const ABOUT: About = About {
        name: "scc",
        flight: Flight::None,
        expiry: Expiry::None,
        home: Home::Threads,
        note: "`HashCache`, `get_async` (a use; `read_async` is none) and `put_async`; its capacity is \
               rounded up to a power of two, 32 entries to a bucket",
    };

    fn build(config: Config) -> Self {
        Self(scc::HashCache::with_capacity(config.capacity, config.capacity))
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.get_async(key).await.map(|entry| entry.get().clone())
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        // Refused if another caller was faster, whose value is as good.
        let _ = self.0.put_async(key, value).await;
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

pub(crate) struct TinyUfo<W: Workload>(tinyufo::TinyUfo<W::Key, W::Value>);

impl<W: Workload> Cache<W> for TinyUfo<W> {
    const ABOUT: About = About {
        name: "TinyUFO",
        flight: Flight::None,
        expiry: Expiry::None,
        home: Home::Threads,
        note: "synchronous; keeps hashes instead of keys; cannot say how many entries it holds, so they \
               are counted by asking for all keys",
    };

    fn build(config: Config) -> Self {
        Self(tinyufo::TinyUfo::new(config.capacity, config.capacity))
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.get(key)
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.put(key, value, 1);
    }

    fn len(&self) -> Option<usize> {
        None
    }
}

pub(crate) struct Stretto<W: Workload> {
    cache: stretto::AsyncCache<W::Key, W::Value, stretto::TokioRuntime>,
    ttl: Option<Duration>,
}

impl<W: Workload> Cache<W> for Stretto<W> {
    const ABOUT: About = About {
        name: "stretto",
        flight: Flight::None,
        expiry: Expiry::Ttl,
        home: Home::Threads,
        note: "`AsyncCache`; insertions go through a buffer and may be dropped; keeps hashes instead of \
               keys; ten counters to an entry, as its README says; to be weighed it is filled for two \
               seconds at most, and is left out where it frees more bytes than it was seen to allocate",
    };

    fn build(Config { capacity, ttl }: Config) -> Self {
        let builder = stretto::AsyncCacheBuilder::new(capacity * 10, capacity as i64);
        Self {
            cache: builder.build::<stretto::TokioRuntime>().expect("a valid configuration"),
            ttl,
        }
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.cache.get(key).await.map(|value| value.value().clone())
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        match self.ttl {
            Some(ttl) => self.cache.insert_with_ttl(key, value, 1, ttl).await,
            None => self.cache.insert(key, value, 1).await,
        };
    }

    async fn settle(&self) {
        self.cache.wait().await.expect("its worker is there");
    }

    fn len(&self) -> Option<usize> {
        Some(self.cache.len())
    }
}

pub(crate) enum Cached<W: Workload> {
    Lru(cached::ShardedLruCache<W::Key, W::Value>),
    LruTtl(cached::ShardedLruTtlCache<W::Key, W::Value>),
}

impl<W: Workload> Cache<W> for Cached<W> {
    const ABOUT: About = About {
        name: "cached",
        flight: Flight::None,
        expiry: Expiry::Ttl,
        home: Home::Threads,
        note: "`ShardedLruCache`, with a time to live `ShardedLruTtlCache`, as its macro \
               `concurrent_cached` uses them in an async function",
    };

    fn build(Config { capacity, ttl }: Config) -> Self {
        match ttl {
            Some(ttl) => Self::LruTtl(cached::ShardedLruTtlCache::new(capacity, ttl)),
            None => Self::Lru(cached::ShardedLruCache::new(capacity)),
        }
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        match self {
            Self::Lru(cache) => cache.get(key),
            Self::LruTtl(cache) => cache.get(key),
        }
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        match self {
            Self::Lru(cache) => cache.set(key, value),
            Self::LruTtl(cache) => cache.set(key, value),
        };
    }

    fn len(&self) -> Option<usize> {
        Some(match self {
            Self::Lru(cache) => cache.len(),
            Self::LruTtl(cache) => cache.len(),
        })
    }
}

/// No cache: it never evicts. What a read costs at least if readers share a lock.
pub(crate) struct Floor<W: Workload>(RwLock<HashMap<W::Key, W::Value>>);

impl<W: Workload> Cache<W> for Floor<W> {
    const ABOUT: About = About {
        name: FLOOR,
        flight: Flight::None,
        expiry: Expiry::None,
        home: Home::Threads,
        note: "`std::sync::RwLock<HashMap>`, read and clone: caches nothing away, and so takes no part \
               in \"best\"",
    };

    fn build(_: Config) -> Self {
        Self(RwLock::new(HashMap::new()))
    }

    async fn get(&self, key: &W::Key) -> Option<W::Value> {
        self.0.read().expect("no panic under the lock").get(key).cloned()
    }

    async fn insert(&self, key: W::Key, value: W::Value) {
        self.0.write().expect("no panic under the lock").insert(key, value);
    }

    fn len(&self) -> Option<usize> {
        Some(self.0.read().expect("no panic under the lock").len())
    }
}
