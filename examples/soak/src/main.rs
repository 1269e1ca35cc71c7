//! Random load for as long as it is asked for, after which nothing may be left over.
//!
//! Many tasks call one cache at once, for one key or several, with loads that succeed, fail, panic or are
//! dropped, with updates and writes of all kinds in between and lifetimes of several kinds. They do so
//! in rounds. After each, the cache is filled with entries
//! that are all alike, and then every key and value that was ever made must be in the cache or have
//! been dropped, the statistics must add up, and the memory must be where it was after the first
//! rounds. The program asserts all that, and ends by itself.
//!
//! ```text
//! cargo run --release -p soak -- --seconds 1800 --executor smol
//! cargo run --release -p soak -- --failing-keys 10_000_000
//! ```

mod arguments;
mod census;
mod executor;
mod load;
mod memory;
mod progress;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arguments::{Arguments, HELP, Work};
use executor::Executor;
use load::Ground;

/// Steps of one task in a round.
const STEPS: u64 = 2_000;

/// Keys of one task in a round.
const FAILING_KEYS: u64 = 1_000;

/// Rounds until the memory has found its level: tables, queues and stacks have grown by then.
const WARM_UP: u64 = 3;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    let ground = Arc::new(Ground::new());
    let executor = Executor::start(arguments.executor);
    let levels = match arguments.work {
        Work::RandomLoad(time) => random_load(&ground, &executor, arguments.tasks, time),
        Work::FailingKeys(keys) => failing_keys(&ground, &executor, arguments.tasks, keys),
    };
    levels.assert_same();

    let Some(ground) = Arc::into_inner(ground) else { unreachable!("a task is left") };
    let Ground { cache, census, counts, .. } = ground;
    drop(cache);
    census.assert_only(0);
    let steps = counts.steps.load(Ordering::Relaxed);
    println!("{steps} steps on {:?}: everything was dropped", arguments.executor);
    ExitCode::SUCCESS
}

/// Live bytes of a cache that was emptied and filled: after the warm-up and in the end.
struct Levels {
    before: i64,
    after: i64,
}

impl Levels {
    fn assert_same(&self) {
        let Self { before, after } = self;
        println!("live bytes: {before} after the warm-up, {after} in the end");
        assert!((after - before).abs() * 100 <= *before, "the memory is not where it was");
    }
}

/// Fills the cache, after which nothing but its entries may be there; returns the live bytes.
fn settle(ground: &Ground) -> i64 {
    ground.assert_statistics();
    assert_eq!(ground.cache.validate(), 0, "a load is left");
    ground.fill();
    ground.census.assert_only(ground.cache.len());
    memory::live()
}

/// The level that can be compared: a shard that was once larger than others has kept the room.
fn level(ground: &Ground) -> i64 {
    ground.clear();
    settle(ground)
}

/// A task of a round.
struct Turn {
    round: u64,
    task: u64,
}

/// Runs rounds of `tasks` as long as there is more to do, and as many as for the warm-up at least.
fn rounds<F>(
    ground: &Ground,
    executor: &Executor,
    tasks: u64,
    has_more: impl Fn() -> bool,
    turn: impl Fn(Turn) -> F,
) -> Levels
where
    F: Future<Output = ()> + Send + 'static,
{
    let play = |round| executor.run((0..tasks).map(|task| turn(Turn { round, task })));
    ground.crowd(16 * tasks);
    for round in 0..WARM_UP {
        play(round);
        settle(ground);
    }
    let before = level(ground);
    let mut highest = before;
    let mut round = WARM_UP;
    while round < 2 * WARM_UP || has_more() {
        play(round);
        round += 1;
        let live = settle(ground);
        highest = highest.max(live);
        // Each shard keeps the room of its largest day.
        assert!(live < before + before / 4, "{live} bytes are live, and {before} were before");
    }
    println!("{round} rounds of {tasks} tasks: {}", progress::state(ground));
    println!("live bytes between rounds: {highest} at most");
    Levels { before, after: level(ground) }
}

fn random_load(ground: &Arc<Ground>, executor: &Executor, tasks: u64, time: Duration) -> Levels {
    let start = Instant::now();
    let has_more = || start.elapsed() < time;
    let elapsed = move || start.elapsed().as_secs();
    progress::with_bar(ground, time.as_secs(), elapsed, || {
        rounds(ground, executor, tasks, has_more, |Turn { round, task }| {
            let ground = Arc::clone(ground);
            async move { ground.random_load(round << 32 | task, STEPS).await }
        })
    })
}

fn failing_keys(ground: &Arc<Ground>, executor: &Executor, tasks: u64, keys: u64) -> Levels {
    let steps = || ground.counts.steps.load(Ordering::Relaxed);
    progress::with_bar(ground, keys, steps, || {
        rounds(
            ground,
            executor,
            tasks,
            || steps() < keys,
            |Turn { round, task }| {
                let ground = Arc::clone(ground);
                let first = (round * tasks + task) * FAILING_KEYS;
                async move { ground.failing_keys(first..first + FAILING_KEYS).await }
            },
        )
    })
}
