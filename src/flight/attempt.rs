//! The account of a load that does not live in the future of the call that started it, or has many keys:
//! counted and measured by the load itself, since nobody else sees it through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::load_timer::{LoadTimer, Timing};
use super::trace::LoadSpan;
use crate::sync::counters::{Counters, Event};

/// A load that has been started. It has failed unless all that it brought was published, and counts once,
/// whatever of it fails.
pub(crate) struct Attempt {
    state: Arc<AttemptState>,
}

struct AttemptState {
    counters: Arc<Counters>,
    has_failed: AtomicBool,
}

impl Attempt {
    /// Counts a load.
    fn begin(counters: &Arc<Counters>) -> Self {
        counters.count(Event::Load);
        let counters = Arc::clone(counters);
        Self { state: Arc::new(AttemptState { counters, has_failed: AtomicBool::new(false) }) }
    }

    /// Counts it as failed.
    pub(crate) fn fail(&self) {
        if !self.state.has_failed.swap(true, Ordering::Relaxed) {
            self.state.counters.count(Event::LoadFailure);
        }
    }
}

impl Clone for Attempt {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

/// An attempt under way, which has failed if this is dropped early.
pub(crate) struct Running {
    attempt: Attempt,
    /// In a cache that measures loads.
    timing: Option<Timing>,
    span: LoadSpan,
    has_succeeded: bool,
}

impl Running {
    /// Begins a load, and counts it.
    pub(crate) fn begin(
        counters: &Arc<Counters>,
        timer: Option<&LoadTimer>,
        span: LoadSpan,
    ) -> Self {
        // First, for the clock is the user's: if it panics, there was no load.
        let timing = timer.map(Timing::begin);
        Self { attempt: Attempt::begin(counters), timing, span, has_succeeded: false }
    }

    /// A part of an attempt, which has failed with it.
    pub(crate) fn of(attempt: &Attempt) -> Self {
        Self {
            attempt: attempt.clone(),
            timing: None,
            span: LoadSpan::none(),
            has_succeeded: false,
        }
    }

    /// The span in which its load is made and polled.
    pub(crate) fn span(&self) -> &LoadSpan {
        &self.span
    }

    pub(crate) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Takes note that the load has given an answer: a value or an error.
    pub(crate) fn answered(&mut self, is_value: bool) {
        if let Some(timing) = self.timing.take() {
            timing.end();
        }
        self.span.end(is_value);
    }

    /// Takes note that what it has brought is published, or given to those who are to have it.
    pub(crate) fn succeed(&mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_succeeded {
            self.attempt.fail();
        }
    }
}
