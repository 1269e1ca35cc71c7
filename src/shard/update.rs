//! What an update does with the entry of its key and with its flight.

use super::Shard;
use super::submission::Departed;
use crate::clock::{Nanos, Now};
use crate::flight::{Boarding, Ended, FlightKey, Kind, Ticket};
use crate::ledger::Ledger;
use crate::outbox::Taken;

impl<K: Eq, V> Shard<K, V> {
    /// Leads the flight of an update of `key`, or joins a flight that it has to wait for.
    pub(crate) fn board_update(&self, hash: u64, key: FlightKey<K>) -> Boarding<K, V> {
        let flights = &mut self.exclusive().flights;
        match flights.join_for_update(hash, key.get()) {
            Some((landing, ticket)) => Boarding::Join(key, landing, ticket),
            None => Boarding::Lead(flights.lead(hash, key, Kind::Update)),
        }
    }

    /// Returns the live value that an update starts from, which counts as a use, unless a later write
    /// has won already: then that one's value is another update's to change.
    ///
    /// One look at both: between two a write could bring a value that this update then starts from, and
    /// whose writer it loses to.
    pub(crate) fn start_update(
        &self,
        hash: u64,
        ticket: Ticket,
        now: Option<Now<'_>>,
    ) -> Result<Option<V>, Fenced>
    where
        V: Clone,
    {
        let state = self.locked();
        let flight = state.flights.at(&state.flights.seat(hash, ticket));
        if flight.is_fenced() {
            return Err(Fenced);
        }
        let slot = self.find_live(&state.index, hash, flight.key(), now);
        Ok(slot.map(|slot| {
            self.touch(&state.index, slot, now);
            state.index.value(slot).clone()
        }))
    }

    /// Ends the flight of an update and removes the entry of its key, unless a later write has won.
    pub(crate) fn remove_by_update(
        &self,
        hash: u64,
        ticket: Ticket,
        now: Option<Nanos>,
        ledger: &Ledger,
        departed: &mut Departed<K, V>,
    ) -> (Option<Taken<K, V>>, Ended<K, V>) {
        let mut state = self.writable();
        let now = now.map(|now| self.settle(now));
        state.remove_by_update(hash, ticket, now, ledger, departed)
    }
}

/// A later write has won over a flight.
pub(crate) struct Fenced;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::Incoming;
    use crate::patience::Patience;
    use crate::pins::Pins;
    use crate::shard::{Fate, Origin, Submission, Written};

    /// Against (A18) of `docs/reliability.md`: the update would start from the written value, and lose
    /// to its writer.
    #[test]
    fn a_write_between_the_start_of_an_update_and_its_look_at_the_value_is_seen() {
        let ledger = Ledger::of_entries(10);
        let shard = Shard::<u32, u32>::new(0, 10, Arc::new(Pins::new(1)), Arc::default(), None);
        let Boarding::Lead(ticket) = shard.board_update(1, FlightKey::Owned(1)) else {
            unreachable!("there is no flight to join")
        };
        assert!(matches!(shard.start_update(1, ticket, None), Ok(None)));
        let new = Incoming { value: 10, extras: None };
        let mut submission = Submission::new(1, Origin::Caller(Some(1)), new, Fate::Lives, None);
        let written = shard.write(&mut submission, &mut ledger.room(), Patience::Try);
        assert_eq!(written, Some(Written::Done));
        assert!(matches!(shard.start_update(1, ticket, None), Err(Fenced)));
        // The key comes back for another attempt.
        let ended = shard.end_flight(1, ticket);
        drop(ended.arrival);
        let Boarding::Lead(ticket) = shard.board_update(1, ended.key) else {
            unreachable!("the flight has ended")
        };
        assert!(matches!(shard.start_update(1, ticket, None), Ok(Some(10))));
    }
}
