//! What is told, and what happens if it is not.

use async_lru_tier::store::{Event, Found, Turn};

use crate::common::server::Server;
use crate::peer::{Peer, gone, keys, value};

crate::server_tests! {
    others_hear_of_each_removal_once_and_in_order
    a_message_that_is_missing_ends_the_link_with_the_next
    a_message_that_is_missing_ends_the_link_with_a_sign_of_life
    a_message_that_is_none_ends_the_link
    a_forgotten_number_ends_the_link
    a_forgotten_generation_is_a_cold_store
    a_server_that_is_emptied_is_a_cold_store
    a_link_begins_at_any_number
}

async fn others_hear_of_each_removal_once_and_in_order() {
    let server = Server::start();
    let mut peers = Vec::new();
    for number in 0..3 {
        peers.push(Peer::connect(&server, number).await);
    }
    for round in 0..30 {
        let key = round.to_string();
        match round % 10 {
            9 => peers[round % 3].session.remove_all().await.unwrap(),
            8 => peers[round % 3].replace(&key, "1").await,
            _ => peers[round % 3].remove(&key).await,
        }
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        for round in (0..30).filter(|round| round % 3 != number) {
            let expected =
                if round % 10 == 9 { Some(Event::AllGone) } else { gone(&[&round.to_string()]) };
            assert_eq!(peer.next().await, expected);
        }
        peer.hears_nothing().await;
    }
}

async fn a_message_that_is_missing_ends_the_link_with_the_next() {
    let server = Server::start();
    let (mut a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.remove("ann").await;
    assert_eq!(b.next().await, gone(&["ann"]));
    server.command(&format!("INCR {}", server.name("users:3:*:seq")));
    // It may see already then that a message is missing before its own.
    let _ = a.session.remove(&keys(&["bob"]), None).await;
    b.is_lost().await;
    a.is_lost().await;
    let c = Peer::connect(&server, 3).await;
    c.load("ann", "1").await;
}

async fn a_message_that_is_missing_ends_the_link_with_a_sign_of_life() {
    let server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    a.remove("ann").await;
    a.session.ping().await.unwrap();
    server.command(&format!("INCR {}", server.name("users:3:*:seq")));
    assert!(a.session.ping().await.is_err());
    a.is_lost().await;
}

async fn a_message_that_is_none_ends_the_link() {
    let server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    a.remove("ann").await;
    let name = server.name("users:3:*:seq");
    let channel = name.replace(":seq", ":msg:0");
    // Told to nobody.
    server.command(&format!("PUBLISH {} nonsense", channel.replace(":0", ":1")));
    a.hears_nothing().await;
    server.command(&format!("PUBLISH {channel} nonsense"));
    a.is_lost().await;
}

async fn a_forgotten_number_ends_the_link() {
    let server = Server::start();
    let (mut a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.remove("ann").await;
    assert_eq!(b.next().await, gone(&["ann"]));
    server.command(&format!("DEL {}", server.name("users:3:*:seq")));
    assert!(a.session.ping().await.is_err());
    a.is_lost().await;
    let c = Peer::connect(&server, 3).await;
    c.remove("bob").await;
    b.is_lost().await;
}

async fn a_forgotten_generation_is_a_cold_store() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    let forget = || server.command(&format!("DEL {}", server.name("users:3:*:gen")));
    forget();
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    // With any other call as the first.
    forget();
    assert!(!b.put("ann", "2").await);
    forget();
    b.release("ann").await;
    forget();
    b.remove("ann").await;
    forget();
    b.replace("ann", "2").await;
    value(a.get("ann").await, "2", Turn::Nobodys);
    forget();
    b.session.remove_all().await.unwrap();
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
    assert!(a.put("ann", "1").await);
}

async fn a_server_that_is_emptied_is_a_cold_store() {
    let server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    a.load("ann", "1").await;
    server.command("FLUSHALL");
    // Nothing was told yet, so that there is no message to be missed.
    a.hears_nothing().await;
    a.load("ann", "2").await;
    a.remove("bob").await;
    server.command("FLUSHALL");
    assert!(a.session.ping().await.is_err());
    a.is_lost().await;
}

async fn a_link_begins_at_any_number() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    a.remove("ann").await;
    // More digits than a number of Lua shows by itself.
    server.command(&format!("SET {} 9007199254740000", server.name("users:3:*:seq")));
    let (mut b, mut c) = (Peer::connect(&server, 2).await, Peer::connect(&server, 3).await);
    for key in ["ann", "bob"] {
        b.remove(key).await;
        assert_eq!(c.next().await, gone(&[key]));
    }
    b.hears_nothing().await;
    c.hears_nothing().await;
}
