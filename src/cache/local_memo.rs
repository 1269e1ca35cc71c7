//! Functions with a cache of their answers that may borrow what they captured.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use ahash::RandomState;

use crate::cache::AsyncLru;
use crate::cache::memo::{ArgsAsKey, KeyExtractor};
use crate::cache::stats::{CacheInfo, CacheStats};

/// Caches the answers of an async function that may borrow what it captured and need not be `Send`; made by
/// [`Builder::wrap_local`](crate::Builder::wrap_local).
///
/// For local executors and functions that a [`Memo`](crate::Memo) does not take: any `AsyncFn(Args) -> V`.
/// Its load runs in the call that has started it. In a struct's field the type is `LocalMemo<K, V, F, X>`,
/// with type parameters, function pointers or types of one's own for the function `F` and the extractor
/// `X`. A clone is another handle to the same function and cache.
///
/// A call can be spawned on an executor with several threads if what the function captures, takes and
/// returns holds no reference and no `dyn`, not even a `&'static str`: of others the compiler cannot tell
/// yet that the future is `Send` ("implementation of `Send` is not general enough"). A `Memo` has no such
/// limit.
///
/// # Examples
///
/// ```
/// use async_lru::AsyncLru;
///
/// let permissions = AsyncLru::builder()
///     .maxsize(100)
///     .key_extractor(|(user, resource, _request): &(String, String, u64)| {
///         (user.clone(), resource.clone())
///     })
///     .wrap_local(async |(user, _resource, _request): (String, String, u64)| user == "admin");
///
/// futures_lite::future::block_on(async {
///     let call = |request| ("admin".to_owned(), "report".to_owned(), request);
///     assert!(permissions.call(call(1)).await);
///     assert!(permissions.call(call(2)).await);
///     assert_eq!(permissions.stats().loads, 1);
///
///     assert!(permissions.invalidate(&call(3)).await);
///     assert!(permissions.cache().is_empty());
/// });
/// ```
pub struct LocalMemo<K, V, F, X = ArgsAsKey, S = RandomState> {
    cache: AsyncLru<K, V, S>,
    wrapped: Arc<Wrapped<F, X>>,
}

/// Shared by all handles, besides the cache.
struct Wrapped<F, X> {
    function: F,
    extractor: X,
}

impl<K, V, F, X, S> LocalMemo<K, V, F, X, S> {
    pub(crate) fn new(cache: AsyncLru<K, V, S>, function: F, extractor: X) -> Self {
        Self { cache, wrapped: Arc::new(Wrapped { function, extractor }) }
    }

    /// Returns the cache underneath.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap_local(async |n: u32| n * 2);
    /// futures_lite::future::block_on(double.call(4));
    /// assert_eq!(double.cache().get(&4), Some(8));
    /// ```
    pub fn cache(&self) -> &AsyncLru<K, V, S> {
        &self.cache
    }

    /// Returns the configuration of the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().maxsize(7).wrap_local(async |n: u32| n * 2);
    /// assert_eq!(double.info().maxsize, 7);
    /// ```
    pub fn info(&self) -> CacheInfo {
        self.cache.info()
    }

    /// Returns the statistics of the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap_local(async |n: u32| n * 2);
    /// futures_lite::future::block_on(double.call(4));
    /// assert_eq!(double.stats().misses, 1);
    /// ```
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Forgets all answers and resets the statistics; see [`AsyncLru::clear`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid, with none, some or all of the answers forgotten.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap_local(async |n: u32| n * 2);
    /// futures_lite::future::block_on(async {
    ///     double.call(4).await;
    ///     double.clear().await;
    ///     assert_eq!(double.stats().current_size, 0);
    /// });
    /// ```
    pub async fn clear(&self) {
        self.cache.clear().await;
    }
}

impl<K: Hash + Eq, V: Clone, F, X, S: BuildHasher> LocalMemo<K, V, F, X, S> {
    /// Returns the answer for `args`: the cached one, or the function's, which runs once however many
    /// callers ask at once.
    ///
    /// Whatever the function returns is cached, an `Err` too; see [`try_call`](Self::try_call).
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap_local(async |n: u32| n * 2);
    /// assert_eq!(futures_lite::future::block_on(double.call(4)), 8);
    /// ```
    pub fn call<Args>(&self, args: Args) -> impl Future<Output = V>
    where
        X: KeyExtractor<Args, Key = K>,
        F: AsyncFn(Args) -> V,
    {
        let Wrapped { function, extractor } = &*self.wrapped;
        let key = extractor.extract(&args);
        self.cache.get_or_insert_with(key, move || function(args))
    }

    /// Like [`call`](Self::call) for a function that can fail: only its `Ok` answers are cached, and the
    /// callers that waited for a run which fails get its error too.
    ///
    /// # Errors
    ///
    /// As for [`AsyncLru::try_get_or_insert_with`].
    ///
    /// # Cancel safety
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// As for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let parse = async_lru::AsyncLru::builder()
    ///     .wrap_local(async |text: String| text.parse::<u32>());
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(parse.try_call("12".to_owned()).await, Ok(12));
    ///     assert!(parse.try_call("twelve".to_owned()).await.is_err());
    ///     assert_eq!(parse.stats().current_size, 1);
    /// });
    /// ```
    pub fn try_call<Args, E>(&self, args: Args) -> impl Future<Output = Result<V, Arc<E>>>
    where
        E: Send + Sync + 'static,
        X: KeyExtractor<Args, Key = K>,
        F: AsyncFn(Args) -> Result<V, E>,
    {
        let Wrapped { function, extractor } = &*self.wrapped;
        let key = extractor.extract(&args);
        self.cache.try_get_or_insert_with(key, move || function(args))
    }

    /// Forgets the answer for `args`; says whether there was one, cached or being computed.
    ///
    /// See [`AsyncLru::invalidate`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the cache valid; the answer is forgotten or not.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap_local(async |n: u32| n * 2);
    /// futures_lite::future::block_on(async {
    ///     double.call(4).await;
    ///     assert!(double.invalidate(&4).await);
    ///     assert!(!double.invalidate(&4).await);
    /// });
    /// ```
    pub async fn invalidate<Args>(&self, args: &Args) -> bool
    where
        X: KeyExtractor<Args, Key = K>,
    {
        let key = self.wrapped.extractor.extract(args);
        self.cache.invalidate(&key).await
    }
}

impl<K, V, F, X, S> Clone for LocalMemo<K, V, F, X, S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), wrapped: Arc::clone(&self.wrapped) }
    }
}

impl<K, V, F, X, S> fmt::Debug for LocalMemo<K, V, F, X, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMemo").field("cache", &self.cache).finish_non_exhaustive()
    }
}
