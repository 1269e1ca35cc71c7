//! The rows of calls: a cache is filled, warmed up, and called in passes that are timed.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tokio::runtime::{Builder, Runtime};

use crate::child::Effort;
use crate::cores;
use crate::measurement::Measurement;
use crate::peers::{Cache, Config, Home, Measure};
use crate::rows::{Call, Calls, Loader};
use crate::sequence::{Cursor, Sequence, Walk};
use crate::workload::{Spin, Workload, loads};

/// Measures calls by a number of threads.
pub(crate) struct Passes {
    pub(crate) calls: Calls,
    pub(crate) threads: usize,
    pub(crate) effort: Effort,
}

impl<W: Workload> Measure<W> for Passes {
    type Output = Measurement;

    fn measure<C: Cache<W>>(&self) -> Measurement {
        let Self { calls, threads, effort } = *self;
        let runtime = runtime(C::ABOUT.home, threads);
        let _context = runtime.enter();
        let config = Config { capacity: calls.capacity, ttl: calls.ttl };
        let crew = Arc::new(Crew::<W, C> {
            cache: C::build(config),
            sequence: Sequence::new(calls.order, calls.keys, effort.sequence()),
            call: calls.call,
            threads,
        });
        let mut cursor = Cursor::default();
        let mut pass = |length| crew.pass(&runtime, &mut cursor, length);
        block_on(crew.fill(calls.capacity));
        pass(effort.steps());
        block_on(crew.cache.settle());
        if calls.loader == Loader::Spin {
            Spin::switch_on();
        }
        let trial = pass(effort.steps() / 10);
        let length = effort.length(trial.cost());

        let loaded = loads();
        let passes: Vec<_> = (0..effort.passes()).map(|_| pass(length)).collect();
        let made: usize = passes.iter().map(|pass| pass.calls).sum();
        let absent: u64 = passes.iter().map(|pass| pass.absent).sum();
        let missed = absent + (loads() - loaded);
        let mut costs: Vec<_> = passes.iter().map(Pass::cost).collect();
        costs.sort_by(f64::total_cmp);
        let cost = match threads {
            1 => costs[0],
            // The least of several threads may be what one core did after the other.
            _ => costs[costs.len() / 2],
        };
        Measurement { loads: Some(1000.0 * missed as f64 / made as f64), ..Measurement::of(cost) }
    }
}

impl Effort {
    /// How many calls of so many nanoseconds each make a pass: fewer of slow peers, or a row would go on
    /// for minutes, and more of fast ones, or the start of the threads would be a part of the time.
    fn length(self, cost: f64) -> usize {
        let Range { start: shortest, end: longest } = self.pass();
        let calls = |time: Duration| (time.as_nanos() as f64 / cost) as usize;
        self.steps().max(calls(shortest)).min(calls(longest))
    }
}

/// One pass of all threads together.
struct Pass {
    wall: Duration,
    calls: usize,
    /// `get`s that found nothing.
    absent: u64,
}

impl Pass {
    /// Nanoseconds per call.
    fn cost(&self) -> f64 {
        self.wall.as_nanos() as f64 / self.calls.max(1) as f64
    }
}

/// What one thread saw of a pass.
struct Span {
    start: Instant,
    end: Instant,
    calls: usize,
    absent: u64,
}

/// A cache and those that call it.
struct Crew<W: Workload, C> {
    cache: C,
    sequence: Sequence<W>,
    call: Call,
    threads: usize,
}

impl<W: Workload, C: Cache<W>> Crew<W, C> {
    /// Inserts as many keys as there is room for.
    async fn fill(&self, capacity: usize) {
        let keys = self.sequence.keys();
        for keys in keys[..capacity.min(keys.len())].chunks(1000) {
            for key in keys {
                self.cache.insert(key.clone(), W::value(key)).await;
            }
            self.cache.settle().await;
        }
    }

    fn pass(self: &Arc<Self>, runtime: &Runtime, cursor: &mut Cursor, steps: usize) -> Pass {
        let walks = cursor.advance(steps, self.threads);
        let spans = match C::ABOUT.home {
            Home::Threads => self.on_threads(runtime, walks),
            Home::Tokio => self.in_tasks(runtime, walks),
        };
        let start = spans.iter().map(|span| span.start).min().expect("a thread");
        let end = spans.iter().map(|span| span.end).max().expect("a thread");
        Pass {
            wall: end - start,
            calls: spans.iter().map(|span| span.calls).sum(),
            absent: spans.iter().map(|span| span.absent).sum(),
        }
    }

    fn on_threads(&self, runtime: &Runtime, walks: Vec<Walk>) -> Vec<Span> {
        let barrier = Barrier::new(self.threads);
        thread::scope(|scope| {
            let start = |(thread, walk)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let _context = runtime.enter();
                    cores::pin(thread);
                    barrier.wait();
                    block_on(self.calls(walk))
                })
            };
            let threads: Vec<_> = walks.into_iter().enumerate().map(start).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|span| span.expect("no panic in a peer")).collect()
        })
    }

    fn in_tasks(self: &Arc<Self>, runtime: &Runtime, walks: Vec<Walk>) -> Vec<Span> {
        let start = |walk| {
            let crew = Arc::clone(self);
            runtime.spawn(async move { crew.calls(walk).await })
        };
        let tasks: Vec<_> = walks.into_iter().map(start).collect();
        let joined = tasks.into_iter().map(|task| runtime.block_on(task));
        joined.map(|span| span.expect("no panic in a peer")).collect()
    }

    async fn calls(&self, walk: Walk) -> Span {
        let mut absent = 0;
        let start = Instant::now();
        for keys in self.sequence.runs(walk) {
            match self.call {
                Call::Get => {
                    for key in keys {
                        let found = black_box(self.cache.get(black_box(key)).await);
                        absent += u64::from(found.is_none());
                    }
                }
                Call::GetOrInsert => {
                    for key in keys {
                        black_box(self.cache.get_or_insert(black_box(key)).await);
                    }
                }
            }
        }
        Span { start, end: Instant::now(), calls: walk.steps(), absent }
    }
}

/// For the callers of peers that are at home there, and for what the others do in the background.
pub(crate) fn runtime(home: Home, threads: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all();
    if home == Home::Tokio {
        let started = AtomicUsize::new(0);
        builder
            .worker_threads(threads)
            .on_thread_start(move || cores::pin(started.fetch_add(1, Ordering::Relaxed)));
    }
    builder.build().expect("a runtime")
}
