//! The flight of an update: led one after another, begun with the value that is there, ended by a removal.

use super::Shard;
use super::departed::Departed;
use super::hit::Use;
use super::lead_or_join::{FlightRef, LeadOrJoin, LoadRequest, OpenFlight};
use super::removals::RemovedEntry;
use crate::clock::{Nanos, Now};
use crate::entries::Ended;
use crate::removal::RemovalCause;

impl<K: Eq, V> Shard<K, V> {
    /// Leads the flight of an update of the key, or joins a flight that it has to wait for.
    ///
    /// It wins over a refresh of an entry that is alive, and starts from that.
    pub(crate) fn lead_update(
        &self,
        request: &mut LoadRequest<K>,
        now: Option<Now<'_>>,
    ) -> LeadOrJoin<'_, K, V> {
        let LoadRequest { hash, key, kind, .. } = request;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        let is_alive = self.find_live(&writer.state.entries, *hash, query, now).is_some();
        let entries = writer.entries();
        let joined = entries.join_for_update(*hash, query, is_alive);
        if let Some((completion, id, kind)) = joined {
            let flight = FlightRef { shard: self, id };
            return LeadOrJoin::Join(OpenFlight { flight, kind, completion });
        }
        if is_alive {
            entries.fence_refresh(*hash, query);
        }
        let key = key.take().expect("it was looked for");
        let id = entries.lead(*hash, key, *kind);
        if writer.state.guards.hold(*hash) {
            writer.entries().guard(id);
        }
        LeadOrJoin::Lead(FlightRef { shard: self, id })
    }
}

impl<K: Eq, V> FlightRef<'_, K, V> {
    /// Returns the live value that an update starts from, which counts as a use, unless a later write
    /// has won already: then that one's value is another update's to change.
    ///
    /// One look at both: between two a write could bring a value that this update then starts from, and
    /// whose writer it loses to.
    pub(crate) fn start_update(self, now: Option<Now<'_>>) -> Result<Option<V>, Fenced>
    where
        V: Clone,
    {
        let Self { shard, id } = self;
        let state = &mut *shard.lock();
        let flight = state.entries.flight(id);
        if flight.is_fenced() {
            return Err(Fenced);
        }
        let slot = shard.find_live(&state.entries, flight.hash(), flight.key(), now);
        Ok(slot.map(|slot| shard.hit(state, slot, now, Use::Uncounted)))
    }

    /// Ends the flight of an update and removes the entry of its key, unless a later write has won.
    pub(crate) fn remove_by_update(
        self,
        now: Option<Nanos>,
        departed: &mut Departed<K, V>,
    ) -> (Option<RemovedEntry<K, V>>, Ended<K, V>) {
        let mut writer = self.shard.write(now, departed);
        writer.free_some_expired();
        let entries = writer.entries();
        let mut found = None;
        if entries.flight(self.id).is_kept() {
            found = entries.find_of_flight(self.id);
            entries.fence_others(self.id);
        }
        let ended = entries.end_flight(self.id);
        let entry = found.and_then(|slot| writer.take_out(slot, RemovalCause::Removed));
        (entry, ended)
    }
}

/// A later write has won over a flight.
pub(crate) struct Fenced;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entries::{FlightKey, Kind};
    use crate::flight::Coalescing;
    use crate::policy::capacity::Limits;
    use crate::policy::eviction::Eviction;
    use crate::shard::common::Common;
    use crate::shard::publication::{Fate, Origin, Publication, Terms};
    use crate::shard::publish::Published;

    /// Against (A18) of `docs/reliability.md`: the update would start from the written value, and lose
    /// to its writer.
    #[test]
    fn a_write_between_the_start_of_an_update_and_its_look_at_the_value_is_seen() {
        let limits = Limits { maxsize: 10, max_weight: None, max_bytes: None };
        let common = Arc::new(Common::new(1, limits, Eviction::Lru, Coalescing::On));
        let shard = Shard::<u32, u32>::new(0, 10, Arc::clone(&common), None);
        let key = Some(FlightKey::Owned(1));
        let mut request = LoadRequest { hash: 1, key, kind: Kind::Update, of: Use::Uncounted };
        let LeadOrJoin::Lead(flight) = shard.lead_update(&mut request, None) else {
            unreachable!("there is no flight to join")
        };
        assert!(matches!(flight.start_update(None), Ok(None)));
        let origin = Origin::Caller(Some(1), 1);
        let terms = Terms { extras: None, fate: Fate::Lives, now: None };
        let mut publication = Publication::new(origin, 10, terms, common.capacity.reservation());
        let mut departed = Departed::default();
        let published = shard.publish(&mut publication, &mut departed);
        assert_eq!(published, Published::Done);
        assert!(matches!(flight.start_update(None), Err(Fenced)));
        // The key comes back for another attempt.
        let ended = flight.end();
        drop(ended.completion);
        request.key = Some(ended.key);
        let LeadOrJoin::Lead(flight) = shard.lead_update(&mut request, None) else {
            unreachable!("the flight has ended")
        };
        assert!(matches!(flight.start_update(None), Ok(Some(10))));
    }
}
