//! What an entry takes of memory.

use std::time::{Duration, Instant};

use futures_lite::future::block_on;

use crate::alloc;
use crate::measurement::Measurement;
use crate::passes::runtime;
use crate::peers::{Cache, Config, Measure};
use crate::workload::Workload;

const CAPACITY: usize = 100_000;
/// Three times as many as there is room for: what a policy remembers of the past is there too.
const INSERTIONS: u64 = 300_000;

/// How long a cache may be filled to weigh it. One that is full and needs more for its insertions
/// (stretto at 100 k entries: a third of a millisecond each) weighs no less for having seen fewer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures the bytes that are allocated for each entry, with its key and value.
pub(crate) struct Footprint;

impl<W: Workload> Measure<W> for Footprint {
    /// `None` where more was freed than was seen to be allocated: that is no weight.
    type Output = Option<Measurement>;

    fn measure<C: Cache<W>>(&self) -> Option<Measurement> {
        let runtime = runtime(C::ABOUT.home, 1);
        let _context = runtime.enter();
        let (cache, bytes) = alloc::counted(|| {
            let cache = C::build(Config { capacity: CAPACITY, ttl: None });
            block_on(fill(&cache));
            cache
        });
        let entries = cache.len().unwrap_or_else(|| {
            let held = |number| block_on(cache.get(&W::key(number))).is_some();
            (0..INSERTIONS).filter(|&number| held(number)).count()
        });
        let cost = bytes as f64 / entries.max(1) as f64;
        let measurement = Measurement { entries: Some(entries as f64), ..Measurement::of(cost) };
        (bytes > 0).then_some(measurement)
    }
}

async fn fill<W: Workload>(cache: &impl Cache<W>) {
    let start = Instant::now();
    for number in 0..INSERTIONS {
        let key = W::key(number);
        let value = W::value(&key);
        cache.insert(key, value).await;
        if number % 1000 == 999 {
            cache.settle().await;
            if start.elapsed() > PATIENCE {
                break;
            }
        }
    }
    cache.settle().await;
}
