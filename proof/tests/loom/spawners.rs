//! Loads that go on without a caller: who hands them over, and the queue that runs them.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_lru::{Task, background};
use futures_lite::future::{Future, poll_once};
use loom::future::block_on;
use loom::thread;

use crate::explore::{Extent, World, close, explore};
use crate::witness::{Value, begin, builder, number};

/// Tasks that a spawner was given.
type Tasks = Arc<Mutex<Vec<Task>>>;

/// A cache whose spawner keeps its tasks.
fn spawning() -> (Arc<World>, Tasks) {
    let tasks = Tasks::default();
    let given = Arc::clone(&tasks);
    let builder = builder(2).spawner(move |task| given.lock().unwrap().push(task));
    (World::new(builder.build(), []), tasks)
}

fn take(tasks: &Tasks) -> Option<Task> {
    tasks.lock().unwrap().pop()
}

/// A call for key 1 that owns what it needs, and whose load ends after a few polls.
fn call(world: &Arc<World>, value: u32) -> Pin<Box<dyn Future<Output = Value>>> {
    let load = world.loads.detached(world.mint.value(value));
    let world = Arc::clone(world);
    Box::pin(async move { world.cache.entry(1).detached().or_insert_with(|| load).await.value })
}

/// One of them counts itself out, and the other is counted on as the task.
#[test]
fn of_two_callers_that_leave_a_load_at_once_one_hands_it_over() {
    explore(Extent::Whole, || {
        let (world, tasks) = spawning();
        let (one, other) = (begin(call(&world, 7)), begin(call(&world, 8)));
        let leaving = thread::spawn(move || drop(one));
        drop(other);
        leaving.join().unwrap();
        let task = take(&tasks).expect("somebody has handed it over");
        assert!(take(&tasks).is_none(), "it was handed over twice");
        block_on(task);
        assert_eq!((number(world.cache.peek(&1)), world.loads.started()), (Some(7), 1));
        close(world);
    });
}

/// The last caller hands the load over while another comes, who joins it: before that, or beside the task.
#[test]
fn who_comes_while_a_load_is_handed_over_joins_it() {
    explore(Extent::Whole, || {
        let (world, tasks) = spawning();
        let last = begin(call(&world, 7));
        let leaving = thread::spawn(move || drop(last));
        assert_eq!(block_on(call(&world, 8)).number, 7);
        leaving.join().unwrap();
        assert_eq!((world.loads.started(), world.cache.stats().load_failures), (1, 0));
        // What there is of a task has nothing left to do.
        take(&tasks).into_iter().for_each(block_on);
        assert!(take(&tasks).is_none());
        close(world);
    });
}

/// A task is dropped while another caller comes: that one joins its load, or starts its own.
#[test]
fn who_comes_while_a_task_is_dropped_goes_on_with_its_load_or_starts_another() {
    explore(Extent::Whole, || {
        let (world, tasks) = spawning();
        drop(begin(call(&world, 7)));
        let task = take(&tasks);
        // The dropped load may be on its way out while the next begins.
        world.loads.fence();
        let dropping = thread::spawn(move || drop(task));
        let got = block_on(call(&world, 8)).number;
        dropping.join().unwrap();
        let started = world.loads.started();
        assert_eq!((got, started <= 2, take(&tasks).is_none()), (6 + started, true, true));
        assert_eq!(world.cache.stats().load_failures, u64::from(started - 1));
        close(world);
    });
}

/// The runner of the queue polls a task beside a caller who has joined its load.
#[test]
fn a_task_and_a_caller_of_its_load_wake_each_other() {
    explore(Extent::ThreePreemptions, || {
        let (world, tasks) = spawning();
        drop(begin(call(&world, 7)));
        let task = take(&tasks).unwrap();
        let running = thread::spawn(move || block_on(task));
        assert_eq!(block_on(call(&world, 8)).number, 7);
        running.join().unwrap();
        assert_eq!((world.loads.started(), take(&tasks).is_none()), (1, true));
        close(world);
    });
}

/// A task that counts its runs, and of which it can be seen whether it is still there.
fn counting(runs: &Arc<AtomicUsize>) -> Task {
    let runs = Arc::clone(runs);
    Box::pin(async move { _ = runs.fetch_add(1, Ordering::Relaxed) })
}

/// The runner finds a task as it begins, or is woken for it; and so for the end of the last spawner.
#[test]
fn background_runs_what_it_is_given_and_ends_after_the_last_spawner() {
    explore(Extent::ThreePreemptions, || {
        let (spawner, background) = background(1);
        let runs = Arc::default();
        let runner = thread::spawn(move || block_on(background));
        spawner(counting(&runs));
        drop(spawner);
        runner.join().unwrap();
        assert_eq!((runs.load(Ordering::Relaxed), Arc::strong_count(&runs)), (1, 1));
    });
}

/// Two that spawn, and whose spawners are the last, while nobody runs anything yet or somebody does.
#[test]
fn background_runs_the_tasks_of_two_threads_each_once() {
    explore(Extent::ThreePreemptions, || {
        let (spawner, background) = background(1);
        let runs = Arc::default();
        let (other, task) = (spawner.clone(), counting(&runs));
        let spawning = thread::spawn(move || other(task));
        let runner = thread::spawn(move || block_on(background));
        spawner(counting(&runs));
        drop(spawner);
        spawning.join().unwrap();
        runner.join().unwrap();
        assert_eq!((runs.load(Ordering::Relaxed), Arc::strong_count(&runs)), (2, 1));
    });
}

/// A runner that is dropped after a poll takes what is in the queue along, and what comes later is not kept.
#[test]
fn background_that_is_dropped_keeps_no_task_that_is_spawned_meanwhile() {
    explore(Extent::Whole, || {
        let (spawner, background) = background(1);
        let runs = Arc::default();
        let runner = thread::spawn(move || block_on(poll_once(background)));
        spawner(counting(&runs));
        runner.join().unwrap();
        assert_eq!(Arc::strong_count(&runs), 1, "a task is kept that nobody runs");
        drop(spawner);
    });
}
