//! How the cost of one operation grows with the number of entries.
//!
//! `cargo bench -p async-lru-bench --bench growth` times a hit, a miss with eviction and `stats()` one by one, at 1 k to
//! 10 M entries (`-- --quick`: to 1 M), in one shard and in the default number of shards, and writes
//! the table under `docs/` (`-- --no-write`: does not).

use std::fmt::Write;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use std::{env, fs, io};

use async_lru::AsyncLru;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Enough for a tail of a thousand operations beyond the 99.9th percentile.
const OPERATIONS: u64 = 1_000_000;

#[derive(Clone, Copy)]
enum Shards {
    One,
    Default,
}

/// Nanoseconds of the single operations of one kind.
struct Times(Vec<u32>);

impl Times {
    fn measure(operations: u64, mut operation: impl FnMut(u64)) -> Self {
        // Written to before the clock starts, so that no operation pays for a new page.
        let mut times = vec![1; operations as usize];
        for (number, time) in times.iter_mut().enumerate() {
            let start = Instant::now();
            operation(number as u64);
            *time = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        }
        times.sort_unstable();
        Self(times)
    }

    /// The time that `share` of the operations stay within.
    fn quantile(&self, share: f64) -> u32 {
        let last = self.0.len() - 1;
        self.0[((last as f64 * share) as usize).min(last)]
    }

    fn columns(&self) -> String {
        let [median, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.quantile(share));
        format!("{median:>6} | {p99:>6} | {p999:>7} | {:>9}", self.quantile(1.0))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // `cargo bench` says so; without it this is `cargo test --benches`, which wants no measurement.
    if !has("--bench") {
        println!("nothing measured: run `cargo bench -p async-lru-bench --bench growth`");
        return ExitCode::SUCCESS;
    }
    let sizes: &[u64] = match has("--quick") {
        true => &[1_000, 10_000, 100_000, 1_000_000],
        false => &[1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    };
    let table = table(sizes);
    println!("{table}");
    if has("--no-write") {
        return ExitCode::SUCCESS;
    }
    match write(&table) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(table: &str) -> io::Result<()> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    fs::create_dir_all(docs)?;
    let page = format!(
        "# How cost grows\n\n\
         Written by `cargo bench -p async-lru-bench --bench growth`.\n\n{table}"
    );
    fs::write(format!("{docs}/growth.md"), page)
}

fn table(sizes: &[u64]) -> String {
    let timer = Times::measure(OPERATIONS, |_| {});
    let mut table = format!(
        "Nanoseconds of single operations, each timed by itself: {OPERATIONS} hits, as many misses \
         with eviction, and 10000 `stats()`, `u64 -> u64`, keys at random. The timer's own share is in \
         every number; without an operation it gives {} in the median, {} at 99.9 % and {} at worst. \
         The worst is whatever the machine did meanwhile, too.\n\n\
         |   entries | shards  | operation |    p50 |    p99 |   p99.9 |     worst |\n\
         |----------:|---------|-----------|-------:|-------:|--------:|----------:|\n",
        timer.quantile(0.5),
        timer.quantile(0.999),
        timer.quantile(1.0),
    );
    for shards in [Shards::One, Shards::Default] {
        for &entries in sizes {
            eprintln!("{entries} entries");
            grow(entries, shards, &mut table);
        }
    }
    table
}

/// Measures one size and adds its lines.
fn grow(entries: u64, shards: Shards, table: &mut String) {
    let builder = AsyncLru::<u64, u64>::builder().maxsize(entries as usize);
    let cache = match shards {
        Shards::One => builder.shards(1).build(),
        Shards::Default => builder.build(),
    };
    for key in 0..entries {
        cache.insert_blocking(key, key);
    }
    let mut random = SmallRng::seed_from_u64(42);
    let keys: Vec<u64> = (0..OPERATIONS).map(|_| random.random_range(0..entries)).collect();
    let hit = |number: u64| {
        let key = keys[number as usize];
        black_box(now(cache.get_or_insert_with(black_box(key), async || unreachable!())));
    };
    // The first round finds caches cold and pages new.
    (0..OPERATIONS).for_each(hit);
    let hits = Times::measure(OPERATIONS, hit);
    let mut next = entries;
    let mut miss = |_| {
        let key = next;
        next += 1;
        black_box(now(cache.get_or_insert_with(black_box(key), async || key)));
    };
    // The first evictions find a fresh cache in the order of insertion.
    (0..OPERATIONS / 10).for_each(&mut miss);
    let misses = Times::measure(OPERATIONS, &mut miss);
    let stats = Times::measure(10_000, |_| {
        black_box(cache.stats());
    });
    let shards = match shards {
        Shards::One => "one".to_owned(),
        Shards::Default => format!("{}", cache.info().shards),
    };
    for (operation, times) in [("hit", hits), ("miss", misses), ("stats()", stats)] {
        let columns = times.columns();
        let _ = writeln!(table, "| {entries:>9} | {shards:<7} | {operation:<9} | {columns} |");
    }
}

/// Runs a future that never has to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("an uncontended call had to wait"),
    }
}
