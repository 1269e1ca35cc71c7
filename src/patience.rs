//! What a writer does while another one is at work.

use futures_lite::future;

use crate::sync::{spin_loop, yield_now};

/// How a writer deals with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Give up at once; async callers come back later.
    Try,
    /// Block the thread.
    Block,
}

/// Repeats `attempt` until no other writer stands in its way, leaving the thread to other tasks.
///
/// Writers do not queue: a turn that is given to a future which nobody polls any more would hold up
/// all others.
pub(crate) async fn patiently<R>(mut attempt: impl FnMut(Patience) -> Option<R>) -> R {
    const SPINS: u32 = 64;
    let mut spins = 0;
    loop {
        if let Some(result) = attempt(Patience::Try) {
            return result;
        }
        if spins < SPINS {
            spins += 1;
            spin_loop();
        } else {
            future::yield_now().await;
        }
    }
}

/// Repeats `attempt` until no other writer stands in its way, blocking the thread.
pub(crate) fn blocking<R>(mut attempt: impl FnMut(Patience) -> Option<R>) -> R {
    loop {
        match attempt(Patience::Block) {
            Some(result) => return result,
            None => yield_now(),
        }
    }
}
