//! Servers that have no memory left.

use async_lru_tier::store::{Ask, Event, Found, Lease, Turn};

use crate::common::server::Server;
use crate::peer::{LONG, Peer, gone, keys, ready, value};

crate::server_tests! {
    a_full_server_leases_nothing
    a_full_server_keeps_nothing_and_ends_the_lease
    a_full_server_removes
    a_full_server_replaces_nothing_but_removes
    a_full_server_begins_no_generation
    a_full_server_does_not_hide_that_somebody_loads
}

fn fill(server: &Server) {
    server.command("CONFIG SET maxmemory 1");
}

fn empty(server: &Server) {
    server.command("CONFIG SET maxmemory 0");
}

async fn a_full_server_leases_nothing() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    a.load("ann", "1").await;
    fill(&server);
    assert_eq!(a.get("bob").await, Found::Absent(Turn::Full));
    value(a.get("ann").await, "1", Turn::Nobodys);
    value(a.get_stale_below("ann", 2 * LONG).await, "1", Turn::Full);
    empty(&server);
    assert_eq!(a.get("bob").await, Found::Absent(Turn::Mine));
}

async fn a_full_server_keeps_nothing_and_ends_the_lease() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let keys = keys(&["ann", "bob"]);
    a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    b.session.get_or_lease(&keys, b.ask()).await.unwrap();
    fill(&server);
    let values: Vec<_> = keys.iter().map(|key| (key.clone(), b"1".to_vec())).collect();
    assert_eq!(a.session.put(Lease(1), &values, LONG).await.unwrap(), [false, false]);
    assert_eq!(b.next().await, ready(&["ann", "bob"]));
    empty(&server);
    for key in ["ann", "bob"] {
        assert_eq!(b.get(key).await, Found::Absent(Turn::Mine));
    }
}

async fn a_full_server_removes() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    a.load("bob", "1").await;
    fill(&server);
    a.remove("ann").await;
    assert_eq!(b.next().await, gone(&["ann"]));
    // There is nothing to be freed any more.
    a.remove("ann").await;
    assert_eq!(b.next().await, gone(&["ann"]));
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Full));
    a.session.remove_all().await.unwrap();
    assert_eq!(b.next().await, Some(Event::AllGone));
    assert_eq!(b.get("bob").await, Found::Absent(Turn::Full));
    a.session.remove_all().await.unwrap();
    assert_eq!(b.next().await, Some(Event::AllGone));
    b.hears_nothing().await;
}

async fn a_full_server_replaces_nothing_but_removes() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    b.get("bob").await;
    fill(&server);
    for key in ["ann", "bob"] {
        assert!(!a.try_replace(key, "2").await);
        assert_eq!(b.next().await, gone(&[key]));
        assert_eq!(b.get(key).await, Found::Absent(Turn::Full));
    }
    empty(&server);
    assert!(!b.put("bob", "3").await);
    b.hears_nothing().await;
}

async fn a_full_server_begins_no_generation() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    fill(&server);
    let asked = keys(&["ann", "bob"]);
    let found = a.session.get_or_lease(&asked, a.ask()).await.unwrap();
    assert_eq!(found, [Found::Absent(Turn::Full), Found::Absent(Turn::Full)]);
    assert!(!a.put("ann", "1").await);
    a.release("ann").await;
    a.remove("ann").await;
    assert_eq!(b.next().await, gone(&["ann"]));
    assert!(!a.try_replace("ann", "2").await);
    assert_eq!(b.next().await, gone(&["ann"]));
    a.session.remove_all().await.unwrap();
    assert_eq!(b.next().await, Some(Event::AllGone));
    // One can connect to it.
    Peer::connect(&server, 3).await;
    empty(&server);
    a.load("ann", "1").await;
    b.hears_nothing().await;
}

async fn a_full_server_does_not_hide_that_somebody_loads() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.get("ann").await;
    fill(&server);
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Anothers));
    let ask = Ask { lease: Lease(1), ..b.ask() };
    assert_eq!(b.try_get("bob", ask).await.unwrap(), Found::Absent(Turn::Full));
}
