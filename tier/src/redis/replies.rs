//! How much a server is asked to send at once.
//!
//! It closes a connection for which too much waits to be sent, and bounds one that is subscribed more
//! tightly than others: by default at 32 MiB, and at 8 MiB for a minute.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_lock::Mutex;
use event_listener::Event;

/// The bytes of all values that are asked for at once.
const BUDGET: usize = 8 << 20;
/// The bytes of a value that is not known to be larger.
const SMALL: usize = 4 << 10;

/// Bounds the values that are asked for at once.
pub(super) struct Replies {
    /// What of the budget is not reserved.
    free: AtomicUsize,
    /// Wakes whoever is at the head of the line.
    freed: Event,
    /// Held by whoever waits for his part, so that many small ones do not keep a large one waiting.
    line: Mutex<()>,
    /// What a value may well need: the largest of late.
    typical: AtomicUsize,
}

/// A part of the budget, which is given back in the end.
pub(super) struct Reservation<'a> {
    replies: &'a Replies,
    bytes: usize,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            free: AtomicUsize::new(BUDGET),
            freed: Event::new(),
            line: Mutex::new(()),
            typical: AtomicUsize::new(SMALL),
        }
    }

    /// What a value may well need.
    pub(super) fn typical(&self) -> usize {
        self.typical.load(Ordering::Relaxed)
    }

    /// Takes note of the largest value of a reply.
    pub(super) fn note(&self, largest: usize) {
        let typical = self.typical();
        // Slowly down, as small values may lie between large ones. That others note theirs at the same time
        // does not matter: what is reserved too small is asked for again.
        let typical = largest.max(typical - typical / 64).max(SMALL);
        self.typical.store(typical, Ordering::Relaxed);
    }

    /// Waits until so many bytes may be asked for; if they are more than the budget, until nobody else asks.
    pub(super) async fn reserve(&self, bytes: usize) -> Reservation<'_> {
        let bytes = bytes.min(BUDGET);
        let _head = self.line.lock().await;
        loop {
            // Listens first, so that what is given back after the look wakes it.
            let freed = self.freed.listen();
            let take = |free: usize| free.checked_sub(bytes);
            if self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok() {
                return Reservation { replies: self, bytes };
            }
            freed.await;
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.replies.free.fetch_add(self.bytes, Ordering::AcqRel);
        self.replies.freed.notify(1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn a_large_reply_waits_for_small_ones_and_they_for_it() {
        block_on(async {
            let replies = Replies::new();
            let small = replies.reserve(1).await;
            let mut large = pin!(replies.reserve(usize::MAX));
            assert!(poll_once(large.as_mut()).await.is_none());
            let mut next = pin!(replies.reserve(1));
            assert!(poll_once(next.as_mut()).await.is_none());
            drop(small);
            assert!(poll_once(next.as_mut()).await.is_none());
            let large = large.await;
            assert!(poll_once(next.as_mut()).await.is_none());
            drop(large);
            let next = next.await;
            assert_eq!(replies.free.load(Ordering::Relaxed), BUDGET - 1);
            drop(next);
            assert_eq!(replies.free.load(Ordering::Relaxed), BUDGET);
        });
    }

    #[test]
    fn who_gives_up_waiting_lets_others_on() {
        block_on(async {
            let replies = Replies::new();
            let all = replies.reserve(BUDGET).await;
            {
                let mut first = pin!(replies.reserve(BUDGET));
                assert!(poll_once(first.as_mut()).await.is_none());
            }
            let mut second = pin!(replies.reserve(1));
            assert!(poll_once(second.as_mut()).await.is_none());
            drop(all);
            second.await;
        });
    }

    #[test]
    fn what_a_value_needs_follows_the_largest() {
        let replies = Replies::new();
        assert_eq!(replies.typical(), SMALL);
        replies.note(1 << 20);
        replies.note(1);
        assert_eq!(replies.typical(), (1 << 20) - (1 << 14));
        for _ in 0..1_000 {
            replies.note(0);
        }
        assert_eq!(replies.typical(), SMALL);
    }
}
