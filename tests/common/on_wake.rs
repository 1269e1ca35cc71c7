//! A waker that does something; included by the tests that need one as a module of their own.

#![allow(unreachable_pub, reason = "each test file uses a part")]

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

struct OnWake(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for OnWake {
    fn wake(self: Arc<Self>) {
        let action = self.0.lock().unwrap().take();
        action.into_iter().for_each(|act| act());
    }
}

/// Makes a waker that acts when it is first woken.
pub fn on_wake(action: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(OnWake(Mutex::new(Some(Box::new(action))))))
}
