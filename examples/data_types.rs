//! Lists, maps and structs as key and as value, with the memory they take.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_lru::{AsyncLru, impl_deep_size};

/// The arguments of the function that is cached.
#[derive(Clone)]
struct Job {
    numbers: Vec<i64>,
    config: BTreeMap<String, String>,
    multiplier: f64,
}

/// Any `Hash + Eq` type is a key, whatever it is made of. A float is not, as
/// NaN differs from itself; its bits are.
type JobKey = (Vec<i64>, BTreeMap<String, String>, u64);

fn job_key(job: &Job) -> JobKey {
    (job.numbers.clone(), job.config.clone(), job.multiplier.to_bits())
}

#[derive(Debug, PartialEq)]
struct Report {
    mode: String,
    scaled: Vec<f64>,
}

impl_deep_size!(Report { mode, scaled });

/// Stands for a computation worth keeping.
async fn process(job: Job) -> Arc<Report> {
    Arc::new(Report {
        mode: job.config.get("mode").cloned().unwrap_or_default(),
        scaled: job.numbers.iter().map(|&number| number as f64 * job.multiplier).collect(),
    })
}

#[tokio::main]
async fn main() {
    // The value is an `Arc`, so a hit copies a pointer and not a report.
    let processed =
        AsyncLru::builder().maxsize(100).deep_size().key_extractor(job_key).wrap(process);

    let fast = Job {
        numbers: (1..=1_000).collect(),
        config: BTreeMap::from([("mode".to_owned(), "fast".to_owned())]),
        multiplier: 2.0,
    };
    let halved = Job { multiplier: 0.5, ..fast.clone() };

    let first = processed.call(fast.clone()).await;
    let second = processed.call(fast).await;
    let other = processed.call(halved).await;

    println!(
        "{} numbers in {} mode: {}, {}, {}, ...",
        first.scaled.len(),
        first.mode,
        first.scaled[0],
        first.scaled[1],
        first.scaled[2],
    );
    println!("the second call got the same report: {}", first == second);
    println!("another multiplier is another key:   {}", first != other);
    assert!(Arc::ptr_eq(&first, &second));
    assert_ne!(first, other);

    let stats = processed.stats();
    println!(
        "function calls: {}, entries: {}, memory: {}",
        stats.loads, stats.current_size, stats.total_size_in_memory_pretty,
    );
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 2, 2));
    // Each entry keeps 1,000 numbers in its key and 1,000 in its report.
    assert!(stats.total_size_in_memory_bytes > 2 * 2 * 1_000 * 8);
    assert!(stats.total_size_in_memory_pretty.ends_with(" KB"));
}
