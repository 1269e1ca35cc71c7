//! Names of flights.

/// Tells the flights of one shard apart: where its node is, and which of those that were there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlightId(u64);

impl FlightId {
    pub(crate) fn new(number: u32, slot: usize) -> Self {
        Self(u64::from(number) << 32 | slot as u64)
    }

    #[inline]
    pub(crate) fn slot(self) -> usize {
        self.0 as u32 as usize
    }
}

/// A flight, named for the whole process: the address of its shard and its id.
pub(crate) type FlightName = (usize, FlightId);
