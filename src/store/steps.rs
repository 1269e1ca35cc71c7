//! Runs what goes over many entries step by step, so that others get the shards and the thread in between.

use futures_lite::future::yield_now;

use super::Store;
use crate::shard::removals::Deliveries;
use crate::sync::yield_now as yield_thread;

/// Work in steps, each of which is over in a short time.
pub(crate) trait Steps<K, V> {
    /// Takes one step, and adds what is left to do for the listener to `deliveries`.
    fn step(&mut self, store: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step;
}

/// How work goes on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Again,
    /// As `Again`, and not before others have moved on.
    Blocked,
    Done,
}

/// Does the work, and lets other tasks have the thread after each step.
pub(crate) async fn run<K, V>(store: &Store<K, V>, work: &mut impl Steps<K, V>) {
    loop {
        let mut deliveries = Deliveries::default();
        let step = work.step(store, &mut deliveries);
        deliveries.settle().await;
        match step {
            Step::Again | Step::Blocked => yield_now().await,
            Step::Done => return,
        }
    }
}

/// Does the work, blocking the thread.
pub(crate) fn run_blocking<K, V>(store: &Store<K, V>, work: &mut impl Steps<K, V>) {
    loop {
        let mut deliveries = Deliveries::default();
        let step = work.step(store, &mut deliveries);
        deliveries.settle_blocking();
        match step {
            Step::Again => {}
            Step::Blocked => yield_thread(),
            Step::Done => return,
        }
    }
}
