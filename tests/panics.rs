//! Every call of the user's code panics in turn, and the cache goes on as if nothing had happened.
//!
//! A scenario runs once to count its calls of user code, and then once for each of them with a panic
//! at that very call. After each run the cache must answer, hold its bound, keep no key of a dead
//! load, and have dropped everything exactly once.

mod common;
#[path = "common/side_by_side.rs"]
mod side_by_side;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Clock, Eviction, ManualClock, Task, Update};
use common::{Calls, Hand, hand, poll};
use futures_lite::future::{block_on, yield_now};
use side_by_side::sum_of;

/// The payload of a panic on purpose.
struct Bang;

thread_local! {
    /// Calls of user code left until one panics; `u64::MAX` for never.
    static FUSE: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Calls of user code so far.
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// Keys and values alive.
    static ALIVE: Cell<i64> = const { Cell::new(0) };
    /// What happens within the next clone of a key or value.
    static WITHIN_CLONE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    /// What the spawner of a cache was given.
    static TASKS: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
}

/// How long entries are fresh, in caches that keep them so.
const FRESH: Duration = Duration::from_millis(200);
/// How long after a refresh that has failed the next one is tried.
const RETRY: Duration = Duration::from_millis(10);

/// A call of user code.
fn call() {
    CALLS.set(CALLS.get() + 1);
    match FUSE.get() {
        u64::MAX => {}
        0 => {
            FUSE.set(u64::MAX);
            // A panic while another unwinds would end the process, whatever the cache does.
            if !std::thread::panicking() {
                panic_any(Bang);
            }
        }
        left => FUSE.set(left - 1),
    }
}

/// Does what is not to panic, and does not count.
fn quietly<T>(part: impl FnOnce() -> T) -> T {
    let (fuse, calls) = (FUSE.replace(u64::MAX), CALLS.get());
    let result = part();
    FUSE.set(fuse);
    CALLS.set(calls);
    result
}

/// A key or value all of whose methods are calls of user code.
#[derive(Debug)]
struct Loud(u32);

impl Loud {
    fn new(number: u32) -> Self {
        ALIVE.set(ALIVE.get() + 1);
        Self(number)
    }
}

impl Clone for Loud {
    fn clone(&self) -> Self {
        call();
        let within = WITHIN_CLONE.take();
        within.into_iter().for_each(|act| act());
        Self::new(self.0)
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
        call();
    }
}

impl PartialEq for Loud {
    fn eq(&self, other: &Self) -> bool {
        call();
        self.0 == other.0
    }
}

impl Eq for Loud {}

impl Hash for Loud {
    fn hash<H: Hasher>(&self, state: &mut H) {
        call();
        self.0.hash(state);
    }
}

struct LoudClock(ManualClock);

impl Clock for LoudClock {
    fn now(&self) -> Duration {
        call();
        self.0.now()
    }
}

/// How far the hashes of keys tell them apart: the same in every run, so that a call that a collision alone
/// brings is panicked in each time.
#[derive(Clone, Copy)]
enum Hashes {
    Distinct,
    /// As far as a table looks before it compares, all are the same.
    Alike,
    Same,
}

impl BuildHasher for Hashes {
    type Hasher = Hashed;

    fn build_hasher(&self) -> Hashed {
        Hashed { hashes: *self, number: 0 }
    }
}

struct Hashed {
    hashes: Hashes,
    number: u64,
}

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is one number");
    }

    fn write_u32(&mut self, number: u32) {
        self.number = number.into();
    }

    fn finish(&self) -> u64 {
        match self.hashes {
            Hashes::Distinct => self.number,
            // The cache multiplies by the golden ratio, which takes multiples of a Fibonacci number close to
            // whole ones: hashes of which the highest bits are the same.
            Hashes::Alike => self.number * 1_346_269,
            Hashes::Same => 0,
        }
    }
}

type Cache = AsyncLru<Loud, Loud, Hashes>;

fn builder() -> Builder<Loud, Loud, Hashes> {
    AsyncLru::builder().hasher(Hashes::Distinct)
}

/// The caches that scenarios run on, and the clock of those that have one.
fn caches() -> Vec<(Cache, ManualClock)> {
    let clock = ManualClock::new;
    let loud = |clock: &ManualClock| LoudClock(clock.clone());
    // What is given a lifetime of its own must not expire in the middle of a check.
    let plain = |builder: Builder<Loud, Loud, Hashes>| {
        let clock = clock();
        (builder.clock(clock.clone()).build(), clock)
    };
    let timed = |clock: ManualClock| {
        let ttl = Duration::from_secs(1);
        let cache = builder().maxsize(3).ttl(ttl).clock(loud(&clock)).build();
        (cache, clock)
    };
    let measured = builder().maxsize(3).measure_with(|_, _| {
        call();
        100
    });
    let weighed = builder().max_weight(4, |_, value| {
        call();
        u64::from(1 + value.0 % 2)
    });
    let own_lifetimes = |clock: ManualClock| {
        let lifetime = |key: &Loud, _: &Loud| {
            call();
            (key.0 % 2 == 1).then_some(Duration::from_millis(500))
        };
        let builder = builder().maxsize(3).clock(loud(&clock)).expiry(lifetime);
        (builder.time_to_idle(Duration::from_secs(1)).build(), clock)
    };
    let heard = |builder: Builder<Loud, Loud, Hashes>| builder.on_remove(|_, _, _| call());
    let heard_and_timed = |clock: ManualClock| {
        let ttl = Duration::from_secs(1);
        let builder = heard(builder()).maxsize(3).shards(4).ttl(ttl).clock(loud(&clock));
        (builder.build(), clock)
    };
    let fresh = |builder: Builder<Loud, Loud, Hashes>, clock: &ManualClock| {
        let builder = builder.maxsize(3).fresh_for(FRESH).refresh_retry(RETRY);
        builder.ttl(Duration::from_secs(1)).clock(loud(clock))
    };
    let spawning = |builder: Builder<Loud, Loud, Hashes>| {
        builder.spawner(|task| {
            call();
            TASKS.with_borrow_mut(|tasks| tasks.push(task));
        })
    };
    let plainly_fresh = |hashes: Hashes| {
        let clock = clock();
        (fresh(builder().hasher(hashes), &clock).build(), clock)
    };
    let fresh_with_all = |clock: ManualClock| {
        let builder = heard(fresh(builder(), &clock)).shards(4);
        let builder = builder.max_weight(4, |_, value| {
            call();
            u64::from(1 + value.0 % 2)
        });
        let lifetime = |key: &Loud, _: &Loud| {
            call();
            (key.0 % 2 == 1).then_some(Duration::from_millis(500))
        };
        (spawning(builder.expiry(lifetime)).build(), clock)
    };
    let fresh_and_alone = |clock: ManualClock| {
        let builder = spawning(fresh(builder(), &clock)).without_single_flight();
        (builder.build(), clock)
    };
    let adaptive = || builder().maxsize(3).eviction(Eviction::Adaptive);
    let adaptive_and_weighed = heard(adaptive()).shards(4).max_weight(4, |_, value| {
        call();
        u64::from(value.0 % 3)
    });
    vec![
        plain(builder().maxsize(3)),
        plain(builder().maxsize(0)),
        plain(builder().maxsize(3).hasher(Hashes::Alike)),
        plain(builder().maxsize(3).shards(4)),
        plain(builder().maxsize(3).without_single_flight()),
        plain(measured),
        plain(weighed),
        timed(clock()),
        own_lifetimes(clock()),
        plain(heard(builder()).maxsize(3)),
        heard_and_timed(clock()),
        plainly_fresh(Hashes::Distinct),
        plainly_fresh(Hashes::Alike),
        plainly_fresh(Hashes::Same),
        plain(adaptive()),
        plain(adaptive_and_weighed),
        fresh_with_all(clock()),
        fresh_and_alone(clock()),
    ]
}

/// A loader that yields once.
async fn load(number: u32) -> Loud {
    call();
    yield_now().await;
    call();
    Loud::new(number)
}

/// A form of call for a key, with a load of this number.
type Form = for<'a> fn(&'a Cache, u32, u32) -> Hand<'a, Loud>;

fn led(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    hand(cache.get_or_insert_with(Loud::new(key), move || load(number)))
}

fn detached(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    hand(cache.get_detached(Loud::new(key), move || load(number)))
}

/// The first fails, where it may, and the others do not.
fn refreshing(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    if number > 0 {
        return hand(cache.refresh(Loud::new(key), move || load(number)));
    }
    let failing = cache.try_refresh(Loud::new(key), async || {
        drop(load(0).await);
        Err::<Loud, _>("down")
    });
    hand(async { failing.await.unwrap_or_else(|_| panic_any(Bang)) })
}

/// A call whose load fails, which leaves it with the old value.
fn failing(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    let failing = || async {
        call();
        yield_now().await;
        Err::<Loud, _>(Loud::new(0))
    };
    if number % 2 == 0 {
        let call = cache.entry(Loud::new(key)).or_try_insert_own(failing);
        return hand(async { call.await.map_or_else(|_| panic_any(Bang), |lookup| lookup.value) });
    }
    let call = cache.entry(Loud::new(key)).detached().or_try_insert_with(failing);
    hand(async { call.await.map_or_else(|_| panic_any(Bang), |lookup| lookup.value) })
}

/// A detached call for a key that is made.
fn detached_by(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    let borrowed = Loud::new(key);
    hand(async move {
        let make = |key: &Loud| {
            call();
            key.clone()
        };
        let call = cache.entry_by(&borrowed, make).detached();
        let value = call.or_insert_with(move || load(number)).await.value;
        // While the value is not on its way, where a `Drop` that panics would leak it.
        drop(borrowed);
        value
    })
}

/// A detached call for two keys, of which the load leaves one out.
fn detached_batch(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    let entries = cache.entries([key, 3].map(Loud::new)).detached();
    let call = entries.or_insert_with(move |mut keys: Vec<Loud>| {
        call();
        async move {
            drop(load(number).await);
            keys.truncate(1);
            keys.into_iter().map(|key| (key, Loud::new(number))).collect::<Vec<_>>()
        }
    });
    hand(async move {
        let mut found = None;
        for (key, lookup) in call.await {
            tried(|| drop(key));
            let lookup = found.replace(lookup);
            tried(|| drop(lookup));
        }
        found.flatten().map_or_else(|| panic_any(Bang), |lookup| lookup.value)
    })
}

/// Runs what the spawner was given to its end.
fn run_tasks(waker: &Waker) {
    for _ in 0..8 {
        for mut task in TASKS.take() {
            let polled = caught(|| task.as_mut().poll(&mut Context::from_waker(waker)));
            match polled {
                Some(Poll::Pending) => TASKS.with_borrow_mut(|tasks| tasks.push(task)),
                _ => tried(|| drop(task)),
            }
        }
    }
    assert_eq!(TASKS.with_borrow(Vec::len), 0, "tasks never ended");
}

/// The same as for flights, where there is a stale value, and a spawner that may get the load.
fn refresh_of(
    form: Form,
    cache: &Cache,
    clock: &ManualClock,
    waker: &Waker,
    ending: &dyn Fn(&Cache),
) {
    fill(cache);
    clock.advance(FRESH);
    flight_of(form, cache, 1, waker, ending);
    run_tasks(waker);
}

/// Starts the load of a key, lets two others wait for it, and runs all three to their ends, each
/// caught by itself.
fn flight(cache: &Cache, key: u32, waker: &Waker, ending: &dyn Fn(&Cache)) {
    flight_of(led, cache, key, waker, ending);
}

/// The same for calls of any form.
fn flight_of(form: Form, cache: &Cache, key: u32, waker: &Waker, ending: &dyn Fn(&Cache)) {
    run_calls((0..3).map(|number| form(cache, key, number)), waker, &|| ending(cache));
}

/// Runs calls side by side to their ends, each caught by itself.
fn run_calls<'a>(
    calls: impl Iterator<Item = Hand<'a, Loud>>,
    waker: &Waker,
    after_the_first_polls: &dyn Fn(),
) {
    let mut calls: Vec<_> = calls.map(Some).collect();
    for round in 0..8 {
        for slot in &mut calls {
            let Some(future) = slot else { continue };
            let polled =
                caught(|| future.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
            // A future that panicked must not be polled again.
            if polled != Some(false) {
                let ended = slot.take();
                caught(|| drop(ended));
            }
        }
        if round == 0 {
            caught(after_the_first_polls);
        }
    }
    let left = calls.iter().filter(|call| call.is_some()).count();
    assert_eq!(left, 0, "calls of a live key never ended");
}

/// Runs `part`, swallowing a panic on purpose and no other.
fn caught<T>(part: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Bang>() || is_of_a_detached_load(&*payload) => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Whether a call panics because its load has panicked, on purpose, while another call polled it.
fn is_of_a_detached_load(payload: &(dyn Any + Send)) -> bool {
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or(payload.downcast_ref::<&str>().copied());
    message.is_some_and(|message| message.contains("while another call polled it"))
}

/// Runs `part` and drops its result, swallowing a panic on purpose of either.
fn tried<T>(part: impl FnOnce() -> T) {
    caught(|| drop(part()));
}

/// Polls with this waker.
fn poll_with<T>(future: &mut Hand<'_, T>, waker: &Waker) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

fn with_loud_waker(part: impl FnOnce(&Waker)) {
    let waker = loud_waker();
    part(&waker);
    tried(|| drop(waker));
}

/// Has all calls of a detached load go while it is in flight.
fn go_away(cache: &Cache, waker: &Waker) {
    let mut calls: Vec<_> = (0..3).map(|number| detached(cache, 1, number)).collect();
    for call in &mut calls {
        tried(|| poll_with(call, waker));
    }
    for call in calls {
        tried(|| drop(call));
    }
}

/// Runs batches that overlap to their ends.
fn overlap(cache: &Cache, waker: &Waker) {
    fill(cache);
    overlap_on(cache, waker);
}

fn overlap_on(cache: &Cache, waker: &Waker) {
    let keys = |numbers: [u32; 3]| numbers.map(Loud::new);
    let load = |missing: Vec<Loud>| async move {
        call();
        yield_now().await;
        call();
        // In no order, and the first is left out.
        missing.into_iter().skip(1).rev().map(|key| (key, Loud::new(7))).collect::<Vec<_>>()
    };
    let mut calls = Vec::new();
    for numbers in [[1, 8, 9], [9, 2, 8], [9, 8, 9]] {
        calls.push(Some(hand(async move {
            let found = cache.get_or_insert_many(keys(numbers), load).await;
            // A map that is dropped stops at a panic.
            for (key, value) in found {
                tried(|| drop(key));
                tried(|| drop(value));
            }
        })));
    }
    for _ in 0..8 {
        for slot in &mut calls {
            let Some(call) = slot else { continue };
            if caught(|| poll_with(call, waker).is_ready()) != Some(false) {
                let ended = slot.take();
                caught(|| drop(ended));
            }
        }
    }
    assert!(calls.iter().all(Option::is_none), "calls of live keys never ended");
}

/// Has a batch join two loads that others lead.
fn join_all(cache: &Cache, waker: &Waker) {
    let mut leaders = [8, 9].map(|key| Some(led(cache, key, key)));
    let mut poll_leaders = || {
        for slot in &mut leaders {
            let Some(leader) = slot else { continue };
            if caught(|| poll_with(leader, waker).is_ready()) != Some(false) {
                let ended = slot.take();
                caught(|| drop(ended));
            }
        }
    };
    poll_leaders();
    let load = |missing: Vec<Loud>| async move {
        call();
        missing.into_iter().map(|key| (key, Loud::new(7))).collect::<Vec<_>>()
    };
    let mut batch = Some(hand(async move {
        let found = cache.get_or_insert_many([8, 9].map(Loud::new), load).await;
        for (key, value) in found {
            tried(|| drop(key));
            tried(|| drop(value));
        }
    }));
    for _ in 0..8 {
        if let Some(call) = &mut batch {
            if caught(|| poll_with(call, waker).is_ready()) != Some(false) {
                let ended = batch.take();
                caught(|| drop(ended));
            }
        }
        poll_leaders();
    }
    assert!(batch.is_none(), "a call for live keys never ended");
}

/// Runs updates of one key to their ends, of which all but one wait at any time.
fn update_in_turn(cache: &Cache, waker: &Waker) {
    fill(cache);
    let change = |number: u32| {
        move |value: Option<Loud>| async move {
            call();
            yield_now().await;
            call();
            match (number, value) {
                (0, _) => Ok(Update::Keep),
                (1, value) => Ok(value.map_or(Update::Remove, Update::Put)),
                (2, _) => Ok(Update::Remove),
                (3, _) => Err(Loud::new(3)),
                (number, _) => Ok(Update::Put(Loud::new(number))),
            }
        }
    };
    for key in [1, 9] {
        let update = |number| hand(cache.try_update_with(Loud::new(key), change(number)));
        let mut updates: Vec<_> = (0..5).map(|number| Some(update(number))).collect();
        for round in 0..24 {
            for slot in &mut updates {
                let Some(update) = slot else { continue };
                let polled = caught(|| match poll_with(update, waker) {
                    Poll::Ready(left) => {
                        tried(|| left);
                        true
                    }
                    Poll::Pending => false,
                });
                if polled != Some(false) {
                    let ended = slot.take();
                    caught(|| drop(ended));
                }
            }
            if round == 5 {
                tried(|| cache.insert_blocking(Loud::new(key), Loud::new(8)));
            }
        }
        assert!(updates.iter().all(Option::is_none), "updates of a live key never ended");
    }
}

/// Every other call is an update, and the others are loads.
fn updating(cache: &Cache, key: u32, number: u32) -> Hand<'_, Loud> {
    if number % 2 == 1 {
        return led(cache, key, number);
    }
    let put = move |old| async move {
        drop(old);
        Update::Put(load(number).await)
    };
    let update = cache.update_with(Loud::new(key), put);
    hand(async { update.await.expect("it puts a value") })
}

/// Has two writers wait for a listener that is far behind, if there is one: with what waits behind a value
/// that is still being cloned.
fn wait_for_listener(cache: &Cache, waker: &Waker) {
    /// More than may wait while nobody has to wait for the listener.
    const MANY: u32 = 150;
    fill(cache);
    let writers = Rc::new(RefCell::new(Vec::new()));
    let within_clone = {
        let (cache, waker, writers) =
            (cache.clone(), quietly(|| waker.clone()), Rc::clone(&writers));
        move || {
            quietly(|| {
                for number in 0..MANY {
                    // The last few go without waiting for it.
                    drop(poll(&mut hand(cache.insert(Loud::new(1), Loud::new(number)))));
                }
            });
            for number in 0..2 {
                let cache = cache.clone();
                let insert = hand(async move {
                    cache.insert(Loud::new(1), Loud::new(number)).await;
                });
                let mut writer = Some(insert);
                poll_writer(&mut writer, &waker);
                writers.borrow_mut().push(writer);
            }
            tried(|| drop(waker));
        }
    };
    let key = Loud::new(1);
    WITHIN_CLONE.set(Some(Box::new(within_clone)));
    tried(|| cache.remove_blocking(&key));
    let unused = WITHIN_CLONE.take();
    tried(|| drop(unused));
    tried(|| drop(key));
    for writer in writers.borrow_mut().iter_mut() {
        poll_writer(writer, waker);
        assert!(writer.is_none(), "a writer waits for a listener that is done");
    }
}

/// Polls a call unless it has ended.
fn poll_writer(writer: &mut Option<Hand<'static, ()>>, waker: &Waker) {
    let Some(call) = writer else { return };
    if caught(|| poll_with(call, waker).is_ready()) != Some(false) {
        let ended = writer.take();
        caught(|| drop(ended));
    }
}

/// Drops a leader for whom another call waits.
fn drop_leader(cache: &Cache, waker: &Waker) {
    let mut leader = hand(cache.get_or_insert_with(Loud::new(1), || load(1)));
    tried(|| poll_with(&mut leader, waker));
    let mut waiter = hand(cache.get_or_insert_with(Loud::new(1), || load(2)));
    tried(|| poll_with(&mut waiter, waker));
    tried(|| drop(leader));
    tried(|| drop(waiter));
}

/// What happens to a cache in a scenario.
type Scenario = (&'static str, fn(&Cache, &ManualClock));

const SCENARIOS: &[Scenario] = &[
    ("insert, evict and replace", |cache, _| {
        for key in [1, 2, 3, 4, 2, 5] {
            tried(|| block_on(cache.insert(Loud::new(key), Loud::new(key))));
        }
        for key in [6, 4] {
            tried(|| cache.insert_blocking(Loud::new(key), Loud::new(key)));
        }
    }),
    ("read", |cache, _| {
        fill(cache);
        for key in 1..5 {
            let key = Loud::new(key);
            tried(|| cache.get(&key));
            tried(|| cache.peek(&key));
            tried(|| cache.contains_key(&key));
            tried(|| cache.time_left(&key));
            tried(|| drop(key));
        }
        tried(|| cache.keys());
        tried(|| cache.snapshot());
        tried(|| cache.snapshot_with_ttl());
        tried(|| format!("{:?} {}", cache, cache.stats()));
    }),
    ("remove, invalidate and clear", |cache, _| {
        fill(cache);
        let [one, two, three] = [1, 2, 3].map(Loud::new);
        tried(|| block_on(cache.remove(&one)));
        tried(|| cache.remove_blocking(&two));
        tried(|| block_on(cache.invalidate(&three)));
        tried(|| cache.invalidate_blocking(&three));
        for key in [one, two, three] {
            tried(|| drop(key));
        }
        fill(cache);
        tried(|| block_on(cache.clear()));
        fill(cache);
        tried(|| cache.clear_blocking());
    }),
    ("invalidate by a predicate", |cache, _| {
        let is_odd = |key: &Loud, _: &Loud| {
            call();
            key.0 % 2 == 1
        };
        fill(cache);
        tried(|| cache.invalidate_if_blocking(is_odd));
        fill(cache);
        tried(|| block_on(cache.invalidate_if(is_odd)));
        fill(cache);
        tried(|| cache.invalidate_keys_if_blocking(|key| is_odd(key, key)));
        fill(cache);
        tried(|| block_on(cache.invalidate_keys_if(|key| is_odd(key, key))));
    }),
    ("flights that a predicate is asked about", |cache, _| {
        for chosen in [1, 2] {
            flight(cache, chosen, Waker::noop(), &|cache| {
                cache.invalidate_if_blocking(move |key, _| {
                    call();
                    key.0 == 1
                });
                cache.invalidate_keys_if_blocking(|key| {
                    call();
                    key.0 == 3
                });
            });
        }
    }),
    ("a flight that a predicate is too early for", |cache, _| {
        flight(cache, 1, Waker::noop(), &|cache| {
            cache.invalidate_if_blocking(|_, _| true);
        });
    }),
    ("expire", |cache, clock| {
        fill(cache);
        clock.advance(Duration::from_secs(1));
        tried(|| cache.insert_blocking(Loud::new(1), Loud::new(1)));
        fill(cache);
        clock.advance(Duration::from_secs(1));
        tried(|| block_on(cache.purge_expired()));
        tried(|| cache.purge_expired_blocking());
    }),
    ("lower a bound", |cache, clock| {
        fill(cache);
        tried(|| block_on(cache.set_maxsize(1)));
        tried(|| cache.set_maxsize_blocking(3));
        fill(cache);
        tried(|| cache.set_max_weight_blocking(2));
        fill(cache);
        clock.advance(Duration::from_secs(1));
        tried(|| cache.set_maxsize_blocking(0));
    }),
    ("put what is heavier than what was there", |cache, _| {
        fill(cache);
        for value in [2, 3, 2] {
            tried(|| cache.insert_blocking(Loud::new(2), Loud::new(value)));
            tried(|| block_on(cache.get_or_insert_with(Loud::new(value), async || Loud::new(1))));
        }
    }),
    ("insert with lifetimes of their own", |cache, clock| {
        fill(cache);
        let ttl = Duration::from_millis(100);
        tried(|| block_on(cache.insert_with_ttl(Loud::new(1), Loud::new(1), ttl)));
        tried(|| cache.insert_with_ttl_blocking(Loud::new(4), Loud::new(4), 2 * ttl));
        clock.advance(ttl);
        tried(|| cache.insert_blocking(Loud::new(5), Loud::new(5)));
        tried(|| cache.insert_with_ttl_blocking(Loud::new(5), Loud::new(5), Duration::ZERO));
        clock.advance(ttl);
        tried(|| block_on(cache.purge_expired()));
        flight(cache, 6, Waker::noop(), &|cache| {
            cache.insert_with_ttl_blocking(Loud::new(6), Loud::new(7), Duration::ZERO);
        });
    }),
    ("give entries other lifetimes", |cache, clock| {
        fill(cache);
        let ttl = Duration::from_millis(100);
        let [one, two] = [1, 2].map(Loud::new);
        tried(|| cache.set_ttl_blocking(&one, ttl));
        tried(|| block_on(cache.set_ttl(&two, Duration::ZERO)));
        flight(cache, 4, Waker::noop(), &|cache| _ = cache.limit_ttl_blocking(2 * ttl));
        let put = async |old| {
            // Before the new value is on its way, where a `Drop` that panics would leak it.
            drop(old);
            Update::Put(Loud::new(5))
        };
        tried(|| block_on(cache.update_with(Loud::new(1), put)));
        let put = async |old| {
            drop(old);
            Update::PutFor(Loud::new(6), Duration::from_millis(50))
        };
        tried(|| block_on(cache.update_with(Loud::new(3), put)));
        clock.advance(ttl);
        tried(|| cache.set_ttl_blocking(&one, ttl));
        flight(cache, 1, Waker::noop(), &|_| ());
        tried(|| block_on(cache.limit_ttl(Duration::ZERO)));
        tried(|| drop(one));
        tried(|| drop(two));
    }),
    ("write under guards", |cache, _| {
        fill(cache);
        let ttl = Duration::from_millis(100);
        let key = Loud::new(1);
        tried(|| drop(cache.writing(&key)));
        tried(|| block_on(cache.writing(&key).insert(Loud::new(5))));
        tried(|| block_on(cache.writing(&key).ttl(ttl).insert_as(Loud::new(1), Loud::new(6))));
        tried(|| drop(cache.writing_owned(Loud::new(2))));
        tried(|| block_on(cache.writing_owned(Loud::new(2)).ttl(ttl).insert(Loud::new(7))));
        flight(cache, 3, Waker::noop(), &|cache| {
            block_on(cache.writing_owned(Loud::new(3)).insert(Loud::new(8)));
        });
        tried(|| drop(key));
    }),
    ("restore", |cache, clock| {
        let entries = |keys: [u32; 3]| {
            keys.map(|key| (Loud::new(key), Loud::new(key), Some(Duration::from_millis(900))))
        };
        tried(|| cache.insert_blocking(Loud::new(1), Loud::new(1)));
        tried(|| cache.restore_blocking(entries([1, 2, 3])));
        clock.advance(Duration::from_millis(950));
        tried(|| block_on(cache.restore(entries([4, 2, 5]))));
        flight(cache, 6, Waker::noop(), &|cache| {
            cache.restore_blocking(entries([6, 7, 7]));
        });
    }),
    ("load, one after another", |cache, _| {
        for key in [1, 2, 3, 1, 4, 5] {
            tried(|| block_on(cache.get_or_insert_with(Loud::new(key), || load(key))));
            let key = Loud::new(key);
            tried(|| block_on(cache.get_or_insert_with_ref(&key, || load(key.0))));
            tried(|| block_on(cache.entry_ref(&key).or_insert_with(|| load(key.0))));
            tried(|| drop(key));
        }
    }),
    ("load and fail", |cache, _| {
        for key in [1, 2, 1] {
            let failing = || async {
                call();
                Err::<Loud, _>(Loud::new(0))
            };
            tried(|| block_on(cache.get_or_insert_own(Loud::new(key), failing)));
            let shared = || async {
                call();
                Err::<Loud, _>("down")
            };
            tried(|| block_on(cache.try_get_or_insert_with(Loud::new(key), shared)));
        }
    }),
    ("flights that find expired entries in their way", |cache, clock| {
        fill(cache);
        clock.advance(Duration::from_secs(1));
        flight(cache, 1, Waker::noop(), &|_| ());
        flight_of(detached, cache, 2, Waker::noop(), &|_| ());
    }),
    ("a janitor whose waker and sleep panic", |cache, clock| {
        let waker = loud_waker();
        let mut cx = Context::from_waker(&waker);
        let sleep = |_| {
            call();
            std::future::pending::<()>()
        };
        let mut janitor = Some(hand(cache.janitor(sleep)));
        for round in 0..3 {
            if let Some(future) = &mut janitor {
                // One that has panicked must not be polled again.
                if caught(|| future.as_mut().poll(&mut cx).is_ready()).is_none() {
                    let ended = janitor.take();
                    caught(|| drop(ended));
                }
            }
            // What comes now expires before all that there was.
            flight(cache, round, Waker::noop(), &|_| ());
            tried(|| cache.insert_blocking(Loud::new(7), Loud::new(7)));
            let put = async |old| {
                drop(old);
                Update::PutFor(Loud::new(8), Duration::from_millis(10))
            };
            tried(|| block_on(cache.update_with(Loud::new(8), put)));
            let key = Loud::new(7);
            tried(|| cache.set_ttl_blocking(&key, Duration::from_millis(5)));
            tried(|| drop(key));
            let restored = (Loud::new(9), Loud::new(9), Some(Duration::from_millis(1)));
            tried(|| cache.restore_blocking([restored]));
            clock.advance(Duration::from_millis(400));
        }
        tried(|| drop(janitor));
        tried(|| drop(waker));
    }),
    ("a flight with two waiters", |cache, _| flight(cache, 1, Waker::noop(), &|_| ())),
    ("a flight with wakers that panic", |cache, _| {
        let waker = loud_waker();
        flight(cache, 1, &waker, &|_| ());
        tried(|| drop(waker));
    }),
    ("a flight that a full cache has no room for", |cache, _| {
        fill(cache);
        flight(cache, 9, Waker::noop(), &|_| ());
    }),
    ("a flight that is invalidated", |cache, _| {
        flight(cache, 1, Waker::noop(), &|cache| {
            cache.invalidate_blocking(&Loud::new(1));
        });
    }),
    ("a flight that an insert wins over", |cache, _| {
        flight(cache, 1, Waker::noop(), &|cache| {
            cache.insert_blocking(Loud::new(1), Loud::new(7));
        });
    }),
    ("a flight that is cleared away", |cache, _| {
        flight(cache, 1, Waker::noop(), &Cache::clear_blocking);
    }),
    ("a detached flight", |cache, _| flight_of(detached, cache, 1, Waker::noop(), &|_| ())),
    ("a detached flight with wakers that panic", |cache, _| {
        let waker = loud_waker();
        flight_of(detached, cache, 1, &waker, &|_| ());
        tried(|| drop(waker));
    }),
    ("a detached flight that a full cache has no room for", |cache, _| {
        fill(cache);
        flight_of(detached, cache, 9, Waker::noop(), &|_| ());
    }),
    ("a detached flight that an insert wins over", |cache, _| {
        flight_of(detached, cache, 1, Waker::noop(), &|cache| {
            cache.insert_blocking(Loud::new(1), Loud::new(7));
        });
    }),
    ("a detached flight whose calls go", |cache, _| go_away(cache, Waker::noop())),
    ("a detached flight whose calls go, with wakers that panic", |cache, _| {
        with_loud_waker(|waker| go_away(cache, waker));
    }),
    ("batches that overlap", |cache, _| overlap(cache, Waker::noop())),
    ("batches that overlap, with wakers that panic", |cache, _| {
        with_loud_waker(|waker| overlap(cache, waker));
    }),
    ("a batch that joins loads with wakers that panic", |cache, _| {
        with_loud_waker(|waker| join_all(cache, waker));
    }),
    ("updates that wait for each other", |cache, _| update_in_turn(cache, Waker::noop())),
    ("updates that wait for each other, with wakers that panic", |cache, _| {
        with_loud_waker(|waker| update_in_turn(cache, waker));
    }),
    ("a load and an update that wait for each other with wakers that panic", |cache, _| {
        with_loud_waker(|waker| {
            flight_of(updating, cache, 1, waker, &|_| ());
            fill(cache);
            flight_of(updating, cache, 1, waker, &|cache| cache.clear_blocking());
        });
    }),
    ("writers that wait for a listener with wakers that panic", |cache, _| {
        with_loud_waker(|waker| wait_for_listener(cache, waker));
    }),
    ("a leader that is dropped", |cache, _| drop_leader(cache, Waker::noop())),
    ("a leader that is dropped, with wakers that panic", |cache, _| {
        with_loud_waker(|waker| drop_leader(cache, waker));
    }),
    ("refreshes of each form", |cache, clock| {
        for form in FORMS {
            refresh_of(form, cache, clock, Waker::noop(), &|_| ());
        }
    }),
    ("refreshes that fail alone", |cache, clock| {
        fill(cache);
        clock.advance(FRESH);
        let key = Loud::new(1);
        let down = async || {
            call();
            Err::<Loud, _>("down")
        };
        tried(|| block_on(cache.entry_ref(&key).or_try_insert_with(down)));
        tried(|| drop(key));
    }),
    ("refreshes with wakers that panic", |cache, clock| {
        for form in FORMS {
            with_loud_waker(|waker| refresh_of(form, cache, clock, waker, &|_| ()));
        }
    }),
    ("refreshes that writes win over", |cache, clock| {
        for form in FORMS {
            refresh_of(form, cache, clock, Waker::noop(), &|cache| {
                cache.insert_blocking(Loud::new(1), Loud::new(7));
            });
        }
        refresh_of(led, cache, clock, Waker::noop(), &|cache| {
            let put = async |old| {
                drop(old);
                Update::Put(Loud::new(8))
            };
            // It waits for the load where there is no value.
            drop(poll(&mut hand(cache.update_with(Loud::new(1), put))));
        });
        refresh_of(detached, cache, clock, Waker::noop(), &|cache| {
            cache.invalidate_if_blocking(|key, value| {
                call();
                key.0 == 1 && value.0 == 0
            });
        });
    }),
    ("refreshes of values that come to their ends meanwhile", |cache, clock| {
        for form in FORMS {
            refresh_of(form, cache, clock, Waker::noop(), &|cache| {
                clock.advance(Duration::from_secs(1));
                tried(|| block_on(cache.get_or_insert_with(Loud::new(4), || load(4))));
            });
        }
    }),
    ("refreshes of keys side by side", |cache, clock| {
        for form in FORMS {
            fill(cache);
            clock.advance(FRESH);
            run_calls((1..=3).map(|key| form(cache, key, 7)), Waker::noop(), &|| ());
            run_tasks(Waker::noop());
        }
    }),
    ("refreshes whose calls go", |cache, clock| {
        for _ in 0..2 {
            fill(cache);
            clock.advance(FRESH);
            go_away(cache, Waker::noop());
            run_tasks(Waker::noop());
            fill(cache);
            clock.advance(FRESH);
            drop_leader(cache, Waker::noop());
        }
    }),
    ("refreshes whose tasks are dropped", |cache, clock| {
        for form in [detached, detached_batch] {
            fill(cache);
            clock.advance(FRESH);
            let mut call = form(cache, 1, 1);
            tried(|| poll(&mut call));
            tried(|| drop(call));
            TASKS.take().into_iter().for_each(|task| tried(|| drop(task)));
        }
    }),
    ("batches of stale keys that overlap", |cache, clock| {
        fill(cache);
        clock.advance(FRESH);
        overlap_on(cache, Waker::noop());
    }),
    ("a cache that saves and restores what is stale", |cache, clock| {
        fill(cache);
        clock.advance(FRESH);
        let saved = caught(|| cache.snapshot_with_ttl());
        tried(|| cache.clear_blocking());
        tried(|| cache.restore_blocking(saved.unwrap_or_default()));
        flight(cache, 1, Waker::noop(), &|_| ());
    }),
];

const FORMS: [Form; 6] = [led, detached, detached_by, detached_batch, refreshing, failing];

fn fill(cache: &Cache) {
    for key in 1..=3 {
        tried(|| cache.insert_blocking(Loud::new(key), Loud::new(key)));
    }
}

/// A waker whose clone, wake and drop are calls of user code.
fn loud_waker() -> Waker {
    fn clone(data: *const ()) -> RawWaker {
        call();
        RawWaker::new(data, &VTABLE)
    }
    fn used(_: *const ()) {
        call();
    }
    fn dropped(_: *const ()) {
        call();
    }
    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, used, used, dropped);
    // The functions ignore the pointer.
    #[allow(unsafe_code, reason = "safe wakers cannot panic on clone")]
    unsafe {
        Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE))
    }
}

/// After anything, the cache answers, holds its bound and finds what it lists.
fn validate(cache: &Cache, clock: &ManualClock, what: &str) {
    let maxsize = cache.info().maxsize;
    let stats = cache.stats();
    // A clear forgets the beginnings of what ends later.
    if what.contains("refreshes") {
        assert!(stats.load_failures <= stats.loads, "{what}: {stats}");
        assert!(stats.refresh_failures <= stats.refreshes, "{what}: {stats:?}");
        assert!(stats.stale_hits <= stats.hits, "{what}: {stats}");
    }
    assert_eq!(cache.validate(), 0, "{what}: a load is left behind");
    assert!(cache.len() <= maxsize, "{what}");
    let keys = cache.keys();
    let distinct: HashSet<u32> = keys.iter().map(|key| key.0).collect();
    assert_eq!(distinct.len(), keys.len(), "{what}");
    for key in &keys {
        assert!(cache.contains_key(key), "{what}");
    }
    // No load is left behind: every key can be loaded at once.
    for key in 1..10 {
        let mut call = hand(cache.get_or_insert_with(Loud::new(key), async || Loud::new(key)));
        assert!(poll(&mut call).is_ready(), "{what}: key {key} waits for a load that is gone");
        assert!(cache.len() <= maxsize, "{what}");
    }
    if cache.info().fresh_for.is_some() {
        // Nor is a key that nobody refreshes.
        clock.advance(FRESH);
        for key in cache.keys() {
            let call = hand(cache.get_or_insert_with(key, async || Loud::new(88)));
            assert_eq!(block_on(call).0, 88, "{what}: a key is left to somebody who is gone");
        }
    }
    cache.insert_blocking(Loud::new(1), Loud::new(77));
    if maxsize > 0 {
        assert_eq!(cache.get(&Loud::new(1)).unwrap().0, 77, "{what}");
        assert_eq!(cache.remove_blocking(&Loud::new(1)).unwrap().0, 77, "{what}");
    }
    // The order still yields every entry as a victim.
    for key in 100..110 {
        cache.insert_blocking(Loud::new(key), Loud::new(key));
        assert!(cache.len() <= maxsize, "{what}");
    }
    assert_eq!(cache.keys().len(), cache.len(), "{what}");
}

/// Plays a scenario with a panic at each call of user code in turn; returns how many these are.
fn panic_points((name, scenario): &Scenario, number: usize) -> usize {
    CALLS.set(0);
    let (cache, clock) = caches().swap_remove(number);
    scenario(&cache, &clock);
    let calls = CALLS.get();
    drop(cache);
    assert_eq!(ALIVE.get(), 0, "{name} without a panic");

    for point in 0..calls {
        let what = format!("{name}, cache {number}, panic at call {point} of {calls}");
        let (cache, clock) = caches().swap_remove(number);
        FUSE.set(point);
        scenario(&cache, &clock);
        FUSE.set(u64::MAX);
        TASKS.take().into_iter().for_each(drop);
        validate(&cache, &clock, &what);
        drop(cache);
        assert_eq!(ALIVE.get(), 0, "{what}: not everything dropped exactly once");
    }
    calls as usize
}

/// Against (A25), (A26), (A27), (A28) of `docs/reliability.md`.
#[test]
fn a_panic_at_any_call_of_user_code_leaves_the_cache_valid() {
    silence_panics_on_purpose();
    let numbers = 0..caches().len();
    let jobs =
        SCENARIOS.iter().flat_map(|scenario| numbers.clone().map(move |cache| (scenario, cache)));
    let points = sum_of(jobs, |(scenario, cache)| panic_points(scenario, cache));
    println!("panic points: {points}");
    assert!(points >= 1_500, "{points}");
}

/// Keeps thousands of panics on purpose out of the output.
fn silence_panics_on_purpose() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        if !payload.is::<Bang>() && !is_of_a_detached_load(payload) {
            default(info);
        }
    }));
}

/// Against (A7) of `docs/reliability.md`.
#[test]
fn a_panic_of_the_loader_reaches_its_own_caller_alone() {
    let cache = AsyncLru::<u32, u32>::new(10);
    let mut leader = hand(cache.get_or_insert_with(1, async || {
        yield_now().await;
        panic_any(Bang)
    }));
    assert!(poll(&mut leader).is_pending());
    let mut waiters: Vec<_> =
        (0..3).map(|value| hand(cache.get_or_insert_with(1, async move || value))).collect();
    for waiter in &mut waiters {
        assert!(poll(waiter).is_pending());
    }
    silence_panics_on_purpose();
    assert!(caught(|| poll(&mut leader)).is_none());
    assert_eq!(block_on(common::join_all(waiters)), [0, 0, 0]);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures), (2, 1));
}

/// Against (A27) of `docs/reliability.md`.
#[test]
fn a_panic_while_everything_is_dropped_still_drops_the_rest() {
    struct Value(Rc<Cell<u32>>);
    impl Clone for Value {
        fn clone(&self) -> Self {
            unreachable!("nothing is read")
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            if self.0.get() == 3 {
                panic_any(Bang);
            }
        }
    }
    silence_panics_on_purpose();
    let dropped = Rc::new(Cell::new(0));
    let cache = AsyncLru::<u32, Value>::builder().maxsize(100).shards(4).build();
    for key in 0..10 {
        cache.insert_blocking(key, Value(Rc::clone(&dropped)));
    }
    assert!(caught(|| cache.clear_blocking()).is_none());
    assert_eq!(dropped.get(), 10);
    assert!(cache.is_empty());
}
