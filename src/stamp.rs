//! Stamps: when an entry was last used, as one number that a reader can store without a lock.
//!
//! A stamp is an *epoch* and, below it, the reading thread's own count of reads. Every write to a
//! shard raises the shard's epoch, so stamps order reads against writes exactly; within an epoch they
//! order the reads of one thread, and reads of different threads count as simultaneous.
//!
//! The count has few bits, so that the epoch has many: at ten million writes a second one shard needs
//! fourteen years to run out of them. When a thread's count is full it adds a *lap*, which lifts the
//! epochs of all shards at once. (Raising only the epoch of the shard at hand would leave the thread's
//! next read of another shard below its earlier ones there.)

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::thread_local;

/// When an entry was last used. Later uses have greater stamps.
pub(crate) type Stamp = u64;

/// The stamp of a slot that holds no entry: later than every other, so never a victim.
pub(crate) const VACANT: Stamp = Stamp::MAX;

const READ_BITS: u32 = 12;
const READ_LIMIT: u64 = 1 << READ_BITS;

/// Laps of all threads. Relaxed is enough: whoever reads a shard after a write to it has synchronised
/// with the writer through the shard's lock, and one location is read in a coherent order.
static LAPS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Reads of this thread in its current lap.
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// The stamp of a write that raised its shard's epoch to `epoch`: after every read of earlier epochs,
/// before every read of this one.
#[inline]
pub(crate) fn of_write(epoch: u64) -> Stamp {
    (epoch + LAPS.load(Ordering::Relaxed)) << READ_BITS
}

/// The stamp of this thread's next read, in a shard whose epoch stands at `epoch`.
#[inline]
pub(crate) fn of_read(epoch: u64) -> Stamp {
    let mut reads = READS.with(Cell::get) + 1;
    if reads == READ_LIMIT {
        LAPS.fetch_add(1, Ordering::Relaxed);
        reads = 1;
    }
    // Inlined, unlike `LocalKey::set`, which would be a tenth of a hit.
    READS.with(|own| own.replace(reads));
    of_write(epoch) | reads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_one_thread_grow_across_laps_and_writes() {
        let mut last = of_write(1);
        for read in 0..5 * READ_LIMIT {
            // Two shards, read in turn: a lap must lift both.
            let stamp = of_read(1);
            assert!(stamp > last, "read {read}");
            last = stamp;
        }
        assert!(of_write(2) > last);
    }

    #[test]
    fn a_thread_adds_a_lap_only_once_in_thousands_of_reads() {
        const READS: u64 = 2 * READ_LIMIT;
        let before = of_write(0) >> READ_BITS;
        for _ in 0..READS {
            of_read(0);
        }
        // Other tests may add some meanwhile.
        assert!((of_write(0) >> READ_BITS) - before < READS / 10);
    }

    #[test]
    fn a_read_is_later_than_the_write_before_it_and_earlier_than_the_write_after_it() {
        let before = of_write(7);
        let read = of_read(7);
        let after = of_write(8);
        assert!(before < read && read < after && after < VACANT);
    }
}
