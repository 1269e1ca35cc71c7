//! One shard: its lock, and the right to write to it.

mod clock;
pub(crate) mod common;
mod compact;
pub(crate) mod departed;
pub(crate) mod evict;
pub(crate) mod expire;
mod guards;
pub(crate) mod hit;
pub(crate) mod lead_or_join;
pub(crate) mod look;
pub(crate) mod publication;
pub(crate) mod publish;
mod refresh;
pub(crate) mod removals;
pub(crate) mod remove;
pub(crate) mod restore;
mod state;
mod ttl;
pub(crate) mod update;
pub(crate) mod watch;
mod watchers;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use self::clock::ShardClock;
use self::common::Common;
use self::departed::Departed;
use self::removals::{Deliveries, RemovalQueue};
use self::state::State;
use self::writer::Writer;
use crate::clock::{Nanos, Now};
use crate::entries::{Entries, Slot};
#[cfg(feature = "__validate")]
use crate::policy::capacity::Cost;
use crate::sync::{AtomicBool, Mutex, MutexGuard};

/// A part of the cache, with a lock of its own.
///
/// No lock is held across an await, and under none of them runs any of the user's code but `K: Eq` and
/// `V: Clone` (`K: Clone` for a list of keys); what has to be dropped, woken or reported is moved out
/// first. What goes to a listener lies under a lock of its own, within which no other is taken.
///
/// In the order of the fields, so that what a hit reads of a shard lies on its first cache line.
#[repr(C, align(128))]
pub(crate) struct Shard<K, V> {
    /// Whether there may be pins. A hint; what counts is under the lock.
    is_quiet: AtomicBool,
    number: u32,
    clock: ShardClock,
    common: Arc<Common<K, V>>,
    /// Everything. Held for the time of one hit or update, and so short that async code may block on it.
    state: Mutex<State<K, V>>,
}

impl<K, V> Shard<K, V> {
    /// Makes the shard of this `number`, with its `share` of the room, in entries.
    pub(crate) fn new(
        number: usize,
        share: usize,
        common: Arc<Common<K, V>>,
        removals: Option<Arc<RemovalQueue<K, V>>>,
    ) -> Self {
        let order = common.order();
        Self {
            is_quiet: AtomicBool::new(false),
            number: u32::try_from(number).expect("far fewer shards"),
            clock: ShardClock::default(),
            common,
            state: Mutex::new(State::new(share, order, removals)),
        }
    }

    #[inline]
    pub(crate) fn number(&self) -> usize {
        self.number as usize
    }

    /// A name for the shard that lasts as long as it is borrowed.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Everything, to look at it, and to write to all but the entries.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // A panic of the user's `Eq` or `Clone` under the lock comes before anything has changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to write, and all pins back. What leaves goes into `departed`, which outlives the
    /// writer and thus the lock.
    #[inline]
    pub(crate) fn write<'a>(
        &'a self,
        now: Option<Nanos>,
        departed: &'a mut Departed<K, V>,
    ) -> Writer<'a, K, V> {
        self.write_to(self.lock(), now, departed)
    }

    /// Takes the right to write to the state, which is locked.
    #[inline]
    fn write_to<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<K, V>>,
        now: Option<Nanos>,
        departed: &'a mut Departed<K, V>,
    ) -> Writer<'a, K, V> {
        self.begin_write(&mut state);
        let (now, late) = match now {
            None => (None, 0),
            Some(read) => {
                let settled = self.clock.settle(read);
                (Some(settled), settled - read)
            }
        };
        Writer { state, common: &self.common, now, late, departed }
    }

    /// Takes all pins back, and begins to count anew how long nobody writes.
    #[inline(always)]
    fn begin_write(&self, state: &mut State<K, V>) {
        if state.entries.is_shared() {
            self.take_back(state);
        }
        state.note_write();
    }

    /// Takes all pins back.
    #[cold]
    fn take_back(&self, state: &mut State<K, V>) {
        let mut most = 0;
        state.entries.take_back(&self.common.desks, self.number(), |entries, returned| {
            most = most.max(returned.reads);
            returned.notes.iter().for_each(|notes| entries.merge(notes));
        });
        state.entries.owned().pass(most);
        self.is_quiet.store(false, Ordering::Relaxed);
    }

    /// Tells whether the time of an entry is over for a reader, and from then on for everybody: nobody may
    /// see it alive again if the clock steps back.
    fn is_expired(&self, entries: &Entries<K, V>, slot: Slot, now: Now<'_>) -> bool {
        self.clock.has_passed(entries.deadline(slot), now, &self.common.last_expiry)
    }

    /// The duty to wait for the listener, if it is far behind.
    pub(crate) fn backlog(&self) -> Deliveries<K, V> {
        let mut deliveries = Deliveries::default();
        if let Some(removals) = &self.lock().removals {
            deliveries.add(removals, 0);
        }
        deliveries
    }
}

#[cfg(feature = "__validate")]
impl<K: Eq, V> Shard<K, V> {
    /// Asserts that the shard is whole; returns what its entries take and how many flights it has.
    pub(crate) fn validate(&self) -> (Cost, usize) {
        let mut departed = Departed::default();
        self.lock().entries.validate_pins(&self.common.desks, self.number());
        let mut writer = self.write(None, &mut departed);
        (writer.total_cost(), writer.validate())
    }
}
