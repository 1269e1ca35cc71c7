//! Every call of the user's code panics in turn, and the cache goes on as if nothing had happened.
//!
//! One instance calls a codec, loads, sleeps, a clock and a listener that count their calls. A service runs
//! once to count them all, and then once for each of them with a panic at that very call. After each run no
//! lease keeps others waiting, no removal is put off any more, the store is used, and neither tier has a
//! value that the source has no longer.

mod common;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use async_lru::{AsyncLru, Clock, ManualClock};
use async_lru_tier::{Codec, CodecError, NotPropagated, Tiered};
use common::world::{MILLIS, Plain, SECOND, Source, TIMEOUT, Task, World};
use futures_lite::FutureExt;

type Users = Tiered<String, String>;
type Payload = Box<dyn Any + Send>;

/// The payload of a panic on purpose.
struct Bang;

thread_local! {
    /// Calls of user code left until one panics; `u64::MAX` for never.
    static FUSE: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Calls of user code so far.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// A call of user code.
fn call() {
    CALLS.set(CALLS.get() + 1);
    match FUSE.get() {
        u64::MAX => {}
        0 => {
            FUSE.set(u64::MAX);
            // Without the panic hook, which has nothing new to tell.
            resume_unwind(Box::new(Bang));
        }
        left => FUSE.set(left - 1),
    }
}

/// Strings as they are, by calls that count.
struct Loud;

impl Codec<String> for Loud {
    fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
        call();
        Plain.encode(value)
    }

    fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
        call();
        Plain.decode(bytes)
    }
}

struct LoudClock(ManualClock);

impl Clock for LoudClock {
    fn now(&self) -> Duration {
        call();
        self.0.now()
    }
}

/// A future whose polls count.
async fn loud<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        call();
        future.as_mut().poll(cx)
    })
    .await
}

/// The key that is written.
const KEY: &str = "ann";
/// How long values are fresh.
const FRESH: Duration = Duration::from_secs(20);

/// Which cache loses what it has with its link.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Clear,
    Keep,
}

/// Who has met the panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Met {
    callers: usize,
    drivers: usize,
}

/// A service of which one instance has loud parts.
struct Service {
    world: World,
    users: Users,
    driver: RefCell<Task<Result<(), Payload>>>,
    other: Users,
    source: Source,
    met: Cell<Met>,
}

impl Service {
    fn new(kind: Kind) -> Self {
        let world = World::new();
        let sleeper = world.sleeper();
        let sleep = move |time| {
            call();
            loud(sleeper(time))
        };
        let local = AsyncLru::builder()
            .clock(LoudClock(world.clock.clone()))
            .fresh_for(FRESH)
            .refresh_retry(MILLIS)
            .on_remove(|_, _, _| call());
        let builder = world.builder_of(Loud, sleep).local(local);
        let users: Users = match kind {
            Kind::Clear => builder,
            Kind::Keep => builder.when_cut_off(async_lru_tier::CutOff::Keep),
        }
        .build();
        let builder = world.builder_of(Plain, world.sleeper());
        let other = world.start(builder.local(world.local().fresh_for(FRESH)));
        let driver = RefCell::new(drive(&world, &users));
        world.settle();
        let (source, met) = (Source::new("first"), Cell::default());
        Self { world, users, driver, other, source, met }
    }

    /// Runs a call of the loud instance; `None` if it has panicked.
    fn run<T: 'static>(&self, call: impl Future<Output = T> + 'static) -> Option<T> {
        self.end(self.begin(call))
    }

    fn begin<T: 'static>(
        &self,
        call: impl Future<Output = T> + 'static,
    ) -> Task<Result<T, Payload>> {
        self.world.spawn(AssertUnwindSafe(call).catch_unwind())
    }

    fn end<T: 'static>(&self, task: Task<Result<T, Payload>>) -> Option<T> {
        for _ in 0..8 {
            self.settle();
            match task.take() {
                Some(Ok(value)) => return Some(value),
                Some(Err(payload)) => {
                    assert!(payload.is::<Bang>(), "no other panic comes of it");
                    self.met.set(Met { callers: self.met.get().callers + 1, ..self.met.get() });
                    return None;
                }
                None => self.world.pass(TIMEOUT),
            }
        }
        panic!("a call waits for ever");
    }

    /// Lets everybody go on, with another driver if the last has panicked.
    fn settle(&self) {
        self.world.settle();
        let ended = self.driver.borrow().take();
        if let Some(ended) = ended {
            assert!(ended.is_err_and(|payload| payload.is::<Bang>()), "the driver goes on");
            self.met.set(Met { drivers: self.met.get().drivers + 1, ..self.met.get() });
            *self.driver.borrow_mut() = drive(&self.world, &self.users);
            self.world.settle();
        }
    }

    fn pass(&self, time: Duration) {
        self.world.pass(time);
        self.settle();
    }

    /// Gets `key` with the loud instance.
    fn get(&self, key: &'static str) -> impl Future<Output = String> + 'static {
        let (users, source) = (self.users.clone(), self.source.clone());
        async move {
            let load = || {
                call();
                loud(async move { value(&source, key) })
            };
            users.get(key, load).await
        }
    }

    /// Gets `key` with an instance that is not loud.
    #[track_caller]
    fn get_quietly(&self, users: &Users, key: &'static str) -> String {
        let (users, source) = (users.clone(), self.source.clone());
        self.world.run(async move { users.get(key, async || value(&source, key)).await })
    }

    /// Writes the source and then has the loud instance do as `write` says; again, if that panics.
    fn write<F>(&self, value: &'static str, write: impl Fn(Users, &'static str) -> F)
    where
        F: Future<Output = Result<(), NotPropagated>> + 'static,
    {
        self.source.write(value);
        loop {
            match self.run(write(self.users.clone(), value)) {
                Some(written) => break drop(written),
                // Others are told all the same.
                None => self.agrees(&self.other, value),
            }
        }
        self.agrees(&self.users, value);
        self.agrees(&self.other, value);
    }

    /// Checks that an instance has nothing but this value.
    fn agrees(&self, users: &Users, value: &str) {
        self.settle();
        let (fuse, calls) = (FUSE.replace(u64::MAX), CALLS.get());
        assert_eq!(self.get_quietly(users, KEY), value);
        FUSE.set(fuse);
        CALLS.set(calls);
    }

    /// All that a service does.
    fn serve(&self) {
        let Self { world, other, source, .. } = self;
        // From its own load, from the store, and from both for many.
        if let Some(value) = self.run(self.get(KEY)) {
            assert_eq!(value, "first");
        }
        self.get_quietly(other, "bob");
        assert!(self.run(self.get("bob")).is_none_or(|value| value == "bob"));
        let many = {
            let (users, source) = (self.users.clone(), source.clone());
            async move {
                let load = |keys: Vec<String>| {
                    call();
                    let source = &source;
                    loud(async move {
                        let values = keys.iter().map(|key| value(source, key)).collect::<Vec<_>>();
                        keys.into_iter().zip(values).collect::<Vec<_>>()
                    })
                };
                users.get_many([KEY, "bob", "eve", "dan"].map(str::to_owned), load).await
            }
        };
        assert!(self.run(many).is_none_or(|answers| answers.len() == 4));
        let failing = {
            let users = self.users.clone();
            async move {
                let load = || {
                    call();
                    loud(async { Err::<String, _>("down") })
                };
                users.try_get("nobody", load).await
            }
        };
        assert!(self.run(failing).is_none_or(|answer| answer.is_err()));
        self.refresh();
        // From another instance, which is waited for.
        let gate = Rc::new(event_listener::Event::new());
        let leader = {
            let (other, gate) = (other.clone(), Rc::clone(&gate));
            world.spawn(async move {
                let load = async || {
                    gate.listen().await;
                    "kim".to_owned()
                };
                other.get("kim", load).await
            })
        };
        self.settle();
        let waiter = self.begin(self.get("kim"));
        self.pass(20 * MILLIS);
        gate.notify(usize::MAX);
        assert!(self.end(waiter).is_none_or(|value| value == "kim"));
        assert!(leader.is_done());
        // Stale.
        self.pass(FRESH);
        self.run(self.get(KEY));
        self.refresh();

        self.write("a", async |users, _| users.invalidate(KEY).await);
        self.run(self.get(KEY));
        self.write("b", async |users, _| users.invalidate_many([KEY, "eve"]).await);
        self.run(self.get(KEY));
        self.write("c", async |users, _| users.invalidate_all().await);
        self.run(self.get(KEY));
        self.write("d", async |users, value| users.insert(KEY, value.to_owned()).await);
        self.write("e", async |users, value| {
            users.writing(KEY).await.insert(value.to_owned()).await
        });
        self.write("f", async |users, _| users.writing(KEY).await.finish().await);
        self.write("g", async |users, _| {
            drop(users.writing(KEY).await);
            Ok(())
        });

        // What others do.
        self.run(self.get(KEY));
        self.tell("h", |other| async move { other.invalidate(KEY).await });
        self.run(self.get(KEY));
        self.tell("i", |other| async move { other.invalidate_all().await });
        self.run(self.get(KEY));
        // The link.
        self.pass(2 * SECOND);
        world.faults.cut_links();
        self.run(self.get(KEY));
        self.pass(3 * SECOND);
        world.faults.stop();
        self.run(self.get("new"));
        world.faults.resume();
        self.pass(2 * SECOND);
    }

    fn refresh(&self) {
        let (users, source) = (self.users.clone(), self.source.clone());
        let refresh = async move {
            let load = || {
                call();
                loud(async move { Ok::<_, &str>(source.read()) })
            };
            users.refresh(KEY, load).await
        };
        let now = self.source.now();
        assert!(self.run(refresh).is_none_or(|value| value == Ok(now)));
    }

    /// Has the other instance write, and the loud one hear of it.
    fn tell<F>(&self, value: &'static str, write: impl Fn(Users) -> F)
    where
        F: Future<Output = Result<(), NotPropagated>> + 'static,
    {
        self.source.write(value);
        assert!(self.world.run(write(self.other.clone())).is_ok());
        self.settle();
    }

    /// Checks what is left once everybody has gone on for a while.
    fn check(&self) {
        let Self { world, users, other, source, .. } = self;
        world.faults.heal();
        self.pass(6 * SECOND);
        let figures = users.figures();
        assert!(figures.linked);
        assert_eq!(figures.pending_removals, 0, "pending removals");
        assert_eq!(world.faults.figures().leases, 0, "leases");
        let third = world.start(world.builder_of(Plain, world.sleeper()));
        for users in [users, other, &third] {
            assert_eq!(self.get_quietly(users, KEY), source.now());
        }
        self.write("last", async |users, _| users.invalidate(KEY).await);
        assert_eq!(self.get_quietly(&third, KEY), "last");
        assert!(users.local().contains_key(KEY.as_bytes()), "no guard is left");
    }
}

fn drive(world: &World, users: &Users) -> Task<Result<(), Payload>> {
    world.spawn(AssertUnwindSafe(users.driver()).catch_unwind())
}

/// What the source has under `key`.
fn value(source: &Source, key: &str) -> String {
    if key == KEY { source.read() } else { key.to_owned() }
}

/// Runs a service of which the call of this number panics; tells how many calls there were, too.
fn play(kind: Kind, fuse: u64) -> (Met, u64) {
    CALLS.set(0);
    FUSE.set(fuse);
    let service = Service::new(kind);
    service.serve();
    FUSE.set(u64::MAX);
    let calls = CALLS.get();
    service.check();
    (service.met.get(), calls)
}

/// Says where a test has failed.
struct Here(Kind, u64);

impl Drop for Here {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}, a panic at call {}", self.0, self.1);
        }
    }
}

#[test]
fn a_listener_that_panics_costs_the_driver_a_link_and_not_its_life() {
    let world = World::new();
    let local = world.local().on_remove(|_, _, _| resume_unwind(Box::new(Bang)));
    let (users, other) = (world.start(world.builder().local(local)), world.instance());
    let source = Source::new("old");
    for value in ["new", "newer"] {
        let load = |users: &Tiered<str, String>| {
            let (users, source) = (users.clone(), source.clone());
            world.run(async move { users.get(KEY, async || source.read()).await })
        };
        load(&users);
        source.write(value);
        let other = other.clone();
        assert!(world.run(async move { other.invalidate(KEY).await }).is_ok());
        assert_eq!(load(&users), value);
        world.pass(SECOND);
        assert!(users.figures().linked);
    }
    assert_eq!(users.figures().links_lost, 2);
}

#[test]
fn a_panic_of_the_users_code_reaches_its_caller_and_nothing_else_is_lost() {
    let mut all = 0;
    for kind in [Kind::Clear, Kind::Keep] {
        let (met, calls) = play(kind, u64::MAX);
        assert_eq!(met, Met::default());
        let (mut callers, mut drivers) = (0, 0);
        for fuse in 0..calls {
            let _here = Here(kind, fuse);
            let (met, _) = play(kind, fuse);
            assert!(met.callers + met.drivers <= 1, "one panic is met once");
            callers += met.callers as u64;
            drivers += met.drivers as u64;
        }
        let links = calls - callers - drivers;
        println!(
            "{kind:?}: {callers} reached a caller, {drivers} ended a driver, {links} were a lost link"
        );
        all += calls;
    }
    println!("points of panic: {all}");
    assert!(all >= 500, "{all}");
}
