//! Histories of threads that use one key at once, each checked against a specification.
//!
//! Three threads do four operations each, as the machine lets them. What a history may be is said in
//! `common/linearizability.rs`. `proof/tests/interleavings` checks histories of schedules in the same way.

#[path = "common/linearizability.rs"]
mod linearizability;

use std::array;
use std::cell::Cell;
use std::hint;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, Eviction, ManualClock};
use futures_lite::future::{block_on, yield_now};
use linearizability::{
    Call, History, OPERATIONS, Operation, Span, THREADS, Value, is_linearizable, joins, show,
};

/// Histories of a run, unless `HISTORIES` in the environment says otherwise.
const HISTORIES: u64 = 40_000;

/// Histories made before they are checked.
const BATCH: u64 = 1_000;

// The histories.

/// The same scrambled numbers in each run.
fn scramble(n: u64) -> u64 {
    let mut bits = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ bits >> 32
}

const CACHES: usize = 5;

/// Caches whose writes go different ways. None evicts a key of the round that is being played: those
/// with one shard have more room, and the one with several, of which one may have come to be small, and
/// the one whose newest entry may leave have room for all keys of a batch.
fn caches() -> [AsyncLru<u64, Value>; CACHES] {
    let builder = || AsyncLru::builder().maxsize(16);
    [
        builder().build(),
        builder().maxsize(2 * BATCH as usize).shards(4).build(),
        builder().ttl(Duration::from_secs(1)).clock(ManualClock::new()).build(),
        builder().measure_with(|_, _| 1).build(),
        builder().maxsize(2 * BATCH as usize).eviction(Eviction::Adaptive).build(),
    ]
}

/// What the threads of a run share.
struct Track {
    caches: [AsyncLru<u64, Value>; CACHES],
    /// How often a thread has come to the start of a round.
    arrivals: AtomicUsize,
    time: AtomicU64,
}

impl Track {
    fn tick(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits until all threads are here. Awake, for they are to start at the same moment.
    fn line_up(&self) {
        let arrivals = self.arrivals.fetch_add(1, Ordering::SeqCst);
        let all = (arrivals / THREADS + 1) * THREADS;
        let mut spins = 0;
        while self.arrivals.load(Ordering::SeqCst) < all {
            spins += 1;
            if spins < 200 { hint::spin_loop() } else { thread::yield_now() }
        }
    }

    /// What `thread` does in a round.
    fn play(&self, round: u64, thread: usize) -> [Operation; OPERATIONS] {
        self.line_up();
        array::from_fn(|number| {
            let value = Value::of(round, thread, number);
            let random = scramble(round << 4 | value.writer as u64);
            // One key in half of the rounds, two in the others; none that was used before.
            let key = round * 2 + (random >> 8 & round & 1);
            let call = match random % 10 {
                0..2 => Call::Get,
                2..4 => Call::Insert(value),
                4..6 => Call::Remove,
                _ => Call::GetOrInsert(value),
            };
            self.perform(&self.caches[round as usize / 2 % CACHES], key, call, random >> 16 & 3)
        })
    }

    fn perform(
        &self,
        cache: &AsyncLru<u64, Value>,
        key: u64,
        call: Call,
        yields: u64,
    ) -> Operation {
        let load = Cell::new(None);
        let from = self.tick();
        let returned = match call {
            Call::Get => cache.get(&key),
            Call::Insert(value) => cache.insert_blocking(key, value),
            Call::Remove => cache.remove_blocking(&key),
            Call::GetOrInsert(value) => Some(block_on(cache.get_or_insert_with(key, async || {
                let from = self.tick();
                for _ in 0..yields {
                    thread::yield_now();
                    yield_now().await;
                }
                load.set(Some(Span { from, to: self.tick() }));
                value
            }))),
        };
        let time = Span { from, to: self.tick() };
        Operation { key, call, returned, time, load: load.get() }
    }

    /// The histories of some rounds.
    fn histories(&self, rounds: Range<u64>) -> Vec<History> {
        let play = |thread| {
            let rounds = rounds.clone();
            move || rounds.map(|round| self.play(round, thread)).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let players: [_; THREADS] = array::from_fn(|thread| scope.spawn(play(thread)));
            let mut played = players.map(|player| player.join().unwrap().into_iter());
            rounds
                .clone()
                .map(|_| array::from_fn(|thread| played[thread].next().unwrap()))
                .collect()
        })
    }
}

#[test]
fn every_history_of_three_threads_is_linearizable_for_each_key() {
    let wanted = std::env::var("HISTORIES").map_or(HISTORIES, |number| number.parse().unwrap());
    let track = Track { caches: caches(), arrivals: AtomicUsize::new(0), time: AtomicU64::new(0) };
    let mut joined = 0;
    for first in (0..wanted).step_by(BATCH as usize) {
        let rounds = first..wanted.min(first + BATCH);
        for (round, history) in rounds.clone().zip(track.histories(rounds)) {
            for key in [round * 2, round * 2 + 1] {
                assert!(is_linearizable(&history, key), "key {key} of:\n{}", show(&history));
            }
            joined += joins(&history);
        }
        for cache in &track.caches {
            assert_eq!(cache.validate(), 0, "a load is left");
        }
        for roomy in [1, 4] {
            track.caches[roomy].clear_blocking();
        }
    }
    println!("histories checked: {wanted} ({joined} joined loads)");
    assert!(joined > 0, "the threads never met");
}

// What the checker accepts and refuses.

/// One operation on key 0: its thread, what it was and returned, and when it was called and returned.
type Sketch = (usize, Call, Option<Value>, RangeInclusive<u64>);

/// The history of a few operations. What is left of it are calls on another key. A load that was made
/// takes up all the time of its call.
fn history(sketch: &[Sketch]) -> History {
    let idle = |number: usize| {
        let time = Span { from: 1_000 + number as u64, to: 1_000 + number as u64 };
        Operation { key: 9, call: Call::Get, returned: None, time, load: None }
    };
    let mut history: History = array::from_fn(|_| array::from_fn(idle));
    let mut used = [0; THREADS];
    for (thread, call, returned, time) in sketch {
        let (thread, call, returned) = (*thread, *call, *returned);
        let time = Span { from: 10 * time.start(), to: 10 * time.end() };
        let is_load = matches!(call, Call::GetOrInsert(own) if returned == Some(own));
        let load = is_load.then(|| Span { from: time.from + 1, to: time.to - 1 });
        history[thread][used[thread]] = Operation { key: 0, call, returned, time, load };
        used[thread] += 1;
    }
    history
}

#[test]
fn the_checker_accepts_what_the_specification_allows() {
    let [a, b] = [0, 1].map(|thread| Value::of(0, thread, 0));
    let sketches: [&[Sketch]; 5] = [
        // A read between the call and the return of an insertion sees it or does not.
        &[(0, Call::Insert(a), None, 0..=5), (1, Call::Get, Some(a), 1..=2)],
        &[(0, Call::Insert(a), None, 0..=5), (1, Call::Get, None, 1..=2)],
        // A load that was joined and then fenced: its value reaches both and stays out.
        &[
            (0, Call::GetOrInsert(a), Some(a), 0..=10),
            (1, Call::GetOrInsert(b), Some(a), 1..=12),
            (2, Call::Remove, None, 5..=6),
            (2, Call::Get, None, 13..=14),
        ],
        // After the fence, a load of one's own.
        &[
            (0, Call::GetOrInsert(a), Some(a), 0..=10),
            (2, Call::Remove, None, 2..=3),
            (1, Call::GetOrInsert(b), Some(b), 5..=8),
            (2, Call::Get, Some(b), 13..=14),
        ],
        // A hit on what a load may have published, before its call returns.
        &[
            (0, Call::GetOrInsert(a), Some(a), 0..=10),
            (1, Call::Get, Some(a), 2..=11),
            (2, Call::Remove, Some(a), 4..=12),
        ],
    ];
    for sketch in sketches {
        assert!(is_linearizable(&history(sketch), 0), "{sketch:#?}");
    }
}

#[test]
fn the_checker_refuses_what_the_specification_forbids() {
    let [a, b] = [0, 1].map(|thread| Value::of(0, thread, 0));
    let sketches: [(&str, &[Sketch]); 9] = [
        (
            "a read of what was removed before",
            &[
                (0, Call::Insert(a), None, 0..=1),
                (1, Call::Remove, Some(a), 2..=3),
                (2, Call::Get, Some(a), 4..=5),
            ],
        ),
        (
            "an insertion that is lost",
            &[(0, Call::Insert(a), None, 0..=1), (1, Call::Get, None, 2..=3)],
        ),
        (
            "two removals of one value",
            &[
                (0, Call::Insert(a), None, 0..=1),
                (1, Call::Remove, Some(a), 2..=6),
                (2, Call::Remove, Some(a), 3..=5),
            ],
        ),
        (
            "two loads open at once",
            &[(0, Call::GetOrInsert(a), Some(a), 0..=1), (1, Call::GetOrInsert(b), Some(b), 2..=3)],
        ),
        (
            "a fenced value that is cached",
            &[
                (0, Call::GetOrInsert(a), Some(a), 0..=10),
                (1, Call::GetOrInsert(b), Some(a), 1..=11),
                (2, Call::Insert(Value::of(0, 2, 0)), None, 5..=6),
                (2, Call::Get, Some(a), 12..=13),
            ],
        ),
        (
            "a removal that does not fence the load it has found",
            &[
                (0, Call::GetOrInsert(a), Some(a), 0..=10),
                (1, Call::Remove, None, 2..=3),
                (2, Call::Get, Some(a), 11..=12),
            ],
        ),
        (
            "a read of what is not loaded yet",
            &[(0, Call::GetOrInsert(a), Some(a), 0..=10), (1, Call::Get, Some(a), 2..=3)],
        ),
        (
            "a join after the fence",
            &[
                (2, Call::Get, None, 0..=1),
                (0, Call::GetOrInsert(a), Some(a), 2..=20),
                (2, Call::Insert(Value::of(0, 2, 1)), None, 5..=6),
                (1, Call::GetOrInsert(b), Some(a), 7..=21),
                (2, Call::Get, Some(Value::of(0, 2, 1)), 22..=23),
            ],
        ),
        (
            "an answer before the load has ended",
            &[
                (0, Call::GetOrInsert(a), Some(a), 0..=20),
                (1, Call::GetOrInsert(b), Some(a), 1..=2),
                (1, Call::Get, None, 3..=4),
                (2, Call::Get, Some(a), 21..=22),
            ],
        ),
    ];
    for (name, sketch) in sketches {
        assert!(!is_linearizable(&history(sketch), 0), "accepted {name}");
    }
}
