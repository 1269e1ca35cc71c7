//! An entry on its way into a shard, and what came of it.

use super::departed::Departed;
use super::removals::{Deliveries, RemovedEntry};
use super::writer::Writer;
use crate::appraisal::Measured;
use crate::clock::{NEVER, Nanos};
use crate::entries::{Bucket, Ended, Entries, Entry, Extras, FlightKey, Slot};
use crate::flight::{CompletionGuard, FlightId};
use crate::policy::capacity::{Capacity, Cost, Reservation};
use crate::removal::RemovalCause;

/// Where a new entry's key comes from.
pub(crate) enum Origin<K> {
    /// From the caller, whose value wins over loads in flight; and its hash. `None` once the entry is in.
    Caller(Option<K>, u64),
    /// From the flight whose value it is: a load, which finds no entry of its key unless others load too.
    Load(FlightId),
    /// From an update, whose entry may be there, and which wins over loads in flight.
    Update(FlightId),
}

/// Whether an entry is to be kept. One that is not wins over what is there and on its way all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    /// The same, unless its key was written otherwise since its guard began.
    LivesUndisturbed,
    /// It has no time to live.
    Dies,
    /// A sweep has chosen it.
    Swept,
}

/// How an entry is published, by the rules of its cache.
pub(crate) struct Terms {
    /// Kept with it, if the cache keeps anything.
    pub(crate) extras: Option<Extras>,
    pub(crate) fate: Fate,
    /// The time of publication, from which the entry's deadline was computed.
    pub(crate) now: Option<Nanos>,
}

/// The standing of a publication's key in its shard.
pub(super) enum Found {
    Entry(Slot),
    Nothing,
    /// The value is a flight's, and a later write has won.
    Fence,
    /// The value is a flight's, and sweeps that began meanwhile have to be asked about it.
    Undecided,
}

/// An entry on its way in, kept together over as many attempts as it takes, and what came of it.
pub(crate) struct Publication<'a, K, V> {
    /// The room that is reserved for it. First, so that in a panic it is given back before anything of the
    /// user's is dropped: that may need it.
    pub(crate) reservation: Reservation<'a>,
    pub(super) origin: Origin<K>,
    /// `None` once the entry is in or kept out.
    pub(super) value: Option<V>,
    /// Kept with it, if the cache keeps anything.
    extras: Option<Extras>,
    pub(super) fate: Fate,
    /// The time of publication, from which the new entry's deadline was computed.
    now: Option<Nanos>,
    /// The end of the lifetime of the old entry's own that the new one keeps.
    kept_deadline: Option<Nanos>,
    /// The live entry that was there before.
    replaced: Option<RemovedEntry<K, V>>,
    /// The waiters to be told, if the value was a flight's.
    completion: CompletionGuard<V>,
}

impl<'a, K, V> Publication<'a, K, V> {
    #[inline]
    pub(crate) fn new(
        origin: Origin<K>,
        value: V,
        terms: Terms,
        reservation: Reservation<'a>,
    ) -> Self {
        let Terms { extras, fate, now } = terms;
        let (value, kept_deadline, replaced) = (Some(value), None, None);
        let completion = CompletionGuard::default();
        Self { reservation, origin, value, extras, fate, now, kept_deadline, replaced, completion }
    }

    pub(crate) fn now(&self) -> Option<Nanos> {
        self.now
    }

    /// Puts the publication off until `now`, and with it the end of the entry's lifetime.
    pub(crate) fn put_off(&mut self, now: Nanos) {
        let Some(before) = self.now else { return };
        if let Some(extras) = &mut self.extras {
            extras.deadlines = extras.deadlines.put_off(now.saturating_sub(before));
        }
        self.now = Some(now.max(before));
    }

    /// Returns the hash of a key that the caller has guarded.
    pub(super) fn guarded(&self) -> Option<u64> {
        self.written().filter(|_| self.fate == Fate::LivesUndisturbed)
    }

    /// Returns the hash of a key that the caller brings.
    pub(super) fn written(&self) -> Option<u64> {
        match self.origin {
            Origin::Caller(_, hash) => Some(hash),
            Origin::Load(_) | Origin::Update(_) => None,
        }
    }

    /// Has the entry live only if its key was not written otherwise since the caller has guarded it.
    pub(crate) fn guard(&mut self) {
        if self.fate == Fate::Lives {
            self.fate = Fate::LivesUndisturbed;
        }
    }

    /// Returns what the entry will take; `None` if it is not to be kept, having no time to live or no
    /// chance to fit.
    #[inline]
    pub(crate) fn cost(&self, capacity: &Capacity) -> Option<Cost> {
        match self.fate {
            Fate::Lives | Fate::LivesUndisturbed => {}
            Fate::Dies if self.kept_deadline.is_some() => {}
            Fate::Dies | Fate::Swept => return None,
        }
        let measured = self.extras.as_ref().map_or(Measured::NOTHING, |extras| extras.measured);
        Some(capacity.cost(measured)).filter(|cost| capacity.could_hold(*cost))
    }

    fn lives(&self) -> bool {
        matches!(self.fate, Fate::Lives | Fate::LivesUndisturbed)
    }

    /// When the entry expires, or somewhat earlier: [`NEVER`] if it does not.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let extras = self.extras.as_ref().filter(|_| self.lives());
        extras.map_or(NEVER, |extras| extras.deadlines.soonest())
    }

    /// The value that was there before, once everything else is dropped: a value that is on its way to
    /// the caller would be leaked by a `Drop` that panics after it.
    pub(crate) fn into_replaced(self, departed: Departed<K, V>) -> (Option<V>, Deliveries<K, V>) {
        let mut deliveries = departed.into_deliveries();
        let value = self.replaced.map(|replaced| replaced.into_value(&mut deliveries));
        (value, deliveries)
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_deliveries(self, departed: Departed<K, V>) -> Deliveries<K, V> {
        let mut deliveries = departed.into_deliveries();
        self.replaced.into_iter().for_each(|replaced| replaced.let_go(&mut deliveries));
        deliveries
    }

    /// The waiters of the flight whose value it was. They come before what has to be dropped.
    pub(crate) fn take_completion(&mut self) -> CompletionGuard<V> {
        std::mem::take(&mut self.completion)
    }

    /// Looks for an entry of the key. (Inlined, as is all that a miss passes once: a caller then need not
    /// put together what it hands over.)
    #[inline(always)]
    pub(super) fn find(&self, entries: &Entries<K, V>) -> Found
    where
        K: Eq,
    {
        let entry = match &self.origin {
            Origin::Caller(key, hash) => {
                entries.find(*hash, key.as_ref().expect("it is kept until it is in"))
            }
            Origin::Load(id) | Origin::Update(id) => {
                let flight = entries.flight(*id);
                if !flight.is_kept() {
                    return Found::Fence;
                }
                if flight.has_sweeps() {
                    return Found::Undecided;
                }
                if flight.is_first() && matches!(self.origin, Origin::Load(_)) {
                    // Whoever else publishes the key fences the flight, and what there was of it had left
                    // before the flight began.
                    return Found::Nothing;
                }
                entries.find_of_flight(*id)
            }
        };
        entry.map_or(Found::Nothing, Found::Entry)
    }

    /// Returns what the entry takes beyond the one of its key, if that is alive at `now`.
    pub(super) fn cost_beyond(
        &self,
        entries: &Entries<K, V>,
        now: Nanos,
        capacity: &Capacity,
    ) -> Cost
    where
        K: Eq,
    {
        let cost = self.cost(capacity).unwrap_or_default();
        match self.find(entries) {
            Found::Fence => Cost::default(),
            Found::Entry(slot) if !entries.is_expired(slot, now) => {
                cost.beyond(capacity.cost(entries.measured(slot)))
            }
            _ => cost,
        }
    }

    /// Keeps the loads of the key that are in flight out of the cache, if the caller brings the entry
    /// or an update does.
    #[inline(always)]
    pub(super) fn fence(&self, entries: &mut Entries<K, V>)
    where
        K: Eq,
    {
        match &self.origin {
            Origin::Caller(key, hash) => {
                key.as_ref().map(|key| entries.fence(*hash, key));
            }
            Origin::Update(id) => entries.fence_others(*id),
            Origin::Load(_) => {}
        }
    }

    /// Has an update of the entry in `slot` keep the lifetime of its own that this has, unless that is over
    /// or the update brings another one.
    #[inline(never)]
    pub(super) fn keep_lifetime(&mut self, slot: Slot, writer: &Writer<'_, K, V>) {
        let entries = &writer.state.entries;
        let brings_one = self.extras.as_ref().is_some_and(|extras| extras.is_own);
        let keeps = matches!(self.origin, Origin::Update(_))
            && !writer.is_expired(slot)
            && entries.has_own_lifetime(slot)
            && !brings_one;
        self.kept_deadline = keeps.then(|| entries.deadlines(slot).fixed);
    }

    /// Takes the entry, and ends the flight that it comes from, whose place in the table the entry gets.
    #[inline(always)]
    pub(super) fn take_entry(&mut self, writer: &mut Writer<'_, K, V>) -> (Entry<K, V>, Bucket) {
        let value = self.value.take().expect("an entry goes in once");
        match &mut self.origin {
            Origin::Caller(key, hash) => {
                let key = key.take().expect("an entry goes in once");
                (Entry::new(*hash, key, value), Bucket::NONE)
            }
            Origin::Load(id) | Origin::Update(id) => {
                let (flight, bucket) = writer.entries().take_published(*id);
                let hash = flight.hash();
                let key = self.part_with_flight(flight.end(), writer.departed);
                (Entry::new(hash, key.into_inner(), value), bucket)
            }
        }
    }

    /// Counts the entry's lifetime from the time of publication as the shard knows it, so much `late`r
    /// than the caller's reading, unless it keeps one that began before.
    #[inline]
    pub(super) fn settle(&mut self, late: Nanos) {
        if let Some(extras) = &mut self.extras {
            extras.deadlines = extras.deadlines.put_off(late);
        }
        if let Some(deadline) = self.kept_deadline {
            let extras = self.extras.get_or_insert(Extras::NONE);
            extras.deadlines.fixed = deadline;
            extras.is_own = true;
        }
    }

    /// Returns what the cache keeps of the entry, if it keeps anything.
    #[inline]
    pub(super) fn extras(&self) -> Option<&Extras> {
        self.extras.as_ref()
    }

    /// Keeps the value out, and ends the flight that it comes from.
    #[cold]
    pub(super) fn turn_away(&mut self, writer: &mut Writer<'_, K, V>) {
        let (key, hash) = match &mut self.origin {
            Origin::Caller(key, hash) => {
                (FlightKey::Owned(key.take().expect("it is kept out once")), *hash)
            }
            Origin::Load(id) | Origin::Update(id) => {
                let hash = writer.entries().flight(*id).hash();
                let ended = writer.entries().end_flight(*id);
                (self.part_with_flight(ended, writer.departed), hash)
            }
        };
        let value = self.value.take().expect("it is kept out once");
        match &writer.state.removals {
            None => writer.departed.turn_away(key, value),
            Some(removals) => {
                let entry = Entry::new(hash, key.into_inner(), value);
                writer.departed.report(removals, entry, RemovalCause::Rejected);
            }
        }
    }

    /// Keeps what there is to do of a flight that has ended, but for its key.
    #[inline(always)]
    fn part_with_flight(
        &mut self,
        ended: Ended<K, V>,
        departed: &mut Departed<K, V>,
    ) -> FlightKey<K> {
        let Ended { key, completion, sweeps } = ended;
        self.completion = completion;
        departed.keep_sweeps(sweeps);
        key
    }

    /// Keeps the live entry that was there before the new one.
    pub(super) fn displace(&mut self, old: RemovedEntry<K, V>) {
        self.replaced = Some(old);
    }
}
