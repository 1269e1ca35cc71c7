//! What the tests share: the executors to run on, and futures that are moved by hand.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part")]

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_lru::{AsyncLru, Equivalent};

/// Declares tests each of which runs on every executor: `executors! { async fn name() { .. } .. }`.
///
/// Each becomes a module `name` with one test per executor.
#[macro_export]
macro_rules! executors {
    ($($(#[$doc:meta])* async fn $name:ident() $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$doc])*
            async fn run() $body

            #[test]
            fn tokio_multi_thread() {
                $crate::common::tokio_multi_thread(Box::pin(run()));
            }

            #[test]
            fn tokio_current_thread() {
                $crate::common::tokio_current_thread(Box::pin(run()));
            }

            #[test]
            fn smol() {
                $crate::common::smol(Box::pin(run()));
            }

            #[test]
            fn async_std() {
                $crate::common::async_std(Box::pin(run()));
            }

            #[test]
            fn bare() {
                futures_lite::future::block_on(run());
            }
        }
    )*};
}

/// Calls that the tests make often, without what they are told besides the value.
pub trait Calls<K, V, S> {
    /// A call whose load lives in the cache.
    fn get_detached<F, Fut>(&self, key: K, load: F) -> impl Future<Output = V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
        V: 'static;

    /// The same, for a load that can fail.
    fn try_get_detached<E, F, Fut>(
        &self,
        key: K,
        load: F,
    ) -> impl Future<Output = Result<V, Arc<E>>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: 'static;

    /// A call whose error is its own.
    fn get_or_insert_own<E, F, Fut>(&self, key: K, load: F) -> impl Future<Output = Result<V, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>;

    /// The same, with a borrowed key.
    fn get_or_insert_own_ref<Q, E, F, Fut>(
        &self,
        key: &Q,
        load: F,
    ) -> impl Future<Output = Result<V, E>>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>;
}

impl<K: Hash + Eq, V: Clone, S: BuildHasher> Calls<K, V, S> for AsyncLru<K, V, S> {
    async fn get_detached<F, Fut>(&self, key: K, load: F) -> V
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
        V: 'static,
    {
        self.entry(key).detached().or_insert_with(load).await.value
    }

    async fn try_get_detached<E, F, Fut>(&self, key: K, load: F) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        V: 'static,
    {
        Ok(self.entry(key).detached().or_try_insert_with(load).await?.value)
    }

    async fn get_or_insert_own<E, F, Fut>(&self, key: K, load: F) -> Result<V, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        Ok(self.entry(key).or_try_insert_own(load).await?.value)
    }

    async fn get_or_insert_own_ref<Q, E, F, Fut>(&self, key: &Q, load: F) -> Result<V, E>
    where
        Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        Ok(self.entry_ref(key).or_try_insert_own(load).await?.value)
    }
}

/// A test as executors take it: of one type, so that they are compiled once and not for each test.
pub type TestTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a test on a worker of a tokio runtime with two of them.
pub fn tokio_multi_thread(test: TestTask) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(runtime.spawn(test)).unwrap();
}

/// Runs a test as a task of a tokio runtime without threads.
pub fn tokio_current_thread(test: TestTask) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(runtime.spawn(test)).unwrap();
}

/// Runs a test as a task of smol's global executor.
pub fn smol(test: TestTask) {
    smol::block_on(smol::spawn(test));
}

/// Runs a test as a task of async-std.
pub fn async_std(test: TestTask) {
    async_std::task::block_on(async_std::task::spawn(test));
}

/// Awaits all futures, polling each in turn, and returns their outputs in order.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut outputs: Vec<_> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if let Some(pending) = future {
                if let Poll::Ready(ready) = pending.as_mut().poll(cx) {
                    *output = Some(ready);
                    *future = None;
                }
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// A future in a box, to be polled by hand.
pub type Hand<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Boxes a future to be polled by hand.
pub fn hand<'a, T>(future: impl Future<Output = T> + 'a) -> Hand<'a, T> {
    Box::pin(future)
}

/// Polls once with a waker that does nothing.
pub fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future that never has to wait.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the call had to wait"),
    }
}

/// A gate that loaders wait at until the test opens it. A clone is another handle to it.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<GateState>>);

#[derive(Default)]
struct GateState {
    is_open: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        let waiting = {
            let mut state = self.0.lock().unwrap();
            state.is_open = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.is_open {
                return Poll::Ready(());
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
