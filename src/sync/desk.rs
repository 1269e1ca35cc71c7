//! Lets threads read what is seldom written without a lock that others use, and without a write to memory
//! that others read.
//!
//! A lock's word goes from core to core with those who take it, and so does a stamp that several threads
//! store; either costs more than all the rest of a hit. So what has not been written for a while is moved
//! into an `Arc`, and each thread that reads it keeps a share, a *pin*, on a *desk* of its own, together
//! with *notes* of what it has used. A read then takes nothing but the lock of the pin, which nobody else
//! wants. A writer takes all pins back first, and is the only owner again.
//!
//! The pins are after BRAVO (Dice and Kogan, "BRAVO: Biased Locking for Reader-Writer Locks", USENIX ATC
//! 2019); the `Arc` makes it safe code.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::threads::NUMBERS;
use crate::sync::{Locked, OnceLock, TryLock, spin_loop, yield_now};

/// The desks of all threads, for all shards of a cache.
pub(crate) struct Desks<T> {
    /// Made when a thread first pins something.
    by_thread: [OnceLock<Box<[Desk<T>]>>; NUMBERS],
    /// Past the highest number of a thread that has any.
    threads: AtomicUsize,
    shards: usize,
}

/// The pin of a thread in one shard, on a cache line of its own.
#[repr(align(64))]
struct Desk<T>(TryLock<Pin<T>>);

/// Kept by a thread of one shard; the default is nothing yet.
pub(crate) struct Pin<T> {
    pinned: Option<Arc<T>>,
    /// Reads by this thread's pins of the shard, ever.
    reads: u64,
    /// How many there were when what is pinned was.
    since: u64,
    /// By slot, the note of the reads since then, or zero; `None` where uses are stored in what is pinned
    /// itself.
    notes: Option<Box<[u32]>>,
}

impl<T> Default for Pin<T> {
    fn default() -> Self {
        Self { pinned: None, reads: 0, since: 0, notes: None }
    }
}

/// Brought back by a thread with its pin.
pub(crate) struct Returned {
    /// How often it has read.
    pub(crate) reads: u64,
    pub(crate) notes: Option<Box<[u32]>>,
}

impl<T> Pin<T> {
    /// Returns what is pinned, if anything is.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.pinned.as_deref()
    }

    /// Returns what is pinned, if anything is, and where to note a read of it.
    #[inline]
    pub(crate) fn read(&mut self) -> Option<(&T, Notes<'_>)> {
        let Self { pinned, reads, since, notes } = self;
        Some((pinned.as_deref()?, Notes { reads, since: *since, by_slot: notes.as_deref_mut() }))
    }

    /// Has uses noted here from now on, of so many slots.
    fn keep_notes(&mut self, slots: usize) {
        self.notes.get_or_insert_with(|| vec![0; slots].into());
    }
}

/// Where a thread notes what it reads of one shard.
pub(crate) struct Notes<'a> {
    reads: &'a mut u64,
    since: u64,
    by_slot: Option<&'a mut [u32]>,
}

impl Notes<'_> {
    /// Counts a read of `slot`, and has it noted: here, by what makes a note out of the one before and the
    /// number of the read, or by what is given that number.
    ///
    /// `None` if what is pinned has been read more often than notes can tell, and uses have to go on
    /// without a pin.
    #[inline(always)]
    pub(crate) fn add(
        self,
        slot: u32,
        note: impl FnOnce(u32, u64) -> Option<u32>,
        store: impl FnOnce(u64),
    ) -> Option<()> {
        let read = *self.reads - self.since + 1;
        match self.by_slot {
            Some(notes) => {
                let place = notes.get_mut(slot as usize)?;
                *place = note(*place, read)?;
            }
            None => store(read),
        }
        *self.reads += 1;
        Some(())
    }
}

impl<T> Desks<T> {
    pub(crate) fn new(shards: usize) -> Self {
        let by_thread = std::array::from_fn(|_| OnceLock::new());
        Self { by_thread, threads: AtomicUsize::new(0), shards }
    }

    /// Returns what `thread`, which is the caller, keeps of a shard: locked only while a writer takes it
    /// back.
    #[inline]
    pub(crate) fn try_pin(&self, thread: usize, shard: usize) -> Option<Locked<'_, Pin<T>>> {
        self.by_thread.get(thread)?.get()?.get(shard)?.0.try_lock()
    }

    /// Reads of a shard by pins, of all threads.
    pub(crate) fn reads(&self, shard: usize) -> u64 {
        self.pins(shard).map(|(_, pin)| pin.reads).sum()
    }

    /// Returns what each thread that has a desk keeps of a shard, once it does not read it.
    fn pins(&self, shard: usize) -> impl Iterator<Item = (usize, Locked<'_, Pin<T>>)> {
        let threads = &self.by_thread[..self.threads.load(Ordering::Relaxed)];
        let desks = (0..).zip(threads).filter_map(|(thread, desks)| Some((thread, desks.get()?)));
        desks.map(move |(thread, desks)| (thread, wait_for(&desks[shard])))
    }

    /// Returns what `thread` keeps of a shard, once it does not read it.
    fn pin(&self, thread: usize, shard: usize) -> Locked<'_, Pin<T>> {
        let make = || {
            self.threads.fetch_max(thread + 1, Ordering::Relaxed);
            (0..self.shards).map(|_| Desk(TryLock::new(Pin::default()))).collect()
        };
        wait_for(&self.by_thread[thread].get_or_init(make)[shard])
    }

    /// Bytes that the desks take on the heap, notes included.
    pub(crate) fn heap_size(&self) -> usize {
        let desks = self.by_thread.iter().filter_map(OnceLock::get);
        let pins = (0..self.shards).flat_map(|shard| self.pins(shard));
        let notes =
            pins.map(|(_, pin)| pin.notes.as_ref().map_or(0, |notes| size_of_val(&**notes)));
        desks.map(|desks| size_of_val(&**desks)).sum::<usize>() + notes.sum::<usize>()
    }
}

/// Waits for the end of the read that holds the desk, if one does: it clones a value, no more.
fn wait_for<T>(desk: &Desk<T>) -> Locked<'_, Pin<T>> {
    const SPINS: u32 = 64;
    let mut spins = 0;
    loop {
        if let Some(pin) = desk.0.try_lock() {
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

/// A value that is read by pins or, when it is written often, under its lock alone.
///
/// Has both places from the start, so that no read has to allocate one.
pub(crate) struct Pinnable<T> {
    /// Where it is while it is written; otherwise empty.
    owned: T,
    /// Where it is while it can be pinned; otherwise empty.
    shared: Arc<T>,
    is_shared: bool,
    /// A bit for each thread that has a pin.
    pinned_by: u64,
}

impl<T: Default> Default for Pinnable<T> {
    fn default() -> Self {
        Self { owned: T::default(), shared: Arc::default(), is_shared: false, pinned_by: 0 }
    }
}

impl<T> Pinnable<T> {
    /// The most notes that all threads together keep of one shard: so many are gone over when it is
    /// written.
    const MOST_NOTES: usize = 1 << 18;

    /// Tells whether it is where it can be pinned.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Returns the value, which nobody can have pinned.
    #[inline]
    pub(crate) fn owned(&mut self) -> &mut T {
        debug_assert!(!self.is_shared, "it was taken back before");
        &mut self.owned
    }

    /// Pins it for `thread`, which is the caller and has no pin; whoever else has one may go on reading.
    /// From the second thread on, each keeps notes of what it uses, of so many `slots`.
    ///
    /// `false` if the thread can have no pin.
    pub(crate) fn pin(
        &mut self,
        desks: &Desks<T>,
        shard: usize,
        thread: usize,
        slots: usize,
    ) -> bool {
        if thread >= NUMBERS {
            return false;
        }
        if !self.is_shared {
            self.change_places();
        }
        self.pinned_by |= 1 << thread;
        let threads = self.pinned_by.count_ones() as usize;
        let keep_notes = threads > 1 && threads * slots <= Self::MOST_NOTES;
        for other in self.pinners().filter(|other| keep_notes && *other != thread) {
            desks.pin(other, shard).keep_notes(slots);
        }
        let mut pin = desks.pin(thread, shard);
        if keep_notes {
            pin.keep_notes(slots);
        }
        if pin.pinned.is_none() {
            pin.since = pin.reads;
            pin.pinned = Some(Arc::clone(&self.shared));
        }
        true
    }

    /// Takes all pins back, and shows what each thread brings back.
    #[cold]
    pub(crate) fn take_back(
        &mut self,
        desks: &Desks<T>,
        shard: usize,
        mut look: impl FnMut(&T, Returned),
    ) {
        for thread in self.pinners() {
            let mut pin = desks.pin(thread, shard);
            pin.pinned = None;
            let returned = Returned { reads: pin.reads - pin.since, notes: pin.notes.take() };
            drop(pin);
            look(&self.shared, returned);
        }
        self.pinned_by = 0;
        self.change_places();
    }

    /// The threads that have a pin.
    fn pinners(&self) -> impl Iterator<Item = usize> + use<T> {
        let pinned_by = self.pinned_by;
        (0..NUMBERS).filter(move |thread| pinned_by >> thread & 1 == 1)
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

#[cfg(feature = "__validate")]
impl<T> Pinnable<T> {
    /// Asserts that those have pinned it who are known to.
    pub(crate) fn validate_pins(&self, desks: &Desks<T>, shard: usize) {
        for (thread, pin) in desks.pins(shard) {
            assert_eq!(pin.pinned.is_some(), self.pinned_by >> thread & 1 == 1);
            assert!(pin.pinned.is_some() || pin.notes.is_none());
        }
        assert!(
            self.is_shared || self.pinned_by == 0,
            "nobody has pinned what is written in place"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    const SHARD: usize = 3;

    /// Does with its pins as a shard does.
    struct Pinned {
        desks: Desks<u32>,
        value: Mutex<Pinnable<u32>>,
    }

    impl Pinned {
        fn new(value: u32) -> Self {
            let this = Self { desks: Desks::new(4), value: Mutex::new(Pinnable::default()) };
            *this.value.lock().unwrap().owned() = value;
            this
        }

        fn pin(&self, thread: usize) -> bool {
            self.value.lock().unwrap().pin(&self.desks, SHARD, thread, 10)
        }

        fn read(&self, thread: usize, slot: u32) -> Option<u32> {
            let mut pin = self.desks.try_pin(thread, SHARD)?;
            let (value, notes) = pin.read()?;
            notes.add(slot, |_, read| u32::try_from(read).ok(), |_| {})?;
            Some(*value)
        }

        /// Returns what the threads brought back: their reads and notes.
        fn write(&self, new: u32) -> Vec<(u64, Option<Vec<u32>>)> {
            let mut value = self.value.lock().unwrap();
            let mut all = Vec::new();
            if value.is_shared() {
                value.take_back(&self.desks, SHARD, |_, Returned { reads, notes }| {
                    all.push((reads, notes.map(Vec::from)));
                });
            }
            *value.owned() = new;
            all
        }
    }

    #[test]
    fn a_write_takes_the_pins_of_all_threads_back_and_their_notes() {
        let pinned = Pinned::new(1);
        assert_eq!(pinned.read(0, 0), None);
        assert!(pinned.pin(0));
        // As long as nobody else reads, uses are stored in what is pinned itself.
        assert_eq!((pinned.read(0, 5), pinned.read(0, 6)), (Some(1), Some(1)));
        for thread in 1..4 {
            assert!(pinned.pin(thread));
        }
        assert_eq!(
            (pinned.read(0, 7), pinned.read(2, 1), pinned.read(2, 0)),
            (Some(1), Some(1), Some(1))
        );
        let notes = |of: &[u32]| Some([of, &vec![0; 10 - of.len()]].concat());
        let expected = [
            (3, notes(&[0, 0, 0, 0, 0, 0, 0, 3])),
            (0, notes(&[])),
            (2, notes(&[2, 1])),
            (0, notes(&[])),
        ];
        assert_eq!(pinned.write(2), expected);
        assert!((0..4).all(|thread| pinned.read(thread, 0).is_none()));
        assert!(pinned.pin(0));
        assert_eq!(pinned.read(0, 0), Some(2));
        assert_eq!(pinned.desks.reads(SHARD), 6);
        assert_eq!(pinned.write(3), [(1, None)]);
        #[cfg(feature = "__validate")]
        pinned.value.lock().unwrap().validate_pins(&pinned.desks, SHARD);
    }

    #[test]
    fn notes_that_would_take_long_to_go_over_are_not_kept() {
        let pinned = Pinned::new(1);
        let slots = Pinnable::<u32>::MOST_NOTES / 2 + 1;
        for thread in 0..2 {
            assert!(pinned.value.lock().unwrap().pin(&pinned.desks, SHARD, thread, slots));
            pinned.read(thread, 0);
        }
        assert_eq!(pinned.write(2), [(1, None), (1, None)]);
    }

    #[test]
    fn a_thread_without_a_number_has_no_pin() {
        let pinned = Pinned::new(1);
        assert!(!pinned.pin(NUMBERS));
        assert_eq!(pinned.read(NUMBERS, 0), None);
    }

    #[test]
    fn a_write_waits_for_a_read_by_a_pin() {
        let pinned = Pinned::new(1);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            assert!(pinned.pin(5));
            let read = pinned.desks.try_pin(5, SHARD).unwrap();
            scope.spawn(|| {
                tell.send("begins").unwrap();
                pinned.write(2);
                tell.send("is done").unwrap();
            });
            assert_eq!(told.recv(), Ok("begins"));
            for _ in 0..1_000 {
                yield_now();
                let value = read.get().copied();
                assert_eq!((value, told.try_recv()), (Some(1), Err(mpsc::TryRecvError::Empty)));
            }
            drop(read);
            assert_eq!(told.recv(), Ok("is done"));
        });
        assert_eq!(**pinned.value.lock().unwrap(), 2);
    }
}
