//! Freeing what has expired without anybody's call.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_lite::future::{or, yield_now};

use super::{AsyncLru, Inner};
use crate::bell::Bell;
use crate::shard::Purged;

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
    /// If `sleep` panics.
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
        let bell = Arc::clone(self.store().bell());
        clean(Arc::downgrade(&self.inner), bell, sleep)
    }
}

async fn clean<K, V, S, Sleep, Fut>(cache: Weak<Inner<K, V, S>>, bell: Arc<Bell>, mut sleep: Sleep)
where
    Sleep: FnMut(Duration) -> Fut,
    Fut: Future,
{
    loop {
        let mut shard = 0;
        // The cache may go while others have their turn.
        let purge = |shard| {
            let cache = cache.upgrade()?;
            cache.store.purge(shard, cache.store.lifetimes().now()?)
        };
        while let Some((purged, _)) = purge(shard) {
            match purged {
                Purged::All => shard += 1,
                Purged::Some => yield_now().await,
            }
        }
        let ear = bell.ear();
        let Some(idle) = cache.upgrade().map(|cache| cache.store.time_to_expiry()) else { return };
        match idle {
            Some(idle) => {
                let sleep = sleep(idle.min(LONGEST));
                or(ear, async { drop(sleep.await) }).await;
            }
            None => ear.await,
        }
    }
}
