//! Nothing is asked of keys, values, loads and futures beyond what a call needs; mostly proven by
//! compiling.

mod common;

use async_lru::{
    ArgsAsKey, AsyncLru, BorrowedKey, Builder, CacheInfo, CacheStats, Clock, DetachedEntries,
    DetachedEntry, Entries, Entry, Lifetime, LocalMemo, Lookup, ManualClock, Memo, OwnedKey,
    OwnedWriteGuard, RemovalCause, SystemClock, Task, TryMemo, Update, WeakAsyncLru, WriteGuard,
    background,
};
use common::now;
use futures_lite::future::{block_on, yield_now};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt::{self, Debug};
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomPinned;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

fn is_send_and_sync<T: Send + Sync>() {}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// What a task of a work-stealing executor has to be.
fn spawn(task: impl Future<Output: Send> + Send + 'static) {
    common::smol(Box::pin(async move { drop(task.await) }));
}

/// `<T as NotSend<_>>::holds()` compiles only if `T` is not `Send`, for else it means two things.
trait NotSend<Why> {
    fn holds() {}
}

impl<T: ?Sized> NotSend<()> for T {}
impl<T: ?Sized + Send> NotSend<u8> for T {}

/// The same for `Sync`.
trait NotSync<Why> {
    fn holds() {}
}

impl<T: ?Sized> NotSync<()> for T {}
impl<T: ?Sized + Sync> NotSync<u8> for T {}

// The types.

type Boxed<V> = Pin<Box<dyn Future<Output = V> + Send>>;

#[test]
fn a_cache_may_be_used_after_a_panic_whatever_it_holds() {
    fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_unwind_safe::<AsyncLru<Cell<u64>, RefCell<u64>>>();
    is_unwind_safe::<Memo<Cell<u64>, Cell<u64>, RefCell<u64>>>();
    is_unwind_safe::<TryMemo<Cell<u64>, Cell<u64>, RefCell<u64>, Cell<u64>>>();
    is_unwind_safe::<LocalMemo<u64, u64, fn(u64) -> Boxed<u64>>>();
}

#[test]
fn types_are_send_and_sync_if_their_parts_are() {
    is_send_and_sync::<AsyncLru<String, Arc<str>>>();
    is_send_and_sync::<AsyncLru<u64, u64, std::hash::RandomState>>();
    is_send_and_sync::<Builder<String, Arc<str>>>();
    is_send_and_sync::<Builder<String, Arc<str>, std::hash::RandomState, ArgsAsKey>>();
    is_send_and_sync::<WeakAsyncLru<String, Arc<str>>>();
    is_send_and_sync::<WriteGuard<'_, str, String, Arc<str>>>();
    is_send_and_sync::<OwnedWriteGuard<String, Arc<str>>>();
    is_send_and_sync::<Lifetime>();
    is_send_and_sync::<Entry<'_, String, Arc<str>, (), OwnedKey<String>>>();
    is_send_and_sync::<DetachedEntry<'_, String, Arc<str>, (), BorrowedKey<'_, str>>>();
    is_send_and_sync::<Entries<'_, String, Arc<str>, (), Vec<String>>>();
    is_send_and_sync::<DetachedEntries<'_, String, Arc<str>, (), Vec<String>>>();
    // Arguments and errors are not kept.
    is_send_and_sync::<Memo<Rc<str>, String, Arc<str>>>();
    is_send_and_sync::<TryMemo<Rc<str>, String, Arc<str>, Rc<str>>>();
    is_send_and_sync::<LocalMemo<u64, u64, fn(u64) -> Boxed<u64>>>();
    is_send_and_sync::<LocalMemo<u64, u64, fn(String) -> Boxed<u64>, fn(&String) -> u64>>();
    is_send_and_sync::<Lookup<u64>>();
    is_send_and_sync::<Update<Arc<str>>>();
    is_send_and_sync::<RemovalCause>();
    is_send_and_sync::<CacheStats>();
    is_send_and_sync::<CacheInfo>();
    is_send_and_sync::<ManualClock>();
    is_send_and_sync::<SystemClock>();
    is_send_and_sync::<Arc<dyn Clock>>();
}

fn parts_of_any_type<K, V, S, X, F>()
where
    K: Send + Sync,
    V: Send + Sync,
    S: Send + Sync,
    X: Send + Sync,
    F: Send + Sync,
{
    is_send_and_sync::<AsyncLru<K, V, S>>();
    is_send_and_sync::<Builder<K, V, S, X>>();
    is_send_and_sync::<LocalMemo<K, V, F, X, S>>();
    is_send_and_sync::<Memo<F, K, V, S>>();
    is_send_and_sync::<TryMemo<F, K, V, X, S>>();
}

#[test]
fn types_are_send_and_sync_whatever_the_parts_are_called() {
    parts_of_any_type::<String, u64, (), (), ()>();
}

/// Two threads could get hold of one `Rc` or `Cell`.
/// Against (A38) of `docs/reliability.md`.
#[test]
fn a_cache_is_neither_send_nor_sync_if_its_parts_are_not() {
    <AsyncLru<Rc<str>, u64> as NotSend<_>>::holds();
    <AsyncLru<Rc<str>, u64> as NotSync<_>>::holds();
    <AsyncLru<u64, Rc<str>> as NotSend<_>>::holds();
    <AsyncLru<u64, Rc<str>> as NotSync<_>>::holds();
    <AsyncLru<u64, Cell<u64>> as NotSend<_>>::holds();
    <AsyncLru<u64, Cell<u64>> as NotSync<_>>::holds();
    <Memo<u64, u64, Rc<()>> as NotSend<_>>::holds();
    <Memo<u64, u64, Cell<()>> as NotSync<_>>::holds();
    <LocalMemo<u64, u64, Rc<()>> as NotSend<_>>::holds();
    <LocalMemo<u64, u64, Cell<()>> as NotSync<_>>::holds();
}

#[test]
fn types_show_themselves_whatever_their_parts_are() {
    struct Plain;

    fn shows<T: Debug>(value: &T) -> String {
        format!("{value:?}")
    }

    let cache = AsyncLru::<Plain, Plain>::new(1);
    assert!(shows(&cache).starts_with("AsyncLru"));
    assert!(shows(&AsyncLru::<Plain, Plain>::builder()).starts_with("Builder"));
    let memo = AsyncLru::<u64, Plain>::builder().wrap(async |_: u64| Plain);
    assert!(shows(&memo).starts_with("Memo"));
    assert!(shows(&ManualClock::new()).starts_with("ManualClock"));
    assert!(shows(&SystemClock::new()).starts_with("SystemClock"));
}

// Bounds.

/// Neither `Clone` nor `Hash` nor `Eq` nor anything else.
struct Plain;

/// No bounds here.
struct Holder<K, V, S> {
    cache: AsyncLru<K, V, S>,
}

impl<K, V, S> Clone for Holder<K, V, S> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone() }
    }
}

#[test]
fn what_needs_no_key_and_no_value_needs_nothing_of_them() {
    let holder = Holder { cache: AsyncLru::<Plain, Plain>::new(1) };
    let cache = holder.clone().cache;
    assert!(cache.is_empty());
    assert_eq!((cache.len(), cache.info().maxsize, cache.stats().hits), (0, 1, 0));
    cache.reset_stats();
    cache.clear_blocking();
    assert_eq!(cache.purge_expired_blocking(), 0);
    now(async {
        cache.clear().await;
        assert_eq!(cache.purge_expired().await, 0);
    });
}

#[test]
fn values_that_are_not_read_need_not_be_clone() {
    let cache = AsyncLru::<u64, Plain>::new(1);
    assert!(cache.insert_blocking(1, Plain).is_none());
    assert!(cache.contains_key(&1));
    assert!(now(cache.insert(1, Plain)).is_some());
    assert_eq!(cache.keys(), [1]);
    assert_eq!(cache.restore_blocking([(1, Plain, None)]), 0);
    assert!(now(cache.remove(&1)).is_some());
    assert!(!cache.invalidate_blocking(&1));
}

#[test]
fn keys_need_not_be_clone() {
    #[derive(Debug, Hash, PartialEq, Eq)]
    struct Key(u64);

    let cache = AsyncLru::<Key, u64>::new(1);
    assert_eq!(now(cache.get_or_insert_with(Key(1), async || 1)), 1);
    assert_eq!(now(cache.entry(Key(1)).or_try_insert_own(async || Err(()))).unwrap().value, 1);
    assert_eq!(now(cache.insert(Key(2), 2)), None);
    assert_eq!((cache.get(&Key(2)), cache.peek(&Key(1))), (Some(2), None));
    assert_eq!(cache.remove_blocking(&Key(2)), Some(2));
}

/// Errors need to be nothing but sized.
#[test]
fn errors_of_ones_own_need_nothing() {
    let cache = AsyncLru::<u64, u64>::new(1);
    let failed = cache.entry(1).or_try_insert_own(async || Err(Plain));
    assert!(now(failed).is_err());
    let failed = cache.entry(1).or_try_insert_own(async || Err(Rc::new(RefCell::new(Plain))));
    assert!(now(failed).is_err());
}

#[test]
fn loads_need_not_be_unpin() {
    let cache = AsyncLru::<u64, u64>::new(1);
    let load = async || {
        let pinned = PhantomPinned;
        yield_now().await;
        let _ = &pinned;
        1
    };
    assert_eq!(block_on(cache.get_or_insert_with(1, load)), 1);
}

// Futures.

/// `Send` if what they hold is, whatever that is.
fn futures_are_send<K, V, S, E, F, G, A, B>(cache: &AsyncLru<K, V, S>, key: K, value: V, f: F, g: G)
where
    K: Hash + Eq + Clone + Send + Sync,
    V: Clone + Send + Sync,
    S: BuildHasher + Send + Sync,
    E: Clone + Send + Sync + 'static,
    F: FnOnce() -> A + Clone + Send,
    G: FnOnce() -> B + Clone + Send,
    A: Future<Output = V> + Send,
    B: Future<Output = Result<V, E>> + Send,
{
    drop(is_send(cache.get_or_insert_with(key.clone(), f.clone())));
    drop(is_send(cache.entry(key.clone()).or_insert_with(f.clone())));
    drop(is_send(cache.entry_ref(&key).or_insert_with(f.clone())));
    drop(is_send(cache.entry(key.clone()).or_try_insert_own(g.clone())));
    drop(is_send(cache.entry_ref(&key).or_try_insert_own(g.clone())));
    drop(is_send(cache.refresh(key.clone(), f.clone())));
    drop(is_send(cache.get_or_insert_with_ref(&key, f)));
    drop(is_send(cache.entry(key.clone()).or_try_insert_with(g.clone())));
    drop(is_send(cache.entry_ref(&key).or_try_insert_with(g.clone())));
    drop(is_send(cache.try_get_or_insert_with(key.clone(), g.clone())));
    drop(is_send(cache.try_refresh(key.clone(), g.clone())));
    drop(is_send(cache.try_get_or_insert_with_ref(&key, g)));
    drop(is_send(cache.invalidate_if(|_, _| true)));
    drop(is_send(cache.restore([(key.clone(), value.clone(), None)])));
    drop(is_send(cache.insert(key.clone(), value)));
    drop(is_send(cache.remove(&key)));
    drop(is_send(cache.invalidate(&key)));
    drop(is_send(cache.clear()));
    drop(is_send(cache.purge_expired()));
    drop(is_send(cache.set_maxsize(1)));
    drop(is_send(cache.set_max_weight(1)));
    drop(is_send(cache.set_max_bytes(1)));
}

#[test]
fn futures_are_send_if_what_they_hold_is() {
    let cache = AsyncLru::<String, Arc<str>>::new(1);
    let tried = async || Ok::<Arc<str>, String>("a".into());
    futures_are_send(&cache, "a".to_owned(), "a".into(), async || "a".into(), tried);
}

#[test]
fn a_listener_asks_nothing_of_keys_and_only_clone_of_values() {
    struct Key;

    #[derive(Clone)]
    struct Value(Rc<Cell<u64>>);

    let cache = AsyncLru::<Key, Value>::builder().on_remove(|_, value, _| value.0.set(7)).build();
    assert!(cache.is_empty());
    let cell = Rc::new(Cell::new(1));
    let cache = AsyncLru::<Rc<str>, Value>::builder().on_remove(|_, value, _| value.0.set(7));
    let cache = cache.build();
    cache.insert_blocking("a".into(), Value(Rc::clone(&cell)));
    assert!(now(cache.invalidate("a")));
    assert_eq!(cell.get(), 7);
}

/// Against (A38) of `docs/reliability.md`.
#[test]
fn futures_are_not_send_if_what_they_hold_is_not() {
    fn not_send<T: NotSend<Why>, Why>(_: T) {}

    let cache = AsyncLru::<u64, u64>::new(1);
    let local = Rc::new(1);
    not_send(cache.get_or_insert_with(1, async || *local));
    not_send(cache.entry(1).or_insert_with(async || *local));
    not_send(cache.invalidate_keys_if(|key| *key == *local));
    not_send(cache.refresh(1, async || *local));
    not_send(cache.try_refresh(1, async || Ok::<_, u64>(*local)));
    let cache = AsyncLru::<Rc<str>, u64>::new(1);
    not_send(cache.get_or_insert_with("a".into(), async || 1));
    not_send(cache.insert("a".into(), 1));
    not_send(cache.refresh("a".into(), async || 1));
    not_send(cache.restore(Vec::<(Rc<str>, u64)>::new()));
}

/// `Send` if what they hold is, whatever that is. The load has to be in any case.
fn futures_of_detached_loads_are_send<K, V, S, E, F, G, A, B>(
    cache: &AsyncLru<K, V, S>,
    key: &K,
    f: F,
    g: G,
) where
    K: Hash + Eq + Clone + Send + Sync,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync,
    E: Clone + Send + Sync + 'static,
    F: FnOnce() -> A + Clone + Send,
    G: FnOnce() -> B + Clone + Send,
    A: Future<Output = V> + Send + 'static,
    B: Future<Output = Result<V, E>> + Send + 'static,
{
    drop(is_send(cache.entry(key.clone()).detached().or_insert_with(f.clone())));
    drop(is_send(cache.entry_ref(key).detached().or_insert_with(f)));
    drop(is_send(cache.entry(key.clone()).detached().or_try_insert_with(g.clone())));
    drop(is_send(cache.entry_ref(key).detached().or_try_insert_with(g)));
}

#[test]
fn futures_of_detached_loads_are_send_if_what_they_hold_is() {
    let cache = AsyncLru::<String, Arc<str>>::new(1);
    let tried = || later(Ok::<Arc<str>, String>("a".into()));
    futures_of_detached_loads_are_send(&cache, &"a".to_owned(), || later("a".into()), tried);
}

#[test]
fn calls_with_detached_loads_can_be_spawned() {
    let cache = AsyncLru::<&'static str, &'static str>::new(10);
    spawn(async move {
        let load = || later("text");
        assert_eq!(cache.entry("a").detached().or_insert_with(load).await.value, "text");
        assert_eq!(cache.entry_ref(&"b").detached().or_insert_with(load).await.value, "text");
        let failed =
            cache.entry("c").detached().or_try_insert_with(|| later(Err("down".to_owned())));
        assert_eq!(*failed.await.unwrap_err(), "down");
    });
    let cache = AsyncLru::<u64, Handler>::new(10);
    spawn(async move {
        let load = || later(Arc::new(double) as Handler);
        assert_eq!((cache.entry(1).detached().or_insert_with(load).await.value)(4).await, 8);
    });
}

#[test]
fn a_cache_of_rcs_has_detached_loads_that_make_them() {
    let cache = AsyncLru::<Rc<str>, Rc<u64>>::new(10);
    let load = || async {
        yield_now().await;
        Rc::new(7)
    };
    assert_eq!(*block_on(cache.entry("a".into()).detached().or_insert_with(load)).value, 7);
    assert!(cache.contains_key("a"));
}

/// `Send` if what they hold is, whatever that is.
fn futures_of_batches_are_send<K, V, S, E, F, G, A, B>(
    cache: &AsyncLru<K, V, S>,
    keys: Vec<K>,
    f: F,
    g: G,
) where
    K: Hash + Eq + Clone + Send + Sync,
    V: Clone + Send + Sync,
    S: BuildHasher + Send + Sync,
    E: Send + Sync + 'static,
    F: FnMut(Vec<K>) -> A + Send,
    G: FnMut(Vec<K>) -> B + Send,
    A: Future<Output = Vec<(K, V)>> + Send,
    B: Future<Output = Result<Vec<(K, V)>, E>> + Send,
{
    drop(is_send(cache.get_or_insert_many(keys.clone(), f)));
    drop(is_send(cache.try_get_or_insert_many(keys, g)));
}

#[test]
fn futures_of_batches_are_send_if_what_they_hold_is() {
    let cache = AsyncLru::<String, Arc<str>>::new(1);
    let pairs = |missing: Vec<String>| later(missing.into_iter().map(|key| (key, "a".into())));
    let load = |missing| async move { pairs(missing).await.collect() };
    let tried = |missing| async move { Ok::<_, fmt::Error>(pairs(missing).await.collect()) };
    futures_of_batches_are_send(&cache, vec!["a".to_owned()], load, tried);
}

#[test]
fn calls_for_many_keys_can_be_spawned() {
    let cache = AsyncLru::<&'static str, &'static str>::new(10);
    spawn(async move {
        let load = async |missing: Vec<&'static str>| {
            later(missing.into_iter().map(|key| (key, "text")).collect::<Vec<_>>()).await
        };
        assert_eq!(cache.get_or_insert_many(["a", "b"], load).await.len(), 2);
        let failed = async |_| later(Err::<Vec<_>, _>("down".to_owned())).await;
        let failed = cache.try_get_or_insert_many(["c"], failed).await;
        assert_eq!(*failed.unwrap_err(), "down");
        assert_eq!(cache.get_many(["a", "c"]), [Some("text"), None]);
    });
}

#[test]
fn batches_of_rcs_work_on_a_local_executor() {
    let cache = AsyncLru::<Rc<str>, Rc<u64>>::new(10);
    let shared = Rc::new(7);
    let load = async |missing: Vec<Rc<str>>| {
        yield_now().await;
        missing.into_iter().map(|key| (key, Rc::clone(&shared))).collect::<Vec<_>>()
    };
    let found = block_on(cache.get_or_insert_many(["a".into(), "b".into()], load));
    assert!(Rc::ptr_eq(found[1].1.as_ref().unwrap(), &shared));
}

/// `Send` if what they hold is, whatever that is.
fn futures_of_updates_are_send<K, V, S, E, F, G, A, B>(
    cache: &AsyncLru<K, V, S>,
    key: K,
    f: F,
    g: G,
) where
    K: Hash + Eq + Clone + Send + Sync,
    V: Clone + Send + Sync,
    S: BuildHasher + Send + Sync,
    E: Send,
    F: FnOnce(Option<V>) -> A + Send,
    G: FnOnce(Option<V>) -> B + Send,
    A: Future<Output = Update<V>> + Send,
    B: Future<Output = Result<Update<V>, E>> + Send,
{
    drop(is_send(cache.update_with(key.clone(), f)));
    drop(is_send(cache.try_update_with(key, g)));
}

#[test]
fn futures_of_updates_are_send_if_what_they_hold_is() {
    let cache = AsyncLru::<String, Arc<str>>::new(1);
    let tried = |_| later(Err::<Update<_>, _>(fmt::Error));
    futures_of_updates_are_send(&cache, "a".to_owned(), |_| later(Update::Keep), tried);
}

#[test]
fn updates_can_be_spawned() {
    let cache = AsyncLru::<&'static str, &'static str>::new(10);
    spawn(async move {
        let put = async |_| later(Update::Put("text")).await;
        assert_eq!(cache.update_with("a", put).await, Some("text"));
        let failed = cache.try_update_with("b", async |_| Err(later("down").await)).await;
        assert_eq!(failed, Err("down"));
    });
}

#[test]
fn updates_of_rcs_work_on_a_local_executor() {
    let cache = AsyncLru::<Rc<str>, Rc<Cell<u64>>>::new(10);
    let count = async |value: Option<Rc<Cell<u64>>>| {
        let value = later(value.unwrap_or_default()).await;
        value.set(value.get() + 1);
        Update::Put(value)
    };
    block_on(cache.update_with("a".into(), count));
    assert_eq!(block_on(cache.update_with("a".into(), count)).unwrap().get(), 2);
}

#[test]
fn calls_can_be_spawned() {
    let cache = AsyncLru::<String, u64>::new(10);
    let handle = cache.clone();
    spawn(async move {
        let load = async || {
            yield_now().await;
            1
        };
        let tried = async || Ok::<_, String>(load().await);
        let key = String::from;
        assert_eq!(handle.get_or_insert_with(key("a"), load).await, 1);
        assert_eq!(handle.get_or_insert_with_ref("b", load).await, 1);
        assert_eq!(handle.entry(key("c")).or_try_insert_own(tried).await.unwrap().value, 1);
        assert_eq!(handle.entry_ref("d").or_try_insert_own(tried).await.unwrap().value, 1);
        assert_eq!(handle.try_get_or_insert_with(key("e"), tried).await, Ok(1));
        assert_eq!(handle.try_get_or_insert_with_ref("f", tried).await, Ok(1));
        assert_eq!(handle.insert(key("g"), 1).await, None);
        assert_eq!(handle.remove("g").await, Some(1));
        assert!(!handle.invalidate("g").await);
        assert_eq!(handle.purge_expired().await, 0);
        assert_eq!(handle.invalidate_if(|_, value| *value > 1).await, 0);
        assert_eq!(handle.restore(handle.snapshot_with_ttl()).await, 0);
        assert_eq!(handle.refresh(key("a"), load).await, 1);
        assert_eq!(handle.try_refresh(key("b"), tried).await, Ok(1));
        let owned = key("a");
        let borrowed = owned.as_str();
        assert_eq!(handle.get_or_insert_with_ref(borrowed, load).await, 1);
        assert_eq!(handle.try_get_or_insert_with_ref(borrowed, tried).await, Ok(1));
    });
    assert_eq!(cache.len(), 6);
    spawn(async move { cache.clear().await });
}

/// The compiler tends to lose sight of lifetimes in spawned futures.
#[test]
fn calls_with_static_texts_can_be_spawned() {
    let cache = AsyncLru::<&'static str, &'static str>::new(10);
    spawn(async move {
        let load = || later("text");
        assert_eq!(cache.get_or_insert_with("a", load).await, "text");
        assert_eq!(cache.get_or_insert_with_ref(&"b", load).await, "text");
        let failed = cache.entry("c").or_try_insert_own(async || Err(later("down").await));
        assert_eq!(failed.await, Err("down"));
        assert_eq!(cache.entry("a").or_insert_with(load).await.value, "text");
        assert_eq!(cache.entry_ref(&"b").or_insert_with(load).await.value, "text");
        let failed = cache.entry("c").or_try_insert_own(async || Err(later("down").await));
        assert_eq!(failed.await, Err("down"));
        assert_eq!(cache.refresh("a", load).await, "text");
        assert_eq!(*cache.try_refresh("a", || later(Err("down"))).await.unwrap_err(), "down");
        assert_eq!(cache.insert("a", "more").await, Some("text"));
        assert_eq!(cache.remove(&"a").await, Some("more"));
        assert!(cache.invalidate(&"b").await);
    });
}

type Handler = Arc<dyn Fn(u64) -> Boxed<u64> + Send + Sync>;

type Failure = Arc<dyn Error + Send + Sync>;

fn double(n: u64) -> Boxed<u64> {
    Box::pin(later(n * 2))
}

#[test]
fn calls_with_values_and_errors_behind_traits_can_be_spawned() {
    let cache = AsyncLru::<u64, Handler>::new(10);
    spawn(async move {
        let load = || later(Arc::new(double) as Handler);
        assert_eq!(cache.get_or_insert_with(1, load).await(4).await, 8);
        let fail = || later(Err(Arc::new(fmt::Error) as Failure));
        assert!(cache.entry(2).or_try_insert_own(fail).await.is_err());
        assert_eq!(cache.insert(1, Arc::new(double)).await.unwrap()(4).await, 8);
    });
}

#[test]
fn a_task_and_what_runs_it_in_the_background_can_be_spawned() {
    fn is_unpin<T: Unpin>() {}
    is_unpin::<Task>();
    // No task is polled by two at once.
    <Task as NotSync<_>>::holds();
    let task: Task = is_send(Box::pin(later(())));
    let (spawner, runner) = background(2);
    fn is_spawner(spawner: impl Fn(Task) + Clone + Send + Sync + 'static) -> impl Fn(Task) {
        spawner
    }
    is_spawner(spawner.clone())(task);
    let clock = ManualClock::new();
    let cache = AsyncLru::<String, Arc<str>>::builder()
        .fresh_for(Duration::from_secs(1))
        .clock(clock.clone())
        .spawner(spawner)
        .build();
    cache.insert_blocking("a".to_owned(), "old".into());
    clock.advance(Duration::from_secs(1));
    let load = || later("new".into());
    let stale = now(cache.entry("a".to_owned()).detached().or_insert_with(load));
    assert_eq!(&*stale.value, "old");
    // The last handle ends the runner when all has been run.
    let weak = cache.downgrade();
    let handle = std::thread::spawn(move || smol::block_on(smol::spawn(runner)));
    while &*cache.get("a").unwrap() != "new" {
        std::thread::yield_now();
    }
    drop(cache);
    handle.join().unwrap();
    assert!(weak.upgrade().is_none());
}

/// Its load need not be, for it lives in the call.
#[test]
fn a_cache_of_rcs_keeps_its_entries_fresh() {
    let clock = ManualClock::new();
    let builder = AsyncLru::<Rc<str>, Rc<u64>>::builder().fresh_for(Duration::from_secs(1));
    let cache = builder.clock(clock.clone()).build();
    let shared = Rc::new(7);
    cache.insert_blocking("a".into(), Rc::new(1));
    clock.advance(Duration::from_secs(1));
    let load = async || {
        yield_now().await;
        Rc::clone(&shared)
    };
    assert_eq!(*block_on(cache.get_or_insert_with("a".into(), load)), 7);
    assert_eq!(*block_on(cache.refresh("a".into(), load)), 7);
}

async fn later<T>(answer: T) -> T {
    yield_now().await;
    answer
}

#[test]
fn calls_of_a_wrapped_function_can_be_spawned() {
    let greeting = "hello ".to_owned();
    let greet = AsyncLru::builder()
        .key_extractor(|(name, _request): &(String, u64)| name.clone())
        .wrap_local(async move |(name, _request): (String, u64)| {
            later(greeting.as_str()).await.to_owned() + &name
        });
    let handle = greet.clone();
    spawn(async move {
        assert_eq!(handle.call(("ann".to_owned(), 1)).await, "hello ann");
        assert!(handle.invalidate(&("ann".to_owned(), 2)).await);
        handle.clear().await;
    });
    let parse = AsyncLru::builder().try_wrap(async |text: String| text.parse::<u64>());
    spawn(async move {
        assert_eq!(parse.call("12".to_owned()).await, Ok(12));
        assert_eq!(parse.refresh("12".to_owned()).await, Ok(12));
    });
    let double = AsyncLru::builder().wrap(|n: u64| later(n * 2));
    spawn(async move {
        assert_eq!(double.call(4).await, 8);
        assert_eq!(double.refresh(4).await, 8);
    });
    drop(is_send(greet.call(("bob".to_owned(), 1))));
}

#[test]
fn calls_that_share_static_texts_and_errors_behind_traits_can_be_spawned() {
    let cache = AsyncLru::<u64, u64>::new(10);
    spawn(async move {
        let failed = cache.try_get_or_insert_with(1, || later(Err("down")));
        assert_eq!(*failed.await.unwrap_err(), "down");
        let failed = cache.try_get_or_insert_with_ref(&1, || later(Err("down")));
        assert_eq!(*failed.await.unwrap_err(), "down");
        let fail = || later(Err(Arc::new(fmt::Error) as Failure));
        assert!(cache.try_get_or_insert_with(1, fail).await.is_err());
    });
}

// One thread.

#[test]
fn a_cache_of_rcs_works_on_a_local_executor() {
    let cache = AsyncLru::<Rc<str>, Rc<u64>>::builder()
        .maxsize(10)
        .ttl(Duration::from_secs(60))
        .deep_size()
        .build();
    let shared = Rc::new(7);
    block_on(async {
        let load = async || {
            yield_now().await;
            Rc::clone(&shared)
        };
        assert_eq!(*cache.get_or_insert_with("a".into(), load).await, 7);
        let tried = async || Err::<Rc<u64>, _>(Rc::new("down"));
        assert_eq!(cache.entry("b".into()).or_try_insert_own(tried).await, Err(Rc::new("down")));
        assert!(Rc::ptr_eq(&cache.get("a").unwrap(), &shared));
        assert_eq!(cache.insert("b".into(), Rc::new(8)).await, None);
        assert_eq!(cache.remove("b").await, Some(Rc::new(8)));
        assert!(cache.invalidate("a").await);
        cache.clear().await;
    });
    assert_eq!(Rc::strong_count(&shared), 1);

    let executor = smol::LocalExecutor::new();
    let handle = cache.clone();
    let task = executor.spawn(async move {
        let local = Rc::new(9);
        let load = async || {
            yield_now().await;
            Rc::clone(&local)
        };
        handle.get_or_insert_with("a".into(), load).await
    });
    assert_eq!(*block_on(executor.run(task)), 9);
    assert_eq!(cache.len(), 1);
}

// Lifetimes.

fn longest_word<'a>(cache: &AsyncLru<&'a str, &'a str>, text: &'a str) -> &'a str {
    let longest = async || text.split(' ').max_by_key(|word| word.len()).unwrap_or_default();
    block_on(cache.get_or_insert_with(text, longest))
}

#[test]
fn keys_and_values_may_be_borrowed() {
    let text = "to be or perhaps not".to_owned();
    let cache = AsyncLru::new(10);
    assert_eq!(longest_word(&cache, &text), "perhaps");
    assert_eq!(longest_word(&cache, &text), "perhaps");
    assert_eq!(cache.stats().hits, 1);
    {
        // A key may be asked for by one that lives shorter.
        let short_lived = text.clone();
        assert_eq!(cache.get(short_lived.as_str()), Some("perhaps"));
        assert!(now(cache.invalidate(short_lived.as_str())));
    }
    assert_eq!(cache.insert_blocking(&text[..2], "be"), None);
}

#[test]
fn values_may_borrow_from_what_the_cache_outlives_not() {
    let words = RefCell::new(vec!["one".to_owned()]);
    let cache = AsyncLru::<usize, &RefCell<Vec<String>>>::new(10);
    let found = now(cache.get_or_insert_with(1, async || &words));
    found.borrow_mut().push("two".to_owned());
    assert_eq!(cache.get(&1).unwrap().borrow().len(), 2);
}
