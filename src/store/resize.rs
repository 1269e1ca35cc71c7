//! Moving a bound of a cache that is in use.

use crate::policy::capacity::{Bound, Reservation};
use crate::shard::removals::Deliveries;
use crate::shard::{Departed, Evicted, Shard};
use crate::store::Store;

/// The eviction of what is above a bound to come, step by step so that other writers get through in
/// between.
///
/// The bound comes down with each entry that leaves, and holds from there on: at no moment is there more
/// in the cache than its bound allows.
pub(crate) struct Resize<'a, K, V> {
    store: &'a Store<K, V>,
    bound: Bound,
    max: u64,
    /// The shard that gives next.
    shard: usize,
    evicted: usize,
}

/// How far a bound was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    AllTheWay,
    /// As far as one step takes it.
    Some,
}

impl<'a, K, V> Resize<'a, K, V> {
    /// The most entries that one step evicts.
    const BATCH: usize = 64;

    /// Moves the bound as near to `max` as it can be now.
    pub(crate) fn start(store: &'a Store<K, V>, bound: Bound, max: u64) -> (Self, Moved) {
        let resize = Self { store, bound, max, shard: 0, evicted: 0 };
        let moved = resize.move_bound(store.capacity().reservation());
        (resize, moved)
    }

    /// Takes one step, which is over in a short time.
    pub(crate) fn step(&mut self) -> (Moved, Deliveries<K, V>) {
        let mut departed = Departed::default();
        let moved = self.evict_some(&mut departed);
        (moved, departed.into_notices())
    }

    fn evict_some(&mut self, departed: &mut Departed<K, V>) -> Moved {
        for _ in 0..Self::BATCH {
            let mut reservation = self.store.capacity().reservation();
            let mut shards = self.store.shards_from(self.shard);
            let has_evicted = shards.any(|shard| self.evict(shard, &mut reservation, departed));
            let moved = self.move_bound(reservation);
            self.evicted += usize::from(has_evicted);
            self.shard += 1;
            // What is left otherwise are rooms of entries on their way in.
            if moved == Moved::AllTheWay || !has_evicted {
                return moved;
            }
        }
        Moved::Some
    }

    /// Takes out the least recently used entry of a shard of those that help, and adds what it held to the
    /// room, if the bound has not been moved by the time that the shard is locked for it.
    fn evict(
        &self,
        shard: &Shard<K, V>,
        reservation: &mut Reservation<'_>,
        departed: &mut Departed<K, V>,
    ) -> bool {
        loop {
            let mut writer = shard.write(self.store.lifetimes().now(), departed);
            if self.move_bound(self.store.capacity().reservation()) == Moved::AllTheWay {
                return false;
            }
            match writer.evict(self.bound, reservation) {
                Evicted::One => return true,
                Evicted::None => return false,
                Evicted::Unfinished => {}
            }
        }
    }

    /// Moves the bound as near to where it is to be as it can be once this room is given back.
    fn move_bound(&self, reservation: Reservation<'_>) -> Moved {
        let reached = reservation.give_up(self.bound, self.max);
        if reached == self.max { Moved::AllTheWay } else { Moved::Some }
    }

    /// Entries evicted so far.
    pub(crate) fn evicted(&self) -> usize {
        self.evicted
    }
}
