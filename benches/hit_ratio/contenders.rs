//! The caches under test, each with the whole of its size in one shard where it can be had so: with
//! several, the fullest evicts before the others are full.

use async_lru::{AsyncLru, Eviction};
use cached::Cached as _;
use foyer_memory::{EvictionConfig, LruConfig, S3FifoConfig};
use futures_lite::future::block_on;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use crate::optimum;
use crate::runs::Outcome;
use crate::trace::Trace;

/// What the others are compared to.
pub(crate) const LRU: &str = "async-lru:lru";
/// How the names of this crate's own begin.
pub(crate) const OWN: &str = "async-lru:";
pub(crate) const OPTIMUM: &str = "optimum";

/// A cache, or the optimum.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) note: &'static str,
    /// Replays a trace through a new cache of so many entries.
    pub(crate) measure: fn(&Trace, usize) -> Outcome,
}

/// All, in the order of the tables.
pub(crate) static CONTENDERS: [Contender; 11] = [
    Contender {
        name: LRU,
        note: "`Eviction::Lru` in one shard",
        measure: |trace, size| replay(ours(Eviction::Lru, size).shards(1).build(), trace),
    },
    Contender {
        name: "async-lru:adaptive",
        note: "`Eviction::Adaptive` in one shard",
        measure: |trace, size| replay(ours(Eviction::Adaptive, size).shards(1).build(), trace),
    },
    Contender {
        name: "async-lru:sharded",
        note: "`Eviction::Adaptive` in the default number of shards",
        measure: |trace, size| replay(ours(Eviction::Adaptive, size).build(), trace),
    },
    Contender {
        name: "quick_cache",
        note: "its `sync` cache in one shard",
        measure: |trace, size| replay(quick_cache(size), trace),
    },
    Contender {
        name: "moka",
        note: "its `future` cache; `run_pending_tasks` after every insertion and every 32 `get`s",
        measure: |trace, size| replay(Moka::new(size), trace),
    },
    Contender {
        name: "TinyUFO",
        note: "keeps hashes instead of keys; its entries are counted by asking for all keys",
        measure: |trace, size| replay(tinyufo::TinyUfo::new(size, size), trace),
    },
    Contender {
        name: "scc",
        note: "`HashCache`, which evicts from buckets of 32 entries; rounds its capacity up to a power of \
               two",
        measure: |trace, size| replay(scc::HashCache::with_capacity(size, size), trace),
    },
    Contender {
        name: "foyer:lru",
        note: "`foyer-memory` with its default `LruConfig`, whose older tenth is an LRU of its own, in one \
               shard",
        measure: |trace, size| replay(foyer(LruConfig::default(), size), trace),
    },
    Contender {
        name: "foyer:s3-fifo",
        note: "`foyer-memory` with `S3FifoConfig`, in one shard",
        measure: |trace, size| replay(foyer(S3FifoConfig::default(), size), trace),
    },
    Contender {
        name: "cached",
        note: "`LruCache`, without shards",
        measure: |trace, size| replay(cached::LruCache::new(size), trace),
    },
    Contender {
        name: OPTIMUM,
        note: "Bélády's policy, which knows the requests to come; no cache can have more hits",
        measure: optimum::measure,
    },
];

/// A cache under test. Its values do not matter, so it has none.
trait Cache {
    /// Whether there is an entry, which is a use of it.
    fn get(&mut self, key: u32) -> bool;

    fn insert(&mut self, key: u32);

    /// The entries held, all of which have keys below `keys`.
    fn held(&mut self, keys: u32) -> usize;
}

fn replay(mut cache: impl Cache, trace: &Trace) -> Outcome {
    let mut hits = 0;
    for &key in &trace.requests {
        if cache.get(key) {
            hits += 1;
        } else {
            cache.insert(key);
        }
    }
    Outcome { hits, held: Some(cache.held(trace.footprint)) }
}

fn ours(eviction: Eviction, size: usize) -> async_lru::Builder<u32, ()> {
    AsyncLru::builder().maxsize(size).eviction(eviction)
}

/// The number of shards of the largest caches on this machine.
pub(crate) fn default_shards() -> usize {
    ours(Eviction::Adaptive, 1 << 20).build().info().shards
}

impl Cache for AsyncLru<u32, ()> {
    fn get(&mut self, key: u32) -> bool {
        (*self).get(&key).is_some()
    }

    fn insert(&mut self, key: u32) {
        self.insert_blocking(key, ());
    }

    fn held(&mut self, _: u32) -> usize {
        self.len()
    }
}

type QuickCache = quick_cache::sync::Cache<u32, ()>;

fn quick_cache(size: usize) -> QuickCache {
    let mut options = OptionsBuilder::new();
    options.shards(1).estimated_items_capacity(size).weight_capacity(size as u64);
    let options = options.build().expect("all that it needs is set");
    let lifecycle = DefaultLifecycle::default();
    QuickCache::with_options(options, UnitWeighter, DefaultHashBuilder::default(), lifecycle)
}

impl Cache for QuickCache {
    fn get(&mut self, key: u32) -> bool {
        (*self).get(&key).is_some()
    }

    fn insert(&mut self, key: u32) {
        (*self).insert(key, ());
    }

    fn held(&mut self, _: u32) -> usize {
        self.len()
    }
}

struct Moka {
    cache: moka::future::Cache<u32, ()>,
    calls: u32,
}

impl Moka {
    fn new(size: usize) -> Self {
        Self { cache: moka::future::Cache::new(size as u64), calls: 0 }
    }

    /// Lets it evict, and learn of the calls that it keeps in buffers, which would overflow.
    fn settle(&self) {
        block_on(self.cache.run_pending_tasks());
    }
}

impl Cache for Moka {
    fn get(&mut self, key: u32) -> bool {
        self.calls = self.calls.wrapping_add(1);
        let is_hit = block_on(self.cache.get(&key)).is_some();
        if is_hit && self.calls.is_multiple_of(32) {
            self.settle();
        }
        is_hit
    }

    fn insert(&mut self, key: u32) {
        block_on(self.cache.insert(key, ()));
        self.settle();
    }

    fn held(&mut self, _: u32) -> usize {
        self.settle();
        self.cache.entry_count() as usize
    }
}

impl Cache for tinyufo::TinyUfo<u32, ()> {
    fn get(&mut self, key: u32) -> bool {
        (*self).get(&key).is_some()
    }

    fn insert(&mut self, key: u32) {
        self.put(key, (), 1);
    }

    fn held(&mut self, keys: u32) -> usize {
        (0..keys).filter(|key| (*self).get(key).is_some()).count()
    }
}

impl Cache for scc::HashCache<u32, ()> {
    fn get(&mut self, key: u32) -> bool {
        self.get_sync(&key).is_some()
    }

    fn insert(&mut self, key: u32) {
        let _ = self.put_sync(key, ());
    }

    fn held(&mut self, _: u32) -> usize {
        self.len()
    }
}

type Foyer = foyer_memory::Cache<u32, ()>;

fn foyer(eviction: impl Into<EvictionConfig>, size: usize) -> Foyer {
    foyer_memory::CacheBuilder::new(size).with_shards(1).with_eviction_config(eviction).build()
}

impl Cache for Foyer {
    fn get(&mut self, key: u32) -> bool {
        (*self).get(&key).is_some()
    }

    fn insert(&mut self, key: u32) {
        (*self).insert(key, ());
    }

    fn held(&mut self, _: u32) -> usize {
        self.entries()
    }
}

impl Cache for cached::LruCache<u32, ()> {
    fn get(&mut self, key: u32) -> bool {
        self.cache_get(&key).is_some()
    }

    fn insert(&mut self, key: u32) {
        self.cache_set(key, ());
    }

    fn held(&mut self, _: u32) -> usize {
        self.cache_size()
    }
}
