//! Instructions of a hit and of an uncontended miss, which do not depend on the machine's mood.
//!
//! `cargo bench -p async-lru-bench --bench instructions` runs this very program under valgrind's
//! callgrind, twice for each cache and row with different numbers of operations, and divides the
//! difference: what is set up once cancels out. The counts repeat for the same compiler and processor
//! features, but for those that depend on a hasher's random seed by an instruction or two.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Write;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, Eviction};

const ENTRIES: u64 = 10_000;
const CACHES: [&str; 4] = ["async-lru", "its adaptive", "quick_cache", "parking_lot+hashlink"];
/// So many of them are ours.
const OURS: usize = 2;
const ROWS: [&str; 6] = [
    "get, hit",
    "get_or_insert, hit",
    "the same, with a ttl",
    "the same, kept fresh",
    "miss that evicts",
    "the same, kept fresh",
];
const WITH_TTL: usize = 2;
const FRESH: usize = 3;
const MISS: usize = 4;
const FRESH_MISS: usize = 5;
/// Enough for each shard to search victims many times over.
const FEW: u64 = 50_000;
const MANY: u64 = 150_000;

/// `u64 -> u64`, with a loader that returns at once.
trait Cache {
    fn get(&self, key: &u64) -> Option<u64>;
    fn get_or_insert(&self, key: u64) -> impl Future<Output = u64>;
}

impl Cache for AsyncLru<u64, u64> {
    fn get(&self, key: &u64) -> Option<u64> {
        self.get(key)
    }

    fn get_or_insert(&self, key: u64) -> impl Future<Output = u64> {
        self.get_or_insert_with(key, async || 0)
    }
}

impl Cache for quick_cache::sync::Cache<u64, u64> {
    fn get(&self, key: &u64) -> Option<u64> {
        self.get(key)
    }

    async fn get_or_insert(&self, key: u64) -> u64 {
        let Ok(value) = self.get_or_insert_async(&key, async { Ok::<_, Infallible>(0) }).await;
        value
    }
}

/// Without single flight: what its users have to write.
impl Cache for parking_lot::Mutex<hashlink::LruCache<u64, u64>> {
    fn get(&self, key: &u64) -> Option<u64> {
        self.lock().get(key).copied()
    }

    async fn get_or_insert(&self, key: u64) -> u64 {
        if let Some(found) = Cache::get(self, &key) {
            return found;
        }
        let value = async { 0 }.await;
        self.lock().insert(key, value);
        value
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [cache, row, operations] = &arguments[..]
        && let (Ok(cache), Ok(row), Ok(operations)) =
            (cache.parse(), row.parse(), operations.parse())
    {
        run(cache, row, operations);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        // A run of the tests only wants to know that it starts.
        return ExitCode::SUCCESS;
    }
    match table() {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table() -> Result<String, Box<dyn Error>> {
    let mut table = format!("| {:<20} |", "instructions");
    for cache in CACHES {
        write!(table, " {cache} |")?;
    }
    table.push_str("\n|----------------------|");
    for cache in CACHES {
        write!(table, "{:->1$}:|", "", cache.len() + 1)?;
    }
    table.push('\n');
    for (row, title) in ROWS.iter().enumerate() {
        write!(table, "| {title:<20} |")?;
        for (cache, name) in CACHES.iter().enumerate() {
            let width = name.len();
            // The others have no time to live.
            if [WITH_TTL, FRESH, FRESH_MISS].contains(&row) && cache >= OURS {
                write!(table, " {:>width$} |", "-")?;
                continue;
            }
            let difference = count(cache, row, MANY)? - count(cache, row, FEW)?;
            write!(table, " {:>width$} |", difference / (MANY - FEW))?;
        }
        table.push('\n');
    }
    Ok(table)
}

/// Instructions of a whole run of this program.
fn count(cache: usize, row: usize, operations: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([cache.to_string(), row.to_string(), operations.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let report = String::from_utf8(output.stderr)?;
    if !output.status.success() {
        return Err(report.into());
    }
    let line = report.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) = line.ok_or_else(|| format!("no count in its report:\n{report}"))?;
    Ok(collected.trim().parse()?)
}

/// Runs one row for one cache, each with as many shards as it takes by default, ours with 16.
fn run(cache: usize, row: usize, operations: u64) {
    // A cache whose shards each have a fixed share may lose entries before it is full.
    let evicts = [MISS, FRESH_MISS].contains(&row);
    let capacity = if evicts { ENTRIES } else { 2 * ENTRIES } as usize;
    match cache {
        0..OURS => {
            let eviction = if cache == 0 { Eviction::Lru } else { Eviction::Adaptive };
            // Said, since the default may come to depend on the machine.
            let builder = AsyncLru::<u64, u64>::builder().maxsize(capacity).shards(16);
            let mut builder = builder.eviction(eviction);
            if [WITH_TTL, FRESH, FRESH_MISS].contains(&row) {
                builder = builder.ttl(Duration::from_secs(3_600));
            }
            if [FRESH, FRESH_MISS].contains(&row) {
                builder = builder.fresh_for(Duration::from_secs(60));
            }
            operate(&builder.build(), row, operations);
        }
        OURS => operate(&quick_cache::sync::Cache::new(capacity), row, operations),
        _ => {
            let cache = parking_lot::Mutex::new(hashlink::LruCache::new(capacity));
            operate(&cache, row, operations);
        }
    }
}

fn operate(cache: &impl Cache, row: usize, operations: u64) {
    for key in 0..ENTRIES {
        now(cache.get_or_insert(key));
    }
    for operation in 0..operations {
        let resident = black_box(operation.wrapping_mul(7_919) % ENTRIES);
        match row {
            0 => drop(black_box(cache.get(&resident))),
            MISS | FRESH_MISS => drop(black_box(now(cache.get_or_insert(ENTRIES + operation)))),
            _ => drop(black_box(now(cache.get_or_insert(resident)))),
        }
    }
}

/// Runs a call that never has to wait.
fn now<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nobody else uses the cache"),
    }
}
