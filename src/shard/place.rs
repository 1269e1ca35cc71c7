//! Where an entry goes, and how room is made for it.

use super::state::{State, Written};
use super::submission::Departed;
use crate::budget::Cost;
use crate::clock::Nanos;
use crate::index::Slot;
use crate::ledger::{Bound, Ledger, Room};

/// The most entries that a write evicts before it lets others have the shard.
const EVICTED_PER_WRITE: usize = 64;

/// Where an entry goes.
pub(super) enum Place {
    /// Where its key is already.
    Same(Slot),
    /// Into a room of its own.
    Room,
    /// Where the least recently used entry was.
    InsteadOf(Slot),
}

impl<K, V> State<K, V> {
    /// Finds a place for an entry of this cost, or makes one; `slot` is where its key is now.
    pub(super) fn find_place(
        &mut self,
        slot: Option<Slot>,
        cost: Cost,
        now: Option<Nanos>,
        room: &mut Room<'_>,
        departed: &mut Departed<K, V>,
    ) -> Result<Place, Written> {
        if room.ledger().weighs() {
            self.make_room(slot, cost, now, room, departed)?;
            return Ok(slot.map_or(Place::Room, Place::Same));
        }
        if let Some(slot) = slot {
            return Ok(Place::Same(slot));
        }
        if room.reserve(cost).is_ok() {
            return Ok(Place::Room);
        }
        let index = &*self.index;
        match self.order.lru.oldest(index.stamps()) {
            Some(victim) => Ok(Place::InsteadOf(victim)),
            None if index.is_empty() => Err(Written::NeedsRoom(Bound::Entries)),
            None => Err(Written::NeedsVictim(Bound::Entries)),
        }
    }

    /// Evicts entries until what an entry of this cost takes beyond the one in `slot` is in the room.
    fn make_room(
        &mut self,
        slot: Option<Slot>,
        cost: Cost,
        now: Option<Nanos>,
        room: &mut Room<'_>,
        departed: &mut Departed<K, V>,
    ) -> Result<(), Written> {
        let missing = slot.map_or(cost, |slot| cost.beyond(self.cost(slot, room.ledger())));
        let Err(mut short) = room.reserve(missing) else { return Ok(()) };
        if let Some(slot) = slot {
            // It goes last, and only as the new entry comes.
            self.index.get_mut().make_newest(slot);
        }
        for _ in 0..EVICTED_PER_WRITE {
            let own = slot.is_some_and(|slot| self.helps(slot, short));
            if self.count_helpful(short) == usize::from(own) {
                return Err(Written::NeedsRoom(short));
            }
            self.evict(short, now, room, departed).ok_or(Written::NeedsVictim(short))?;
            match room.reserve(missing) {
                Ok(()) => return Ok(()),
                Err(still_short) => short = still_short,
            }
        }
        Err(Written::Unfinished)
    }

    /// What the entry in `slot` takes.
    pub(super) fn cost(&self, slot: Slot, ledger: &Ledger) -> Cost {
        ledger.cost(self.index.weight(slot), self.index.size(slot))
    }

    /// Gives the entry what it takes, out of the room and of what was there before.
    pub(super) fn pay(&self, place: &Place, cost: Cost, room: &mut Room<'_>) {
        let ledger = room.ledger();
        match *place {
            Place::Same(slot) if ledger.weighs() => {
                let old = self.cost(slot, ledger);
                room.fill(cost.beyond(old));
                ledger.release(old.beyond(cost));
            }
            Place::Room => room.fill(cost),
            // One entry for another.
            Place::Same(_) | Place::InsteadOf(_) => {}
        }
    }

    /// What all entries take.
    pub(super) fn total_cost(&self, ledger: &Ledger) -> Cost {
        // Where bytes are bounded, they are of this type.
        let measured = usize::try_from(self.index.measured()).unwrap_or(usize::MAX);
        let cost = ledger.cost(Some(self.index.weighed()), Some(measured));
        Cost { entries: self.index.len() as u64, ..cost }
    }
}
