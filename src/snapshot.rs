//! Copying all entries of a cache.

use crate::shard::Copied;
use crate::store::Store;

impl<K: Clone, V: Clone> Store<K, V> {
    /// Copies all live entries, least recently used first; exactly so for those of one shard.
    ///
    /// How uses of different shards compare is not known. Keys are spread by chance, so an entry that
    /// is in the middle of its shard's order is taken to be in the middle of all.
    pub(crate) fn snapshot(&self) -> Vec<Copied<K, V>> {
        let now = self.lifetimes().now();
        let mut ranked = Vec::with_capacity(self.ledger.len());
        for shard in self.shards() {
            let copies = shard.copies(now);
            let len = copies.len() as u64;
            let rank = |place: u64| ((place + 1) << 32) / len;
            ranked.extend((0..).map(rank).zip(copies));
        }
        // Stable, and quick where it is in order already, as with one shard.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, copy)| copy).collect()
    }
}
