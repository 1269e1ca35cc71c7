//! The orders of eviction that a cache can have.

use std::fmt;

/// How a cache chooses the entries that leave when it is full.
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
    /// The least recently used entry, exactly.
    #[default]
    Lru,
    /// Chosen by what has left and come back; makes fewer loads of almost everything.
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
