//! Every callback and every `Drop` of the user's calls every public method of the cache.
//!
//! `Eq` and `Clone` run under a lock and must not, as the documentation says.

mod common;

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, CacheStats, Clock, Update};
use common::{hand, poll};
use futures_lite::future::{block_on, yield_now};

/// When the user's code calls the cache back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callback {
    Hash,
    DropKey,
    DropValue,
    LoaderCall,
    LoaderPoll,
    Measure,
    Clock,
    WakerWake,
    WakerDrop,
}

const CALLBACKS: [Callback; 9] = [
    Callback::Hash,
    Callback::DropKey,
    Callback::DropValue,
    Callback::LoaderCall,
    Callback::LoaderPoll,
    Callback::Measure,
    Callback::Clock,
    Callback::WakerWake,
    Callback::WakerDrop,
];

/// What the callbacks of one run share.
struct Shared {
    cache: OnceLock<AsyncLru<Key, Value>>,
    callback: Callback,
    calls: Mutex<u32>,
}

impl Shared {
    /// The user's code runs; calls the cache back if it is the chosen callback.
    fn reached(this: &Arc<Self>, callback: Callback) {
        thread_local! {
            /// One level of calling back is enough.
            static WITHIN: Cell<bool> = const { Cell::new(false) };
        }
        if callback != this.callback || WITHIN.replace(true) {
            return;
        }
        if let Some(cache) = this.cache.get() {
            *this.calls.lock().unwrap() += 1;
            every_method(cache, this);
        }
        WITHIN.set(false);
    }
}

struct Key(u32, Arc<Shared>);

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(self.0, Arc::clone(&self.1))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Shared::reached(&self.1, Callback::Hash);
        self.0.hash(state);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        Shared::reached(&self.1, Callback::DropKey);
    }
}

struct Value(u32, Arc<Shared>);

impl Clone for Value {
    fn clone(&self) -> Self {
        Self(self.0, Arc::clone(&self.1))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        Shared::reached(&self.1, Callback::DropValue);
    }
}

struct CallingClock(Arc<Shared>);

impl Clock for CallingClock {
    fn now(&self) -> Duration {
        Shared::reached(&self.0, Callback::Clock);
        Duration::ZERO
    }
}

struct CallingWaker(Arc<Shared>);

impl Wake for CallingWaker {
    fn wake(self: Arc<Self>) {
        Shared::reached(&self.0, Callback::WakerWake);
    }
}

impl Drop for CallingWaker {
    fn drop(&mut self) {
        Shared::reached(&self.0, Callback::WakerDrop);
    }
}

/// Calls every public method, for the keys that the outer calls use too.
fn every_method(cache: &AsyncLru<Key, Value>, shared: &Arc<Shared>) {
    for number in [1, 2] {
        let key = || Key(number, Arc::clone(shared));
        let value = || Value(number, Arc::clone(shared));
        let lookup = key();
        cache.get(&lookup);
        cache.peek(&lookup);
        cache.contains_key(&lookup);
        cache.insert_blocking(key(), value());
        block_on(cache.insert(key(), value()));
        cache.remove_blocking(&lookup);
        block_on(cache.remove(&lookup));
        cache.invalidate_blocking(&lookup);
        block_on(cache.invalidate(&lookup));
        // A load of the outer call's own key would wait for itself; a fenced one does not.
        block_on(cache.get_or_insert_with(key(), async || value()));
        block_on(cache.get_or_insert_with_ref(&lookup, async || value()));
        let _ = block_on(cache.try_get_or_insert_with(key(), async || Ok::<_, ()>(value())));
        let _ = block_on(cache.try_get_or_insert_shared(key(), async || Err::<Value, _>(())));
        cache.invalidate_blocking(&lookup);
        let detached = value();
        block_on(cache.get_or_insert_detached(key(), || async { detached }));
        cache.get_many([&lookup]);
        cache.invalidate_blocking(&lookup);
        block_on(cache.get_or_insert_many([key()], async |_| [(key(), value())]));
        for change in [Update::Put(value()), Update::Keep, Update::Remove] {
            block_on(cache.update_with(key(), async |_| change));
        }
    }
    cache.purge_expired_blocking();
    block_on(cache.purge_expired());
    let _ = cache.keys();
    let _: CacheStats = cache.stats();
    let _ = (cache.info(), cache.len(), cache.is_empty(), format!("{cache:?}"));
    cache.reset_stats();
    cache.clear_blocking();
    block_on(cache.clear());
}

/// Uses the cache so that every callback is reached.
fn use_everything(cache: &AsyncLru<Key, Value>, shared: &Arc<Shared>) {
    let key = |number| Key(number, Arc::clone(shared));
    let load = |number| {
        Shared::reached(shared, Callback::LoaderCall);
        async move {
            Shared::reached(shared, Callback::LoaderPoll);
            yield_now().await;
            Value(number, Arc::clone(shared))
        }
    };
    for number in [1, 2, 3, 4, 1] {
        cache.insert_blocking(key(number), Value(number, Arc::clone(shared)));
        block_on(cache.get_or_insert_with(key(number), || load(number)));
        cache.get(&key(number));
    }
    let of_load = Arc::clone(shared);
    let detached = || async move {
        Shared::reached(&of_load, Callback::LoaderPoll);
        yield_now().await;
        Value(6, of_load)
    };
    block_on(cache.get_or_insert_detached(key(6), detached));
    block_on(cache.get_or_insert_many([key(1), key(7)], async |missing: Vec<Key>| {
        let mut pairs = Vec::new();
        for key in missing {
            let value = load(key.0).await;
            pairs.push((key, value));
        }
        pairs
    }));
    // An update of a key that is used within would wait for itself.
    for change in [Update::Put(Value(8, Arc::clone(shared))), Update::Keep, Update::Remove] {
        block_on(cache.update_with(key(8), async |_| {
            Shared::reached(shared, Callback::LoaderPoll);
            change
        }));
    }
    cache.remove_blocking(&key(1));
    let mut leader = hand(cache.get_or_insert_with(key(5), || load(5)));
    assert!(poll(&mut leader).is_pending());
    let waker = Waker::from(Arc::new(CallingWaker(Arc::clone(shared))));
    let mut waiter = hand(cache.get_or_insert_with(key(5), || load(5)));
    assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    drop(leader);
    block_on(waiter);
    cache.clear_blocking();
}

#[test]
fn every_callback_may_call_every_method() {
    for callback in CALLBACKS {
        for (maxsize, shards) in [(2, 1), (2, 4), (0, 1)] {
            let (done, is_done) = mpsc::channel();
            thread::spawn(move || {
                let shared =
                    Arc::new(Shared { cache: OnceLock::new(), callback, calls: Mutex::new(0) });
                let measured = Arc::clone(&shared);
                let cache = AsyncLru::builder()
                    .maxsize(maxsize)
                    .shards(shards)
                    .ttl(Duration::from_secs(1))
                    .clock(CallingClock(Arc::clone(&shared)))
                    .measure_with(move |_: &Key, _: &Value| {
                        Shared::reached(&measured, Callback::Measure);
                        1
                    })
                    .build();
                assert!(shared.cache.set(cache.clone()).is_ok());
                use_everything(&cache, &shared);
                assert!(cache.len() <= maxsize);
                // Nothing is measured where nothing is kept.
                let reached = *shared.calls.lock().unwrap() > 0;
                done.send(reached || (callback == Callback::Measure && maxsize == 0)).unwrap();
            });
            // Not a time that anything is expected to take: a deadlock would last for ever.
            let reached = is_done
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|_| panic!("{callback:?} deadlocked or failed"));
            assert!(reached, "{callback:?} was never reached");
        }
    }
}

#[test]
fn the_last_handle_may_be_dropped_within_a_load() {
    let cache = AsyncLru::<u32, Arc<u32>>::new(10);
    let value = Arc::new(7);
    cache.insert_blocking(1, Arc::clone(&value));
    let handle = Mutex::new(Some(cache.clone()));
    let call = async move {
        let inner = cache.clone();
        drop(cache);
        inner
            .get_or_insert_with(2, async || {
                drop(handle.lock().unwrap().take());
                Arc::new(8)
            })
            .await
    };
    assert_eq!(*block_on(call), 8);
    assert_eq!(Arc::strong_count(&value), 1, "the cache is gone, and its values with it");
}

#[test]
fn a_value_that_leaves_is_dropped_before_the_call_returns() {
    let cache = AsyncLru::<u32, Arc<()>>::builder().maxsize(2).build();
    let value = Arc::new(());
    let count = || Arc::strong_count(&value) - 1;
    let insert = |key| drop(cache.insert_blocking(key, Arc::clone(&value)));
    insert(1);
    insert(2);
    insert(2);
    assert_eq!(count(), 2, "replaced");
    insert(3);
    assert_eq!(count(), 2, "evicted");
    block_on(cache.get_or_insert_with(4, async || Arc::clone(&value)));
    assert_eq!(count(), 2, "evicted by a load");
    cache.invalidate_blocking(&4);
    assert_eq!(count(), 1, "invalidated");
    cache.clear_blocking();
    assert_eq!(count(), 0, "cleared");
}
