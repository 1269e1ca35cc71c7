//! A bar that shows how far the program is, and an end to a program that gets no further.

use std::process;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::Ground;
use crate::memory;

const REFRESH: Duration = Duration::from_millis(200);

/// No step takes so long, on any machine: a program that makes none is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Shows the bar while `work` runs. `position` tells how much of `length` is done.
pub(crate) fn with_bar<R>(
    ground: &Arc<Ground>,
    length: u64,
    position: impl Fn() -> u64 + Send,
    work: impl FnOnce() -> R,
) -> R {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || show(ground, length, position, &is_done));
        let result = work();
        drop(done);
        result
    })
}

fn show(ground: &Ground, length: u64, position: impl Fn() -> u64, is_done: &mpsc::Receiver<()>) {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}").unwrap();
    bar.set_style(style);
    let mut last = (0, Instant::now());
    while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(REFRESH) {
        let steps = ground.counts.steps.load(Ordering::Relaxed);
        let (before, since) = last;
        if steps > before {
            last = (steps, Instant::now());
            let rate = (steps - before) as f64 / since.elapsed().as_secs_f64();
            bar.set_message(format!("{rate:.0} steps/s, {}", state(ground)));
        } else if since.elapsed() > STUCK {
            eprintln!("stuck after {steps} steps: {}", ground.cache.stats());
            process::exit(2);
        }
        bar.set_position(position().min(length));
    }
    bar.finish_and_clear();
}

/// Hits and memory at a glance.
pub(crate) fn state(ground: &Ground) -> String {
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let resident = memory::resident().map(|bytes| format!(", {:.1} MB resident", megabytes(bytes)));
    format!(
        "{:.1} % hits, {:.2} MB live{}",
        ground.cache.stats().hit_rate() * 100.0,
        megabytes(memory::live().max(0) as u64),
        resident.unwrap_or_default(),
    )
}
