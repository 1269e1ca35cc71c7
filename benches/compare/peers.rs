//! The caches under test, each used as its own documentation says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::RwLock;
use std::time::Duration;

use crate::workload::Workload;

/// What is worth knowing of a peer beside its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) flight: Flight,
    pub(crate) expiry: Expiry,
    pub(crate) home: Home,
    pub(crate) note: &'static str,
}

/// Whether callers that miss together share one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flight {
    Single,
    /// Its callers each load: look up, load, insert. It does less.
    None,
}

/// Whether entries can have a time to live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expiry {
    Ttl,
    /// It runs the rows with a time to live without one, and so does less.
    None,
}

/// Where the callers run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    /// On threads that poll the calls themselves.
    Threads,
    /// In tasks of a multi-threaded tokio runtime: for peers that spawn loads there or wait for a lock
    /// of tokio's, for either of which a thread outside would have to sleep.
    Tokio,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) capacity: usize,
    pub(crate) ttl: Option<Duration>,
}

/// A cache under test. Its loader is [`Workload::load`].
pub(crate) trait Peer<W: Workload>: Send + Sync + Sized + 'static {
    const ABOUT: About;

    /// Default settings but for the capacity and the time to live.
    fn build(config: Config) -> Self;

    fn get(&self, key: &W::Key) -> impl Future<Output = Option<W::Value>> + Send;

    /// The single-flight call if there is one, else what its users have to write.
    fn get_or_insert(&self, key: &W::Key) -> impl Future<Output = W::Value> + Send {
        async {
            if let Some(value) = self.get(key).await {
                return value;
            }
            let value = W::load(key).await;
            self.insert(key.clone(), value.clone()).await;
            value
        }
    }

    fn insert(&self, key: W::Key, value: W::Value) -> impl Future<Output = ()> + Send;

    /// Waits until insertions have taken effect.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The entries held; `None` if it cannot say.
    fn len(&self) -> Option<usize>;
}

pub(crate) struct Ours<W: Workload>(async_lru::AsyncLru<W::Key, W::Value>);

impl<W: Workload> Peer<W> for Ours<W> {
    const ABOUT: About = About {
        name: "ours",
        flight: Flight::Single,
        expiry: Expiry::Ttl,
        home: Home::Threads,
        note: "statistics always on",
    };

    fn build(Config { capacity, ttl }: Config) -> Self {
        let builder = async_lru::AsyncLru::builder().maxsize(capacity);
        Self(match ttl {
            Some(ttl) => builder.ttl(ttl).build(),
            None => builder.build(),
        })
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
}

pub(crate) struct QuickCache<W: Workload>(quick_cache::sync::Cache<W::Key, W::Value>);

impl<W: Workload> Peer<W> for QuickCache<W> {
    const ABOUT: About = About {
        name: "quick_cache",
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
}

pub(crate) struct Moka<W: Workload>(moka::future::Cache<W::Key, W::Value>);

impl<W: Workload> Peer<W> for Moka<W> {
    const ABOUT: About = About {
        name: "moka",
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
}

pub(crate) struct Scc<W: Workload>(scc::HashCache<W::Key, W::Value>);

impl<W: Workload> Peer<W> for Scc<W> {
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

impl<W: Workload> Peer<W> for TinyUfo<W> {
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

pub(crate) struct Fibre<W: Workload>(fibre_cache::AsyncCache<W::Key, W::Value>);

impl<W: Workload> Peer<W> for Fibre<W> {
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

pub(crate) struct Stretto<W: Workload> {
    cache: stretto::AsyncCache<W::Key, W::Value, stretto::TokioRuntime>,
    ttl: Option<Duration>,
}

impl<W: Workload> Peer<W> for Stretto<W> {
    const ABOUT: About = About {
        name: "stretto",
        flight: Flight::None,
        expiry: Expiry::Ttl,
        home: Home::Threads,
        note: "`AsyncCache`; insertions go through a buffer and may be dropped; keeps hashes instead of \
               keys; ten counters to an entry, as its README says; row 11 stops inserting after two \
               seconds, and leaves it out where it frees more bytes than it was seen to allocate",
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

pub(crate) struct Foyer<W: Workload>(foyer_memory::Cache<W::Key, W::Value>);

impl<W: Workload> Peer<W> for Foyer<W> {
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

pub(crate) enum Cached<W: Workload> {
    Lru(cached::ShardedLruCache<W::Key, W::Value>),
    LruTtl(cached::ShardedLruTtlCache<W::Key, W::Value>),
}

impl<W: Workload> Peer<W> for Cached<W> {
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

pub(crate) struct TokioLru<W: Workload>(tokio::sync::Mutex<lru::LruCache<W::Key, W::Value>>);

impl<W: Workload> Peer<W> for TokioLru<W> {
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

pub(crate) struct HashlinkLru<W: Workload>(
    parking_lot::Mutex<hashlink::LruCache<W::Key, W::Value>>,
);

impl<W: Workload> Peer<W> for HashlinkLru<W> {
    const ABOUT: About = About {
        name: "parking_lot+hashlink",
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

/// No cache: it never evicts. What a read costs at least if readers share a lock.
pub(crate) struct Floor<W: Workload>(RwLock<HashMap<W::Key, W::Value>>);

/// Left out of the rows that evict, and of what counts as best.
pub(crate) const FLOOR: &str = "floor";

impl<W: Workload> Peer<W> for Floor<W> {
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
