//! The locks and atomics that the cache is built of: those of `std`, and a lock that is only ever
//! tried.
//!
//! Built with `--cfg async_lru_shuttle` they are those of shuttle, which runs one thread at a time and
//! chooses at every one of them who goes on (`proof/tests/interleavings`); with `--cfg async_lru_loom`
//! those of loom, which tries all choices (`proof/tests/loom`). What is neither locked nor counted on
//! for order stays that of `std`.

pub(crate) mod counters;
pub(crate) mod desk;
pub(crate) mod notify;
#[cfg_attr(any(async_lru_shuttle, async_lru_loom), path = "sync/threads/scheduled.rs")]
pub(crate) mod threads;
pub(crate) mod unwind;

#[cfg(async_lru_loom)]
pub(crate) use self::modelled::*;
#[cfg(not(any(async_lru_shuttle, async_lru_loom)))]
pub(crate) use self::real::*;
#[cfg(async_lru_shuttle)]
pub(crate) use self::scheduled::*;

#[cfg(not(any(async_lru_shuttle, async_lru_loom)))]
mod real {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    pub(crate) use try_lock::{Locked, TryLock};
}

#[cfg(async_lru_shuttle)]
mod scheduled {
    pub(crate) use std::sync::OnceLock;

    pub(crate) use shuttle::hint::spin_loop;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
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

#[cfg(async_lru_loom)]
mod modelled {
    use std::ops::{Deref, DerefMut};
    use std::sync::LockResult;

    use loom::sync::atomic::{self, Ordering};

    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
    pub(crate) use loom::sync::{Condvar, MutexGuard};
    pub(crate) use loom::thread::yield_now;

    /// Loom's, with a count of its uses. Of several threads that have loaded it loom knows only the last,
    /// and would not try to have another thread store before the others; all uses of the count it
    /// knows. The count puts no order on what is loaded and stored.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicU64 {
        value: atomic::AtomicU64,
        uses: atomic::AtomicU64,
    }

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self { value: atomic::AtomicU64::new(value), uses: atomic::AtomicU64::new(0) }
        }

        fn used(&self) -> &atomic::AtomicU64 {
            self.uses.fetch_add(1, Ordering::Relaxed);
            &self.value
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.used().load(order)
        }

        pub(crate) fn store(&self, value: u64, order: Ordering) {
            self.used().store(value, order);
        }

        pub(crate) fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.used().compare_exchange(current, new, success, failure)
        }

        pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.used().fetch_add(value, order)
        }

        pub(crate) fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
            self.used().fetch_sub(value, order)
        }

        pub(crate) fn fetch_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            update: impl FnMut(u64) -> Option<u64>,
        ) -> Result<u64, u64> {
            self.used().fetch_update(set, fetch, update)
        }

        pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
            self.used().fetch_max(value, order)
        }

        pub(crate) fn fetch_min(&self, value: u64, order: Ordering) -> u64 {
            self.used().fetch_min(value, order)
        }
    }

    /// Loom's, with a default.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.0.lock()
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

    /// One that shows loom the end of its use, as the locks of its own do not: only so does it try what
    /// finds it in use.
    pub(crate) struct TryLock<T> {
        value: std::sync::Mutex<T>,
        is_locked: AtomicBool,
    }

    impl<T> TryLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { value: std::sync::Mutex::new(value), is_locked: AtomicBool::new(false) }
        }

        pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
            // Read first, for loom lets only a load see in the end what another thread has stored.
            if self.is_locked.load(Ordering::Relaxed) {
                return None;
            }
            let free =
                self.is_locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            free.ok()?;
            let value = self.value.try_lock().expect("nobody else has it");
            Some(Locked { value: Some(value), is_locked: &self.is_locked })
        }
    }

    pub(crate) struct Locked<'a, T> {
        /// `None` once it is let go.
        value: Option<std::sync::MutexGuard<'a, T>>,
        is_locked: &'a AtomicBool,
    }

    impl<T> Deref for Locked<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.value.as_ref().expect("still locked")
        }
    }

    impl<T> DerefMut for Locked<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.value.as_mut().expect("still locked")
        }
    }

    impl<T> Drop for Locked<'_, T> {
        fn drop(&mut self) {
            self.value = None;
            self.is_locked.store(false, Ordering::Release);
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
