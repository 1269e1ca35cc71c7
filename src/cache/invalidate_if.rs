//! Removing the entries that a predicate chooses.

use futures_lite::future::yield_now;

use super::AsyncLru;
use crate::sweep::Sweep;

/// Removing by a predicate.
impl<K: Clone, V: Clone, S> AsyncLru<K, V, S> {
    /// Removes the live entries for which `is_chosen` returns true, and returns how many.
    ///
    /// Wins over all loads that are in flight at the call, since their values cannot be judged yet:
    /// these go to the calls that have joined them and are not cached. So afterwards the cache holds no
    /// value that was there or on its way before the call, and that `is_chosen` would have chosen. What
    /// other tasks write meanwhile stays, whether they add an entry or replace one that was chosen.
    ///
    /// The predicate is asked about copies, a few at a time, while no lock is held, so it may take its
    /// time and call the cache. It counts as no use of the entries. `K: Clone` and `V: Clone` run under
    /// a shared lock and must not call the cache.
    ///
    /// A shard that is less than a quarter full afterwards gives its memory back. If another call makes
    /// one do so meanwhile, the predicate is asked about its entries again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid. Once it was polled, all loads are fenced and some of
    /// the chosen entries are removed, or none, or all.
    ///
    /// # Panics
    ///
    /// If `is_chosen` panics; entries that were chosen before may be removed or not, and the cache is
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
    ///     assert_eq!(sessions.invalidate_if(|(user, _), _| *user == "ann").await, 2);
    ///     assert_eq!(sessions.keys(), [("bob", 3)]);
    /// });
    /// ```
    pub async fn invalidate_if(&self, mut is_chosen: impl FnMut(&K, &V) -> bool) -> usize {
        let mut sweep = Sweep::start(self.store());
        while sweep.step(&mut is_chosen).is_some() {
            yield_now().await;
        }
        sweep.removed()
    }

    /// [`invalidate_if`](Self::invalidate_if) for synchronous code.
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
    pub fn invalidate_if_blocking(&self, mut is_chosen: impl FnMut(&K, &V) -> bool) -> usize {
        let mut sweep = Sweep::start(self.store());
        while sweep.step(&mut is_chosen).is_some() {}
        sweep.removed()
    }
}
