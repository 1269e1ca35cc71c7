//! The failure of a refresh, which leaves the value in place that it was to renew.

use std::thread;

use super::leader::{Leader, Stage};
use crate::entries::Ended;
use crate::entries::freshness::Freshness;
use crate::flight::{Failure, Outcome};
use crate::sync::counters::Event;
use crate::sync::unwind::caught;

impl<K: Eq, V: Clone> Leader<'_, K, V> {
    /// Ends the flight of a load that has failed, with an error if there is one for all who wait. Returns the
    /// live value that it was to renew, if it was.
    pub(super) fn fail(&mut self, failure: impl FnOnce() -> Option<Failure>) -> Option<V> {
        if self.stage == Stage::Loading {
            self.store.count(Event::LoadFailure);
        }
        if self.kind.is_refresh() {
            return self.fail_refresh(failure());
        }
        self.end(|| failure().map_or(Outcome::Abandoned, Outcome::Failure));
        None
    }

    #[cold]
    fn fail_refresh(&mut self, failure: Option<Failure>) -> Option<V> {
        self.store.count(Event::RefreshFailure);
        let lifetimes = self.store.lifetimes();
        let due = lifetimes.now().map_or(Freshness::Due(0), |now| lifetimes.next_refresh(now));
        let (left, ended) = self.flight.fail_refresh(lifetimes.roughly_now(), due);
        self.stage = Stage::Ended;
        // The rest is dropped last: the waiters come before the user's `Drop`.
        let Ended { key: _key, completion, sweeps: _sweeps } = ended;
        completion.complete(|| match left.clone() {
            Some(left) => Outcome::Stale(left, failure),
            None => failure.map_or(Outcome::Abandoned, Outcome::Failure),
        });
        left
    }
}

impl<K, V> Leader<'_, K, V> {
    /// Ends the flight of a refresh that is dropped: the next call takes it up, unless it has panicked.
    pub(super) fn abandon_refresh(&mut self) {
        self.store.count(Event::RefreshFailure);
        let due = if thread::panicking() { self.due_after_panic() } else { Freshness::Due(0) };
        self.stage = Stage::Ended;
        let Ended { key: _key, completion, sweeps: _sweeps } = self.flight.end_refresh(due);
        completion.complete(|| Outcome::Abandoned);
    }

    fn due_after_panic(&self) -> Freshness {
        let lifetimes = self.store.lifetimes();
        // The clock is the user's.
        let now = caught(|| lifetimes.now()).flatten();
        now.map_or(Freshness::Due(0), |now| lifetimes.next_refresh(now))
    }
}
