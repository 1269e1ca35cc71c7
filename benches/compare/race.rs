//! One peer in one row: how its callers run and are timed.

use std::future::Future;
use std::hint::black_box;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::{Arc, Barrier, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tokio::runtime::Runtime;

use crate::alloc;
use crate::peers::{
    About, Cached, Config, Fibre, Floor, Foyer, HashlinkLru, Home, Moka, Ours, Peer, QuickCache,
    Scc, Stretto, TinyUfo, TokioLru,
};
use crate::workload::Workload;

/// How many tasks of a stampede ask for one key.
const STAMPEDE: usize = 256;

/// How long a cache may be filled to weigh it. One that is full and needs more for its insertions
/// (stretto at 100 k entries: a third of a millisecond each) weighs no less for having seen fewer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which call is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Get,
    GetOrInsert,
}

/// Who calls, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Each starts with its own share of the keys, which repeat when they are at an end.
    pub(crate) threads: usize,
    /// Of each thread.
    pub(crate) operations: u64,
}

/// What a round took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lap {
    pub(crate) wall: Duration,
    /// `get`s that found nothing.
    pub(crate) absent: u64,
}

/// One peer of any type.
pub(crate) trait Contestant<W: Workload> {
    fn about(&self) -> About;
    fn build(&self, config: Config) -> Box<dyn Racer<W>>;
    /// Wall time of one key's stampede, best of `rounds`.
    fn stampede(&self, rounds: u64) -> Duration;
    /// Bytes allocated, and entries held.
    fn footprint(&self, capacity: u64, insertions: u64) -> (i64, usize);
}

/// A cache that was built for a row.
pub(crate) trait Racer<W: Workload> {
    /// Inserts keys and waits until they are there.
    fn fill(&self, keys: &[W::Key]);
    /// Asks for `keys` from position `first` on.
    fn round(&self, call: Call, keys: &Arc<[W::Key]>, first: usize, crowd: Crowd) -> Lap;
    /// The entries held, counted by asking for all `candidates` if there is no other way.
    fn entries(&self, candidates: &dyn Fn() -> Vec<W::Key>) -> usize;
}

/// All peers, in the order of the table.
pub(crate) fn contestants<W: Workload>() -> Vec<Box<dyn Contestant<W>>> {
    vec![
        Box::new(Entry::<Ours<W>>(PhantomData)),
        Box::new(Entry::<QuickCache<W>>(PhantomData)),
        Box::new(Entry::<Moka<W>>(PhantomData)),
        Box::new(Entry::<Scc<W>>(PhantomData)),
        Box::new(Entry::<TinyUfo<W>>(PhantomData)),
        Box::new(Entry::<Fibre<W>>(PhantomData)),
        Box::new(Entry::<Stretto<W>>(PhantomData)),
        Box::new(Entry::<Foyer<W>>(PhantomData)),
        Box::new(Entry::<Cached<W>>(PhantomData)),
        Box::new(Entry::<TokioLru<W>>(PhantomData)),
        Box::new(Entry::<HashlinkLru<W>>(PhantomData)),
        Box::new(Entry::<Floor<W>>(PhantomData)),
    ]
}

/// A peer's type as a value.
struct Entry<P>(PhantomData<P>);

impl<W: Workload, P: Peer<W>> Contestant<W> for Entry<P> {
    fn about(&self) -> About {
        P::ABOUT
    }

    fn build(&self, config: Config) -> Box<dyn Racer<W>> {
        let _context = runtime().enter();
        Box::new(Built(Arc::new(P::build(config))))
    }

    fn stampede(&self, rounds: u64) -> Duration {
        let config = Config { capacity: 1024, ttl: None };
        match P::ABOUT.home {
            Home::Threads => {
                let _context = runtime().enter();
                let peer = P::build(config);
                best(rounds, |number| {
                    let key = W::key(number);
                    let executor = smol::LocalExecutor::new();
                    let start = Instant::now();
                    let ask =
                        |_| executor.spawn(async { black_box(peer.get_or_insert(&key).await) });
                    let tasks: Vec<_> = (0..STAMPEDE).map(ask).collect();
                    block_on(executor.run(async {
                        for task in tasks {
                            task.await;
                        }
                    }));
                    start.elapsed()
                })
            }
            Home::Tokio => {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                let runtime = runtime.expect("a runtime on this thread");
                let _context = runtime.enter();
                let peer = Arc::new(P::build(config));
                best(rounds, |number| {
                    let start = Instant::now();
                    runtime.block_on(async {
                        let ask = |_| {
                            let (peer, key) = (Arc::clone(&peer), W::key(number));
                            tokio::spawn(async move { black_box(peer.get_or_insert(&key).await) })
                        };
                        let tasks: Vec<_> = (0..STAMPEDE).map(ask).collect();
                        for task in tasks {
                            task.await.expect("no panic in a peer");
                        }
                    });
                    start.elapsed()
                })
            }
        }
    }

    fn footprint(&self, capacity: u64, insertions: u64) -> (i64, usize) {
        let _context = runtime().enter();
        let (built, bytes) = alloc::counted(|| {
            let built =
                Built(Arc::new(P::build(Config { capacity: capacity as usize, ttl: None })));
            let start = Instant::now();
            for number in 0..insertions {
                let key = W::key(number);
                let value = W::value(&key);
                complete(built.0.insert(key, value));
                if number % 1000 == 999 {
                    complete(built.0.settle());
                    if start.elapsed() > PATIENCE {
                        break;
                    }
                }
            }
            complete(built.0.settle());
            built
        });
        let candidates = || (0..insertions).map(W::key).collect();
        (bytes, built.entries(&candidates))
    }
}

fn best(rounds: u64, round: impl FnMut(u64) -> Duration) -> Duration {
    (0..rounds).map(round).min().expect("at least one round")
}

/// A peer that is shared with the callers of a round.
struct Built<P>(Arc<P>);

impl<W: Workload, P: Peer<W>> Racer<W> for Built<P> {
    fn fill(&self, keys: &[W::Key]) {
        let _context = runtime().enter();
        for key in keys {
            complete(self.0.insert(key.clone(), W::value(key)));
        }
        complete(self.0.settle());
    }

    fn round(&self, call: Call, keys: &Arc<[W::Key]>, first: usize, crowd: Crowd) -> Lap {
        let Crowd { threads, operations } = crowd;
        let first_of = |number| (first + number * (keys.len() / threads)) % keys.len();
        let laps: Vec<_> = match P::ABOUT.home {
            Home::Threads if threads == 1 => {
                let _context = runtime().enter();
                vec![calls::<W, P>(&self.0, call, keys, first, operations)]
            }
            Home::Threads => {
                let barrier = Barrier::new(threads);
                let caller = |number| {
                    let (peer, barrier, first) = (&*self.0, &barrier, first_of(number));
                    move || {
                        let _context = runtime().enter();
                        barrier.wait();
                        calls::<W, P>(peer, call, keys, first, operations)
                    }
                };
                thread::scope(|scope| {
                    let callers: Vec<_> =
                        (0..threads).map(|number| scope.spawn(caller(number))).collect();
                    let joined = callers.into_iter().map(|caller| caller.join());
                    joined.map(|lap| lap.expect("no panic in a peer")).collect()
                })
            }
            Home::Tokio => {
                let caller = |number| {
                    let (peer, keys) = (Arc::clone(&self.0), Arc::clone(keys));
                    let first = first_of(number);
                    runtime().spawn(async move {
                        calls_in_task::<W, P>(&peer, call, &keys, first, operations).await
                    })
                };
                let callers: Vec<_> = (0..threads).map(caller).collect();
                let joined = callers.into_iter().map(|caller| runtime().block_on(caller));
                joined.map(|lap| lap.expect("no panic in a peer")).collect()
            }
        };
        let start = laps.iter().map(|lap| lap.start).min().expect("a caller");
        let end = laps.iter().map(|lap| lap.end).max().expect("a caller");
        Lap { wall: end - start, absent: laps.iter().map(|lap| lap.absent).sum() }
    }

    fn entries(&self, candidates: &dyn Fn() -> Vec<W::Key>) -> usize {
        let _context = runtime().enter();
        complete(self.0.settle());
        let held = |key: &&W::Key| complete(self.0.get(key)).is_some();
        self.0.len().unwrap_or_else(|| candidates().iter().filter(held).count())
    }
}

/// What one caller saw.
struct OwnLap {
    start: Instant,
    end: Instant,
    absent: u64,
}

/// Calls from a thread, each polled where it is made.
fn calls<W: Workload, P: Peer<W>>(
    peer: &P,
    call: Call,
    keys: &[W::Key],
    first: usize,
    operations: u64,
) -> OwnLap {
    let order = keys[first..].iter().chain(keys.iter().cycle()).take(operations as usize);
    let mut absent = 0;
    let start = Instant::now();
    match call {
        Call::Get => order.for_each(|key| {
            absent += u64::from(black_box(complete(peer.get(black_box(key)))).is_none());
        }),
        Call::GetOrInsert => order.for_each(|key| {
            black_box(complete(peer.get_or_insert(black_box(key))));
        }),
    }
    OwnLap { start, end: Instant::now(), absent }
}

/// The same from a task.
async fn calls_in_task<W: Workload, P: Peer<W>>(
    peer: &P,
    call: Call,
    keys: &[W::Key],
    first: usize,
    operations: u64,
) -> OwnLap {
    let order = keys[first..].iter().chain(keys.iter().cycle()).take(operations as usize);
    let mut absent = 0;
    let start = Instant::now();
    match call {
        Call::Get => {
            for key in order {
                absent += u64::from(black_box(peer.get(black_box(key)).await).is_none());
            }
        }
        Call::GetOrInsert => {
            for key in order {
                black_box(peer.get_or_insert(black_box(key)).await);
            }
        }
    }
    OwnLap { start, end: Instant::now(), absent }
}

/// Runs a future that is nearly always ready at once: an executor's bookkeeping would cost more than
/// what is measured.
#[inline(always)]
fn complete<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => wait(future),
    }
}

#[cold]
#[inline(never)]
fn wait<T>(future: Pin<&mut impl Future<Output = T>>) -> T {
    block_on(future)
}

/// For the peers that spawn.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let builder = &mut tokio::runtime::Builder::new_multi_thread();
        builder.enable_all().build().expect("a runtime")
    })
}
