//! The locks and atomics that the cache is built of: those of `std`, and a lock that is only ever
//! tried.
//!
//! Built with `--cfg async_lru_shuttle` they are those of shuttle, which runs one thread at a time and
//! chooses at every one of them who goes on: `proof/tests/interleavings`. What is neither locked nor
//! counted on for order stays that of `std`.

#[cfg(not(async_lru_shuttle))]
pub(crate) use self::real::*;
#[cfg(async_lru_shuttle)]
pub(crate) use self::scheduled::*;

#[cfg(not(async_lru_shuttle))]
mod real {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    pub(crate) use try_lock::{Locked, TryLock};
}

#[cfg(async_lru_shuttle)]
mod scheduled {
    pub(crate) use shuttle::hint::spin_loop;
    pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use shuttle::thread::yield_now;
    pub(crate) use shuttle::thread_local;

    pub(crate) type Locked<'a, T> = MutexGuard<'a, T>;

    pub(crate) struct TryLock<T>(Mutex<T>);

    impl<T> TryLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}
