//! Keys, values, loaders, clocks and wakers that call back whenever the cache runs any of their code.

#![allow(unreachable_pub, reason = "a module of one test file")]

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Clock, Eviction, LocalMemo, ManualClock, Update};
use futures_lite::future::yield_now;

use crate::common::{Hand, hand, poll};

/// How long entries live.
pub const TTL: Duration = Duration::from_secs(1);
/// How long they are fresh, where they are kept so.
pub const FRESH: Duration = Duration::from_millis(100);

/// The user's code that a cache runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    Hash,
    Extract,
    Measure,
    Weigh,
    Expiry,
    Predicate,
    Listener,
    Clock,
    Spawner,
    LoaderCall,
    LoaderPoll,
    DetachedPoll,
    BulkCall,
    BulkPoll,
    UpdateCall,
    UpdatePoll,
    WakerClone,
    WakerWake,
    WakerDrop,
    CloneFailure,
    DropKey,
    DropValue,
    DropFailure,
    /// The closure.
    DropLoader,
    /// Its future.
    DropLoad,
}

impl Callback {
    pub const ALL: [Self; 25] = [
        Self::Hash,
        Self::Extract,
        Self::Measure,
        Self::Weigh,
        Self::Expiry,
        Self::Predicate,
        Self::Listener,
        Self::Clock,
        Self::Spawner,
        Self::LoaderCall,
        Self::LoaderPoll,
        Self::DetachedPoll,
        Self::BulkCall,
        Self::BulkPoll,
        Self::UpdateCall,
        Self::UpdatePoll,
        Self::WakerClone,
        Self::WakerWake,
        Self::WakerDrop,
        Self::CloneFailure,
        Self::DropKey,
        Self::DropValue,
        Self::DropFailure,
        Self::DropLoader,
        Self::DropLoad,
    ];
}

/// A public method, as it is called from within a callback.
pub type Method = fn(&Memos, &Arc<Shared>);

/// What everything in a cache shares.
pub struct Shared {
    callback: Callback,
    method: Method,
    calls: AtomicU64,
    pub clock: ManualClock,
    /// The caches to call; none before and after the test.
    stage: Mutex<Option<Memos>>,
}

impl Shared {
    pub fn new(callback: Callback, method: Method) -> Arc<Self> {
        let calls = AtomicU64::new(0);
        let (clock, stage) = (ManualClock::new(), Mutex::new(None));
        Arc::new(Self { callback, method, calls, clock, stage })
    }

    pub fn set_stage(&self, memos: &Memos) {
        *self.stage.lock().unwrap() = Some(memos.clone());
    }

    pub fn take_stage(&self) -> Option<Memos> {
        self.stage.lock().unwrap().take()
    }

    /// How often the method was called.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn key(self: &Arc<Self>, number: u32) -> Key {
        Key { number, probe: Probe::new(self, Callback::DropKey) }
    }

    pub fn value(self: &Arc<Self>) -> Value {
        Value { _probe: Probe::new(self, Callback::DropValue) }
    }

    pub fn args(self: &Arc<Self>, number: u32, load: Load) -> Args {
        Args { number, load, shared: Arc::clone(self) }
    }

    /// The closure of a call.
    pub fn loader(
        self: &Arc<Self>,
        load: Load,
    ) -> impl FnOnce() -> SendHand<Result<Value, Failure>> + 'static {
        self.loader_polled_as(Callback::LoaderPoll, load)
    }

    /// The closure of a detached call.
    pub fn detached_loader(
        self: &Arc<Self>,
        load: Load,
    ) -> impl FnOnce() -> SendHand<Result<Value, Failure>> + 'static {
        self.loader_polled_as(Callback::DetachedPoll, load)
    }

    fn loader_polled_as(
        self: &Arc<Self>,
        poll: Callback,
        load: Load,
    ) -> impl FnOnce() -> SendHand<Result<Value, Failure>> + 'static {
        let shared = Arc::clone(self);
        let probe = Probe::new(self, Callback::DropLoader);
        move || {
            let _probe = probe;
            shared.reached(Callback::LoaderCall);
            let probe = Probe::new(&shared, Callback::DropLoad);
            Box::pin(async move {
                let _probe = probe;
                shared.work(poll).await;
                shared.end(load).map(|()| shared.value())
            })
        }
    }

    /// The closure of a call for many keys.
    pub fn bulk_loader(
        self: &Arc<Self>,
        load: Load,
    ) -> impl FnMut(Vec<Key>) -> SendHand<Result<Pairs, Failure>> + 'static {
        let shared = Arc::clone(self);
        let probe = Probe::new(self, Callback::DropLoader);
        move |missing| {
            let _of_the_closure = &probe;
            shared.reached(Callback::BulkCall);
            let shared = Arc::clone(&shared);
            let probe = Probe::new(&shared, Callback::DropLoad);
            Box::pin(async move {
                let _probe = probe;
                shared.work(Callback::BulkPoll).await;
                shared.end(load)?;
                Ok(missing.into_iter().map(|key| (key, shared.value())).collect())
            })
        }
    }

    /// The closure of an update.
    pub fn update(
        self: &Arc<Self>,
        change: Change,
    ) -> impl FnOnce(Option<Value>) -> Hand<'static, Result<Update<Value>, Failure>> + 'static {
        let shared = Arc::clone(self);
        let probe = Probe::new(self, Callback::DropLoader);
        move |value| {
            let _probe = probe;
            shared.reached(Callback::UpdateCall);
            let probe = Probe::new(&shared, Callback::DropLoad);
            hand(async move {
                let _given = (value, probe);
                shared.work(Callback::UpdatePoll).await;
                match change {
                    Change::Put => Ok(Update::Put(shared.value())),
                    Change::PutFor => Ok(Update::PutFor(shared.value(), TTL / 4)),
                    Change::Keep => Ok(Update::Keep),
                    Change::Remove => Ok(Update::Remove),
                    Change::Fails => Err(shared.failure()),
                }
            })
        }
    }

    /// What the future of a closure does, which yields a few times.
    async fn work(self: &Arc<Self>, poll: Callback) {
        for _ in 0..3 {
            self.reached(poll);
            yield_now().await;
        }
    }

    fn end(self: &Arc<Self>, load: Load) -> Result<(), Failure> {
        match load {
            Load::Succeeds => Ok(()),
            Load::Fails => Err(self.failure()),
        }
    }

    fn failure(self: &Arc<Self>) -> Failure {
        Failure { probe: Probe::new(self, Callback::DropFailure) }
    }

    /// The user's code runs: calls the method if this is the callback to do so. One level of calling
    /// back is enough.
    pub fn reached(self: &Arc<Self>, callback: Callback) {
        if callback != self.callback || WORK.get() != Work::Cache {
            return;
        }
        let memos = self.stage.lock().unwrap().clone();
        if let Some(memos) = memos {
            WORK.set(Work::Callback);
            self.calls.fetch_add(1, Ordering::Relaxed);
            (self.method)(&memos, self);
            drop(memos);
            WORK.set(Work::Cache);
        }
    }
}

impl Shared {
    /// The listener runs: it, and the drop of what it gets, call back once in each call of the test's.
    /// What leaves by that is heard of after it, and could call back for ever.
    fn heard(self: &Arc<Self>, entry: (Key, Value)) {
        if HAS_HEARD.replace(true) {
            let work = WORK.replace(Work::Callback);
            drop(entry);
            WORK.set(work);
        } else {
            self.reached(Callback::Listener);
        }
    }
}

/// Whose code this thread runs, apart from the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// What the test itself drops is no callback.
    Test,
    Cache,
    Callback,
}

thread_local! {
    static WORK: Cell<Work> = const { Cell::new(Work::Test) };
    /// Whether the listener was called in this call of the test's.
    static HAS_HEARD: Cell<bool> = const { Cell::new(false) };
}

/// Calls the cache; what user code it runs meanwhile may call back.
pub fn at_work<T>(call: impl FnOnce() -> T) -> T {
    WORK.set(Work::Cache);
    HAS_HEARD.set(false);
    let result = call();
    WORK.set(Work::Test);
    result
}

/// Calls back when it is dropped.
struct Probe {
    shared: Arc<Shared>,
    callback: Callback,
}

impl Probe {
    fn new(shared: &Arc<Shared>, callback: Callback) -> Self {
        Self { shared: Arc::clone(shared), callback }
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self::new(&self.shared, self.callback)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.reached(self.callback);
    }
}

#[derive(Clone)]
pub struct Key {
    number: u32,
    probe: Probe,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.probe.shared.reached(Callback::Hash);
        self.number.hash(state);
    }
}

#[derive(Clone)]
pub struct Value {
    _probe: Probe,
}

pub struct Failure {
    probe: Probe,
}

impl Clone for Failure {
    fn clone(&self) -> Self {
        self.probe.shared.reached(Callback::CloneFailure);
        Self { probe: self.probe.clone() }
    }
}

/// What a load of many keys brings.
pub type Pairs = Vec<(Key, Value)>;

/// How a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Succeeds,
    Fails,
}

/// What an update does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Put,
    PutFor,
    Keep,
    Remove,
    Fails,
}

/// A future in a box that any thread may poll.
pub type SendHand<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The value of a load that was not told to fail.
pub async fn sure(load: impl Future<Output = Result<Value, Failure>>) -> Value {
    load.await.unwrap_or_else(|_| unreachable!("it was not told to fail"))
}

/// The arguments of a memo.
pub struct Args {
    number: u32,
    load: Load,
    shared: Arc<Shared>,
}

fn key_of(args: &Args) -> Key {
    args.shared.reached(Callback::Extract);
    args.shared.key(args.number)
}

fn try_load(args: Args) -> Hand<'static, Result<Value, Failure>> {
    let loader = args.shared.loader(args.load);
    loader()
}

fn load(args: Args) -> Hand<'static, Value> {
    hand(sure(try_load(args)))
}

struct CallingClock(Arc<Shared>);

impl Clock for CallingClock {
    fn now(&self) -> Duration {
        self.0.reached(Callback::Clock);
        self.0.clock.now()
    }
}

pub type Cache = AsyncLru<Key, Value>;
type Wrapped<R> = LocalMemo<Key, Value, fn(Args) -> Hand<'static, R>, fn(&Args) -> Key>;

/// A memo of either kind, each with a cache of its own.
#[derive(Clone)]
pub struct Memos {
    pub sure: Wrapped<Value>,
    pub fallible: Wrapped<Result<Value, Failure>>,
}

impl Memos {
    pub fn new(kind: Kind, shared: &Arc<Shared>) -> Self {
        let builder = || kind.builder(shared).key_extractor(key_of as fn(&Args) -> Key);
        let sure = builder().wrap_local(load as fn(Args) -> _);
        Self { sure, fallible: builder().wrap_local(try_load as fn(Args) -> _) }
    }

    pub fn caches(&self) -> [&Cache; 2] {
        [self.sure.cache(), self.fallible.cache()]
    }
}

/// A kind of cache, all of which measure their entries and let them expire, some sooner than others.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub maxsize: usize,
    shards: usize,
    is_single_flight: bool,
    /// Whether it weighs its entries, too, and has a listener.
    has_options: bool,
    /// Whether it keeps its entries fresh.
    is_kept_fresh: bool,
    has_spawner: bool,
    eviction: Eviction,
}

impl Kind {
    pub fn all() -> [Self; 9] {
        let plain = Self {
            maxsize: 2,
            shards: 1,
            is_single_flight: true,
            has_options: false,
            is_kept_fresh: false,
            has_spawner: false,
            eviction: Eviction::Lru,
        };
        let fresh = Self { is_kept_fresh: true, ..plain };
        [
            plain,
            Self { shards: 4, ..plain },
            Self { maxsize: 0, ..plain },
            Self { is_single_flight: false, ..plain },
            Self { has_options: true, ..plain },
            Self { has_options: true, shards: 4, eviction: Eviction::Adaptive, ..plain },
            Self { has_options: true, ..fresh },
            Self { has_spawner: true, ..fresh },
            Self { has_spawner: true, is_single_flight: false, shards: 4, ..fresh },
        ]
    }

    /// Whether a cache of this kind runs the callback for certain: no entry is looked at where none is
    /// kept, and only who waits for another has a waker there or is told of its failure.
    pub fn reaches(self, callback: Callback) -> bool {
        match callback {
            Callback::Measure | Callback::Expiry | Callback::Predicate => self.maxsize > 0,
            Callback::Weigh | Callback::Listener => self.maxsize > 0 && self.has_options,
            Callback::Spawner => self.has_spawner,
            Callback::WakerClone
            | Callback::WakerWake
            | Callback::WakerDrop
            | Callback::CloneFailure
            | Callback::DropFailure => self.is_single_flight,
            _ => true,
        }
    }

    fn builder(self, shared: &Arc<Shared>) -> Builder<Key, Value> {
        let (measured, timed) = (Arc::clone(shared), Arc::clone(shared));
        let builder = Cache::builder()
            .maxsize(self.maxsize)
            .shards(self.shards)
            .eviction(self.eviction)
            .ttl(TTL)
            .clock(CallingClock(Arc::clone(shared)))
            .measure_with(move |_, _| {
                measured.reached(Callback::Measure);
                1
            })
            .expiry(move |key, _| {
                timed.reached(Callback::Expiry);
                (key.number % 2 == 1).then_some(TTL / 2)
            });
        let builder = match self.is_kept_fresh {
            true => builder.fresh_for(FRESH).refresh_retry(Duration::ZERO),
            false => builder,
        };
        let spawning = Arc::clone(shared);
        let builder = match self.has_spawner {
            true => builder.spawner(move |task| {
                spawning.reached(Callback::Spawner);
                // What callbacks bring about would bring about more for ever.
                if WORK.get() != Work::Callback {
                    offer(task);
                }
            }),
            false => builder,
        };
        let (heard, weighed) = (Arc::clone(shared), Arc::clone(shared));
        let builder = match self.has_options {
            true => builder.on_remove(move |key, value, _| heard.heard((key, value))).max_weight(
                self.maxsize as u64,
                move |_, _| {
                    weighed.reached(Callback::Weigh);
                    1
                },
            ),
            false => builder,
        };
        if self.is_single_flight { builder } else { builder.without_single_flight() }
    }
}

thread_local! {
    /// Calls in progress, for whoever wants to poll or drop them. One that is being polled is not here.
    static IN_PROGRESS: RefCell<Vec<Hand<'static, ()>>> = const { RefCell::new(Vec::new()) };
}

/// Lets callbacks have a call.
pub fn offer(call: Hand<'static, ()>) {
    IN_PROGRESS.with_borrow_mut(|calls| calls.push(call));
}

/// Takes one call out, so that callbacks find the others while it is polled or dropped.
fn take_one_in_progress() -> Option<Hand<'static, ()>> {
    IN_PROGRESS.with_borrow_mut(|calls| (!calls.is_empty()).then(|| calls.remove(0)))
}

/// Polls the calls in progress once each; says whether any is left.
pub fn poll_those_in_progress() -> bool {
    for _ in 0..IN_PROGRESS.with_borrow(Vec::len) {
        if let Some(mut call) = take_one_in_progress() {
            if poll(&mut call).is_pending() {
                offer(call);
            }
        }
    }
    IN_PROGRESS.with_borrow(|calls| !calls.is_empty())
}

/// Drops the calls in progress, and those that come of that.
pub fn drop_those_in_progress() {
    while let Some(call) = take_one_in_progress() {
        drop(call);
    }
}

thread_local! {
    /// Whom the wakers of this thread call.
    static AWAKE: RefCell<Option<Arc<Shared>>> = const { RefCell::new(None) };
}

fn waker_reached(callback: Callback) {
    let shared = AWAKE.with_borrow(Clone::clone);
    if let Some(shared) = shared {
        shared.reached(callback);
    }
}

/// A waker whose clones, the cache's, call back when they are woken or dropped, and which calls back
/// when it is cloned. The latest that was made decides who is called.
pub fn calling_waker(shared: &Arc<Shared>) -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        waker_reached(Callback::WakerClone);
        RawWaker::new(std::ptr::null(), &OF_CLONES)
    }
    fn wake(_: *const ()) {
        waker_reached(Callback::WakerWake);
    }
    fn drop_clone(_: *const ()) {
        waker_reached(Callback::WakerDrop);
    }
    fn nothing(_: *const ()) {}
    static OF_THE_FIRST: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
    static OF_CLONES: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop_clone);
    AWAKE.set(Some(Arc::clone(shared)));
    // The functions ignore the pointer.
    #[allow(unsafe_code, reason = "safe wakers cannot tell when they are cloned")]
    unsafe {
        Waker::from_raw(RawWaker::new(std::ptr::null(), &OF_THE_FIRST))
    }
}

/// Makes the wakers of this thread call nobody.
pub fn forget_wakers() {
    AWAKE.set(None);
}
