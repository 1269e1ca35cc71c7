//! Reading what is seldom written without a write to memory that other threads use.
//!
//! A reader of an `RwLock` writes the lock's word, twice; with several readers its cache line goes from
//! core to core and costs more than all the rest of a hit. So what has not been written for a while is
//! moved into an `Arc`, and each thread that reads it keeps a share, a *pin*, in a place of its own: a
//! read then takes nothing but that place's lock, which nobody else wants. A writer takes all pins back
//! first, and is the only owner again.
//!
//! The idea is that of BRAVO (Dice and Kogan, "BRAVO: Biased Locking for Reader-Writer Locks", USENIX
//! ATC 2019); the `Arc` makes it safe code.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicU32, AtomicU64, Locked, OnceLock, TryLock, spin_loop, yield_now};
use crate::threads::NUMBERS;

/// A thread's share of one shard.
type Pin<T> = TryLock<Option<Arc<T>>>;

type PinsOfThread<T> = Box<[Pin<T>]>;

/// Unused pins before and after those of a thread, so that no other thread writes to their cache lines.
const PADDING: usize = 8;

/// The pins of all threads in all shards of a cache.
pub(crate) struct Pins<T> {
    /// By thread, then by shard; made when a thread first pins a shard.
    by_thread: [OnceLock<PinsOfThread<T>>; NUMBERS],
    shards: usize,
}

impl<T> Pins<T> {
    pub(crate) fn new(shards: usize) -> Self {
        Self { by_thread: std::array::from_fn(|_| OnceLock::new()), shards }
    }

    /// Where `thread` keeps its pin of the shard at `place`, if it has pinned any.
    #[inline]
    fn get(&self, thread: usize, place: usize) -> Option<&Pin<T>> {
        self.by_thread.get(thread)?.get()?.get(place)
    }

    /// Where `thread` keeps its pin of the shard at `place`.
    fn get_or_make(&self, thread: usize, place: usize) -> &Pin<T> {
        let places = PADDING + self.shards + PADDING;
        let make = || (0..places).map(|_| TryLock::new(None)).collect();
        &self.by_thread[thread].get_or_init(make)[place]
    }

    /// Bytes that the pins take on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        let pins = self.by_thread.iter().filter_map(OnceLock::get);
        pins.map(|pins| size_of_val(&**pins)).sum()
    }
}

/// A read of what the thread has pinned.
pub(crate) struct Pinned<'a, T>(Locked<'a, Option<Arc<T>>>);

impl<T> Deref for Pinned<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("looked at before")
    }
}

/// What is read by pins or, when it is written often, under its lock alone.
///
/// Has both places from the start, so that no read has to allocate one.
pub(crate) struct Pinnable<T> {
    /// Where it is while it is written; otherwise empty.
    owned: T,
    /// Where it is while it can be pinned; otherwise empty.
    shared: Arc<T>,
    is_shared: bool,
}

impl<T: Default> Default for Pinnable<T> {
    fn default() -> Self {
        Self { owned: T::default(), shared: Arc::default(), is_shared: false }
    }
}

impl<T> Pinnable<T> {
    /// A share of it, if it is where it can be shared.
    pub(crate) fn pin(&self) -> Option<Arc<T>> {
        self.is_shared.then(|| Arc::clone(&self.shared))
    }

    /// Moves it to where it can be shared.
    pub(crate) fn share(&mut self) {
        if !self.is_shared {
            self.change_places();
        }
    }

    /// What nobody has pinned any more.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        if self.is_shared {
            self.change_places();
        }
        &mut self.owned
    }

    #[cold]
    fn change_places(&mut self) {
        let shared = Arc::get_mut(&mut self.shared).expect("all pins were taken back");
        std::mem::swap(&mut self.owned, shared);
        self.is_shared = !self.is_shared;
    }
}

impl<T> Deref for Pinnable<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        if self.is_shared { &self.shared } else { &self.owned }
    }
}

/// Which threads have pinned one shard, and whether the next reader should.
pub(crate) struct PinnedBy<T> {
    /// A bit for each thread that has a pin. A hint; what counts is in the pin.
    threads: AtomicU64,
    /// Reads under the lock since the last write, roughly.
    reads: AtomicU32,
    /// Where threads keep their pins of the shard.
    place: u32,
    pins: Arc<Pins<T>>,
}

impl<T> PinnedBy<T> {
    /// So many reads without a write pay for the pins that the next write has to take back. Few where
    /// each read makes the schedules longer.
    const QUIET: u32 = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 1 } else { 256 };

    pub(crate) fn new(shard: usize, pins: Arc<Pins<T>>) -> Self {
        let place = u32::try_from(PADDING + shard).expect("far fewer shards");
        Self { threads: AtomicU64::new(0), reads: AtomicU32::new(0), place, pins }
    }

    /// What `thread`, which is the caller, has pinned of the shard.
    #[inline]
    pub(crate) fn get(&self, thread: usize) -> Option<Pinned<'_, T>> {
        if self.threads.load(Ordering::Relaxed) & bit(thread) == 0 {
            return None;
        }
        // Locked only if a writer is taking the pin back.
        let pin = self.pins.get(thread, self.place as usize)?.try_lock()?;
        pin.is_some().then_some(Pinned(pin))
    }

    /// Counts a read of `thread` under the lock; tells whether the shard is worth a pin.
    #[inline]
    pub(crate) fn count_read(&self, thread: usize) -> bool {
        let reads = self.reads.load(Ordering::Relaxed);
        if reads >= Self::QUIET {
            return bit(thread) != 0;
        }
        self.reads.store(reads + 1, Ordering::Relaxed);
        false
    }

    /// Pins the shard for `thread`, which is the caller and holds the lock shared.
    pub(crate) fn pin(&self, thread: usize, share: Arc<T>) {
        // Locked only if the thread is reading the shard by its pin right now.
        if let Some(mut pin) = self.pins.get_or_make(thread, self.place as usize).try_lock() {
            *pin = Some(share);
            self.threads.fetch_or(bit(thread), Ordering::Relaxed);
        }
    }

    /// Takes all pins back, for the caller to write, who holds the lock.
    #[inline]
    pub(crate) fn take_back(&self) {
        self.reads.store(0, Ordering::Relaxed);
        if self.threads.load(Ordering::Relaxed) != 0 {
            self.take_back_all();
        }
    }

    #[cold]
    fn take_back_all(&self) {
        let threads = self.threads.swap(0, Ordering::Relaxed);
        for thread in (0..NUMBERS).filter(|thread| threads & bit(*thread) != 0) {
            if let Some(pin) = self.pins.get(thread, self.place as usize) {
                *wait_for(pin) = None;
            }
        }
    }
}

#[cfg(feature = "__validate")]
impl<T> PinnedBy<T> {
    /// Asserts that nobody has pinned what is not shared.
    pub(crate) fn validate(&self, pinned: &Pinnable<T>) {
        let pins = (0..NUMBERS).filter_map(|thread| self.pins.get(thread, self.place as usize));
        let pins = pins.filter(|pin| wait_for(pin).is_some()).count();
        assert!(pinned.is_shared || pins == 0, "{pins} pins of what is written in place");
    }
}

/// Waits for the end of the read that holds the pin, if one does.
fn wait_for<T>(pin: &Pin<T>) -> Locked<'_, Option<Arc<T>>> {
    const SPINS: u32 = 64;
    let mut spins = 0;
    loop {
        if let Some(pin) = pin.try_lock() {
            return pin;
        }
        if spins < SPINS {
            spins += 1;
            spin_loop();
        } else {
            yield_now();
        }
    }
}

/// The thread's bit; none for a thread without a number of its own.
#[inline]
fn bit(thread: usize) -> u64 {
    1_u64.checked_shl(thread as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    /// What a shard does with its pins, without the shard.
    struct Pinned {
        by: PinnedBy<u32>,
        value: Mutex<Pinnable<u32>>,
    }

    impl Pinned {
        fn new(value: u32) -> Self {
            let this = Self {
                by: PinnedBy::new(3, Arc::new(Pins::new(4))),
                value: Mutex::new(Pinnable::default()),
            };
            *this.value.lock().unwrap().get_mut() = value;
            this
        }

        fn pin(&self, thread: usize) {
            let mut value = self.value.lock().unwrap();
            value.share();
            self.by.pin(thread, value.pin().unwrap());
        }

        fn read(&self, thread: usize) -> Option<u32> {
            self.by.get(thread).map(|value| *value)
        }

        fn write(&self, new: u32) {
            let mut value = self.value.lock().unwrap();
            self.by.take_back();
            *value.get_mut() = new;
        }
    }

    #[test]
    fn a_write_takes_the_pins_of_all_threads_back() {
        let pinned = Pinned::new(1);
        for thread in 0..4 {
            assert_eq!(pinned.read(thread), None);
            pinned.pin(thread);
            assert_eq!(pinned.read(thread), Some(1));
        }
        pinned.write(2);
        assert!((0..4).all(|thread| pinned.read(thread).is_none()));
        pinned.pin(0);
        assert_eq!(pinned.read(0), Some(2));
    }

    #[test]
    fn a_write_waits_for_a_read_by_a_pin() {
        let pinned = Pinned::new(1);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            pinned.pin(5);
            let read = pinned.by.get(5).unwrap();
            scope.spawn(|| {
                tell.send("begins").unwrap();
                pinned.write(2);
                tell.send("is done").unwrap();
            });
            assert_eq!(told.recv(), Ok("begins"));
            for _ in 0..1_000 {
                yield_now();
                assert_eq!((*read, told.try_recv()), (1, Err(mpsc::TryRecvError::Empty)));
            }
            drop(read);
            assert_eq!(told.recv(), Ok("is done"));
        });
        assert_eq!(**pinned.value.lock().unwrap(), 2);
    }

    #[test]
    fn only_reads_without_a_write_between_them_are_worth_a_pin() {
        let by = Pinned::new(1).by;
        for _ in 0..PinnedBy::<u32>::QUIET - 1 {
            assert!(!by.count_read(0));
        }
        by.take_back();
        for _ in 0..PinnedBy::<u32>::QUIET {
            assert!(!by.count_read(0));
        }
        assert!(by.count_read(0));
        assert!(!by.count_read(NUMBERS), "a thread without a number has no place for a pin");
    }
}
