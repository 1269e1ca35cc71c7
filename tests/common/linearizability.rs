//! Whether a history of threads that use one key at once is *linearizable*.
//!
//! A counter gives every operation a number when it is called and one when it has returned. A history
//! is linearizable if the steps of its operations can be put in one order that the specification
//! allows, each step at a moment between the two numbers of its operation. The checker (after Wing and
//! Gong, 1993) searches for such an order, for each key by itself.
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
//!     its own, before the closure runs; then, after that, a step that ends it. If the load is still
//!     open, its value goes into the register; if it was fenced, the register stays as it is. Either
//!     way the call returns the load's value;
//!   - a *join*: a step that finds an open load, and a step after that load has ended, which returns
//!     its value, fenced meanwhile or not.
//!
//! So a value that a later write has won over reaches those who had joined its load, and nobody else.
//! No entry is evicted or expires, and no load fails, as neither happens here.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part")]

use std::collections::HashSet;

pub const THREADS: usize = 3;
pub const OPERATIONS: usize = 4;

/// What an operation does. The values are those that it would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    Insert(Value),
    Remove,
    GetOrInsert(Value),
}

/// A value, which tells who wrote it: the number of the operation counts through the threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value {
    pub round: u64,
    pub writer: usize,
}

impl Value {
    pub fn of(round: u64, thread: usize, number: usize) -> Self {
        Self { round, writer: thread * OPERATIONS + number }
    }

    pub fn thread(self) -> usize {
        self.writer / OPERATIONS
    }

    pub fn number(self) -> usize {
        self.writer % OPERATIONS
    }
}

/// Two numbers of the global counter, and what is between them.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub key: u64,
    pub call: Call,
    pub returned: Option<Value>,
    /// From the call to the return.
    pub time: Span,
    /// From the start of its load to the end, if its closure ran.
    pub load: Option<Span>,
}

/// What each thread did in one round.
pub type History = [[Operation; OPERATIONS]; THREADS];

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
pub fn is_linearizable(history: &History, key: u64) -> bool {
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

/// A history with a line for each operation, in the order of the calls.
pub fn show(history: &History) -> String {
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
pub fn joins(history: &History) -> usize {
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
