//! The calls `invalidate_if` and `invalidate_keys_if`.

use std::future::Future;
use std::sync::Arc;

use super::AsyncLru;
use crate::store::steps;
use crate::store::sweep::Sweep;

/// Removing by a predicate.
impl<K: Clone, V: Clone, S> AsyncLru<K, V, S> {
    /// Removes the live entries for which `is_chosen` returns true, and returns how many.
    ///
    /// Wins over the running loads and updates whose key and value it chooses, and leaves all others
    /// alone: the predicate is kept until those that ran at the call have ended, and asked about each before
    /// its value is cached. What it chooses goes to the calls that have joined that load and
    /// is not cached; an update that it chooses leaves nothing of its key. So afterwards the cache holds
    /// no value that was there or on its way before the call, and that `is_chosen` would have chosen. Where
    /// the key alone tells, [`invalidate_keys_if`](Self::invalidate_keys_if) also has calls that come
    /// afterwards load anew. What other tasks write meanwhile is either judged as well or stays.
    ///
    /// The predicate is asked about copies, a few at a time, while no lock is held, so it may take its
    /// time and call the cache. It may be asked about one value several times. It counts as no use of the
    /// entries. `K: Clone` and `V: Clone` run under a shared lock and must not call the cache.
    ///
    /// Of no load or update more than 64 predicates are kept. If more sweeps begin while it runs, none of
    /// them is asked and its value counts as chosen, so it is not cached.
    ///
    /// A shard that is less than a quarter full afterwards gives its memory back. If another call makes
    /// one do so meanwhile, the predicate is asked about its entries again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid. Once it was polled, all running loads are going to be
    /// judged, and some of the chosen entries are removed, or none, or all.
    ///
    /// # Panics
    ///
    /// If `is_chosen` panics; entries that were chosen before may be removed or not, and the cache is
    /// valid. If it panics when it is asked about a load's value, that load fails.
    ///
    /// # Examples
    ///
    /// ```
    /// let rows = async_lru::AsyncLru::<u32, (&str, u32)>::new(10);
    /// futures_lite::future::block_on(async {
    ///     rows.insert(1, ("ann", 3)).await;
    ///     rows.insert(2, ("bob", 4)).await;
    ///     rows.insert(3, ("eve", 4)).await;
    ///
    ///     assert_eq!(rows.invalidate_if(|_, (_, version)| *version < 4).await, 1);
    ///     assert_eq!(rows.keys(), [2, 3]);
    /// });
    /// ```
    #[expect(clippy::manual_async_fn, reason = "it would keep its argument twice")]
    pub fn invalidate_if(
        &self,
        is_chosen: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> impl Future<Output = usize> {
        async move {
            let mut sweep = Sweep::by_entry(self.store(), Arc::new(is_chosen));
            steps::run(self.store(), &mut sweep).await;
            sweep.removed()
        }
    }

    /// Does what [`invalidate_if`](Self::invalidate_if) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of the work, which is mostly the predicate's and that of the clones.
    ///
    /// # Panics
    ///
    /// As for [`invalidate_if`](Self::invalidate_if).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// cache.insert_blocking(2, 20);
    /// assert_eq!(cache.invalidate_if_blocking(|_, value| *value > 15), 1);
    /// assert_eq!(cache.keys(), [1]);
    /// ```
    pub fn invalidate_if_blocking(
        &self,
        is_chosen: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
    ) -> usize {
        let mut sweep = Sweep::by_entry(self.store(), Arc::new(is_chosen));
        steps::run_blocking(self.store(), &mut sweep);
        sweep.removed()
    }
}

/// Removing by the key.
impl<K: Clone, V, S> AsyncLru<K, V, S> {
    /// Removes the live entries for whose keys `is_chosen` returns true, and returns how many.
    ///
    /// Does for each of these keys what [`invalidate`](Self::invalidate) does: wins over loads and updates
    /// of it that run, and calls that come afterwards load anew. Loads and updates of other keys
    /// are left alone. What other tasks write meanwhile is either judged as well or stays.
    ///
    /// The predicate is asked about copies of the keys, a few at a time, while no lock is held, so it may
    /// take its time and call the cache. `K: Clone` runs under a shared lock and must not call the cache.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid, with some of the chosen keys dealt with.
    ///
    /// # Panics
    ///
    /// If `is_chosen` panics; keys that were chosen before may be dealt with or not, and the cache is
    /// valid.
    ///
    /// # Examples
    ///
    /// ```
    /// let sessions = async_lru::AsyncLru::<(&str, u32), &str>::new(10);
    /// futures_lite::future::block_on(async {
    ///     sessions.insert(("ann", 1), "phone").await;
    ///     sessions.insert(("ann", 2), "laptop").await;
    ///     sessions.insert(("bob", 3), "phone").await;
    ///
    ///     assert_eq!(sessions.invalidate_keys_if(|(user, _)| *user == "ann").await, 2);
    ///     assert_eq!(sessions.keys(), [("bob", 3)]);
    /// });
    /// ```
    #[expect(clippy::manual_async_fn, reason = "it would keep its argument twice")]
    pub fn invalidate_keys_if(
        &self,
        mut is_chosen: impl FnMut(&K) -> bool,
    ) -> impl Future<Output = usize> {
        async move {
            let mut sweep = Sweep::by_key(&mut is_chosen);
            steps::run(self.store(), &mut sweep).await;
            sweep.removed()
        }
    }

    /// Does what [`invalidate_keys_if`](Self::invalidate_keys_if) does, for synchronous code.
    ///
    /// # Blocking
    ///
    /// For the time of the work, which is mostly the predicate's and that of the clones.
    ///
    /// # Panics
    ///
    /// As for [`invalidate_keys_if`](Self::invalidate_keys_if).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// cache.insert_blocking(1, 10);
    /// cache.insert_blocking(2, 20);
    /// assert_eq!(cache.invalidate_keys_if_blocking(|key| *key > 1), 1);
    /// assert_eq!(cache.keys(), [1]);
    /// ```
    pub fn invalidate_keys_if_blocking(&self, is_chosen: impl FnMut(&K) -> bool) -> usize {
        let mut sweep = Sweep::by_key(is_chosen);
        steps::run_blocking(self.store(), &mut sweep);
        sweep.removed()
    }
}
