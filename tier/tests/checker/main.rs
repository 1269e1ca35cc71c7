//! Whether any read gives what it must not, while several instances read and write in real time: over a
//! store in memory and over a server, in normal running and with what goes wrong.
//!
//! Two stores that lack what keeps values true show that the checker would see it.
//!
//! Each setting runs for two seconds, or for as many as the environment variable `CHECKER_SECONDS` says.
//! What needs a server is ignored where there is none, and fails there with `REQUIRE_REDIS=1`.

mod fleet;
mod ledger;
#[cfg(feature = "tokio")]
mod server;
mod stores;

#[path = "../common/mod.rs"]
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_lru_tier::{ErrorKind, Faults, MemoryStore, Store};
use libtest_mimic::{Arguments, Failed, Trial};

use fleet::Fleet;
use ledger::Tally;
use stores::{Distant, Silent, WithoutLease};

/// So often a setting is run that is to give stale reads, until it does.
const TRIES: usize = 30;

fn main() -> ExitCode {
    let trials = [
        trial("memory::in_normal_running_no_read_is_stale", in_normal_running),
        trial("memory::with_faults_no_read_is_stale", with_faults),
        trial("memory::without_the_lease_reads_are_stale", without_the_lease),
        trial("memory::without_clearing_reads_are_stale", without_clearing),
    ]
    .into_iter();
    #[cfg(feature = "tokio")]
    let trials = trials.chain(server::trials());
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        catch_unwind(AssertUnwindSafe(test)).map_err(|_| Failed::without_message())
    })
}

fn in_normal_running() {
    let store: Arc<dyn Store> = Arc::new(Distant(MemoryStore::new()));
    never_stale("normal running", "memory", &store, || {}, || {});
}

fn with_faults() {
    let memory = MemoryStore::new();
    let (faults, healed) = (memory.faults(), memory.faults());
    let store: Arc<dyn Store> = Arc::new(Distant(memory));
    never_stale("faults", "memory", &store, move || go_wrong(&faults), move || healed.heal());
}

fn without_the_lease() {
    sometimes_stale("without the lease", "memory", || {
        let store: Arc<dyn Store> = Arc::new(WithoutLease(Distant(MemoryStore::new())));
        (store, || {})
    });
}

fn without_clearing() {
    sometimes_stale("without clearing", "memory", || {
        let memory = MemoryStore::new();
        let faults = memory.faults();
        let store: Arc<dyn Store> = Arc::new(Silent(Arc::new(Distant(memory))));
        (store, move || faults.cut_links())
    });
}

/// Has something go wrong with a store in memory.
fn go_wrong(faults: &Faults) {
    let a_while = || std::thread::sleep(Duration::from_millis(50));
    match fastrand::u8(..9) {
        0 | 1 => faults.cut_links(),
        2 => {
            faults.take_down();
            a_while();
            faults.bring_up();
        }
        3 => faults.restart_keeping_data(),
        4 => faults.restart_losing_data(),
        5 => faults.lose_messages(2),
        6 | 7 => {
            // A few at a time, so that others succeed in between.
            for _ in 0..10 {
                faults.fail_next(4, ErrorKind::Other);
                std::thread::sleep(Duration::from_millis(5));
            }
            faults.work();
        }
        _ => {
            faults.stop();
            a_while();
            faults.resume();
        }
    }
}

/// Runs a setting in which no read may be stale. `heal` ends what `trouble` began.
fn never_stale(
    setting: &str,
    name: &str,
    store: &Arc<dyn Store>,
    trouble: impl FnMut() + Send + 'static,
    heal: impl FnOnce(),
) {
    block_on(async {
        let fleet = Fleet::start(store);
        fleet.run(seconds(), trouble).await;
        heal();
        fleet.settle().await;
        let tally = &fleet.ledger().tally;
        report(setting, name, tally);
        assert_eq!(tally.stale.load(Ordering::Relaxed), 0, "stale reads");
        // Or nothing was found out.
        assert!(tally.acknowledged.load(Ordering::Relaxed) > 0);
        assert!(tally.heard.load(Ordering::Relaxed) > 4 * 2);
    });
}

/// Runs a setting in which reads are stale, if the checker sees what it should: again if none was, as chance
/// may have it on a machine that is busy.
fn sometimes_stale<T: FnMut() + Send + 'static>(
    setting: &str,
    name: &str,
    mut begin: impl FnMut() -> (Arc<dyn Store>, T),
) {
    for _ in 0..TRIES {
        let (store, trouble) = begin();
        let stale = block_on(async {
            let fleet = Fleet::start(&store);
            fleet.run(seconds(), trouble).await;
            let tally = &fleet.ledger().tally;
            report(setting, name, tally);
            tally.stale.load(Ordering::Relaxed)
        });
        if stale > 0 {
            return;
        }
    }
    panic!("the checker sees nothing");
}

fn report(setting: &str, store: &str, tally: &Tally) {
    let Tally { reads, writes, acknowledged, heard, stale, late } = tally;
    println!(
        "{setting}, {store}: {} reads, {} writes ({} acknowledged), {} messages watched; \
         {} stale, {} more than 50 ms late",
        reads.load(Ordering::Relaxed),
        writes.load(Ordering::Relaxed),
        acknowledged.load(Ordering::Relaxed),
        heard.load(Ordering::Relaxed),
        stale.load(Ordering::Relaxed),
        late.load(Ordering::Relaxed),
    );
}

fn seconds() -> Duration {
    let set = std::env::var("CHECKER_SECONDS").ok();
    Duration::from_secs(set.map_or(2, |set| set.parse().expect("a number of seconds")))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let result = runtime.block_on(future);
    // Not for calls that a store without an end has begun.
    runtime.shutdown_background();
    result
}
