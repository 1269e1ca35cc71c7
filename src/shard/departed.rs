//! Keeps what a call takes out of a shard until nothing is locked; then drops it, or hands the duty to
//! deliver it on.

use std::sync::Arc;

use super::removals::{Deliveries, RemovalQueue, RemovedEntry};
use crate::entries::{Entry, FlightKey, Sweeps};
use crate::removal::RemovalCause;
use crate::sync::notify::Notify;

/// Entries that an operation took out of a shard, to be dropped once all locks are released and nothing else
/// is left to do: a panic of the user's `Drop` would leak whatever is then on its way to a caller.
pub(crate) struct Departed<K, V> {
    /// The first entry, mostly the only one.
    first: Option<Entry<K, V>>,
    /// Kept by few operations besides, in a box that the others do without.
    rest: Option<Box<Rest<K, V>>>,
}

struct Rest<K, V> {
    entries: Vec<Entry<K, V>>,
    /// Tells those who wait for the first entry to expire of one that does so before all others.
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
    pub(crate) fn keep_removed(&mut self, removed: RemovedEntry<K, V>) {
        match removed {
            RemovedEntry::Entry(entry) => self.keep(entry),
            RemovedEntry::Pending(pending) => pending.let_go(&mut self.rest().deliveries),
        }
    }

    /// Has the listener hear of an entry.
    #[inline(never)]
    pub(super) fn report(
        &mut self,
        removals: &Arc<RemovalQueue<K, V>>,
        entry: Entry<K, V>,
        cause: RemovalCause,
    ) {
        self.rest().deliveries.add(removals, removals.post(entry, cause));
    }

    /// Has those who listen notified.
    pub(crate) fn notify(&mut self, notify: &Arc<Notify>) {
        self.rest().alarm = Some(Alarm(Arc::clone(notify)));
    }

    /// Keeps a key and its value that were kept out.
    pub(super) fn turn_away(&mut self, key: FlightKey<K>, value: V) {
        self.rest().turned_away = Some((key, value));
    }

    /// Keeps the sweeps of a flight that has ended.
    #[inline]
    pub(super) fn keep_sweeps(&mut self, sweeps: Sweeps<K, V>) {
        if !sweeps.is_empty() {
            self.rest().sweeps = sweeps;
        }
    }

    #[cold]
    fn rest(&mut self) -> &mut Rest<K, V> {
        self.rest.get_or_insert_default()
    }

    fn take_deliveries(&mut self) -> Deliveries<K, V> {
        self.rest.as_mut().map(|rest| std::mem::take(&mut rest.deliveries)).unwrap_or_default()
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_deliveries(mut self) -> Deliveries<K, V> {
        let deliveries = self.take_deliveries();
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

/// Notifies when it is dropped: wakers are the user's code.
struct Alarm(Arc<Notify>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.notify_all();
    }
}
