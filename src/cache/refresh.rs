//! Loading a value anew, whether or not there is one.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::AsyncLru;
use crate::load::answer::{Infallible, Renewed, shared_error};
use crate::load::key::OwnedKey;

/// Refreshing, which loads a value that may be there; see [`fresh_for`](crate::Builder::fresh_for) for doing
/// so when it is stale.
impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Runs `load`, caches what it gives in place of what there is, and returns it.
    ///
    /// Other calls are served the old value meanwhile, if there is one, and those that find none wait for this
    /// load. If a load or a refresh of the key runs already, this call waits for that instead, and its own
    /// closure is dropped unused. Writes win over it as over any load. It counts as a load and a refresh, and
    /// as no call: neither hit nor miss.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid and the old value in place, and whoever waits
    /// for it goes on as after a load that was dropped.
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, 10).await;
    ///     assert_eq!(cache.refresh(1, async || 11).await, 11);
    ///     assert_eq!(cache.get(&1), Some(11));
    /// });
    /// ```
    pub fn refresh<F, Fut>(&self, key: K, load: F) -> impl Future<Output = V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        self.fetch(OwnedKey(key), load, (Infallible, Renewed))
    }

    /// Like [`refresh`](Self::refresh) for a load that can fail: its error is returned, to the calls that have
    /// waited for it too, and the old value stays.
    ///
    /// # Cancel safety
    ///
    /// As for [`refresh`](Self::refresh).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     cache.insert(1, 10).await;
    ///     let failed = cache.try_refresh(1, async || Err("no connection")).await;
    ///     assert_eq!(*failed.unwrap_err(), "no connection");
    ///     assert_eq!(cache.get(&1), Some(10));
    /// });
    /// ```
    pub fn try_refresh<E, F, Fut>(&self, key: K, load: F) -> impl Future<Output = Result<V, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.fetch(OwnedKey(key), load, (shared_error(), Renewed))
    }
}
