//! Many tasks that ask for one key at once.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::child::Effort;
use crate::measurement::Measurement;
use crate::peers::{Cache, Config, Measure};
use crate::workload::{Workload, loads};

const TASKS: usize = 256;

/// Measures how long it takes until all of them have the value.
pub(crate) struct Stampede(pub(crate) Effort);

impl<W: Workload> Measure<W> for Stampede {
    type Output = Measurement;

    fn measure<C: Cache<W>>(&self) -> Measurement {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime on this thread");
        let _context = runtime.enter();
        let cache = Arc::new(C::build(Config { capacity: 1024, ttl: None }));
        let stampede = |key: W::Key| {
            let start = Instant::now();
            runtime.block_on(async {
                let ask = |_| {
                    let (cache, key) = (Arc::clone(&cache), key.clone());
                    tokio::spawn(async move { black_box(cache.get_or_insert(&key).await) })
                };
                let tasks: Vec<_> = (0..TASKS).map(ask).collect();
                for task in tasks {
                    task.await.expect("no panic in a peer");
                }
            });
            start.elapsed()
        };
        // Each with a key of its own. The first few warm up.
        let mut keys = (0..).map(W::key);
        keys.by_ref().take(self.0.passes()).map(stampede).for_each(drop);
        let loaded = loads();
        let stampedes = 20 * self.0.passes();
        let best: Option<Duration> = keys.take(stampedes).map(stampede).min();
        let microseconds = best.expect("at least one").as_nanos() as f64 / 1e3;
        let loads = (loads() - loaded) as f64 / stampedes as f64;
        Measurement { loads: Some(loads), ..Measurement::of(microseconds) }
    }
}
