//! The rows of the table.

use std::time::Duration;

use crate::peers::{About, FLOOR};
use crate::sequence::Order;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// As `--rows` names it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) question: Question,
}

/// What the cost of a row is counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Nanoseconds of wall time per call.
    Nanoseconds,
    /// Microseconds of wall time in all.
    Microseconds,
    Bytes,
}

/// How a row is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Calls(Calls),
    /// Many tasks ask for one key at once.
    Stampede,
    /// How much is allocated for an entry.
    Footprint(Types),
    /// How large the call's future is.
    FutureSize,
}

/// Calls that are timed by the hundred thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    pub(crate) call: Call,
    pub(crate) types: Types,
    pub(crate) loader: Loader,
    pub(crate) order: Order,
    pub(crate) keys: u64,
    pub(crate) capacity: usize,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Get,
    GetOrInsert,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Types {
    Numbers,
    Strings,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loader {
    AtOnce,
    Spin,
}

const HITS: Calls = Calls {
    call: Call::GetOrInsert,
    types: Types::Numbers,
    loader: Loader::AtOnce,
    order: Order::Zipf,
    keys: 10_000,
    capacity: 20_000,
    ttl: None,
};
const ZIPF: Calls = Calls { keys: 100_000, capacity: 10_000, ..HITS };
const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

const fn calls(name: &'static str, title: &'static str, calls: Calls) -> Row {
    Row { name, title, unit: Unit::Nanoseconds, question: Question::Calls(calls) }
}

const fn bytes(name: &'static str, title: &'static str, question: Question) -> Row {
    Row { name, title, unit: Unit::Bytes, question }
}

/// All rows, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    calls("get", "`get`, hit", Calls { call: Call::Get, ..HITS }),
    calls("get-or-insert", "`get_or_insert`, hit", HITS),
    calls("strings", "the same, `String`", Calls { types: Types::Strings, ..HITS }),
    calls(
        "uniform",
        "uniform hits, 1 M entries",
        Calls { order: Order::Uniform, keys: 1_000_000, capacity: 1_200_000, ..HITS },
    ),
    calls("zipf", "zipf over 10 x capacity", ZIPF),
    calls("zipf-strings", "the same, `String`", Calls { types: Types::Strings, ..ZIPF }),
    calls("new", "every key new", Calls { order: Order::Cycle, keys: 1_200_000, ..ZIPF }),
    calls("ttl", "`get_or_insert`, hit, ttl", Calls { ttl: HOUR, ..HITS }),
    calls("zipf-ttl", "zipf over 10 x capacity, ttl", Calls { ttl: HOUR, ..ZIPF }),
    calls("few-misses", "zipf, 1 to 2 % misses", Calls { capacity: 9_000, ..HITS }),
    calls("loader", "zipf, loader of 20 us", Calls { loader: Loader::Spin, ..ZIPF }),
    Row {
        name: "stampede",
        title: "stampede of 256 tasks, us",
        unit: Unit::Microseconds,
        question: Question::Stampede,
    },
    bytes("bytes", "bytes per entry, `u64`", Question::Footprint(Types::Numbers)),
    bytes("bytes-strings", "bytes per entry, `String`", Question::Footprint(Types::Strings)),
    bytes("future", "bytes of the future", Question::FutureSize),
];

impl Row {
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self.question, Question::Calls(_) | Question::Stampede)
    }

    /// Whether the loads that a peer took are worth a line of their own.
    pub(crate) fn shows_loads(&self) -> bool {
        match self.question {
            Question::Calls(calls) => calls.evicts() && !matches!(calls.order, Order::Cycle),
            Question::Stampede => true,
            Question::Footprint(_) | Question::FutureSize => false,
        }
    }

    /// The floor never evicts, nor has it a time to live or anything else of a cache.
    pub(crate) fn suits(&self, peer: &About) -> bool {
        let plain = matches!(self.question, Question::Calls(calls) if !calls.evicts() && calls.ttl.is_none());
        plain || peer.name != FLOOR
    }
}

impl Calls {
    /// Whether every call should find its key.
    pub(crate) fn hits(&self) -> bool {
        !self.evicts()
    }

    fn evicts(&self) -> bool {
        self.keys > self.capacity as u64
    }
}
