//! Finds the slot that expires next where entries have lifetimes of their own: a hierarchical timer wheel.
//!
//! A deadline is filed by the highest of its six-bit digits that differs from the wheel's own time, in
//! the bucket for that digit, of the level for that place. When a bucket's time has come its slots are
//! taken out one by one, and those that are not due yet are filed again, further down. So a slot moves
//! eleven times at most, whatever its lifetime and however many there are, and every step is one of
//! them: callers say how many they can afford. Buckets of the lowest level are a nanosecond wide, which
//! makes the wheel exact.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987).

use super::node::Slot;
use crate::clock::Nanos;

const NONE: Slot = Slot::MAX;

/// Bits of a digit.
const DIGIT: u32 = 6;
const BUCKETS: usize = 1 << DIGIT;

/// The buckets of one level.
struct Level {
    /// The first slot of each bucket.
    first: [Slot; BUCKETS],
    /// A bit for each bucket that is not empty.
    filled: u64,
}

/// Where a slot is filed.
#[derive(Clone, Copy)]
struct Filed {
    deadline: Nanos,
    bucket: Bucket,
    previous: Slot,
    next: Slot,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Bucket {
    level: u8,
    digit: u8,
}

/// The next deadline, as far as the wheel knows it.
pub(crate) enum Due {
    /// This slot's deadline has come. It stays filed until it is taken out.
    Slot(Slot),
    /// Not even the next one's has.
    Nothing,
    /// Cannot say without further steps.
    Unknown,
}

/// Slots by their deadlines. Takes no room until it is used.
pub(crate) struct Wheel {
    /// Up to here all that is due has been taken out, but for the bucket that is being emptied.
    time: Nanos,
    emptying: Option<Bucket>,
    /// Made when a slot is first filed there.
    levels: Vec<Option<Box<Level>>>,
    /// By slot.
    filed: Vec<Option<Filed>>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { time: 0, emptying: None, levels: Vec::new(), filed: Vec::new() }
    }

    /// Tells whether the slot is filed.
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.filed.get(slot as usize).is_some_and(Option::is_some)
    }

    /// Files a slot that is not filed.
    pub(crate) fn insert(&mut self, slot: Slot, deadline: Nanos) {
        // What is due already comes at the next step of the clock.
        let deadline = deadline.max(self.time.saturating_add(1));
        let level = (u64::BITS - 1 - (deadline ^ self.time).leading_zeros().min(63)) / DIGIT;
        let digit = deadline >> (level * DIGIT) & (BUCKETS as u64 - 1);
        let bucket = Bucket { level: level as u8, digit: digit as u8 };
        if self.levels.len() <= level as usize {
            self.levels.resize_with(level as usize + 1, || None);
        }
        let empty = || Box::new(Level { first: [NONE; BUCKETS], filled: 0 });
        let level = self.levels[level as usize].get_or_insert_with(empty);
        let next = std::mem::replace(&mut level.first[digit as usize], slot);
        level.filled |= 1 << digit;
        if let Some(Some(next)) = self.filed.get_mut(next as usize) {
            next.previous = slot;
        }
        if self.filed.len() <= slot as usize {
            self.filed.resize(slot as usize + 1, None);
        }
        self.filed[slot as usize] = Some(Filed { deadline, bucket, previous: NONE, next });
    }

    /// Takes out a slot, wherever it is filed.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let Some(Filed { bucket, previous, next, .. }) = self.filed[slot as usize].take() else {
            return;
        };
        if let Some(Some(next)) = self.filed.get_mut(next as usize) {
            next.previous = previous;
        }
        if let Some(Some(previous)) = self.filed.get_mut(previous as usize) {
            previous.next = next;
            return;
        }
        let level = self.levels[bucket.level as usize].as_mut().expect("the slot was filed there");
        level.first[bucket.digit as usize] = next;
        if next == NONE {
            level.filled &= !(1 << bucket.digit);
        }
    }

    /// Finds a slot whose deadline has come by `now`; each step is paid from `steps`.
    pub(crate) fn due(&mut self, now: Nanos, steps: &mut usize) -> Due {
        loop {
            if self.emptying.is_some_and(|bucket| self.first_in(bucket).is_none()) {
                self.emptying = None;
            }
            let Some((slot, start)) = self.first() else {
                self.time = self.time.max(now);
                return Due::Nothing;
            };
            if start > now {
                self.time = self.time.max(now);
                return Due::Nothing;
            }
            let Some(filed) = self.filed[slot as usize] else { unreachable!("it is in a bucket") };
            // All buckets before this one are empty, so time can go on to where it begins.
            self.time = self.time.max(start);
            self.emptying = Some(filed.bucket);
            if filed.deadline <= now {
                return Due::Slot(slot);
            }
            if *steps == 0 {
                return Due::Unknown;
            }
            *steps -= 1;
            self.remove(slot);
            self.insert(slot, filed.deadline);
        }
    }

    /// A time before which no slot is due.
    pub(crate) fn soonest(&self) -> Option<Nanos> {
        self.first().map(|(_, start)| start)
    }

    /// A slot of the bucket whose time comes first, and when that is.
    fn first(&self) -> Option<(Slot, Nanos)> {
        // What is left of a bucket that is being emptied comes before what has been filed further down.
        if let Some(slot) = self.emptying.and_then(|bucket| self.first_in(bucket)) {
            return Some((slot, self.time));
        }
        let mut levels = (0..).zip(&self.levels);
        let (place, digit) = levels.find_map(|(place, level)| {
            let filled = level.as_ref()?.filled;
            (filled != 0).then(|| (place, filled.trailing_zeros()))
        })?;
        let slot = self.first_in(Bucket { level: place as u8, digit: digit as u8 })?;
        // The digits above are those of the time, the ones below are zero.
        let shift = place * DIGIT;
        let above = self.time.checked_shr(shift + DIGIT).unwrap_or(0);
        let above = above.checked_shl(shift + DIGIT).unwrap_or(0);
        Some((slot, above | u64::from(digit) << shift))
    }

    fn first_in(&self, Bucket { level, digit }: Bucket) -> Option<Slot> {
        let level = self.levels[level as usize].as_ref()?;
        Some(level.first[digit as usize]).filter(|slot| *slot != NONE)
    }

    /// Bytes that the wheel has allocated.
    pub(crate) fn heap_size(&self) -> usize {
        self.filed.capacity() * size_of::<Option<Filed>>()
            + self.levels.capacity() * size_of::<Option<Box<Level>>>()
            + self.levels.iter().flatten().count() * size_of::<Level>()
    }
}

#[cfg(feature = "__validate")]
impl Wheel {
    /// Asserts that buckets and slots agree; returns how many slots are filed.
    pub(crate) fn validate(&self) -> usize {
        let mut found = 0;
        for (level, buckets) in (0..).zip(&self.levels) {
            let Some(buckets) = buckets else { continue };
            for (digit, first) in (0..).zip(&buckets.first) {
                let (mut previous, mut next) = (NONE, *first);
                assert_eq!(next != NONE, buckets.filled & 1 << digit != 0);
                while next != NONE {
                    let filed = self.filed[next as usize].expect("what is in a bucket is filed");
                    assert!(filed.bucket == Bucket { level, digit } && filed.previous == previous);
                    (previous, next) = (next, filed.next);
                    found += 1;
                }
            }
        }
        assert_eq!(found, self.filed.iter().flatten().count());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEVELS: usize = u64::BITS.div_ceil(DIGIT) as usize;

    /// Takes out all that is due, a few steps at a time.
    fn drain(wheel: &mut Wheel, now: Nanos) -> Vec<Slot> {
        let mut due = Vec::new();
        loop {
            match wheel.due(now, &mut 3) {
                Due::Slot(slot) => {
                    wheel.remove(slot);
                    due.push(slot);
                }
                Due::Nothing => break,
                Due::Unknown => {}
            }
        }
        due.sort_unstable();
        due
    }

    proptest! {
        /// Against a list that is looked through from end to end.
        #[test]
        fn exactly_what_is_due_comes_out_whatever_the_deadlines(
            turns in prop::collection::vec(
                (0..64_u32, 0..60_u32, any::<u64>(), prop::collection::vec(0..40_u32, 0..3)),
                1..80,
            ),
        ) {
            let mut wheel = Wheel::new();
            let mut model: Vec<(Slot, Nanos)> = Vec::new();
            let mut now = 0_u64;
            for (slot, (spread, stride, random, gone)) in (0..).zip(turns) {
                let deadline = now.saturating_add(1 + (random >> (63 - spread)));
                wheel.insert(slot, deadline);
                model.push((slot, deadline));
                for slot in gone {
                    if wheel.contains(slot) {
                        wheel.remove(slot);
                        model.retain(|(other, _)| *other != slot);
                    }
                }
                now = now.saturating_add(random.rotate_left(17) >> (63 - stride));
                let mut due: Vec<Slot> =
                    model.iter().filter(|(_, at)| *at <= now).map(|(slot, _)| *slot).collect();
                due.sort_unstable();
                prop_assert_eq!(drain(&mut wheel, now), due);
                model.retain(|(_, at)| *at > now);
                let soonest = model.iter().map(|(_, at)| *at).min();
                prop_assert_eq!(wheel.soonest().is_some(), soonest.is_some());
                prop_assert!(wheel.soonest() <= soonest);
                #[cfg(feature = "__validate")]
                prop_assert_eq!(wheel.validate(), model.len());
            }
        }
    }

    #[test]
    fn every_move_of_a_slot_is_paid_for_by_a_step() {
        let mut wheel = Wheel::new();
        // All in one bucket, whose time comes first at 4096.
        for slot in 0..100 {
            wheel.insert(slot, 5_000 + u64::from(slot));
        }
        let mut steps = 10;
        assert!(matches!(wheel.due(4_096, &mut steps), Due::Unknown));
        assert_eq!(steps, 0);
        let mut steps = 100;
        assert!(matches!(wheel.due(4_096, &mut steps), Due::Nothing));
        assert_eq!(steps, 10);
    }

    #[test]
    fn a_slot_is_moved_no_more_often_than_there_are_levels() {
        let mut wheel = Wheel::new();
        wheel.insert(7, u64::MAX - 1);
        let mut steps = 10 * LEVELS;
        let mut now = 0;
        while let Due::Nothing = wheel.due(now, &mut steps) {
            now = wheel.soonest().unwrap();
        }
        assert!(10 * LEVELS - steps <= LEVELS, "{steps} of {} left", 10 * LEVELS);
    }
}
