//! The failure of a refresh, which leaves the value in place that it was to renew.

use super::leader::{Leader, Stage};
use crate::entries::Ended;
use crate::entries::freshness::Freshness;
use crate::flight::{Failure, Outcome};
use crate::sync::counters::Event;

impl<K: Eq, V: Clone> Leader<'_, K, V> {
    /// Ends the flight of a load that has failed, with an error if there is one for all who wait. Returns the
    /// live value that it was to renew, if it was.
    pub(super) fn fail(&mut self, failure: impl FnOnce() -> Option<Failure>) -> Option<V> {
        if self.kind.is_refresh() {
            return self.fail_refresh(failure());
        }
        self.count_failure();
        self.end(|| failure().map_or(Outcome::Abandoned, Outcome::Failure));
        None
    }

    #[cold]
    fn fail_refresh(&mut self, failure: Option<Failure>) -> Option<V> {
        let lifetimes = self.store.lifetimes();
        let due = lifetimes.now().map_or(Freshness::Due(0), |now| lifetimes.next_refresh(now));
        let (left, ended) = self.flight.fail_refresh(lifetimes.roughly_now(), due);
        // Not before the user's code has run, or a panic of that would count once more.
        self.count_failure();
        self.store.count(Event::RefreshFailure);
        self.stage = Stage::Ended;
        let Ended { key, completion, sweeps } = ended;
        completion.complete(|| match left.clone() {
            Some(left) => Outcome::Stale(left, failure),
            None => failure.map_or(Outcome::Abandoned, Outcome::Failure),
        });
        // The user's `Drop` comes after the waiters, and before the value is on its way to the caller: one
        // that panics would leak it.
        drop((key, sweeps));
        left
    }
}

impl<K, V> Leader<'_, K, V> {
    /// Counts its load, if it has one that has started, as one without a value.
    pub(super) fn count_failure(&self) {
        if self.stage == Stage::Loading {
            self.store.count(Event::LoadFailure);
        }
    }

    /// Ends the flight of a refresh that is dropped.
    pub(super) fn abandon_refresh(&mut self) {
        self.store.count(Event::RefreshFailure);
        let due = self.store.due_after_drop();
        self.stage = Stage::Ended;
        let Ended { key: _key, completion, sweeps: _sweeps } = self.flight.end_refresh(due);
        completion.complete(|| Outcome::Abandoned);
    }
}
