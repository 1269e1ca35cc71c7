//! An entry on its way into a shard, and what leaves the shard for it.

use std::sync::Arc;

use crate::budget::Cost;
use crate::clock::{NEVER, Nanos};
use crate::flight::{Arrival, FlightKey, Flights, Seat, Ticket};
use crate::index::{Entry, Incoming, Index, Slot};
use crate::ledger::Ledger;
use crate::outbox::{Notice, Outbox, Taken};
use crate::removal::RemovalCause;

/// What an operation took out of a shard, to be dropped once all locks are released and nothing else
/// is left to do: a panic of the user's `Drop` would leak whatever is then on its way to a caller.
pub(crate) struct Departed<K, V> {
    /// The first entry that was evicted.
    evicted: Option<Entry<K, V>>,
    /// Entries that have expired, and others that were evicted.
    others: Vec<Entry<K, V>>,
    /// A key and its value that were kept out.
    turned_away: Option<(Option<FlightKey<K>>, Option<V>)>,
    /// Of what goes to the listener, in a cache that has one. Last, as the listener may do anything.
    notice: Option<Notice<K, V>>,
}

impl<K, V> Departed<K, V> {
    /// Keeps an entry, to be dropped.
    #[inline]
    pub(super) fn keep(&mut self, entry: Entry<K, V>, cause: RemovalCause) {
        match cause {
            // Mostly the only one, for which no vector is made.
            RemovalCause::Capacity if self.evicted.is_none() => self.evicted = Some(entry),
            _ => self.others.push(entry),
        }
    }

    /// Notes that an entry is to be delivered.
    pub(super) fn notify(&mut self, outbox: &Arc<Outbox<K, V>>) {
        Notice::add(&mut self.notice, outbox);
    }
}

impl<K, V> Default for Departed<K, V> {
    fn default() -> Self {
        Self { evicted: None, others: Vec::new(), turned_away: None, notice: None }
    }
}

/// Where a new entry's key comes from.
pub(crate) enum Origin<K> {
    /// From the caller, whose value wins over loads in flight. `None` once the entry is in.
    Caller(Option<K>),
    /// From the flight whose value it is.
    Flight(Ticket),
}

/// Whether an entry has any time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    /// It is not kept, but its value wins over what is there and on its way.
    Dies,
}

/// What there is of a submission's key.
pub(super) enum Found {
    Entry(Slot),
    Nothing,
    /// The value is a flight's, and a later write has won.
    Fence,
}

/// An entry on its way in, kept together over as many attempts as it takes, and what came of it.
pub(crate) struct Submission<K, V> {
    hash: u64,
    origin: Origin<K>,
    /// `None` once the entry is in or kept out.
    new: Option<Incoming<V>>,
    fate: Fate,
    /// The time of publication, from which the new entry's deadline was computed.
    now: Option<Nanos>,
    /// The live entry that was there before.
    replaced: Option<Taken<K, V>>,
    /// The waiters to be told, if the value was a flight's.
    arrival: Option<Arrival<V>>,
    departed: Departed<K, V>,
}

impl<K, V> Submission<K, V> {
    pub(crate) fn new(
        hash: u64,
        origin: Origin<K>,
        new: Incoming<V>,
        fate: Fate,
        now: Option<Nanos>,
    ) -> Self {
        let departed = Departed::default();
        let new = Some(new);
        Self { hash, origin, new, fate, now, replaced: None, arrival: None, departed }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn now(&self) -> Option<Nanos> {
        self.now
    }

    /// What the entry will take; `None` if it is not to be kept, having no time to live or no chance to
    /// fit.
    #[inline]
    pub(crate) fn cost(&self, ledger: &Ledger) -> Option<Cost> {
        if self.fate == Fate::Dies {
            return None;
        }
        let extras = self.new.as_ref().and_then(|new| new.extras);
        let (weight, size) = extras.map_or((None, None), |of| (of.weight, of.size));
        Some(ledger.cost(weight, size)).filter(|cost| ledger.could_hold(*cost))
    }

    /// When the entry expires, or somewhat earlier: [`NEVER`] if it does not.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let kept = self.new.as_ref().filter(|_| self.fate == Fate::Lives);
        let extras = kept.and_then(|new| new.extras);
        extras.map_or(NEVER, |extras| extras.deadlines.soonest())
    }

    /// Where to put what makes room for the entry.
    pub(crate) fn departed(&mut self) -> &mut Departed<K, V> {
        &mut self.departed
    }

    /// The value that was there before, once everything else is dropped: a value that is on its way to
    /// the caller would be leaked by a `Drop` that panics after it.
    pub(crate) fn into_replaced(self) -> Option<V> {
        let Self { replaced, departed, .. } = self;
        drop(departed);
        replaced.map(Taken::into_value)
    }

    /// The waiters of the flight whose value it was. They come before what has to be dropped.
    pub(crate) fn take_arrival(&mut self) -> Arrival<V> {
        self.arrival.take().unwrap_or_default()
    }

    /// Where the flight is that the entry comes from, if it comes from one.
    pub(super) fn seat(&self, flights: &Flights<K, V>) -> Option<Seat> {
        match self.origin {
            Origin::Caller(_) => None,
            Origin::Flight(ticket) => Some(flights.seat(self.hash, ticket)),
        }
    }

    /// Looks for an entry of the key.
    #[inline]
    pub(super) fn find(
        &self,
        seat: Option<&Seat>,
        index: &Index<K, V>,
        flights: &Flights<K, V>,
    ) -> Found
    where
        K: Eq,
    {
        let entry = match (&self.origin, seat) {
            (_, Some(seat)) => {
                let flight = flights.at(seat);
                if flight.is_fenced() {
                    return Found::Fence;
                }
                if flight.is_open() && !flight.is_update() && !index.has_deadlines() {
                    // Whoever else publishes the key fences the flight.
                    return Found::Nothing;
                }
                index.find(self.hash, flight.key())
            }
            (Origin::Caller(Some(key)), None) => index.find(self.hash, key),
            _ => unreachable!("a submission keeps its key until it is in"),
        };
        entry.map_or(Found::Nothing, Found::Entry)
    }

    /// Keeps the loads of the key that are in flight out of the cache, if the caller brings the entry
    /// or an update does.
    #[inline]
    pub(super) fn fence(&self, seat: Option<&Seat>, flights: &mut Flights<K, V>)
    where
        K: Eq,
    {
        match (&self.origin, seat) {
            (Origin::Caller(Some(key)), _) => {
                flights.fence(self.hash, key);
            }
            (_, Some(seat)) if flights.at(seat).is_update() => flights.fence_others(seat),
            _ => {}
        }
    }

    /// Takes the key, ending the flight that it comes from.
    #[inline]
    pub(super) fn take_key(&mut self, seat: Option<Seat>, flights: &mut Flights<K, V>) -> K {
        match (&mut self.origin, seat) {
            (_, Some(seat)) => self.end_flight(seat, flights).into_inner(),
            (Origin::Caller(key), None) => key.take().expect("an entry goes in once"),
            (Origin::Flight(_), None) => unreachable!("a flight has a seat"),
        }
    }

    /// Takes the value; `now` is the time of publication as the shard knows it.
    pub(super) fn take_value(&mut self, now: Option<Nanos>) -> Incoming<V> {
        let mut new = self.new.take().expect("an entry goes in once");
        if let Some(extras) = &mut new.extras {
            let late = now.zip(self.now).map_or(0, |(settled, read)| settled - read);
            extras.deadlines = extras.deadlines.put_off(late);
        }
        new
    }

    /// Keeps the value out, and ends the flight that it comes from.
    pub(super) fn turn_away(&mut self, seat: Option<Seat>, flights: &mut Flights<K, V>) {
        let key = match (&mut self.origin, seat) {
            (_, Some(seat)) => Some(self.end_flight(seat, flights)),
            (Origin::Caller(key), None) => key.take().map(FlightKey::Owned),
            (Origin::Flight(_), None) => None,
        };
        self.departed.turned_away = Some((key, self.new.take().map(|new| new.value)));
    }

    #[inline]
    fn end_flight(&mut self, seat: Seat, flights: &mut Flights<K, V>) -> FlightKey<K> {
        let (key, arrival) = flights.remove(seat).end();
        self.arrival = Some(arrival);
        key
    }

    /// Keeps the live entry that was there before the new one.
    pub(super) fn displace(&mut self, old: Taken<K, V>) {
        self.replaced = Some(old);
    }
}
