//! The contents of one space, and what each call does to them.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event as Bell;

use super::expiring::Expiring;
use crate::key::Key;
use crate::store::{Ask, Claim, Event, Found, Instance, Lease, Space, Turn};

/// Values, leases and sessions of one space.
pub(super) struct Contents {
    pub(super) name: Space,
    values: Expiring<Data>,
    leases: Expiring<Held>,
    /// The number of the last message that has one.
    sent: u64,
    /// The sessions that are not lost.
    pub(super) links: BTreeMap<u64, Link>,
}

enum Data {
    Bytes(Vec<u8>),
    Foreign,
}

struct Held {
    lease: Lease,
    /// Somebody else found it leased.
    wanted: bool,
    /// The next who looks takes it over.
    is_claim: bool,
}

/// The end of a session that hears messages.
pub(super) struct Link {
    pub(super) instance: Instance,
    /// The number of the last message that arrived, of those that have one.
    heard: u64,
    /// What arrived and is still to be taken.
    arrived: VecDeque<Event>,
    /// Wakes the one who waits for the next event.
    pub(super) bell: Arc<Bell>,
}

/// An event on its way.
#[derive(Clone)]
pub(super) struct Message {
    /// `None` if it may be missed: then somebody waits a little longer.
    number: Option<u64>,
    sender: Instance,
    event: Event,
}

/// The circumstances of a call.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) now: Duration,
    pub(super) room: Room,
}

/// Whether the store takes anything more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    None,
}

/// The answer to a call, and what is to be told to all sessions in the same step.
pub(super) type Done<T> = (T, Option<Event>);

impl Contents {
    pub(super) fn new(name: Space) -> Self {
        Self {
            name,
            values: Expiring::new(),
            leases: Expiring::new(),
            sent: 0,
            links: BTreeMap::new(),
        }
    }

    pub(super) fn get_or_lease(&mut self, keys: &[Key], ask: Ask, at: At) -> Done<Vec<Found>> {
        (keys.iter().map(|key| self.look(key, ask, at)).collect(), None)
    }

    fn look(&mut self, key: &Key, ask: Ask, at: At) -> Found {
        let (bytes, left) = match self.values.get(key, at.now) {
            None => return Found::Absent(self.turn(key, ask, at)),
            Some((Data::Foreign, _)) => return Found::Foreign(self.turn(key, ask, at)),
            Some((Data::Bytes(bytes), left)) => (bytes.clone(), left),
        };
        let turn = if left <= ask.stale_below { self.turn(key, ask, at) } else { Turn::Nobodys };
        Found::Value { bytes, left, turn }
    }

    /// Leases `key`, which is to be loaded, if nobody else has it.
    fn turn(&mut self, key: &Key, ask: Ask, at: At) -> Turn {
        let has_room = at.room == Room::Enough;
        let wanted = match self.leases.get_mut(key, at.now) {
            // The same key twice, or once more as the first answer was lost.
            Some(held) if held.lease == ask.lease => held.wanted,
            Some(held) if !held.is_claim => {
                // Takes memory: without it, who waits is not told.
                held.wanted |= has_room;
                return Turn::Anothers;
            }
            _ => false,
        };
        if !has_room {
            return Turn::Full;
        }
        let held = Held { lease: ask.lease, wanted, is_claim: false };
        self.leases.insert(key, held, at.now.saturating_add(ask.lease_for));
        Turn::Mine
    }

    /// Gives the lease of `key` back, if it is `lease`.
    fn give_back(&mut self, key: &Key, lease: Lease, now: Duration) -> Option<Held> {
        self.leases.get(key, now).filter(|(held, _)| held.lease == lease)?;
        self.leases.remove(key, now)
    }

    pub(super) fn put(
        &mut self,
        lease: Lease,
        values: Vec<(Key, Vec<u8>)>,
        ttl: Duration,
        at: At,
    ) -> Done<Vec<bool>> {
        let mut ready = Vec::new();
        let kept = values.into_iter().map(|(key, bytes)| {
            let Some(held) = self.give_back(&key, lease, at.now) else {
                return false;
            };
            let is_kept = at.room == Room::Enough && !ttl.is_zero();
            if is_kept {
                self.values.insert(&key, Data::Bytes(bytes), at.now.saturating_add(ttl));
            } else if ttl.is_zero() {
                self.values.remove(&key, at.now);
            }
            if held.wanted {
                ready.push(key);
            }
            is_kept
        });
        let kept = kept.collect();
        (kept, told(ready, Event::Ready))
    }

    pub(super) fn release(&mut self, lease: Lease, keys: Vec<Key>, at: At) -> Done<()> {
        let mut ready = keys;
        ready.retain(|key| self.give_back(key, lease, at.now).is_some_and(|held| held.wanted));
        ((), told(ready, Event::Ready))
    }

    pub(super) fn remove(&mut self, keys: Vec<Key>, claim: Option<Claim>, at: At) -> Done<()> {
        for key in &keys {
            self.values.remove(key, at.now);
            self.leases.remove(key, at.now);
            if let Some(Claim { lease, lease_for }) = claim.filter(|_| at.room == Room::Enough) {
                let held = Held { lease, wanted: false, is_claim: true };
                self.leases.insert(key, held, at.now.saturating_add(lease_for));
            }
        }
        ((), told(keys, Event::Gone))
    }

    /// Also gives what is to be dropped after unlocking.
    pub(super) fn remove_all(&mut self) -> (Done<()>, Contents) {
        let mut removed = Self::new(self.name.clone());
        mem::swap(&mut self.values, &mut removed.values);
        mem::swap(&mut self.leases, &mut removed.leases);
        (((), Some(Event::AllGone)), removed)
    }

    pub(super) fn put_foreign(&mut self, key: &Key) {
        self.values.insert(key, Data::Foreign, Duration::MAX);
    }

    /// Tells whether there is a value to corrupt.
    pub(super) fn corrupt(&mut self, key: &Key, bytes: Vec<u8>, now: Duration) -> bool {
        match self.values.get_mut(key, now) {
            Some(data) => {
                *data = Data::Bytes(bytes);
                true
            }
            None => false,
        }
    }

    /// Frees what is over, `most` values and leases at a time.
    pub(super) fn free(&mut self, now: Duration, most: usize) {
        self.values.free(now, most);
        self.leases.free(now, most);
    }

    /// Tells that nothing is there to be kept: not even the number of the last message, as nobody counts.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.values.len() == 0 && self.leases.len() == 0
    }

    pub(super) fn values(&self, now: Duration) -> usize {
        self.values.live(now)
    }

    pub(super) fn leases(&self, now: Duration) -> usize {
        self.leases.live(now)
    }

    /// The number of values and leases in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.values.len() + self.leases.len()
    }

    /// Lets a session hear all messages from now on.
    pub(super) fn link(&mut self, id: u64, instance: Instance, bell: Arc<Bell>) {
        let link = Link { instance, heard: self.sent, arrived: VecDeque::new(), bell };
        self.links.insert(id, link);
    }

    /// Gives the next message its number, if it is one that must not be missed.
    pub(super) fn message(&mut self, sender: Instance, event: Event) -> Message {
        let number = match event {
            Event::Ready(_) => None,
            Event::Gone(_) | Event::AllGone => {
                self.sent += 1;
                Some(self.sent)
            }
        };
        Message { number, sender, event }
    }

    /// Tells whether all that was sent has arrived at the session.
    pub(super) fn has_heard_all(&self, id: u64) -> bool {
        self.links.get(&id).is_some_and(|link| link.heard == self.sent)
    }
}

impl Link {
    /// Takes a message up; false if one is missing before it.
    #[must_use]
    pub(super) fn hear(&mut self, message: Message) -> bool {
        if let Some(number) = message.number {
            if number != self.heard + 1 {
                return false;
            }
            self.heard = number;
        }
        let of_interest = match message.event {
            Event::Ready(_) => true,
            Event::Gone(_) | Event::AllGone => message.sender != self.instance,
        };
        if of_interest {
            self.arrived.push_back(message.event);
        }
        true
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        self.arrived.pop_front()
    }
}

/// The event for `keys`, if there are any.
fn told(keys: Vec<Key>, event: fn(Vec<Key>) -> Event) -> Option<Event> {
    (!keys.is_empty()).then(|| event(keys))
}
