//! The ghosts: of each entry that was evicted a while ago, a part of its hash and when it was last used, in
//! four bytes.

use std::ops::Range;

use crate::entries::ranks::Tick;

/// What is remembered of entries that have left: of about as many as there are. A new record takes the place
/// of the oldest in its bucket.
#[derive(Default)]
pub(super) struct Ghosts {
    buckets: Vec<Bucket>,
    /// One unit of time is a power of two of ticks: this one.
    unit: u32,
}

/// Records in half a cache line, each of a fingerprint in its upper half, which is zero where there is none, and a
/// time in its lower.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct Bucket([u32; RECORDS]);

pub(super) const RECORDS: usize = 8;

const FINGERPRINT: u32 = !0 << 16;

/// About as many units of time pass while as many entries come as there are records.
const UNITS: usize = 256;

impl Bucket {
    /// Where the oldest record is, or one that is not much younger. Where there is none is an old one.
    #[inline]
    fn oldest(&self, now: u16) -> usize {
        const PLACE: u16 = RECORDS as u16 - 1;
        let mut oldest = 0;
        for (place, &record) in (0..).zip(&self.0) {
            let age = now.wrapping_sub(time_in(record));
            oldest = oldest.max(age & !PLACE | place);
        }
        usize::from(oldest & PLACE)
    }
}

impl Ghosts {
    /// Makes room for so many, and forgets all that there were, if that is not about as many as there is room
    /// for.
    #[inline]
    pub(super) fn fit(&mut self, len: usize) {
        let room = self.buckets.len() * RECORDS;
        if len > room + room / 4 || len < room / 4 || room == 0 {
            self.start_anew(len.max(1));
        }
    }

    #[cold]
    fn start_anew(&mut self, len: usize) {
        self.buckets = vec![Bucket::default(); len.div_ceil(RECORDS)];
        self.unit = (len / UNITS).max(1).ilog2();
    }

    /// Remembers an entry with this hash that was last used at `tick`.
    pub(super) fn put(&mut self, hash: u32, tick: Tick, now: Tick) {
        let (fingerprint, time, now) = (fingerprint(hash), self.time(tick), self.time(now));
        let number = self.bucket(hash);
        if let Some(bucket) = self.buckets.get_mut(number) {
            let place = bucket.oldest(now);
            bucket.0[place] = fingerprint | u32::from(time);
        }
    }

    /// Forgets the entry with this hash, and returns about when it was last used, if it is remembered.
    pub(super) fn take(&mut self, hash: u32, now: Tick) -> Option<Tick> {
        let number = self.bucket(hash);
        let (fingerprint, older) = (fingerprint(hash), self.time(now).wrapping_add(1));
        let records = &mut self.buckets.get_mut(number)?.0;
        let record = records.iter_mut().find(|record| **record & FINGERPRINT == fingerprint)?;
        // The oldest that there can be is the next to be overwritten.
        let time = time_in(std::mem::replace(record, older.into()));
        Some(self.tick(time, now))
    }

    /// A time in sixteen bits, which [`tick`](Self::tick) takes back into a tick.
    pub(super) fn time(&self, tick: Tick) -> u16 {
        (tick >> self.unit) as u16
    }

    /// About the latest tick, up to `now`, that a time can be.
    pub(super) fn tick(&self, time: u16, now: Tick) -> Tick {
        let age = self.time(now).wrapping_sub(time);
        now.saturating_sub(u64::from(age) << self.unit)
    }

    /// When the entries of a bucket were last used, at `now`: long ago where there is none.
    #[inline]
    pub(super) fn ticks(&self, bucket: usize, now: Tick) -> [Tick; RECORDS] {
        let records = self.buckets.get(bucket).copied().unwrap_or_default().0;
        records.map(|record| match record & FINGERPRINT {
            0 => 0,
            _ => self.tick(time_in(record), now),
        })
    }

    /// The numbers of all buckets.
    pub(super) fn buckets(&self) -> Range<usize> {
        0..self.buckets.len()
    }

    /// Bytes that all of it has allocated.
    pub(super) fn heap_size(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// The bucket in which the record of this hash is.
    #[inline]
    pub(super) fn bucket(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }
}

/// The part of a hash that tells the records of a bucket apart, never zero: of other bits than those that
/// choose the bucket.
fn fingerprint(hash: u32) -> u32 {
    (hash << 16).max(1 << 16)
}

fn time_in(record: u32) -> u16 {
    record as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_remembered_once_and_about_when_it_was_used() {
        let mut ghosts = Ghosts::default();
        assert_eq!(ghosts.take(7, 10), None);
        ghosts.fit(2_000);
        ghosts.put(7, 5_000, 6_000);
        assert_eq!(ghosts.take(8, 6_000), None);
        let tick = ghosts.take(7, 6_500).unwrap();
        assert!((4_990..=5_010).contains(&tick), "{tick}");
        assert_eq!(ghosts.take(7, 6_500), None);
    }

    #[test]
    fn the_oldest_of_a_bucket_is_forgotten_first() {
        let mut ghosts = Ghosts::default();
        ghosts.fit(8);
        for hash in 1..=9 {
            ghosts.put(hash, 100 - Tick::from(hash), 100);
        }
        // The newest came last, when the oldest was the one before it.
        assert_eq!(ghosts.take(8, 100), None);
        assert_eq!(ghosts.take(9, 100), Some(91));
        assert_eq!(ghosts.take(1, 100), Some(99));
    }

    #[test]
    fn the_room_follows_the_number_of_entries_with_some_delay() {
        let mut ghosts = Ghosts::default();
        ghosts.fit(1_000);
        let room = ghosts.heap_size();
        assert_eq!(room, 4 * 1_000);
        ghosts.put(7, 1, 2);
        for len in [1_200, 300, 1_000] {
            ghosts.fit(len);
            assert_eq!(ghosts.heap_size(), room);
        }
        ghosts.fit(2_000);
        assert_eq!(ghosts.heap_size(), 4 * 2_000);
        assert_eq!(ghosts.take(7, 2), None);
    }
}
