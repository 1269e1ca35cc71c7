//! A share in a flight: waiting for its end, and where its load lives in it, bringing that about.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::leader::{Leader, Stage};
use crate::entries::Kind;
use crate::flight::{Completion, Load, Outcome, PollGuard, PollScope};
use crate::shard::lead_or_join::FlightRef;
use crate::shard::removals::Deliveries;
use crate::store::Store;
use crate::sync::counters::Event;

/// A share in a flight. In a detached one, those who have a share poll the load; when the last one
/// goes, the load goes with it.
pub(super) struct Joined<'a, K, V> {
    store: &'a Store<K, V>,
    flight: FlightRef<'a, K, V>,
    completion: Arc<Completion<V>>,
}

impl<'a, K, V> Joined<'a, K, V> {
    /// A share in a flight, which has counted it.
    pub(super) fn new(
        store: &'a Store<K, V>,
        flight: FlightRef<'a, K, V>,
        completion: Arc<Completion<V>>,
    ) -> Self {
        Self { store, flight, completion }
    }

    /// Waits for the end of the flight, and helps to bring it about. Returns besides what is left to do for
    /// the listener, if this caller has published the value.
    pub(super) async fn outcome(&self) -> (&Outcome<V>, Deliveries<K, V>)
    where
        K: Eq,
        V: Clone,
    {
        let mut deliveries = Deliveries::default();
        let mut wait = pin!(self.completion.wait(self.flight.name()));
        let outcome = poll_fn(|cx| {
            // Registers before the look at the load, so that no wake-up comes between.
            let polled = wait.as_mut().poll(cx);
            if polled.is_pending() {
                if let Some((guard, load)) = self.completion.take_guard() {
                    self.poll_load(guard, load, cx, &mut deliveries);
                    return wait.as_mut().poll(cx);
                }
            }
            polled
        })
        .await;
        (outcome, deliveries)
    }

    /// Moves the load on as far as it gets; adds what is left to do for the listener to `deliveries`, which
    /// a `Drop` that panics here would otherwise leak.
    fn poll_load(
        &self,
        guard: PollGuard<'_, Outcome<V>>,
        mut load: Load<V>,
        cx: &Context<'_>,
        deliveries: &mut Deliveries<K, V>,
    ) where
        K: Eq,
        V: Clone,
    {
        let mut leader = Leader::new(self.store, self.flight, Kind::Detached);
        leader.stage = Stage::Loading;
        let polled = {
            let waker = guard.waker();
            let _scope = PollScope::enter_with(self.flight.name(), &waker, cx);
            load.as_mut().poll(&mut Context::from_waker(&waker))
        };
        let Poll::Ready(outcome) = polled else {
            leader.stage = Stage::Ended;
            guard.give_back(load);
            return;
        };
        drop(load);
        match &outcome {
            Outcome::Value(value) if self.store.takes_values() => {
                let appraised = leader.appraise(value);
                let kept = value.clone();
                deliveries.append(leader.publish(kept, appraised, || outcome));
            }
            Outcome::Value(_) => leader.end(|| outcome),
            Outcome::Failure(_) | Outcome::Abandoned => {
                leader.fail(|| outcome);
                deliveries.append(leader.backlog());
            }
        }
    }
}

impl<K, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        if self.completion.needs_callers() && self.flight.leave().is_some() {
            self.store.count(Event::LoadFailure);
        }
    }
}
