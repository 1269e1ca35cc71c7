//! A cache of every kind and the calls that meet in it, each polled by hand, everything they make on
//! one ledger. Included by the tests that cancel calls as a module of their own.

#![allow(unreachable_pub, reason = "a module of one test file")]

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, Eviction, LocalMemo, Lookup, ManualClock, Task, Update};
use futures_lite::future::yield_now;

use crate::common::{Hand, hand};
use crate::forms::Form;
use crate::ledger::Ledger;
use crate::props::{Ending, Failure, Key, Load, Notes, Value, YIELDS};

/// The key that calls meet at; keys of one ten have one hash.
pub const KEY: u32 = 1;
/// The key of a call that has nothing to do with the others, of the same hash.
pub const ASIDE: u32 = 2;
/// A key that is there from the start, of the same hash.
const ANVIL: u32 = 3;
/// The entries that are there from the start: some wherever they fall, and enough of the same hash to
/// make room for what calls bring.
const SEEDS: [u32; 5] = [11, 21, 31, 4, 5];

/// How long entries live where they are timed, and are fresh where they are kept so.
pub const TTL: Duration = Duration::from_secs(1);
/// How long entries live that are kept fresh.
pub const LONG: Duration = Duration::from_secs(100);
/// How long after a refresh that has failed the next one is tried.
pub const RETRY: Duration = Duration::from_millis(100);

/// A key that is asked for together with others.
pub const BESIDE: u32 = 31;

/// The maker of what is there from the start.
pub const SEED: u32 = 0;

type Fixed = BuildHasherDefault<DefaultHasher>;
pub type Cache = AsyncLru<Key, Value, Fixed>;

/// A call of a public method that is async.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Load(Form, Ending),
    Detached(Ending),
    /// Of its key and another one, which is as stale.
    Batch(Ending),
    DetachedBatch(Ending),
    Refresh,
    TryRefresh(Ending),
    Memoised,
    MemoTry(Ending),
    Insert,
    /// Of more entries than one step inserts, all of the call's own key.
    InsertMany,
    /// A guarded write that takes a while, and its insertion.
    Writing,
    Update,
    Restore,
    Remove,
    Invalidate,
    MemoInvalidate,
    /// A sweep that chooses the call's own key.
    InvalidateIf,
    InvalidateKeysIf,
    SetTtl,
    /// To more than any entry has left in a cache that uses time.
    LimitTtl,
    Clear,
    MemoClear,
    PurgeExpired,
}

impl Call {
    pub fn all() -> Vec<Self> {
        let mut calls = vec![
            Self::Memoised,
            Self::MemoTry(Ending::Value),
            Self::MemoTry(Ending::Failure),
            Self::Insert,
            Self::InsertMany,
            Self::Writing,
            Self::Update,
            Self::Restore,
            Self::Remove,
            Self::Invalidate,
            Self::MemoInvalidate,
            Self::InvalidateIf,
            Self::InvalidateKeysIf,
            Self::SetTtl,
            Self::LimitTtl,
            Self::Clear,
            Self::MemoClear,
            Self::PurgeExpired,
        ];
        for form in Form::ALL {
            calls.push(Self::Load(form, Ending::Value));
            if form.is_fallible() {
                calls.push(Self::Load(form, Ending::Failure));
            }
        }
        calls
    }

    /// How its load ends, if it has one.
    pub fn load(self) -> Option<Ending> {
        match self {
            Self::Load(_, ending)
            | Self::Detached(ending)
            | Self::Batch(ending)
            | Self::DetachedBatch(ending)
            | Self::TryRefresh(ending)
            | Self::MemoTry(ending) => Some(ending),
            Self::Memoised | Self::Refresh => Some(Ending::Value),
            _ => None,
        }
    }

    /// The calls that load a key which has a stale value.
    pub fn of_stale_keys() -> Vec<Self> {
        let mut calls: Vec<Self> =
            Self::all().into_iter().filter(|call| call.load().is_some()).collect();
        calls.push(Self::Refresh);
        for ending in [Ending::Value, Ending::Failure] {
            calls.extend([
                Self::Detached(ending),
                Self::Batch(ending),
                Self::DetachedBatch(ending),
                Self::TryRefresh(ending),
            ]);
        }
        calls
    }

    /// The calls that load nothing.
    pub fn writes() -> Vec<Self> {
        Self::all().into_iter().filter(|call| call.load().is_none()).collect()
    }

    /// Whether its load goes on without it.
    pub fn is_detached(self) -> bool {
        matches!(self, Self::Detached(_) | Self::DetachedBatch(_))
    }

    /// Whether it loads whatever there is, and counts as no call.
    pub fn is_refresh(self) -> bool {
        matches!(self, Self::Refresh | Self::TryRefresh(_))
    }

    /// How many keys it asks for.
    pub fn keys(self) -> u64 {
        if matches!(self, Self::Batch(_) | Self::DetachedBatch(_)) { 2 } else { 1 }
    }

    /// Whether its error goes to those that wait for it.
    pub fn shares_errors(self) -> bool {
        match self {
            Self::Load(form, _) => form.shares_errors(),
            Self::MemoTry(_)
            | Self::Detached(_)
            | Self::Batch(_)
            | Self::DetachedBatch(_)
            | Self::TryRefresh(_) => true,
            _ => false,
        }
    }

    /// Whether it wins over loads of its key.
    pub fn fences(self) -> bool {
        let wins_over_none = matches!(self, Self::PurgeExpired | Self::SetTtl | Self::Restore);
        self.load().is_none() && !wins_over_none
    }

    pub fn is_clear(self) -> bool {
        matches!(self, Self::Clear | Self::MemoClear)
    }

    /// Whether it concerns all keys.
    pub fn is_sweeping(self) -> bool {
        self.is_clear() || matches!(self, Self::PurgeExpired | Self::Restore | Self::LimitTtl)
    }
}

/// What came of a call: who made the value or the error, or nothing of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Value(u32),
    Failure(u32),
    Done,
}

fn answer(result: Result<Value, Failure>) -> Answer {
    match result {
        Ok(value) => Answer::Value(value.maker),
        Err(failure) => Answer::Failure(failure.maker),
    }
}

/// A kind of cache.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub maxsize: usize,
    shards: usize,
    is_timed: bool,
    is_measured: bool,
    pub is_single_flight: bool,
    /// Whether its entries are kept fresh.
    is_kept_fresh: bool,
    pub has_spawner: bool,
    eviction: Eviction,
}

impl Kind {
    pub fn all() -> [Self; 10] {
        let plain = Self {
            maxsize: SEEDS.len() + 1,
            shards: 1,
            is_timed: false,
            is_measured: false,
            is_single_flight: true,
            is_kept_fresh: false,
            has_spawner: false,
            eviction: Eviction::Lru,
        };
        [
            plain,
            Self { shards: 4, ..plain },
            Self { maxsize: 0, ..plain },
            Self { is_timed: true, ..plain },
            Self { is_measured: true, ..plain },
            Self { is_single_flight: false, ..plain },
            Self { shards: 4, is_timed: true, is_measured: true, ..plain },
            Self { is_kept_fresh: true, ..plain },
            Self { is_kept_fresh: true, has_spawner: true, shards: 4, ..plain },
            // The newest may leave first, and what calls bring has to stay.
            Self { maxsize: plain.maxsize + 1, eviction: Eviction::Adaptive, ..plain },
        ]
    }

    /// Those in which entries go stale, with room for one more.
    pub fn of_stale_keys() -> Vec<Self> {
        let [plain, ..] = Self::all();
        let plain = Self { maxsize: plain.maxsize + 1, is_kept_fresh: true, ..plain };
        let kinds = [
            plain,
            Self { shards: 4, ..plain },
            Self { is_measured: true, ..plain },
            Self { is_single_flight: false, ..plain },
        ];
        let spawning = kinds.map(|kind| Self { has_spawner: true, ..kind });
        kinds.into_iter().chain(spawning).collect()
    }

    pub fn keeps_entries(self) -> bool {
        self.maxsize > 0
    }
}

/// What a call of a memo brings along.
struct Args {
    key: Key,
    load: Load,
}

fn key_of(args: &Args) -> Key {
    args.key.clone()
}

fn try_load(args: Args) -> Hand<'static, Result<Value, Failure>> {
    hand(args.load.start())
}

/// Starts a load that is not to fail.
fn sure(load: Load) -> impl Future<Output = Value> {
    let load = load.start();
    async { load.await.unwrap_or_else(|_| unreachable!("it was not told to fail")) }
}

fn load(args: Args) -> Hand<'static, Value> {
    hand(sure(args.load))
}

type Wrapped<R> = LocalMemo<Key, Value, fn(Args) -> Hand<'static, R>, fn(&Args) -> Key, Fixed>;

/// The two kinds of memo; the cache is that of either.
enum AnyMemo {
    Sure(Wrapped<Value>),
    Fallible(Wrapped<Result<Value, Failure>>),
}

/// A cache full of entries, and what happens in it.
pub struct Stage {
    pub kind: Kind,
    pub ledger: Ledger,
    cache: Cache,
    memo: AnyMemo,
    pub clock: ManualClock,
    pub notes: Arc<Notes>,
    /// What the spawner was given.
    tasks: Arc<Mutex<VecDeque<Task>>>,
    /// Whether calls find stale values at the keys that they meet at.
    is_stale: AtomicBool,
    /// Whether all that was there from the start has gone stale.
    is_all_stale: bool,
}

impl Stage {
    /// Sets a stage for `call`. What is timed has run out, but for the anvil.
    pub fn new(kind: Kind, call: Call) -> Self {
        let clock = ManualClock::new();
        let mut builder = AsyncLru::<Key, Value>::builder()
            .hasher(Fixed::new())
            .maxsize(kind.maxsize)
            .shards(kind.shards)
            .eviction(kind.eviction)
            .clock(clock.clone());
        if kind.is_timed {
            builder = builder.ttl(TTL);
        }
        if kind.is_measured {
            builder = builder.measure_with(|_, _| 100);
        }
        if !kind.is_single_flight {
            builder = builder.without_single_flight();
        }
        if kind.is_kept_fresh {
            builder = builder.fresh_for(TTL).ttl(LONG).refresh_retry(RETRY);
        }
        let tasks = Arc::<Mutex<VecDeque<Task>>>::default();
        if kind.has_spawner {
            let tasks = Arc::clone(&tasks);
            builder = builder.spawner(move |task| tasks.lock().unwrap().push_back(task));
        }
        let builder = builder.key_extractor(key_of as fn(&Args) -> Key);
        let memo = match call {
            Call::MemoTry(_) => AnyMemo::Fallible(builder.wrap_local(try_load as fn(Args) -> _)),
            _ => AnyMemo::Sure(builder.wrap_local(load as fn(Args) -> _)),
        };
        let cache = match &memo {
            AnyMemo::Sure(memo) => memo.cache().clone(),
            AnyMemo::Fallible(memo) => memo.cache().clone(),
        };
        let notes = Notes { is_single_flight: kind.is_single_flight, ..Notes::default() };
        let ledger = Ledger::default();
        let (notes, is_stale, is_all_stale) = (Arc::new(notes), AtomicBool::new(false), false);
        let stage = Self { kind, ledger, cache, memo, clock, notes, tasks, is_stale, is_all_stale };
        for key in SEEDS {
            stage.cache.insert_blocking(stage.key(key), stage.value(SEED));
        }
        stage.clock.advance(TTL);
        stage.cache.insert_blocking(stage.key(ANVIL), stage.value(SEED));
        stage
    }

    /// The same, where the key that calls meet at has a stale value, and so have all others.
    pub fn stale(kind: Kind, call: Call) -> Self {
        let stage = Self { is_all_stale: true, ..Self::new(kind, call) };
        stage.cache.insert_blocking(stage.key(KEY), stage.value(SEED));
        stage.clock.advance(TTL);
        stage.set_stale(true);
        stage
    }

    /// Says whether calls find stale values at the keys that they meet at, from now on.
    pub fn set_stale(&self, is_stale: bool) {
        self.is_stale.store(is_stale, Ordering::Relaxed);
    }

    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Takes a task that the spawner was given.
    pub fn take_task(&self) -> Option<Task> {
        self.tasks.lock().unwrap().pop_front()
    }

    fn key(&self, number: u32) -> Key {
        Key::new(&self.ledger, number)
    }

    fn value(&self, maker: u32) -> Value {
        Value::new(&self.ledger, maker)
    }

    /// Makes a call, which has not been polled yet.
    pub fn begin(&self, maker: u32, call: Call, key: u32) -> Caller<'_> {
        self.ledger.act_as(maker);
        let cache = &self.cache;
        let own_key = self.key(key);
        let has_started = Arc::new(AtomicBool::new(false));
        let refreshes = if call.is_refresh() || self.is_stale() { call.keys() } else { 0 };
        let ends = if call.is_detached() { refreshes.min(1) } else { refreshes };
        let load = |ending| Load {
            maker,
            key,
            ending,
            refreshes,
            ends,
            has_started: Arc::clone(&has_started),
            notes: Arc::clone(&self.notes),
            ledger: self.ledger.clone(),
            item: self.ledger.make("load"),
        };
        let args = |ending| Args { key: self.key(key), load: load(ending) };
        let future: Hand<'_, Answer> = match (call, &self.memo) {
            (Call::Load(form, ending), _) => {
                let load = load(ending);
                let call = form.call(cache, own_key, move || load.start());
                hand(async move { answer(call.await) })
            }
            (Call::Detached(ending), _) => {
                let load = load(ending);
                let call = cache.entry(own_key).detached().or_try_insert_with(|| load.start());
                hand(async { answer(told(call.await.map(|lookup| lookup.value))) })
            }
            (Call::Batch(ending), _) => {
                let mut load = Some(load(ending));
                let call = cache.try_get_or_insert_many([own_key, self.key(BESIDE)], move |keys| {
                    bring(load.take().expect("it is asked once"), keys)
                });
                hand(async { answer(told(call.await.map(first))) })
            }
            (Call::DetachedBatch(ending), _) => {
                let mut load = Some(load(ending));
                let call = cache.entries([own_key, self.key(BESIDE)]).detached();
                let call = call.or_try_insert_with(move |keys| {
                    bring(load.take().expect("it is asked once"), keys)
                });
                let value = |lookup: Lookup<Value>| lookup.value;
                let values = move |(key, lookup): (Key, Option<_>)| (key, lookup.map(value));
                hand(async move {
                    let answers = call.await;
                    let answers = answers.map(|found| found.into_iter().map(values).collect());
                    answer(told(answers.map(first)))
                })
            }
            (Call::Refresh, _) => {
                let load = load(Ending::Value);
                let call = cache.refresh(own_key, move || sure(load));
                hand(async { Answer::Value(call.await.maker) })
            }
            (Call::TryRefresh(ending), _) => {
                let load = load(ending);
                let call = cache.try_refresh(own_key, || load.start());
                hand(async { answer(told(call.await)) })
            }
            (Call::Memoised, AnyMemo::Sure(memo)) => {
                let call = memo.call(args(Ending::Value));
                hand(async move { Answer::Value(call.await.maker) })
            }
            (Call::MemoTry(ending), AnyMemo::Fallible(memo)) => {
                let call = memo.try_call(args(ending));
                hand(async move { answer(call.await.map_err(|error| Failure::clone(&error))) })
            }
            (Call::Insert, _) => done(cache.insert(own_key, self.value(maker))),
            (Call::InsertMany, _) => {
                let ledger = self.ledger.clone();
                let entry = move |_| (Key::new(&ledger, key), Value::new(&ledger, maker));
                done(cache.insert_many((0..150).map(entry)))
            }
            (Call::Writing, _) => {
                let (same_key, value) = (self.key(key), self.value(maker));
                done(async move {
                    let writing = cache.writing(&own_key);
                    yield_now().await;
                    writing.insert_as(same_key, value).await;
                })
            }
            (Call::Update, _) => {
                let (ledger, has_started) = (self.ledger.clone(), Arc::clone(&has_started));
                let update = cache.update_with(own_key, async move |_| {
                    has_started.store(true, Ordering::Relaxed);
                    for _ in 0..YIELDS {
                        yield_now().await;
                    }
                    Update::Put(Value::new(&ledger, maker))
                });
                hand(async move {
                    update.await.map_or(Answer::Done, |value| Answer::Value(value.maker))
                })
            }
            (Call::Restore, _) => done(cache.restore([(own_key, self.value(maker))])),
            (Call::Remove, _) => done(async move { cache.remove(&own_key).await }),
            (Call::Invalidate, _) => done(async move { cache.invalidate(&own_key).await }),
            (Call::MemoInvalidate, AnyMemo::Sure(memo)) => {
                let args = args(Ending::Value);
                done(async move { memo.invalidate(&args).await })
            }
            (Call::InvalidateIf, _) => done(cache.invalidate_if(move |key, _| *key == own_key)),
            (Call::InvalidateKeysIf, _) => {
                done(cache.invalidate_keys_if(move |key| *key == own_key))
            }
            (Call::SetTtl, _) => done(async move { cache.set_ttl(&own_key, TTL).await }),
            (Call::LimitTtl, _) => done(cache.limit_ttl(2 * LONG)),
            (Call::Clear, _) => done(cache.clear()),
            (Call::MemoClear, AnyMemo::Sure(memo)) => done(memo.clear()),
            (Call::PurgeExpired, _) => done(cache.purge_expired()),
            (Call::Memoised | Call::MemoTry(_) | Call::MemoInvalidate | Call::MemoClear, _) => {
                unreachable!("the stage was set for another call")
            }
        };
        let (future, answer) = (Some(future), None);
        // An executor polls a new task without being asked.
        let alarm = Arc::new(Alarm(AtomicBool::new(true)));
        Caller { stage: self, maker, call, future, answer, has_started, alarm, was_polled: false }
    }

    /// Who made the value that is cached for a key.
    pub fn cached(&self, key: u32) -> Option<u32> {
        self.cache.peek(&self.key(key)).map(|value| value.maker)
    }

    pub fn loads(&self) -> u64 {
        self.notes.loads.get()
    }

    /// The bound holds and the statistics add up.
    pub fn validate(&self) {
        let stats = self.cache.stats();
        assert_eq!(stats.current_size, self.cache.len());
        assert!(self.cache.len() <= self.kind.maxsize);
        assert!(self.cache.keys().len() <= self.cache.len());
        assert_eq!(stats.calls(), self.notes.calls.get(), "{stats}");
        assert_eq!(stats.loads, self.notes.loads.get(), "{stats}");
        assert_eq!(stats.load_failures, self.notes.failures.get(), "{stats}");
        assert_eq!(stats.stale_hits, self.notes.stale_hits.get(), "{stats}");
        assert_eq!(stats.refreshes, self.notes.refreshes.get(), "{stats}");
        assert_eq!(stats.refresh_failures, self.notes.refresh_failures.get(), "{stats}");
        let _loads_in_flight = self.cache.validate();
    }

    /// Every operation still does what it says, at the keys that the calls have left behind and at
    /// others.
    pub fn exercise(&self) {
        self.ledger.act_as(SEED);
        let Self { cache, kind, .. } = self;
        for key in [KEY, ASIDE, ANVIL, 41] {
            // Where others are stale the anvil is, and no call has changed that.
            self.set_stale(self.is_all_stale && key == ANVIL && self.cached(key).is_some());
            let mut load = self.begin(SEED, Call::Load(Form::With, Ending::Value), key);
            load.drive();
            self.set_stale(false);
            let lookup = self.key(key);
            cache.insert_blocking(self.key(key), self.value(99));
            let kept = kind.keeps_entries().then_some(99);
            assert_eq!(cache.peek(&lookup).map(|value| value.maker), kept);
            assert_eq!(cache.remove_blocking(&lookup).map(|value| value.maker), kept);
            assert!(!cache.contains_key(&lookup));
        }
        for key in 50..50 + 2 * kind.maxsize as u32 {
            cache.insert_blocking(self.key(key), self.value(SEED));
            assert!(cache.contains_key(&self.key(key)), "the newest entry stays");
            assert!(cache.len() <= kind.maxsize);
        }
        assert_eq!((cache.len(), cache.keys().len()), (kind.maxsize, kind.maxsize));
        self.clock.advance(if kind.is_kept_fresh { LONG } else { TTL });
        let is_over = kind.is_timed || kind.is_kept_fresh;
        assert_eq!(cache.purge_expired_blocking(), if is_over { kind.maxsize } else { 0 });
    }

    /// The value of a load is kept, as nobody guards its key any more, nor one of the same hash.
    pub fn check_load(&self) {
        let key = KEY + 5;
        self.begin(SEED, Call::Load(Form::With, Ending::Value), key).drive();
        assert_eq!(self.cached(key), self.kind.keeps_entries().then_some(SEED));
    }

    /// Frees a key whose load will never end.
    pub fn free(&self, key: u32) {
        self.notes.fences.add(1);
        // It may be in progress without an entry, or be a stale entry that nobody renews.
        assert!(self.cache.invalidate_blocking(&self.key(key)), "there is a load to fence");
    }

    fn forget_counts(&self) {
        let Notes { calls, stale_hits, loads, failures, refreshes, refresh_failures, .. } =
            &*self.notes;
        for counter in [calls, stale_hits, loads, failures, refreshes, refresh_failures] {
            counter.forget();
        }
    }
}

/// What the caller of a load with a shared error is told.
fn told(result: Result<Value, Arc<Failure>>) -> Result<Value, Failure> {
    result.map_err(|error| Failure::clone(&error))
}

/// Starts a load that brings the same for all of these keys.
fn bring(
    load: Load,
    keys: Vec<Key>,
) -> impl Future<Output = Result<Vec<(Key, Value)>, Failure>> + Send + use<> {
    let load = load.start();
    async {
        let value = load.await?;
        Ok(keys.into_iter().map(|key| (key, value.clone())).collect())
    }
}

/// The answer for the first key of a batch.
fn first(answers: Vec<(Key, Option<Value>)>) -> Value {
    let (_, value) = answers.into_iter().next().expect("it asked for some");
    value.expect("none was left out")
}

fn done<'a, T>(call: impl Future<Output = T> + 'a) -> Hand<'a, Answer> {
    hand(async move {
        call.await;
        Answer::Done
    })
}

/// A call, polled by hand.
pub struct Caller<'a> {
    stage: &'a Stage,
    maker: u32,
    call: Call,
    future: Option<Hand<'a, Answer>>,
    answer: Option<Answer>,
    was_polled: bool,
    /// Whether its own load or update was started.
    has_started: Arc<AtomicBool>,
    /// Whether it was woken since its last poll.
    alarm: Arc<Alarm>,
}

/// A waker that remembers being woken.
struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Caller<'_> {
    pub fn answer(&self) -> Option<Answer> {
        self.answer
    }

    pub fn call(&self) -> Call {
        self.call
    }

    pub fn maker(&self) -> u32 {
        self.maker
    }

    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }

    /// Whether it is the one that loads or updates.
    pub fn leads(&self) -> bool {
        self.has_started() && self.answer.is_none()
    }

    /// Polls the call unless it has ended.
    pub fn poll(&mut self) {
        let Some(future) = &mut self.future else { return };
        let notes = &self.stage.notes;
        if self.call.load().is_some() && !self.call.is_refresh() && !self.was_polled {
            notes.calls.add(self.call.keys());
            notes.stale_hits.add(if self.stage.is_stale() { self.call.keys() } else { 0 });
        }
        if self.call.fences() {
            notes.fences.add(1);
        }
        self.was_polled = true;
        self.stage.ledger.act_as(self.maker);
        self.alarm.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.alarm));
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.answer = Some(answer);
            self.future = None;
            if self.call.is_clear() {
                self.stage.forget_counts();
            }
        }
        assert!(self.stage.cache.len() <= self.stage.kind.maxsize);
    }

    /// Polls the call to its end.
    pub fn drive(&mut self) {
        drive(std::slice::from_mut(self));
    }

    /// Drops the call, and with it the load that it leads.
    pub fn cancel(mut self) {
        self.future = None;
    }

    /// Leaks the call.
    pub fn leak(mut self) {
        std::mem::forget(self.future.take());
    }
}

/// Polls calls in turn, each when it was woken, until all have ended, which must be soon.
pub fn drive(callers: &mut [Caller<'_>]) {
    for _ in 0..8 * YIELDS {
        for caller in callers.iter_mut() {
            if caller.alarm.0.load(Ordering::Relaxed) {
                caller.poll();
            }
        }
    }
    let left = callers.iter().filter(|caller| caller.answer.is_none()).count();
    assert_eq!(left, 0, "calls that nothing stands in the way of were not woken or never end");
}
