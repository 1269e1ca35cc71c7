//! Whether what a shard keeps of its nodes agrees, for tests.

use super::freshness::Freshness;
use super::node::{Node, wide};
use super::{Entries, Flight, Slot};

impl<K: Eq, V> Entries<K, V> {
    /// Asserts that table, entries, flights, stamps, deadlines and sizes agree, and that what is stale can be
    /// refreshed: no call is running that has just found it so. Returns how many flights there are.
    pub(crate) fn validate(&self) -> usize {
        let Self { table, entries, flights, epoch, slots, deadlines, sizes, total_bytes, .. } =
            self;
        let listed = flights.iter().filter(|(_, flight)| flight.is_listed());
        assert_eq!(table.len(), entries.len() + listed.count(), "every node is in the table once");
        assert!(*slots <= entries.capacity());
        for (slot, entry) in entries {
            assert!(slot < *slots);
            let hash = u64::from(entry.hash) << 32;
            assert_eq!(self.find(hash, &entry.key), Some(slot as Slot), "a key finds its entry");
            assert!(entry.stamp() <= *epoch, "no use lies ahead");
        }
        assert!(self.uncounted <= *epoch);
        assert!(deadlines.len() <= *slots && self.idle_deadlines.len() <= *slots);
        assert!(sizes.is_empty() || sizes.len() == *slots);
        assert!(self.weights.is_empty() || self.weights.len() == *slots);
        if !self.weights.is_empty() {
            let sum: u64 = entries.iter().map(|(slot, _)| self.weights[slot]).sum();
            assert_eq!(sum, self.total_weight);
        }
        if !sizes.is_empty() {
            let sum: u128 = entries.iter().map(|(slot, _)| sizes[slot] as u128).sum();
            assert_eq!(sum, *total_bytes);
        }
        assert!(self.freshness.len() <= *slots);
        for (slot, entry) in entries {
            let renews = |flight: &Flight<K, V>| {
                flight.hash == entry.hash && (flight.kind.is_refresh() || flight.is_update())
            };
            match self.freshness(slot as Slot) {
                Freshness::Claimed => panic!("a call has claimed a refresh and not begun it"),
                Freshness::Boarded => assert!(
                    flights.iter().any(|(_, flight)| renews(flight)),
                    "nobody refreshes the entry, and nobody will"
                ),
                Freshness::Endless | Freshness::Until(_) | Freshness::Due(_) => {}
            }
        }
        for (slot, flight) in flights {
            assert_eq!(flight.id.slot(), slot);
            let is_twin = |node: &&Node| {
                let other = node.is_flight().then(|| &flights[node.slot()]);
                other.is_some_and(|other| {
                    other.id == flight.id
                        || other.is_open() && flight.is_open() && other.key() == flight.key()
                })
            };
            let twins = table.iter_hash(wide(flight.hash)).filter(is_twin).count();
            assert_eq!(twins, usize::from(flight.is_listed()), "no key has two flights to join");
        }
        flights.len()
    }
}
