//! Guarding a write of the source of a cache.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use ahash::RandomState;
use equivalent::Equivalent;

use super::AsyncLru;
use crate::store::publish::{Insertion, Put};
use crate::store::steps;

/// Keeps loads of a key out of the cache while its source is written; made by [`AsyncLru::writing`].
#[must_use = "loads of the key are kept out as long as it lives"]
pub struct WriteGuard<'a, Q: Equivalent<K> + ?Sized, K, V, S = RandomState> {
    cache: &'a AsyncLru<K, V, S>,
    hash: u64,
    key: &'a Q,
}

/// Writing the source.
impl<K, V, S: BuildHasher> AsyncLru<K, V, S> {
    /// Guards a write of what `key` is loaded from, such as a row of a database: invalidates the key now,
    /// keeps loads and updates of it out of the cache until the guard is dropped, and invalidates it once
    /// more then, also when the task is cancelled in between.
    ///
    /// An [`invalidate`](Self::invalidate) after the write would not come if the task were cancelled before
    /// it, and one before the write lets a load read the old row meanwhile and cache it for as long as its
    /// entry lives. Callers that miss the key during the guard share a load as ever, whose value they get.
    ///
    /// A guard that is leaked keeps its key out for ever. Never waits, for a listener neither.
    ///
    /// # Blocking
    ///
    /// For the time of one update, as every call does that writes; so does the drop of the guard.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    ///
    /// let users = AsyncLru::<String, u32>::new(100);
    /// users.insert_blocking("ann".to_owned(), 1);
    /// futures_lite::future::block_on(async {
    ///     let writing = users.writing("ann");
    ///     // Here the row is written; meanwhile nothing of it is cached.
    ///     assert_eq!(users.get_or_insert_with_ref("ann", async || 1).await, 1);
    ///     assert_eq!(users.get("ann"), None);
    ///     writing.insert(2).await;
    ///     assert_eq!(users.get("ann"), Some(2));
    /// });
    /// ```
    pub fn writing<'a, Q>(&'a self, key: &'a Q) -> WriteGuard<'a, Q, K, V, S>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        drop(self.store().begin_writing(hash, key).into_found());
        WriteGuard { cache: self, hash, key }
    }
}

impl<Q: Equivalent<K> + ?Sized, K: Eq, V, S> WriteGuard<'_, Q, K, V, S> {
    /// Ends the guard with the new value in place of the last invalidation.
    ///
    /// If the key was written otherwise during the guard, or another guard of it was there meanwhile, nobody
    /// knows whose value is the newer one. Then the key is invalidated instead, and a listener hears of the
    /// value as [`Rejected`](crate::RemovalCause::Rejected).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before its first poll drops the guard, which invalidates the key; later the value
    /// is in, or the key invalidated.
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(cache.writing("a").insert(1));
    /// assert_eq!(cache.get("a"), Some(1));
    ///
    /// let writing = cache.writing("a");
    /// cache.insert_blocking("a".to_owned(), 2);
    /// futures_lite::future::block_on(writing.insert(3));
    /// assert_eq!(cache.get("a"), None);
    /// ```
    pub async fn insert(self, value: V)
    where
        Q: ToOwned<Owned = K>,
    {
        let key = self.key.to_owned();
        self.begin_insert(key, value).await;
    }

    /// Does as [`insert`](Self::insert), with a key at hand, which equals the one that is guarded.
    ///
    /// # Cancel safety
    ///
    /// As for [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<String, u32>::new(10);
    /// futures_lite::future::block_on(cache.writing("a").insert_as("a".to_owned(), 1));
    /// assert_eq!(cache.get("a"), Some(1));
    /// ```
    pub async fn insert_as(self, key: K, value: V) {
        self.begin_insert(key, value).await;
    }

    /// Publishes the value; apart from the futures, which would hold it twice.
    fn begin_insert(self, key: K, value: V) -> impl Future<Output = ()> {
        let put = self.cache.store().begin_put_guarded(self.hash, key, value);
        let Put { replaced, deliveries, rest } = put;
        let rest = match rest {
            None => {
                self.release();
                None
            }
            // In a box, so that the future needs no room for what few calls do.
            Some(insertion) => Some(Box::pin(self.finish(insertion))),
        };
        drop(replaced);
        async {
            deliveries.settle().await;
            if let Some(rest) = rest {
                rest.await;
            }
        }
    }

    /// Makes the rest of the room for the value.
    async fn finish(self, mut insertion: Box<Insertion<'_, K, V>>) {
        steps::run(self.cache.store(), &mut *insertion).await;
        self.release();
        insertion.into_deliveries().settle().await;
    }

    /// Ends the guard without an invalidation.
    fn release(self) {
        self.cache.store().shard(self.hash).release_guard(self.hash);
        std::mem::forget(self);
    }
}

impl<Q: Equivalent<K> + ?Sized, K, V, S> Drop for WriteGuard<'_, Q, K, V, S> {
    fn drop(&mut self) {
        drop(self.cache.store().end_writing(self.hash, self.key).into_found());
    }
}

/// Shows nothing of the key.
impl<Q: Equivalent<K> + ?Sized, K, V, S> fmt::Debug for WriteGuard<'_, Q, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").finish_non_exhaustive()
    }
}
