//! Waiting for many futures side by side, of which each poll polls those that have woken.
//!
//! Each has a waker of its own, which lists it as due and wakes the task once. Polled with the task's
//! waker, all of them would have to be polled whenever one has woken: the square of their number.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::flight::PollScope;
use crate::sync::{Mutex, MutexGuard};

/// How many keys a call deals with before other tasks have the thread.
pub(super) const AT_ONCE: usize = 256;

/// Futures that a task waits for, each with a place that its output belongs to.
pub(crate) struct Joins<F> {
    /// `None` once they have ended.
    joined: Vec<Option<Joined<F>>>,
    /// How many have not ended.
    left: usize,
    due: Arc<Due>,
}

struct Joined<F> {
    place: usize,
    future: Pin<Box<F>>,
    waker: Waker,
}

impl<F: Future> Joins<F> {
    pub(crate) fn new(futures: impl IntoIterator<Item = (usize, F)>) -> Self {
        let mut joins = Self { joined: Vec::new(), left: 0, due: Arc::default() };
        futures.into_iter().for_each(|(place, future)| joins.add(place, future));
        joins
    }

    /// Adds a future, to be polled when the others are the next time.
    pub(crate) fn add(&mut self, place: usize, future: F) {
        let free = if self.left == self.joined.len() {
            None
        } else {
            self.joined.iter().position(Option::is_none)
        };
        let number = free.unwrap_or(self.joined.len());
        let waker = Waker::from(Arc::new(Child { number, due: Arc::clone(&self.due) }));
        let joined = Some(Joined { place, future: Box::pin(future), waker });
        match self.joined.get_mut(number) {
            Some(room) => *room = joined,
            None => self.joined.push(joined),
        }
        self.left += 1;
        self.due.add(number);
    }

    /// How many have not ended.
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    /// Polls some of those that are due, and passes what they give to `ended`; ready once all have ended.
    pub(crate) fn poll(
        &mut self,
        cx: &Context<'_>,
        mut ended: impl FnMut(usize, F::Output),
    ) -> Poll<()> {
        let (due, has_more) = self.due.take(cx.waker().clone());
        if has_more {
            // Other tasks have the thread before the rest.
            cx.waker().wake_by_ref();
        }
        for number in due {
            // One that has ended may still be woken.
            let Some(joined) = &mut self.joined[number] else { continue };
            let polled = {
                let _scope = PollScope::enter_part(&joined.waker, cx);
                joined.future.as_mut().poll(&mut Context::from_waker(&joined.waker))
            };
            if let Poll::Ready(output) = polled {
                let place = joined.place;
                self.joined[number] = None;
                self.left -= 1;
                ended(place, output);
            }
        }
        if self.left == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F> Drop for Joins<F> {
    fn drop(&mut self) {
        self.due.forget_task();
    }
}

/// The futures that have woken since they were polled.
#[derive(Default)]
struct Due(Mutex<DueState>);

#[derive(Default)]
struct DueState {
    /// Each once.
    numbers: Vec<usize>,
    /// By number.
    is_listed: Vec<bool>,
    /// Woken once, by the first future that becomes due after the task was polled.
    task: Option<Waker>,
}

impl Due {
    /// Wakers are cloned, woken and dropped while this is not locked: they are the executor's code.
    fn lock(&self) -> MutexGuard<'_, DueState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a future that is new.
    fn add(&self, number: usize) {
        let mut state = self.lock();
        if state.is_listed.len() <= number {
            state.is_listed.resize(number + 1, false);
        }
        if !mem::replace(&mut state.is_listed[number], true) {
            state.numbers.push(number);
        }
    }

    /// Takes some of the list, tells whether there is more, and notes which task to wake when there is one
    /// again.
    fn take(&self, task: Waker) -> (Vec<usize>, bool) {
        let (numbers, has_more, _stale) = {
            let mut state = self.lock();
            // In their order, so that none is passed over for ever.
            let now = state.numbers.len().min(AT_ONCE);
            let numbers: Vec<_> = state.numbers.drain(..now).collect();
            for number in &numbers {
                state.is_listed[*number] = false;
            }
            (numbers, !state.numbers.is_empty(), state.task.replace(task))
        };
        (numbers, has_more)
    }

    /// Lists a future, and wakes the task if that does not know yet.
    fn list(&self, number: usize) {
        let task = {
            let mut state = self.lock();
            if !mem::replace(&mut state.is_listed[number], true) {
                state.numbers.push(number);
            }
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Wakes nobody any more.
    fn forget_task(&self) {
        let _task = self.lock().task.take();
    }
}

/// Held by the waker of one future.
struct Child {
    number: usize,
    due: Arc<Due>,
}

impl Wake for Child {
    fn wake(self: Arc<Self>) {
        self.due.list(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.due.list(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;

    use super::*;

    /// Against (A48) of `docs/reliability.md`.
    #[test]
    fn a_poll_polls_only_those_that_have_woken() {
        const FUTURES: usize = 100;
        let polls = Cell::new(0);
        let wakers = RefCell::new(vec![None; FUTURES]);
        let is_over = RefCell::new(vec![false; FUTURES]);
        let future = |number: usize| {
            let (polls, wakers, is_over) = (&polls, &wakers, &is_over);
            poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                wakers.borrow_mut()[number] = Some(cx.waker().clone());
                if is_over.borrow()[number] { Poll::Ready(number) } else { Poll::Pending }
            })
        };
        let mut joins = Joins::new((0..FUTURES).map(|number| (number, future(number))));
        let mut poll = |ended: &[usize]| {
            polls.set(0);
            let mut outputs = Vec::new();
            let cx = Context::from_waker(Waker::noop());
            let polled = joins.poll(&cx, |place, output| outputs.push((place, output)));
            assert_eq!(outputs, Vec::from_iter(ended.iter().map(|number| (*number, *number))));
            (polled.is_ready(), polls.get())
        };
        let wake = |number: usize| {
            let waker: Option<Waker> = wakers.borrow()[number].clone();
            waker.expect("it was polled").wake();
        };
        assert_eq!(poll(&[]), (false, FUTURES), "all of them at first");
        assert_eq!(poll(&[]), (false, 0));
        for _ in 0..2 {
            wake(7);
        }
        assert_eq!(poll(&[]), (false, 1), "it was woken for nothing");
        for number in (0..FUTURES).rev() {
            is_over.borrow_mut()[number] = true;
            wake(number);
            assert_eq!(poll(&[number]), (number == 0, 1));
            wake(number);
        }
    }
}
