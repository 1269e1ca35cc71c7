//! A hit and a miss of the main call beside quick_cache and moka, interleaved round by round.
//!
//! `cargo bench --bench compare` prints nanoseconds per operation, best of the rounds, and ratios.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_lru::AsyncLru;

const RESIDENT: u64 = 10_000;
const OPERATIONS: u64 = 1_000_000;
const ROUNDS: usize = 7;

/// A cache under test, behind its single-flight async call.
trait Peer {
    fn load(&self, key: u64) -> impl Future<Output = u64>;
}

impl Peer for AsyncLru<u64, u64> {
    async fn load(&self, key: u64) -> u64 {
        self.get_or_insert_with(key, async || key).await
    }
}

impl Peer for quick_cache::sync::Cache<u64, u64> {
    async fn load(&self, key: u64) -> u64 {
        let loaded = self.get_or_insert_async(&key, async { Ok::<_, ()>(key) }).await;
        loaded.expect("the loader does not fail")
    }
}

impl Peer for moka::future::Cache<u64, u64> {
    async fn load(&self, key: u64) -> u64 {
        self.get_with(key, async { key }).await
    }
}

/// Runs a future that never has to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("an uncontended call had to wait"),
    }
}

/// What one round does.
#[derive(Clone, Copy)]
enum Row {
    /// Every key is there.
    Hit,
    /// Every key is new, and the cache full.
    Miss,
}

fn round(peer: &impl Peer, row: Row, round: usize) -> Duration {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ round as u64;
    let start = Instant::now();
    for operation in 0..OPERATIONS {
        // xorshift: cheap, and the same for all peers.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = match row {
            Row::Hit => random % (RESIDENT / 2),
            Row::Miss => (round as u64 + 2) * OPERATIONS + operation,
        };
        black_box(now(peer.load(black_box(key))));
    }
    start.elapsed()
}

fn main() {
    let ours = AsyncLru::new(RESIDENT as usize);
    let quick = quick_cache::sync::Cache::new(RESIDENT as usize);
    let moka = moka::future::Cache::new(RESIDENT);
    for (name, row) in [("hit", Row::Hit), ("miss", Row::Miss)] {
        let mut best = [Duration::MAX; 3];
        for number in 0..ROUNDS {
            best[0] = best[0].min(round(&ours, row, number));
            best[1] = best[1].min(round(&quick, row, number));
            best[2] = best[2].min(round(&moka, row, number));
        }
        let [ours, quick, moka] = best.map(|time| time.as_nanos() as f64 / OPERATIONS as f64);
        println!(
            "{name:>5}: ours {ours:6.1} ns   quick_cache {quick:6.1} ns   moka {moka:6.1} ns   \
             ours/quick_cache {:.2}   ours/moka {:.2}",
            ours / quick,
            ours / moka
        );
    }
    sizes();
}

/// The size of the main call's future, for a loader that holds 64 bytes.
fn sizes() {
    let load = |bytes: [u8; 64]| async move {
        black_box(&bytes);
        u64::from(bytes[0])
    };
    let ours = AsyncLru::<u64, u64>::new(1);
    let quick = quick_cache::sync::Cache::<u64, u64>::new(1);
    let moka = moka::future::Cache::<u64, u64>::new(1);
    let bytes = [1; 64];
    println!(
        "future: ours {} bytes   quick_cache {} bytes   moka {} bytes",
        size_of_val(&ours.get_or_insert_with(1, || load(bytes))),
        size_of_val(&quick.get_or_insert_async(&1, async { Ok::<_, ()>(load(bytes).await) })),
        size_of_val(&moka.get_with(1, load(bytes))),
    );
}
