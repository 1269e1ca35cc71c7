//! Numbers for threads that shuttle schedules: those that it gives them itself, so that a schedule
//! which is replayed meets the same ones.

use shuttle::current::me;

/// How many threads at a time have a number of their own, from zero.
pub(crate) const NUMBERS: usize = 64;

/// The number of the current thread: below [`NUMBERS`] if it has one of its own.
pub(crate) fn number() -> usize {
    usize::from(me()).min(NUMBERS)
}
