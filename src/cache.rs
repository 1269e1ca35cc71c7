//! The handle of a cache, and the order in which its documentation shows what it can do.

// In the order of the documentation, which shows the methods of each file one after another.
pub(crate) mod builder;

mod read;

mod load;

pub(crate) mod entry;

pub(crate) mod lookup;

pub(crate) mod bulk;

mod update;

mod refresh;

mod write;

pub(crate) mod writing;

mod ttl;

mod sweep;

mod bounds;

mod snapshot;

pub(crate) mod stats;

#[cfg(feature = "metrics")]
mod metrics;

mod janitor;

pub(crate) mod weak;

pub(crate) mod memo;

pub(crate) mod local_memo;

pub(crate) mod background;

use std::hash::{BuildHasher, Hash};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use ahash::RandomState;

use crate::store::{Store, hash_of};

/// Caches values by key, and loads one that is missing once, however many tasks ask for it at the same time.
///
/// A handle; a clone is another handle to the same cache. The cache holds at most
/// [`maxsize`](crate::Builder::maxsize) entries and evicts the least recently used. A *use* is a
/// [`get`](Self::get) or a `get_or_insert` call that finds the entry, or an [`insert`](Self::insert). An entry
/// is *live* until its time is over. A *load* is the closure of a call, and the future that it returns; while it
/// runs, other calls for the key *join* it, that is, wait for it and get what it brings.
///
/// A cache of 512 entries or more is divided into *shards*, each with a lock of its own. With one shard the
/// order of eviction is exact; with several it is exact within each shard.
///
/// Keys may be asked for in any form `Q` that hashes and compares like `K` (`Q: Hash +
/// Equivalent<K>`), such as `&str` for `String`. The key's `Eq` and the value's `Clone` run under a
/// lock of the cache and must not call it. If they, or any other code of the user's, panic, the panic
/// reaches the caller and leaves the cache valid.
///
/// A bound is asked only where it is needed, so values may be `Rc`s on a local executor, and a future is
/// `Send` if what it holds is. These have to be
///
/// - `Send + 'static`: the load of a [detached](crate::Entry::detached) call, which any thread may poll;
/// - `Send + Sync + 'static`: keys and values of a detached [batch](crate::Entries::detached), a function that
///   is [wrapped](crate::Memo) or that the [`Builder`](crate::Builder) is given, an error that callers share,
///   and the predicate of [`invalidate_if`](Self::invalidate_if).
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
///
/// let cache = AsyncLru::<String, usize>::new(100);
/// futures_lite::future::block_on(async {
///     let load = async || "some work".len();
///     assert_eq!(cache.get_or_insert_with("key".to_owned(), load).await, 9);
///     assert_eq!(cache.get("key"), Some(9));
/// });
/// ```
pub struct AsyncLru<K, V, S = RandomState> {
    store: Arc<Store<K, V>>,
    hasher: Arc<S>,
}

impl<K, V, S> AsyncLru<K, V, S> {
    pub(crate) fn from_parts(store: Arc<Store<K, V>>, hasher: S) -> Self {
        Self { store, hasher: Arc::new(hasher) }
    }

    fn store(&self) -> &Store<K, V> {
        &self.store
    }

    fn hasher(&self) -> &S {
        &self.hasher
    }

    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64
    where
        S: BuildHasher,
    {
        hash_of(self.hasher(), key)
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V, S> AsyncLru<K, V, S> {
    /// Panics if anything in the cache disagrees with anything else, while no call writes to it;
    /// returns how many loads are in flight. For the crate's own tests.
    #[doc(hidden)]
    #[must_use]
    pub fn validate(&self) -> usize {
        self.store().validate()
    }
}

impl<K, V, S> Clone for AsyncLru<K, V, S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), hasher: Arc::clone(&self.hasher) }
    }
}

/// A panic of the user's code leaves the cache valid.
impl<K, V, S: UnwindSafe> UnwindSafe for AsyncLru<K, V, S> {}
impl<K, V, S: RefUnwindSafe> RefUnwindSafe for AsyncLru<K, V, S> {}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::load::update::Update;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Uses a cache in every way that could need to know the time.
    fn use_all(cache: &AsyncLru<u32, u32>) {
        cache.insert_blocking(1, 10);
        let _ = (cache.get(&1), cache.peek(&1), cache.time_left(&1), cache.keys());
        assert!(poll(pin!(cache.get_or_insert_with(2, async || 20))).is_ready());
        assert!(poll(pin!(cache.entry(3).detached().or_insert_with(|| async { 30 }))).is_ready());
        assert!(poll(pin!(cache.get_or_insert_many([4], async |_| [(4, 40)]))).is_ready());
        assert!(poll(pin!(cache.update_with(1, async |_| Update::Put(11)))).is_ready());
        cache.restore_blocking(cache.snapshot_with_ttl());
        cache.invalidate_if_blocking(|key, _| *key == 3);
        cache.set_maxsize_blocking(2);
        cache.remove_blocking(&2);
        cache.purge_expired_blocking();
        let _ = (cache.info(), cache.stats(), format!("{cache:?}"));
        cache.clear_blocking();
    }

    #[test]
    fn the_system_is_asked_for_the_time_only_by_a_cache_that_uses_its_clock() {
        let builder = AsyncLru::<u32, u32>::builder;
        let minute = Duration::from_secs(60);
        let without_time = builder().build();
        use_all(&without_time);
        let asked = |cache: &AsyncLru<u32, u32>| cache.store().lifetimes().have_asked_the_system();
        assert!(!asked(&without_time));
        let rules = || {
            [
                builder().ttl(minute),
                builder().time_to_idle(minute),
                builder().expiry(move |_, _| Some(minute)),
            ]
        };
        for timed in rules() {
            let cache = timed.clock(ManualClock::new()).build();
            use_all(&cache);
            cache.insert_with_ttl_blocking(1, 10, minute);
            assert!(!asked(&cache));
        }
        for timed in rules() {
            let cache = timed.build();
            assert!(!asked(&cache), "it has not been used yet");
            cache.get(&1);
            assert!(asked(&cache));
        }
        without_time.insert_with_ttl_blocking(1, 10, minute);
        assert!(asked(&without_time));
    }
}
