//! What arrives unasked on a connection: messages, and its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::aio::{AsyncPushSender, SendError};
use ::redis::{PushInfo, PushKind, Value};

use super::message::Message;
use crate::store::{BoxFuture, Event, Events, Instance};

/// More bytes of messages than this do not wait to be heard: a link of which nobody keeps up with what is
/// told is as good as lost.
const MOST_PENDING: usize = 16 << 20;

/// The messages of a connection, counted so that none is missed.
pub(super) struct Link {
    /// Whose own messages are counted but not told.
    instance: Instance,
    /// Held for a few steps only: the task that reads the connection takes it too.
    state: Mutex<State>,
    /// Wakes whoever listens, for an event or the end.
    news: event_listener::Event,
}

struct State {
    life: Life,
    /// What was told and not heard yet.
    pending: VecDeque<(Event, usize)>,
    /// The bytes of the messages of which `pending` is made.
    pending_bytes: usize,
}

enum Life {
    /// Subscribed; the number of the last message, if there was one, and that of the first.
    Starting(Option<(u64, u64)>),
    /// The number of the last message.
    Open(u64),
    /// For good.
    Lost,
}

/// What is there to be heard.
enum Heard {
    Event(Event),
    Nothing,
    Lost,
}

impl Link {
    pub(super) fn new(instance: Instance) -> Arc<Self> {
        let life = Life::Starting(None);
        let state = Mutex::new(State { life, pending: VecDeque::new(), pending_bytes: 0 });
        Arc::new(Self { instance, state, news: event_listener::Event::new() })
    }

    /// Nothing in here panics while it is locked, and it is sound after each step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the link, for good: what was told but not heard does not matter any more.
    pub(super) fn lose(&self) {
        *self.lock() = State { life: Life::Lost, pending: VecDeque::new(), pending_bytes: 0 };
        self.news.notify(usize::MAX);
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.lock().life, Life::Lost)
    }

    /// Begins to miss messages that do not come: those after `number`, which the server gave as that of its
    /// last message. Tells whether none is missing already.
    pub(super) fn start(&self, number: u64) -> bool {
        let mut state = self.lock();
        let Life::Starting(seen) = state.life else { return false };
        // What came since the subscription may have come before that reply, or after it.
        let (first, last) = seen.unwrap_or((number.saturating_add(1), number));
        let whole = number.checked_add(1).is_some_and(|next| first <= next && number <= last);
        if whole {
            state.life = Life::Open(last);
        }
        whole
    }

    /// The number of the last message that arrived; `None` if the link is lost.
    pub(super) fn last(&self) -> Option<u64> {
        match self.lock().life {
            Life::Open(last) => Some(last),
            Life::Starting(_) | Life::Lost => None,
        }
    }

    /// Tells whether all has arrived that was sent before the server gave `number` as that of its last
    /// message, if `before` was the last when it was asked: messages and replies come in one order. A
    /// number below that is of a server that has forgotten what it sent.
    pub(super) fn has_arrived(&self, before: u64, number: u64) -> bool {
        self.last().is_some_and(|last| (before..=last).contains(&number))
    }

    /// Takes a message. What is none, or not the next one, ends the link.
    fn receive(&self, bytes: &[u8]) {
        let kept = match Message::read(bytes) {
            Some(message) => self.lock().keep(message, bytes.len(), self.instance),
            None => Err(()),
        };
        match kept {
            Ok(()) => {
                self.news.notify(1);
            }
            Err(()) => self.lose(),
        }
    }

    fn hear(&self) -> Heard {
        let mut state = self.lock();
        if let Some((event, bytes)) = state.pending.pop_front() {
            state.pending_bytes -= bytes;
            return Heard::Event(event);
        }
        match state.life {
            Life::Lost => Heard::Lost,
            Life::Starting(_) | Life::Open(_) => Heard::Nothing,
        }
    }
}

impl State {
    fn keep(&mut self, message: Message, bytes: usize, own: Instance) -> Result<(), ()> {
        if let Some(number) = message.number {
            self.life = match self.life {
                Life::Starting(None) => Life::Starting(Some((number, number))),
                Life::Starting(Some((first, last))) if last.checked_add(1) == Some(number) => {
                    Life::Starting(Some((first, number)))
                }
                Life::Open(last) if last.checked_add(1) == Some(number) => Life::Open(number),
                Life::Starting(_) | Life::Open(_) | Life::Lost => return Err(()),
            };
        }
        if message.sender == own || matches!(self.life, Life::Lost) {
            return Ok(());
        }
        if !self.pending.is_empty() && self.pending_bytes + bytes > MOST_PENDING {
            return Err(());
        }
        self.pending_bytes += bytes;
        self.pending.push_back((message.event, bytes));
        Ok(())
    }
}

/// Hands to a link what the connection's task reads, and that this task has ended.
pub(super) struct Receiver(pub(super) Arc<Link>);

impl AsyncPushSender for Receiver {
    fn send(&self, info: PushInfo) -> Result<(), SendError> {
        match (info.kind, info.data.as_slice()) {
            // The channel and the message.
            (PushKind::Message, [_, Value::BulkString(bytes)]) => self.0.receive(bytes),
            (PushKind::Subscribe, _) => {}
            // The end, or nothing that was asked for.
            _ => self.0.lose(),
        }
        Ok(())
    }
}

/// After an error in writing the task ends without a word.
impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.lose();
    }
}

/// The hearing end of a link.
pub(super) struct RedisEvents(pub(super) Arc<Link>);

impl Events for RedisEvents {
    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(async {
            loop {
                // Listens first, so that what comes after the look wakes it.
                let news = self.0.news.listen();
                match self.0.hear() {
                    Heard::Event(event) => return Some(event),
                    Heard::Lost => return None,
                    Heard::Nothing => news.await,
                }
            }
        })
    }
}

/// What nobody hears must not pile up, and whoever does not hear must not keep what it reads.
impl Drop for RedisEvents {
    fn drop(&mut self) {
        self.0.lose();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::key::Key;

    const OWN: &str = "0000000000000001";
    const OTHER: &str = "0000000000000002";

    fn link() -> (Arc<Link>, RedisEvents) {
        let link = Link::new(Instance(1));
        (Arc::clone(&link), RedisEvents(link))
    }

    /// What can be heard at once.
    fn next(events: &mut RedisEvents) -> Option<Option<Event>> {
        block_on(poll_once(events.next()))
    }

    fn gone(link: &Link, number: u64, sender: &str) {
        link.receive(format!("{number}g{sender}3:ann").as_bytes());
    }

    #[test]
    fn own_messages_are_counted_but_not_told() {
        let (link, mut events) = link();
        assert!(link.start(4));
        gone(&link, 5, OWN);
        assert_eq!(next(&mut events), None);
        gone(&link, 6, OTHER);
        assert_eq!(next(&mut events), Some(Some(Event::Gone(vec![Key::of("ann")]))));
        assert_eq!(link.last(), Some(6));
    }

    #[test]
    fn a_missing_a_repeated_and_a_malformed_message_end_the_link() {
        for wrong in ["7g00000000000000023:ann", "5g00000000000000023:ann", "0g", ""] {
            let (link, mut events) = link();
            assert!(link.start(4));
            gone(&link, 5, OTHER);
            link.receive(wrong.as_bytes());
            assert!(link.is_lost());
            assert_eq!(next(&mut events), Some(None));
            // For good.
            gone(&link, 6, OTHER);
            link.receive(b"0r00000000000000023:ann");
            assert_eq!(next(&mut events), Some(None));
            assert!(!link.start(6));
        }
    }

    #[test]
    fn what_comes_while_the_link_starts_belongs_to_it() {
        for (number, whole) in [(3, false), (4, true), (5, true), (6, true), (7, false)] {
            let (link, _events) = link();
            gone(&link, 5, OTHER);
            gone(&link, 6, OTHER);
            assert_eq!(link.start(number), whole, "{number}");
        }
        let (link, _events) = link();
        gone(&link, 5, OTHER);
        gone(&link, 7, OTHER);
        assert!(!link.start(5));
    }

    #[test]
    fn a_reply_tells_what_should_have_arrived() {
        let (link, _events) = link();
        assert!(link.start(4));
        gone(&link, 5, OTHER);
        for (before, number, whole) in
            [(4, 4, true), (4, 5, true), (5, 5, true), (5, 6, false), (5, 4, false)]
        {
            assert_eq!(link.has_arrived(before, number), whole, "{before} {number}");
        }
    }

    #[test]
    fn the_end_of_the_connection_ends_the_link() {
        let end: [fn(Receiver); 3] = [
            drop,
            |receiver| {
                drop(receiver.send(PushInfo { kind: PushKind::Disconnection, data: vec![] }))
            },
            |receiver| drop(receiver.send(PushInfo { kind: PushKind::Unsubscribe, data: vec![] })),
        ];
        for end in end {
            let (link, mut events) = link();
            assert!(link.start(0));
            let receiver = Receiver(Arc::clone(&link));
            assert!(receiver.send(PushInfo { kind: PushKind::Subscribe, data: vec![] }).is_ok());
            assert_eq!(next(&mut events), None);
            end(receiver);
            assert_eq!(next(&mut events), Some(None));
        }
    }

    #[test]
    fn messages_that_nobody_hears_end_the_link() {
        let (link, mut events) = link();
        assert!(link.start(0));
        let key = "x".repeat(MOST_PENDING / 4);
        for number in 1..=3 {
            link.receive(format!("{number}g{OTHER}{}:{key}", key.len()).as_bytes());
        }
        assert!(!link.is_lost());
        assert!(matches!(next(&mut events), Some(Some(_))));
        link.receive(format!("4g{OTHER}{}:{key}", key.len()).as_bytes());
        assert!(!link.is_lost());
        link.receive(format!("5g{OTHER}{}:{key}", key.len()).as_bytes());
        assert!(link.is_lost());
        assert_eq!(next(&mut events), Some(None));
    }
}
