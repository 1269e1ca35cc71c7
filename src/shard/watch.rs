//! Looks at some slots of a shard, and takes entries out of those that were not written meanwhile.

use std::ops::Range;

use super::Shard;
use super::departed::Departed;
use super::look::Live;
use super::state::State;
use super::watchers::WATCHED;
use super::writer::Writer;
use crate::clock::{Nanos, Now};
use crate::entries::Slot;
use crate::removal::RemovalCause;
use crate::sync::counters::Event;

/// How far somebody has come who looks at all slots of a shard; by default, not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// That of the shard.
    generation: u64,
    slot: usize,
}

impl Position {
    /// At a slot of a shard whose entries have moved so often.
    pub(super) fn new(generation: u64, slot: usize) -> Self {
        Self { generation, slot }
    }

    /// The slot to go on at: the first one if the entries have moved since, as those to come may be where the
    /// caller has been.
    pub(super) fn first(self, generation: u64) -> usize {
        if self.generation == generation { self.slot } else { 0 }
    }
}

/// A look at some slots of a shard, which sees what is written to them until it is dropped.
pub(crate) struct Watch<'a, K, V> {
    shard: &'a Shard<K, V>,
    slots: Range<usize>,
    generation: u64,
    number: u64,
}

impl<K, V> Shard<K, V> {
    /// Watches the slots from `position` on, or from the first on if the entries have moved since then. `None`
    /// if there are no more slots.
    pub(crate) fn watch(&self, position: Position) -> Option<Watch<'_, K, V>> {
        let state = &mut *self.lock();
        let generation = state.generation;
        let first = position.first(generation);
        if first >= state.entries.slots() {
            return None;
        }
        let number = state.watchers.add(first as Slot);
        Some(Watch { shard: self, slots: first..first + WATCHED, generation, number })
    }
}

impl<K, V> Watch<'_, K, V> {
    /// The slots that are watched.
    pub(crate) fn slots(&self) -> Range<usize> {
        self.slots.clone()
    }

    /// Lets `look` at the live entries in them, as [`Shard::each_live`] does.
    pub(crate) fn each_live(&self, now: Option<Now<'_>>, look: impl FnMut(Live<'_, K, V>)) {
        self.shard.each_live(self.slots(), now, look);
    }

    /// Where to go on after these slots.
    pub(crate) fn end(&self) -> Position {
        Position::new(self.generation, self.slots.end)
    }

    /// Takes out the entries in those of the `chosen` slots that were not written since the watch
    /// began, unless their time is over; returns how many.
    pub(crate) fn take_out(
        self,
        chosen: &[Slot],
        now: Option<Nanos>,
        departed: &mut Departed<K, V>,
    ) -> usize {
        self.shard.write(now, departed).take_out_unchanged(self.number, chosen)
        // The watch ends here, and takes the lock again.
    }
}

impl<K, V> Drop for Watch<'_, K, V> {
    fn drop(&mut self) {
        self.shard.lock().watchers.remove(self.number);
    }
}

impl<K, V> Writer<'_, K, V> {
    fn take_out_unchanged(&mut self, watch: u64, chosen: &[Slot]) -> usize {
        let State { watchers, entries, .. } = &*self.state;
        let watcher = watchers.get(watch);
        let is_unchanged = |slot: &Slot| !watcher.has_seen(*slot) && entries.is_in_use(*slot);
        let unchanged: Vec<Slot> = chosen.iter().copied().filter(is_unchanged).collect();
        let mut taken = 0;
        for slot in unchanged {
            let entry = self.take_out(slot, RemovalCause::Removed);
            if entry.is_some() {
                self.count(Event::Invalidation);
                taken += 1;
            }
            entry.into_iter().for_each(|entry| self.departed.keep_removed(entry));
        }
        taken
    }
}
