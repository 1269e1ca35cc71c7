//! An entry on its way into a shard, and what leaves the shard for it.

use std::sync::Arc;

use super::{FlightRef, Shard, Writer};
use crate::clock::{NEVER, Nanos};
use crate::entries::{Bucket, Ended, Entries, Entry, Extras, FlightKey, Slot, Sweeps};
use crate::flight::{CompletionGuard, FlightId};
use crate::policy::capacity::Capacity;
use crate::policy::capacity::Cost;
use crate::removal::RemovalCause;
use crate::shard::removals::{Deliveries, RemovalQueue, RemovedEntry};
use crate::sync::notify::Bell;

/// What an operation took out of a shard, to be dropped once all locks are released and nothing else
/// is left to do: a panic of the user's `Drop` would leak whatever is then on its way to a caller.
pub(crate) struct Departed<K, V> {
    /// The first entry, mostly the only one.
    first: Option<Entry<K, V>>,
    /// What few operations have besides, in a box that the others do without.
    rest: Option<Box<Rest<K, V>>>,
}

struct Rest<K, V> {
    entries: Vec<Entry<K, V>>,
    /// Rings where an entry has come in that expires before all others.
    alarm: Option<Alarm>,
    /// A key and its value that were kept out.
    turned_away: Option<(FlightKey<K>, V)>,
    /// Of a flight that has ended.
    sweeps: Sweeps<K, V>,
    /// Of what goes to the listener, in a cache that has one. Last, as the listener may do anything.
    deliveries: Deliveries<K, V>,
}

impl<K, V> Default for Rest<K, V> {
    fn default() -> Self {
        let (sweeps, deliveries) = (Sweeps::default(), Deliveries::default());
        Self { entries: Vec::new(), alarm: None, turned_away: None, sweeps, deliveries }
    }
}

impl<K, V> Departed<K, V> {
    /// Keeps an entry, to be dropped.
    #[inline]
    pub(super) fn keep(&mut self, entry: Entry<K, V>) {
        match self.first {
            None => self.first = Some(entry),
            Some(_) => self.rest().entries.push(entry),
        }
    }

    /// Keeps an entry whose value nobody asks for.
    pub(crate) fn keep_taken(&mut self, taken: RemovedEntry<K, V>) {
        match taken {
            RemovedEntry::Entry(entry) => self.keep(entry),
            RemovedEntry::Withheld(withheld) => withheld.let_go(&mut self.rest().deliveries),
        }
    }

    /// Has the listener hear of an entry.
    #[inline(never)]
    pub(super) fn report(
        &mut self,
        removal_queue: &Arc<RemovalQueue<K, V>>,
        entry: Entry<K, V>,
        cause: RemovalCause,
    ) {
        self.rest().deliveries.add(removal_queue, removal_queue.post(entry, cause));
    }

    /// Has the bell rung.
    pub(crate) fn ring(&mut self, bell: &Arc<Bell>) {
        self.rest().alarm = Some(Alarm(Arc::clone(bell)));
    }

    #[cold]
    fn rest(&mut self) -> &mut Rest<K, V> {
        self.rest.get_or_insert_default()
    }

    fn take_notices(&mut self) -> Deliveries<K, V> {
        self.rest.as_mut().map(|rest| std::mem::take(&mut rest.deliveries)).unwrap_or_default()
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_notices(mut self) -> Deliveries<K, V> {
        let deliveries = self.take_notices();
        // Before they are on their way out, where a `Drop` that panics would leak them.
        drop(self);
        deliveries
    }

    /// Drops everything. To find out that nothing is in the box would otherwise take a call.
    #[inline]
    pub(crate) fn let_go(self) {
        let Self { first, rest } = self;
        drop(first);
        match rest {
            None => std::mem::forget(rest),
            Some(_) => drop(rest),
        }
    }
}

impl<K, V> Default for Departed<K, V> {
    fn default() -> Self {
        Self { first: None, rest: None }
    }
}

/// A bell that rings when this is dropped, and wakers of the user's with it.
struct Alarm(Arc<Bell>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// Where a new entry's key comes from.
pub(crate) enum Origin<K> {
    /// From the caller, whose value wins over loads in flight; and its hash. `None` once the entry is in.
    Caller(Option<K>, u64),
    /// From the flight whose value it is.
    Flight(FlightId),
}

/// Whether an entry is to be kept. One that is not wins over what is there and on its way all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    /// It has no time to live.
    Dies,
    /// A sweep has chosen it.
    Swept,
}

/// What there is of a publication's key.
pub(super) enum Found {
    Entry(Slot),
    Nothing,
    /// The value is a flight's, and a later write has won.
    Fence,
    /// The value is a flight's, and sweeps that began meanwhile have to be asked about it.
    Undecided,
}

/// An entry on its way in, kept together over as many attempts as it takes, and what came of it.
pub(crate) struct Publication<K, V> {
    origin: Origin<K>,
    /// `None` once the entry is in or kept out.
    value: Option<V>,
    /// What the cache keeps of it, if it keeps anything.
    extras: Option<Extras>,
    fate: Fate,
    /// The time of publication, from which the new entry's deadline was computed.
    now: Option<Nanos>,
    /// The end of the lifetime of the old entry's own that the new one keeps.
    kept_deadline: Option<Nanos>,
    /// The live entry that was there before.
    replaced: Option<RemovedEntry<K, V>>,
    /// The waiters to be told, if the value was a flight's.
    completion: CompletionGuard<V>,
}

impl<K, V> Publication<K, V> {
    #[inline]
    pub(crate) fn new(
        origin: Origin<K>,
        value: V,
        extras: Option<Extras>,
        fate: Fate,
        now: Option<Nanos>,
    ) -> Self {
        let (value, kept_deadline, replaced) = (Some(value), None, None);
        let completion = CompletionGuard::default();
        Self { origin, value, extras, fate, now, kept_deadline, replaced, completion }
    }

    pub(crate) fn now(&self) -> Option<Nanos> {
        self.now
    }

    /// What the entry will take; `None` if it is not to be kept, having no time to live or no chance to
    /// fit.
    #[inline]
    pub(crate) fn cost(&self, capacity: &Capacity) -> Option<Cost> {
        match self.fate {
            Fate::Lives => {}
            Fate::Dies if self.kept_deadline.is_some() => {}
            Fate::Dies | Fate::Swept => return None,
        }
        let (weight, size) = self.extras.as_ref().map_or((None, None), |of| (of.weight, of.size));
        Some(capacity.cost(weight, size)).filter(|cost| capacity.could_hold(*cost))
    }

    /// When the entry expires, or somewhat earlier: [`NEVER`] if it does not.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let extras = self.extras.as_ref().filter(|_| self.fate == Fate::Lives);
        extras.map_or(NEVER, |extras| extras.deadlines.soonest())
    }

    /// The value that was there before, once everything else is dropped: a value that is on its way to
    /// the caller would be leaked by a `Drop` that panics after it.
    pub(crate) fn into_replaced(self, departed: Departed<K, V>) -> (Option<V>, Deliveries<K, V>) {
        let mut deliveries = departed.into_notices();
        let value = self.replaced.map(|replaced| replaced.into_value(&mut deliveries));
        (value, deliveries)
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_notices(self, departed: Departed<K, V>) -> Deliveries<K, V> {
        let mut deliveries = departed.into_notices();
        self.replaced.into_iter().for_each(|replaced| replaced.let_go(&mut deliveries));
        deliveries
    }

    /// The waiters of the flight whose value it was. They come before what has to be dropped.
    pub(crate) fn take_completion(&mut self) -> CompletionGuard<V> {
        std::mem::take(&mut self.completion)
    }

    /// Lets those of the sweeps say whether the entry is kept that began while its load was in flight.
    /// Calls user code: never under a lock.
    #[cold]
    pub(crate) fn judge(&mut self, shard: &Shard<K, V>) {
        let Origin::Flight(id) = self.origin else { return };
        let flight = FlightRef { shard, id };
        let (key, sweeps) = flight.take_sweeps();
        let (Some(key), Some(value)) = (key, &self.value) else { return };
        let is_chosen = sweeps.choose(&key, value);
        // The flight gets its key back before it needs it.
        drop(key);
        if is_chosen && flight.lose() {
            self.fate = Fate::Swept;
        }
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
            Origin::Flight(id) => {
                let flight = entries.flight(*id);
                if flight.is_fenced() {
                    return Found::Fence;
                }
                if flight.has_sweeps() {
                    return Found::Undecided;
                }
                if flight.is_open() && !flight.is_update() {
                    // Whoever else publishes the key fences the flight, and what there was of it had left
                    // before the flight began.
                    return Found::Nothing;
                }
                entries.find_of_flight(*id)
            }
        };
        entry.map_or(Found::Nothing, Found::Entry)
    }

    /// What the entry takes beyond the one of its key, if that is alive at `now`.
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
                cost.beyond(capacity.cost(entries.weight(slot), entries.size(slot)))
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
            Origin::Flight(id) if entries.flight(*id).is_update() => {
                entries.fence_others(*id);
            }
            Origin::Flight(_) => {}
        }
    }

    /// Has an update of the entry in `slot` keep the lifetime of its own that this has, unless that is over
    /// or the update brings another one.
    #[inline(never)]
    pub(super) fn keep_lifetime(&mut self, slot: Slot, writer: &Writer<'_, K, V>) {
        let entries = &writer.state.entries;
        let is_update = match self.origin {
            Origin::Caller(..) => false,
            Origin::Flight(id) => entries.flight(id).is_update(),
        };
        let brings_one = self.extras.as_ref().is_some_and(|extras| extras.is_own);
        let keeps =
            is_update && !writer.is_expired(slot) && entries.has_own_lifetime(slot) && !brings_one;
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
            Origin::Flight(id) => {
                let (flight, bucket) = writer.entries().take_flight(*id);
                let hash = flight.hash();
                let key = self.part_with_flight(flight.end(), writer.departed);
                (Entry::new(hash, key.into_inner(), value), bucket)
            }
        }
    }

    /// Counts the entry's lifetime from `now`, the time of publication as the shard knows it, unless it keeps
    /// one that began before.
    #[inline]
    pub(super) fn settle(&mut self, now: Option<Nanos>) {
        if let Some(extras) = &mut self.extras {
            let late = now.zip(self.now).map_or(0, |(settled, read)| settled - read);
            extras.deadlines = extras.deadlines.put_off(late);
        }
        if let Some(deadline) = self.kept_deadline {
            let extras = self.extras.get_or_insert(Extras::NONE);
            extras.deadlines.fixed = deadline;
            extras.is_own = true;
        }
    }

    /// What the cache keeps of the entry, if it keeps anything.
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
            Origin::Flight(id) => {
                let hash = writer.entries().flight(*id).hash();
                let ended = writer.entries().end_flight(*id);
                (self.part_with_flight(ended, writer.departed), hash)
            }
        };
        let value = self.value.take().expect("it is kept out once");
        match &writer.state.removal_queue {
            None => writer.departed.rest().turned_away = Some((key, value)),
            Some(removal_queue) => {
                let entry = Entry::new(hash, key.into_inner(), value);
                writer.departed.report(removal_queue, entry, RemovalCause::Rejected);
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
        if !sweeps.is_empty() {
            departed.rest().sweeps = sweeps;
        }
        key
    }

    /// Keeps the live entry that was there before the new one.
    pub(super) fn displace(&mut self, old: RemovedEntry<K, V>) {
        self.replaced = Some(old);
    }
}
