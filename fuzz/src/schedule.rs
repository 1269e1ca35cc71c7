//! A schedule of polls and drops of several calls for a few keys, with writes in between.
//!
//! Each call has a waker of its own, and in the end only calls that were woken are polled: one that is
//! left over was forgotten by the cache.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use futures_lite::future::{block_on, yield_now};

use super::bytes::Bytes;
use super::census::{Census, Key, Value, numbers};

const KEYS: usize = 3;
const CALLS: usize = 8;
const TTL: Duration = Duration::from_nanos(8);

/// More polls than any schedule needs in the end: each call loads at most once in a few polls, and
/// whatever ends a load wakes the others once.
const MAX_POLLS: usize = 500;

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
    if bytes.next_byte() % 2 == 1 {
        builder = builder.measure_with(|_, _| 1);
    }
    let ground = Ground {
        cache: builder.build(),
        census: census.clone(),
        clock,
        keeps_entries: maxsize > 0 && ttl != Some(Duration::ZERO),
        keeps_all: maxsize >= KEYS && ttl.is_none(),
        book: RefCell::default(),
    };
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
        let load = async || census.value(0);
        let mut call = Box::pin(ground.cache.get_or_insert_with(census.key(key as u8), load));
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready(), "key {key} waits for a load that is gone");
    }
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
    /// The load that callers can join.
    live: Option<u32>,
    /// The values of all writes and loads, in the order in which they began.
    begun: Vec<u32>,
}

/// What all calls stand on.
struct Ground {
    cache: AsyncLru<Key, Value>,
    census: Census,
    clock: ManualClock,
    keeps_entries: bool,
    /// Whether a value that was written is there until the next write.
    keeps_all: bool,
    book: RefCell<Book>,
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
#[derive(Clone, Copy)]
enum Form {
    Infallible,
    Try,
    TryRef,
    Shared,
    SharedRef,
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

/// A load from its start to its end, whatever that is.
struct Loading<'a> {
    ground: &'a Ground,
    key: usize,
    value: u32,
    has_value: bool,
}

impl<'a> Loading<'a> {
    fn begin(ground: &'a Ground, key: usize, value: u32) -> Self {
        let mut book = ground.book.borrow_mut();
        book.loads += 1;
        let page = &mut book.keys[key];
        assert_eq!(page.live, None, "a second load of a live key");
        page.live = Some(value);
        page.begun.push(value);
        Self { ground, key, value, has_value: false }
    }

    fn end(mut self) -> Value {
        self.has_value = true;
        self.ground.census.value(self.value)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut book = self.ground.book.borrow_mut();
        book.load_failures += u64::from(!self.has_value);
        let page = &mut book.keys[self.key];
        if page.live == Some(self.value) {
            page.live = None;
            if self.has_value && self.ground.keeps_entries {
                page.written = Some(self.value);
            }
        }
    }
}

impl Ground {
    fn key(&self, key: usize) -> Key {
        self.census.key(key as u8)
    }

    async fn load(&self, plan: Plan) -> Result<Value, u32> {
        let loading = Loading::begin(self, plan.key, plan.value);
        for _ in 0..plan.yields {
            yield_now().await;
        }
        self.step_aside(plan).await;
        match plan.ending {
            Ending::Value => Ok(loading.end()),
            Ending::Error => Err(plan.value),
            // Unlike `panic!` it prints nothing, and does not end the fuzzer.
            Ending::Panic => resume_unwind(Box::new(OnPurpose)),
        }
    }

    async fn step_aside(&self, plan: Plan) {
        let next = plan.key + 1;
        let value = plan.value | 1 << 31;
        match plan.aside {
            Aside::InvalidateOwnKey => self.remove(plan.key),
            Aside::InsertNextKey if next < KEYS => self.insert(next, value),
            // Only of later keys, so that no two loads wait for each other.
            Aside::LoadNextKey if next < KEYS => {
                self.book.borrow_mut().calls += 1;
                let load = async || {
                    let loading = Loading::begin(self, next, value);
                    yield_now().await;
                    loading.end()
                };
                self.cache.get_or_insert_with(self.key(next), load).await;
            }
            _ => {}
        }
    }

    /// Makes a call, which does nothing yet.
    fn call(&self, plan: Plan) -> Pin<Box<dyn Future<Output = Result<Value, u32>> + '_>> {
        let key = self.key(plan.key);
        let load = move || self.load(plan);
        match plan.form {
            Form::Infallible => Box::pin(async move {
                let load = async || match load().await {
                    Ok(value) => value,
                    Err(_) => resume_unwind(Box::new(OnPurpose)),
                };
                Ok(self.cache.get_or_insert_with(key, load).await)
            }),
            Form::Try => Box::pin(self.cache.try_get_or_insert_with(key, load)),
            Form::TryRef => {
                Box::pin(async move { self.cache.try_get_or_insert_with_ref(&key, load).await })
            }
            Form::Shared => Box::pin(self.cache.try_get_or_insert_shared(key, load)),
            Form::SharedRef => {
                Box::pin(async move { self.cache.try_get_or_insert_shared_ref(&key, load).await })
            }
        }
    }

    fn insert(&self, key: usize, value: u32) {
        let old = block_on(self.cache.insert(self.key(key), self.census.value(value)));
        self.assert_written(key, numbers(old));
        let mut book = self.book.borrow_mut();
        let page = &mut book.keys[key];
        page.live = None;
        page.written = self.keeps_entries.then_some(value);
        page.begun.push(value);
    }

    fn remove(&self, key: usize) {
        let old = block_on(self.cache.remove(&self.key(key)));
        self.assert_written(key, numbers(old));
        let mut book = self.book.borrow_mut();
        book.keys[key].live = None;
        book.keys[key].written = None;
    }

    fn invalidate(&self, key: usize) {
        let found = block_on(self.cache.invalidate(&self.key(key)));
        let mut book = self.book.borrow_mut();
        let page = &mut book.keys[key];
        assert!(found || page.live.is_none(), "a load was overlooked");
        assert!(found || !self.keeps_all || page.written.is_none(), "an entry was overlooked");
        page.live = None;
        page.written = None;
    }

    fn clear(&self) {
        self.cache.clear_blocking();
        let mut book = self.book.borrow_mut();
        for page in &mut book.keys {
            page.live = None;
            page.written = None;
        }
        (book.calls, book.loads, book.load_failures) = (0, 0, 0);
    }

    fn get(&self, key: usize) {
        self.book.borrow_mut().calls += 1;
        let found = numbers(self.cache.get(&self.key(key)));
        self.assert_written(key, found);
        if found.is_none() {
            // What is gone stays gone.
            self.book.borrow_mut().keys[key].written = None;
        }
    }

    /// Asserts that a key has the value that was written last, or none if that may have left.
    fn assert_written(&self, key: usize, found: Option<u32>) {
        let written = self.book.borrow().keys[key].written;
        assert!(
            found == written || found.is_none() && !self.keeps_all,
            "{found:?}, not {written:?}"
        );
    }

    fn check(&self) {
        let book = self.book.borrow();
        let stats = self.cache.stats();
        assert_eq!(stats.calls(), book.calls, "{stats}");
        assert_eq!(stats.loads, book.loads, "{stats}");
        assert_eq!(stats.load_failures, book.load_failures, "{stats}");
        assert!(stats.current_size <= stats.max_size, "{stats}");
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
    future: Pin<Box<dyn Future<Output = Result<Value, u32>> + 'a>>,
    /// Whether the latest waker was woken since the last poll; at first, yes.
    woken: Arc<Flag>,
    /// What there was when the call was first polled: the value and the load that it could find, and
    /// how many had begun.
    start: Option<([Option<u32>; 2], usize)>,
}

impl Call<'_> {
    /// Polls once; tells whether the call is over.
    fn poll(&mut self, ground: &Ground) -> bool {
        let key = self.plan.key;
        if self.start.is_none() {
            let mut book = ground.book.borrow_mut();
            book.calls += 1;
            let page = &book.keys[key];
            self.start = Some(([page.written, page.live], page.begun.len()));
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

    /// Asserts that the answer is no staler than the call.
    fn assert_answer(&self, ground: &Ground, answer: Result<Value, u32>) {
        let (found, from) = self.start.expect("only a call that was polled has an answer");
        let book = ground.book.borrow();
        let begun = &book.keys[self.plan.key].begun[from..];
        let is_fresh = |value: u32| found.contains(&Some(value)) || begun.contains(&value);
        match answer {
            Ok(value) => assert!(is_fresh(value.number), "a stale value"),
            Err(error) if error == self.plan.value => {}
            Err(error) => {
                assert!(
                    matches!(self.plan.form, Form::Shared | Form::SharedRef),
                    "another's error"
                );
                assert!(is_fresh(error), "a stale error");
            }
        }
    }
}

struct Schedule<'a> {
    ground: &'a Ground,
    calls: [Option<Call<'a>>; CALLS],
}

impl Schedule<'_> {
    fn step(&mut self, bytes: &mut Bytes<'_>, number: u32) {
        let ground = self.ground;
        let kind = bytes.below(16);
        let place = bytes.below(CALLS);
        let key = place % KEYS;
        match kind {
            0..=3 if self.calls[place].is_none() => {
                let plan = plan(bytes, number);
                let woken = Flag::new();
                let future = ground.call(plan);
                self.calls[place] = Some(Call { plan, future, woken, start: None });
            }
            0..=6 => self.poll(place),
            7 => {
                if let Some(call) = &mut self.calls[place] {
                    call.woken = Flag::new();
                }
                self.poll(place);
            }
            8 | 9 => self.calls[place] = None,
            10 => ground.insert(key, number),
            11 => ground.remove(key),
            12 => ground.invalidate(key),
            13 => ground.get(key),
            14 if place == 0 => ground.clear(),
            14 => ground.clock.advance(Duration::from_nanos(place as u64)),
            _ => drop(block_on(ground.cache.purge_expired())),
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
    const FORMS: [Form; 5] =
        [Form::Infallible, Form::Try, Form::TryRef, Form::Shared, Form::SharedRef];
    const ASIDES: [Aside; 6] = [
        Aside::Nothing,
        Aside::Nothing,
        Aside::Nothing,
        Aside::InvalidateOwnKey,
        Aside::InsertNextKey,
        Aside::LoadNextKey,
    ];
    Plan {
        key: bytes.below(KEYS),
        value,
        form: bytes.pick(&FORMS),
        yields: bytes.below(4),
        aside: bytes.pick(&ASIDES),
        ending: bytes.pick(&[Ending::Value, Ending::Value, Ending::Error, Ending::Panic]),
    }
}
