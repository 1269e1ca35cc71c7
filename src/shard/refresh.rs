//! The flight of a refresh, beside the entry that it renews.

use super::Shard;
use super::departed::Departed;
use super::lead_or_join::{FlightRef, LeadOrJoin, LoadRequest, OpenFlight};
use crate::clock::Now;
use crate::entries::Ended;
use crate::entries::freshness::Freshness;
use crate::flight::Coalescing;

impl<K: Eq, V> Shard<K, V> {
    /// Begins the refresh of an entry that the call has claimed, unless a write or another flight of the key
    /// has come between.
    pub(crate) fn board(&self, request: &mut LoadRequest<K>) -> Option<FlightRef<'_, K, V>> {
        let LoadRequest { hash, key, kind, .. } = request;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        let entries = writer.entries();
        let slot = entries.find(*hash, query)?;
        if entries.freshness(slot) != Freshness::Claimed {
            return None;
        }
        let is_alone = self.common.coalescing == Coalescing::Off;
        if !is_alone && entries.has_open_flight(*hash, query) {
            // Its end has the entry refreshed by others, if it does not bring another one.
            entries.set_freshness(slot, Freshness::Boarded);
            return None;
        }
        let key = key.take().expect("it was looked for");
        let id = match is_alone {
            false => entries.lead_refresh(*hash, key, *kind),
            true => entries.lead_alone(*hash, key, *kind),
        };
        entries.set_freshness(slot, Freshness::Boarded);
        if writer.state.guards.hold(*hash) {
            writer.entries().guard(id);
        }
        Some(FlightRef { shard: self, id })
    }

    /// Leads a refresh of the key, whatever there is of it, or joins the flight that is open.
    pub(crate) fn lead_refresh(&self, request: &mut LoadRequest<K>) -> LeadOrJoin<'_, K, V> {
        let LoadRequest { hash, key, kind, .. } = request;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        let entries = writer.entries();
        let is_alone = self.common.coalescing == Coalescing::Off;
        if !is_alone {
            if let Some((completion, id, kind)) = entries.join(*hash, query) {
                let flight = FlightRef { shard: self, id };
                return LeadOrJoin::Join(OpenFlight { flight, kind, completion });
            }
        }
        let key = key.take().expect("it was looked for");
        let id = match is_alone {
            false => entries.lead_refresh(*hash, key, *kind),
            true => entries.lead_alone(*hash, key, *kind),
        };
        if writer.state.guards.hold(*hash) {
            writer.entries().guard(id);
        }
        LeadOrJoin::Lead(FlightRef { shard: self, id })
    }
}

impl<K, V> Shard<K, V> {
    /// Gives up the claim of a refresh that has come to no flight.
    #[cold]
    pub(crate) fn release_claim(&self, hash: u64) {
        self.change(|entries| entries.release_claim(hash));
    }
}

impl<K, V> FlightRef<'_, K, V> {
    /// Ends the flight of a refresh that has failed, which is not tried again before it is due.
    pub(crate) fn end_refresh(self, due: Freshness) -> Ended<K, V> {
        self.shard.change(|entries| entries.end_refresh(self.id, due))
    }

    /// The same, and returns the live value that it has left in place.
    pub(crate) fn fail_refresh(
        self,
        now: Option<Now<'_>>,
        due: Freshness,
    ) -> (Option<V>, Ended<K, V>)
    where
        K: Eq,
        V: Clone,
    {
        let mut departed = Departed::default();
        let mut writer = self.shard.write(None, &mut departed);
        let entries = &*writer.state.entries;
        let flight = entries.flight(self.id);
        let slot = self.shard.find_live(entries, flight.hash(), flight.key(), now);
        let left = slot.map(|slot| entries.value(slot).clone());
        (left, writer.entries().end_refresh(self.id, due))
    }
}
