//! Many keys at once.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hash};

use super::{AsyncLru, Inner};
use crate::load::answer::{Infallible, OwnError};
use crate::load::bulk::fetch_many;

/// Reading or loading many keys, which waits for loads and for nothing else.
impl<K: Hash + Eq + Clone, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Returns the values of `keys`: those that are cached or being loaded, and for all others what one
    /// call of `load` gives, which is cached.
    ///
    /// `load` gets the keys that are missing, in their order, and returns pairs of keys and values, in
    /// any order. A key that it leaves out is not in the answer; calls that wait for that key load for
    /// themselves. A pair whose key is not among those it was given is ignored, as is a second pair of
    /// one key: nobody has asked for a write that would win over loads in flight. The answer is a map,
    /// since keys may be missing or asked for twice; those that come twice count once.
    ///
    /// Calls for a key of the batch join it while it is loaded, and the batch joins loads of its keys
    /// that are in flight. It waits for those after it has published what it has loaded, so batches that
    /// overlap do not wait for each other in a circle. If a load that it waits for comes to nothing,
    /// `load` is called once more with its key.
    ///
    /// In the statistics each key counts as a call, and a call of `load` as one load, however many keys
    /// it has, which has failed unless all that it brought was published. Writes win over the load of a
    /// batch, key by key, as over that of one key.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. What it had published stays. Of the
    /// calls that wait for the rest of its keys, exactly one for each key loads instead.
    ///
    /// # Panics
    ///
    /// If `load` panics; calls that wait for its keys go on as if this one had been dropped. If `load`
    /// asks the cache for a key that it loads, since it would wait for itself; told as for
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, String>::new(10);
    /// cache.insert_blocking(2, "two".to_owned());
    /// let load = async |missing: Vec<u32>| {
    ///     assert_eq!(missing, [1, 3]);
    ///     [(1, "one".to_owned())]
    /// };
    /// let names = futures_lite::future::block_on(cache.get_or_insert_many([1, 2, 3, 1], load));
    /// assert_eq!((&*names[&1], &*names[&2]), ("one", "two"));
    /// assert_eq!(names.get(&3), None);
    /// assert_eq!(cache.get(&1), Some("one".to_owned()));
    /// ```
    pub fn get_or_insert_many<F, Fut, A>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: F,
    ) -> impl Future<Output = HashMap<K, V>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = A>,
        A: IntoIterator<Item = (K, V)>,
    {
        let Inner { hasher, store } = &*self.inner;
        fetch_many(store, hasher, keys, load, Infallible)
    }

    /// Like [`get_or_insert_many`](Self::get_or_insert_many) for a load that can fail.
    ///
    /// # Errors
    ///
    /// Returns the error of this call's own `load`, without waiting for loads that it has joined. Calls
    /// that waited for its keys load for themselves.
    ///
    /// # Cancel safety
    ///
    /// As for [`get_or_insert_many`](Self::get_or_insert_many).
    ///
    /// # Panics
    ///
    /// As for [`get_or_insert_many`](Self::get_or_insert_many).
    ///
    /// # Examples
    ///
    /// ```
    /// let cache = async_lru::AsyncLru::<u32, u32>::new(10);
    /// futures_lite::future::block_on(async {
    ///     let down = async |_: Vec<u32>| Err::<[(u32, u32); 0], _>("down");
    ///     assert_eq!(cache.try_get_or_insert_many([1, 2], down).await, Err("down"));
    ///     let squares = async |missing: Vec<u32>| {
    ///         Ok::<_, &str>(missing.into_iter().map(|key| (key, key * key)))
    ///     };
    ///     assert_eq!(cache.try_get_or_insert_many([2, 3], squares).await.unwrap()[&3], 9);
    /// });
    /// ```
    pub fn try_get_or_insert_many<F, Fut, A, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: F,
    ) -> impl Future<Output = Result<HashMap<K, V>, E>>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = Result<A, E>>,
        A: IntoIterator<Item = (K, V)>,
    {
        let Inner { hasher, store } = &*self.inner;
        fetch_many(store, hasher, keys, load, OwnError::new())
    }
}
