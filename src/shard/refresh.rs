//! The flight of a refresh, beside the entry that it renews.

use super::Shard;
use super::departed::Departed;
use super::lead_or_join::{FlightRef, LeadOrJoin, LoadRequest, OpenFlight};
use super::writer::Writer;
use crate::clock::Now;
use crate::entries::freshness::Freshness;
use crate::entries::{Ended, FlightKey, Kind};
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
        // Looked for before anything is noted, since keys are compared, which may panic.
        let is_being_refreshed = entries.is_being_refreshed(*hash, query);
        // The end of its flight, be it another call's, has the entry refreshed by others, if it does not bring
        // another one.
        entries.set_freshness(slot, Freshness::Boarded);
        if is_being_refreshed {
            return None;
        }
        let key = key.take().expect("it was looked for");
        Some(self.begin_refresh(&mut writer, *hash, key, *kind))
    }

    /// Leads a refresh of the key, whatever there is of it, or joins the flight that is open.
    pub(crate) fn lead_refresh(&self, request: &mut LoadRequest<K>) -> LeadOrJoin<'_, K, V> {
        let LoadRequest { hash, key, kind, .. } = request;
        let query = key.as_ref().expect("the key is the call's until it leads").get();
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        let entries = writer.entries();
        if self.common.coalescing == Coalescing::On {
            if let Some((completion, id, kind)) = entries.join(*hash, query) {
                let flight = FlightRef { shard: self, id };
                return LeadOrJoin::Join(OpenFlight { flight, kind, completion });
            }
        }
        let key = key.take().expect("it was looked for");
        LeadOrJoin::Lead(self.begin_refresh(&mut writer, *hash, key, *kind))
    }

    fn begin_refresh(
        &self,
        writer: &mut Writer<'_, K, V>,
        hash: u64,
        key: FlightKey<K>,
        kind: Kind,
    ) -> FlightRef<'_, K, V> {
        let id = match self.common.coalescing {
            Coalescing::On => writer.entries().lead_refresh(hash, key, kind),
            Coalescing::Off => writer.entries().lead_alone(hash, key, kind),
        };
        if writer.state.guards.hold(hash) {
            writer.entries().guard(id);
        }
        FlightRef { shard: self, id }
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

    /// The same, and returns the live value that it has left in place, which is let alone until then if it is
    /// stale.
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
        // A later write has nothing to do with the failure.
        let own = slot.filter(|_| !flight.is_fenced());
        if let (Some(slot), Some(now)) = (own, now) {
            writer.entries().let_alone(slot, now, due);
        }
        (left, writer.entries().end_refresh(self.id, due))
    }
}
