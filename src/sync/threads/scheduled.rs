//! Numbers for threads that shuttle or loom runs, the same whenever a schedule is run again.

/// How many threads at a time have a number of their own, from zero.
pub(crate) const NUMBERS: usize = if cfg!(async_lru_loom) { 4 } else { 64 };

/// The number of the current thread: below [`NUMBERS`] if it has one of its own.
#[cfg(async_lru_shuttle)]
pub(crate) fn number() -> usize {
    usize::from(shuttle::current::me()).min(NUMBERS)
}

/// The number of the current thread: below [`NUMBERS`] if it has one of its own.
#[cfg(async_lru_loom)]
pub(crate) fn number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};

    loom::lazy_static! {
        /// The number of the thread that asks next. Loom makes it anew for each execution.
        static ref NEXT: AtomicUsize = AtomicUsize::new(0);
    }
    loom::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| (*number).min(NUMBERS))
}
