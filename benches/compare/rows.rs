//! The rows of the table.

use std::hint::black_box;
use std::time::Duration;

use crate::peers::{About, Config, FLOOR, Flight};
use crate::race::{Call, Contestant, Crowd, Lap, Racer, contestants};
use crate::report::{Line, Unit};
use crate::workload::{
    Cursor, Laborious, Numbers, Order, Sequence, Texts, Workload, Yielding, loads,
};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Empty for all.
    pub(crate) rows: Vec<u32>,
    /// Empty for the thread counts that each row has by default.
    pub(crate) threads: Vec<usize>,
    /// Empty for all.
    pub(crate) peers: Vec<String>,
    pub(crate) rounds: u32,
    /// What a round of one peer should take.
    pub(crate) lap: Duration,
    pub(crate) cores: usize,
}

impl Plan {
    fn wants(&self, row: u32) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }

    fn wants_peer(&self, about: About) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == about.name)
    }

    fn contestants<W: Workload>(&self) -> Vec<Box<dyn Contestant<W>>> {
        let mut all = contestants::<W>();
        all.retain(|contestant| self.wants_peer(contestant.about()));
        all
    }

    /// The peers of the table.
    pub(crate) fn peers(&self) -> Vec<About> {
        self.contestants::<Numbers>().iter().map(|contestant| contestant.about()).collect()
    }

    /// One and two threads, and for `crowded` rows two more than there are cores.
    fn threads(&self, crowd: Crowding) -> Vec<usize> {
        if !self.threads.is_empty() {
            return self.threads.clone();
        }
        let mut threads = vec![1, 2];
        if crowd == Crowding::BeyondCores {
            threads.push(self.cores + 2);
        }
        threads
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Crowding {
    UpToTwo,
    BeyondCores,
}

/// A row that is timed call by call.
struct Timed {
    row: u32,
    title: &'static str,
    call: Call,
    order: Order,
    capacity: u64,
    /// How many entries are inserted before anything is timed.
    resident: u64,
    ttl: Option<Duration>,
    crowding: Crowding,
}

const CAPACITY: u64 = 10_000;
const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

/// Runs all rows that are wanted, and hands each line to `done` as it is there.
pub(crate) fn run(plan: &Plan, mut done: impl FnMut(Line)) {
    let hits = Timed {
        row: 1,
        title: "get, hit",
        call: Call::Get,
        order: Order::Zipf(10_000),
        capacity: 20_000,
        resident: 10_000,
        ttl: None,
        crowding: Crowding::BeyondCores,
    };
    let loading = Timed { row: 2, title: "get_or_insert, hit", call: Call::GetOrInsert, ..hits };
    let texts = Timed { row: 3, title: "the same, String -> Arc<str>", ..loading };
    let large = Timed {
        row: 4,
        title: "uniform hits, 1 M entries",
        order: Order::Uniform(1_000_000),
        // Room for the unevenness of peers whose shards each have a fixed share.
        capacity: 1_250_000,
        resident: 1_000_000,
        ..loading
    };
    let churn = Timed {
        row: 5,
        title: "zipf over 10 x capacity",
        order: Order::Zipf(100_000),
        capacity: CAPACITY,
        resident: CAPACITY,
        crowding: Crowding::UpToTwo,
        ..loading
    };
    let text_churn = Timed { row: 6, title: "the same, String -> Arc<str>", ..churn };
    let new = Timed { row: 7, title: "every key new", order: Order::New, ..churn };
    let hits_ttl = Timed {
        row: 8,
        title: "row 2, TTL one hour",
        ttl: HOUR,
        crowding: Crowding::UpToTwo,
        ..loading
    };
    let churn_ttl = Timed { row: 8, title: "row 5, TTL one hour", ttl: HOUR, ..churn };
    let laborious = Timed { row: 10, title: "row 5, loader of 20 us", ..churn };

    // First, while no other cache has left anything behind for a background task to free.
    let mut weighed = Vec::new();
    if plan.wants(11) {
        let mut keep = |line| weighed.push(line);
        footprint::<Numbers>(plan, "bytes per entry, u64 -> u64", &mut keep);
        footprint::<Texts>(plan, "bytes per entry, String -> Arc<str>", &mut keep);
    }
    timed::<Numbers>(plan, &hits, &mut done);
    timed::<Numbers>(plan, &loading, &mut done);
    timed::<Texts>(plan, &texts, &mut done);
    timed::<Numbers>(plan, &large, &mut done);
    timed::<Numbers>(plan, &churn, &mut done);
    timed::<Texts>(plan, &text_churn, &mut done);
    timed::<Numbers>(plan, &new, &mut done);
    timed::<Numbers>(plan, &hits_ttl, &mut done);
    timed::<Numbers>(plan, &churn_ttl, &mut done);
    if plan.wants(9) {
        stampede(plan, &mut done);
    }
    if plan.wants(10) {
        Laborious::calibrate();
        timed::<Laborious>(plan, &laborious, &mut done);
    }
    weighed.into_iter().for_each(&mut done);
    if plan.wants(12) {
        done(future_sizes(plan));
    }
}

/// A peer in a timed row, and what was seen of it with one number of threads.
struct Runner<W: Workload> {
    racer: Box<dyn Racer<W>>,
    cursor: Cursor,
    /// Of each thread in a round.
    operations: u64,
    /// Nanoseconds per operation of the best round.
    best: f64,
    called: u64,
    /// Calls that found nothing.
    missed: u64,
}

fn timed<W: Workload>(plan: &Plan, row: &Timed, done: &mut impl FnMut(Line)) {
    if !plan.wants(row.row) {
        return;
    }
    let evicts = row.resident >= row.capacity;
    let sequence = Sequence::<W>::new(row.order);
    let config = Config { capacity: row.capacity as usize, ttl: row.ttl };
    let resident: Vec<_> = (0..row.resident).map(W::key).collect();
    let mut runners: Vec<_> = plan
        .contestants::<W>()
        .iter()
        .map(|contestant| {
            // It would grow without end, and has no time to live to be measured.
            let fits = contestant.about().name != FLOOR || !evicts && row.ttl.is_none();
            fits.then(|| Runner {
                racer: contestant.build(config),
                cursor: Cursor::default(),
                operations: 0,
                best: f64::MAX,
                called: 0,
                missed: 0,
            })
        })
        .collect();

    Laborious::set_at_work(false);
    for runner in runners.iter_mut().flatten() {
        runner.racer.fill(&resident);
        if evicts {
            // Policies that count uses have to have seen some.
            let crowd = Crowd { threads: 1, operations: 20 * row.capacity };
            runner.lap(row, &sequence, crowd);
        }
    }
    Laborious::set_at_work(true);

    for threads in plan.threads(row.crowding) {
        for runner in runners.iter_mut().flatten() {
            runner.pace(row, plan, threads, &sequence);
        }
        for _ in 0..plan.rounds {
            for runner in runners.iter_mut().flatten() {
                runner.round(row, threads, &sequence);
            }
        }
        let line = |title: &str, unit, value: &dyn Fn(&Runner<W>) -> f64| Line {
            row: (unit == Unit::Nanoseconds).then_some(row.row),
            title: title.to_owned(),
            threads: Some(threads),
            unit,
            values: runners.iter().map(|runner| runner.as_ref().map(value)).collect(),
        };
        let hit_ratio = |runner: &Runner<W>| {
            let called = runner.called.max(1) as f64;
            100.0 - 100.0 * runner.missed as f64 / called
        };
        done(line(row.title, Unit::Nanoseconds, &|runner| runner.best));
        let new = matches!(row.order, Order::New);
        // A row of hits has the ratio only where a peer lost entries that there was room for.
        let incomplete = runners.iter().flatten().any(|runner| hit_ratio(runner) < 99.95);
        if !new && (evicts || incomplete) {
            done(line("- hit ratio", Unit::Percent, &hit_ratio));
        }
        if evicts {
            done(line("- entries held", Unit::Count, &|runner| {
                let candidates = || sequence.candidates(runner.cursor, row.capacity);
                runner.racer.entries(&candidates) as f64
            }));
        }
        if row.row == 10 {
            done(line("- loads per 1000 calls", Unit::Count, &|runner| {
                1000.0 * runner.missed as f64 / runner.called.max(1) as f64
            }));
        }
    }
}

impl<W: Workload> Runner<W> {
    fn lap(&mut self, row: &Timed, sequence: &Sequence<W>, crowd: Crowd) -> Lap {
        let count = crowd.operations * crowd.threads as u64;
        let (keys, first) = sequence.take(&mut self.cursor, count);
        self.racer.round(row.call, &keys, first, crowd)
    }

    /// Finds how many operations fill a round, so that fast peers are not timed for less time than
    /// the threads take to start.
    fn pace(&mut self, row: &Timed, plan: &Plan, threads: usize, sequence: &Sequence<W>) {
        let lap = plan.lap.as_nanos() as f64;
        let mut operations = 1000;
        for _ in 0..2 {
            let crowd = Crowd { threads, operations };
            let wall = self.lap(row, sequence, crowd).wall.as_nanos().max(1) as f64;
            operations = (operations as f64 * lap / wall).clamp(500.0, 5e6) as u64;
            // The first, cold, only has to be long enough to pace the second.
            operations = operations.min(10 * crowd.operations.max(2000));
        }
        (self.operations, self.best, self.called, self.missed) = (operations, f64::MAX, 0, 0);
    }

    fn round(&mut self, row: &Timed, threads: usize, sequence: &Sequence<W>) {
        let crowd = Crowd { threads, operations: self.operations };
        let total = self.operations * threads as u64;
        let loaded = loads();
        let lap = self.lap(row, sequence, crowd);
        self.best = self.best.min(lap.wall.as_nanos() as f64 / total as f64);
        self.called += total;
        self.missed += lap.absent + (loads() - loaded);
    }
}

fn stampede(plan: &Plan, done: &mut impl FnMut(Line)) {
    let rounds = u64::from(plan.rounds) * 20;
    let (mut times, mut loaded) = (Vec::new(), Vec::new());
    for contestant in plan.contestants::<Yielding>() {
        let fits = contestant.about().name != FLOOR;
        let before = loads();
        let time = fits.then(|| contestant.stampede(rounds).as_nanos() as f64 / 1e3);
        times.push(time);
        loaded.push(time.map(|_| (loads() - before) as f64 / rounds as f64));
    }
    let line = |row, title: &str, unit, values| Line {
        row,
        title: title.to_owned(),
        threads: Some(1),
        unit,
        values,
    };
    done(line(Some(9), "stampede of 256 tasks, us until all have it", Unit::Microseconds, times));
    done(line(None, "- loads", Unit::Count, loaded));
}

fn footprint<W: Workload>(plan: &Plan, title: &str, done: &mut impl FnMut(Line)) {
    let (mut bytes, mut held) = (Vec::new(), Vec::new());
    for contestant in plan.contestants::<W>() {
        let fits = contestant.about().name != FLOOR;
        let footprint = fits.then(|| contestant.footprint(100_000, 300_000));
        // Less than nothing is no weight: more was freed than was seen to be allocated.
        let weighed = footprint.filter(|(bytes, _)| *bytes > 0);
        bytes.push(weighed.map(|(bytes, entries)| bytes as f64 / entries.max(1) as f64));
        held.push(footprint.map(|(_, entries)| entries as f64));
    }
    let line = |row, title: &str, unit, values| Line {
        row,
        title: title.to_owned(),
        threads: None,
        unit,
        values,
    };
    done(line(Some(11), title, Unit::Bytes, bytes));
    done(line(None, "- entries held of 100000", Unit::Count, held));
}

/// The main call's future, for those whose main call is one: the look-up, load and insertion of the
/// others are as large as their user writes them.
fn future_sizes(plan: &Plan) -> Line {
    let bytes = [1; 64];
    let load = |bytes: [u8; 64]| async move {
        black_box(&bytes);
        u64::from(bytes[0])
    };
    let try_load = |bytes: [u8; 64]| async move {
        black_box(&bytes);
        Ok::<_, std::convert::Infallible>(u64::from(bytes[0]))
    };
    let ours = async_lru::AsyncLru::<u64, u64>::new(1);
    let quick = quick_cache::sync::Cache::<u64, u64>::new(1);
    let moka = moka::future::Cache::<u64, u64>::new(1);
    let size = |about: About| match (about.flight, about.name) {
        (Flight::None, _) => None,
        (_, "ours") => Some(size_of_val(&ours.get_or_insert_with(1, || load(bytes)))),
        (_, "quick_cache") => Some(size_of_val(&quick.get_or_insert_async(&1, try_load(bytes)))),
        (_, "moka") => Some(size_of_val(&moka.get_with(1, load(bytes)))),
        // Their loader is in the cache or in a task of its own, each load a further allocation.
        _ => None,
    };
    Line {
        row: Some(12),
        title: "bytes of the call's future, 64-byte loader".to_owned(),
        threads: None,
        unit: Unit::Bytes,
        values: plan.peers().into_iter().map(|peer| size(peer).map(|size| size as f64)).collect(),
    }
}
