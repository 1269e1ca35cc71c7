//! The loads that go on without a caller, as an executor runs them.

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Weak;
use std::task::Context;

use futures_lite::FutureExt;
use futures_lite::future::yield_now;

use super::join::{Pause, Share};
use crate::entries::freshness::Freshness;
use crate::flight::LoadGuard;
use crate::shard::lead_or_join::{FlightRef, LeftFlight};
use crate::shard::removals::Deliveries;
use crate::store::Store;

/// Runs a load that goes on without a caller: what a [`spawner`](crate::Builder::spawner) is given.
///
/// It ends as the load does, and at the latest when that wakes after the cache has been dropped, which it
/// does not keep. A panic of the load ends it, of which the panic hook tells.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a task of flights that nobody else polls.
pub(crate) fn task<K, V>(store: &Weak<Store<K, V>>, flights: Vec<LeftFlight<V>>) -> Task
where
    K: Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let driver = |left| Driver { store: Weak::clone(store), left };
    let drivers: Vec<_> = flights.into_iter().map(driver).collect();
    Box::pin(async {
        for driver in drivers {
            // The executor is not to suffer from it.
            let end = AssertUnwindSafe(driver.drive()).catch_unwind().await;
            end.err().into_iter().for_each(std::mem::forget);
        }
    })
}

/// The duty to move the load of a flight on. If it is dropped early, the flight ends.
struct Driver<K, V> {
    store: Weak<Store<K, V>>,
    left: LeftFlight<V>,
}

/// Why it stops.
enum Stop {
    Pause(Pause),
    CacheIsGone,
}

impl<K: Eq, V: Clone> Driver<K, V> {
    /// Moves the load on to its end.
    async fn drive(self) {
        loop {
            let mut deliveries = Deliveries::default();
            let poll_load = |guard: LoadGuard<'_, V>, load, cx: &Context<'_>| {
                let Some(store) = self.store.upgrade() else {
                    return ControlFlow::Break(Stop::CacheIsGone);
                };
                let LeftFlight { kind, is_late, .. } = self.left;
                let share = Share { store: &store, flight: self.flight(&store), kind, is_late };
                share.poll_load(guard, load, cx, &mut deliveries).map_break(Stop::Pause)
            };
            let LeftFlight { name, completion, .. } = &self.left;
            let end = completion.outcome(Some(*name), poll_load).await;
            deliveries.settle().await;
            match end {
                ControlFlow::Break(Stop::Pause(Pause)) => yield_now().await,
                ControlFlow::Break(Stop::CacheIsGone) | ControlFlow::Continue(_) => return,
            }
        }
    }
}

impl<K, V> Driver<K, V> {
    fn flight<'a>(&self, store: &'a Store<K, V>) -> FlightRef<'a, K, V> {
        FlightRef::new(&store.shards()[self.left.shard], self.left.id)
    }
}

impl<K, V> Drop for Driver<K, V> {
    fn drop(&mut self) {
        if self.left.completion.needs_callers() {
            if let Some(store) = self.store.upgrade() {
                let flight = self.flight(&store);
                store.leave(flight, self.left.kind, Freshness::Due(0));
            }
        }
    }
}
