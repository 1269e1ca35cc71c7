//! Makes room within a shard: chooses the victim, of the entries whose eviction helps the one that the
//! order of eviction gives (`entries/lru_list.rs`, or `policy/adaptive.rs`).

use super::state::{Order, State};
use super::writer::Writer;
use crate::entries::Slot;
use crate::entries::lru_list::Oldest;
use crate::entries::takers::Takers;
use crate::policy::adaptive::Search;
use crate::policy::capacity::{Bound, Cost, Reservation};
use crate::removal::RemovalCause;
use crate::sync::counters::Event;

/// The most entries that a write evicts before it lets others have the shard.
pub(crate) const EVICTED_PER_WRITE: usize = 64;

/// The most entries that a write looks at for a victim before it lets others have the shard.
const STEPS_PER_WRITE: usize = 1 << 14;

/// Where an entry goes.
pub(super) enum Place {
    /// Where its key is already.
    Same(Slot),
    /// Into a room of its own.
    Room,
    /// Where the entry is that leaves next.
    InsteadOf(Slot),
}

/// Why there is no place for an entry yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// It takes more steps to make one than one write takes.
    Unfinished,
    /// It takes the room of an entry of another shard, as this bound is short.
    NeedsRoom(Bound),
}

/// The outcome of an attempt to evict an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evicted {
    One,
    /// There is none that helps.
    None,
    /// It takes more steps to find it.
    Unfinished,
}

impl Order {
    /// The slots whose entries take something of this bound; `None` as long as all do.
    fn takers(&mut self, bound: Bound) -> Option<&mut Takers> {
        takers_of(bound, &mut self.weight_takers, &mut self.byte_takers)
    }
}

/// Those of the two lists, if there are any, that is of this bound.
fn takers_of<'a>(
    bound: Bound,
    of_weight: &'a mut Option<Box<Takers>>,
    of_bytes: &'a mut Option<Box<Takers>>,
) -> Option<&'a mut Takers> {
    match bound {
        Bound::Entries => None,
        Bound::Weight => of_weight.as_deref_mut(),
        Bound::Bytes => of_bytes.as_deref_mut(),
    }
}

impl<K, V> State<K, V> {
    /// Tells whether it helps to evict the entry in `slot` where this bound is short.
    fn helps(&self, slot: Slot, bound: Bound) -> bool {
        match bound {
            Bound::Entries => true,
            Bound::Weight => self.entries.measured(slot).weight.is_some_and(|weight| weight > 0),
            Bound::Bytes => self.entries.measured(slot).bytes.is_some_and(|bytes| bytes > 0),
        }
    }

    /// How many entries it helps to evict where this bound is short.
    fn count_helpful(&mut self, bound: Bound) -> usize {
        let all = self.entries.len();
        self.order.takers(bound).map_or(all, |takers| takers.len())
    }

    /// The slots of the entries that it helps to evict where this bound is short.
    fn helpful(&self, bound: Bound) -> impl Iterator<Item = Slot> {
        let slots = (0..self.entries.slots() as Slot).filter(|slot| self.entries.is_in_use(*slot));
        slots.filter(move |slot| self.helps(*slot, bound))
    }
}

impl<K, V> Writer<'_, K, V> {
    /// Finds a place for an entry of this cost, or makes one; `slot` is where its key is now.
    #[inline]
    pub(super) fn find_place(
        &mut self,
        slot: Option<Slot>,
        cost: Cost,
        reservation: &mut Reservation<'_>,
    ) -> Result<Place, NoPlace> {
        if self.capacity().weighs() {
            self.make_room(slot, cost, reservation)?;
            return Ok(slot.map_or(Place::Room, Place::Same));
        }
        if let Some(slot) = slot {
            return Ok(Place::Same(slot));
        }
        if reservation.reserve_entry().is_ok() {
            return Ok(Place::Room);
        }
        match self.victim(Bound::Entries, None, 0) {
            Oldest::Slot(victim) => Ok(Place::InsteadOf(victim)),
            Oldest::Nothing => Err(NoPlace::NeedsRoom(Bound::Entries)),
            Oldest::Unfinished => Err(NoPlace::Unfinished),
        }
    }

    /// Evicts entries until what an entry of this cost takes beyond the one in `slot` is in the room.
    #[inline(never)]
    fn make_room(
        &mut self,
        slot: Option<Slot>,
        cost: Cost,
        reservation: &mut Reservation<'_>,
    ) -> Result<(), NoPlace> {
        let missing = slot.map_or(cost, |slot| cost.beyond(self.cost(slot)));
        let Err(mut short) = reservation.reserve(missing) else { return Ok(()) };
        if let Some(slot) = slot {
            // It goes last, and only as the new entry comes, which is what counts as a use of it.
            self.entries().renew(slot);
        }
        for _ in 0..EVICTED_PER_WRITE {
            let own = slot.is_some_and(|slot| self.state.helps(slot, short));
            if self.state.count_helpful(short) == usize::from(own) {
                return Err(NoPlace::NeedsRoom(short));
            }
            if self.evict(short, slot, reservation) != Evicted::One {
                return Err(NoPlace::Unfinished);
            }
            match reservation.reserve(missing) {
                Ok(()) => return Ok(()),
                Err(still_short) => short = still_short,
            }
        }
        Err(NoPlace::Unfinished)
    }

    /// Gives the entry what it takes, out of the room and of what was there before.
    #[inline]
    pub(super) fn pay(&self, place: &Place, cost: Cost, reservation: &mut Reservation<'_>) {
        match *place {
            Place::Same(slot) if self.capacity().weighs() => {
                let old = self.cost(slot);
                reservation.fill(cost.beyond(old));
                self.capacity().release(old.beyond(cost));
            }
            Place::Room => reservation.fill(cost),
            // One entry for another.
            Place::Same(_) | Place::InsteadOf(_) => {}
        }
    }

    /// Takes out an entry that helps where this bound is `short`, and not the one that is `kept`, and adds
    /// what it held to the room.
    pub(crate) fn evict(
        &mut self,
        short: Bound,
        kept: Option<Slot>,
        reservation: &mut Reservation<'_>,
    ) -> Evicted {
        let freed = reservation.held(self.capacity().measure());
        let victim = match self.victim(short, kept, freed) {
            Oldest::Slot(victim) => victim,
            Oldest::Nothing => return Evicted::None,
            Oldest::Unfinished => return Evicted::Unfinished,
        };
        let cause = self.cause_of_eviction(victim);
        reservation.inherit(self.cost(victim));
        let State { entries, order, .. } = &mut *self.state;
        if let Some(adaptive) = order.adaptive.as_mut().filter(|_| cause == RemovalCause::Capacity)
        {
            adaptive.remember(entries, victim);
        }
        let entry = self.detach(victim);
        self.part_with(entry, cause);
        Evicted::One
    }

    /// Finds the next to leave of the entries that help where this bound is `short`; not the one that is
    /// `kept`, which is the latest to be used if there is one. So much has left already as was `freed`.
    #[inline]
    fn victim(&mut self, short: Bound, kept: Option<Slot>, freed: u64) -> Oldest {
        let State { entries, order, .. } = &mut *self.state;
        let (entries, mut steps) = (entries.owned(), STEPS_PER_WRITE);
        if entries.is_empty() {
            return Oldest::Nothing;
        }
        let now = entries.epoch();
        let Order { lru, adaptive, weight_takers, byte_takers, .. } = order;
        let takers = takers_of(short, weight_takers, byte_takers);
        if let Some(adaptive) = adaptive {
            return adaptive.victim(Search { entries, lru, takers, kept, freed }, &mut steps);
        }
        match takers {
            None => lru.oldest(entries, now, &mut steps),
            Some(takers) => takers.oldest(entries, now, &mut steps),
        }
    }

    /// Counts the eviction of an entry, or its expiration if nobody had found out that its time is over.
    pub(super) fn cause_of_eviction(&self, victim: Slot) -> RemovalCause {
        if self.is_expired(victim) {
            self.count(Event::Expiration);
            return RemovalCause::Expired;
        }
        self.count(Event::Eviction);
        if self.capacity().weighs() {
            let weight = self.state.entries.measured(victim).weight;
            self.common.counters.add(Event::EvictedWeight, weight.unwrap_or(0));
        }
        RemovalCause::Capacity
    }

    /// Notes of which bounds the entry takes something that has come into `slot`.
    pub(super) fn note_cost(&mut self, slot: Slot) {
        if !self.capacity().weighs() {
            return;
        }
        let capacity = self.capacity();
        for bound in [Bound::Weight, Bound::Bytes].into_iter().filter(|bound| capacity.has(*bound))
        {
            let helps = self.state.helps(slot, bound);
            let State { entries, order, .. } = &mut *self.state;
            match order.takers(bound) {
                Some(takers) if helps => takers.add(slot),
                Some(takers) => takers.remove(slot, &**entries),
                None if helps => {}
                None => self.list_takers(bound),
            }
        }
    }

    /// Tells from now on apart who takes something of this bound: the first that takes nothing is here.
    /// A cache that has none of those pays nothing for it.
    #[cold]
    fn list_takers(&mut self, bound: Bound) {
        let takers = Box::new(Takers::new(self.state.helpful(bound)));
        match bound {
            Bound::Entries => {}
            Bound::Weight => self.state.order.weight_takers = Some(takers),
            Bound::Bytes => self.state.order.byte_takers = Some(takers),
        }
    }
}

#[cfg(feature = "__validate")]
impl<K, V> Writer<'_, K, V> {
    /// Asserts that those who take something of a bound are listed, if others take nothing.
    pub(super) fn validate_takers(&self) {
        let State { entries, order, .. } = &*self.state;
        let takers = [&order.weight_takers, &order.byte_takers];
        for (bound, takers) in [Bound::Weight, Bound::Bytes].into_iter().zip(takers) {
            let helpful = self.state.helpful(bound);
            match takers {
                Some(takers) => takers.validate(helpful, &**entries),
                None => assert!(!self.capacity().has(bound) || helpful.count() == entries.len()),
            }
        }
    }
}
