//! Loads that go on without a caller: who hands them over, who takes them up, and the queue that runs them.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru::{LookupOutcome, ManualClock, Task, background};
use futures_lite::future::{poll_once, yield_now};
use shuttle::future::block_on;
use shuttle::thread::{scope, spawn};

use crate::explore::explore;
use crate::witness::{Cache, Gate, Loads, Mint, begin, builder, number};

const FRESH: Duration = Duration::from_secs(10);

/// The number of the value that is stale.
const OLD: u32 = 0;

/// Tasks that a spawner was given. No point at which another thread may go on.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<Task>>>);

impl Tasks {
    fn add(&self, task: Task) {
        self.0.lock().unwrap().push(task);
    }

    fn take(&self) -> Option<Task> {
        self.0.lock().unwrap().pop()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Runs those that are there, each to its end.
    fn run(&self) {
        while let Some(task) = self.take() {
            block_on(task);
        }
    }
}

/// A call for key 1 that owns what it needs: what it has got, and from where.
type Call = Pin<Box<dyn Future<Output = (u32, LookupOutcome)> + Send>>;

/// A cache with a spawner, and what its calls share.
struct Ground {
    cache: Cache,
    clock: ManualClock,
    tasks: Tasks,
    mint: Mint,
    loads: Arc<Loads>,
}

impl Ground {
    fn new() -> Self {
        let tasks = Tasks::default();
        let spawner = tasks.clone();
        Self::spawning(tasks, move |task| spawner.add(task))
    }

    fn spawning(tasks: Tasks, spawner: impl Fn(Task) + Send + Sync + 'static) -> Self {
        let clock = ManualClock::new();
        let builder = builder(2).fresh_for(FRESH).clock(clock.clone());
        let (mint, loads) = Default::default();
        Self { cache: builder.spawner(spawner).build(), clock, tasks, mint, loads }
    }

    /// Puts an entry of key 1 that is stale.
    fn fill(&self) {
        self.cache.insert_blocking(1, self.mint.value(OLD));
        self.clock.advance(FRESH);
    }

    /// A call whose load lives in its flight and ends after a few pauses.
    fn call(&self, number: u32) -> Call {
        let (cache, loads, value) =
            (self.cache.clone(), self.loads.clone(), self.mint.value(number));
        Box::pin(async move {
            let load = move || loads.detached(value);
            let lookup = cache.entry(1).detached().or_insert_with(load).await;
            (lookup.value.number, lookup.outcome)
        })
    }

    /// Asserts that the entry is refreshed once it is stale again, and that all is whole.
    fn close(self) {
        assert_eq!(self.cache.validate(), 0, "a load has been left behind");
        if self.cache.contains_key(&1) {
            self.clock.advance(FRESH);
            assert_eq!(block_on(self.call(50)).1, LookupOutcome::Stale);
            self.tasks.run();
            assert_eq!(number(self.cache.peek(&1)), Some(50), "nobody refreshes it any more");
        }
        self.mint.close(self.cache);
    }
}

#[test]
fn of_callers_that_leave_a_load_at_once_the_last_hands_it_over_and_once() {
    explore(|| {
        let ground = Ground::new();
        let calls = [7, 8, 9].map(|number| begin(ground.call(number)));
        let threads = calls.map(|call| spawn(move || drop(call)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(ground.tasks.len(), 1);
        ground.tasks.run();
        assert_eq!((number(ground.cache.peek(&1)), ground.loads.started()), (Some(7), 1));
        let stats = ground.cache.stats();
        assert_eq!((stats.loads, stats.load_failures), (1, 0));
        ground.close();
    });
}

#[test]
fn who_comes_while_a_load_is_handed_over_joins_it_and_none_is_begun_again() {
    explore(|| {
        let ground = Ground::new();
        let last = begin(ground.call(7));
        let numbers = scope(|scope| {
            scope.spawn(|| drop(last));
            let callers = [8, 9].map(|number| {
                let call = ground.call(number);
                scope.spawn(move || block_on(call).0)
            });
            // Runs it beside those who have joined, if it is there by now.
            ground.tasks.run();
            callers.map(|caller| caller.join().unwrap())
        });
        assert_eq!((numbers, ground.loads.started()), ([7, 7], 1));
        assert!(ground.tasks.len() <= 1);
        ground.tasks.run();
        assert_eq!(ground.cache.stats().load_failures, 0);
        ground.close();
    });
}

#[test]
fn callers_who_come_and_go_beside_a_task_neither_end_its_load_nor_hand_it_over_again() {
    explore(|| {
        let ground = Ground::new();
        drop(begin(ground.call(7)));
        let task = ground.tasks.take().unwrap();
        scope(|scope| {
            scope.spawn(|| block_on(task));
            for number in [8, 9] {
                let call = ground.call(number);
                scope.spawn(move || block_on(poll_once(call)));
            }
        });
        assert_eq!((ground.tasks.len(), ground.loads.started()), (0, 1));
        assert_eq!(
            (number(ground.cache.peek(&1)), ground.cache.stats().load_failures),
            (Some(7), 0)
        );
        ground.close();
    });
}

#[test]
fn who_comes_while_a_task_is_dropped_goes_on_with_its_load_or_starts_another() {
    explore(|| {
        let ground = Ground::new();
        drop(begin(ground.call(7)));
        let task = ground.tasks.take().unwrap();
        let numbers = scope(|scope| {
            scope.spawn(|| {
                let mut task = task;
                assert!(
                    block_on(poll_once(&mut task)).is_none_or(|()| ground.cache.contains_key(&1))
                );
                // The load that is dropped may be on its way out while the next begins.
                ground.loads.fence();
                drop(task);
            });
            let callers = [8, 9].map(|number| {
                let call = ground.call(number);
                scope.spawn(move || block_on(call).0)
            });
            callers.map(|caller| caller.join().unwrap())
        });
        let started = ground.loads.started();
        assert_eq!(numbers[0], numbers[1]);
        assert_eq!((numbers[0] == 7, started), (started == 1, started.min(2)));
        assert_eq!(ground.cache.stats().load_failures, u64::from(started) - 1);
        assert_eq!(ground.tasks.len(), 0);
        ground.close();
    });
}

#[test]
fn a_spawner_that_drops_its_task_as_it_gets_it_leaves_the_load_to_who_has_joined() {
    explore(|| {
        let ground = Ground::spawning(Tasks::default(), drop);
        let last = begin(ground.call(7));
        let number = scope(|scope| {
            ground.loads.fence();
            scope.spawn(|| drop(last));
            block_on(ground.call(8)).0
        });
        let started = ground.loads.started();
        assert_eq!((number, started), (6 + started, started.min(2)));
        assert_eq!(ground.cache.stats().load_failures, u64::from(started) - 1);
        let Ground { cache, mint, .. } = ground;
        mint.close(cache);
    });
}

#[test]
fn of_those_who_find_an_entry_stale_one_gives_its_refresh_to_the_spawner_and_nobody_waits() {
    explore(|| {
        let ground = Ground::new();
        ground.fill();
        scope(|scope| {
            for number in [7, 8] {
                let call = ground.call(number);
                scope.spawn(move || match block_on(poll_once(call)) {
                    Some((OLD, LookupOutcome::Stale) | (7 | 8, LookupOutcome::Hit)) => {}
                    other => panic!("it waits for a refresh: {other:?}"),
                });
            }
            ground.tasks.run();
        });
        assert!(ground.tasks.len() <= 1);
        ground.tasks.run();
        assert!(matches!(number(ground.cache.peek(&1)), Some(7 | 8)));
        let stats = ground.cache.stats();
        assert_eq!((ground.loads.started(), stats.refreshes, stats.refresh_failures), (1, 1, 0));
        ground.close();
    });
}

#[test]
fn a_refresh_whose_task_is_dropped_is_given_to_the_spawner_by_the_next_call() {
    explore(|| {
        let ground = Ground::new();
        ground.fill();
        assert_eq!(block_on(ground.call(7)).0, OLD);
        let task = ground.tasks.take().unwrap();
        scope(|scope| {
            scope.spawn(|| drop(task));
            for number in [8, 9] {
                let call = ground.call(number);
                scope.spawn(move || assert_eq!(block_on(call), (OLD, LookupOutcome::Stale)));
            }
        });
        let taken_up = ground.tasks.len();
        assert!(taken_up <= 1, "two refreshes at once");
        if taken_up == 0 {
            assert_eq!(block_on(ground.call(8)).0, OLD);
            assert_eq!(ground.tasks.len(), 1, "nobody refreshes it any more");
        }
        ground.tasks.run();
        assert!(matches!(number(ground.cache.peek(&1)), Some(8 | 9)));
        let stats = ground.cache.stats();
        assert_eq!((stats.refreshes, stats.refresh_failures, stats.loads), (2, 1, 2));
        ground.close();
    });
}

#[test]
fn a_write_wins_over_a_refresh_that_a_task_runs() {
    explore(|| {
        let ground = Ground::new();
        ground.fill();
        assert_eq!(block_on(ground.call(7)).0, OLD);
        let task = ground.tasks.take().unwrap();
        scope(|scope| {
            scope.spawn(|| block_on(task));
            let call = ground.call(8);
            scope.spawn(move || assert_ne!(block_on(call).0, 8));
            ground.cache.insert_blocking(1, ground.mint.value(100));
        });
        assert_eq!((number(ground.cache.peek(&1)), ground.tasks.len()), (Some(100), 0));
        ground.close();
    });
}

#[test]
fn a_task_ends_with_the_last_handle_of_its_cache_and_keeps_nothing() {
    explore(|| {
        let ground = Ground::new();
        ground.fill();
        assert_eq!(block_on(ground.call(7)).0, OLD);
        let task = ground.tasks.take().unwrap();
        let Ground { cache, mint, loads, .. } = ground;
        scope(|scope| {
            scope.spawn(|| block_on(task));
            drop(cache);
        });
        assert_eq!((mint.alive(), Arc::strong_count(&loads)), (0, 1), "a load is left behind");
    });
}

/// Tasks that count how many of them run, and how many are there.
#[derive(Clone, Default)]
struct Tally(Arc<Counts>);

#[derive(Default)]
struct Counts {
    running: AtomicUsize,
    most: AtomicUsize,
    ended: AtomicUsize,
}

impl Tally {
    /// A task that runs with a pause.
    fn task(&self) -> Task {
        self.waiting_for(async { yield_now().await })
    }

    /// A task that runs until `end` does.
    fn waiting_for(&self, end: impl Future<Output = ()> + Send + 'static) -> Task {
        let Self(counts) = self.clone();
        Box::pin(async move {
            let running = 1 + counts.running.fetch_add(1, Ordering::Relaxed);
            counts.most.fetch_max(running, Ordering::Relaxed);
            end.await;
            counts.running.fetch_sub(1, Ordering::Relaxed);
            counts.ended.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn ended(&self) -> usize {
        self.0.ended.load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// How many tasks are still somewhere.
    fn alive(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

#[test]
fn background_runs_each_task_once_and_ends_after_the_last_of_its_spawners() {
    explore(|| {
        let (spawner, background) = background(2);
        let tally = Tally::default();
        let runner = spawn(move || block_on(background));
        scope(|scope| {
            for _ in 0..2 {
                let (spawner, tally) = (spawner.clone(), &tally);
                scope.spawn(move || (0..2).for_each(|_| spawner(tally.task())));
            }
            drop(spawner);
        });
        runner.join().unwrap();
        assert_eq!((tally.ended(), tally.alive()), (4, 0));
        assert!(tally.most() <= 2);
    });
}

#[test]
fn background_goes_on_with_its_queue_as_tasks_end_that_others_wake() {
    explore(|| {
        let (spawner, background) = background(1);
        let (tally, gates) = (Tally::default(), [(); 2].map(|()| Arc::new(Gate::default())));
        let runner = spawn(move || block_on(background));
        scope(|scope| {
            for gate in &gates {
                scope.spawn(|| gate.open());
            }
            for gate in gates.clone() {
                spawner(tally.waiting_for(async move { gate.pass().await }));
            }
            drop(spawner);
        });
        runner.join().unwrap();
        assert_eq!((tally.ended(), tally.most(), tally.alive()), (2, 1, 0));
    });
}

#[test]
fn background_runs_what_its_last_task_spawns_and_ends_after_that() {
    explore(|| {
        let (spawner, background) = background(1);
        let tally = Tally::default();
        let inner = tally.task();
        let last = spawner.clone();
        let outer = tally.waiting_for(async move { last(inner) });
        scope(|scope| {
            scope.spawn(move || block_on(background));
            scope.spawn(move || spawner(outer));
        });
        assert_eq!((tally.ended(), tally.alive()), (2, 0));
    });
}

#[test]
fn background_that_is_dropped_keeps_no_task_whoever_spawns_it_meanwhile() {
    explore(|| {
        let (spawner, background) = background(1);
        let tally = Tally::default();
        scope(|scope| {
            let mut background = Box::pin(background);
            scope.spawn(move || block_on(poll_once(&mut background)));
            for _ in 0..2 {
                scope.spawn(|| spawner(tally.task()));
            }
        });
        assert_eq!(tally.alive(), 0, "a task is kept that nobody runs");
        spawner(tally.task());
        assert_eq!(tally.alive(), 0);
    });
}

#[test]
fn background_refreshes_what_callers_find_stale_and_ends_after_their_cache() {
    explore(|| {
        let (spawner, background) = background(1);
        let ground = Ground::spawning(Tasks::default(), spawner);
        ground.fill();
        let runner = spawn(move || block_on(background));
        scope(|scope| {
            for number in [7, 8] {
                let call = ground.call(number);
                scope.spawn(move || assert!([OLD, 7, 8].contains(&block_on(call).0)));
            }
        });
        assert_eq!(ground.cache.stats().refreshes, 1);
        let Ground { cache, mint, loads, .. } = ground;
        drop(cache);
        runner.join().unwrap();
        assert!(loads.started() <= 1);
        assert_eq!((mint.alive(), Arc::strong_count(&loads)), (0, 1), "a load is left behind");
    });
}
