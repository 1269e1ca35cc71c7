//! Why entries leave a cache, and who wants to know.

use std::fmt;
use std::sync::Arc;

/// Says why an entry has left its cache; see [`Builder::on_remove`](crate::Builder::on_remove).
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, RemovalCause};
/// use std::sync::{Arc, Mutex};
///
/// let log = Arc::new(Mutex::new(Vec::new()));
/// let own_log = Arc::clone(&log);
/// let cache = AsyncLru::<u32, u32>::builder()
///     .maxsize(1)
///     .on_remove(move |key, _value, cause| own_log.lock().unwrap().push((key, cause)))
///     .build();
/// cache.insert_blocking(1, 10);
/// cache.insert_blocking(2, 20);
/// cache.invalidate_blocking(&2);
/// let left = [(1, RemovalCause::Capacity), (2, RemovalCause::Removed)];
/// assert_eq!(*log.lock().unwrap(), left);
/// assert_eq!(RemovalCause::Removed.to_string(), "removed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Its time was over. So it is also where something else has found that out: a call that was to
    /// remove or to replace the entry.
    Expired,
    /// It had to make room for another or for a bound that was lowered: the least recently used of its
    /// shard or, where weight or bytes were short, of those in it that take some.
    Capacity,
    /// A call has removed it: `remove`, `invalidate`, `invalidate_if`, or an update.
    Removed,
    /// An insertion, a load or an update has brought another value of its key.
    Replaced,
    /// `clear` has emptied the cache, of entries whose time was over, too.
    Cleared,
    /// It was handed to the cache, by an insertion, a load, an update or `restore`, and never kept: the
    /// cache keeps nothing, it was too heavy or had no time to live, a later write or a sweep had won over
    /// it, or there was no room for an entry to be restored.
    Rejected,
}

impl RemovalCause {
    /// Tells whether the entry left by the rules of the cache and not by a call: `Expired` or `Capacity`.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::RemovalCause;
    ///
    /// assert!(RemovalCause::Expired.was_evicted() && RemovalCause::Capacity.was_evicted());
    /// assert!(!RemovalCause::Removed.was_evicted() && !RemovalCause::Rejected.was_evicted());
    /// ```
    pub fn was_evicted(self) -> bool {
        matches!(self, Self::Expired | Self::Capacity)
    }
}

impl fmt::Display for RemovalCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Expired => "expired",
            Self::Capacity => "capacity",
            Self::Removed => "removed",
            Self::Replaced => "replaced",
            Self::Cleared => "cleared",
            Self::Rejected => "rejected",
        })
    }
}

/// A user's way to hear of what leaves.
type ListenerFn<K, V> = dyn Fn(K, V, RemovalCause) + Send + Sync;

/// Hears of the entries that leave a cache.
pub(crate) struct Listener<K, V> {
    call: Arc<ListenerFn<K, V>>,
    /// Makes two of a value that both the listener and a caller get; kept here, so that only a cache
    /// with a listener needs `V: Clone` for that.
    clone: fn(&V) -> V,
}

impl<K, V> Listener<K, V> {
    pub(crate) fn new(call: impl Fn(K, V, RemovalCause) + Send + Sync + 'static) -> Self
    where
        V: Clone,
    {
        Self { call: Arc::new(call), clone: V::clone }
    }

    /// Calls user code: never under a lock.
    pub(crate) fn hear(&self, key: K, value: V, cause: RemovalCause) {
        (self.call)(key, value, cause);
    }

    /// Calls user code: never under a lock.
    pub(crate) fn clone_value(&self, value: &V) -> V {
        (self.clone)(value)
    }
}

impl<K, V> Clone for Listener<K, V> {
    fn clone(&self) -> Self {
        Self { call: Arc::clone(&self.call), clone: self.clone }
    }
}
