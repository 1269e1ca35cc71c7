//! Freeing what has expired without anybody's call.

use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_lite::FutureExt;
use futures_lite::future::yield_now;

use super::AsyncLru;
use crate::shard::removals::Deliveries;
use crate::store::Store;
use crate::store::purge::Purge;
use crate::store::steps::{Step, Steps};
use crate::sync::notify::Notify;

/// The longest sleep, as some timers know no longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

impl<K, V, S> AsyncLru<K, V, S> {
    /// Returns a future that frees entries soon after they have expired, for a task of its own on any
    /// executor; `sleep` makes that executor's sleep.
    ///
    /// Without it they are freed by writes, each of which frees a few, and by
    /// [`purge_expired`](Self::purge_expired); nobody is ever given one. The janitor sleeps until the
    /// next entry expires, and wakes up when one comes that expires sooner. A shard that it leaves less
    /// than a quarter full gives its memory back. It does not keep the cache alive, and ends when the
    /// last handle is gone. One is enough for a cache.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future at any await leaves the cache valid.
    ///
    /// # Panics
    ///
    /// If `sleep` or the cache's clock panics. A panic of what is freed, or of the listener, reaches the
    /// panic hook, and the janitor goes on.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::AsyncLru;
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let cache = AsyncLru::<u32, u32>::builder().ttl(Duration::from_millis(5)).build();
    /// let janitor = tokio::spawn(cache.janitor(tokio::time::sleep));
    ///
    /// cache.insert(1, 10).await;
    /// while !cache.is_empty() {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    /// }
    /// drop(cache);
    /// janitor.await.unwrap();
    /// # });
    /// ```
    pub fn janitor<Sleep, Fut>(
        &self,
        sleep: Sleep,
    ) -> impl Future<Output = ()> + use<K, V, S, Sleep, Fut>
    where
        Sleep: FnMut(Duration) -> Fut,
        Fut: Future,
    {
        let alarm = self.store().alarm();
        clean(Arc::downgrade(&self.store), alarm, sleep)
    }
}

#[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
fn clean<K, V, Sleep, Fut>(
    store: Weak<Store<K, V>>,
    alarm: Arc<Notify>,
    mut sleep: Sleep,
) -> impl Future<Output = ()>
where
    Sleep: FnMut(Duration) -> Fut,
    Fut: Future,
{
    async move {
        loop {
            let Some(mut purge) = store.upgrade().map(|store| Purge::new(&store)) else {
                return;
            };
            // The cache may go while others have their turn.
            while let Some(store) = store.upgrade() {
                let mut deliveries = Deliveries::default();
                // A `Drop` or a listener that panics reaches the panic hook, and nobody else waits for
                // its answer. What there was to free is freed, and the next entries are freed as if
                // nothing had happened.
                let step = AssertUnwindSafe(|| purge.step(&store, &mut deliveries));
                let step = panic::catch_unwind(step);
                drop(store);
                let _ = AssertUnwindSafe(deliveries.settle()).catch_unwind().await;
                if let Ok(Step::Done) = step {
                    break;
                }
                yield_now().await;
            }
            let mut notified = alarm.listen();
            let Some(idle) = store.upgrade().map(|store| store.time_to_expiry()) else {
                return;
            };
            let Some(idle) = idle else {
                notified.await;
                continue;
            };
            let mut sleep = pin!(sleep(idle.min(LONGEST)));
            poll_fn(|cx| match Pin::new(&mut notified).poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => sleep.as_mut().poll(cx).map(drop),
            })
            .await;
        }
    }
}
