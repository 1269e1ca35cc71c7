//! Work in parts on every core; included by the tests that have much as a module of their own.

#![allow(unreachable_pub, reason = "a module of some test files")]

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;

/// Does each job once, on a thread for each core; adds up what they return.
pub fn sum_of<J: Send>(
    jobs: impl IntoIterator<Item = J, IntoIter: Send>,
    work: impl Fn(J) -> usize + Sync,
) -> usize {
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().unwrap().next();
    let worker = || {
        let mut sum = 0;
        while let Some(job) = next() {
            sum += work(job);
        }
        sum
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|p| resume_unwind(p))).sum()
    })
}
