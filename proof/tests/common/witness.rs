//! What scenarios watch a cache with. Nothing here is a point at which another thread may go on.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::hash_map::DefaultHasher;
use std::future::{Future, poll_fn};
use std::hash::BuildHasherDefault;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_lru::{AsyncLru, Builder};
use futures_lite::future::yield_now;

/// Hashes alike in every run, so that a schedule can be repeated.
pub type Hasher = BuildHasherDefault<DefaultHasher>;

pub type Cache = AsyncLru<u32, Value, Hasher>;

/// Configures a cache of `maxsize` entries.
pub fn builder(maxsize: usize) -> Builder<u32, Value, Hasher> {
    AsyncLru::builder().maxsize(maxsize).hasher(Hasher::new())
}

/// A value that is counted for as long as it lives.
#[derive(Debug)]
pub struct Value {
    pub number: u32,
    alive: Arc<AtomicU32>,
}

impl Clone for Value {
    fn clone(&self) -> Self {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Self { number: self.number, alive: Arc::clone(&self.alive) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of a value, if there is one.
pub fn number(value: Option<Value>) -> Option<u32> {
    value.map(|value| value.number)
}

/// Makes values, and knows how many of them are alive.
#[derive(Default)]
pub struct Mint {
    alive: Arc<AtomicU32>,
}

impl Mint {
    pub fn value(&self, number: u32) -> Value {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Value { number, alive: Arc::clone(&self.alive) }
    }

    /// Puts an entry with the number of its key into the cache.
    pub fn fill(&self, cache: &Cache, keys: impl IntoIterator<Item = u32>) {
        for key in keys {
            cache.insert_blocking(key, self.value(key));
        }
    }

    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed) as usize
    }

    /// Asserts, once the scenario holds no value any more, that the cache is whole and holds all
    /// values that are alive, and that these go with it.
    pub fn close(&self, cache: Cache) {
        assert_eq!(cache.validate(), 0, "a load has been left behind");
        assert!(cache.len() <= cache.info().maxsize);
        assert_eq!(self.alive(), cache.len(), "a value has left and is still there");
        drop(cache);
        assert_eq!(self.alive(), 0, "a value has outlived its cache");
    }
}

/// The loads of one key.
#[derive(Default)]
pub struct Loads {
    started: AtomicU32,
    live: AtomicU32,
    /// How many of the live loads a later write has won over.
    fenced: AtomicU32,
}

impl Loads {
    /// How many loads have started.
    pub fn started(&self) -> u32 {
        self.started.load(Ordering::Relaxed)
    }

    /// Says that a write may have won over a load that was live before it.
    pub fn fence(&self) {
        self.fenced.fetch_add(1, Ordering::Relaxed);
    }

    /// Loads `value` with a pause.
    pub async fn load(&self, value: Value) -> Value {
        let _live = self.enter();
        yield_now().await;
        value
    }

    /// Loads `value` with a few pauses, in a future of its own, which any call may poll.
    pub fn detached(self: &Arc<Self>, value: Value) -> impl Future<Output = Value> + Send + use<> {
        let this = Arc::clone(self);
        async move {
            let _live = this.enter();
            for _ in 0..3 {
                yield_now().await;
            }
            value
        }
    }

    /// The same, with a pause until `gate` is open.
    pub fn gated(
        self: &Arc<Self>,
        value: Value,
        gate: &Arc<Gate>,
    ) -> impl Future<Output = Value> + Send + use<> {
        let (this, gate) = (Arc::clone(self), Arc::clone(gate));
        async move {
            let _live = this.enter();
            gate.pass().await;
            value
        }
    }

    /// A load that does not end by itself.
    pub async fn never(&self) -> Value {
        let _live = self.enter();
        std::future::pending().await
    }

    /// Loads an error with a pause.
    pub async fn fail(&self, error: u32) -> Result<Value, u32> {
        let _live = self.enter();
        yield_now().await;
        Err(error)
    }

    /// A load, for as long as it runs.
    pub fn enter(&self) -> Live<'_> {
        self.started.fetch_add(1, Ordering::Relaxed);
        let live = self.live.fetch_add(1, Ordering::Relaxed);
        assert!(live <= self.fenced.load(Ordering::Relaxed), "two live loads of one key");
        Live(self)
    }
}

/// Polls a call once, with a waker that reaches nobody.
pub fn begin<C: Future + Unpin>(mut call: C) -> C {
    assert!(Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    call
}

/// A load that is running.
pub struct Live<'a>(&'a Loads);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A moment that one thread may have come to.
#[derive(Default)]
pub struct Moment(AtomicU32);

impl Moment {
    pub fn reach(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    pub fn is_reached(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

/// A gate that one thread opens for all who wait at it.
#[derive(Default)]
pub struct Gate {
    is_open: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Gate {
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
        // Woken after unlocking: to wake is a point at which another thread may go on.
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        waiting.into_iter().for_each(Waker::wake);
    }

    pub async fn pass(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            self.waiting.lock().unwrap().push(waker);
            if self.is_open.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
