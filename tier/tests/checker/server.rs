//! The same over a server that the tests start.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_lru_tier::{RedisStore, Store};
use libtest_mimic::{Failed, Trial};

use crate::common::server::{Server, program};
use crate::stores::{Silent, WithoutLease};
use crate::{never_stale, sometimes_stale, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 4] = [
        ("server::in_normal_running_no_read_is_stale", in_normal_running),
        ("server::with_faults_no_read_is_stale", with_faults),
        ("server::without_the_lease_reads_are_stale", without_the_lease),
        ("server::without_clearing_reads_are_stale", without_clearing),
    ];
    let required = std::env::var_os("REQUIRE_REDIS").is_some_and(|value| value == "1");
    if program().is_some() {
        return tests.into_iter().map(|(name, test)| trial(name, test)).collect();
    }
    eprintln!("no redis-server or valkey-server on the path");
    let absent = |(name, _)| {
        let fail = || Err(Failed::from("no redis-server or valkey-server on the path"));
        Trial::test(name, fail).with_ignored_flag(!required)
    };
    tests.into_iter().map(absent).collect()
}

fn start() -> (Arc<Mutex<Server>>, RedisStore) {
    let server = Server::start();
    let store = RedisStore::open(&server.url()).unwrap();
    (Arc::new(Mutex::new(server)), store)
}

fn in_normal_running() {
    let (_server, store) = start();
    let store: Arc<dyn Store> = Arc::new(store);
    never_stale("normal running", "server", &store, || {}, || {});
}

fn with_faults() {
    let (server, store) = start();
    let store: Arc<dyn Store> = Arc::new(store);
    let trouble = Arc::clone(&server);
    never_stale("faults", "server", &store, move || go_wrong(&trouble), || {});
}

fn without_the_lease() {
    let (_server, store) = start();
    sometimes_stale("without the lease", "server", || {
        let store: Arc<dyn Store> = Arc::new(WithoutLease(store.clone()));
        (store, || {})
    });
}

fn without_clearing() {
    let (server, store) = start();
    sometimes_stale("without clearing", "server", || {
        let store: Arc<dyn Store> = Arc::new(Silent(Arc::new(store.clone())));
        let trouble = Arc::clone(&server);
        let cut = move || {
            trouble.lock().unwrap().command("CLIENT KILL TYPE pubsub");
        };
        (store, cut)
    });
}

/// Has something go wrong with the server; it is up again afterwards.
fn go_wrong(server: &Mutex<Server>) {
    let mut server = server.lock().unwrap();
    match fastrand::u8(..8) {
        0..3 => {
            server.command("SAVE");
            server.kill();
            server.restart();
        }
        3..5 => {
            server.command("CLIENT KILL TYPE pubsub");
        }
        5 => {
            server.command("CLIENT KILL TYPE normal");
        }
        6 => {
            server.command("CLIENT PAUSE 100 ALL");
        }
        _ => {
            server.stop();
            std::thread::sleep(Duration::from_millis(100));
            server.cont();
        }
    }
}
