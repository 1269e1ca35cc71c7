//! Delivers the entries that have left a shard to the listener.
//!
//! An entry goes into its shard's [`RemovalQueue`] under the lock under which it leaves, so that the
//! order in the queue is the order of leaving. Whoever put it in owes a [`DeliveryGuard`], which sees to it
//! that it comes out after all locks are released and everything else is done. One caller at a time
//! delivers, so the order holds, and a listener is never called within itself for one shard.
//!
//! A caller that finds another one delivering leaves its entries to that one, as long as the queue is
//! short and the other has not delivered for many already. Otherwise it waits until its own are out, and
//! delivers them itself if nobody else does. So neither does the queue outgrow a listener that is slower
//! than the writers, nor does one caller deliver for all others. Nobody waits for a turn that somebody
//! else has been given: whoever is polled first delivers for those in front of it too.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, PoisonError};
use std::thread;

use futures_lite::future::yield_now;

use crate::entries::emptied::{Emptied, Next};
use crate::entries::{Entries, Entry};
use crate::removal::{Listener, RemovalCause};
use crate::sync::notify::Notify;
use crate::sync::{Condvar, Mutex, MutexGuard, thread_local};

/// How many entries may wait in a queue before those who add to it wait for it to get shorter.
const SHORT: usize = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 1 } else { 128 };

/// How many entries a caller delivers before it takes none over from others any more, and if it has more
/// of its own, lets other tasks have the thread.
const TURN: usize = if cfg!(any(async_lru_shuttle, async_lru_loom)) { 1 } else { 64 };

thread_local! {
    /// How many calls of listeners this thread is in.
    static LISTENING: Cell<usize> = const { Cell::new(0) };
}

/// Marks the thread as one that is in a call of a listener, for as long as the mark lives.
struct Listening;

impl Listening {
    fn enter() -> Self {
        LISTENING.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.with(|depth| depth.set(depth.get() - 1));
    }
}

/// The entries that have left one shard and were not delivered yet.
pub(crate) struct RemovalQueue<K, V> {
    listener: Listener<K, V>,
    /// Locked within the shard's lock or without it. Nothing else is locked meanwhile, none of the
    /// user's code runs, and nothing of the user's is dropped.
    queue: Mutex<Queue<K, V>>,
    /// Wakes threads that wait for the end of a delivery.
    ended: Condvar,
    /// Wakes tasks that do.
    tasks: Notify,
}

struct Queue<K, V> {
    removals: VecDeque<Removal<K, V>>,
    /// The number of the removal in front; those behind it have the next ones.
    first: u64,
    /// Entries in all removals.
    entries: usize,
    /// Where the removals end whose owners have left them to whoever delivers, who does not stop before.
    owed: u64,
    /// How many entries the one who delivers has delivered; `None` if nobody does.
    delivered: Option<usize>,
    /// Threads that wait for the end of a delivery.
    blocked: usize,
}

/// One departure.
enum Removal<K, V> {
    Entry(Entry<K, V>, RemovalCause),
    /// All entries of a shard that was emptied.
    Everything(Box<Emptied<K, V>>),
    /// The place of what somebody withholds, and all that come after it.
    Pending,
}

type Departure<K, V> = (Entry<K, V>, RemovalCause);

impl<K, V> Queue<K, V> {
    /// Past the number of the last removal.
    fn end(&self) -> u64 {
        self.first + self.removals.len() as u64
    }

    fn push(&mut self, removal: Removal<K, V>, entries: usize) -> u64 {
        self.removals.push_back(removal);
        self.entries += entries;
        self.end()
    }

    /// Tells whether somebody delivers, or will once it puts back what it withholds in front.
    fn is_taken(&self) -> bool {
        self.delivered.is_some() || matches!(self.removals.front(), Some(Removal::Pending))
    }

    /// Tells whether the one who delivers takes over what others have put in.
    fn has_time(&self) -> bool {
        self.entries <= SHORT && self.delivered.is_none_or(|delivered| delivered < TURN)
    }
}

/// The choice of a caller who would have to wait for a delivery of somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnContention {
    /// Leaves its removals to the other one, whatever that has before it.
    Leave,
    /// Comes back later.
    Poll,
    /// Blocks the thread.
    Block,
}

impl OnContention {
    /// The same, except within a listener, which would wait for itself.
    fn unless_listening(self) -> Self {
        if LISTENING.with(Cell::get) > 0 { Self::Leave } else { self }
    }
}

/// The outcome of an attempt to have removals delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// They are, or somebody else sees to it.
    Done,
    /// There are more.
    Unfinished,
    /// Somebody else delivers, and does not see to them.
    Busy,
}

impl<K, V> RemovalQueue<K, V> {
    /// A queue that was longer than this in a burst gives its memory back when it is empty.
    const KEPT_CAPACITY: usize = 64;

    pub(crate) fn new(listener: Listener<K, V>) -> Self {
        let queue = Queue {
            removals: VecDeque::new(),
            first: 0,
            entries: 0,
            owed: 0,
            delivered: None,
            blocked: 0,
        };
        Self { listener, queue: Mutex::new(queue), ended: Condvar::new(), tasks: Notify::default() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K, V>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry in, for which the caller owes a [`DeliveryGuard`] up to the number that this returns.
    pub(crate) fn post(&self, entry: Entry<K, V>, cause: RemovalCause) -> u64 {
        self.queue().push(Removal::Entry(entry, cause), 1)
    }

    /// Puts in all entries of a shard that was emptied, for which the caller owes a [`DeliveryGuard`] too.
    pub(crate) fn post_all(&self, entries: Entries<K, V>) -> u64 {
        let len = entries.len();
        let removal = Removal::Everything(Box::new(Emptied::by_use(entries)));
        self.queue().push(removal, len)
    }

    /// Keeps a place for an entry whose value the caller may ask for first.
    pub(crate) fn withhold(
        self: &Arc<Self>,
        entry: Entry<K, V>,
        cause: RemovalCause,
    ) -> PendingRemoval<K, V> {
        let until = self.queue().push(Removal::Pending, 1);
        let guard = DeliveryGuard { removal_queue: Arc::clone(self), until };
        PendingRemoval { entry: Some(entry), cause, guard: Some(guard) }
    }

    /// Puts an entry in the place that was kept for it.
    fn fill(&self, number: u64, entry: Entry<K, V>, cause: RemovalCause) {
        let mut queue = self.queue();
        // It is still there: nothing passes it by.
        let place = (number - queue.first) as usize;
        queue.removals[place] = Removal::Entry(entry, cause);
    }

    /// Sees to it that the removals before the number `until` are delivered, by the caller, which has
    /// delivered `delivered` before, or by whoever delivers already. A panic of the listener's goes on when
    /// the caller stops.
    fn attempt(&self, until: u64, delivered: &mut usize, on_contention: OnContention) -> Attempt {
        {
            let mut queue = self.queue();
            while queue.is_taken() {
                let own_are_out = queue.first >= until && queue.entries <= SHORT;
                if own_are_out || on_contention == OnContention::Leave || queue.has_time() {
                    queue.owed = queue.owed.max(until);
                    return Attempt::Done;
                }
                if on_contention == OnContention::Poll {
                    return Attempt::Busy;
                }
                queue.blocked += 1;
                queue = self.ended.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.blocked -= 1;
            }
            if queue.first >= until.max(queue.owed) {
                return Attempt::Done;
            }
            queue.delivered = Some(*delivered);
        }
        self.deliver(until, delivered, on_contention)
    }

    /// Delivers until there is nothing more to be delivered by this caller, or it is to pause.
    fn deliver(&self, until: u64, delivered: &mut usize, on_contention: OnContention) -> Attempt {
        // Kept to the end, since their own `Drop` may panic.
        let mut panics = Vec::new();
        let mut emptied = None;
        let pause =
            if on_contention == OnContention::Poll { *delivered + TURN } else { usize::MAX };
        let attempt = loop {
            match self.next(until, *delivered, pause, &mut emptied) {
                Ok(Some((entry, cause))) => self.report(entry, cause, &mut panics),
                Ok(None) => {}
                Err(attempt) => break attempt,
            }
            *delivered += 1;
        };
        let has_heard = panic::catch_unwind(AssertUnwindSafe(|| self.wake_tasks()));
        let first = panics.into_iter().next().or(has_heard.err());
        // A second panic while one unwinds would abort the process.
        if let (Some(payload), false) = (first, thread::panicking()) {
            panic::resume_unwind(payload);
        }
        attempt
    }

    /// Takes out the entry in front; how the attempt ends if none is to be delivered now, and then nobody
    /// delivers any more. `None` for a step towards the next.
    ///
    /// Keeps in `emptied` what it takes entries out of one by one.
    fn next(
        &self,
        until: u64,
        delivered: usize,
        pause: usize,
        emptied: &mut Option<Box<Emptied<K, V>>>,
    ) -> Result<Option<Departure<K, V>>, Attempt> {
        // Large, so it is dropped once the queue is unlocked again.
        let mut _used_up = None;
        let mut queue = self.queue();
        queue.delivered = Some(delivered);
        loop {
            if queue.first >= until.max(queue.owed) {
                return Err(self.stop(queue, Attempt::Done));
            }
            if delivered >= pause && queue.first >= queue.owed {
                if let Some(emptied) = emptied.take() {
                    queue.removals[0] = Removal::Everything(emptied);
                }
                return Err(self.stop(queue, Attempt::Unfinished));
            }
            if let Some(left) = emptied {
                match left.next() {
                    Next::Entry(entry) => {
                        queue.entries -= 1;
                        return Ok(Some((entry, RemovalCause::Cleared)));
                    }
                    Next::Unknown => return Ok(None),
                    Next::End => _used_up = emptied.take(),
                }
            } else {
                match queue.removals.front_mut() {
                    // Whoever fills the place goes on.
                    None | Some(Removal::Pending) => {
                        return Err(self.stop(queue, Attempt::Unfinished));
                    }
                    Some(front @ Removal::Everything(_)) => {
                        let Removal::Everything(all) = std::mem::replace(front, Removal::Pending)
                        else {
                            unreachable!("it was looked at under the same lock")
                        };
                        *emptied = Some(all);
                        continue;
                    }
                    Some(Removal::Entry(..)) => {}
                }
            }
            queue.first += 1;
            if let Some(Removal::Entry(entry, cause)) = queue.removals.pop_front() {
                queue.entries -= 1;
                return Ok(Some((entry, cause)));
            }
        }
    }

    /// Ends a delivery, which lets go those who wait for that.
    fn stop(&self, mut queue: MutexGuard<'_, Queue<K, V>>, attempt: Attempt) -> Attempt {
        queue.delivered = None;
        if queue.removals.is_empty() && queue.removals.capacity() > Self::KEPT_CAPACITY {
            queue.removals = VecDeque::new();
        }
        if queue.blocked > 0 {
            self.ended.notify_all();
        }
        attempt
    }

    /// Wakes the tasks that wait for the end of a delivery.
    fn wake_tasks(&self) {
        if self.tasks.has_listeners() {
            self.tasks.notify_all();
        }
    }

    fn report(
        &self,
        entry: Entry<K, V>,
        cause: RemovalCause,
        panics: &mut Vec<Box<dyn Any + Send>>,
    ) {
        let (key, value) = entry.into_parts();
        let _listening = Listening::enter();
        let hear = || self.listener.hear(key, value, cause);
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(hear)) {
            panics.push(payload);
        }
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        // The two counts of an `Arc` come before it.
        let counts = 2 * size_of::<usize>();
        let removals = self.queue().removals.capacity() * size_of::<Removal<K, V>>();
        counts + size_of::<Self>() + removals
    }
}

#[cfg(feature = "__validate")]
impl<K, V> RemovalQueue<K, V> {
    /// Asserts that everything that has left was delivered.
    pub(crate) fn validate(&self) {
        let queue = self.queue();
        assert_eq!(queue.removals.len(), 0, "what has left is reported");
        assert_eq!((queue.entries, queue.delivered, queue.blocked), (0, None, 0));
        assert!(queue.owed <= queue.first);
    }
}

/// The duty to see to the delivery of what was put into a queue. When it is dropped, that is left to
/// whoever delivers already, or else done at once.
pub(crate) struct DeliveryGuard<K, V> {
    removal_queue: Arc<RemovalQueue<K, V>>,
    /// Past the number of the last removal.
    until: u64,
}

impl<K, V> DeliveryGuard<K, V> {
    /// Waits until what was put in is delivered, or somebody sees to it.
    async fn settle(self) {
        let mut delivered = 0;
        let mut notified = None;
        loop {
            let on_contention = OnContention::Poll.unless_listening();
            match self.removal_queue.attempt(self.until, &mut delivered, on_contention) {
                Attempt::Done => return,
                Attempt::Unfinished => yield_now().await,
                Attempt::Busy => match notified.take() {
                    // Listens before another attempt, so that no delivery ends unheard of between the two.
                    None => notified = Some(self.removal_queue.tasks.listen()),
                    Some(notified) => notified.await,
                },
            }
        }
    }

    fn finish(&self, on_contention: OnContention) {
        let mut delivered = 0;
        let on_contention = on_contention.unless_listening();
        while self.removal_queue.attempt(self.until, &mut delivered, on_contention) != Attempt::Done
        {
        }
    }
}

impl<K, V> Drop for DeliveryGuard<K, V> {
    fn drop(&mut self) {
        self.finish(OnContention::Leave);
    }
}

/// All duties of one operation, mostly none. Waiting for listeners is the last that a call does: after what
/// it has to publish, to wake and to drop.
#[must_use]
pub(crate) struct Deliveries<K, V>(Option<Box<Link<K, V>>>);

struct Link<K, V> {
    guard: DeliveryGuard<K, V>,
    next: Deliveries<K, V>,
}

impl<K, V> Default for Deliveries<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> Deliveries<K, V> {
    /// Adds the duty to deliver what was put into a queue before the number `until`.
    pub(crate) fn add(&mut self, removal_queue: &Arc<RemovalQueue<K, V>>, until: u64) {
        match &mut self.0 {
            Some(link) if Arc::ptr_eq(&link.guard.removal_queue, removal_queue) => {
                link.guard.until = link.guard.until.max(until);
            }
            _ => self.push(DeliveryGuard { removal_queue: Arc::clone(removal_queue), until }),
        }
    }

    fn push(&mut self, guard: DeliveryGuard<K, V>) {
        let next = std::mem::take(self);
        self.0 = Some(Box::new(Link { guard, next }));
    }

    pub(crate) fn append(&mut self, more: Self) {
        let mut more = more;
        while let Some(guard) = more.pop() {
            self.push(guard);
        }
    }

    fn pop(&mut self) -> Option<DeliveryGuard<K, V>> {
        let Link { guard, next } = *self.0.take()?;
        *self = next;
        Some(guard)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Waits for the listener.
    pub(crate) fn settle(self) -> impl Future<Output = ()> {
        // In a box, so that the futures of all calls need no room for what few of them wait with.
        let waits = (!self.is_empty()).then(|| Box::pin(self.settle_each()));
        async {
            if let Some(waits) = waits {
                waits.await;
            }
        }
    }

    /// Waits for the listener, and returns what is given; for a box, so that who waits with a value needs no
    /// room for it in the future of its call.
    pub(crate) async fn settle_with<T>(self, given: T) -> T {
        self.settle().await;
        given
    }

    async fn settle_each(mut self) {
        while let Some(guard) = self.pop() {
            guard.settle().await;
        }
    }

    /// Waits for the listener, blocking the thread.
    pub(crate) fn settle_blocking(mut self) {
        while let Some(guard) = self.pop() {
            guard.finish(OnContention::Block);
        }
    }
}

/// An entry that is kept back from the listener until this is dropped.
pub(crate) struct PendingRemoval<K, V> {
    /// `None` once it is in the queue.
    entry: Option<Entry<K, V>>,
    cause: RemovalCause,
    /// Of the place that is kept for it, the last before its end; `None` once somebody else has it.
    guard: Option<DeliveryGuard<K, V>>,
}

impl<K, V> PendingRemoval<K, V> {
    /// Lets the listener have the entry, and hands over the duty to see to that.
    pub(crate) fn let_go(mut self, deliveries: &mut Deliveries<K, V>) {
        self.fill();
        if let Some(guard) = self.guard.take() {
            deliveries.push(guard);
        }
    }

    /// Clones the value by user code, before the listener gets it.
    fn into_value(self, deliveries: &mut Deliveries<K, V>) -> V {
        let kept = self.entry.as_ref().zip(self.guard.as_ref());
        let (entry, guard) = kept.expect("both are there until this is dropped");
        let value = guard.removal_queue.listener.clone_value(&entry.value);
        self.let_go(deliveries);
        value
    }

    fn fill(&mut self) {
        if let (Some(entry), Some(guard)) = (self.entry.take(), &self.guard) {
            guard.removal_queue.fill(guard.until - 1, entry, self.cause);
        }
    }
}

impl<K, V> Drop for PendingRemoval<K, V> {
    fn drop(&mut self) {
        self.fill();
    }
}

/// An entry that has left, and whose value the caller may ask for.
pub(crate) enum RemovedEntry<K, V> {
    /// Nobody else wants it.
    Entry(Entry<K, V>),
    /// The listener gets it, when this is dropped.
    Pending(PendingRemoval<K, V>),
}

impl<K, V> RemovedEntry<K, V> {
    /// The value, and to `deliveries` the duty towards the listener.
    pub(crate) fn into_value(self, deliveries: &mut Deliveries<K, V>) -> V {
        match self {
            Self::Entry(entry) => entry.into_value(),
            Self::Pending(withheld) => withheld.into_value(deliveries),
        }
    }

    /// Drops the entry, or lets the listener have it.
    pub(crate) fn let_go(self, deliveries: &mut Deliveries<K, V>) {
        match self {
            Self::Entry(entry) => drop(entry),
            Self::Pending(withheld) => withheld.let_go(deliveries),
        }
    }
}
