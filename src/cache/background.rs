//! A spawner for executors that have no function to spawn with.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use crate::load::joins::Joins;
use crate::load::task::Task;
use crate::sync::notify::Notify;
use crate::sync::{Mutex, MutexGuard};

/// Makes a [`spawner`](crate::Builder::spawner) and the future that runs what it is given, `limit` tasks at
/// once and the others when there is room again; a limit of 0 counts as 1.
///
/// The future is for a task on any executor. It ends when the last clone of the spawner is dropped, which a
/// cache that it was given to has, and all has been run. If it is dropped before, what it has not run is
/// dropped with it, and so is what the spawner is given later: loads then go on only with their callers, and a
/// refresh is dropped as it begins.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, ManualClock};
/// use futures_lite::future::{block_on, zip};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let (spawner, background) = async_lru::background(8);
/// let double = AsyncLru::<u32, u32>::builder()
///     .fresh_for(Duration::from_secs(60))
///     .clock(clock.clone())
///     .spawner(spawner)
///     .wrap(|number| async move { 2 * number });
/// let stats = block_on(zip(background, async move {
///     assert_eq!(double.call(4).await, 8);
///     clock.advance(Duration::from_secs(60));
///     assert_eq!(double.call(4).await, 8);
///     while double.stats().loads < 2 {
///         futures_lite::future::yield_now().await;
///     }
///     double.stats()
/// }));
/// assert_eq!(stats.1.refreshes, 1);
/// ```
pub fn background(
    limit: usize,
) -> (impl Fn(Task) + Clone + Send + Sync + 'static, impl Future<Output = ()> + Send + 'static) {
    let queue = Arc::<Queue>::default();
    let end = Arc::new(SpawnerEnd(Arc::clone(&queue)));
    let spawner = move |task| end.0.add(task);
    (spawner, run(RunnerEnd(queue), limit.max(1)))
}

async fn run(end: RunnerEnd, limit: usize) {
    let RunnerEnd(queue) = &end;
    let mut running = Joins::new([]);
    let mut notified = queue.notify.listen();
    poll_fn(|cx| {
        // Listens before it looks, so that nothing comes unheard of between the two.
        while Pin::new(&mut notified).poll(cx).is_ready() {
            notified = queue.notify.listen();
        }
        loop {
            let is_over = queue.take(limit - running.len(), |task| running.add(0, task));
            let before = running.len();
            let is_idle = running.poll(cx, |_, ()| {}).is_ready();
            if is_idle && is_over {
                return Poll::Ready(());
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// What waits to be run.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// No more will come.
    is_closed: bool,
    /// Nobody runs any.
    is_abandoned: bool,
}

impl Queue {
    /// Tasks are dropped while this is not locked: they are the user's code.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, task: Task) {
        {
            let mut state = self.state();
            if state.is_abandoned {
                drop(state);
                return drop(task);
            }
            state.tasks.push_back(task);
        }
        self.notify.notify_all();
    }

    /// Takes as many tasks as there is `room` for; tells whether there are no more and none will come.
    fn take(&self, room: usize, mut start: impl FnMut(Task)) -> bool {
        let (tasks, is_over) = {
            let mut state = self.state();
            let now = state.tasks.len().min(room);
            let tasks: Vec<Task> = state.tasks.drain(..now).collect();
            (tasks, state.is_closed && state.tasks.is_empty())
        };
        tasks.into_iter().for_each(&mut start);
        is_over
    }
}

/// Tells the queue of the end of its spawner.
struct SpawnerEnd(Arc<Queue>);

impl Drop for SpawnerEnd {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.notify.notify_all();
    }
}

/// Tells the queue of the end of who runs its tasks.
struct RunnerEnd(Arc<Queue>);

impl Drop for RunnerEnd {
    fn drop(&mut self) {
        let _tasks = {
            let mut state = self.0.state();
            state.is_abandoned = true;
            std::mem::take(&mut state.tasks)
        };
    }
}
