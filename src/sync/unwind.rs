//! Keeps a panic of the user's code from a place that must not unwind.

use std::panic::{self, AssertUnwindSafe};

/// Runs it; `None` if it panics, of which the panic hook has told.
pub(crate) fn caught<R>(run: impl FnOnce() -> R) -> Option<R> {
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // Its own `Drop` may panic, where a second panic would abort the process.
            std::mem::forget(payload);
            None
        }
    }
}
