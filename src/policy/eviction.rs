//! The orders of eviction that a cache can have.

use std::fmt;

/// Says how a cache chooses the entries that leave when it is full.
///
/// Expired entries leave first in either order, and neither evicts anything while there is room. Choose
/// `Adaptive` where a load is dear and it does not matter which entry leaves: it makes fewer loads of nearly
/// all traffic. Choose `Lru` where the order itself is relied upon, or where the keys in use move on steadily,
/// so that what is old is done with. Loads per 1,000 requests of some traces, with room for a tenth of their
/// keys (`docs/hit-ratio.md` in the repository has all, other caches, and how they were measured):
///
/// | trace | `Lru` | `Adaptive` | the least there can be |
/// |---|---|---|---|
/// | a database under transactions (ARC's OLTP) | 334.8 | 330.3 | 237.9 |
/// | a web site (cache2k's web07) | 443.4 | 421.7 | 319.1 |
/// | several programs (LIRS's multi1) | 565.8 | 501.1 | 472.6 |
/// | a network file system (LIRS's sprite) | 135.2 | 137.6 | 86.4 |
/// | Zipf with exponent 1 | 270.2 | 218.6 | 156.6 |
/// | a loop of ten times as many keys | 1,000 | 902.0 | 901.0 |
/// | Zipf, where other keys are frequent every while | 245.6 | 244.6 | 147.4 |
/// | the same, with room for three tenths | 137.9 | 150.5 | 84.6 |
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, Eviction};
///
/// let cache = AsyncLru::<u32, u32>::builder().eviction(Eviction::Adaptive).build();
/// assert_eq!(cache.info().eviction, Eviction::Adaptive);
/// assert_eq!(AsyncLru::<u32, u32>::new(100).info().eviction, Eviction::Lru);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Eviction {
    /// The least recently used entry, exactly: of the cache if it has one shard, else of a shard.
    #[default]
    Lru,
    /// An entry that seems unlikely to be used again, by what has left and come back.
    ///
    /// A new entry is *cold* and waits in a queue, first in, first out. If it was used twice by the time that
    /// its turn comes it becomes *hot*; if it was not used it leaves, and if once it waits again. Hot entries
    /// leave in the order of their last use, but each use, up to three, earns one more turn. Of what was
    /// evicted a *ghost* of four bytes stays: when it was last used. An entry that comes back with a ghost
    /// that is younger than the last use of the hot entries that leave is hot at once. How many entries may
    /// be cold, from one to 95 in a hundred, is set by a duel with exact LRU, which is estimated from the
    /// ghosts: a load that LRU would have spared raises the share, and a hit that it would not have had lowers
    /// it. So a scan passes through the queue and leaves what is hot in place, a loop that is larger than the
    /// cache keeps a part of itself there, and traffic that suits LRU gets nearly that. Judging by the time
    /// between two uses is after LIRS (Jiang and Zhang, SIGMETRICS 2002), the queue after S3-FIFO (Yang et al.,
    /// SOSP 2023), the duel after set duelling (Qureshi et al., ISCA 2007).
    ///
    /// Takes 12 bytes more per entry; in a cache that bounds weight or bytes the shares are of these. Its weak
    /// spots: keys that are used exactly twice, some time apart, and a set of keys in use that moves on, each
    /// cost it about one hit in a hundred against LRU; a shard of fewer than 64 entries learns little, so that
    /// by default none has fewer. What expired or was removed leaves no ghost. Where
    /// [`keys`](crate::AsyncLru::keys) and snapshots tell the order of use, an entry that was given another
    /// turn, or became hot, was used at that time.
    Adaptive,
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lru => "lru",
            Self::Adaptive => "adaptive",
        })
    }
}
