//! The ghosts: of each entry that was evicted a while ago, a part of its hash and when it was last used, in
//! four bytes.

use std::ops::Range;

use crate::entries::ranks::Tick;

/// Records of one cache line.
const BUCKET: usize = 16;

/// So many units of time have passed when as many entries have come as there are records.
const UNITS: u64 = 256;

/// What is remembered of entries that have left: of about as many as there are. A new record takes the place
/// of the oldest in its bucket.
#[derive(Default)]
pub(super) struct Ghosts {
    /// In buckets; zero where there is none.
    records: Vec<u32>,
    /// How many ticks are one unit of time.
    unit: u64,
}

impl Ghosts {
    /// Makes room for so many, and forgets all that there were, if that is not about as many as there is room
    /// for.
    pub(super) fn fit(&mut self, len: usize) {
        let room = self.records.len();
        if len <= room + room / 4 && len >= room / 4 && room > 0 {
            return;
        }
        self.records = vec![0; len.max(1).next_multiple_of(BUCKET)];
        self.unit = (len as u64 / UNITS).max(1);
    }

    /// Remembers an entry with this hash that was last used at `tick`.
    pub(super) fn put(&mut self, hash: u32, tick: Tick, now: Tick) {
        let (fingerprint, time) = (fingerprint(hash), self.time(tick));
        let age_of = |record: u32| self.age(time_in(record), now);
        let bucket = self.bucket(hash);
        let Some(records) = self.records.get(bucket.clone()) else { return };
        let is_free = |record: &u32| *record == 0 || *record >> 16 == fingerprint;
        let place = records.iter().position(is_free).or_else(|| {
            let places = 0..records.len();
            places.max_by_key(|place| age_of(records[*place]))
        });
        let place = bucket.start + place.expect("a bucket has records");
        self.records[place] = fingerprint << 16 | u32::from(time);
    }

    /// Forgets the entry with this hash, and returns about when it was last used, if it is remembered.
    pub(super) fn take(&mut self, hash: u32, now: Tick) -> Option<Tick> {
        let (fingerprint, bucket) = (fingerprint(hash), self.bucket(hash));
        let records = self.records.get_mut(bucket)?;
        let record = records.iter_mut().find(|record| **record >> 16 == fingerprint)?;
        let time = time_in(std::mem::take(record));
        Some(self.tick(time, now))
    }

    /// A time in sixteen bits, which [`tick`](Self::tick) takes back into a tick.
    pub(super) fn time(&self, tick: Tick) -> u16 {
        (tick / self.unit.max(1)) as u16
    }

    /// The latest tick, up to `now`, that a time can be: not later than the one that it was made of.
    pub(super) fn tick(&self, time: u16, now: Tick) -> Tick {
        now.saturating_sub(u64::from(self.age(time, now)) * self.unit.max(1))
    }

    /// When the entries of these records were last used, at `now`: long ago where there is none.
    pub(super) fn ticks(&self, of: Range<usize>, now: Tick) -> impl Iterator<Item = Tick> {
        let records = self.records.get(of).into_iter().flatten();
        records.map(move |&record| if record == 0 { 0 } else { self.tick(time_in(record), now) })
    }

    /// Bytes that all of it has allocated.
    pub(super) fn heap_size(&self) -> usize {
        self.records.capacity() * size_of::<u32>()
    }

    /// In units, how long ago that time was.
    fn age(&self, time: u16, now: Tick) -> u16 {
        self.time(now).wrapping_sub(time)
    }

    /// The records among which one of this hash is.
    pub(super) fn bucket(&self, hash: u32) -> Range<usize> {
        let buckets = (self.records.len() / BUCKET) as u64;
        let start = ((u64::from(hash) * buckets) >> 32) as usize * BUCKET;
        start..start + BUCKET
    }
}

/// The part of a hash that tells the records of a bucket apart, never zero: of other bits than those that
/// choose the bucket.
fn fingerprint(hash: u32) -> u32 {
    (hash & 0xffff).max(1)
}

fn time_in(record: u32) -> u16 {
    record as u16
}

#[cfg(feature = "__validate")]
impl Ghosts {
    /// Asserts that a record of nothing has no time.
    pub(super) fn validate(&self) {
        assert!(self.records.iter().all(|record| *record == 0 || record >> 16 != 0));
    }
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
        ghosts.fit(16);
        for hash in 1..=17 {
            ghosts.put(hash, 100 - Tick::from(hash), 100);
        }
        // The newest came last, when the oldest was the one before it.
        assert_eq!(ghosts.take(16, 100), None);
        assert_eq!(ghosts.take(17, 100), Some(83));
        assert_eq!(ghosts.take(1, 100), Some(99));
    }

    #[test]
    fn the_room_follows_the_number_of_entries_with_some_delay() {
        let mut ghosts = Ghosts::default();
        ghosts.fit(1_000);
        let room = ghosts.heap_size();
        assert_eq!(room, 4 * 1_008);
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
