//! How long an entry is fresh, and who refreshes it then: one word, which readers may claim.
//!
//! Of those who find an entry stale the one refreshes it who turns the word from its time to `CLAIMED`. It
//! then begins a flight for that under the lock, where it sees to it that nobody else has, and notes it as
//! `BOARDED`; the end of that flight, whatever it is, either brings another entry or makes this one due
//! again.

use std::sync::atomic::Ordering;

use crate::clock::{NEVER, Nanos, Now};
use crate::sync::AtomicU64;

/// Until when an entry is fresh, or what has become of it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It is fresh for ever.
    Endless,
    /// It is fresh until then.
    Until(Nanos),
    /// It is stale, and to be refreshed from then on.
    Due(Nanos),
    /// It is stale, and somebody is about to begin its refresh.
    Claimed,
    /// It is stale, and there is a flight that refreshes it.
    Boarded,
}

/// The highest bits of a word tell the kind, and the rest the time.
const KIND: u64 = 3 << 62;
const DUE: u64 = 1 << 62;
const CLAIMED: u64 = 2 << 62;
const BOARDED: u64 = CLAIMED | 1;

impl Freshness {
    /// Fresh until a deadline; after a hundred years and more it is the same as for ever.
    pub(crate) fn until(deadline: Nanos) -> Self {
        if deadline & KIND == 0 { Self::Until(deadline) } else { Self::Endless }
    }

    fn into_word(self) -> u64 {
        match self {
            Self::Endless => NEVER,
            Self::Until(time) => time,
            Self::Due(time) => DUE | time.min(!KIND),
            Self::Claimed => CLAIMED,
            Self::Boarded => BOARDED,
        }
    }

    fn from_word(word: u64) -> Self {
        match word & KIND {
            0 => Self::Until(word),
            DUE => Self::Due(word & !KIND),
            CLAIMED if word == BOARDED => Self::Boarded,
            CLAIMED => Self::Claimed,
            _ => Self::Endless,
        }
    }

    /// The same, of an entry that comes later by `delay`.
    pub(super) fn put_off(self, delay: Nanos) -> Self {
        match self {
            Self::Until(time) => Self::until(time.saturating_add(delay)),
            other => other,
        }
    }

    /// How long the entry is still fresh at `now`; [`NEVER`] if there is no end to it.
    pub(crate) fn left(self, now: Nanos) -> Nanos {
        match self {
            Self::Endless => NEVER,
            Self::Until(time) => time.saturating_sub(now),
            Self::Due(_) | Self::Claimed | Self::Boarded => 0,
        }
    }
}

/// Whether a call that finds a stale entry refreshes it, if nobody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Yes,
    No,
}

/// How old an entry is that was found alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Fresh,
    Stale,
    /// It is stale, and the caller has claimed its refresh.
    Due,
}

/// The freshness of an entry, as it is kept.
#[derive(Debug)]
pub(super) struct Fresh(AtomicU64);

impl Fresh {
    pub(super) fn new(freshness: Freshness) -> Self {
        Self(AtomicU64::new(freshness.into_word()))
    }

    pub(super) fn get(&self) -> Freshness {
        Freshness::from_word(self.0.load(Ordering::Relaxed))
    }

    /// Sets it, which takes the right to write.
    pub(super) fn set(&self, freshness: Freshness) {
        self.0.store(freshness.into_word(), Ordering::Relaxed);
    }

    /// Tells how old the entry is, for a reader, who claims its refresh if that is due and it wants to.
    #[inline]
    pub(super) fn age(&self, now: Now<'_>, claim: Claim) -> Age {
        let word = self.0.load(Ordering::Relaxed);
        match Freshness::from_word(word) {
            Freshness::Endless => Age::Fresh,
            Freshness::Until(time) if !now.has_reached(time) => Age::Fresh,
            Freshness::Until(_) => self.claim(word, claim),
            Freshness::Due(time) if now.has_reached(time) => self.claim(word, claim),
            Freshness::Due(_) | Freshness::Claimed | Freshness::Boarded => Age::Stale,
        }
    }

    #[cold]
    fn claim(&self, word: u64, claim: Claim) -> Age {
        let (ordering, claimed) = (Ordering::Relaxed, CLAIMED);
        let has_claimed = claim == Claim::Yes
            && self.0.compare_exchange(word, claimed, ordering, ordering).is_ok();
        if has_claimed { Age::Due } else { Age::Stale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_what_it_was_made_of() {
        let times = [0, 1, 2, !KIND - 1, !KIND];
        let timed =
            times.into_iter().flat_map(|time| [Freshness::Until(time), Freshness::Due(time)]);
        let others = [Freshness::Endless, Freshness::Claimed, Freshness::Boarded];
        for freshness in timed.chain(others) {
            assert_eq!(Fresh::new(freshness).get(), freshness);
        }
        assert_eq!(Freshness::until(NEVER), Freshness::Endless);
        assert_eq!(Freshness::until(KIND), Freshness::Endless);
    }

    #[test]
    fn one_claims_a_refresh_and_only_when_it_is_due() {
        let fresh = Fresh::new(Freshness::Until(10));
        assert_eq!(fresh.age(Now::Exactly(9), Claim::Yes), Age::Fresh);
        assert_eq!(fresh.age(Now::Exactly(10), Claim::No), Age::Stale);
        assert_eq!(fresh.age(Now::Exactly(10), Claim::Yes), Age::Due);
        assert_eq!(fresh.age(Now::Exactly(10), Claim::Yes), Age::Stale);
        fresh.set(Freshness::Due(20));
        assert_eq!(fresh.age(Now::Exactly(19), Claim::Yes), Age::Stale);
        assert_eq!(fresh.age(Now::Exactly(20), Claim::Yes), Age::Due);
    }
}
