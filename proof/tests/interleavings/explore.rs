//! Runs a scenario under many schedules, or under the one that has failed.

use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use async_lru::Eviction;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Schedules of each scenario, unless `SCHEDULES` in the environment says otherwise.
const SCHEDULES: usize = 20_000;

/// One more than the changes of priority that the second scheduler makes in a run: two of them, where
/// chance has it, find most of what is wrong.
const DEPTH: usize = 3;

/// Schedules of all scenarios so far.
static EXPLORED: AtomicUsize = AtomicUsize::new(0);

/// Runs `scenario` under as many schedules as are wanted: half of them choose at random at each point
/// who goes on, half let the thread of the highest priority go on and change priorities now and then.
///
/// With a schedule in `SCHEDULE` in the environment, runs it under that one.
pub fn explore(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    if let Ok(schedule) = env::var("SCHEDULE") {
        run(ReplayScheduler::new_from_encoded(&schedule), scenario);
        return;
    }
    let wanted = env::var("SCHEDULES").map_or(SCHEDULES, |number| number.parse().unwrap());
    let at_random = wanted / 2;
    let explored = run(RandomScheduler::new(at_random), scenario)
        + run(PctScheduler::new(DEPTH, wanted - at_random), scenario);
    assert_eq!(explored, wanted);
    let all = EXPLORED.fetch_add(explored, Ordering::Relaxed) + explored;
    let name = thread::current().name().map(str::to_owned).unwrap_or_default();
    println!("{explored} of {name}; schedules explored: {all}");
}

/// Does the same for caches of either order of eviction, or of that in `EVICTION` in the environment.
pub fn explore_in_either_order(scenario: fn(Eviction)) {
    let wanted = env::var("EVICTION").ok();
    for eviction in [Eviction::Lru, Eviction::Adaptive] {
        if wanted.as_ref().is_none_or(|wanted| *wanted == eviction.to_string()) {
            println!("with EVICTION={eviction}:");
            explore(move || scenario(eviction));
        }
    }
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) -> usize {
    let mut config = Config::new();
    // It warns that it treats all orderings of atomics as the strongest.
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(scenario)
}
