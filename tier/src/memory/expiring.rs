//! Things that are there until their deadlines.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::key::Key;

/// Below this capacity the table does not shrink.
const SMALL: usize = 64;

/// A map whose entries are seen until their deadlines, and freed a few at a time after them.
pub(super) struct Expiring<T> {
    /// With the deadlines.
    by_key: HashMap<Key, (T, Duration)>,
    /// The same keys by deadline.
    by_deadline: BTreeSet<(Duration, Key)>,
}

impl<T> Expiring<T> {
    pub(super) fn new() -> Self {
        Self { by_key: HashMap::new(), by_deadline: BTreeSet::new() }
    }

    /// What is there under `key`, and the time that it has left.
    pub(super) fn get(&self, key: &Key, now: Duration) -> Option<(&T, Duration)> {
        let (value, deadline) = self.by_key.get(key)?;
        (now < *deadline).then(|| (value, *deadline - now))
    }

    pub(super) fn get_mut(&mut self, key: &Key, now: Duration) -> Option<&mut T> {
        let (value, deadline) = self.by_key.get_mut(key)?;
        (now < *deadline).then_some(value)
    }

    /// Puts `value` there until `deadline`, in place of what there is.
    pub(super) fn insert(&mut self, key: &Key, value: T, deadline: Duration) {
        if let Some((_, before)) = self.by_key.insert(key.clone(), (value, deadline)) {
            self.by_deadline.remove(&(before, key.clone()));
        }
        self.by_deadline.insert((deadline, key.clone()));
    }

    /// Takes out what is there under `key`.
    pub(super) fn remove(&mut self, key: &Key, now: Duration) -> Option<T> {
        let (key, (value, deadline)) = self.by_key.remove_entry(key)?;
        self.by_deadline.remove(&(deadline, key));
        self.shrink();
        (now < deadline).then_some(value)
    }

    /// Frees what is over, `most` entries at a time.
    pub(super) fn free(&mut self, now: Duration, most: usize) {
        for _ in 0..most {
            match self.by_deadline.first() {
                Some((deadline, _)) if *deadline <= now => {}
                _ => break,
            }
            if let Some((_, key)) = self.by_deadline.pop_first() {
                self.by_key.remove(&key);
            }
        }
        self.shrink();
    }

    /// Gives back the memory of a table that has become mostly empty: at least as many entries have gone
    /// since it was made as have to be moved.
    fn shrink(&mut self) {
        if self.by_key.capacity() > SMALL && self.by_key.len() < self.by_key.capacity() / 4 {
            self.by_key.shrink_to(self.by_key.len() * 2);
        }
    }

    /// The number of entries in memory.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The number of entries that are not over.
    pub(super) fn live(&self, now: Duration) -> usize {
        let over = self.by_deadline.iter().take_while(|(deadline, _)| *deadline <= now);
        self.by_key.len() - over.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_has_become_empty_gives_its_memory_back() {
        let keys: Vec<_> = (0..10_000).map(|i| Key::of(&i)).collect();
        let fill = |entries: &mut Expiring<()>| {
            for key in &keys {
                entries.insert(key, (), Duration::from_secs(1));
            }
            assert!(entries.by_key.capacity() >= keys.len());
        };
        let mut entries = Expiring::new();
        fill(&mut entries);
        entries.free(Duration::from_secs(1), usize::MAX);
        assert!(entries.by_key.capacity() <= SMALL);
        fill(&mut entries);
        for key in &keys {
            entries.remove(key, Duration::ZERO);
        }
        assert!(entries.by_key.capacity() <= SMALL);
    }
}
