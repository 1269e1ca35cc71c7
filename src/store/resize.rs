//! Moves a bound of a cache that is in use: evicts step by step what a lower one leaves no room for.

use super::Store;
use super::purge::Purge;
use super::steps::{Step, Steps};
use crate::policy::capacity::{Bound, Reservation};
use crate::shard::Shard;
use crate::shard::departed::Departed;
use crate::shard::evict::Evicted;
use crate::shard::removals::Deliveries;

/// The eviction of what is above a bound to come.
///
/// The bound comes down with each entry that leaves, and holds from there on: at no moment is there more
/// in the cache than its bound allows.
pub(crate) struct Resize {
    bound: Bound,
    max: u64,
    phase: Phase,
    evicted: usize,
}

enum Phase {
    /// Expired entries leave before live ones do.
    Purging(Purge),
    /// The shard of this number gives next.
    Evicting(usize),
    /// The shard of this number is the next to give memory back.
    Compacting(usize),
}

/// How far a bound was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    AllTheWay,
    /// As far as what is still taken allows.
    Some,
}

impl Resize {
    /// The most entries that one step evicts.
    const BATCH: usize = 64;

    /// Moves the bound as near to `max` as it can be now.
    pub(crate) fn start<K, V>(store: &Store<K, V>, bound: Bound, max: u64) -> Self {
        let mut resize = Self { bound, max, phase: Phase::Compacting(0), evicted: 0 };
        if resize.move_bound(store.capacity().reservation()) == Moved::Some {
            resize.phase = Phase::Purging(Purge::new(store));
        }
        resize
    }

    /// Returns how many entries were evicted so far.
    pub(crate) fn evicted(&self) -> usize {
        self.evicted
    }

    /// Moves the bound as near to where it is to be as it can be once this room is given back.
    fn move_bound(&self, reservation: Reservation<'_>) -> Moved {
        let reached = reservation.give_up(self.bound, self.max);
        if reached == self.max { Moved::AllTheWay } else { Moved::Some }
    }

    fn evict_some<K, V>(
        &mut self,
        store: &Store<K, V>,
        first: usize,
        departed: &mut Departed<K, V>,
    ) -> Moved {
        for turn in first..first + Self::BATCH {
            let mut reservation = store.capacity().reservation();
            let mut shards = store.shards_from(turn);
            let has_evicted =
                shards.any(|shard| self.evict_one(store, shard, &mut reservation, departed));
            let moved = self.move_bound(reservation);
            self.evicted += usize::from(has_evicted);
            // What is left otherwise are rooms of entries on their way in.
            if moved == Moved::AllTheWay || !has_evicted {
                return moved;
            }
        }
        Moved::Some
    }

    /// Takes out the least recently used entry of a shard of those that help, and adds what it held to the
    /// room, if the bound has not been moved by the time that the shard is locked for it.
    fn evict_one<K, V>(
        &self,
        store: &Store<K, V>,
        shard: &Shard<K, V>,
        reservation: &mut Reservation<'_>,
        departed: &mut Departed<K, V>,
    ) -> bool {
        loop {
            let mut writer = shard.write(store.lifetimes.now(), departed);
            if self.move_bound(store.capacity().reservation()) == Moved::AllTheWay {
                return false;
            }
            match writer.evict(self.bound, None, reservation) {
                Evicted::One => return true,
                Evicted::None => return false,
                Evicted::Unfinished => {}
            }
        }
    }
}

impl<K, V> Steps<K, V> for Resize {
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        loop {
            match &mut self.phase {
                Phase::Purging(purge) => {
                    if purge.step(store, deliveries) == Step::Again {
                        return Step::Again;
                    }
                    self.phase = Phase::Evicting(0);
                }
                Phase::Evicting(first) => {
                    let first = *first;
                    let mut departed = Departed::default();
                    let moved = self.evict_some(store, first, &mut departed);
                    deliveries.append(departed.into_deliveries());
                    if moved == Moved::Some {
                        self.phase = Phase::Evicting(first + Self::BATCH);
                        return Step::Blocked;
                    }
                    self.phase = Phase::Compacting(0);
                }
                Phase::Compacting(shard) => {
                    let Some(next) = store.shards.get(*shard) else { return Step::Done };
                    *shard += 1;
                    if next.compact() && *shard < store.shards.len() {
                        return Step::Again;
                    }
                }
            }
        }
    }
}
