//! One shard: its lock, its readers, and what is read.

mod compact;
mod evict;
mod flights;
mod look;
mod publication;
mod publish;
pub(crate) mod removals;
mod restore;
mod set_ttl;
mod state;
mod update;
mod watch;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use equivalent::Equivalent;

pub(crate) use self::evict::Evicted;
pub(crate) use self::flights::{FlightRef, LeadOrJoin, LoadRequest};
pub(crate) use self::look::Copied;
use self::look::EVERY_SLOT;
pub(crate) use self::publication::{Departed, Fate, Origin, Publication};
pub(crate) use self::publish::Published;
pub(crate) use self::restore::Returning;
use self::state::State;
pub(crate) use self::state::{Expired, Purged, Removed};
pub(crate) use self::update::Fenced;
pub(crate) use self::watch::{Position, Watch};
use self::writer::Writer;
use crate::clock::{Nanos, Now};
use crate::entries::{Entries, Predicate, Slot, Stamp};
use crate::flight::Coalescing;
use crate::policy::capacity::Cost;
use crate::policy::capacity::{Capacity, Limits, Reservation};
use crate::shard::removals::{Deliveries, RemovalQueue};
use crate::sync::desk::{Desks, Pin};
use crate::sync::threads;
use crate::sync::{AtomicBool, AtomicU64, Locked, Mutex, MutexGuard};

/// So many hits under the lock without a write, and as many as half the slots, are worth the pins that the
/// next write has to take back. Few where each read makes the schedules longer.
const QUIET: u64 = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 1 } else { 256 };

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
    /// The latest time at which an entry was written or seen expired here: for this shard, time does
    /// not step back, whatever the clock does.
    latest: AtomicU64,
    common: Arc<Common<K, V>>,
    /// Everything. Held for the time of one hit or update, and so short that async code may block on it.
    state: Mutex<State<K, V>>,
}

/// What all shards of a cache share.
pub(crate) struct Common<K, V> {
    /// Where threads keep their pins.
    pub(crate) desks: Desks<Entries<K, V>>,
    pub(crate) capacity: Capacity,
    /// The latest deadline that was seen to have passed: what expired before it stays expired, also for
    /// those who write to other shards by a clock that has stepped back.
    pub(crate) last_expiry: AtomicU64,
    pub(crate) coalescing: Coalescing,
}

impl<K, V> Common<K, V> {
    /// Makes what so many shards share.
    pub(crate) fn new(shards: usize, limits: Limits, coalescing: Coalescing) -> Self {
        Self {
            desks: Desks::new(shards),
            capacity: Capacity::new(limits),
            last_expiry: AtomicU64::new(0),
            coalescing,
        }
    }
}

/// Whether a use is a hit of a call, or of one that was counted otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Hit,
    Uncounted,
}

/// What a shard holds and takes.
pub(crate) struct Size {
    pub(crate) entries: usize,
    /// Sum of the entries' measured bytes.
    pub(crate) measured: u128,
    /// Bytes that the shard has allocated.
    pub(crate) allocated: usize,
}

/// Hits.
impl<K, V> Shard<K, V> {
    /// Whether the thread may have a pin.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Relaxed)
    }

    /// Returns the live value of `key` under the lock, as a hit.
    #[inline(never)]
    pub(crate) fn get_locked<Q>(&self, hash: u64, key: &Q, now: Option<Now<'_>>) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let state = &mut *self.lock();
        let slot = self.find_live(&state.entries, hash, key, now)?;
        Some(self.hit(state, slot, now, Use::Hit))
    }

    /// Returns the live value of `key` by a pin of the shard, as a hit.
    #[inline(always)]
    pub(crate) fn get_pinned<Q>(
        &self,
        mut pin: Locked<'_, Pin<Entries<K, V>>>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        let (entries, notes) = pin.read()?;
        let slot = self.find_live(entries, hash, key, now)?;
        let entry = entries.entry(slot);
        let value = entry.value.clone();
        if let Some(Now::Using { idle_deadline, .. }) = now {
            entries.put_off(slot, idle_deadline);
        }
        notes.add(slot, |read| entries.touch_pinned(entry, read))?;
        Some(value)
    }

    /// The same where entries expire, compiled apart: other caches have no use for the code.
    #[inline(never)]
    pub(crate) fn get_pinned_alive<Q>(
        &self,
        pin: Locked<'_, Pin<Entries<K, V>>>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<V>
    where
        Q: Equivalent<K> + ?Sized,
        V: Clone,
    {
        self.get_pinned(pin, hash, key, now)
    }

    /// Uses the entry in `slot`, which is alive, under the lock.
    #[inline(always)]
    fn hit(&self, state: &mut State<K, V>, slot: Slot, now: Option<Now<'_>>, of: Use) -> V
    where
        V: Clone,
    {
        // Before anything is changed: a clone may panic.
        let value = state.entries.value(slot).clone();
        if let Some(Now::Using { idle_deadline, .. }) = now {
            state.entries.put_off(slot, idle_deadline);
        }
        if state.entries.is_shared() {
            if of == Use::Hit && self.hit_quiet(state, slot) {
                return value;
            }
            self.take_back(state);
        }
        let entries = state.entries.owned();
        match of {
            Use::Hit => entries.touch(slot),
            Use::Uncounted => entries.touch_uncounted(slot),
        }
        if entries.epoch() >= state.quiet_at {
            self.pin(state);
        }
        value
    }

    /// Records the use where others may read by their pins: the thread gets one as well, if it can.
    #[cold]
    fn hit_quiet(&self, state: &mut State<K, V>, slot: Slot) -> bool {
        if !self.pin(state) {
            return false;
        }
        let pin = self.common.desks.try_pin(threads::number(), self.number());
        let Some(mut pin) = pin else { return false };
        let Some((entries, notes)) = pin.read() else { return false };
        notes.add(slot, |read| entries.touch_pinned(entries.entry(slot), read)).is_some()
    }

    /// Has the thread read by a pin from now on; `false` if it cannot.
    #[cold]
    fn pin(&self, state: &mut State<K, V>) -> bool {
        let slots = state.entries.slots();
        let pins = state.entries.pin(&self.common.desks, self.number(), threads::number(), slots);
        if pins {
            self.is_quiet.store(true, Ordering::Relaxed);
        } else {
            state.note_write();
        }
        pins
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

    /// Uses that were hits, ever.
    pub(crate) fn hits(&self) -> u64 {
        let state = self.lock();
        state.entries.hits() + self.common.desks.reads(self.number())
    }
}

/// A look at a shard's entries.
impl<K, V> Shard<K, V> {
    /// Makes the shard of this `number`, with its `share` of the room, in entries.
    pub(crate) fn new(
        number: usize,
        share: usize,
        common: Arc<Common<K, V>>,
        removal_queue: Option<Arc<RemovalQueue<K, V>>>,
    ) -> Self {
        Self {
            is_quiet: AtomicBool::new(false),
            number: u32::try_from(number).expect("far fewer shards"),
            latest: AtomicU64::new(0),
            common,
            state: Mutex::new(State::new(share, removal_queue)),
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

    /// Lets `look` at the live value of `key`, without counting that as a use.
    pub(crate) fn peek<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
        look: impl FnOnce(&V) -> R,
    ) -> Option<R>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.read(|entries| {
            let slot = self.find_live(entries, hash, key, now)?;
            Some(look(entries.value(slot)))
        })
    }

    /// Adds the live keys to `keys`, least recently used first.
    pub(crate) fn keys_into(&self, keys: &mut Vec<K>, now: Option<Now<'_>>)
    where
        K: Clone,
    {
        let mut found: Vec<(Stamp, K)> = Vec::new();
        self.each_live(EVERY_SLOT, now, |live| found.push((live.stamp, live.entry.key.clone())));
        found.sort_by_key(|(stamp, _)| *stamp);
        keys.extend(found.into_iter().map(|(_, key)| key));
    }

    /// What the shard holds and takes.
    pub(crate) fn size(&self) -> Size {
        let state = self.lock();
        Size {
            entries: state.entries.len(),
            measured: state.entries.measured(),
            allocated: state.heap_size(),
        }
    }

    /// What an entry on its way in takes beyond the one of its key, if that is alive.
    pub(crate) fn missing(&self, publication: &Publication<K, V>) -> Cost
    where
        K: Eq,
    {
        let state = &*self.lock();
        let latest = self.latest.load(Ordering::Relaxed);
        let now = publication.now().map_or(latest, |now| now.max(latest));
        publication.cost_beyond(&state.entries, now, &self.common.capacity)
    }

    /// A time before which no entry expires: [`NEVER`](crate::clock::NEVER) if none ever does.
    pub(crate) fn soonest_deadline(&self) -> Nanos {
        let state = self.lock();
        state.order.expiry.soonest(|slot| state.entries.deadline(slot))
    }

    /// Lets `look` at the entries: by the thread's pin, or else under the lock.
    fn read<R>(&self, look: impl FnOnce(&Entries<K, V>) -> R) -> R {
        if self.is_quiet() {
            let pin = self.common.desks.try_pin(threads::number(), self.number());
            if let Some(entries) = pin.as_ref().and_then(|pin| pin.get()) {
                return look(entries);
            }
        }
        look(&self.lock().entries)
    }

    #[inline(always)]
    fn find_live<Q>(
        &self,
        entries: &Entries<K, V>,
        hash: u64,
        key: &Q,
        now: Option<Now<'_>>,
    ) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let slot = entries.find(hash, key)?;
        match now {
            Some(now) if self.is_expired(entries, slot, now) => None,
            _ => Some(slot),
        }
    }

    /// Whether the time of an entry is over for a reader, and from then on for everybody: nobody may
    /// see it alive again if the clock steps back.
    fn is_expired(&self, entries: &Entries<K, V>, slot: Slot, now: Now<'_>) -> bool {
        let deadline = entries.deadline(slot);
        let is_known = deadline <= self.latest.load(Ordering::Relaxed);
        if !is_known && now.has_reached(deadline) {
            self.latest.fetch_max(deadline, Ordering::Relaxed);
            self.common.last_expiry.fetch_max(deadline, Ordering::Relaxed);
            return true;
        }
        is_known
    }

    /// Everything, to look at it, and to write to all but the entries.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // A panic of the user's `Eq` or `Clone` under the lock comes before anything has changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writing.
impl<K, V> Shard<K, V> {
    /// Takes the right to write, and all pins back. What leaves goes into `departed`, which outlives the
    /// writer and thus the lock.
    #[inline]
    pub(crate) fn write<'a>(
        &'a self,
        now: Option<Nanos>,
        departed: &'a mut Departed<K, V>,
    ) -> Writer<'a, K, V> {
        Writer::take(self, self.lock(), now.map(|now| self.settle(now)), departed)
    }

    /// Takes all pins back, and begins to count anew how long nobody writes.
    #[inline(always)]
    fn begin_write(&self, state: &mut State<K, V>) {
        if state.entries.is_shared() {
            self.take_back(state);
        }
        state.note_write();
    }

    /// Publishes an entry in `room`, or one that is made for it; what leaves for it goes into `departed`.
    #[inline(never)]
    pub(crate) fn publish(
        &self,
        publication: &mut Publication<K, V>,
        reservation: &mut Reservation<'_>,
        departed: &mut Departed<K, V>,
    ) -> Published
    where
        K: Eq,
    {
        self.write(publication.now(), departed).publish(publication, reservation)
    }

    /// Takes out expired entries, as many as can be in a short time; tells how many that were. After the
    /// last of them, gives memory back.
    pub(crate) fn purge(&self, now: Nanos, departed: &mut Departed<K, V>) -> (Purged, usize) {
        const LIMIT: usize = 256;
        const STEPS: usize = 1024;
        let (purged, _old) = {
            let mut writer = self.write(Some(now), departed);
            let purged = writer.free_expired(LIMIT, STEPS);
            let is_done = purged.0 == Purged::All;
            (purged, if is_done { writer.compact() } else { None })
        };
        purged
    }

    /// Removes the entry of `key` and fences its loads.
    pub(crate) fn remove<Q>(&self, hash: u64, key: &Q, now: Option<Nanos>) -> Removed<K, V>
    where
        Q: Equivalent<K> + ?Sized,
    {
        // Made before the lock is taken, so that a panic of `Eq` drops it after that is released.
        let mut removed = Removed::default();
        let Removed { entry, fenced, departed } = &mut removed;
        (*entry, *fenced) = self.write(now, departed).remove(hash, key);
        removed
    }

    /// Has a sweep asked about the values of all loads that are in flight.
    pub(crate) fn await_sweep(&self, sweep: &Arc<Predicate<K, V>>) {
        self.write(None, &mut Departed::default()).entries().await_sweep(sweep);
    }

    /// Keeps the values of those loads in flight out of the cache whose keys are chosen; asked while no
    /// lock is held.
    pub(crate) fn fence_if(&self, is_chosen: &mut impl FnMut(&K) -> bool)
    where
        K: Clone,
    {
        // Made before the lock is taken, so that it is dropped after it is released.
        let mut keys = Vec::new();
        self.lock().entries.flight_keys_into(&mut keys);
        keys.retain(|(_, key)| is_chosen(key));
        let mut departed = Departed::default();
        let mut writer = self.write(None, &mut departed);
        keys.iter().for_each(|(id, _)| writer.entries().fence_if_there(*id));
    }

    /// The duty to wait for the listener, if it is far behind.
    pub(crate) fn backlog(&self) -> Deliveries<K, V> {
        let mut deliveries = Deliveries::default();
        if let Some(removal_queue) = &self.lock().removal_queue {
            deliveries.add(removal_queue, 0);
        }
        deliveries
    }

    /// Corrects a reading of the clock by what this shard knows of the time, and has it know that too.
    /// The caller has the right to write.
    fn settle(&self, now: Nanos) -> Nanos {
        let latest = self.latest.load(Ordering::Relaxed).max(now);
        self.latest.store(latest, Ordering::Relaxed);
        latest
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
