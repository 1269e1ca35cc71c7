//! The alarm that the janitor listens to, as those who write and those who leave notify it.

use std::time::Duration;

use loom::future::block_on;
use loom::thread;

use crate::explore::{Extent, explore};
use crate::timer::Timer;
use crate::witness::{Cache, Mint, builder};

/// A cache that goes by `timer`, and what keeps it clean.
fn kept(timer: &Timer) -> (Cache, impl Future<Output = ()> + use<>) {
    let cache = builder(2).clock(timer.clone()).build();
    let sleeping = timer.clone();
    let janitor = cache.janitor(move |time| sleeping.sleep(time));
    (cache, janitor)
}

/// The cache is gone before the janitor listens, and it sees that, or is notified while it does.
#[test]
fn the_janitor_ends_wherever_it_is_when_the_last_handle_goes() {
    explore(Extent::Whole, || {
        let (cache, janitor) = kept(&Timer::default());
        let janitor = thread::spawn(move || block_on(janitor));
        drop(cache);
        janitor.join().unwrap();
    });
}

/// An entry comes before the janitor looks, which then sleeps until the entry expires, or is notified.
#[test]
fn an_entry_that_comes_while_the_janitor_looks_and_listens_is_freed_in_its_time() {
    explore(Extent::ThreePreemptions, || {
        let (timer, mint) = (Timer::default(), Mint::default());
        let (cache, janitor) = kept(&timer);
        let janitor = thread::spawn(move || block_on(janitor));
        cache.insert_with_ttl_blocking(1, mint.value(1), Duration::from_secs(10));
        block_on(timer.is_slept_by(10));
        mint.close(cache);
        janitor.join().unwrap();
    });
}
