//! Numbers for threads, small enough to index by.
//!
//! A number belongs to one living thread and goes back to the pool when the thread ends; the mutex of
//! the pool orders all that one owner did before what the next one does.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::sync::thread_local;

/// How many threads at a time have a number of their own, from zero.
pub(crate) const NUMBERS: usize = 64;

/// The number of every thread beyond those.
const SHARED: usize = NUMBERS;
const UNASSIGNED: usize = usize::MAX;

/// The numbers that no living thread has.
static FREE_NUMBERS: Mutex<Option<Vec<usize>>> = Mutex::new(None);

thread_local! {
    /// Has no destructor, so that it can be read at any time, by other destructors too.
    static NUMBER: Cell<usize> = const { Cell::new(UNASSIGNED) };
    static RETURN_NUMBER: ReturnNumber = const { ReturnNumber };
}

/// Puts the thread's number back when the thread ends.
struct ReturnNumber;

impl Drop for ReturnNumber {
    fn drop(&mut self) {
        let number = NUMBER.with(|own| own.replace(SHARED));
        if number < NUMBERS {
            let mut free = FREE_NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
            free.get_or_insert_default().push(number);
        }
    }
}

/// The number of the current thread: below [`NUMBERS`] if it has one of its own.
#[inline]
pub(crate) fn number() -> usize {
    match NUMBER.with(Cell::get) {
        UNASSIGNED => assign_number(),
        number => number,
    }
}

#[cold]
fn assign_number() -> usize {
    // Touched first, to have its destructor registered; a thread already past it owns nothing.
    let number = if RETURN_NUMBER.try_with(|_| ()).is_ok() {
        let mut free = FREE_NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        free.get_or_insert_with(|| (0..NUMBERS).rev().collect()).pop().unwrap_or(SHARED)
    } else {
        SHARED
    };
    NUMBER.with(|own| own.set(number));
    number
}
