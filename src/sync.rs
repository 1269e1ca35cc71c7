//! The locks and atomics that the cache is built of: those of `std`, and a lock that is only ever
//! tried.
//!
//! Built with `--cfg async_lru_shuttle` they are those of shuttle, which runs one thread at a time and
//! chooses at every one of them who goes on (`proof/tests/interleavings`); with `--cfg async_lru_loom`
//! those of loom, which tries all choices (`proof/tests/loom`). What is neither locked nor counted on
//! for order stays that of `std`.

#[cfg(async_lru_loom)]
pub(crate) use self::modelled::*;
#[cfg(not(any(async_lru_shuttle, async_lru_loom)))]
pub(crate) use self::real::*;
#[cfg(async_lru_shuttle)]
pub(crate) use self::scheduled::*;

#[cfg(not(any(async_lru_shuttle, async_lru_loom)))]
mod real {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};
    pub(crate) use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    pub(crate) use try_lock::{Locked, TryLock};
}

#[cfg(async_lru_shuttle)]
mod scheduled {
    pub(crate) use std::sync::OnceLock;

    pub(crate) use super::tried::{Locked, TryLock};
    pub(crate) use shuttle::hint::spin_loop;
    pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use shuttle::thread::yield_now;
    pub(crate) use shuttle::thread_local;
}

#[cfg(async_lru_loom)]
mod modelled {
    use std::sync::{LockResult, TryLockResult};

    use loom::sync::atomic::{AtomicBool, Ordering};

    pub(crate) use super::tried::{Locked, TryLock};
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
    pub(crate) use loom::sync::{MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use loom::thread::yield_now;

    /// Loom's, with a default.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.0.lock()
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            self.0.try_lock()
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// That of `std`, and for loom to know of, the order between who sets it and who sees it set.
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false) }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.is_set.load(Ordering::Acquire).then(|| self.value.get()).flatten()
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if self.get().is_none() {
                // Fails if another thread was faster.
                let _ = self.set(make());
            }
            self.value.get().expect("set before")
        }
    }

    /// Loom's, for values that are constants.
    macro_rules! local {
        ($($(#[$attribute:meta])* static $name:ident: $type:ty = const { $initial:expr };)+) => {
            loom::thread_local! { $($(#[$attribute])* static $name: $type = $initial;)+ }
        };
    }
    pub(crate) use local as thread_local;
}

#[cfg(any(async_lru_shuttle, async_lru_loom))]
mod tried {
    use super::{Mutex, MutexGuard};

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
