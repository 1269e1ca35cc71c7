//! A share in a flight: waiting for its end, and where its load lives in it, bringing that about.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::leader::{Leader, Stage};
use crate::entries::Kind;
use crate::flight::attempt::Attempt;
use crate::flight::{Completion, Load, LoadEnd, Outcome, PollGuard, PollScope};
use crate::shard::lead_or_join::FlightRef;
use crate::shard::removals::Deliveries;
use crate::store::Store;

/// A share in a flight. In a detached one, those who have a share poll the load; when the last one
/// goes, the load goes with it.
pub(super) struct Joined<'a, K, V> {
    store: &'a Store<K, V>,
    flight: FlightRef<'a, K, V>,
    completion: Arc<Completion<V>>,
    /// Whether it came when the load of several keys had ended of which its load is a part: what that has
    /// brought is for others.
    is_late: bool,
}

impl<'a, K, V> Joined<'a, K, V> {
    /// A share in a flight, which has counted it.
    pub(super) fn new(
        store: &'a Store<K, V>,
        flight: FlightRef<'a, K, V>,
        completion: Arc<Completion<V>>,
    ) -> Self {
        let is_late = completion.comes_late();
        Self { store, flight, completion, is_late }
    }

    /// The share of the call that has started the load.
    pub(super) fn of_leader(
        store: &'a Store<K, V>,
        flight: FlightRef<'a, K, V>,
        completion: Arc<Completion<V>>,
    ) -> Self {
        Self { store, flight, completion, is_late: false }
    }

    /// Tells whether the outcome is for others.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Waits for the end of the flight, and helps to bring it about. Returns besides what is left to do for
    /// the listener, if this caller has published the value.
    pub(super) async fn outcome(&self) -> (&Outcome<V>, Deliveries<K, V>)
    where
        K: Eq,
        V: Clone,
    {
        let mut deliveries = Deliveries::default();
        let poll_load = |guard: PollGuard<'_, _>, load, cx: &Context<'_>| {
            self.poll_load(guard, load, cx, &mut deliveries);
        };
        let outcome = self.completion.outcome(Some(self.flight.name()), poll_load).await;
        (outcome, deliveries)
    }

    /// Moves the load on as far as it gets; adds what is left to do for the listener to `deliveries`, which
    /// a `Drop` that panics here would otherwise leak.
    fn poll_load(
        &self,
        guard: PollGuard<'_, LoadEnd<V>>,
        mut load: Load<V>,
        cx: &Context<'_>,
        deliveries: &mut Deliveries<K, V>,
    ) where
        K: Eq,
        V: Clone,
    {
        // Lets the others go on if the load panics, which itself counts that as a failure.
        let mut leader = Leader::new(self.store, self.flight, Kind::Detached);
        let polled = {
            let waker = guard.waker();
            let _scope = PollScope::enter_with(self.flight.name(), &waker, cx);
            load.as_mut().poll(&mut Context::from_waker(&waker))
        };
        let Poll::Ready(end) = polled else {
            leader.stage = Stage::Ended;
            guard.give_back(load);
            return;
        };
        drop(load);
        match end {
            LoadEnd::Value(loaded, _) if self.is_late => {
                leader.end(|| Outcome::Value(loaded.value));
            }
            LoadEnd::Value(loaded, attempt) => {
                let mut publishing = Publishing { leader, attempt };
                deliveries.append(publishing.deliver(&loaded.value, loaded.ttl));
            }
            LoadEnd::Failure(failure) => {
                leader.end(|| Outcome::Failure(failure));
                deliveries.append(leader.backlog());
            }
            LoadEnd::Nothing => leader.end(|| Outcome::Abandoned),
        }
    }
}

/// The publication of something that an attempt has brought, which has failed if it comes to nothing.
pub(super) struct Publishing<'a, K, V> {
    pub(super) leader: Leader<'a, K, V>,
    pub(super) attempt: Attempt,
}

impl<K: Eq, V: Clone> Publishing<'_, K, V> {
    #[inline(never)]
    pub(super) fn deliver(&mut self, value: &V, ttl: Option<Duration>) -> Deliveries<K, V> {
        self.leader.deliver(value, ttl)
    }
}

impl<K, V> Drop for Publishing<'_, K, V> {
    fn drop(&mut self) {
        if self.leader.stage != Stage::Ended {
            self.attempt.fail();
        }
    }
}

impl<K, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        if self.completion.needs_callers() {
            drop(self.flight.leave());
        }
    }
}
