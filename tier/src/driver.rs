//! The task that holds the link: connects, hears what other instances do, and does what calls put off.

use std::mem;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::FutureExt;
use futures_lite::future::{poll_once, yield_now};

use crate::core::{Core, CutOff};
use crate::key::Key;
use crate::link::Due;
use crate::store::{Connected, ErrorKind, Event, Events, Lease, Session, StoreError};
use crate::trace;

/// The first pause after a failed connection; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// The least time that a connection may take: it has several round trips.
const CONNECT: Duration = Duration::from_secs(1);
/// So many removals go into one message.
const AT_ONCE: usize = 1000;
/// So many events are taken up before the rest of the driver has its turn.
const EVENTS_AT_ONCE: usize = 64;

/// Holds the link until the last handle is gone.
pub(crate) async fn drive<V: Send + Sync + 'static>(core: Arc<Core<V>>) {
    // A second driver waits for the end of the first.
    let Some(_turn) = or_closed(&core, core.driving.lock()).await else { return };
    keep_linked(&core).await;
    let pending = core.link.pending_removals();
    if pending > 0 {
        trace::removals_left(&core.space, pending);
    }
}

/// Connects whenever there is no link.
async fn keep_linked<V: Send + Sync + 'static>(core: &Core<V>) {
    let mut pause = FIRST_PAUSE;
    // Whether the last try to connect failed.
    let mut has_failed = false;
    while !core.link.is_closed() {
        let limit = core.times.operation.max(CONNECT);
        let connect = core.timer.bounded(limit, core.store.connect(&core.space, core.instance));
        let linked = async {
            let connected = connect.await.inspect_err(|error| {
                core.connect_failed(error, has_failed);
                has_failed = true;
            })?;
            catch_up(core, &connected.session).await?;
            Ok::<_, StoreError>(connected)
        };
        match or_closed(core, linked).await {
            None => return,
            Some(Ok(connected)) => {
                has_failed = false;
                let since = core.local.now();
                // A panic, such as of the listener of the local cache, is a lost link: nobody waits for this
                // task, and without it the store would not be used again. The panic hook has told of it.
                let served = AssertUnwindSafe(serve(core, connected)).catch_unwind();
                if let Err(payload) = served.await {
                    // Its own `Drop` may panic.
                    mem::forget(payload);
                }
                // A store that lets one in and fails at once is no better than one that does not.
                if core.since(since) >= core.times.heartbeat {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            // It is counted where it happened.
            Some(Err(_)) => {}
        }
        // At random, so that the instances do not come back all at once.
        let length = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        or_closed(core, core.timer.sleep(length)).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Waits for `future`, but no longer than there are handles.
async fn or_closed<V, T>(core: &Core<V>, future: impl Future<Output = T>) -> Option<T> {
    let closed = async {
        loop {
            let heard = core.link.listen();
            if core.link.is_closed() {
                return None;
            }
            heard.await;
        }
    };
    async { Some(future.await) }.or(closed).await
}

/// Does the removals that were put off, and drops what may be true no longer, before anybody uses the
/// session.
async fn catch_up<V: Send + Sync>(
    core: &Core<V>,
    session: &Arc<dyn Session>,
) -> Result<(), StoreError> {
    while let Some(due) = core.link.removals(AT_ONCE) {
        remove(core, session, due).await?;
    }
    Ok(())
}

/// Removes what is due.
async fn remove<V>(core: &Core<V>, session: &Arc<dyn Session>, due: Due) -> Result<(), StoreError> {
    match &due {
        Due::All(_) => core.ask(session, session.remove_all()).await?,
        Due::Keys(keys, _) => {
            core.ask(session, session.remove(keys, None)).await?;
            core.counters.removals.add(keys.len());
        }
    }
    core.link.removed(&due);
    Ok(())
}

/// Gives a lease back. It is tried again on the next link if this one is lost; what the server refuses ends
/// by itself.
async fn release<V>(
    core: &Core<V>,
    session: &Arc<dyn Session>,
    lease: Lease,
    keys: &[Key],
) -> Result<(), StoreError> {
    let result = core.ask(session, session.release(lease, keys)).await;
    if !matches!(&result, Err(error) if error.kind() == ErrorKind::Lost) {
        core.link.released();
    }
    result
}

/// Has calls use the session until it is lost.
async fn serve<V: Send + Sync>(core: &Core<V>, connected: Connected) {
    let Connected { session, events } = connected;
    doubt_all(core).await;
    let open = Open::new(core, &session);
    hear(core, events).or(tend(core, &session)).await;
    open.close().await;
}

/// Drops what the local cache has, or serves it but shortly; and keeps out what is being loaded.
async fn doubt_all<V>(core: &Core<V>) {
    match core.cut_off {
        CutOff::Clear => core.local.invalidate_all().await,
        CutOff::Keep => {
            core.local.limit_ttl(core.times.alone).await;
        }
    }
}

/// Calls use the session as long as it lives.
struct Open<'a, V> {
    core: &'a Core<V>,
    is_closed: bool,
}

impl<'a, V> Open<'a, V> {
    fn new(core: &'a Core<V>, session: &Arc<dyn Session>) -> Self {
        core.link.open(Arc::clone(session));
        core.counters.links.add(1);
        trace::linked(&core.space);
        Self { core, is_closed: false }
    }

    /// Ends the use.
    async fn close(mut self) {
        self.shut();
        doubt_all(self.core).await;
        self.is_closed = true;
    }

    fn shut(&self) {
        let core = self.core;
        if core.link.shut() {
            if core.link.is_closed() {
                trace::link_closed(&core.space);
            } else {
                core.counters.links_lost.add(1);
                trace::link_lost(&core.space);
            }
            // Those who wait for another's load would hear nothing of it.
            core.waits.all_ready();
        }
    }
}

/// The driver is dropped, and nobody hears of removals from now on.
impl<V> Drop for Open<'_, V> {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        self.shut();
        match self.core.cut_off {
            CutOff::Clear => self.core.local.invalidate_all_blocking(),
            CutOff::Keep => {
                self.core.local.limit_ttl_blocking(self.core.times.alone);
            }
        }
    }
}

/// Does what other instances say, until the link is lost.
async fn hear<V>(core: &Core<V>, mut events: Box<dyn Events>) {
    let mut taken = 0;
    while let Some(event) = events.next().await {
        match event {
            Event::Gone(keys) => {
                core.counters.removals_heard.add(keys.len());
                for key in &keys {
                    invalidate(core, key).await;
                    // Who waits for its load gets none.
                    core.waits.ready(key);
                }
            }
            Event::AllGone => {
                core.local.invalidate_all().await;
                core.waits.all_ready();
            }
            Event::Ready(keys) => keys.iter().for_each(|key| core.waits.ready(key)),
        }
        taken += 1;
        if taken % EVENTS_AT_ONCE == 0 {
            yield_now().await;
        }
    }
}

/// Removes the local entry of `key` without waiting for a listener, which would keep the next messages
/// waiting.
async fn invalidate<V>(core: &Core<V>, key: &Key) {
    // It is removed at the first poll.
    poll_once(core.local.invalidate(key)).await;
}

/// Does what calls put off, and looks now and then whether the store still answers, until it does not.
async fn tend<V>(core: &Core<V>, session: &Arc<dyn Session>) {
    let mut next_beat = core.local.now() + core.times.heartbeat;
    loop {
        let heard = core.link.listen();
        let Ok(work) = core.link.work(AT_ONCE) else {
            return;
        };
        let mut has_more = false;
        if let Some(due) = work.removals {
            // What the server refuses is tried again with the next heartbeat.
            has_more = remove(core, session, due).await.is_ok();
        }
        if let Some((lease, keys)) = work.release {
            has_more |= release(core, session, lease, &keys).await.is_ok();
        }
        if work.probe || core.local.now() >= next_beat {
            if let Err(error) = core.timer.bounded(core.times.operation, session.ping()).await {
                core.store_failed(&error);
                return;
            }
            core.link.trust();
            next_beat = core.local.now() + core.times.heartbeat;
        }
        if !has_more {
            // Only now, as nobody else does what the last handle has left.
            if core.link.is_closed() {
                return;
            }
            let time_is_up = core.timer.sleep(next_beat.saturating_sub(core.local.now()));
            heard.or(time_is_up).await;
        }
    }
}
