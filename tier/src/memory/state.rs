//! All that a store in memory holds, under its one lock: spaces, sessions, and what goes wrong on purpose.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event as Bell;

use super::contents::{At, Contents, Done, Message, Room};
use super::faults::MemoryFigures;
use super::settings::Settings;
use crate::key::Key;
use crate::store::{ErrorKind, Event, Instance, Space, StoreError};

/// So many values and leases that are over are freed in each call, besides two for each of its keys.
const FREED_AT_LEAST: usize = 16;

pub(super) struct State {
    /// The latest time that any call has seen, so that what one has seen expired no other sees alive.
    now: Duration,
    spaces: BTreeMap<u64, Contents>,
    /// The spaces of the server as it runs now; those that it kept over a restart have no name.
    by_name: HashMap<Space, u64>,
    /// The last number of a space or a session.
    last_id: u64,
    /// The space in which a call has last freed what is over.
    freed: u64,
    pub(super) settings: Settings,
    pub(super) figures: MemoryFigures,
    /// Calls that came while the server was stopped, in their order.
    held_calls: VecDeque<HeldCall>,
    /// Messages on their way, in their order.
    held_messages: VecDeque<HeldMessage>,
    /// Wakes those who wait for the server.
    resumed: Arc<Bell>,
    after: AfterUnlocking,
}

type HeldCall = Box<dyn FnOnce(&mut State) + Send>;

struct HeldMessage {
    to: Link,
    message: Message,
}

/// What must not happen under the lock.
#[derive(Default)]
pub(super) struct AfterUnlocking {
    pub(super) wake: Vec<Arc<Bell>>,
    /// Is dropped.
    pub(super) garbage: Vec<Contents>,
}

/// The name of a session's end in the store.
#[derive(Clone, Copy)]
pub(super) struct Link {
    space: u64,
    id: u64,
    instance: Instance,
}

impl State {
    pub(super) fn new(resumed: Arc<Bell>) -> Self {
        Self {
            now: Duration::ZERO,
            spaces: BTreeMap::new(),
            by_name: HashMap::new(),
            last_id: 0,
            freed: 0,
            settings: Settings::default(),
            figures: MemoryFigures::default(),
            held_calls: VecDeque::new(),
            held_messages: VecDeque::new(),
            resumed,
            after: AfterUnlocking::default(),
        }
    }

    pub(super) fn set_now(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    pub(super) fn take_after(&mut self) -> AfterUnlocking {
        mem::take(&mut self.after)
    }

    // Sessions.

    /// Makes a session; `None` while the server is stopped.
    pub(super) fn connect(
        &mut self,
        space: &Space,
        instance: Instance,
    ) -> Option<Result<(Link, Arc<Bell>), StoreError>> {
        if self.settings.is_down {
            return Some(Err(fault(ErrorKind::Lost)));
        }
        if self.settings.stopped.covers(instance) {
            return None;
        }
        if let Some(kind) = self.settings.refused {
            return Some(Err(fault(kind)));
        }
        let space = self.space(space);
        let id = self.new_id();
        let bell = Arc::new(Bell::new());
        if let Some(contents) = self.spaces.get_mut(&space) {
            contents.link(id, instance, Arc::clone(&bell));
        }
        self.figures.connects += 1;
        Some(Ok((Link { space, id, instance }, bell)))
    }

    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The number of the space of this name.
    fn space(&mut self, name: &Space) -> u64 {
        if let Some(&space) = self.by_name.get(name) {
            return space;
        }
        let space = self.new_id();
        self.spaces.insert(space, Contents::new(name.clone()));
        self.by_name.insert(name.clone(), space);
        space
    }

    pub(super) fn put_foreign(&mut self, name: &Space, key: &Key) {
        let space = self.space(name);
        if let Some(contents) = self.spaces.get_mut(&space) {
            contents.put_foreign(key);
        }
    }

    /// Tells whether there is a value to corrupt.
    pub(super) fn corrupt(&mut self, name: &Space, key: &Key, bytes: Vec<u8>) -> bool {
        let contents = self.by_name.get(name).and_then(|space| self.spaces.get_mut(space));
        contents.is_some_and(|contents| contents.corrupt(key, bytes, self.now))
    }

    pub(super) fn is_linked(&self, link: Link) -> bool {
        self.spaces.get(&link.space).is_some_and(|contents| contents.links.contains_key(&link.id))
    }

    /// Ends a session.
    pub(super) fn unlink(&mut self, link: Link) {
        let Some(contents) = self.spaces.get_mut(&link.space) else {
            return;
        };
        if let Some(ended) = contents.links.remove(&link.id) {
            self.after.wake.push(ended.bell);
            self.after.wake.push(Arc::clone(&self.resumed));
            self.held_messages.retain(|held| held.to.id != link.id);
        }
        self.forget_if_empty(link.space);
    }

    pub(super) fn unlink_all(&mut self) {
        for contents in self.spaces.values_mut() {
            let ended = mem::take(&mut contents.links);
            self.after.wake.extend(ended.into_values().map(|link| link.bell));
        }
        self.held_messages.clear();
        self.after.wake.push(Arc::clone(&self.resumed));
    }

    pub(super) fn instances(&self) -> Vec<Instance> {
        let mut links: Vec<_> = self.spaces.values().flat_map(|contents| &contents.links).collect();
        links.sort_by_key(|(id, _)| **id);
        links.into_iter().map(|(_, link)| link.instance).collect()
    }

    /// The next event of a session that has arrived; an error if the session is lost.
    pub(super) fn next_event(&mut self, link: Link) -> Result<Option<Event>, Lost> {
        let contents = self.spaces.get_mut(&link.space).ok_or(Lost)?;
        Ok(contents.links.get_mut(&link.id).ok_or(Lost)?.next())
    }

    // Calls.

    pub(super) fn is_stopped_for(&self, link: Link) -> bool {
        self.settings.stopped.covers(link.instance)
    }

    /// Has `call` done once the server goes on.
    pub(super) fn hold(&mut self, call: impl FnOnce(&mut State) + Send + 'static) {
        self.held_calls.push_back(Box::new(call));
    }

    /// Does the first of the calls that wait; tells whether there is one.
    pub(super) fn resume_call(&mut self) -> bool {
        let Some(call) = self.held_calls.pop_front() else {
            return false;
        };
        call(self);
        self.after.wake.push(Arc::clone(&self.resumed));
        true
    }

    pub(super) fn resume(&mut self) {
        self.settings.stopped.nobody();
        while self.resume_call() {}
        // Those who wait to connect.
        self.after.wake.push(Arc::clone(&self.resumed));
    }

    /// Does a call: what it does to the contents, and what it tells.
    pub(super) fn call<T>(
        &mut self,
        link: Link,
        keys: usize,
        run: impl FnOnce(&mut Contents, At) -> Done<T>,
    ) -> Result<T, StoreError> {
        let room = self.room(link)?;
        let at = At { now: self.now, room };
        let contents = self.spaces.get_mut(&link.space).ok_or_else(ended)?;
        let (answer, event) = run(contents, at);
        if let Some(event) = event {
            self.send(link, event);
        }
        self.free(link.space, keys);
        Ok(answer)
    }

    pub(super) fn remove_all(&mut self, link: Link) -> Result<(), StoreError> {
        let mut garbage = None;
        self.call(link, 0, |contents, _| {
            let (done, removed) = contents.remove_all();
            garbage = Some(removed);
            done
        })?;
        self.after.garbage.extend(garbage);
        Ok(())
    }

    pub(super) fn ping(&mut self, link: Link) -> Result<(), StoreError> {
        self.room(link)?;
        self.free(link.space, 0);
        let contents = self.spaces.get(&link.space);
        if contents.is_some_and(|contents| contents.has_heard_all(link.id)) {
            return Ok(());
        }
        self.unlink(link);
        Err(ended())
    }

    /// Fails if the call is to.
    fn room(&mut self, link: Link) -> Result<Room, StoreError> {
        match self.settings.next_failure() {
            None => Ok(Room::Enough),
            Some(ErrorKind::Full) => Ok(Room::None),
            Some(kind) => {
                if kind == ErrorKind::Lost {
                    self.unlink(link);
                }
                Err(fault(kind))
            }
        }
    }

    /// Frees of what is over more than a call for so many keys adds; and something in another space, which
    /// perhaps nobody uses.
    fn free(&mut self, space: u64, keys: usize) {
        if let Some(contents) = self.spaces.get_mut(&space) {
            contents.free(self.now, keys.saturating_mul(2).saturating_add(FREED_AT_LEAST));
        }
        let later = (Bound::Excluded(self.freed), Bound::Unbounded);
        let next = self.spaces.range(later).next().or_else(|| self.spaces.iter().next());
        self.freed = next.map_or(0, |(&space, _)| space);
        if let Some(contents) = self.spaces.get_mut(&self.freed) {
            contents.free(self.now, FREED_AT_LEAST);
            self.forget_if_empty(self.freed);
        }
    }

    /// Forgets a space of which nothing is left.
    fn forget_if_empty(&mut self, space: u64) {
        // A call that waits may be for one whose sessions are lost.
        let is_empty = self.spaces.get(&space).is_some_and(Contents::is_empty);
        if !is_empty || !self.held_calls.is_empty() {
            return;
        }
        if let Some(contents) = self.spaces.remove(&space) {
            if self.by_name.get(&contents.name) == Some(&space) {
                self.by_name.remove(&contents.name);
            }
        }
    }

    // Messages.

    /// Sends `event` to all sessions of the space.
    fn send(&mut self, link: Link, event: Event) {
        let Some(contents) = self.spaces.get_mut(&link.space) else {
            return;
        };
        self.figures.messages += 1;
        let message = contents.message(link.instance, event);
        if self.settings.loses_next() {
            return;
        }
        contents.links.retain(|&id, end| {
            if self.settings.loses_next_to(end.instance) {
                return true;
            }
            let message = message.clone();
            if self.settings.delayed.covers(end.instance) {
                let to = Link { space: link.space, id, instance: end.instance };
                self.held_messages.push_back(HeldMessage { to, message });
                return true;
            }
            self.after.wake.push(Arc::clone(&end.bell));
            let goes_on = end.hear(message);
            if !goes_on {
                self.after.wake.push(Arc::clone(&self.resumed));
            }
            goes_on
        });
    }

    /// Has the first of the messages that are held back arrive; tells whether there is one.
    pub(super) fn deliver_message(&mut self) -> bool {
        let Some(HeldMessage { to, message }) = self.held_messages.pop_front() else {
            return false;
        };
        let contents = self.spaces.get_mut(&to.space);
        if let Some(end) = contents.and_then(|contents| contents.links.get_mut(&to.id)) {
            self.after.wake.push(Arc::clone(&end.bell));
            if !end.hear(message) {
                self.unlink(to);
            }
        }
        true
    }

    pub(super) fn deliver(&mut self) {
        self.settings.delayed.nobody();
        while self.deliver_message() {}
    }

    // Failures of the whole.

    pub(super) fn take_down(&mut self) {
        self.settings.is_down = true;
        self.unlink_all();
    }

    /// Has another process of the server take over, which sees nothing of what the last one kept.
    pub(super) fn restart(&mut self) {
        self.unlink_all();
        self.by_name.clear();
        self.held_calls.clear();
        self.settings.stopped.nobody();
    }

    /// Loses all values and leases, without anybody's hearing of it.
    pub(super) fn lose_data(&mut self) {
        self.by_name.clear();
        self.after.garbage.extend(mem::take(&mut self.spaces).into_values());
    }

    pub(super) fn figures(&self) -> MemoryFigures {
        let mut figures = self.figures.clone();
        for contents in self.spaces.values() {
            figures.values += contents.values(self.now);
            figures.leases += contents.leases(self.now);
            figures.in_memory += contents.in_memory();
            figures.sessions += contents.links.len();
        }
        figures.spaces = self.spaces.len();
        figures.waiting_calls = self.held_calls.len();
        figures.delayed_messages = self.held_messages.len();
        figures
    }
}

/// The session is lost.
pub(super) struct Lost;

pub(super) fn ended() -> StoreError {
    StoreError::new(ErrorKind::Lost, "the session has ended")
}

/// What a fault asked for.
fn fault(kind: ErrorKind) -> StoreError {
    StoreError::new(kind, "a fault of the store in memory, on purpose")
}
