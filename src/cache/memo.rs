//! Functions whose answers are cached: the successor of the Python original's decorator.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use ahash::RandomState;

use crate::cache::AsyncLru;
use crate::cache::stats::{CacheInfo, CacheStats};

/// Tells the key of a call from its arguments.
///
/// Implemented for every `Fn(&Args) -> K`; a type of one's own can be named in a struct's field. What
/// the extractor leaves out, such as a request id, does not tell calls apart. It is called once per
/// call, outside every lock.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, KeyExtractor};
///
/// struct Query {
///     city: String,
///     timeout_seconds: u32,
/// }
///
/// struct ByCity;
///
/// impl KeyExtractor<Query> for ByCity {
///     type Key = String;
///
///     fn extract(&self, query: &Query) -> String {
///         query.city.clone()
///     }
/// }
///
/// let weather = AsyncLru::builder()
///     .key_extractor(ByCity)
///     .wrap(async |query: Query| query.city.len() + query.timeout_seconds as usize);
///
/// futures_lite::future::block_on(async {
///     let query = |timeout_seconds| Query { city: "Rome".to_owned(), timeout_seconds };
///     assert_eq!(weather.call(query(5)).await, 9);
///     assert_eq!(weather.call(query(10)).await, 9);
/// });
/// ```
pub trait KeyExtractor<Args: ?Sized> {
    /// The part of the arguments that tells calls apart.
    type Key;

    /// Returns the key of a call with these arguments.
    fn extract(&self, args: &Args) -> Self::Key;
}

impl<Args: ?Sized, K, F> KeyExtractor<Args> for F
where
    F: Fn(&Args) -> K,
{
    type Key = K;

    fn extract(&self, args: &Args) -> K {
        self(args)
    }
}

/// The extractor that takes all arguments as the key; what [`Builder::wrap`](crate::Builder::wrap)
/// uses unless it is given another.
///
/// # Examples
///
/// ```
/// use async_lru::{ArgsAsKey, KeyExtractor};
///
/// assert_eq!(ArgsAsKey.extract(&(1, "a")), (1, "a"));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ArgsAsKey;

impl<Args: Clone> KeyExtractor<Args> for ArgsAsKey {
    type Key = Args;

    fn extract(&self, args: &Args) -> Args {
        args.clone()
    }
}

/// An async function with a cache of its answers, made by [`Builder::wrap`](crate::Builder::wrap).
///
/// A clone is another handle to the same function and cache. The function is an
/// `AsyncFn(Args) -> V`, so an async closure may borrow what it captured. In a struct's field the type
/// is `Memo<K, V, F, X>`, with type parameters, function pointers or types of one's own for the
/// function `F` and the extractor `X`.
///
/// # Spawning
///
/// Futures of calls borrow the handle; to spawn one, clone the handle into the task. The compiler
/// cannot tell yet that such a future is `Send` if the function's captures, its arguments or the
/// future it names hold a reference or a `dyn`, even a `&'static str` (the limitation behind its
/// message "implementation of `Send` is not general enough"). An owned `String` or an `Arc<str>` in
/// its place helps, and so does calling [`AsyncLru::get_or_insert_with`] from a function of one's own,
/// which has no such limit.
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
///     .wrap(async |(user, _resource, _request): (String, String, u64)| user == "admin");
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
pub struct Memo<K, V, F, X = ArgsAsKey, S = RandomState> {
    cache: AsyncLru<K, V, S>,
    wrapped: Arc<Wrapped<F, X>>,
}

/// Shared by all handles, besides the cache.
struct Wrapped<F, X> {
    function: F,
    extractor: X,
}

/// The arguments of a call, which its closure takes out of the call's own future: as a part of the
/// closure that future would hold them a second time.
struct Untaken<Args>(Option<Args>);

impl<Args> Untaken<Args> {
    fn look(&self) -> &Args {
        self.0.as_ref().expect("the key is told before the function is called")
    }

    fn take(&mut self) -> Args {
        self.0.take().expect("the function is called once")
    }
}

impl<K, V, F, X, S> Memo<K, V, F, X, S> {
    pub(crate) fn new(cache: AsyncLru<K, V, S>, function: F, extractor: X) -> Self {
        Self { cache, wrapped: Arc::new(Wrapped { function, extractor }) }
    }

    /// Returns the cache underneath.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().maxsize(7).wrap(async |n: u32| n * 2);
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
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

impl<K: Hash + Eq, V: Clone, F, X, S: BuildHasher> Memo<K, V, F, X, S> {
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
    /// assert_eq!(futures_lite::future::block_on(double.call(4)), 8);
    /// ```
    pub fn call<Args>(&self, args: Args) -> impl Future<Output = V>
    where
        X: KeyExtractor<Args, Key = K>,
        F: AsyncFn(Args) -> V,
    {
        let mut args = Untaken(Some(args));
        async move {
            let key = self.wrapped.extractor.extract(args.look());
            let call = || (self.wrapped.function)(args.take());
            self.cache.get_or_insert_with(key, call).await
        }
    }

    /// Like [`call`](Self::call) for a function that can fail: only its `Ok` answers are cached.
    ///
    /// # Errors
    ///
    /// Returns the function's own error. Callers that waited for the failed run then run the function
    /// themselves, one after another.
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
    ///     .wrap(async |text: String| text.parse::<u32>());
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(parse.try_call("12".to_owned()).await, Ok(12));
    ///     assert!(parse.try_call("twelve".to_owned()).await.is_err());
    ///     assert_eq!(parse.stats().current_size, 1);
    /// });
    /// ```
    pub fn try_call<Args, E>(&self, args: Args) -> impl Future<Output = Result<V, E>>
    where
        X: KeyExtractor<Args, Key = K>,
        F: AsyncFn(Args) -> Result<V, E>,
    {
        let mut args = Untaken(Some(args));
        async move {
            let key = self.wrapped.extractor.extract(args.look());
            let call = || (self.wrapped.function)(args.take());
            self.cache.try_get_or_insert_with(key, call).await
        }
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
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

impl<K, V, F, X, S> Clone for Memo<K, V, F, X, S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), wrapped: Arc::clone(&self.wrapped) }
    }
}

impl<K, V, F, X, S> fmt::Debug for Memo<K, V, F, X, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("cache", &self.cache).finish_non_exhaustive()
    }
}
