//! Finds out recursion: a load that asks, within the task that polls it, for the key that it loads.
//!
//! That a call is polled somewhere within a load does not make it a part of that: an executor that
//! runs within the load polls other tasks there, and they may wait for the load as any task may. A call
//! belongs to the load if it is polled with the load's waker, or with that of a load which does. So
//! every load is noted with two wakers: that of the task which polls it, and its own.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::id::FlightName;
use crate::sync::thread_local;

/// Tells wakers apart that are alive at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct WakerId {
    data: usize,
    vtable: usize,
}

impl WakerId {
    /// The name of none.
    const NONE: Self = Self { data: 0, vtable: 0 };

    fn of(waker: &Waker) -> Self {
        Self { data: waker.data().addr(), vtable: ptr::from_ref(waker.vtable()).addr() }
    }
}

/// Something that is being polled.
#[derive(Clone, Copy)]
struct Frame {
    loads: Loads,
    /// The waker of the task that polls it.
    outer: WakerId,
    /// The waker that it is polled with; the same, unless it has one of its own.
    inner: WakerId,
}

impl Frame {
    const NONE: Self = Self { loads: Loads::None, outer: WakerId::NONE, inner: WakerId::NONE };
}

/// The flights of what is being polled.
#[derive(Clone, Copy)]
enum Loads {
    /// It is no load, and merely has a waker of its own.
    None,
    One(FlightName),
    /// Those that have the batch's place in [`BATCHES`].
    Batch,
}

/// How many frames within one another are kept track of without an allocation.
const SHALLOW: usize = 8;

/// The loads that are being polled on a thread right now, outermost first.
///
/// Most loads are polled within no other, so the first few frames have a place in the thread-local
/// itself, which needs no destructor and is there at any time.
struct PollStack {
    depth: Cell<usize>,
    shallow: [Cell<Frame>; SHALLOW],
}

thread_local! {
    static POLLING: PollStack = const {
        PollStack { depth: Cell::new(0), shallow: [const { Cell::new(Frame::NONE) }; SHALLOW] }
    };
    /// The frames beyond the first few.
    static DEEP_POLLING: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
    /// The flights of the batches among all these, in order of their names.
    static BATCHES: RefCell<Vec<Arc<[FlightName]>>> = const { RefCell::new(Vec::new()) };
}

/// Marks something as being polled, for as long as the mark lives.
pub(crate) struct PollScope;

impl PollScope {
    /// Marks the load of `flight`, which the task of `cx` polls with its own waker.
    #[inline]
    pub(crate) fn enter(flight: FlightName, cx: &Context<'_>) -> Self {
        Self::enter_with(flight, cx.waker(), cx)
    }

    /// Marks the load of `flight`, which the task of `cx` polls with `waker`.
    #[inline]
    pub(crate) fn enter_with(flight: FlightName, waker: &Waker, cx: &Context<'_>) -> Self {
        Self::push(Loads::One(flight), waker, cx)
    }

    /// Marks the load of `flights`, which are in order, that the task of `cx` polls with `waker`.
    pub(crate) fn enter_batch(
        flights: &Arc<[FlightName]>,
        waker: &Waker,
        cx: &Context<'_>,
    ) -> BatchPollScope {
        with_batches(|batches| batches.push(Arc::clone(flights)));
        BatchPollScope { _scope: Self::push(Loads::Batch, waker, cx) }
    }

    /// Marks a part of a call that the task of `cx` polls with `waker`.
    pub(crate) fn enter_part(waker: &Waker, cx: &Context<'_>) -> Self {
        Self::push(Loads::None, waker, cx)
    }

    #[inline]
    fn push(loads: Loads, waker: &Waker, cx: &Context<'_>) -> Self {
        let frame = Frame { loads, outer: WakerId::of(cx.waker()), inner: WakerId::of(waker) };
        POLLING.with(|polling| {
            let depth = polling.depth.get();
            match polling.shallow.get(depth) {
                Some(place) => place.set(frame),
                None => with_deep_polling(|deep| deep.push(frame)),
            }
            polling.depth.set(depth + 1);
        });
        Self
    }
}

impl Drop for PollScope {
    #[inline]
    fn drop(&mut self) {
        POLLING.with(|polling| {
            let depth = polling.depth.get() - 1;
            polling.depth.set(depth);
            if depth >= SHALLOW {
                with_deep_polling(|deep| deep.truncate(depth - SHALLOW));
            }
        });
    }
}

/// Marks the load of a batch as being polled, for as long as the mark lives.
pub(crate) struct BatchPollScope {
    _scope: PollScope,
}

impl Drop for BatchPollScope {
    fn drop(&mut self) {
        with_batches(|batches| drop(batches.pop()));
    }
}

/// Does `what` to the frames beyond the first few. A dying thread may have lost them, and with them
/// merely the check.
#[cold]
fn with_deep_polling(what: impl FnOnce(&mut Vec<Frame>)) {
    let _ = DEEP_POLLING.try_with(|deep| what(&mut deep.borrow_mut()));
}

/// Does `what` to the flights of the batches, under the same reserve.
#[cold]
fn with_batches(what: impl FnOnce(&mut Vec<Arc<[FlightName]>>)) {
    let _ = BATCHES.try_with(|batches| what(&mut batches.borrow_mut()));
}

/// Panics if a call that is polled with `waker` belongs to the load of `flight`, for which it would
/// then wait within that very load.
pub(super) fn assert_not_within(flight: FlightName, waker: &Waker) {
    let mut waker = WakerId::of(waker);
    let mut batches_passed = 0;
    // From the innermost frame outwards. One with another waker is of another task, within which this
    // one is polled.
    let mut is_of = |frame: Frame| {
        let batch = batches_passed;
        if let Loads::Batch = frame.loads {
            batches_passed += 1;
        }
        if frame.inner != waker {
            return false;
        }
        waker = frame.outer;
        match frame.loads {
            Loads::None => false,
            Loads::One(own) => own == flight,
            Loads::Batch => is_in_batch(batch, flight),
        }
    };
    let is_within = POLLING.with(|polling| {
        let depth = polling.depth.get();
        let mut is_within_deep = false;
        if depth > SHALLOW {
            with_deep_polling(|deep| {
                is_within_deep = deep.iter().rev().any(|frame| is_of(*frame));
            });
        }
        let shallow = &polling.shallow[..depth.min(SHALLOW)];
        is_within_deep || shallow.iter().rev().any(|place| is_of(place.get()))
    });
    assert!(
        !is_within,
        "recursive load: a loader asked the cache for the key that it is loading itself, \
         directly or through the loads of other keys, and would wait for itself for ever"
    );
}

/// Tells whether `flight` is of the batch of this number, counted from the innermost.
fn is_in_batch(number: usize, flight: FlightName) -> bool {
    let mut is_in_it = false;
    with_batches(|batches| {
        let flights = batches.iter().rev().nth(number);
        is_in_it = flights.is_some_and(|flights| flights.binary_search(&flight).is_ok());
    });
    is_in_it
}
