//! Measures how long loads take, in caches that are told to.

use std::sync::Arc;

use crate::clock::{Clock, Nanos, nanos};
use crate::sync::counters::{Counters, Event};

/// Counts the time that loads have taken which gave an answer.
#[derive(Clone)]
pub(crate) struct LoadTimer {
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

impl LoadTimer {
    pub(crate) fn new(clock: Arc<dyn Clock>, counters: Arc<Counters>) -> Self {
        Self { clock, counters }
    }

    /// The time at which a load begins.
    pub(crate) fn now(&self) -> Nanos {
        nanos(self.clock.now())
    }

    /// Counts the time of a load that has begun then and ends now.
    pub(crate) fn count_since(&self, begun: Nanos) {
        self.counters.add(Event::LoadTime, self.now().saturating_sub(begun));
    }
}

/// A load that is being measured.
pub(crate) struct Timing {
    timer: LoadTimer,
    begun: Nanos,
}

impl Timing {
    pub(crate) fn begin(timer: &LoadTimer) -> Self {
        Self { timer: timer.clone(), begun: timer.now() }
    }

    /// Counts its time, which is that of a load with an answer: one that is dropped or panics has none.
    pub(crate) fn end(self) {
        self.timer.count_since(self.begun);
    }
}
