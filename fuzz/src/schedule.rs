//! A schedule of polls and drops of several calls for a few keys, with writes in between.
//!
//! Each call has a waker of its own, and in the end only calls that were woken are polled: one that is
//! left over was forgotten by the cache.

use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, Lookup, ManualClock, Update};
use futures_lite::future::{block_on, yield_now};

use super::bytes::Bytes;
use super::census::{Census, Key, Value, numbers};

const KEYS: usize = 3;
const CALLS: usize = 8;
const TTL: Duration = Duration::from_nanos(8);

/// More polls than any schedule needs in the end: each call loads at most once in a few polls, and
/// whatever ends a load, or wakes a detached one, wakes the others once.
const MAX_POLLS: usize = 2_000;

/// Runs the schedule that `input` stands for.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let census = Census::default();
    let clock = ManualClock::new();
    let maxsize = bytes.pick(&[8, 0, 1, 2]);
    let ttl = bytes.pick(&[None, None, Some(TTL), Some(Duration::ZERO)]);
    let mut builder = AsyncLru::builder().maxsize(maxsize).shards(bytes.pick(&[1, 4]));
    if let Some(ttl) = ttl {
        builder = builder.ttl(ttl).clock(clock.clone());
    }
    let (is_measured, eviction) = bytes.bit_and_eviction();
    builder = builder.eviction(eviction);
    if is_measured {
        builder = builder.measure_with(|_, _| 1);
    }
    let ground = Arc::new(Ground {
        cache: builder.build(),
        census: census.clone(),
        clock,
        keeps_entries: maxsize > 0 && ttl != Some(Duration::ZERO),
        has_room: maxsize > 0,
        keeps_all: AtomicBool::new(maxsize >= KEYS && ttl.is_none()),
        book: Mutex::default(),
    });
    let mut schedule = Schedule { ground: &ground, calls: [const { None }; CALLS] };
    let mut number = 0;
    while !bytes.is_empty() {
        number += 1;
        schedule.step(&mut bytes, number);
        ground.check();
    }
    schedule.finish();
    ground.check();
    census.assert_only(ground.cache.len());
    for key in 0..KEYS {
        let load = async || ground.census.value(0);
        let mut call = Box::pin(ground.cache.get_or_insert_with(census.key(key as u8), load));
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready(), "key {key} waits for a load that is gone");
    }
    assert_eq!(Arc::strong_count(&ground), 1, "a load is left");
    drop(ground);
    census.assert_only(0);
}

/// The payload of a panic on purpose.
struct OnPurpose;

/// What is known of the cache from the outside.
#[derive(Default)]
struct Book {
    keys: [Page; KEYS],
    calls: u64,
    loads: u64,
    load_failures: u64,
}

/// What is known of a key.
#[derive(Default)]
struct Page {
    /// The value written last; it may have been evicted or have expired.
    written: Option<u32>,
    /// The load, or the update, that callers can join.
    live: Option<u32>,
    /// The load of a detached batch that callers may still join, be it that it has ended: what it brings
    /// is published when a call for the key is polled.
    left: Option<Left>,
    /// The update that is running.
    updating: Option<u32>,
    /// Whether a sweep has chosen what `live` is about to bring.
    is_swept: bool,
    /// Sweeps since that began.
    sweeps: usize,
    /// Whether what was written may have a lifetime of its own.
    may_have_own_lifetime: bool,
    /// The values of all writes and loads, in the order in which they began.
    begun: Vec<u32>,
    /// The loads that failed with an error for all who wait for them.
    failed: Vec<u32>,
}

/// A load of a detached batch that has ended, or that its caller has left to others.
#[derive(Clone, Copy)]
struct Left {
    value: u32,
    /// Whether the value would be kept.
    is_kept: bool,
}

/// What all calls stand on.
struct Ground {
    cache: AsyncLru<Key, Value>,
    census: Census,
    clock: ManualClock,
    /// Whether it keeps entries without a lifetime of their own.
    keeps_entries: bool,
    has_room: bool,
    /// Whether a value that was written is there until the next write.
    keeps_all: AtomicBool,
    book: Mutex<Book>,
}

/// How a load ends.
#[derive(Clone, Copy)]
enum Ending {
    Value,
    Error,
    Panic,
}

/// What a load does with the cache on its way.
#[derive(Clone, Copy)]
enum Aside {
    Nothing,
    InvalidateOwnKey,
    InsertNextKey,
    LoadNextKey,
}

/// The way in which a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Infallible,
    Own,
    OwnRef,
    Shared,
    SharedRef,
    Detached,
    OwnDetached,
    SharedDetached,
    SharedDetachedRef,
    /// For this key and all after it.
    Many,
    ManyDetached,
    Update,
}

impl Form {
    /// Whether its load lives in the cache. Those do not panic here: the call whose load it was panics
    /// then as well, in a way that ends the fuzzer.
    fn is_detached(self) -> bool {
        use Form::{Detached, ManyDetached, OwnDetached, SharedDetached, SharedDetachedRef};
        matches!(self, Detached | OwnDetached | SharedDetached | SharedDetachedRef | ManyDetached)
    }

    /// Whether it gets the errors of those loads of others that it waits for, and others get its own.
    fn shares_errors(self) -> bool {
        match self {
            Self::Shared | Self::SharedRef | Self::SharedDetached | Self::SharedDetachedRef => true,
            Self::Infallible | Self::Detached => false,
            Self::Own | Self::OwnRef | Self::OwnDetached | Self::Update => false,
            Self::Many | Self::ManyDetached => true,
        }
    }

    fn is_many(self) -> bool {
        matches!(self, Self::Many | Self::ManyDetached)
    }

    /// How many calls the cache counts for one that starts with `key`.
    fn calls(self, key: usize) -> u64 {
        match self {
            Self::Update => 0,
            _ => self.keys(key).len() as u64,
        }
    }

    /// The keys of a call that starts with `key`.
    fn keys(self, key: usize) -> Range<usize> {
        if self.is_many() { key..KEYS } else { key..key + 1 }
    }
}

#[derive(Clone, Copy)]
struct Plan {
    key: usize,
    value: u32,
    form: Form,
    yields: usize,
    aside: Aside,
    ending: Ending,
}

/// What a call has in the end.
type Answer = Result<Option<Value>, u32>;

/// A load of some keys from its start to its end, whatever that is.
struct Loading {
    ground: Arc<Ground>,
    keys: Vec<usize>,
    value: u32,
    has_value: bool,
    /// Whether others than the one who ends it publish what it brings, key by key.
    is_published_later: bool,
}

impl Loading {
    fn begin(ground: &Arc<Ground>, keys: Vec<usize>, value: u32) -> Self {
        {
            let mut book = ground.book();
            book.loads += 1;
            keys.iter().for_each(|key| book.keys[*key].begin(value));
        }
        let ground = Arc::clone(ground);
        Self { ground, keys, value, has_value: false, is_published_later: false }
    }

    fn end(mut self) -> Value {
        self.has_value = true;
        self.ground.census.value(self.value)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let mut book = self.ground.book();
        book.load_failures += u64::from(!self.has_value);
        for key in &self.keys {
            let page = &mut book.keys[*key];
            let is_kept = self.has_value && self.ground.keeps_entries && !page.is_swept;
            if self.is_published_later {
                page.leave(self.value, is_kept);
            } else if page.end(self.value) && is_kept {
                page.written = Some(self.value);
                page.may_have_own_lifetime = false;
            }
        }
    }
}

impl Page {
    /// Begins a load or an update that callers can join.
    fn begin(&mut self, value: u32) {
        assert_eq!(self.live, None, "a second load of a live key");
        (self.live, self.left) = (Some(value), None);
        (self.is_swept, self.sweeps) = (false, 0);
        self.begun.push(value);
    }

    /// Ends it; tells whether no later write has won.
    fn end(&mut self, value: u32) -> bool {
        let is_open = self.live == Some(value);
        if is_open {
            self.live = None;
        }
        is_open
    }

    /// Leaves what is to come of a detached batch's load to those who may wait for the key.
    fn leave(&mut self, value: u32, is_kept: bool) {
        if self.end(value) {
            self.left = Some(Left { value, is_kept });
        }
    }

    /// Takes note of what was found, if that is what a detached batch has brought.
    fn find(&mut self, found: Option<u32>) {
        if let Some(left) = self.left.filter(|left| left.is_kept && found == Some(left.value)) {
            (self.written, self.left) = (Some(left.value), None);
            self.may_have_own_lifetime = false;
        }
    }

    /// Notes that a write has won over all loads.
    fn fence(&mut self) {
        (self.live, self.left) = (None, None);
    }
}

/// An update from its start to its end, whatever that is.
struct Updating<'a> {
    ground: &'a Ground,
    key: usize,
    value: u32,
    change: Update<()>,
}

impl<'a> Updating<'a> {
    fn begin(ground: &'a Ground, key: usize, value: u32, old: Option<u32>) -> Self {
        ground.assert_written(key, old);
        let mut book = ground.book();
        let page = &mut book.keys[key];
        page.written = old;
        page.begin(value);
        assert_eq!(page.updating.replace(value), None, "two updates of a key at once");
        Self { ground, key, value, change: Update::Keep }
    }

    fn end(mut self) -> Update<Value> {
        let changes = [Update::Put(()), Update::PutFor((), 3 * TTL), Update::Keep, Update::Remove];
        self.change = changes[self.value as usize % 4];
        match self.change {
            Update::Put(()) => Update::Put(self.ground.census.value(self.value)),
            Update::PutFor((), ttl) => {
                // From now on, what was written may have expired.
                self.ground.keeps_all.store(false, Ordering::Relaxed);
                Update::PutFor(self.ground.census.value(self.value), ttl)
            }
            Update::Keep => Update::Keep,
            Update::Remove => Update::Remove,
        }
    }
}

impl Drop for Updating<'_> {
    fn drop(&mut self) {
        let mut book = self.ground.book();
        let page = &mut book.keys[self.key];
        page.updating = None;
        let is_swept = page.is_swept;
        if page.end(self.value) {
            let mut put =
                |is_kept: bool| page.written = (is_kept && !is_swept).then_some(self.value);
            match self.change {
                Update::Put(()) => put(self.ground.keeps_entries || page.may_have_own_lifetime),
                Update::PutFor(..) => {
                    put(self.ground.has_room);
                    page.may_have_own_lifetime = true;
                }
                Update::Keep => {}
                Update::Remove => page.written = None,
            }
        }
    }
}

impl Ground {
    fn key(&self, key: usize) -> Key {
        self.census.key(key as u8)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Whole after a panic too, which is to be told of and not to end everything.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeps_all(&self) -> bool {
        self.keeps_all.load(Ordering::Relaxed)
    }

    async fn load(self: Arc<Self>, plan: Plan) -> Result<Value, u32> {
        self.load_all(plan, vec![plan.key]).await
    }

    async fn load_all(self: Arc<Self>, plan: Plan, keys: Vec<usize>) -> Result<Value, u32> {
        let mut loading = Loading::begin(&self, keys, plan.value);
        self.step_aside(plan).await;
        loading.is_published_later = plan.form == Form::ManyDetached;
        match plan.ending {
            Ending::Value => Ok(loading.end()),
            Ending::Error => {
                if plan.form.shares_errors() {
                    let mut book = self.book();
                    loading.keys.iter().for_each(|key| book.keys[*key].failed.push(plan.value));
                }
                Err(plan.value)
            }
            // Unlike `panic!` it prints nothing, and does not end the fuzzer.
            Ending::Panic => resume_unwind(Box::new(OnPurpose)),
        }
    }

    async fn update(self: Arc<Self>, plan: Plan, old: Option<Value>) -> Result<Update<Value>, u32> {
        let updating = Updating::begin(&self, plan.key, plan.value, numbers(old));
        self.step_aside(plan).await;
        match plan.ending {
            Ending::Value => Ok(updating.end()),
            Ending::Error => Err(plan.value),
            Ending::Panic => resume_unwind(Box::new(OnPurpose)),
        }
    }

    async fn step_aside(self: &Arc<Self>, plan: Plan) {
        for _ in 0..plan.yields {
            yield_now().await;
        }
        let next = plan.key + 1;
        let value = plan.value | 1 << 31;
        match plan.aside {
            Aside::InvalidateOwnKey => self.remove(plan.key),
            Aside::InsertNextKey if next < KEYS => self.insert(next, value),
            // Only of later keys, so that no two loads wait for each other; and not of those that a load
            // of many has in hand itself.
            Aside::LoadNextKey if next < KEYS && !plan.form.is_many() => {
                self.book().calls += 1;
                let load = async || {
                    let loading = Loading::begin(self, vec![next], value);
                    yield_now().await;
                    loading.end()
                };
                self.cache.get_or_insert_with(self.key(next), load).await;
            }
            _ => {}
        }
    }

    /// Makes a call, which does nothing yet.
    fn call(self: &Arc<Self>, plan: Plan) -> Pin<Box<dyn Future<Output = Answer> + '_>> {
        let key = self.key(plan.key);
        let ground = Arc::clone(self);
        let load = move || ground.load(plan);
        let infallible = move |load: Result<Value, u32>| {
            load.unwrap_or_else(|_| resume_unwind(Box::new(OnPurpose)))
        };
        let cache = &self.cache;
        match plan.form {
            Form::Infallible => Box::pin(async move {
                let load = async || infallible(load().await);
                Ok(Some(cache.get_or_insert_with(key, load).await))
            }),
            Form::Own => Box::pin(async move {
                let lookup = cache.entry(key).or_try_insert_own(load).await?;
                Ok(Some(lookup.value))
            }),
            Form::OwnRef => Box::pin(async move {
                let lookup = cache.entry_ref(&key).or_try_insert_own(load).await?;
                Ok(Some(lookup.value))
            }),
            Form::Shared => Box::pin(async move {
                let answer = cache.try_get_or_insert_with(key, load).await;
                answer.map(Some).map_err(|error| *error)
            }),
            Form::SharedRef => Box::pin(async move {
                let answer = cache.try_get_or_insert_with_ref(&key, load).await;
                answer.map(Some).map_err(|error| *error)
            }),
            Form::Detached => Box::pin(async move {
                let load = || {
                    let load = load();
                    async move { infallible(load.await) }
                };
                Ok(Some(cache.entry(key).detached().or_insert_with(load).await.value))
            }),
            Form::OwnDetached => Box::pin(async move {
                let lookup = cache.entry(key).detached().or_try_insert_own(load).await?;
                Ok(Some(lookup.value))
            }),
            Form::SharedDetached => Box::pin(async move {
                let answer = cache.entry(key).detached().or_try_insert_with(load).await;
                answer.map(|lookup| Some(lookup.value)).map_err(|error| *error)
            }),
            Form::SharedDetachedRef => Box::pin(async move {
                let answer = cache.entry_ref(&key).detached().or_try_insert_with(load).await;
                answer.map(|lookup| Some(lookup.value)).map_err(|error| *error)
            }),
            Form::Many | Form::ManyDetached => Box::pin(self.many(plan)),
            Form::Update => {
                let update = move |old| Arc::clone(self).update(plan, old);
                Box::pin(cache.try_update_with(key, update))
            }
        }
    }

    async fn many(self: &Arc<Self>, plan: Plan) -> Answer {
        let load = |missing: Vec<Key>| {
            let keys = missing.iter().map(|key| usize::from(key.number)).collect();
            let load = Arc::clone(self).load_all(plan, keys);
            async move {
                let value = load.await?;
                let pairs = missing.into_iter().map(|key| (key, value.clone()));
                Ok::<_, u32>(pairs.collect::<Vec<_>>())
            }
        };
        let keys = (plan.key..KEYS).map(|key| self.key(key));
        let answers: Result<Vec<(Key, Option<Value>)>, Arc<u32>> = match plan.form {
            Form::ManyDetached => {
                let answers = self.cache.entries(keys).detached().or_try_insert_with(load).await;
                let value = |(key, lookup): (Key, Option<Lookup<Value>>)| {
                    (key, lookup.map(|lookup| lookup.value))
                };
                answers.map(|answers| answers.into_iter().map(value).collect())
            }
            _ => self.cache.try_get_or_insert_many(keys, load).await,
        };
        let answers = answers.map_err(|error| *error)?;
        let asked = answers.iter().map(|(key, _)| usize::from(key.number));
        assert!(asked.eq(plan.key..KEYS), "the keys of another call");
        Ok(answers.into_iter().next().and_then(|(_, value)| value))
    }

    fn insert(&self, key: usize, value: u32) {
        let (own_key, own_value) = (self.key(key), self.census.value(value));
        if value % 4 == 3 {
            block_on(self.cache.writing(&own_key).insert(own_value));
        } else {
            let old = block_on(self.cache.insert(own_key, own_value));
            self.assert_written(key, numbers(old));
        }
        self.write(key, value);
    }

    fn remove(&self, key: usize) {
        let old = block_on(self.cache.remove(&self.key(key)));
        self.assert_written(key, numbers(old));
        let page = &mut self.book().keys[key];
        page.fence();
        page.written = None;
    }

    fn insert_for_a_while(&self, key: usize, value: u32) {
        // From now on, what was written may have expired.
        self.keeps_all.store(false, Ordering::Relaxed);
        let (own_key, own_value) = (self.key(key), self.census.value(value));
        let old = self.cache.insert_with_ttl_blocking(own_key, own_value, TTL / 2);
        self.assert_written(key, numbers(old));
        self.write(key, value);
        let page = &mut self.book().keys[key];
        page.written = self.has_room.then_some(value);
        page.may_have_own_lifetime = true;
    }

    /// Notes that a write has won over all loads of a key.
    fn write(&self, key: usize, value: u32) {
        let mut book = self.book();
        let page = &mut book.keys[key];
        page.fence();
        page.written = self.keeps_entries.then_some(value);
        page.may_have_own_lifetime = false;
        page.begun.push(value);
    }

    /// Removes the entries of `key` and all before it whose values are even, now and as soon as the loads
    /// in flight bring them.
    fn sweep(&self, key: usize) {
        const MOST_SWEEPS: usize = 64;
        let is_chosen = move |own: usize, value: u32| own <= key && value % 2 == 0;
        let choose = move |own: &Key, value: &Value| is_chosen(own.number.into(), value.number);
        let removed = block_on(self.cache.invalidate_if(choose));
        let mut gone = 0;
        for (own, page) in self.book().keys.iter_mut().enumerate() {
            if page.written.is_some_and(|value| is_chosen(own, value)) {
                page.written = None;
                gone += 1;
            }
            if let Some(left) = &mut page.left {
                left.is_kept &= !is_chosen(own, left.value);
            }
            let Some(live) = page.live else { continue };
            page.is_swept |= is_chosen(own, live);
            page.sweeps += 1;
            if page.sweeps > MOST_SWEEPS {
                page.live = None;
            }
        }
        self.assert_removed(removed, gone);
    }

    /// Removes the entries of `key` and all before it, and wins over their loads.
    fn sweep_keys(&self, key: usize) {
        let is_chosen = |own: &Key| usize::from(own.number) <= key;
        let removed = block_on(self.cache.invalidate_keys_if(is_chosen));
        let mut gone = 0;
        for page in &mut self.book().keys[..=key] {
            page.fence();
            gone += usize::from(page.written.take().is_some());
        }
        self.assert_removed(removed, gone);
    }

    fn assert_removed(&self, removed: usize, gone: usize) {
        assert!(removed == gone || removed < gone && !self.keeps_all());
    }

    /// Lets the entry of a key live for a while from now on.
    fn set_ttl(&self, key: usize) {
        if block_on(self.cache.set_ttl(&self.key(key), TTL)) {
            // From now on, what was written may have expired.
            self.keeps_all.store(false, Ordering::Relaxed);
            self.book().keys[key].may_have_own_lifetime = true;
        }
    }

    /// Takes in an entry for each key, behind what is there and on its way.
    fn restore(&self, value: u32) {
        let written = |key: usize| numbers(self.cache.peek(&self.key(key)));
        let before: Vec<_> = (0..KEYS).map(written).collect();
        let entry = |key| (self.key(key), self.census.value(value), None);
        let restored = block_on(self.cache.restore((0..KEYS).map(entry)));
        let mut book = self.book();
        let mut came = 0;
        for (key, before) in before.into_iter().enumerate() {
            let page = &mut book.keys[key];
            if before.is_none() && written(key) == Some(value) {
                assert_eq!(page.live, None, "restored before the end of a load");
                page.fence();
                page.written = Some(value);
                page.may_have_own_lifetime = false;
                page.begun.push(value);
                came += 1;
            }
        }
        assert_eq!(restored, came);
    }

    fn invalidate(&self, key: usize) {
        let found = block_on(self.cache.invalidate(&self.key(key)));
        let mut book = self.book();
        let page = &mut book.keys[key];
        assert!(found || page.live.is_none(), "a load was overlooked");
        assert!(found || !self.keeps_all() || page.written.is_none(), "an entry was overlooked");
        page.fence();
        page.written = None;
    }

    fn clear(&self) {
        self.cache.clear_blocking();
        let mut book = self.book();
        for page in &mut book.keys {
            page.fence();
            page.written = None;
        }
        (book.calls, book.loads, book.load_failures) = (0, 0, 0);
    }

    /// Copies everything, which changes nothing.
    fn look_around(&self) {
        for (key, value) in self.cache.snapshot() {
            self.assert_written(usize::from(key.number), Some(value.number));
            assert!(self.cache.time_left(&key).is_some());
        }
    }

    fn get(&self, key: usize) {
        self.book().calls += 1;
        let found = numbers(self.cache.get(&self.key(key)));
        self.assert_written(key, found);
        if found.is_none() {
            // What is gone stays gone.
            self.book().keys[key].written = None;
        }
    }

    /// Asserts that a key has the value that was written last, or none if that may have left.
    fn assert_written(&self, key: usize, found: Option<u32>) {
        let mut book = self.book();
        let page = &mut book.keys[key];
        page.find(found);
        let written = page.written;
        drop(book);
        assert!(
            found == written || found.is_none() && !self.keeps_all(),
            "{found:?}, not {written:?}"
        );
    }

    fn check(&self) {
        for key in 0..KEYS {
            let found = numbers(self.cache.peek(&self.key(key)));
            self.assert_written(key, found);
        }
        let flights = self.cache.validate();
        let book = self.book();
        let live = book.keys.iter().filter(|page| page.live.is_some()).count();
        assert!(flights >= live, "{flights} flights and {live} loads to join");
        let stats = self.cache.stats();
        assert_eq!(stats.calls(), book.calls, "{stats}");
        assert_eq!(stats.loads, book.loads, "{stats}");
        assert_eq!(stats.load_failures, book.load_failures, "{stats}");
        assert!(stats.max_size.is_none_or(|max| stats.current_size <= max), "{stats}");
    }
}

/// Notes that a call was woken.
struct Flag(AtomicBool);

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Call<'a> {
    plan: Plan,
    future: Pin<Box<dyn Future<Output = Answer> + 'a>>,
    /// Whether the latest waker was woken since the last poll; at first, yes.
    woken: Arc<Flag>,
    /// What there was of each of its keys when the call was first polled.
    starts: Option<Vec<Start>>,
}

/// What there was of a key when a call for it was first polled.
struct Start {
    written: Option<u32>,
    live: Option<u32>,
    left: Option<u32>,
    /// How many writes and loads had begun.
    begun: usize,
}

impl Start {
    fn of(page: &Page) -> Self {
        let left = page.left.map(|left| left.value);
        Self { written: page.written, live: page.live, left, begun: page.begun.len() }
    }

    /// The load that the call has certainly joined.
    fn joined(&self) -> Option<u32> {
        self.live.filter(|_| self.written.is_none())
    }

    /// Whether the call may get what has this number, which it has found or has seen begin.
    fn may_lead_to(&self, number: u32, page: &Page) -> bool {
        let found = [self.written, self.live, self.left].contains(&Some(number));
        found || page.begun[self.begun..].contains(&number)
    }
}

impl Call<'_> {
    /// Polls once; tells whether the call is over.
    fn poll(&mut self, ground: &Ground) -> bool {
        let Plan { key, form, .. } = self.plan;
        if self.starts.is_none() {
            let mut book = ground.book();
            book.calls += form.calls(key);
            self.starts = Some(book.keys[form.keys(key)].iter().map(Start::of).collect());
        }
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        let poll = || self.future.as_mut().poll(&mut Context::from_waker(&waker));
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(answer)) => self.assert_answer(ground, answer),
            Err(payload) if payload.is::<OnPurpose>() => {}
            Err(payload) => resume_unwind(payload),
        }
        true
    }

    /// Asserts that the answer is no staler than the call, and an error one that the call is to get.
    fn assert_answer(&self, ground: &Ground, answer: Answer) {
        let Plan { key, form, value: own, .. } = self.plan;
        let answer = answer.map(numbers);
        let book = ground.book();
        let starts = self.starts.as_ref().expect("only a call that was polled has an answer");
        let mut keys = book.keys[form.keys(key)].iter().zip(starts);
        match answer {
            Ok(Some(value)) => {
                let (page, start) = keys.next().expect("a call has a key");
                assert!(start.may_lead_to(value, page), "a stale value");
            }
            Ok(None) => assert!(matches!(form, Form::Update), "no value"),
            Err(error) if error == own => {}
            Err(error) => {
                assert!(form.shares_errors(), "another's error");
                let is_its = |page: &Page, start: &Start| {
                    page.failed.contains(&error) && start.may_lead_to(error, page)
                };
                assert!(
                    keys.any(|(page, start)| is_its(page, start)),
                    "a stale error, or one's own"
                );
            }
        }
        if !form.shares_errors() {
            return;
        }
        for (page, start) in book.keys[form.keys(key)].iter().zip(starts) {
            if start.joined().is_some_and(|joined| page.failed.contains(&joined)) {
                assert!(answer.is_err(), "the error of a load that was joined is lost");
                assert!(form.is_many() || answer.err() == start.joined(), "another error");
            }
        }
    }

    /// Leaves what is to come of it to others, now that it has been dropped.
    fn leave(plan: Plan, ground: &Ground) {
        if plan.form == Form::ManyDetached {
            for page in &mut ground.book().keys {
                let is_kept = ground.keeps_entries && !page.is_swept;
                page.leave(plan.value, is_kept);
            }
        }
    }
}

struct Schedule<'a> {
    ground: &'a Arc<Ground>,
    calls: [Option<Call<'a>>; CALLS],
}

impl Schedule<'_> {
    fn step(&mut self, bytes: &mut Bytes<'_>, number: u32) {
        let ground = self.ground;
        let kind = bytes.below(20);
        let place = bytes.below(CALLS);
        let key = place % KEYS;
        match kind {
            0..=3 if self.calls[place].is_none() => {
                let plan = plan(bytes, number);
                let woken = Flag::new();
                let future = ground.call(plan);
                self.calls[place] = Some(Call { plan, future, woken, starts: None });
            }
            0..=6 => self.poll(place),
            7 => {
                if let Some(call) = &mut self.calls[place] {
                    call.woken = Flag::new();
                }
                self.poll(place);
            }
            8 | 9 => self.drop(place),
            10 => ground.insert(key, number),
            11 => ground.remove(key),
            12 => ground.invalidate(key),
            13 => ground.get(key),
            14 if place == 0 => ground.clear(),
            14 => ground.clock.advance(Duration::from_nanos(place as u64)),
            15 if number % 2 == 0 => ground.sweep_keys(key),
            15 => ground.sweep(key),
            16 => ground.restore(number),
            17 if place < 2 => ground.insert_for_a_while(key, number),
            17 if place < 4 => ground.set_ttl(key),
            17 => ground.look_around(),
            _ => drop(block_on(ground.cache.purge_expired())),
        }
    }

    fn drop(&mut self, place: usize) {
        if let Some(Call { plan, future, .. }) = self.calls[place].take() {
            drop(future);
            Call::leave(plan, self.ground);
        }
    }

    fn poll(&mut self, place: usize) {
        let call = &mut self.calls[place];
        if call.as_mut().is_some_and(|call| call.poll(self.ground)) {
            *call = None;
        }
    }

    /// Polls the calls that were woken until all are over.
    fn finish(mut self) {
        for _ in 0..MAX_POLLS {
            let is_woken = |call: &Call| call.woken.0.load(Ordering::Relaxed);
            let woken = self.calls.iter().position(|call| call.as_ref().is_some_and(is_woken));
            match woken {
                Some(place) => self.poll(place),
                None => break,
            }
        }
        let left = self.calls.iter().filter(|call| call.is_some()).count();
        assert_eq!(left, 0, "calls that were not woken, or not in time");
    }
}

fn plan(bytes: &mut Bytes<'_>, value: u32) -> Plan {
    // The second ten as the first, but for forms that came in later.
    const FORMS: [Form; 20] = [
        Form::Infallible,
        Form::Own,
        Form::OwnRef,
        Form::Shared,
        Form::SharedRef,
        Form::Detached,
        Form::SharedDetached,
        Form::SharedDetachedRef,
        Form::Many,
        Form::Update,
        Form::Infallible,
        Form::Own,
        Form::OwnRef,
        Form::Shared,
        Form::SharedRef,
        Form::Detached,
        Form::OwnDetached,
        Form::SharedDetachedRef,
        Form::ManyDetached,
        Form::Update,
    ];
    const ASIDES: [Aside; 6] = [
        Aside::Nothing,
        Aside::Nothing,
        Aside::Nothing,
        Aside::InvalidateOwnKey,
        Aside::InsertNextKey,
        Aside::LoadNextKey,
    ];
    let mut plan = Plan {
        key: bytes.below(KEYS),
        value,
        form: bytes.pick(&FORMS),
        yields: bytes.below(4),
        aside: bytes.pick(&ASIDES),
        ending: bytes.pick(&[Ending::Value, Ending::Value, Ending::Error, Ending::Panic]),
    };
    plan.ending = match (plan.ending, plan.form) {
        (Ending::Error | Ending::Panic, Form::Detached) => Ending::Value,
        (Ending::Panic, form) if form.is_detached() => Ending::Error,
        (ending, _) => ending,
    };
    plan
}
