//! Instances of a service over one store in memory, on one thread, with time that tests move.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, Clock, ManualClock};
use async_lru_tier::store::Space;
use async_lru_tier::{Builder, Codec, CodecError, Faults, MemoryStore, Tiered};
use smol::LocalExecutor;

pub const MILLIS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// How the instances are built, but for what a test changes.
pub const TTL: Duration = Duration::from_secs(60);
pub const ALONE: Duration = Duration::from_secs(5);
pub const LEASE: Duration = Duration::from_secs(10);
pub const TIMEOUT: Duration = Duration::from_millis(250);
pub const HEARTBEAT: Duration = SECOND;

/// Runs futures until nobody gets any further, and moves the time.
pub struct World {
    executor: Rc<LocalExecutor<'static>>,
    pub clock: ManualClock,
    timers: Timers,
    pub store: MemoryStore,
    pub faults: Faults,
}

/// Sleeps by their end, and wakers of those that are polled.
#[derive(Clone, Default)]
struct Timers(Arc<Mutex<Sleeps>>);

type Sleeps = BTreeMap<(Duration, usize), Option<Waker>>;

pub struct Sleep {
    timers: Timers,
    name: (Duration, usize),
}

impl World {
    pub fn new() -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let faults = store.faults();
        Self { executor: Rc::default(), clock, timers: Timers::default(), store, faults }
    }

    /// The space of the instances.
    pub fn space() -> Space {
        Space::new("users", 1)
    }

    /// Begins an instance, which nobody drives.
    pub fn builder(&self) -> Builder<str, String> {
        self.builder_with(Plain)
    }

    pub fn builder_with(&self, codec: impl Codec<String>) -> Builder<str, String> {
        self.builder_of(codec, self.sleeper())
    }

    /// Makes the sleeps of this world.
    pub fn sleeper(&self) -> impl Fn(Duration) -> Sleep + Send + Sync + 'static {
        let (timers, clock) = (self.timers.clone(), self.clock.clone());
        move |time| timers.sleep(clock.now() + time)
    }

    /// Begins an instance of any keys, with sleeps of its own.
    pub fn builder_of<K: ?Sized, Fut>(
        &self,
        codec: impl Codec<String>,
        sleep: impl Fn(Duration) -> Fut + Send + Sync + 'static,
    ) -> Builder<K, String>
    where
        Fut: Future + Send + 'static,
    {
        Tiered::builder(self.store.clone(), codec, sleep)
            .namespace("users")
            .ttl(TTL)
            .ttl_alone(ALONE)
            .lease(LEASE)
            .timeout(TIMEOUT)
            .heartbeat(HEARTBEAT)
            .local(self.local())
    }

    /// Begins a local cache.
    pub fn local(&self) -> async_lru::Builder<async_lru_tier::Key, String> {
        AsyncLru::builder().clock(self.clock.clone())
    }

    /// An instance that is linked.
    pub fn instance(&self) -> Tiered<str, String> {
        self.start(self.builder())
    }

    /// Builds an instance, drives it, and links it.
    pub fn start<K: ?Sized + 'static>(&self, builder: Builder<K, String>) -> Tiered<K, String> {
        let users = builder.build();
        self.spawn(users.driver());
        self.settle();
        assert!(users.figures().linked, "an instance links at once");
        users
    }

    /// Runs `future` beside the rest.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let output = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&output);
        let task = self.executor.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        Task { output, task: Some(task) }
    }

    /// Runs everything until nobody gets any further without time.
    pub fn settle(&self) {
        while self.executor.try_tick() {}
    }

    /// Runs `future`, which needs no time.
    #[track_caller]
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let task = self.spawn(future);
        self.settle();
        task.take().expect("the future needs no time")
    }

    /// Lets `time` pass, sleep by sleep.
    pub fn pass(&self, time: Duration) {
        let end = self.clock.now() + time;
        self.settle();
        while let Some(next) = self.timers.next(end) {
            self.clock.set(next);
            self.timers.wake(next);
            self.settle();
        }
        self.clock.set(end);
        self.settle();
    }
}

/// A future that runs; detached if it is dropped.
pub struct Task<T> {
    output: Rc<RefCell<Option<T>>>,
    task: Option<smol::Task<()>>,
}

impl<T> Task<T> {
    /// What it gave, if it is done.
    pub fn take(&self) -> Option<T> {
        self.output.borrow_mut().take()
    }

    pub fn is_done(&self) -> bool {
        self.output.borrow().is_some()
    }

    /// Drops the future.
    pub fn cancel(mut self) {
        drop(self.task.take());
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl Timers {
    fn sleep(&self, end: Duration) -> Sleep {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = (end, NEXT.fetch_add(1, Ordering::Relaxed));
        self.0.lock().unwrap().insert(name, None);
        Sleep { timers: self.clone(), name }
    }

    /// The end of the first sleep, if that is not after `end`.
    fn next(&self, end: Duration) -> Option<Duration> {
        let timers = self.0.lock().unwrap();
        timers.keys().next().map(|&(next, _)| next).filter(|&next| next <= end)
    }

    /// Ends the sleeps that end now.
    fn wake(&self, now: Duration) {
        let mut timers = self.0.lock().unwrap();
        let rest = timers.split_off(&(now, usize::MAX));
        let ended = std::mem::replace(&mut *timers, rest);
        drop(timers);
        ended.into_values().flatten().for_each(Waker::wake);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.timers.0.lock().unwrap().get_mut(&self.name) {
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.0.lock().unwrap().remove(&self.name);
    }
}

/// Strings as they are.
pub struct Plain;

impl Codec<String> for Plain {
    fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
        Ok(value.clone().into_bytes())
    }

    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}

/// What the instances load from: a row that is written and read, and counts its reads.
#[derive(Clone, Default)]
pub struct Source(Rc<RefCell<(String, usize)>>);

impl Source {
    pub fn new(value: &str) -> Self {
        Self(Rc::new(RefCell::new((value.to_owned(), 0))))
    }

    pub fn write(&self, value: &str) {
        self.0.borrow_mut().0 = value.to_owned();
    }

    pub fn read(&self) -> String {
        let mut row = self.0.borrow_mut();
        row.1 += 1;
        row.0.clone()
    }

    /// What it holds; no read.
    pub fn now(&self) -> String {
        self.0.borrow().0.clone()
    }

    /// How often it was read.
    pub fn reads(&self) -> usize {
        self.0.borrow().1
    }
}
