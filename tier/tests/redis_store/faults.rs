//! Servers that end, hang, or turn into something else.

use std::time::{Duration, Instant};

use async_lru_tier::ErrorKind;
use async_lru_tier::store::{Found, Lease, Turn};
use futures_lite::future::poll_once;
use redis::Value;

use crate::common::server::Server;
use crate::common::{sleep, within};
use crate::peer::{LONG, Peer, gone, keys, value};

crate::server_tests! {
    no_server_is_an_error
    a_connection_that_is_closed_ends_the_link
    a_server_that_is_killed_ends_the_link_and_the_calls
    what_a_server_has_saved_is_not_seen_after_its_restart
    a_server_that_hangs_is_waited_for
    a_server_that_becomes_a_replica_ends_the_link
    dropping_both_ends_closes_the_connection
    a_call_alone_does_not_hear
}

/// Waits until the server has so many connections besides that which asks.
pub(crate) async fn has_connections(server: &Server, expected: usize) {
    let mut admin = server.admin();
    let start = Instant::now();
    loop {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
        if list.lines().count() == expected + 1 {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{list}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn no_server_is_an_error() {
    let mut server = Server::start();
    server.kill();
    let error = Peer::connect_to(&server.url(), "users", 1).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Lost);
}

async fn a_connection_that_is_closed_ends_the_link() {
    let server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    a.load("ann", "1").await;
    a.session.remove(&keys(&["bob"]), None).await.unwrap();
    let killed = server.command("CLIENT KILL TYPE pubsub");
    assert_eq!(killed, Value::Int(1));
    a.is_lost().await;
    // The same server: what it holds is still there.
    let b = Peer::connect(&server, 2).await;
    value(b.get("ann").await, "1", Turn::Nobodys);
}

async fn a_server_that_is_killed_ends_the_link_and_the_calls() {
    let mut server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    server.stop();
    let asked = keys(&["ann"]);
    let session = a.session.clone();
    let mut call = session.get_or_lease(&asked, a.ask());
    assert!(poll_once(&mut call).await.is_none());
    server.kill();
    assert_eq!(within(call).await.unwrap_err().kind(), ErrorKind::Lost);
    a.is_lost().await;
}

async fn what_a_server_has_saved_is_not_seen_after_its_restart() {
    let mut server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    a.load("ann", "old").await;
    server.command("SAVE");
    a.remove("ann").await;
    server.kill();
    a.is_lost().await;
    server.restart();
    // The server has it.
    server.name("users:3:*:v:ann");
    let mut b = Peer::connect(&server, 2).await;
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    assert!(b.put("ann", "new").await);
    b.remove("bob").await;
    b.hears_nothing().await;
    value(b.get("ann").await, "new", Turn::Nobodys);
}

async fn a_server_that_hangs_is_waited_for() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    server.stop();
    // Calls that callers have given up.
    let (asked, session) = (keys(&["ann"]), a.session.clone());
    for _ in 0..200 {
        let mut dropped = session.get_or_lease(&asked, a.ask());
        assert!(poll_once(&mut dropped).await.is_none());
    }
    let mut removal = session.remove(&asked, None);
    assert!(poll_once(&mut removal).await.is_none());
    sleep(Duration::from_millis(50)).await;
    server.cont();
    within(removal).await.unwrap();
    assert_eq!(b.next().await, gone(&["ann"]));
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
}

async fn a_server_that_becomes_a_replica_ends_the_link() {
    let (server, other) = (Server::start(), Server::start());
    let (mut a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    server.command(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    assert_eq!(a.session.ping().await.unwrap_err().kind(), ErrorKind::ReadOnly);
    a.is_lost().await;
    let removal = b.session.remove(&keys(&["ann"]), None).await;
    assert_eq!(removal.unwrap_err().kind(), ErrorKind::ReadOnly);
    b.is_lost().await;
    let error = Peer::connect_to(&server.url(), "users", 3).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    // And back again.
    server.command("REPLICAOF NO ONE");
    let c = Peer::connect(&server, 3).await;
    c.get("ann").await;
}

async fn dropping_both_ends_closes_the_connection() {
    let server = Server::start();
    has_connections(&server, 0).await;
    let a = Peer::connect(&server, 1).await;
    has_connections(&server, 1).await;
    drop(a);
    has_connections(&server, 0).await;
    // Also one on which something is asked.
    let a = Peer::connect(&server, 1).await;
    server.command("CLIENT PAUSE 200 ALL");
    let (session, keys) = (a.session.clone(), keys(&["ann"]));
    let mut call = session.put(Lease(1), &[], LONG);
    assert!(poll_once(&mut call).await.is_some());
    drop(call);
    let mut call = session.remove(&keys, None);
    assert!(poll_once(&mut call).await.is_none());
    drop(call);
    drop((a, session));
    has_connections(&server, 0).await;
}

async fn a_call_alone_does_not_hear() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    let Peer { session, events, .. } = a;
    session.ping().await.unwrap();
    drop(events);
    assert_eq!(session.ping().await.unwrap_err().kind(), ErrorKind::Lost);
}
