//! A share in a flight: waiting for its end, and where its load lives in it, bringing that about.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use futures_lite::future::yield_now;

use super::delivery::{Delivered, Unfinished};
use super::leader::{Leader, Stage};
use crate::entries::Kind;
use crate::entries::freshness::Freshness;
use crate::flight::attempt::Running;
use crate::flight::{
    Begun, Completion, LoadEnd, LoadGuard, LoadProgress, Loaded, Outcome, PollScope,
};
use crate::lifetime::Lifetime;
use crate::shard::lead_or_join::{FlightRef, LeftFlight, OpenFlight};
use crate::shard::removals::Deliveries;
use crate::store::Store;

/// A share in a flight. In a detached one, those who have a share poll the load; when the last one
/// goes, the load goes with it, or on without them in a cache that has a spawner.
pub(super) struct Joined<'a, K, V> {
    share: Share<'a, K, V>,
    completion: Arc<Completion<V>>,
    has_left: bool,
}

impl<'a, K, V> Joined<'a, K, V> {
    /// A share in a flight, which has counted it.
    pub(super) fn new(store: &'a Store<K, V>, open: OpenFlight<'a, K, V>) -> Self {
        let OpenFlight { flight, kind, completion } = open;
        let is_late = completion.comes_late();
        Self { share: Share { store, flight, kind, is_late }, completion, has_left: false }
    }

    /// The share of the call that has started the load.
    pub(super) fn of_leader(
        store: &'a Store<K, V>,
        flight: FlightRef<'a, K, V>,
        kind: Kind,
        completion: Arc<Completion<V>>,
    ) -> Self {
        Self { share: Share { store, flight, kind, is_late: false }, completion, has_left: false }
    }

    /// What kind of flight it is.
    pub(super) fn kind(&self) -> Kind {
        self.share.kind
    }

    /// Tells whether the outcome is for others.
    pub(super) fn is_late(&self) -> bool {
        self.share.is_late
    }

    /// Waits for the end of the flight, and helps to bring it about. Returns besides what is left to do for
    /// the listener, if this caller has published the value.
    pub(super) async fn outcome(&self) -> (&Outcome<V>, Deliveries<K, V>)
    where
        K: Eq,
        V: Clone,
    {
        let mut deliveries = Deliveries::default();
        loop {
            let poll_load = |guard: LoadGuard<'_, _>, load, cx: &Context<'_>| {
                self.share.poll_load(guard, load, cx, &mut deliveries)
            };
            match self.completion.outcome(Some(self.share.flight.name()), poll_load).await {
                ControlFlow::Continue(outcome) => return (outcome, deliveries),
                ControlFlow::Break(Pause) => {
                    std::mem::take(&mut deliveries).settle().await;
                    yield_now().await;
                }
            }
        }
    }

    /// Leaves many flights at once; those that nobody else polls to the spawner, as one task.
    pub(super) fn hand_over(store: &Store<K, V>, shares: impl Iterator<Item = Self>) {
        store.spawn(shares.filter_map(|mut joined| joined.leave()).collect());
    }

    /// Leaves the flight; returns it if a spawner is to see to it.
    fn leave(&mut self) -> Option<LeftFlight<V>> {
        let has_left = std::mem::replace(&mut self.has_left, true);
        if has_left || !self.completion.needs_callers() {
            return None;
        }
        let Share { store, flight, kind, is_late } = self.share;
        if !store.has_spawner() {
            // The load of a batch panics in its call, and not in what polls the parts of it.
            let due = if kind.is_refresh() { store.due_after_drop() } else { Freshness::Due(0) };
            store.leave(flight, kind, due);
            return None;
        }
        flight.leave_unless_last().then(|| {
            let (shard, id, name) = (flight.shard().number(), flight.id(), flight.name());
            let completion = Arc::clone(&self.completion);
            LeftFlight { shard, id, name, kind, completion, is_late }
        })
    }
}

/// What a share in a flight is in, but for where it ends.
pub(super) struct Share<'a, K, V> {
    pub(super) store: &'a Store<K, V>,
    pub(super) flight: FlightRef<'a, K, V>,
    pub(super) kind: Kind,
    /// Whether it came when the load of several keys had ended of which its load is a part: what that has
    /// brought is for others.
    pub(super) is_late: bool,
}

impl<K, V> Clone for Share<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Share<'_, K, V> {}

impl<K, V> Share<'_, K, V> {
    /// Moves the load on as far as it gets; adds what is left to do for the listener to `deliveries`, which
    /// a `Drop` that panics here would otherwise leak.
    pub(super) fn poll_load(
        self,
        guard: LoadGuard<'_, V>,
        load: LoadProgress<V>,
        cx: &Context<'_>,
        deliveries: &mut Deliveries<K, V>,
    ) -> ControlFlow<Pause>
    where
        K: Eq,
        V: Clone,
    {
        // Lets the others go on if the load panics, which itself counts that as a failure.
        let mut leader = Leader::new(self.store, self.flight, self.kind);
        let polled = {
            let waker = guard.waker();
            let _scope = PollScope::enter_with(self.flight.name(), &waker, cx);
            load.poll(&mut Context::from_waker(&waker))
        };
        let end = match polled {
            Ok(end) => end,
            Err(load) => {
                leader.stage = Stage::Ended;
                guard.give_back(load);
                return ControlFlow::Continue(());
            }
        };
        let (value, publishing, delivered) = match end {
            LoadEnd::Value(loaded, mut running) if self.is_late => {
                running.succeed();
                leader.end(|| Outcome::Value(loaded.value));
                return ControlFlow::Continue(());
            }
            LoadEnd::Value(Loaded { value, own }, running) => {
                let mut publishing = Publishing::new(leader, running);
                let delivered = publishing.deliver(&value, own);
                (value, publishing, delivered)
            }
            LoadEnd::Begun(value, Begun { running, appraised, turns }) => {
                let mut publishing = Publishing::new(leader, running);
                let delivered = publishing.leader.deliver_more(&value, appraised, turns);
                (value, publishing, delivered)
            }
            LoadEnd::Failure(failure) => {
                drop(leader.fail(|| Some(failure)));
                deliveries.append(leader.backlog());
                return ControlFlow::Continue(());
            }
            LoadEnd::Nothing => {
                drop(leader.fail(|| None));
                return ControlFlow::Continue(());
            }
        };
        deliveries.append(delivered.deliveries);
        let Some(unfinished) = delivered.unfinished else { return ControlFlow::Continue(()) };
        // Whoever is polled next goes on with it, for this caller may not be.
        guard.hand_on(LoadEnd::Begun(value, publishing.leave(*unfinished)));
        ControlFlow::Break(Pause)
    }
}

/// Other tasks are to have the thread.
pub(super) struct Pause;

/// The publication of something that a load has brought, which has failed if it comes to nothing.
pub(super) struct Publishing<'a, K, V> {
    leader: Leader<'a, K, V>,
    running: Running,
}

impl<'a, K: Eq, V: Clone> Publishing<'a, K, V> {
    pub(super) fn new(leader: Leader<'a, K, V>, running: Running) -> Self {
        Self { leader, running }
    }

    /// Publishes the value; what is left to do then, and to wait for.
    pub(super) fn publish(
        mut self,
        value: &V,
        own: Option<Lifetime>,
    ) -> Option<Pin<Box<impl Future<Output = ()>>>> {
        let delivered = self.deliver(value, own);
        (!delivered.is_done()).then(|| delivered.settle(self))
    }

    #[inline(never)]
    fn deliver(&mut self, value: &V, own: Option<Lifetime>) -> Delivered<'a, K, V> {
        self.leader.deliver(value, own)
    }

    /// Leaves what is left to do to whoever polls the flight next.
    fn leave(mut self, unfinished: Unfinished<'a, K, V>) -> Begun {
        self.leader.stage = Stage::Ended;
        let running = Running::of(self.running.attempt());
        let (appraised, turns) = unfinished.into_parts();
        Begun { running, appraised, turns }
    }
}

impl<'a, K, V> AsMut<Leader<'a, K, V>> for Publishing<'a, K, V> {
    fn as_mut(&mut self) -> &mut Leader<'a, K, V> {
        &mut self.leader
    }
}

impl<K, V> Drop for Publishing<'_, K, V> {
    fn drop(&mut self) {
        if self.leader.stage == Stage::Ended {
            self.running.succeed();
        }
    }
}
impl<K, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        if let Some(left) = self.leave() {
            self.share.store.spawn(vec![left]);
        }
    }
}
