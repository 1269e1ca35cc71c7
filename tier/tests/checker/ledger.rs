//! What was written, and what each instance must know of it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// A message on loopback takes less.
const LATENCY: Duration = Duration::from_millis(50);

/// The source that all instances load from, with a version of each key, and the acknowledgements of its
/// writes.
///
/// No time decides what a read must see: clocks and schedulers would. An instance must see what was
/// acknowledged to itself; and of others what was acknowledged before a message was sent that it has done,
/// as [`heard`](Self::heard) tells.
pub(crate) struct Ledger {
    rows: Vec<Row>,
    /// By instance and key the least version that its reads may give.
    due: Vec<Vec<AtomicU64>>,
    pub(crate) tally: Tally,
}

/// What was counted.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    /// Writes that no instance may have missed.
    pub(crate) acknowledged: AtomicU64,
    /// Messages of which it is known that an instance has done them.
    pub(crate) heard: AtomicU64,
    /// Reads that gave what they must not.
    pub(crate) stale: AtomicU64,
    /// Reads that were older than a write that was acknowledged so long before that its message should
    /// have come. By the clock: a figure, and nothing to assert.
    pub(crate) late: AtomicU64,
}

struct Row {
    version: AtomicU64,
    /// The newest version that was acknowledged for all instances.
    acknowledged: AtomicU64,
    recent: Mutex<Recent>,
    /// Held by writers that need an order among them.
    pub(crate) writer: tokio::sync::Mutex<()>,
}

/// Acknowledgements by the clock.
#[derive(Default)]
struct Recent {
    waiting: VecDeque<(Instant, u64)>,
    /// The newest version whose message should have come.
    old: u64,
}

/// A read, from before it begins.
pub(crate) struct Read<'a> {
    ledger: &'a Ledger,
    instance: usize,
    key: usize,
    due: u64,
    due_by_the_clock: u64,
}

/// What was acknowledged at a time, by key.
pub(crate) struct Snapshot(Vec<u64>);

impl Ledger {
    pub(crate) fn new(instances: usize, keys: usize) -> Self {
        let row = || Row {
            version: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            recent: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
        };
        let due = || (0..keys).map(|_| AtomicU64::new(0)).collect();
        Self {
            rows: (0..keys).map(|_| row()).collect(),
            due: (0..instances).map(|_| due()).collect(),
            tally: Tally::default(),
        }
    }

    /// Loads a key from the source, which takes a while before and after the row is read.
    pub(crate) async fn load(&self, key: usize) -> u64 {
        dawdle().await;
        let version = self.rows[key].version.load(Ordering::SeqCst);
        dawdle().await;
        version
    }

    /// Writes a key to the source; gives the new version.
    pub(crate) fn write(&self, key: usize) -> u64 {
        self.tally.writes.fetch_add(1, Ordering::Relaxed);
        self.rows[key].version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Keeps other writers of the key away that do so too.
    pub(crate) async fn lock(&self, key: usize) -> tokio::sync::MutexGuard<'_, ()> {
        self.rows[key].writer.lock().await
    }

    /// Takes note that a write is over at `instance`, and whether it was acknowledged for all.
    pub(crate) fn written<E>(
        &self,
        instance: usize,
        key: usize,
        version: u64,
        result: Result<(), E>,
    ) {
        self.due[instance][key].fetch_max(version, Ordering::SeqCst);
        if result.is_err() {
            return;
        }
        let row = &self.rows[key];
        row.acknowledged.fetch_max(version, Ordering::SeqCst);
        row.recent.lock().unwrap().waiting.push_back((Instant::now(), version));
        self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self) -> Snapshot {
        let version = |row: &Row| row.acknowledged.load(Ordering::SeqCst);
        Snapshot(self.rows.iter().map(version).collect())
    }

    /// Takes note that `instance` has done what was sent after `snapshot`, and so all that was sent before.
    pub(crate) fn heard(&self, instance: usize, snapshot: &Snapshot) {
        for (due, &version) in self.due[instance].iter().zip(&snapshot.0) {
            due.fetch_max(version, Ordering::SeqCst);
        }
        self.tally.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a read.
    pub(crate) fn read(&self, instance: usize, key: usize) -> Read<'_> {
        let due_by_the_clock = self.rows[key].recent.lock().unwrap().due();
        let due = self.due[instance][key].load(Ordering::SeqCst);
        Read { ledger: self, instance, key, due, due_by_the_clock }
    }
}

impl Recent {
    fn due(&mut self) -> u64 {
        let now = Instant::now();
        while self.waiting.front().is_some_and(|&(at, _)| at + LATENCY <= now) {
            let (_, version) = self.waiting.pop_front().unwrap();
            self.old = self.old.max(version);
        }
        self.old
    }
}

impl Read<'_> {
    /// Ends the read with what it gave.
    pub(crate) fn gave(self, version: u64) {
        let Self { ledger, instance, key, due, due_by_the_clock } = self;
        let tally = &ledger.tally;
        tally.reads.fetch_add(1, Ordering::Relaxed);
        if version < due_by_the_clock {
            tally.late.fetch_add(1, Ordering::Relaxed);
        }
        if version < due && tally.stale.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("the first: instance {instance}, key {key}: {version} instead of {due}");
        }
    }
}

/// Takes a little time, more or less.
pub(crate) async fn dawdle() {
    match fastrand::u8(..8) {
        0 => sleep(Duration::from_millis(fastrand::u64(1..4))).await,
        1..4 => tokio::task::yield_now().await,
        _ => {}
    }
}
