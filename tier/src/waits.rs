//! Who waits for a key that another instance loads.

use std::collections::HashMap;
use std::sync::Arc;

use event_listener::{Event, EventListener};

use crate::key::Key;
use crate::sync::Mutex;

/// The keys that calls of this instance wait for.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<Key, Waited>>);

/// A key that is waited for.
#[derive(Debug, Default)]
struct Waited {
    event: Arc<Event>,
    /// How many calls wait: the count of the `Arc` changes without the lock.
    calls: usize,
}

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
        let mut waited = self.0.lock();
        let Waited { event, calls } = waited.entry(key.clone()).or_default();
        *calls += 1;
        Waiting { waits: self, key: key.clone(), event: Arc::clone(event) }
    }

    /// Tells those who wait for `key` to look again.
    pub(crate) fn ready(&self, key: &Key) {
        let waited = self.0.lock().remove(key);
        // Outside the lock, as it wakes.
        if let Some(Waited { event, .. }) = waited {
            event.notify(usize::MAX);
        }
    }

    /// Tells all who wait to look again.
    pub(crate) fn all_ready(&self) {
        let waited = std::mem::take(&mut *self.0.lock());
        for Waited { event, .. } in waited.into_values() {
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
        let mut waited = self.waits.0.lock();
        // Those that were told to look again are no longer counted.
        let Some(own) =
            waited.get_mut(&self.key).filter(|own| Arc::ptr_eq(&own.event, &self.event))
        else {
            return;
        };
        own.calls -= 1;
        if own.calls == 0 {
            waited.remove(&self.key);
        }
    }
}

#[cfg(all(test, not(async_lru_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_told_to_look_again_does_not_end_the_wait_of_another() {
        let (waits, key) = (Waits::default(), Key::of("ann"));
        let told = waits.wait(&key);
        waits.ready(&key);
        let waiting = waits.wait(&key);
        drop(told);
        assert_eq!(waits.0.lock().len(), 1);
        drop(waiting);
        assert!(waits.0.lock().is_empty());
    }
}
