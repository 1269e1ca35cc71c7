//! Histories of threads that use one key at once, each checked against a specification.
//!
//! Three threads do four operations each. A global counter gives every operation a number when it is
//! called and one when it has returned. A history is *linearizable* if the steps of its operations
//! can be put in one order that the specification allows, each step at a moment between the two
//! numbers of its operation. The checker (after Wing and Gong, 1993) searches for such an order, for
//! each key by itself.
//!
//! # The specification of one key
//!
//! There is a *register*, which holds a value or none, and at most one *open load*. No value of one
//! history occurs twice, so a value tells who wrote it. What an operation does at one moment is one
//! step:
//!
//! - `get` returns what the register holds.
//! - `insert` puts its value into the register, returns what was there, and fences the open load:
//!   there is none afterwards.
//! - `remove` empties the register, returns what was there, and fences the open load.
//! - `get_or_insert` is one of three:
//!   - a *hit*: one step, which returns what the register holds;
//!   - a *load*, if its closure ran: a step that finds the register empty and no open load, and opens
//!     its own, before the closure runs; then, after that, a step that ends it. If the load is still open, its value goes into the register;
//!     if it was fenced, the register stays as it is. Either way the call returns the load's value;
//!   - a *join*: a step that finds an open load, and a step after that load has ended, which returns
//!     its value, fenced meanwhile or not.
//!
//! So a value that a later write has won over reaches those who had joined its load, and nobody else.
//! No entry is evicted or expires, and no load fails, as neither happens here.

use std::array;
use std::cell::Cell;
use std::collections::HashSet;
use std::hint;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use futures_lite::future::{block_on, yield_now};

const THREADS: usize = 3;
const OPERATIONS: usize = 4;

/// Histories of a run, unless `HISTORIES` in the environment says otherwise.
const HISTORIES: u64 = 40_000;

/// Histories made before they are checked.
const BATCH: u64 = 1_000;

/// What an operation does. The values are those that it would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Get,
    Insert(Value),
    Remove,
    GetOrInsert(Value),
}

/// A value, which tells who wrote it: the number of the operation counts through the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Value {
    round: u64,
    writer: usize,
}

impl Value {
    fn of(round: u64, thread: usize, number: usize) -> Self {
        Self { round, writer: thread * OPERATIONS + number }
    }

    fn thread(self) -> usize {
        self.writer / OPERATIONS
    }

    fn number(self) -> usize {
        self.writer % OPERATIONS
    }
}

/// Two numbers of the global counter, and what is between them.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    to: u64,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    key: u64,
    call: Call,
    returned: Option<Value>,
    /// From the call to the return.
    time: Span,
    /// From the start of its load to the end, if its closure ran.
    load: Option<Span>,
}

/// What each thread did in one round.
type History = [[Operation; OPERATIONS]; THREADS];

// The checker.

/// What there is of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    register: Option<Value>,
    /// The value of the open load.
    open: Option<Value>,
}

/// How far a thread is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    /// Operations that are over, those on other keys included.
    done: usize,
    /// The load that the next operation leads or has joined.
    load: Option<Value>,
}

/// A point of the search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Point {
    entry: Entry,
    threads: [Progress; THREADS],
}

impl Point {
    fn with(mut self, thread: usize, entry: Entry, progress: Progress) -> Self {
        self.entry = entry;
        self.threads[thread] = progress;
        self
    }

    /// Skips what the threads do on other keys.
    fn skip_others(mut self, history: &History, key: u64) -> Self {
        for (progress, operations) in self.threads.iter_mut().zip(history) {
            while operations.get(progress.done).is_some_and(|operation| operation.key != key) {
                progress.done += 1;
            }
        }
        self
    }

    /// When the next step of an operation of `thread` is taken. A load was opened before its closure
    /// ran, and is ended after that.
    fn window(self, thread: usize, operation: &Operation) -> Span {
        let Operation { time, load, .. } = *operation;
        match (load, self.threads[thread].load) {
            (Some(load), None) => Span { to: load.from, ..time },
            (Some(load), Some(_)) => Span { from: load.to, ..time },
            (None, _) => time,
        }
    }

    /// The points that one step of the next operation of `thread` leads to.
    fn after(self, thread: usize, operation: &Operation) -> Vec<Self> {
        let Self { entry, threads } = self;
        let Progress { done, load } = threads[thread];
        let end = |entry| self.with(thread, entry, Progress { done: done + 1, load: None });
        let begin = |entry, load| self.with(thread, entry, Progress { done, load: Some(load) });
        let returns_register = operation.returned == entry.register;
        match (operation.call, load) {
            (Call::Get, _) if returns_register => vec![end(entry)],
            (Call::Insert(value), _) if returns_register => {
                vec![end(Entry { register: Some(value), open: None })]
            }
            (Call::Remove, _) if returns_register => vec![end(Entry::default())],
            (Call::GetOrInsert(own), None) if operation.load.is_some() => {
                let may_begin = entry == Entry::default();
                may_begin
                    .then(|| begin(Entry { open: Some(own), ..entry }, own))
                    .into_iter()
                    .collect()
            }
            (Call::GetOrInsert(own), Some(_)) if operation.load.is_some() => {
                let published = Entry { register: Some(own), open: None };
                let ended = if entry.open == Some(own) { published } else { entry };
                (operation.returned == Some(own)).then(|| end(ended)).into_iter().collect()
            }
            (Call::GetOrInsert(_), None) => {
                let is_hit = entry.register.is_some() && returns_register;
                let hit = is_hit.then(|| end(entry));
                let join = entry.open.map(|load| begin(entry, load));
                hit.into_iter().chain(join).collect()
            }
            (Call::GetOrInsert(_), Some(load)) => {
                let has_ended = threads[load.thread()].done > load.number();
                let is_answer = has_ended && operation.returned == Some(load);
                is_answer.then(|| end(entry)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Says whether what a history does to `key` is linearizable.
fn is_linearizable(history: &History, key: u64) -> bool {
    let mut points = vec![Point::default().skip_others(history, key)];
    let mut seen = HashSet::new();
    while let Some(point) = points.pop() {
        let next = |thread: usize| history[thread].get(point.threads[thread].done);
        let window = |thread| next(thread).map(|operation| point.window(thread, operation));
        let Some(first_end) = (0..THREADS).filter_map(window).map(|window| window.to).min() else {
            return true;
        };
        for thread in 0..THREADS {
            let Some(operation) = next(thread) else { continue };
            // What cannot begin before another step is over comes after that.
            if point.window(thread, operation).from >= first_end {
                continue;
            }
            let reached = point.after(thread, operation).into_iter();
            let reached = reached.map(|point| point.skip_others(history, key));
            points.extend(reached.filter(|point| seen.insert(*point)));
        }
    }
    false
}

// The histories.

/// The same scrambled numbers in each run.
fn scramble(n: u64) -> u64 {
    let mut bits = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ bits >> 32
}

/// Caches whose writes go different ways. None evicts a key of the round that is being played: those
/// with one shard have more room, and the one with several, of which one may have come to be small,
/// has room for all keys of a batch.
fn caches() -> [AsyncLru<u64, Value>; 4] {
    let builder = || AsyncLru::builder().maxsize(16);
    [
        builder().build(),
        builder().maxsize(2 * BATCH as usize).shards(4).build(),
        builder().ttl(Duration::from_secs(1)).clock(ManualClock::new()).build(),
        builder().measure_with(|_, _| 1).build(),
    ]
}

/// What the threads of a run share.
struct Track {
    caches: [AsyncLru<u64, Value>; 4],
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
            self.perform(&self.caches[round as usize / 2 % 4], key, call, random >> 16 & 3)
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

/// A history with a line for each operation, in the order of the calls.
fn show(history: &History) -> String {
    let mut lines: Vec<_> = (0..)
        .zip(history)
        .flat_map(|(thread, operations)| {
            operations.iter().map(move |operation| (thread, operation))
        })
        .map(|(thread, Operation { key, call, returned, time, load })| {
            let times = (time.from, load.map(|load| (load.from, load.to)), time.to);
            (time.from, format!("{times:?} thread {thread}, key {key}: {call:?} = {returned:?}\n"))
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// Calls that got the value of a load of another thread which ended after they were called.
fn joins(history: &History) -> usize {
    let all = || history.iter().flatten();
    let is_join = |operation: &&Operation| {
        let Call::GetOrInsert(own) = operation.call else { return false };
        operation.returned.is_some_and(|value| {
            let writer = &history[value.thread()][value.number()];
            value != own && writer.load.is_some() && writer.time.to > operation.time.from
        })
    };
    all().filter(is_join).count()
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
        track.caches[1].clear_blocking();
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
