//! An entry on its way into a shard, and what leaves the shard for it.

use std::sync::Arc;

use super::{Shard, Writer};
use crate::bell::Bell;
use crate::budget::Cost;
use crate::clock::{NEVER, Nanos};
use crate::entries::{Bucket, Ended, Entries, Entry, Extras, FlightKey, Incoming, Slot, Sweeps};
use crate::flight::{CompletionGuard, Ticket};
use crate::ledger::Ledger;
use crate::outbox::{Notices, Outbox, Taken};
use crate::removal::RemovalCause;

/// What an operation took out of a shard, to be dropped once all locks are released and nothing else
/// is left to do: a panic of the user's `Drop` would leak whatever is then on its way to a caller.
pub(crate) struct Departed<K, V> {
    /// The first entry that was evicted.
    evicted: Option<Entry<K, V>>,
    /// Entries that have expired, and others that were evicted.
    others: Vec<Entry<K, V>>,
    /// What few operations have besides, in a box that the others do without.
    rest: Option<Box<Rest<K, V>>>,
}

struct Rest<K, V> {
    /// Rings where an entry has come in that expires before all others.
    alarm: Option<Alarm>,
    /// A key and its value that were kept out.
    turned_away: Option<(FlightKey<K>, V)>,
    /// Of a flight that has ended.
    sweeps: Sweeps<K, V>,
    /// Of what goes to the listener, in a cache that has one. Last, as the listener may do anything.
    notices: Notices<K, V>,
}

impl<K, V> Departed<K, V> {
    /// Keeps an entry, to be dropped.
    #[inline]
    pub(super) fn keep(&mut self, entry: Entry<K, V>, cause: RemovalCause) {
        match cause {
            // Mostly the only one, for which no vector is made.
            RemovalCause::Capacity if self.evicted.is_none() => self.evicted = Some(entry),
            _ => self.others.push(entry),
        }
    }

    /// Keeps an entry whose value nobody asks for.
    pub(crate) fn keep_taken(&mut self, taken: Taken<K, V>) {
        match taken {
            Taken::Entry(entry) => self.others.push(entry),
            Taken::Withheld(withheld) => withheld.let_go(&mut self.rest().notices),
        }
    }

    /// Notes that what is in the box before the number `until` is to be delivered.
    pub(super) fn notify(&mut self, outbox: &Arc<Outbox<K, V>>, until: u64) {
        self.rest().notices.add(outbox, until);
    }

    /// Has the bell rung.
    pub(crate) fn ring(&mut self, bell: &Arc<Bell>) {
        self.rest().alarm = Some(Alarm(Arc::clone(bell)));
    }

    fn rest(&mut self) -> &mut Rest<K, V> {
        self.rest.get_or_insert_with(|| {
            let (sweeps, notices) = (Sweeps::default(), Notices::default());
            Box::new(Rest { alarm: None, turned_away: None, sweeps, notices })
        })
    }

    fn take_notices(&mut self) -> Notices<K, V> {
        self.rest.as_mut().map(|rest| std::mem::take(&mut rest.notices)).unwrap_or_default()
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_notices(mut self) -> Notices<K, V> {
        let notices = self.take_notices();
        // Before they are on their way out, where a `Drop` that panics would leak them.
        drop(self);
        notices
    }
}

impl<K, V> Default for Departed<K, V> {
    fn default() -> Self {
        Self { evicted: None, others: Vec::new(), rest: None }
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
    /// From the caller, whose value wins over loads in flight. `None` once the entry is in.
    Caller(Option<K>),
    /// From the flight whose value it is.
    Flight(Ticket),
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
    hash: u64,
    origin: Origin<K>,
    /// `None` once the entry is in or kept out.
    new: Option<Incoming<V>>,
    fate: Fate,
    /// The time of publication, from which the new entry's deadline was computed.
    now: Option<Nanos>,
    /// The end of the lifetime of the old entry's own that the new one keeps.
    kept_deadline: Option<Nanos>,
    /// The live entry that was there before.
    replaced: Option<Taken<K, V>>,
    /// The waiters to be told, if the value was a flight's.
    completion: Option<CompletionGuard<V>>,
}

impl<K, V> Publication<K, V> {
    pub(crate) fn new(
        hash: u64,
        origin: Origin<K>,
        new: Incoming<V>,
        fate: Fate,
        now: Option<Nanos>,
    ) -> Self {
        let (new, kept_deadline, replaced, completion) = (Some(new), None, None, None);
        Self { hash, origin, new, fate, now, kept_deadline, replaced, completion }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn now(&self) -> Option<Nanos> {
        self.now
    }

    /// What the entry will take; `None` if it is not to be kept, having no time to live or no chance to
    /// fit.
    #[inline]
    pub(crate) fn cost(&self, ledger: &Ledger) -> Option<Cost> {
        match self.fate {
            Fate::Lives => {}
            Fate::Dies if self.kept_deadline.is_some() => {}
            Fate::Dies | Fate::Swept => return None,
        }
        let extras = self.new.as_ref().and_then(|new| new.extras);
        let (weight, size) = extras.map_or((None, None), |of| (of.weight, of.size));
        Some(ledger.cost(weight, size)).filter(|cost| ledger.could_hold(*cost))
    }

    /// When the entry expires, or somewhat earlier: [`NEVER`] if it does not.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let kept = self.new.as_ref().filter(|_| self.fate == Fate::Lives);
        let extras = kept.and_then(|new| new.extras);
        extras.map_or(NEVER, |extras| extras.deadlines.soonest())
    }

    /// The value that was there before, once everything else is dropped: a value that is on its way to
    /// the caller would be leaked by a `Drop` that panics after it.
    pub(crate) fn into_replaced(self, departed: Departed<K, V>) -> (Option<V>, Notices<K, V>) {
        let mut notices = departed.into_notices();
        let value = self.replaced.map(|replaced| replaced.into_value(&mut notices));
        (value, notices)
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_notices(self, departed: Departed<K, V>) -> Notices<K, V> {
        let mut notices = departed.into_notices();
        self.replaced.into_iter().for_each(|replaced| replaced.let_go(&mut notices));
        notices
    }

    /// The waiters of the flight whose value it was. They come before what has to be dropped.
    pub(crate) fn take_completion(&mut self) -> CompletionGuard<V> {
        self.completion.take().unwrap_or_default()
    }

    /// Lets those of the sweeps say whether the entry is kept that began while its load was in flight.
    /// Calls user code: never under a lock.
    pub(crate) fn judge(&mut self, shard: &Shard<K, V>, ledger: &Ledger) {
        let Origin::Flight(ticket) = self.origin else { return };
        let (key, sweeps) = shard.take_sweeps(ledger, ticket);
        let (Some(key), Some(new)) = (key, &self.new) else { return };
        let is_chosen = sweeps.choose(&key, &new.value);
        // The flight gets its key back before it needs it.
        drop(key);
        if is_chosen && shard.lose(ledger, ticket) {
            self.fate = Fate::Swept;
        }
    }

    /// Looks for an entry of the key.
    #[inline]
    pub(super) fn find(&self, entries: &Entries<K, V>) -> Found
    where
        K: Eq,
    {
        let entry = match &self.origin {
            Origin::Caller(key) => {
                entries.find(self.hash, key.as_ref().expect("it is kept until it is in"))
            }
            Origin::Flight(ticket) => {
                let flight = entries.flight(*ticket);
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
                entries.find(self.hash, flight.key())
            }
        };
        entry.map_or(Found::Nothing, Found::Entry)
    }

    /// What the entry takes beyond the one of its key, if that is alive at `now`.
    pub(super) fn cost_beyond(&self, entries: &Entries<K, V>, now: Nanos, ledger: &Ledger) -> Cost
    where
        K: Eq,
    {
        let cost = self.cost(ledger).unwrap_or_default();
        match self.find(entries) {
            Found::Fence => Cost::default(),
            Found::Entry(slot) if !entries.is_expired(slot, now) => {
                cost.beyond(ledger.cost(entries.weight(slot), entries.size(slot)))
            }
            _ => cost,
        }
    }

    /// Keeps the loads of the key that are in flight out of the cache, if the caller brings the entry
    /// or an update does.
    #[inline]
    pub(super) fn fence(&self, entries: &mut Entries<K, V>)
    where
        K: Eq,
    {
        match &self.origin {
            Origin::Caller(key) => {
                key.as_ref().map(|key| entries.fence(self.hash, key));
            }
            Origin::Flight(ticket) if entries.flight(*ticket).is_update() => {
                entries.fence_others(*ticket);
            }
            Origin::Flight(_) => {}
        }
    }

    /// Has an update of the entry in `slot` keep the lifetime of its own that this has, unless that is over
    /// or the update brings another one.
    pub(super) fn keep_lifetime(&mut self, slot: Slot, writer: &Writer<'_, K, V>) {
        let entries = &writer.state.entries;
        let is_update = match self.origin {
            Origin::Caller(_) => false,
            Origin::Flight(ticket) => entries.flight(ticket).is_update(),
        };
        let extras = self.new.as_ref().and_then(|new| new.extras);
        let brings_one = extras.is_some_and(|extras| extras.is_own);
        let keeps =
            is_update && !writer.is_expired(slot) && entries.has_own_lifetime(slot) && !brings_one;
        self.kept_deadline = keeps.then(|| entries.deadlines(slot).fixed);
    }

    /// Takes the key, and ends the flight that it comes from, whose place in the table the entry gets.
    #[inline]
    pub(super) fn take_key(&mut self, writer: &mut Writer<'_, K, V>) -> (K, Bucket) {
        match &mut self.origin {
            Origin::Caller(key) => (key.take().expect("an entry goes in once"), Bucket::NONE),
            Origin::Flight(ticket) => {
                let (flight, bucket) = writer.entries().take_flight(*ticket);
                (self.part_with_flight(flight.end(), writer.departed).into_inner(), bucket)
            }
        }
    }

    /// Takes the value; `now` is the time of publication as the shard knows it.
    pub(super) fn take_value(&mut self, now: Option<Nanos>) -> Incoming<V> {
        let mut new = self.new.take().expect("an entry goes in once");
        if let Some(extras) = &mut new.extras {
            let late = now.zip(self.now).map_or(0, |(settled, read)| settled - read);
            extras.deadlines = extras.deadlines.put_off(late);
        }
        if let Some(deadline) = self.kept_deadline {
            let extras = new.extras.get_or_insert(Extras::NONE);
            extras.deadlines.fixed = deadline;
            extras.is_own = true;
        }
        new
    }

    /// Keeps the value out, and ends the flight that it comes from.
    pub(super) fn turn_away(&mut self, writer: &mut Writer<'_, K, V>) {
        let key = match &mut self.origin {
            Origin::Caller(key) => FlightKey::Owned(key.take().expect("it is kept out once")),
            Origin::Flight(ticket) => {
                let ended = writer.entries().end_flight(*ticket);
                self.part_with_flight(ended, writer.departed)
            }
        };
        let value = self.new.take().expect("it is kept out once").value;
        match &writer.state.outbox {
            None => writer.departed.rest().turned_away = Some((key, value)),
            Some(outbox) => {
                let entry = Entry::new(self.hash, key.into_inner(), value);
                writer.departed.notify(outbox, outbox.post(entry, RemovalCause::Rejected));
            }
        }
    }

    /// Keeps what there is to do of a flight that has ended, but for its key.
    #[inline]
    fn part_with_flight(
        &mut self,
        ended: Ended<K, V>,
        departed: &mut Departed<K, V>,
    ) -> FlightKey<K> {
        let Ended { key, completion, sweeps } = ended;
        self.completion = Some(completion);
        if !sweeps.is_empty() {
            departed.rest().sweeps = sweeps;
        }
        key
    }

    /// Keeps the live entry that was there before the new one.
    pub(super) fn displace(&mut self, old: Taken<K, V>) {
        self.replaced = Some(old);
    }
}
