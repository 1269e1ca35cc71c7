//! Sleeps of whatever executor there is.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_lite::FutureExt;

use crate::store::{BoxFuture, ErrorKind, StoreError};

/// The longest sleep, as some timers know no longer ones.
const LONGEST: Duration = Duration::from_secs(3600);

/// Makes the sleeps of the user's executor.
pub(crate) struct Timer(Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>);

impl Timer {
    pub(crate) fn new<Fut>(sleep: impl Fn(Duration) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future + Send + 'static,
    {
        Self(Box::new(move |time| {
            let sleep = sleep(time);
            Box::pin(async {
                sleep.await;
            })
        }))
    }

    /// Waits for `time`, or less if that is more than an hour.
    pub(crate) fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        (self.0)(time.min(LONGEST))
    }

    /// Waits for `call`, but no longer than `limit`.
    pub(crate) async fn bounded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let too_late = async {
            self.sleep(limit).await;
            Err(StoreError::new(ErrorKind::TimedOut, format!("no answer in {limit:?}")))
        };
        call.or(too_late).await
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}
