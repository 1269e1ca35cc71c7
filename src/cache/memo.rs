//! Functions whose answers are cached.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use ahash::RandomState;

use crate::cache::AsyncLru;
use crate::cache::lookup::{Lookup, Traced};
use crate::cache::stats::{CacheInfo, CacheStats};
use crate::flight::Load;
use crate::flight::attempt::Running;
use crate::load::answer::{DetachedErrors, Infallible, Plain, Renewed, Terms, shared_error};
use crate::load::detached::{fetch_detached, run};
use crate::load::key::OwnedKey;

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
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell a key from arguments of type `{Args}`",
    note = "a key extractor is a closure `|args: &Args| -> Key`, or a type that implements `KeyExtractor`",
    note = "without `Builder::key_extractor` the arguments are the key, and have to be `Clone`"
)]
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

/// Takes all arguments as the key; what [`Builder::wrap`](crate::Builder::wrap)
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

/// A wrapped function, and how the key is told from its arguments. Behind pointers, so that the type of
/// what has it can be named, and the compiler asks of it no more than is said here.
struct Function<Args, K, V>(Arc<Parts<Args, K, V>>);

struct Parts<Args, K, V> {
    key: Box<dyn Fn(&Args) -> K + Send + Sync>,
    load: Box<LoadFn<Args, V>>,
}

type LoadFn<Args, V> = dyn Fn(Args, Running) -> Load<V> + Send + Sync;

impl<Args, K, V> Function<Args, K, V> {
    fn new<X>(extractor: X, load: impl Fn(Args, Running) -> Load<V> + Send + Sync + 'static) -> Self
    where
        X: KeyExtractor<Args, Key = K> + Send + Sync + 'static,
    {
        let key = Box::new(move |args: &Args| extractor.extract(args));
        Self(Arc::new(Parts { key, load: Box::new(load) }))
    }

    fn key(&self, args: &Args) -> K {
        (self.0.key)(args)
    }

    /// Answers a call by what is in `cache`, or by the function.
    fn call<P, T, S>(
        &self,
        cache: &AsyncLru<K, V, S>,
        args: Args,
        form: (P, T),
    ) -> impl Future<Output = P::Answer<T::Told>>
    where
        K: Hash + Eq,
        V: Clone,
        S: BuildHasher,
        P: DetachedErrors,
        T: Terms<V>,
    {
        let (store, hasher) = (cache.store(), cache.hasher());
        let key = OwnedKey(self.key(&args));
        fetch_detached(store, hasher, key, |running| (self.0.load)(args, running), form)
    }
}

/// A panic of the function or the extractor leaves no trace in them that another call would see.
impl<Args, K, V> UnwindSafe for Function<Args, K, V> {}
impl<Args, K, V> RefUnwindSafe for Function<Args, K, V> {}

impl<Args, K, V> Clone for Function<Args, K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Caches the answers of an async function; made by [`Builder::wrap`](crate::Builder::wrap).
///
/// A clone is another handle to the same function and cache. The type names the arguments, the key and the
/// value, and nothing of the function: so it can be a field of a struct, be in a `static LazyLock`, and be
/// called from a spawned task, whatever the function has captured.
///
/// The function's futures live in the cache, as those of [`Entry::detached`](crate::Entry::detached) do: a
/// call that is dropped or not polled any more holds up nobody. They are put in a box, on a miss only. For a
/// function that can fail there is [`TryMemo`], and for one whose futures borrow or are not `Send`
/// [`LocalMemo`](crate::LocalMemo).
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, Memo};
/// use std::sync::Arc;
///
/// trait Roles: Send + Sync {
///     fn of(&self, user: &str) -> Vec<&'static str>;
/// }
///
/// /// Has a memo whose function has captured a `dyn Trait`.
/// struct Permissions {
///     of_user: Memo<(String, u64), String, Vec<&'static str>>,
/// }
///
/// impl Permissions {
///     fn new(roles: Arc<dyn Roles>) -> Self {
///         let of_user = AsyncLru::builder()
///             .maxsize(100)
///             .key_extractor(|(user, _request): &(String, u64)| user.clone())
///             .wrap(move |(user, _request)| {
///                 let roles = Arc::clone(&roles);
///                 async move { roles.of(&user) }
///             });
///         Self { of_user }
///     }
/// }
///
/// struct Everybody;
///
/// impl Roles for Everybody {
///     fn of(&self, _: &str) -> Vec<&'static str> {
///         vec!["reader"]
///     }
/// }
///
/// futures_lite::future::block_on(async {
///     let permissions = Permissions::new(Arc::new(Everybody));
///     let call = |request| ("ann".to_owned(), request);
///     assert_eq!(permissions.of_user.call(call(1)).await, ["reader"]);
///     assert_eq!(permissions.of_user.call(call(2)).await, ["reader"]);
///     assert_eq!(permissions.of_user.stats().loads, 1);
///
///     assert!(permissions.of_user.invalidate(&call(3)).await);
///     assert!(permissions.of_user.cache().is_empty());
/// });
/// ```
pub struct Memo<Args, K, V, S = RandomState> {
    cache: AsyncLru<K, V, S>,
    function: Function<Args, K, V>,
}

impl<Args, K, V, S> Memo<Args, K, V, S> {
    pub(crate) fn new<F, Fut, X>(cache: AsyncLru<K, V, S>, function: F, extractor: X) -> Self
    where
        V: 'static,
        F: Fn(Args) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = V> + Send + 'static,
        X: KeyExtractor<Args, Key = K> + Send + Sync + 'static,
    {
        let load = move |args, running: Running| -> Load<V> {
            let load = running.span().call(|| function(args));
            Box::pin(run(load, (Infallible, Plain), running))
        };
        Self { cache, function: Function::new(extractor, load) }
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
    /// assert_eq!(double.info().maxsize, 1024);
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

impl<Args, K: Hash + Eq, V, S: BuildHasher> Memo<Args, K, V, S> {
    /// Returns the answer for `args`: the cached one, or the function's, which runs once however many
    /// callers ask at once.
    ///
    /// Whatever the function returns is cached, an `Err` too; see [`TryMemo`]. The key is told from the
    /// arguments at once, before the future is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The function goes on in the calls that wait
    /// for it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the function panics: in the call that polled it, and in the one that called it. The others go on
    /// as if it had been dropped. If the function asks its own memo for the very arguments that it is
    /// called with, as for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
    /// assert_eq!(futures_lite::future::block_on(double.call(4)), 8);
    /// ```
    pub fn call(&self, args: Args) -> impl Future<Output = V>
    where
        V: Clone,
    {
        self.function.call(&self.cache, args, (Infallible, Plain))
    }

    /// Like [`call`](Self::call), and tells where the answer came from.
    ///
    /// # Cancel safety
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::LookupOutcome;
    ///
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
    /// let lookup = futures_lite::future::block_on(double.call_traced(4));
    /// assert_eq!((lookup.value, lookup.outcome), (8, LookupOutcome::Loaded));
    /// ```
    pub fn call_traced(&self, args: Args) -> impl Future<Output = Lookup<V>>
    where
        V: Clone,
    {
        self.function.call(&self.cache, args, (Infallible, Traced { ttl: None }))
    }

    /// Runs the function and caches its answer in place of the one there is; see [`AsyncLru::refresh`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the old answer in place. The function goes on in the calls that wait for it,
    /// or by the [`spawner`](crate::Builder::spawner); if there is neither, it is dropped.
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static RUNS: AtomicU32 = AtomicU32::new(0);
    /// let memo = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .wrap(async |number| number + RUNS.fetch_add(1, Ordering::Relaxed));
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(memo.call(4).await, 4);
    ///     assert_eq!(memo.refresh(4).await, 5);
    ///     assert_eq!(memo.call(4).await, 5);
    /// });
    /// ```
    pub fn refresh(&self, args: Args) -> impl Future<Output = V>
    where
        V: Clone,
    {
        self.function.call(&self.cache, args, (Infallible, Renewed))
    }

    /// Returns the cached answer for `args`, if there is one; a use of it, as by [`AsyncLru::get`].
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder().wrap(async |n: u32| n * 2);
    /// futures_lite::future::block_on(double.call(4));
    /// assert_eq!(double.get(&4), Some(8));
    /// assert_eq!(double.get(&5), None);
    /// ```
    pub fn get(&self, args: &Args) -> Option<V>
    where
        V: Clone,
    {
        self.cache.get(&self.function.key(args))
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
    pub async fn invalidate(&self, args: &Args) -> bool {
        self.cache.invalidate(&self.function.key(args)).await
    }
}

impl<Args, K, V, S> Clone for Memo<Args, K, V, S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), function: self.function.clone() }
    }
}

impl<Args, K, V, S> fmt::Debug for Memo<Args, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// Caches the `Ok` answers of an async function that can fail; made by
/// [`Builder::try_wrap`](crate::Builder::try_wrap).
///
/// As [`Memo`] in all else. Callers that waited for a run which fails get its error too, as those of
/// [`AsyncLru::try_get_or_insert_with`].
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, TryMemo};
/// use std::num::ParseIntError;
///
/// let parse: TryMemo<String, String, u32, ParseIntError> = AsyncLru::builder()
///     .maxsize(100)
///     .try_wrap(async |text: String| text.parse::<u32>());
///
/// futures_lite::future::block_on(async {
///     assert_eq!(parse.call("12".to_owned()).await, Ok(12));
///     assert!(parse.call("twelve".to_owned()).await.is_err());
///     assert_eq!(parse.stats().current_size, 1);
/// });
/// ```
pub struct TryMemo<Args, K, V, E, S = RandomState> {
    cache: AsyncLru<K, V, S>,
    function: Function<Args, K, V>,
    error: PhantomData<fn() -> E>,
}

impl<Args, K, V, E, S> TryMemo<Args, K, V, E, S> {
    pub(crate) fn new<F, Fut, X>(cache: AsyncLru<K, V, S>, function: F, extractor: X) -> Self
    where
        V: 'static,
        E: Send + Sync + 'static,
        F: Fn(Args) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        X: KeyExtractor<Args, Key = K> + Send + Sync + 'static,
    {
        let load = move |args, running: Running| -> Load<V> {
            let load = running.span().call(|| function(args));
            Box::pin(run(load, (shared_error(), Plain), running))
        };
        Self { cache, function: Function::new(extractor, load), error: PhantomData }
    }

    /// Returns the cache underneath.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// futures_lite::future::block_on(double.call(4)).unwrap();
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// assert_eq!(double.info().maxsize, 1024);
    /// ```
    pub fn info(&self) -> CacheInfo {
        self.cache.info()
    }

    /// Returns the statistics of the cache.
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// futures_lite::future::block_on(double.call(4)).unwrap();
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// futures_lite::future::block_on(async {
    ///     double.call(4).await.unwrap();
    ///     double.clear().await;
    ///     assert_eq!(double.stats().current_size, 0);
    /// });
    /// ```
    pub async fn clear(&self) {
        self.cache.clear().await;
    }
}

impl<Args, K: Hash + Eq, V, E, S: BuildHasher> TryMemo<Args, K, V, E, S> {
    /// Returns the answer for `args`: the cached one, or the function's, which runs once however many
    /// callers ask at once.
    ///
    /// # Errors
    ///
    /// Returns the function's error, of the run that this call has started or waited for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid. The function goes on in the calls that wait
    /// for it, or else by the [`spawner`](crate::Builder::spawner); if there is none, it is dropped.
    ///
    /// # Panics
    ///
    /// If the function panics: in the call that polled it, and in the one that called it. The others go on
    /// as if it had been dropped. If the function asks its own memo for the very arguments that it is
    /// called with, as for [`AsyncLru::get_or_insert_with`].
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(double.call(4).await, Ok(8));
    ///     assert_eq!(*double.call(u32::MAX).await.unwrap_err(), "too large");
    /// });
    /// ```
    pub fn call(&self, args: Args) -> impl Future<Output = Result<V, Arc<E>>>
    where
        V: Clone,
        E: Send + Sync + 'static,
    {
        self.function.call(&self.cache, args, (shared_error(), Plain))
    }

    /// Like [`call`](Self::call), and tells where the answer came from.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::LookupOutcome;
    ///
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// let lookup = futures_lite::future::block_on(double.call_traced(4)).unwrap();
    /// assert_eq!((lookup.value, lookup.outcome), (8, LookupOutcome::Loaded));
    /// ```
    pub fn call_traced(&self, args: Args) -> impl Future<Output = Result<Lookup<V>, Arc<E>>>
    where
        V: Clone,
        E: Send + Sync + 'static,
    {
        self.function.call(&self.cache, args, (shared_error(), Traced { ttl: None }))
    }

    /// Runs the function and caches its answer in place of the one there is; see [`AsyncLru::try_refresh`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the old answer in place. The function goes on in the calls that wait for it,
    /// or by the [`spawner`](crate::Builder::spawner); if there is neither, it is dropped.
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Examples
    ///
    /// ```
    /// let half = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |number: u32| number.checked_sub(1).ok_or("too small"));
    /// futures_lite::future::block_on(async {
    ///     assert_eq!(half.refresh(4).await, Ok(3));
    ///     assert_eq!(*half.refresh(0).await.unwrap_err(), "too small");
    /// });
    /// ```
    pub fn refresh(&self, args: Args) -> impl Future<Output = Result<V, Arc<E>>>
    where
        V: Clone,
        E: Send + Sync + 'static,
    {
        self.function.call(&self.cache, args, (shared_error(), Renewed))
    }

    /// Returns the cached answer for `args`, if there is one; a use of it, as by [`AsyncLru::get`].
    ///
    /// # Examples
    ///
    /// ```
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// futures_lite::future::block_on(double.call(4)).unwrap();
    /// assert_eq!(double.get(&4), Some(8));
    /// assert_eq!(double.get(&5), None);
    /// ```
    pub fn get(&self, args: &Args) -> Option<V>
    where
        V: Clone,
    {
        self.cache.get(&self.function.key(args))
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
    /// let double = async_lru::AsyncLru::<u32, u32>::builder()
    ///     .try_wrap(async |n: u32| n.checked_mul(2).ok_or("too large"));
    /// futures_lite::future::block_on(async {
    ///     double.call(4).await.unwrap();
    ///     assert!(double.invalidate(&4).await);
    ///     assert!(!double.invalidate(&4).await);
    /// });
    /// ```
    pub async fn invalidate(&self, args: &Args) -> bool {
        self.cache.invalidate(&self.function.key(args)).await
    }
}

impl<Args, K, V, E, S> Clone for TryMemo<Args, K, V, E, S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), function: self.function.clone(), error: PhantomData }
    }
}

impl<Args, K, V, E, S> fmt::Debug for TryMemo<Args, K, V, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryMemo").field("cache", &self.cache).finish_non_exhaustive()
    }
}
