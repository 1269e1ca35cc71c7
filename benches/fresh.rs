//! What callers wait for a value that is loaded anew every tenth of a second: with a plain time to live,
//! and with a fresh time.
//!
//! `cargo bench -p async-lru-bench --bench fresh` has 64 tasks ask for one key in turns with their load of
//! 20 ms, for three seconds each way.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_lru::AsyncLru;

const CALLERS: usize = 64;
const LOAD: Duration = Duration::from_millis(20);
const OLD: Duration = Duration::from_millis(100);
const RUN: Duration = Duration::from_secs(3);

/// How a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Led,
    Detached,
}

fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        // A run of the tests only wants to know that it starts.
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
    let runtime = runtime.expect("the system has threads");
    println!(
        "| 64 callers, load of 20 ms   | loads | calls in 3 s |      p50 |      p99 |      max |"
    );
    println!(
        "|-----------------------------|------:|-------------:|---------:|---------:|---------:|"
    );
    runtime.block_on(async {
        let builder = AsyncLru::<u32, u32>::builder;
        let fresh = || builder().fresh_for(OLD).ttl(Duration::from_secs(60));
        let spawning = fresh().spawner(|task| drop(tokio::spawn(task)));
        row("ttl of 100 ms", builder().ttl(OLD).build(), Call::Led).await;
        row("fresh for 100 ms", fresh().build(), Call::Led).await;
        row("the same, with a spawner", spawning.build(), Call::Detached).await;
    });
}

async fn row(title: &str, cache: AsyncLru<u32, u32>, call: Call) {
    ask(&cache, call).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (cache, is_over) = (cache.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    ask(&cache, call).await;
                    times.push(start.elapsed());
                    // As a service that does something with it.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(RUN).await;
    is_over.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.expect("no caller panics"));
    }
    times.sort();
    let within = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(within).map(micros);
    println!(
        "| {title:<27} | {:>5} | {:>12} | {p50:>8} | {p99:>8} | {max:>8} |",
        cache.stats().loads,
        times.len(),
    );
}

async fn ask(cache: &AsyncLru<u32, u32>, call: Call) {
    let load = || async {
        tokio::time::sleep(LOAD).await;
        1
    };
    let entry = cache.entry(1);
    match call {
        Call::Led => entry.or_insert_with(load).await,
        Call::Detached => entry.detached().or_insert_with(load).await,
    };
}

fn micros(time: Duration) -> String {
    format!("{:.1} us", 1_000_000.0 * time.as_secs_f64())
}
