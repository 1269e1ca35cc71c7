//! The loads that go on without a caller, as an executor runs them.

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::Context;

use futures_lite::FutureExt;
use futures_lite::future::yield_now;

use super::join::{Pause, Share};
use crate::flight::LoadGuard;
use crate::shard::removals::Deliveries;
use crate::store::spawner::LeftFlight;

/// A load that goes on without a caller: what a [`spawner`](crate::Builder::spawner) is given to run.
///
/// It ends as the load does, and at the latest when that wakes after the cache has been dropped, which it
/// does not keep. A panic of the load ends it, of which the panic hook tells.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a task of flights that nobody else polls.
pub(crate) fn task<K, V>(flights: Vec<LeftFlight<K, V>>) -> Task
where
    K: Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Box::pin(async {
        for flight in flights {
            // The executor is not to suffer from it.
            let end = AssertUnwindSafe(drive(flight)).catch_unwind().await;
            end.err().into_iter().for_each(std::mem::forget);
        }
    })
}

/// Moves the load of a flight on to its end.
async fn drive<K: Eq, V: Clone>(left: LeftFlight<K, V>) {
    /// Why it stops.
    enum Stop {
        Pause(Pause),
        CacheIsGone,
    }
    loop {
        let mut deliveries = Deliveries::default();
        let poll_load = |guard: LoadGuard<'_, V>, load, cx: &Context<'_>| {
            let Some(store) = left.store.upgrade() else {
                return ControlFlow::Break(Stop::CacheIsGone);
            };
            let (flight, kind, is_late) = (left.flight(&store), left.kind, left.is_late);
            let share = Share { store: &store, flight, kind, is_late };
            share.poll_load(guard, load, cx, &mut deliveries).map_break(Stop::Pause)
        };
        let end = left.completion.outcome(Some(left.name), poll_load).await;
        deliveries.settle().await;
        match end {
            ControlFlow::Break(Stop::Pause(Pause)) => yield_now().await,
            ControlFlow::Break(Stop::CacheIsGone) | ControlFlow::Continue(_) => return,
        }
    }
}
