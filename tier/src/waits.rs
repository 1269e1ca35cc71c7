//! Who waits for a key that another instance loads.

use std::collections::HashMap;
use std::sync::Arc;

use event_listener::{Event, EventListener};

use crate::key::Key;
use crate::sync::Mutex;

/// The keys that calls of this instance wait for.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<Key, Arc<Event>>>);

/// A call that waits for a key.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    key: Key,
    event: Arc<Event>,
}

impl Waits {
    /// Has `key` waited for, until the guard is dropped.
    pub(crate) fn wait(&self, key: &Key) -> Waiting<'_> {
        let mut events = self.0.lock();
        let event = Arc::clone(events.entry(key.clone()).or_default());
        Waiting { waits: self, key: key.clone(), event }
    }

    /// Tells those who wait for `key` to look again.
    pub(crate) fn ready(&self, key: &Key) {
        let event = self.0.lock().remove(key);
        // Outside the lock, as it wakes.
        if let Some(event) = event {
            event.notify(usize::MAX);
        }
    }

    /// Tells all who wait to look again.
    pub(crate) fn all_ready(&self) {
        let events = std::mem::take(&mut *self.0.lock());
        for event in events.into_values() {
            event.notify(usize::MAX);
        }
    }
}

impl Waiting<'_> {
    /// Ends with the next word that the key is ready.
    pub(crate) fn listen(&self) -> EventListener {
        self.event.listen()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut events = self.waits.0.lock();
        let nobody_else =
            |event: &Arc<Event>| Arc::ptr_eq(event, &self.event) && Arc::strong_count(event) == 2;
        if events.get(&self.key).is_some_and(nobody_else) {
            events.remove(&self.key);
        }
    }
}
