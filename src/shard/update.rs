//! What an update does with the entry of its key and with its flight.

use super::flights::{Boarding, LeadOrJoin};
use super::{Departed, Shard, Use};
use crate::clock::{Nanos, Now};
use crate::entries::Ended;
use crate::flight::Ticket;
use crate::ledger::Ledger;
use crate::outbox::Taken;

impl<K: Eq, V> Shard<K, V> {
    /// Leads the flight of an update of the key, or joins a flight that it has to wait for.
    pub(crate) fn board_update(
        &self,
        boarding: &mut Boarding<K>,
        ledger: &Ledger,
    ) -> LeadOrJoin<V> {
        let Boarding { hash, key, kind } = boarding;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut departed = Departed::default();
        let mut writer = self.write(ledger, None, &mut departed);
        let entries = writer.entries();
        if let Some((completion, ticket)) = entries.join_for_update(*hash, query) {
            return LeadOrJoin::Join(completion, ticket);
        }
        let key = key.take().expect("it was looked for");
        LeadOrJoin::Lead(entries.lead(*hash, key, *kind))
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
        let state = &mut *self.lock();
        let flight = state.entries.flight(ticket);
        if flight.is_fenced() {
            return Err(Fenced);
        }
        let slot = self.find_live(&state.entries, hash, flight.key(), now);
        Ok(slot.map(|slot| self.hit(state, slot, now, Use::Uncounted)))
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
        self.write(ledger, now, departed).remove_by_update(hash, ticket)
    }
}

/// A later write has won over a flight.
pub(crate) struct Fenced;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entries::{FlightKey, Incoming, Kind};
    use crate::shard::{Fate, Origin, Publication, Published};
    use crate::sync::desk::Desks;

    /// Against (A18) of `docs/reliability.md`: the update would start from the written value, and lose
    /// to its writer.
    #[test]
    fn a_write_between_the_start_of_an_update_and_its_look_at_the_value_is_seen() {
        let ledger = Ledger::of_entries(10);
        let shard = Shard::<u32, u32>::new(0, 10, Arc::new(Desks::new(1)), Arc::default(), None);
        let key = Some(FlightKey::Owned(1));
        let mut boarding = Boarding { hash: 1, key, kind: Kind::Update };
        let LeadOrJoin::Lead(ticket) = shard.board_update(&mut boarding, &ledger) else {
            unreachable!("there is no flight to join")
        };
        assert!(matches!(shard.start_update(1, ticket, None), Ok(None)));
        let new = Incoming { value: 10, extras: None };
        let mut publication = Publication::new(1, Origin::Caller(Some(1)), new, Fate::Lives, None);
        let mut departed = Departed::default();
        let mut writer = shard.write(&ledger, None, &mut departed);
        assert_eq!(writer.publish(&mut publication, &mut ledger.room()), Published::Done);
        drop(writer);
        assert!(matches!(shard.start_update(1, ticket, None), Err(Fenced)));
        // The key comes back for another attempt.
        let ended = shard.end_flight(&ledger, ticket);
        drop(ended.completion);
        boarding.key = Some(ended.key);
        let LeadOrJoin::Lead(ticket) = shard.board_update(&mut boarding, &ledger) else {
            unreachable!("the flight has ended")
        };
        assert!(matches!(shard.start_update(1, ticket, None), Ok(Some(10))));
    }
}
