//! A bound, what is taken of it, and what entries take of all the bounds that a cache may have.

/// A bound, and how much of it is taken: never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) max: u64,
    pub(crate) taken: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Self {
        Self { max, taken: 0 }
    }

    pub(crate) fn free(self) -> u64 {
        self.max - self.taken
    }

    /// Moves the bound to `max`, or as near to it as what is taken allows.
    pub(crate) fn set_max(&mut self, max: u64) {
        self.max = max.max(self.taken);
    }

    /// Both numbers in one word; neither may be above [`u32::MAX`].
    #[inline]
    pub(crate) fn pack(self) -> u64 {
        self.max << 32 | self.taken
    }

    #[inline]
    pub(crate) fn unpack(word: u64) -> Self {
        Self { max: word >> 32, taken: word & u64::from(u32::MAX) }
    }
}

/// What entries take of each bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) entries: u64,
    /// Zero in a cache that does not weigh its entries.
    pub(crate) weight: u64,
    /// Zero in a cache that does not bound their bytes.
    pub(crate) bytes: u64,
}

impl Cost {
    /// That of an entry, in a cache that counts nothing else.
    pub(crate) const ENTRY: Self = Self { entries: 1, weight: 0, bytes: 0 };

    /// What this takes beyond `other`, of each bound.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            weight: self.weight.saturating_sub(other.weight),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Both together. They are in one cache, so no sum is above a bound.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            weight: self.weight + other.weight,
            bytes: self.bytes + other.bytes,
        }
    }

    pub(crate) fn fits(self, room: Self) -> bool {
        self.beyond(room) == Self::default()
    }
}
