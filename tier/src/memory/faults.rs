//! What can go wrong with a store in memory, on purpose.

use std::fmt;
use std::sync::Arc;

use super::Shared;
use super::settings::Failures;
use crate::key::Key;
use crate::store::{ErrorKind, Instance, Space};

/// Has a [`MemoryStore`](crate::MemoryStore) go wrong, for tests of how a service bears it.
///
/// From [`MemoryStore::faults`](crate::MemoryStore::faults). What it is told holds for all handles to the
/// store and all who are connected to it, until it is told otherwise; [`heal`](Self::heal) ends it all.
///
/// # Examples
///
/// ```
/// use async_lru_tier::store::{Instance, Space};
/// use async_lru_tier::{ErrorKind, Key, MemoryStore, Store};
/// use futures_lite::future::block_on;
///
/// let store = MemoryStore::new();
/// let faults = store.faults();
/// let users = Space::new("users", 1);
///
/// let connected = block_on(store.connect(&users, Instance(1)))?;
/// faults.take_down();
/// let error = block_on(connected.session.remove(&[Key::of("ann")], None)).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Lost);
/// assert!(block_on(store.connect(&users, Instance(1))).is_err());
///
/// faults.bring_up();
/// assert!(block_on(store.connect(&users, Instance(1))).is_ok());
/// # Ok::<(), async_lru_tier::StoreError>(())
/// ```
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

/// What a [`MemoryStore`](crate::MemoryStore) holds, and what it has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryFigures {
    /// Values that are not over, foreign data with them, also those that a server kept that is no more.
    pub values: usize,
    /// Leases that are not over.
    pub leases: usize,
    /// Values and leases in memory, whether they are over or not.
    pub in_memory: usize,
    /// Spaces in memory: with anything in them, or with sessions.
    pub spaces: usize,
    /// Sessions that are not lost.
    pub sessions: usize,
    /// Calls that wait for the store to go on, dropped ones with them.
    pub waiting_calls: usize,
    /// Messages that are held back, one for each session that is to hear it.
    pub delayed_messages: usize,
    /// Connections made.
    pub connects: u64,
    /// Calls of `get_or_lease` that reached the store, also those that failed; and so on.
    pub get_or_lease: u64,
    /// Calls of `put`.
    pub put: u64,
    /// Calls of `release`.
    pub release: u64,
    /// Calls of `remove`.
    pub remove: u64,
    /// Calls of `remove_all`.
    pub remove_all: u64,
    /// Calls of `ping`.
    pub ping: u64,
    /// Messages sent, also those that got lost.
    pub messages: u64,
}

/// The link.
impl Faults {
    /// Ends all sessions; new ones are to be had at once.
    pub fn cut_links(&self) {
        self.shared.locked(|state| state.unlink_all());
    }

    /// Makes the store unreachable: all sessions end, and connections fail with [`ErrorKind::Lost`].
    pub fn take_down(&self) {
        self.shared.locked(|state| state.take_down());
    }

    /// Makes the store reachable again, with what it held before.
    pub fn bring_up(&self) {
        self.shared.locked(|state| state.settings.is_down = false);
    }

    /// Has another process of the server take over with the data of the last one, as after a crash or a
    /// failover. All sessions end, and later ones see nothing of the data, which takes up memory until it
    /// is over.
    ///
    /// A store that is down stays down. One that was stopped is no longer, and the calls that waited for it
    /// never take effect.
    pub fn restart_keeping_data(&self) {
        self.shared.locked(|state| state.restart());
    }

    /// Has another process of the server take over, without data; else as
    /// [`restart_keeping_data`](Self::restart_keeping_data).
    pub fn restart_losing_data(&self) {
        self.shared.locked(|state| {
            state.restart();
            state.lose_data();
        });
    }

    /// Has connections fail with `kind`, as those to a replica do with [`ErrorKind::ReadOnly`].
    pub fn refuse(&self, kind: ErrorKind) {
        self.shared.locked(|state| state.settings.refused = Some(kind));
    }

    /// Has connections succeed again.
    pub fn accept(&self) {
        self.shared.locked(|state| state.settings.refused = None);
    }
}

/// Messages.
impl Faults {
    /// Loses the next messages, so many of them, to all instances. The one after shows that a removal was
    /// missed, which ends the session; that a value is ready may be missed.
    pub fn lose_messages(&self, messages: usize) {
        self.shared.locked(|state| state.settings.lost = messages);
    }

    /// Loses the next messages, so many of them, to `instance` alone.
    pub fn lose_messages_to(&self, instance: Instance, messages: usize) {
        self.shared.locked(|state| state.settings.lost_to.insert(instance, messages));
    }

    /// Holds messages to all instances back until [`deliver`](Self::deliver). A ping meanwhile finds them
    /// missing, which ends its session.
    pub fn delay_messages(&self) {
        self.shared.locked(|state| state.settings.delayed.everybody());
    }

    /// Holds messages to `instance` back, too.
    pub fn delay_messages_to(&self, instance: Instance) {
        self.shared.locked(|state| state.settings.delayed.add(instance));
    }

    /// Has the first of the messages that are held back arrive, and goes on holding back; tells whether
    /// there is one. Of a message to several instances each gets its own.
    pub fn deliver_next(&self) -> bool {
        self.shared.locked(|state| state.deliver_message())
    }

    /// Has all messages arrive that are held back, and later ones at once.
    pub fn deliver(&self) {
        self.shared.locked(|state| state.deliver());
    }
}

/// Calls.
impl Faults {
    /// Stops the store, as a signal stops the process of a server: calls and connections wait until it goes
    /// on. A call that is dropped after its first poll takes effect all the same then, and so does one whose
    /// session ends meanwhile, which fails at once. A connection that is dropped is given up.
    pub fn stop(&self) {
        self.shared.locked(|state| state.settings.stopped.everybody());
    }

    /// Stops the store as far as `instance` is concerned: others' calls overtake its own.
    pub fn stop_for(&self, instance: Instance) {
        self.shared.locked(|state| state.settings.stopped.add(instance));
    }

    /// Has the first of the calls that wait take effect, and others go on waiting; tells whether there is
    /// one.
    pub fn resume_next(&self) -> bool {
        self.shared.with(|state| state.resume_call())
    }

    /// Has the store go on: the calls that wait take effect in their order.
    pub fn resume(&self) {
        self.shared.with(|state| state.resume());
    }

    /// Has the next calls fail, so many of them, of whatever session, without taking effect. This takes the
    /// place of what was asked before.
    ///
    /// [`ErrorKind::Full`] is no failure: values that are there are found, what would be leased is
    /// [`Turn::Full`](crate::store::Turn::Full), and what is put is not kept. [`ErrorKind::Lost`] ends the session.
    pub fn fail_next(&self, calls: usize, kind: ErrorKind) {
        let failures = Failures { kind, calls: Some(calls) };
        self.shared.locked(|state| state.settings.failures = Some(failures));
    }

    /// The same for all calls, until [`work`](Self::work).
    pub fn fail(&self, kind: ErrorKind) {
        let failures = Failures { kind, calls: None };
        self.shared.locked(|state| state.settings.failures = Some(failures));
    }

    /// Has calls succeed again.
    pub fn work(&self) {
        self.shared.locked(|state| state.settings.failures = None);
    }

    /// Has calls and connections be pending once before they take effect and once after, so that a test can
    /// drop each at each of its steps.
    pub fn go_in_steps(&self) {
        self.shared.locked(|state| state.settings.in_steps = true);
    }

    /// Has calls be done at their first poll again.
    pub fn go_at_once(&self) {
        self.shared.locked(|state| state.settings.in_steps = false);
    }
}

/// Data.
impl Faults {
    /// Puts something under `key` that no instance put there, such as a list; for ever.
    pub fn put_foreign(&self, space: &Space, key: &Key) {
        self.shared.locked(|state| state.put_foreign(space, key));
    }

    /// Replaces the bytes of a value, without anybody's hearing of it; tells whether there is one.
    pub fn corrupt(&self, space: &Space, key: &Key, bytes: &[u8]) -> bool {
        let bytes = bytes.to_vec();
        self.shared.with(|state| state.corrupt(space, key, bytes))
    }
}

/// All of it.
impl Faults {
    /// Ends all that was asked for: the store is up, connects, and goes on; what waits takes effect, what is
    /// held back arrives. Sessions that are lost stay lost.
    pub fn heal(&self) {
        self.shared.with(|state| {
            state.settings.is_down = false;
            state.settings.refused = None;
            state.settings.failures = None;
            state.settings.in_steps = false;
            state.settings.lost = 0;
            state.settings.lost_to.clear();
            state.resume();
            state.deliver();
        });
    }

    /// The instances of all sessions that are not lost, in the order in which they connected.
    pub fn instances(&self) -> Vec<Instance> {
        self.shared.locked(|state| state.instances())
    }

    /// Returns what the store holds and has done. Takes time for each value and lease that is over.
    pub fn figures(&self) -> MemoryFigures {
        self.shared.with(|state| state.figures())
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}
