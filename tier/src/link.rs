//! The link to the store, as calls see it: whether it is to be used, and what the driver has to do.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use event_listener::{Event, EventListener};

use crate::key::Key;
use crate::store::{ErrorKind, Lease, Session, StoreError};
use crate::sync::Mutex;

/// So many time-outs without an answer between them, and calls leave the store alone until the driver has
/// got an answer.
const TIME_OUTS: u32 = 3;

/// The link of an instance to the store.
pub(crate) struct Link {
    /// Nothing is called, dropped or woken under the lock.
    state: Mutex<State>,
    /// Wakes the driver.
    work: Event,
    /// Wakes those who wait for the link.
    linked: Event,
}

struct State {
    session: Option<Arc<dyn Session>>,
    trust: Trust,
    time_outs: u32,
    /// The last failure of the store, connections with it, since it was used last.
    failure: Option<ErrorKind>,
    removals: Removals,
    /// Leases that are to be given back. They outlast the session, and the driver: a server that is met
    /// again still has them.
    releases: VecDeque<(Lease, Vec<Key>)>,
    /// The last handle is gone.
    closed: bool,
}

/// What may be expected of the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Good,
    /// It does not answer in time: nobody but the driver asks it.
    Suspect,
    /// It is lost: the driver makes a new one.
    Broken,
}

/// What was removed here and is still to be removed in the store.
#[derive(Default)]
struct Removals {
    /// By key the number of its last removal.
    keys: HashMap<Key, u64>,
    /// There were too many keys, so all of the space is to be removed; the number of the last removal.
    all: Option<u64>,
    last: u64,
}

/// Removals that the driver has taken up.
#[derive(Debug)]
pub(crate) enum Due {
    Keys(Vec<Key>, Vec<u64>),
    All(u64),
}

/// What the driver finds to do.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) removals: Option<Due>,
    pub(crate) release: Option<(Lease, Vec<Key>)>,
    pub(crate) probe: bool,
}

/// The session is of no more use.
#[derive(Debug)]
pub(crate) struct Ended;

impl Link {
    pub(crate) fn new() -> Self {
        let state = State {
            session: None,
            trust: Trust::Good,
            time_outs: 0,
            failure: None,
            removals: Removals::default(),
            releases: VecDeque::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), work: Event::new(), linked: Event::new() }
    }

    // For calls.

    /// The session to ask, if the store is to be used.
    pub(crate) fn session(&self) -> Option<Arc<dyn Session>> {
        self.state.lock().session().cloned()
    }

    /// The session to ask for `key`, unless the store may still have what was removed here.
    pub(crate) fn session_for(&self, key: &Key) -> Option<Arc<dyn Session>> {
        let state = self.state.lock();
        state.session().filter(|_| !state.removals.has(key)).cloned()
    }

    /// The same for many: the session, and those of `keys` that it is not to be asked for.
    pub(crate) fn session_for_all(
        &self,
        keys: &mut Vec<Key>,
    ) -> (Option<Arc<dyn Session>>, Vec<Key>) {
        let state = self.state.lock();
        let Some(session) = state.session() else {
            return (None, std::mem::take(keys));
        };
        let (apart, rest) =
            std::mem::take(keys).into_iter().partition(|key| state.removals.has(key));
        *keys = rest;
        (Some(Arc::clone(session)), apart)
    }

    /// Takes note that `session` has answered.
    pub(crate) fn answered(&self) {
        self.state.lock().time_outs = 0;
    }

    /// Takes note of a failure of `session`; true if the store is left alone from now on.
    pub(crate) fn failed(&self, session: &Arc<dyn Session>, error: &StoreError) -> bool {
        let mut state = self.state.lock();
        if !state.session.as_ref().is_some_and(|now| Arc::ptr_eq(now, session)) {
            return false;
        }
        let before = state.trust;
        match error.kind() {
            // What became of a server that only reads is found out by connecting anew.
            ErrorKind::Lost | ErrorKind::ReadOnly => state.trust = Trust::Broken,
            ErrorKind::TimedOut => {
                state.time_outs += 1;
                if state.time_outs >= TIME_OUTS && before == Trust::Good {
                    state.trust = Trust::Suspect;
                }
            }
            _ => state.time_outs = 0,
        }
        let changed = state.trust != before;
        let opened = changed && state.trust == Trust::Suspect;
        drop(state);
        if changed {
            self.work.notify(usize::MAX);
        }
        opened
    }

    /// Takes note of a failure, with or without a session.
    pub(crate) fn note(&self, failure: ErrorKind) {
        self.state.lock().failure = Some(failure);
    }

    /// The last failure since the link was made.
    pub(crate) fn last_failure(&self) -> Option<ErrorKind> {
        self.state.lock().failure
    }

    /// Has the driver remove `keys`, or everything if there are more than `most`. Until it has, nobody
    /// asks the store for them.
    pub(crate) fn defer_removal(&self, keys: &[Key], most: usize) {
        self.state.lock().removals.add(keys, most);
        self.work.notify(usize::MAX);
    }

    /// Has the driver remove everything.
    pub(crate) fn defer_removal_of_all(&self) {
        self.state.lock().removals.add_all();
        self.work.notify(usize::MAX);
    }

    /// Has the driver give a lease back.
    pub(crate) fn defer_release(&self, lease: Lease, keys: Vec<Key>) {
        self.state.lock().releases.push_back((lease, keys));
        self.work.notify(usize::MAX);
    }

    /// The number of keys whose removal is put off.
    pub(crate) fn pending_removals(&self) -> usize {
        let state = self.state.lock();
        state.removals.keys.len() + usize::from(state.removals.all.is_some())
    }

    /// Waits until the store is used.
    pub(crate) async fn linked(&self) {
        loop {
            let linked = self.linked.listen();
            if self.session().is_some() {
                return;
            }
            linked.await;
        }
    }

    // For the driver.

    /// Ends with the next work for the driver.
    pub(crate) fn listen(&self) -> EventListener {
        self.work.listen()
    }

    /// Has the driver end.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.work.notify(usize::MAX);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Has calls use `session`.
    pub(crate) fn open(&self, session: Arc<dyn Session>) {
        let mut state = self.state.lock();
        state.session = Some(session);
        state.trust = Trust::Good;
        state.time_outs = 0;
        state.failure = None;
        drop(state);
        self.linked.notify(usize::MAX);
    }

    /// Has calls do without the store; tells whether they used it.
    pub(crate) fn shut(&self) -> bool {
        let session = self.state.lock().session.take();
        session.is_some()
    }

    /// Has calls use the session again, which has answered.
    pub(crate) fn trust(&self) {
        let mut state = self.state.lock();
        state.time_outs = 0;
        if state.trust != Trust::Suspect {
            return;
        }
        state.trust = Trust::Good;
        state.failure = None;
        drop(state);
        self.linked.notify(usize::MAX);
    }

    /// Tells what there is to do, at most `most` removals of it, and of the leases the first.
    ///
    /// # Errors
    ///
    /// If the session is of no more use.
    pub(crate) fn work(&self, most: usize) -> Result<Work, Ended> {
        let state = self.state.lock();
        if state.trust == Trust::Broken && state.session.is_some() {
            return Err(Ended);
        }
        Ok(Work {
            removals: state.removals.due(most),
            release: state.releases.front().cloned(),
            probe: state.trust == Trust::Suspect,
        })
    }

    /// The removals that are due, at most `most`.
    pub(crate) fn removals(&self, most: usize) -> Option<Due> {
        self.state.lock().removals.due(most)
    }

    /// Takes note that the first of the leases is given back, or will end by itself.
    pub(crate) fn released(&self) {
        let released = self.state.lock().releases.pop_front();
        drop(released);
    }

    /// Takes note that `due` is done.
    pub(crate) fn removed(&self, due: &Due) {
        self.state.lock().removals.done(due);
    }
}

impl State {
    fn session(&self) -> Option<&Arc<dyn Session>> {
        self.session.as_ref().filter(|_| self.trust == Trust::Good)
    }
}

impl Removals {
    fn has(&self, key: &Key) -> bool {
        self.all.is_some() || self.keys.contains_key(key)
    }

    fn add(&mut self, keys: &[Key], most: usize) {
        self.last += 1;
        self.keys.extend(keys.iter().map(|key| (key.clone(), self.last)));
        if self.keys.len() > most {
            self.all = Some(self.last);
            self.keys = HashMap::new();
        }
    }

    fn add_all(&mut self) {
        self.last += 1;
        self.all = Some(self.last);
        self.keys = HashMap::new();
    }

    /// All first, as it may do for the keys that came after.
    fn due(&self, most: usize) -> Option<Due> {
        if let Some(number) = self.all {
            return Some(Due::All(number));
        }
        if self.keys.is_empty() {
            return None;
        }
        let (keys, numbers) =
            self.keys.iter().take(most).map(|(key, &number)| (key.clone(), number)).unzip();
        Some(Due::Keys(keys, numbers))
    }

    /// Forgets what was done, but for what was removed again meanwhile.
    fn done(&mut self, due: &Due) {
        match due {
            Due::All(number) => self.all = self.all.filter(|last| last != number),
            Due::Keys(keys, numbers) => {
                for (key, number) in keys.iter().zip(numbers) {
                    if self.keys.get(key) == Some(number) {
                        self.keys.remove(key);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
