//! Every async call is dropped after each of its polls, whatever it meets, and nobody is the worse for it.
//!
//! Each call of the store is pending before it takes effect and after it, so that a call is cut between
//! any two of its steps. After each cut the drivers go on, and then: no lease keeps others waiting, no
//! removal is put off any more, and neither tier has a value that the source has no longer.

mod common;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_lru_tier::{ErrorKind, Tiered};
use common::world::{HEARTBEAT, MILLIS, Plain, SECOND, Source, TIMEOUT, Task, World};
use futures_lite::future::yield_now;

type Users = Tiered<String, String>;
type Hand = Pin<Box<dyn Future<Output = ()>>>;

/// The key that all meet at.
const KEY: &str = "ann";
/// Another key, whose value does not change.
const BESIDE: &str = "bob";

/// How long values are fresh where they go stale.
const FRESH: Duration = Duration::from_secs(20);

/// No call needs more polls than this, once what it meets is over.
const MANY: usize = 40;

/// The call that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Get,
    TryGet,
    TryGetFailing,
    Refresh,
    RefreshFailing,
    GetMany,
    TryGetMany,
    TryGetManyFailing,
    Invalidate,
    InvalidateMany,
    InvalidateAll,
    Insert,
    /// A guarded write that ends with the new value.
    WriteAndInsert,
    /// One that waits for the last removal.
    WriteAndFinish,
    /// One that only drops its guard.
    WriteAndDrop,
    Linked,
    Driver,
}

const READS: [Call; 8] = [
    Call::Get,
    Call::TryGet,
    Call::TryGetFailing,
    Call::Refresh,
    Call::RefreshFailing,
    Call::GetMany,
    Call::TryGetMany,
    Call::TryGetManyFailing,
];

const WRITES: [Call; 7] = [
    Call::Invalidate,
    Call::InvalidateMany,
    Call::InvalidateAll,
    Call::Insert,
    Call::WriteAndInsert,
    Call::WriteAndFinish,
    Call::WriteAndDrop,
];

impl Call {
    /// Whether there is a link before it, without which others' removals are not heard.
    fn is_of_a_linked_instance(self) -> bool {
        !matches!(self, Self::Linked | Self::Driver)
    }
}

/// What the call meets; with a number, what happens before that poll of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Nothing,
    InStore,
    InBothTiers,
    StaleInStore,
    StaleInBothTiers,
    /// Another instance loads the key.
    Leased,
    /// Another instance waits for the key.
    AwaitedFrom(usize),
    /// Bytes that are no value.
    Undecodable,
    Foreign,
    Down,
    /// The store does not answer for a while.
    Stopped,
    /// What it was asked to remove is still to be removed.
    Pending,
    Full,
    Cut(usize),
    /// The driver is dropped.
    Undriven(usize),
    /// Another instance removes the key, all keys, or writes.
    Removed(usize),
    Cleared(usize),
    Written(usize),
    /// Another instance removes the key while no link is there; the next poll comes before the link is there
    /// again, or after.
    CutAndRemoved(usize),
    CutRemovedAndLinked(usize),
}

impl Scene {
    fn all() -> Vec<Self> {
        let mut scenes = vec![
            Self::Nothing,
            Self::InStore,
            Self::InBothTiers,
            Self::StaleInStore,
            Self::StaleInBothTiers,
            Self::Leased,
            Self::Undecodable,
            Self::Foreign,
            Self::Down,
            Self::Stopped,
            Self::Pending,
            Self::Full,
        ];
        for poll in 0..10 {
            scenes.extend([
                Self::AwaitedFrom(poll),
                Self::Cut(poll),
                Self::Undriven(poll),
                Self::Removed(poll),
                Self::Cleared(poll),
                Self::Written(poll),
                Self::CutAndRemoved(poll),
                Self::CutRemovedAndLinked(poll),
            ]);
        }
        scenes
    }

    fn is_stale(self) -> bool {
        matches!(self, Self::StaleInStore | Self::StaleInBothTiers)
    }

    /// Whether `call` can meet it, and has promised something for it.
    fn is_possible(self, call: Call) -> bool {
        match self {
            // A value that another instance overwrites before the store has heard of it is as one that was
            // never true.
            Self::Removed(1) | Self::Cleared(1) | Self::Written(1) => call != Call::Insert,
            Self::Undriven(_) => call.is_of_a_linked_instance(),
            _ => true,
        }
    }

    /// Whether the store is not to be had for a while, so that time has to pass.
    fn takes_time(self) -> bool {
        matches!(
            self,
            Self::Down
                | Self::Stopped
                | Self::Pending
                | Self::Cut(_)
                | Self::CutAndRemoved(_)
                | Self::CutRemovedAndLinked(_)
        )
    }
}

/// Whether the call had come to its end before it was dropped.
#[derive(PartialEq, Eq)]
enum Run {
    Ended,
    Cut,
}

/// Says where a test has failed.
struct Here(Scene, Call, usize);

impl Drop for Here {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(scene, call, polls) = self;
            eprintln!("{call:?} in {scene:?}, dropped after {polls} polls");
        }
    }
}

/// An instance whose call is cut, another one, and what happens around them.
struct Stage {
    world: World,
    scene: Scene,
    call: Call,
    users: Users,
    driver: RefCell<Option<Task<()>>>,
    other: Users,
    /// What `KEY` is loaded from.
    source: Source,
    gate: Rc<event_listener::Event>,
    /// Calls of the other instance.
    bystanders: RefCell<Vec<Task<()>>>,
}

impl Stage {
    fn new(scene: Scene, call: Call) -> Self {
        let world = World::new();
        let build = || {
            let builder = world.builder_of(Plain, world.sleeper());
            if scene.is_stale() {
                builder.local(world.local().fresh_for(FRESH).refresh_retry(MILLIS)).build()
            } else {
                builder.build()
            }
        };
        let (users, other): (Users, Users) = (build(), build());
        world.spawn(other.driver());
        world.settle();
        let stage = Self {
            scene,
            call,
            users,
            driver: RefCell::default(),
            other,
            source: Source::new("old"),
            gate: Rc::default(),
            bystanders: RefCell::default(),
            world,
        };
        if call.is_of_a_linked_instance() {
            stage.drive();
        }
        stage.set();
        stage
    }

    fn drive(&self) {
        *self.driver.borrow_mut() = Some(self.world.spawn(self.users.driver()));
        self.world.settle();
    }

    /// Has there be what the call meets from the start.
    fn set(&self) {
        let Self { world, scene, .. } = self;
        let (space, key) = (World::space(), async_lru_tier::Key::of(KEY));
        match scene {
            Scene::InStore | Scene::StaleInStore | Scene::Undecodable => {
                self.get(&self.other);
            }
            Scene::InBothTiers
            | Scene::StaleInBothTiers
            | Scene::Removed(_)
            | Scene::Cleared(_)
            | Scene::Written(_)
            | Scene::CutAndRemoved(_)
            | Scene::CutRemovedAndLinked(_) => {
                self.get(&self.other);
                self.get(&self.users);
            }
            Scene::Leased => {
                let (other, source) = (self.other.clone(), self.source.clone());
                let gate = Rc::clone(&self.gate);
                self.beside(async move {
                    let load = async || {
                        let value = source.read();
                        gate.listen().await;
                        value
                    };
                    other.get(KEY, load).await;
                });
            }
            Scene::Foreign => world.faults.put_foreign(&space, &key),
            Scene::Pending => {
                world.faults.fail(ErrorKind::Other);
                let users = self.users.clone();
                assert!(world.run(async move { users.invalidate(KEY).await }).is_err());
            }
            Scene::Down => world.faults.take_down(),
            Scene::Stopped => world.faults.stop(),
            Scene::Full => world.faults.fail(ErrorKind::Full),
            Scene::Nothing | Scene::AwaitedFrom(_) | Scene::Cut(_) | Scene::Undriven(_) => {}
        }
        if scene.is_stale() {
            world.pass(FRESH);
        }
        if *scene == Scene::Undecodable {
            assert!(world.faults.corrupt(&space, &key, &[0xff]));
        }
        world.settle();
        world.faults.go_in_steps();
    }

    /// Runs a call of the other instance beside.
    fn beside(&self, call: impl Future<Output = ()> + 'static) {
        self.bystanders.borrow_mut().push(self.world.spawn(call));
        self.world.settle();
    }

    /// Does what happens before this poll of the call.
    fn tick(&self, poll: usize) {
        let Self { world, other, source, .. } = self;
        if self.call == Call::Linked && poll == 2 {
            self.drive();
        }
        match self.scene {
            Scene::Leased if poll == 6 => drop(self.gate.notify(usize::MAX)),
            Scene::Down if poll == 3 => {
                world.faults.bring_up();
                world.pass(3 * SECOND);
            }
            Scene::Stopped if [2, 4].contains(&poll) => world.pass(TIMEOUT),
            Scene::Stopped if poll == 6 => world.faults.resume(),
            Scene::Pending if poll == 6 => {
                world.faults.work();
                world.pass(SECOND);
            }
            Scene::AwaitedFrom(at) if poll == at => {
                let (other, source) = (other.clone(), source.clone());
                self.beside(async move { drop(other.get(KEY, async || source.read()).await) });
            }
            Scene::Cut(at) if poll == at => world.faults.cut_links(),
            Scene::Undriven(at) if poll == at => {
                if let Some(driver) = self.driver.take() {
                    driver.cancel();
                }
            }
            Scene::Removed(at) if poll == at => self.remove_theirs(),
            Scene::CutAndRemoved(at) if poll == at => {
                world.faults.cut_links();
                self.remove_theirs();
            }
            Scene::CutRemovedAndLinked(at) if poll == at => {
                world.faults.cut_links();
                self.remove_theirs();
                world.pass(SECOND);
            }
            Scene::Cleared(at) if poll == at => {
                source.write("theirs");
                let other = other.clone();
                self.beside(async move { drop(other.invalidate_all().await) });
            }
            Scene::Written(at) if poll == at => {
                let (other, source) = (other.clone(), source.clone());
                self.beside(async move {
                    let writing = other.writing(KEY).await;
                    source.write("theirs");
                    drop(writing.insert("theirs".to_owned()).await);
                });
            }
            Scene::Cut(at) | Scene::CutAndRemoved(at) if poll == at + 2 => world.pass(SECOND),
            _ => {}
        }
        world.settle();
    }

    fn remove_theirs(&self) {
        self.source.write("theirs");
        let other = self.other.clone();
        self.beside(async move { drop(other.invalidate(KEY).await) });
    }

    /// Makes the call, which has not been polled yet.
    fn begin(&self) -> Hand {
        let (users, source) = (self.users.clone(), self.source.clone());
        let driver = users.driver();
        let call = self.call;
        Box::pin(async move {
            let load = async || {
                let value = source.read();
                yield_now().await;
                value
            };
            let failing = async || {
                yield_now().await;
                Err::<String, _>("down")
            };
            let load_many = async |keys: Vec<String>| load_many(&source, keys).await;
            let keys = || [KEY.to_owned(), BESIDE.to_owned()];
            match call {
                Call::Get => drop(users.get(KEY, load).await),
                Call::TryGet => {
                    let value =
                        users.try_get(KEY, async || Ok::<_, Infallible>(load().await)).await;
                    assert!(value.is_ok());
                }
                Call::TryGetFailing => drop(users.try_get(KEY, failing).await),
                Call::Refresh => {
                    let value =
                        users.refresh(KEY, async || Ok::<_, Infallible>(load().await)).await;
                    assert!(value.is_ok());
                }
                Call::RefreshFailing => drop(users.refresh(KEY, failing).await),
                Call::GetMany => drop(users.get_many(keys(), load_many).await),
                Call::TryGetMany => {
                    let load = async |keys| Ok::<_, Infallible>(load_many(keys).await);
                    assert!(users.try_get_many(keys(), load).await.is_ok());
                }
                Call::TryGetManyFailing => {
                    let load = async |_| {
                        yield_now().await;
                        Err::<Vec<(String, String)>, _>("down")
                    };
                    drop(users.try_get_many(keys(), load).await);
                }
                Call::Invalidate => {
                    source.write("new");
                    drop(users.invalidate(KEY).await);
                }
                Call::InvalidateMany => {
                    source.write("new");
                    drop(users.invalidate_many([KEY, BESIDE]).await);
                }
                Call::InvalidateAll => {
                    source.write("new");
                    drop(users.invalidate_all().await);
                }
                Call::Insert => {
                    source.write("new");
                    drop(users.insert(KEY, "new".to_owned()).await);
                }
                Call::WriteAndInsert | Call::WriteAndFinish | Call::WriteAndDrop => {
                    let writing = users.writing(KEY).await;
                    source.write("new");
                    yield_now().await;
                    match call {
                        Call::WriteAndInsert => drop(writing.insert("new".to_owned()).await),
                        Call::WriteAndFinish => drop(writing.finish().await),
                        _ => drop(writing),
                    }
                }
                Call::Linked => users.linked().await,
                Call::Driver => driver.await,
            }
        })
    }

    /// Polls the call so often, drops it, and looks at what is left.
    fn play(self, polls: usize) -> Run {
        let _here = Here(self.scene, self.call, polls);
        let mut call = self.begin();
        let mut run = Run::Cut;
        for count in 0..polls {
            self.tick(count);
            if poll(&mut call) {
                run = Run::Ended;
                break;
            }
            self.world.settle();
        }
        drop(call);
        self.check();
        run
    }

    fn check(&self) {
        let Self { world, scene, users, other, source, .. } = self;
        // At once, before a driver does anything; if that takes no time.
        let at_once = by_hand(self.getting(users));
        if self.call.is_of_a_linked_instance() {
            assert_eq!(
                at_once.unwrap_or(source.now()),
                source.now(),
                "the instance itself, at once"
            );
        }
        world.faults.heal();
        self.gate.notify(usize::MAX);
        if !self.call.is_of_a_linked_instance() || matches!(scene, Scene::Undriven(_)) {
            self.driver.take().into_iter().for_each(Task::cancel);
            self.drive();
        }
        world.settle();
        if scene.takes_time() {
            world.pass(3 * SECOND.max(HEARTBEAT));
        }
        for users in [users, other] {
            let figures = users.figures();
            assert!(figures.linked, "linked");
            assert_eq!(figures.pending_removals, 0, "pending removals");
        }
        assert!(self.bystanders.borrow().iter().all(Task::is_done), "calls of the other instance");
        assert_eq!(world.faults.figures().leases, 0, "leases");

        let third = world.start(world.builder_of(Plain, world.sleeper()));
        for users in [users, other, &third] {
            assert_eq!(self.get(users), source.now(), "after it has settled");
        }
        assert!(users.local().contains_key(KEY.as_bytes()), "no guard is left");
        for (writer, value) in [(users, "later"), (other, "last")] {
            source.write(value);
            let writer = writer.clone();
            assert!(world.run(async move { writer.invalidate(KEY).await }).is_ok());
            for users in [users, other, &third] {
                assert_eq!(self.get(users), value);
            }
        }
        let (users, source) = (users.clone(), source.clone());
        let answers = world.run(async move {
            let keys = [KEY, BESIDE, "eve"].map(str::to_owned);
            users.get_many(keys, async |keys| load_many(&source, keys).await).await
        });
        let values: Vec<_> = answers.into_iter().filter_map(|(_, value)| value).collect();
        assert_eq!(values, ["last", BESIDE, "eve"]);
        assert_eq!(world.faults.figures().leases, 0, "leases");
    }

    fn getting(&self, users: &Users) -> impl Future<Output = String> + 'static {
        let (users, source) = (users.clone(), self.source.clone());
        async move { users.get(KEY, async || source.read()).await }
    }

    #[track_caller]
    fn get(&self, users: &Users) -> String {
        self.world.run(self.getting(users))
    }
}

/// The values of these keys: each its own name, but for the one that changes.
async fn load_many(source: &Source, keys: Vec<String>) -> Vec<(String, String)> {
    let value = |key: &String| if key == KEY { source.read() } else { key.clone() };
    let values = keys.iter().map(value).collect::<Vec<_>>();
    yield_now().await;
    keys.into_iter().zip(values).collect()
}

/// Polls once; tells whether that was the end.
fn poll(call: &mut Hand) -> bool {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// What `call` gives without anybody else's having a turn.
fn by_hand(call: impl Future<Output = String>) -> Option<String> {
    let mut call = Box::pin(call);
    for _ in 0..MANY {
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(value) = polled {
            return Some(value);
        }
    }
    None
}

/// Cuts `call` after each of its polls; returns how many there are.
fn points(scene: Scene, call: Call) -> usize {
    // The driver never ends by itself.
    let most = if call == Call::Driver { 16 } else { MANY };
    let mut polls = 0;
    loop {
        match Stage::new(scene, call).play(polls) {
            Run::Ended => return polls,
            Run::Cut => polls += 1,
        }
        if polls == most {
            assert_eq!(
                call,
                Call::Driver,
                "{scene:?}: a call that nothing stands in the way of ends"
            );
            return polls;
        }
    }
}

fn all_points(calls: &[Call], at_least: usize) {
    let mut all = 0;
    for &call in calls {
        let scenes = Scene::all().into_iter().filter(|scene| scene.is_possible(call));
        let points: usize = scenes.map(|scene| points(scene, call)).sum();
        println!("{call:?}: {points}");
        all += points;
    }
    println!("cancel points: {all}");
    assert!(all >= at_least, "{all}");
}

#[test]
fn a_read_that_is_dropped_after_any_poll_leaves_both_tiers_true_and_nobody_waiting() {
    all_points(&READS, 2_500);
}

#[test]
fn a_write_that_is_dropped_after_any_poll_is_made_up_for_in_both_tiers() {
    all_points(&WRITES, 2_500);
}

#[test]
fn a_link_that_is_given_up_after_any_poll_is_to_be_had_again() {
    all_points(&[Call::Linked, Call::Driver], 1_000);
}
