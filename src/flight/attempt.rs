//! The account of a load that does not live in the future of the call that started it, or has many keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    pub(crate) fn begin(counters: &Arc<Counters>) -> Self {
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
    has_succeeded: bool,
}

impl Running {
    pub(crate) fn new(attempt: Attempt) -> Self {
        Self { attempt, has_succeeded: false }
    }

    pub(crate) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Leaves what may still fail to those who publish it.
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
