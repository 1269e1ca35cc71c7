//! What is set before a cache is built.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Codec;
use crate::core::{Core, CutOff, Times};
use crate::figures::Counters;
use crate::key::Key;
use crate::link::Link;
use crate::store::{Instance, Space, Store};
use crate::tiered::Tiered;
use crate::timer::Timer;
use crate::waits::Waits;

/// Builds a [`Tiered`] cache; made by [`Tiered::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use async_lru::AsyncLru;
/// use async_lru_tier::{CutOff, Json, MemoryStore, Tiered};
///
/// let users: Tiered<u64, String> = Tiered::builder(MemoryStore::new(), Json, tokio::time::sleep)
///     .namespace("users")
///     .version(3)
///     .ttl(Duration::from_secs(600))
///     .ttl_alone(Duration::from_secs(2))
///     .when_cut_off(CutOff::Keep)
///     // Stale after a minute, and renewed while it is served on.
///     .local(AsyncLru::builder().maxsize(10_000).fresh_for(Duration::from_secs(60)))
///     .build();
/// assert_eq!(users.local().info().maxsize, 10_000);
/// ```
#[must_use = "a builder does nothing before it is built"]
pub struct Builder<K: ?Sized, V> {
    store: Box<dyn Store>,
    codec: Box<dyn Codec<V>>,
    timer: Timer,
    namespace: String,
    version: u32,
    ttl: Duration,
    ttl_alone: Duration,
    lease: Duration,
    timeout: Duration,
    heartbeat: Duration,
    cut_off: CutOff,
    most_pending: usize,
    local: async_lru::Builder<Key, V>,
    key: PhantomData<fn(&K)>,
}

impl<K: ?Sized, V: Clone + Send + Sync + 'static> Builder<K, V> {
    pub(crate) fn new(store: Box<dyn Store>, codec: Box<dyn Codec<V>>, timer: Timer) -> Self {
        Self {
            store,
            codec,
            timer,
            namespace: "cache".to_owned(),
            version: 1,
            ttl: Duration::from_secs(300),
            ttl_alone: Duration::from_secs(5),
            lease: Duration::from_secs(10),
            timeout: Duration::from_millis(250),
            heartbeat: Duration::from_secs(1),
            cut_off: CutOff::Clear,
            most_pending: 10_000,
            local: async_lru::AsyncLru::builder(),
            key: PhantomData,
        }
    }

    /// Sets the name that the values have in the store, `cache` by default: one for each kind of value. Two
    /// caches of different values must not share one, as each would take what the other has stored for its
    /// own.
    ///
    /// It may have any characters, as it is a plain part of names. In patterns such as the rights of a
    /// server's user, `*`, `?`, `[`, `]` and `\` have a meaning and spaces end a pattern, so letters, digits,
    /// `:`, `-` and `_` are the safe choice. The namespaces `prices:id` and `prices:sku` are two, and a right
    /// to `prices:*` covers both.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// Sets the version of what is stored, 1 by default. Raise it when the type of the values changes, so that
    /// a release meets no value that it cannot read.
    ///
    /// Instances of another version share nothing with these, removals included: while two releases run side
    /// by side, the one does not hear of what the other writes, and may serve what was there before for up to
    /// [`ttl`](Self::ttl). If values change meanwhile, keep the version, and have the [codec](Codec) read
    /// both formats.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Sets how long a value lives in the store, five minutes by default; nowhere does it live longer. The
    /// local cache's own [`ttl`](async_lru::Builder::ttl) may be shorter, and its
    /// [`ttl_jitter`](async_lru::Builder::ttl_jitter) shortens the lives in the store at random.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long this instance keeps what it loads while the store is not to be had, five seconds by
    /// default: so long may it miss that another instance removes a key. With zero it keeps nothing then.
    pub fn ttl_alone(mut self, ttl: Duration) -> Self {
        self.ttl_alone = ttl;
        self
    }

    /// Sets how long an instance has for a load before another may try, ten seconds by default. What a load
    /// brings that takes longer is kept nowhere, so set it longer than the slowest takes; an instance that
    /// dies keeps others waiting for so long at most.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long each operation of the store may take, a quarter of a second by default; after it the
    /// call does without. A connection may take a second or this, whichever is longer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often the driver asks the store for a sign of life, each second by default. A link that is
    /// lost without a word is noticed after this and the [`timeout`](Self::timeout).
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Sets what a lost link means for what the local cache has; it is cleared by default.
    pub fn when_cut_off(mut self, cut_off: CutOff) -> Self {
        self.cut_off = cut_off;
        self
    }

    /// Sets for how many keys a removal may be put off while the store is not to be had, 10,000 by default.
    /// If there are more, all keys of the namespace are removed instead when it is there again.
    pub fn max_pending_removals(mut self, keys: usize) -> Self {
        self.most_pending = keys;
        self
    }

    /// Sets what the local cache is: bounds, order of eviction, fresh time, clock, listener, name. A value
    /// counts as fresh from its put into the store, wherever that was. An
    /// [`expiry`](async_lru::Builder::expiry) rule is not asked, as each value comes with its lifetime.
    ///
    /// A [`spawner`](async_lru::Builder::spawner) is not used: each load runs in a call that waits for it. Of
    /// those that find a value stale the first renews it and waits, and others get the stale one at once.
    pub fn local(mut self, local: async_lru::Builder<Key, V>) -> Self {
        self.local = local;
        self
    }

    /// Builds the cache, which uses the store as soon as its [driver](Tiered::driver) runs.
    pub fn build(self) -> Tiered<K, V> {
        let local = self.local.build();
        let info = local.info();
        let times = Times {
            ttl: self.ttl,
            alone: self.ttl_alone,
            lease: self.lease,
            operation: self.timeout,
            heartbeat: self.heartbeat,
            fresh: info.fresh_for,
            local_ttl: info.ttl,
            retry: info.refresh_retry,
            jitter: info.ttl_jitter,
        };
        Tiered::new(Arc::new(Core {
            store: self.store,
            space: Space::new(&self.namespace, self.version),
            instance: Instance(fastrand::u64(..)),
            codec: self.codec,
            timer: self.timer,
            local,
            times,
            cut_off: self.cut_off,
            most_pending: self.most_pending,
            link: Link::new(),
            waits: Waits::default(),
            counters: Counters::default(),
            driving: async_lock::Mutex::new(()),
        }))
    }
}

impl<K: ?Sized, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("namespace", &self.namespace)
            .field("version", &self.version)
            .field("ttl", &self.ttl)
            .field("ttl_alone", &self.ttl_alone)
            .field("lease", &self.lease)
            .field("timeout", &self.timeout)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}
