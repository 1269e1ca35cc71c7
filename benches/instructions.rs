//! Instructions of a hit and of an uncontended miss, which do not depend on the machine's mood.
//!
//! `cargo bench -p async-lru-bench --bench instructions` runs this very program under valgrind's
//! callgrind, twice for each row with different numbers of operations, and divides the difference: what is set up once
//! cancels out. The counts repeat for the same compiler and processor features.

use std::env;
use std::error::Error;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_lru::AsyncLru;

const ENTRIES: u64 = 10_000;
const ROWS: [&str; 4] = ["get, hit", "get_or_insert_with, hit", "the same, with a ttl", "miss"];
/// Enough for each shard to search victims many times over.
const FEW: u64 = 50_000;
const MANY: u64 = 150_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [row, operations] = &arguments[..]
        && let (Ok(row), Ok(operations)) = (row.parse(), operations.parse())
    {
        run(row, operations);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        // A run of the tests only wants to know that it starts.
        return ExitCode::SUCCESS;
    }
    for (row, name) in ROWS.iter().enumerate() {
        match count(row, MANY).and_then(|many| Ok((many - count(row, FEW)?) / (MANY - FEW))) {
            Ok(instructions) => println!("{name:<24} {instructions:>6} instructions"),
            Err(error) => {
                eprintln!("valgrind could not count: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Instructions of a whole run of this program.
fn count(row: usize, operations: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([row.to_string(), operations.to_string()])
        .output()?;
    let report = String::from_utf8(output.stderr)?;
    if !output.status.success() {
        return Err(report.into());
    }
    let line = report.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) = line.ok_or_else(|| format!("no count in its report:\n{report}"))?;
    Ok(collected.trim().parse()?)
}

/// Runs one row.
fn run(row: usize, operations: u64) {
    let mut builder = AsyncLru::<u64, u64>::builder().maxsize(ENTRIES as usize).shards(16);
    if row == 2 {
        builder = builder.ttl(Duration::from_secs(3_600));
    }
    let cache = builder.build();
    for key in 0..ENTRIES {
        cache.insert_blocking(key, key);
    }
    for operation in 0..operations {
        let resident = black_box(operation.wrapping_mul(7_919) % ENTRIES);
        match row {
            0 => drop(black_box(cache.get(&resident))),
            3 => drop(black_box(now(cache.get_or_insert_with(ENTRIES + operation, async || 0)))),
            _ => drop(black_box(now(cache.get_or_insert_with(resident, async || 0)))),
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
