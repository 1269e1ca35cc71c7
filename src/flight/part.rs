//! A share in a load of several keys, as the flight of its key knows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::AtomicBool;

/// Tells whether somebody has joined the flight of the key while the load ran.
///
/// What the load has brought is published by whoever is polled, and if nobody is it lies there. Those who
/// came before its end are to have it, whenever they are polled, and nobody who comes later.
pub(crate) struct Part {
    has_ended: Arc<AtomicBool>,
    is_awaited: AtomicBool,
}

impl Part {
    /// A share in the load that sets `has_ended` when it does.
    pub(crate) fn new(has_ended: Arc<AtomicBool>) -> Self {
        Self { has_ended, is_awaited: AtomicBool::new(false) }
    }

    /// Notes that somebody joins.
    pub(super) fn join(&self) {
        if !self.has_ended.load(Ordering::SeqCst) {
            self.is_awaited.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst)
    }
}
