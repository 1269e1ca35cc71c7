//! Who may load, and whose load is kept.

use std::time::Duration;

use async_lru_tier::store::{Ask, Found, Lease, Turn};

use crate::common::server::Server;
use crate::common::sleep;
use crate::peer::{LONG, Peer, gone, keys, ready, value};

crate::server_tests! {
    a_key_that_is_absent_is_leased_to_one
    a_value_that_is_stale_is_leased_to_one
    a_lease_that_is_given_up_is_anothers
    a_lease_is_over_when_its_time_is
    a_lease_holds_for_a_moment_at_least
    a_removal_ends_the_lease
    a_replacement_ends_the_lease
    a_claim_keeps_nobody_from_loading
    a_removal_ends_the_claim
    removing_all_ends_the_lease
    some_of_many_are_kept
    who_waits_for_a_lease_is_told_of_its_end
    who_does_not_wait_is_not_told
    a_lease_is_kept_by_who_asks_again
}

async fn a_key_that_is_absent_is_leased_to_one() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
    for _ in 0..2 {
        assert_eq!(b.get("ann").await, Found::Absent(Turn::Anothers));
    }
    // It is not kept either what that one has loaded all the same.
    assert!(!b.put("ann", "2").await);
    assert!(a.put("ann", "1").await);
    value(b.get("ann").await, "1", Turn::Nobodys);
    // Once.
    assert!(!a.put("ann", "3").await);
    value(b.get("ann").await, "1", Turn::Nobodys);
}

async fn a_value_that_is_stale_is_leased_to_one() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    value(a.get_stale_below("ann", LONG / 2).await, "1", Turn::Nobodys);
    value(a.get_stale_below("ann", LONG * 2).await, "1", Turn::Mine);
    value(b.get_stale_below("ann", LONG * 2).await, "1", Turn::Anothers);
    value(b.get("ann").await, "1", Turn::Nobodys);
    assert!(a.put_for("ann", "2", LONG * 4).await);
    value(b.get_stale_below("ann", LONG * 2).await, "2", Turn::Nobodys);
}

async fn a_lease_that_is_given_up_is_anothers() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.get("ann").await;
    b.release("ann").await;
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Anothers));
    a.release("ann").await;
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    a.release("ann").await;
    assert!(b.put("ann", "2").await);
}

async fn a_lease_is_over_when_its_time_is() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let short = Ask { lease_for: Duration::from_millis(50), ..a.ask() };
    a.try_get("ann", short).await.unwrap();
    a.try_get("bob", short).await.unwrap();
    // Waiting for it does not make it longer.
    b.get("ann").await;
    sleep(Duration::from_millis(60)).await;
    assert!(!a.put("ann", "1").await);
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    assert_eq!(b.get("bob").await, Found::Absent(Turn::Mine));
    assert!(!a.put("bob", "1").await);
    assert!(b.put("bob", "2").await);
}

async fn a_lease_holds_for_a_moment_at_least() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    let none = Ask { lease_for: Duration::ZERO, ..a.ask() };
    assert_eq!(a.try_get("ann", none).await.unwrap(), Found::Absent(Turn::Mine));
    sleep(Duration::from_millis(5)).await;
    assert!(!a.put("ann", "1").await);
}

async fn a_removal_ends_the_lease() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.get("ann").await;
    b.remove("ann").await;
    assert!(!a.put("ann", "1").await);
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    // One's own as well.
    b.remove("ann").await;
    assert!(!b.put("ann", "2").await);
}

async fn a_replacement_ends_the_lease() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.get("ann").await;
    b.replace("ann", "2").await;
    assert!(!a.put("ann", "1").await);
    value(a.get("ann").await, "2", Turn::Nobodys);
}

async fn a_claim_keeps_nobody_from_loading() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.session.remove(&keys(&["ann"]), a.claim()).await.unwrap();
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    assert!(!a.put("ann", "1").await);
    assert!(b.put("ann", "2").await);
    value(a.get("ann").await, "2", Turn::Nobodys);
}

async fn a_removal_ends_the_claim() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.session.remove(&keys(&["ann"]), a.claim()).await.unwrap();
    b.session.remove(&keys(&["ann"]), b.claim()).await.unwrap();
    assert!(!a.put("ann", "1").await);
    assert!(b.put("ann", "2").await);
}

async fn removing_all_ends_the_lease() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.get("ann").await;
    b.session.remove_all().await.unwrap();
    assert!(!a.put("ann", "1").await);
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    a.release("ann").await;
    assert!(b.put("ann", "2").await);
}

async fn some_of_many_are_kept() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let keys = keys(&["ann", "bob", "eve", "joe"]);
    b.get("joe").await;
    a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    b.remove("ann").await;
    b.replace("eve", "2").await;
    let values: Vec<_> = keys.iter().map(|key| (key.clone(), b"1".to_vec())).collect();
    let kept = a.session.put(Lease(1), &values, LONG).await.unwrap();
    assert_eq!(kept, [false, true, false, false]);
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
    value(a.get("bob").await, "1", Turn::Nobodys);
    value(a.get("eve").await, "2", Turn::Nobodys);
    assert_eq!(a.get("joe").await, Found::Absent(Turn::Anothers));
}

async fn who_waits_for_a_lease_is_told_of_its_end() {
    let server = Server::start();
    let (mut a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    for key in ["ann", "bob"] {
        a.get(key).await;
        b.get(key).await;
    }
    assert!(a.put("ann", "1").await);
    assert_eq!(b.next().await, ready(&["ann"]));
    a.release("bob").await;
    assert_eq!(b.next().await, ready(&["bob"]));
    // Who puts knows it.
    a.hears_nothing().await;
    b.hears_nothing().await;
}

async fn who_does_not_wait_is_not_told() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    a.get("bob").await;
    a.release("bob").await;
    // Whose lease is lost, tells nothing of it: who waits has heard of the removal.
    a.get("eve").await;
    b.get("eve").await;
    a.remove("eve").await;
    assert!(!a.put("eve", "1").await);
    a.release("eve").await;
    assert_eq!(b.next().await, gone(&["eve"]));
    b.hears_nothing().await;
}

async fn a_lease_is_kept_by_who_asks_again() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let short = Ask { lease_for: Duration::from_millis(50), ..a.ask() };
    a.try_get("ann", short).await.unwrap();
    b.get("ann").await;
    // From now on.
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
    sleep(Duration::from_millis(60)).await;
    // That somebody waits is not forgotten.
    assert!(a.put("ann", "1").await);
    assert_eq!(b.next().await, ready(&["ann"]));
}
