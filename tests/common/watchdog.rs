//! Turns a test that would hang into one that fails; included by the tests that may as a module of
//! their own.

#![allow(unreachable_pub, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Not a time that anything is expected to take: a deadlock would last for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where each thread of a test has got to.
pub struct Progress(Sender<(ThreadId, String)>);

impl Progress {
    /// This thread has come to `point`, which is named if it fails or hangs there.
    pub fn reached(&self, point: String) {
        // Nobody listens any more once the test was given up.
        let _ = self.0.send((thread::current().id(), point));
    }
}

/// Runs a test on a thread of its own; fails if it fails, or stays at one point for too long.
pub fn watched(test: impl FnOnce(&Progress) + Send + 'static) {
    let (sender, points) = mpsc::channel();
    let running = thread::spawn(move || test(&Progress(sender)));
    let mut last = HashMap::new();
    loop {
        match points.recv_timeout(PATIENCE) {
            Ok((thread, point)) => drop(last.insert(thread, point)),
            Err(RecvTimeoutError::Timeout) => panic!("hangs at one of {:#?}", last.values()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err(payload) = running.join() {
        eprintln!("failed at one of {:#?}", last.values());
        resume_unwind(payload);
    }
}
