//! Changing a value by what it is.

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use super::AsyncLru;
use crate::load::answer::{Infallible, OwnError};
use crate::load::update::{Update, update as fetch_update};

/// Changing a value by what it is, which waits for loads and updates of its key and for nothing else.
impl<K: Hash + Eq, V: Clone, S: BuildHasher> AsyncLru<K, V, S> {
    /// Gives `update` the live value of `key`, does what it answers, and returns the value that it has
    /// left: after a `Put` always `Some` of that, also where it is not kept.
    ///
    /// Updates of one key run one at a time, so none is lost. An update waits for a load of its key that
    /// runs and starts from what that brings. While it runs, calls that find the key's value get
    /// the old one; those that miss it wait as for a load, and get the value that is put, or else load
    /// for themselves.
    ///
    /// [`insert`](Self::insert), [`remove`](Self::remove), [`invalidate`](Self::invalidate) and
    /// [`clear`](Self::clear) wait for nobody: one that comes while `update` runs wins, as if it had
    /// come just after it. The answer of `update` then changes nothing any more, and the call returns
    /// what it would have left. They return the value that was there before `update`: where none may be
    /// counted twice or lost, such as in a counter that is drained, take it with an update that answers
    /// [`Update::Remove`].
    ///
    /// An [`invalidate_if`](Self::invalidate_if) that begins while `update` runs is asked about what that
    /// puts, and if it chooses it, the cache holds nothing of the key afterwards, nor the value before. After
    /// more than 64 of them none is asked, and what is put counts as chosen.
    ///
    /// The look at the value counts as a use of the entry. In the statistics an update is neither a call
    /// nor a load. A cache that keeps nothing passes `None`, and the value that is put on to those who
    /// wait.
    ///
    /// The update runs inside this call's future. A call that is kept alive but not polled any more
    /// keeps other updates of the key waiting, and calls that miss it. Updates within which others are
    /// made hold on to their keys meanwhile, as locks do: take keys in the same order everywhere.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await changes nothing; the next update of the key goes on.
    ///
    /// # Panics
    ///
    /// If `update` panics, which changes nothing. If it updates the very key that it is called for, or
    /// loads that when it is not cached, since it would wait for itself; told as for
    /// [`get_or_insert_with`](Self::get_or_insert_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, Update};
    ///
    /// let visits = AsyncLru::<String, u32>::new(10);
    /// let count = async |visits: Option<u32>| Update::Put(visits.unwrap_or(0) + 1);
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(visits.update_with("ann".to_owned(), count).await, Some(1));
    ///     assert_eq!(visits.update_with("ann".to_owned(), count).await, Some(2));
    /// });
    /// assert_eq!(visits.get("ann"), Some(2));
    /// ```
    pub fn update_with<F, Fut>(&self, key: K, update: F) -> impl Future<Output = Option<V>>
    where
        F: FnOnce(Option<V>) -> Fut,
        Fut: Future<Output = Update<V>>,
    {
        let (store, hasher) = (self.store(), self.hasher());
        fetch_update(store, hasher, key, update, Infallible)
    }

    /// Like [`update_with`](Self::update_with), with a borrowed key, which is cloned.
    ///
    /// # Cancel safety
    ///
    /// As for [`update_with`](Self::update_with).
    ///
    /// # Panics
    ///
    /// As for [`update_with`](Self::update_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, Update};
    ///
    /// let visits = AsyncLru::<String, u32>::new(10);
    /// let count = async |visits: Option<u32>| Update::Put(visits.unwrap_or(0) + 1);
    /// assert_eq!(futures_lite::future::block_on(visits.update_with_ref("ann", count)), Some(1));
    /// ```
    pub fn update_with_ref<Q, F, Fut>(
        &self,
        key: &Q,
        update: F,
    ) -> impl Future<Output = Option<V>> + use<'_, K, V, S, Q, F, Fut>
    where
        Q: ToOwned<Owned = K> + ?Sized,
        F: FnOnce(Option<V>) -> Fut,
        Fut: Future<Output = Update<V>>,
    {
        self.update_with(key.to_owned(), update)
    }

    /// Like [`update_with`](Self::update_with) for an update that can fail, which changes nothing then.
    ///
    /// # Errors
    ///
    /// Returns the error of `update`.
    ///
    /// # Cancel safety
    ///
    /// As for [`update_with`](Self::update_with).
    ///
    /// # Panics
    ///
    /// As for [`update_with`](Self::update_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::{AsyncLru, Update};
    ///
    /// let stock = AsyncLru::<&str, u32>::new(10);
    /// let take_one = async |left: Option<u32>| match left {
    ///     Some(left) if left > 0 => Ok(Update::Put(left - 1)),
    ///     _ => Err("sold out"),
    /// };
    /// futures_lite::future::block_on(async {
    ///     stock.insert("book", 1).await;
    ///     assert_eq!(stock.try_update_with("book", take_one).await, Ok(Some(0)));
    ///     assert_eq!(stock.try_update_with("book", take_one).await, Err("sold out"));
    /// });
    /// assert_eq!(stock.get("book"), Some(0));
    /// ```
    pub fn try_update_with<E, F, Fut>(
        &self,
        key: K,
        update: F,
    ) -> impl Future<Output = Result<Option<V>, E>>
    where
        F: FnOnce(Option<V>) -> Fut,
        Fut: Future<Output = Result<Update<V>, E>>,
    {
        let (store, hasher) = (self.store(), self.hasher());
        fetch_update(store, hasher, key, update, OwnError::new())
    }
}
