//! A handle that does not keep the cache.

use std::fmt;
use std::sync::{Arc, Weak};

use ahash::RandomState;

use super::AsyncLru;
use crate::store::Store;

/// Refers to a cache without keeping it; made by [`AsyncLru::downgrade`].
///
/// For a task that goes on beside the cache and is to end when that is gone, such as one that listens for
/// invalidations.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
///
/// let cache = AsyncLru::<u32, u32>::new(10);
/// let weak = cache.downgrade();
/// weak.upgrade().expect("the cache is there").insert_blocking(1, 10);
/// assert_eq!(cache.get(&1), Some(10));
/// drop(cache);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct WeakAsyncLru<K, V, S = RandomState> {
    store: Weak<Store<K, V>>,
    hasher: Arc<S>,
}

impl<K, V, S> AsyncLru<K, V, S> {
    /// Returns a handle that does not keep the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// assert!(cache.downgrade().upgrade().is_some());
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakAsyncLru<K, V, S> {
        WeakAsyncLru { store: Arc::downgrade(&self.store), hasher: Arc::clone(&self.hasher) }
    }
}

impl<K, V, S> WeakAsyncLru<K, V, S> {
    /// Returns a handle to the cache, unless all others are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let weak = async_lru::AsyncLru::<u32, u32>::new(10).downgrade();
    /// assert!(weak.upgrade().is_none());
    /// ```
    #[must_use]
    pub fn upgrade(&self) -> Option<AsyncLru<K, V, S>> {
        let store = self.store.upgrade()?;
        Some(AsyncLru { store, hasher: Arc::clone(&self.hasher) })
    }
}

impl<K, V, S> Clone for WeakAsyncLru<K, V, S> {
    fn clone(&self) -> Self {
        Self { store: Weak::clone(&self.store), hasher: Arc::clone(&self.hasher) }
    }
}

/// Shows nothing of the cache.
impl<K, V, S> fmt::Debug for WeakAsyncLru<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakAsyncLru")
    }
}
