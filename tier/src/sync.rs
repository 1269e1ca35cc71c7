//! The lock that the rest is built of.
//!
//! Built with `--cfg async_lru_shuttle` it is that of shuttle, which runs one thread at a time and chooses
//! at every lock who goes on.

use std::fmt;
use std::sync::PoisonError;

#[cfg(not(async_lru_shuttle))]
use std::sync as system;

#[cfg(async_lru_shuttle)]
use shuttle::sync as system;

pub(crate) use system::MutexGuard;

/// A lock that a panic of its holder leaves usable: nobody else's code runs under one.
#[derive(Default)]
pub(crate) struct Mutex<T>(system::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(system::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}
