//! Freeing what has expired: a few entries with each write, and all of them in a purge.

use super::Shard;
use super::departed::Departed;
use super::state::State;
use super::writer::Writer;
use crate::clock::Nanos;
use crate::entries::wheel::Due;
use crate::policy::capacity::Reservation;

/// How many expired entries a write frees on its way.
const PURGED_PER_WRITE: usize = 4;

/// How many steps a write takes to find expired entries whose lifetimes differ.
const STEPS_PER_WRITE: usize = 16;

/// The outcome of a search for an expired entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It has left.
    One,
    None,
    /// There may be one; it takes more steps to find out.
    Unknown,
}

/// How far expired entries were freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purged {
    All,
    /// There may be more.
    Some,
}

impl<K, V> Shard<K, V> {
    /// Takes out expired entries, as many as can be in a short time; tells how many that were. After the
    /// last of them, gives memory back.
    pub(crate) fn purge(&self, now: Nanos, departed: &mut Departed<K, V>) -> (Purged, usize) {
        const LIMIT: usize = 256;
        const STEPS: usize = 1024;
        let (purged, _old) = {
            let mut writer = self.write(Some(now), departed);
            let purged = writer.free_expired(LIMIT, STEPS);
            let is_done = purged.0 == Purged::All;
            (purged, if is_done { writer.compact() } else { None })
        };
        purged
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Takes out an entry that has expired, if one is found in so many `steps`, and adds what it held to
    /// the room.
    pub(crate) fn expire_one(
        &mut self,
        steps: &mut usize,
        reservation: &mut Reservation<'_>,
    ) -> Expired {
        let Some(now) = self.now else { return Expired::None };
        loop {
            let State { entries, order, .. } = &mut *self.state;
            match order.expiry.due(now, steps, |slot| entries.deadline(slot)) {
                Due::Nothing => return Expired::None,
                Due::Unknown => return Expired::Unknown,
                Due::Slot(slot) if entries.is_expired(slot, now) => {
                    reservation.inherit(self.cost(slot));
                    self.expire(slot);
                    return Expired::One;
                }
                // It was used since it was filed.
                Due::Slot(slot) => {
                    order.expiry.remove(slot);
                    self.file(slot);
                    match steps.checked_sub(1) {
                        Some(left) => *steps = left,
                        None => return Expired::Unknown,
                    }
                }
            }
        }
    }

    /// Takes out up to `limit` expired entries; tells whether those were all that there are, and how
    /// many.
    #[inline(never)]
    pub(super) fn free_expired(&mut self, limit: usize, mut steps: usize) -> (Purged, usize) {
        let mut reservation = self.capacity().reservation();
        for freed in 0..limit {
            match self.expire_one(&mut steps, &mut reservation) {
                Expired::None => return (Purged::All, freed),
                Expired::Unknown => return (Purged::Some, freed),
                Expired::One => {}
            }
        }
        (Purged::Some, limit)
    }

    /// The share of a write in freeing what has expired.
    #[inline]
    pub(super) fn free_some_expired(&mut self) {
        if self.now.is_some() {
            self.free_expired(PURGED_PER_WRITE, STEPS_PER_WRITE);
        }
    }
}
