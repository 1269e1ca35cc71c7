//! Each call, where nothing goes wrong.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_lru_tier::store::{Ask, Event, Found, Instance, Lease, Space, Turn};
use async_lru_tier::{Key, RedisStore, Store};

use crate::common::server::Server;
use crate::common::sleep;
use crate::peer::{LONG, Peer, gone, keys, value};

crate::server_tests! {
    what_is_put_is_found_with_the_time_that_it_has_left
    a_value_is_gone_when_its_time_is_over
    a_value_without_time_is_not_kept
    any_time_is_taken
    what_is_removed_is_gone
    what_is_replaced_is_found
    all_is_removed_at_once
    something_else_under_the_name_of_a_value_is_foreign
    something_else_under_the_name_of_a_lease_is_none
    a_value_without_end_is_stale
    answers_are_in_the_order_of_the_keys
    no_keys_are_no_call
    keys_and_values_may_have_any_bytes
    ten_thousand_keys_at_once
    many_large_values_at_once
    a_value_that_is_too_large_is_not_kept
    spaces_and_databases_are_apart
    a_forgotten_script_is_sent_again
    a_future_may_be_dropped_at_any_time
}

async fn what_is_put_is_found_with_the_time_that_it_has_left() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    for peer in [&a, &b] {
        let left = value(peer.get("ann").await, "1", Turn::Nobodys);
        assert!(left <= LONG && left > LONG - Duration::from_secs(30), "{left:?}");
    }
}

async fn a_value_is_gone_when_its_time_is_over() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    a.get("ann").await;
    assert!(a.put_for("ann", "1", Duration::from_millis(50)).await);
    sleep(Duration::from_millis(60)).await;
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
}

async fn a_value_without_time_is_not_kept() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    for ttl in [Duration::ZERO, Duration::from_nanos(999_999)] {
        a.session.remove(&[Key::of("ann")], a.claim()).await.unwrap();
        assert!(!a.put_for("ann", "2", ttl).await);
        assert_eq!(b.next().await, gone(&["ann"]));
        assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
        assert!(!a.put_for("ann", "3", ttl).await);
        // The lease is given back.
        assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
        b.release("ann").await;
    }
}

async fn any_time_is_taken() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    let ask = Ask { lease_for: Duration::MAX, stale_below: Duration::MAX, ..a.ask() };
    assert_eq!(a.try_get("ann", ask).await.unwrap(), Found::Absent(Turn::Mine));
    assert!(a.put_for("ann", "1", Duration::MAX).await);
    a.session.remove(&[Key::of("ann")], a.claim()).await.unwrap();
    assert!(a.put_for("ann", "2", Duration::MAX).await);
    value(a.get("ann").await, "2", Turn::Nobodys);
    // Even that is not long enough a moment later.
    sleep(Duration::from_millis(2)).await;
    value(a.try_get("ann", ask).await.unwrap(), "2", Turn::Mine);
}

async fn what_is_removed_is_gone() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    a.load("bob", "2").await;
    a.session.remove(&keys(&["ann", "eve"]), None).await.unwrap();
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    value(b.get("bob").await, "2", Turn::Nobodys);
    assert_eq!(b.next().await, gone(&["ann", "eve"]));
    b.hears_nothing().await;
}

async fn what_is_replaced_is_found() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    // What is there, what is leased, and what is not there.
    a.load("ann", "1").await;
    a.get("bob").await;
    for key in ["ann", "bob", "eve"] {
        a.replace(key, "2").await;
        let left = value(b.get(key).await, "2", Turn::Nobodys);
        assert!(left <= LONG && left > LONG - Duration::from_secs(30), "{left:?}");
        assert_eq!(b.next().await, gone(&[key]));
    }
    b.hears_nothing().await;
}

async fn all_is_removed_at_once() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    a.load("bob", "2").await;
    for _ in 0..2 {
        a.session.remove_all().await.unwrap();
        assert_eq!(b.next().await, Some(Event::AllGone));
        for key in ["ann", "bob"] {
            assert_eq!(b.get(key).await, Found::Absent(Turn::Mine));
        }
    }
    assert!(b.put("ann", "3").await);
    value(a.get("ann").await, "3", Turn::Nobodys);
    b.hears_nothing().await;
}

async fn something_else_under_the_name_of_a_value_is_foreign() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    let name = server.name("users:3:*:v:ann");
    let replaced = || {
        server.command(&format!("DEL {name}"));
        server.command(&format!("RPUSH {name} something else"));
    };
    replaced();
    assert_eq!(a.get("ann").await, Found::Foreign(Turn::Mine));
    assert_eq!(b.get("ann").await, Found::Foreign(Turn::Anothers));
    assert!(a.put("ann", "2").await);
    value(b.get("ann").await, "2", Turn::Nobodys);
    replaced();
    a.replace("ann", "3").await;
    value(b.get("ann").await, "3", Turn::Nobodys);
    replaced();
    a.remove("ann").await;
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
}

async fn something_else_under_the_name_of_a_lease_is_none() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.get("ann").await;
    let name = server.name("users:3:*:l:ann");
    server.command(&format!("DEL {name}"));
    server.command(&format!("RPUSH {name} something else"));
    a.release("ann").await;
    assert!(!a.put("ann", "1").await);
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    assert!(b.put("ann", "2").await);
}

async fn a_value_without_end_is_stale() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    a.load("ann", "1").await;
    server.command(&format!("PERSIST {}", server.name("users:3:*:v:ann")));
    assert_eq!(value(a.get("ann").await, "1", Turn::Mine), Duration::ZERO);
    assert!(a.put("ann", "2").await);
    assert!(value(a.get("ann").await, "2", Turn::Nobodys) > Duration::ZERO);
}

async fn answers_are_in_the_order_of_the_keys() {
    let server = Server::start();
    let (a, b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    a.load("value", "1").await;
    a.load("list", "1").await;
    b.get("leased").await;
    let name = server.name("users:3:*:v:list");
    server.command(&format!("DEL {name}"));
    server.command(&format!("RPUSH {name} 1"));
    let asked = keys(&["absent", "value", "leased", "list", "value", "absent"]);
    let mut found = a.session.get_or_lease(&asked, a.ask()).await.unwrap();
    value(found.remove(1), "1", Turn::Nobodys);
    value(found.remove(3), "1", Turn::Nobodys);
    assert_eq!(
        found,
        [
            Found::Absent(Turn::Mine),
            Found::Absent(Turn::Anothers),
            Found::Foreign(Turn::Mine),
            // Who asks twice with one lease has it.
            Found::Absent(Turn::Mine)
        ]
    );
}

async fn no_keys_are_no_call() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    assert_eq!(a.session.get_or_lease(&[], a.ask()).await.unwrap(), []);
    assert!(a.session.put(Lease(1), &[], LONG).await.unwrap().is_empty());
    a.session.release(Lease(1), &[]).await.unwrap();
    a.session.remove(&[], None).await.unwrap();
    b.hears_nothing().await;
}

async fn keys_and_values_may_have_any_bytes() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let all: Vec<u8> = (0..=255).collect();
    let mut names: Vec<&[u8]> = all.chunks(100).collect();
    names.extend([b"".as_slice(), b"3:ann", b":", b"\r\n", &all]);
    let keys: Vec<Key> = names.iter().map(|name| Key::from_name(name)).collect();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), names.len());
    a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    // Has them told in a message of that kind too.
    b.session.get_or_lease(&keys, b.ask()).await.unwrap();
    let values: Vec<_> = keys.iter().map(|key| (key.clone(), key.as_ref().to_vec())).collect();
    assert_eq!(a.session.put(Lease(1), &values, LONG).await.unwrap(), vec![true; keys.len()]);
    assert_eq!(b.next().await, Some(Event::Ready(keys.clone())));
    let found = b.session.get_or_lease(&keys, b.ask()).await.unwrap();
    for (found, key) in found.iter().zip(&keys) {
        assert!(matches!(found, Found::Value { bytes, .. } if bytes == key.as_ref()), "{found:?}");
    }
    a.session.remove(&keys, None).await.unwrap();
    assert_eq!(b.next().await, Some(Event::Gone(keys)));
}

async fn ten_thousand_keys_at_once() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let keys: Vec<Key> = (0..10_000_u32).map(|number| Key::of(&number)).collect();
    let values: Vec<_> = keys.iter().map(|key| (key.clone(), key.as_ref().to_vec())).collect();
    let found = a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    assert_eq!(found, vec![Found::Absent(Turn::Mine); keys.len()]);
    assert_eq!(a.session.put(Lease(1), &values, LONG).await.unwrap(), vec![true; keys.len()]);
    let found = b.session.get_or_lease(&keys, b.ask()).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (found, key) in found.into_iter().zip(&keys) {
        value(found, std::str::from_utf8(key.as_ref()).unwrap(), Turn::Nobodys);
    }
    a.session.remove(&keys, None).await.unwrap();
    let mut told = Vec::new();
    while told.len() < keys.len() {
        let Some(Event::Gone(some)) = b.next().await else { panic!("it ends") };
        told.extend(some);
    }
    assert_eq!(told, keys);
    let found = b.session.get_or_lease(&keys, b.ask()).await.unwrap();
    assert_eq!(found, vec![Found::Absent(Turn::Mine); keys.len()]);
    b.session.release(Lease(2), &keys).await.unwrap();
    let found = a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    assert_eq!(found, vec![Found::Absent(Turn::Mine); keys.len()]);
}

async fn many_large_values_at_once() {
    let server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    let large = "x".repeat(1 << 20);
    let keys: Vec<Key> = (0..100).map(|number: u32| Key::of(&number)).collect();
    a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    let values: Vec<_> = keys.iter().map(|key| (key.clone(), large.clone().into_bytes())).collect();
    assert_eq!(a.session.put(Lease(1), &values, LONG).await.unwrap(), vec![true; keys.len()]);
    // In one call, and in as many at once: the server closes a connection that it has too much to send to.
    let found = a.session.get_or_lease(&keys, a.ask()).await.unwrap();
    assert_eq!(found.len(), keys.len());
    let mut calls: Vec<_> =
        keys.iter().map(|key| a.session.get_or_lease(std::slice::from_ref(key), a.ask())).collect();
    let mut done = 0;
    poll_fn(|context| {
        calls.retain_mut(|call| match call.as_mut().poll(context) {
            Poll::Ready(found) => {
                assert!(matches!(found.unwrap()[..], [Found::Value { .. }]));
                done += 1;
                false
            }
            Poll::Pending => true,
        });
        if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    assert_eq!(done, keys.len());
    drop(calls);
    a.hears_nothing().await;
}

async fn a_value_that_is_too_large_is_not_kept() {
    let server = Server::start();
    let (a, mut b) = (Peer::connect(&server, 1).await, Peer::connect(&server, 2).await);
    let large = "x".repeat(16 << 20);
    a.load("ann", &large).await;
    value(b.get("ann").await, &large, Turn::Nobodys);
    let too_large = large + "x";
    assert!(!a.try_replace("ann", &too_large).await);
    assert_eq!(b.next().await, gone(&["ann"]));
    assert_eq!(a.get("ann").await, Found::Absent(Turn::Mine));
    assert!(!a.put("ann", &too_large).await);
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
    assert!(b.put("ann", "1").await);
    // Put by somebody else.
    let name = server.name("users:3:*:v:ann");
    let mut set = redis::cmd("SET");
    set.arg(name).arg(too_large).exec(&mut server.admin()).unwrap();
    assert_eq!(a.get("ann").await, Found::Foreign(Turn::Mine));
    b.hears_nothing().await;
}

async fn spaces_and_databases_are_apart() {
    let server = Server::start();
    let connect = async |url: &str, namespace, number| {
        Peer::connect_to(&format!("{}{url}", server.url()), namespace, number).await.unwrap()
    };
    let a = connect("", "users", 1).await;
    let mut others =
        [connect("", "teams", 2).await, connect("5", "users", 3).await, connect("", "", 4).await];
    a.load("ann", "1").await;
    for other in &others {
        other.load("ann", "2").await;
    }
    a.remove("ann").await;
    a.session.remove_all().await.unwrap();
    for other in &mut others {
        other.hears_nothing().await;
        value(other.get("ann").await, "2", Turn::Nobodys);
    }
    // Another version is another space.
    let store = RedisStore::open(&server.url()).unwrap();
    let newer = store.connect(&Space::new("users", 4), Instance(5)).await.unwrap();
    a.load("ann", "1").await;
    let found = newer.session.get_or_lease(&keys(&["ann"]), a.ask()).await.unwrap();
    assert_eq!(found, [Found::Absent(Turn::Mine)]);
}

async fn a_forgotten_script_is_sent_again() {
    let server = Server::start();
    let a = Peer::connect(&server, 1).await;
    for _ in 0..2 {
        server.command("SCRIPT FLUSH");
        a.get("ann").await;
        server.command("SCRIPT FLUSH");
        assert!(a.put("ann", "1").await);
        server.command("SCRIPT FLUSH");
        a.release("ann").await;
        server.command("SCRIPT FLUSH");
        a.replace("ann", "2").await;
        server.command("SCRIPT FLUSH");
        a.remove("ann").await;
        server.command("SCRIPT FLUSH");
        a.session.remove_all().await.unwrap();
        server.command("SCRIPT FLUSH");
        a.session.ping().await.unwrap();
    }
}

/// Polls a future some times, and drops it; tells whether it was done.
async fn polled(times: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..times {
        let done = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if done {
            return true;
        }
        sleep(Duration::from_micros(300)).await;
    }
    false
}

async fn a_future_may_be_dropped_at_any_time() {
    let server = Server::start();
    let mut a = Peer::connect(&server, 1).await;
    let keys = keys(&["ann", "bob"]);
    let values = [(keys[0].clone(), b"1".to_vec())];
    let mut finished = 0;
    for times in 0..20 {
        // So that there are more steps to be dropped at.
        server.command("SCRIPT FLUSH");
        let session = &a.session;
        finished += usize::from(polled(times, session.get_or_lease(&keys, a.ask())).await);
        finished += usize::from(polled(times, session.put(Lease(1), &values, LONG)).await);
        finished += usize::from(polled(times, session.release(Lease(1), &keys)).await);
        finished += usize::from(polled(times, session.remove(&keys, a.claim())).await);
        finished += usize::from(polled(times, session.remove(&keys, None)).await);
        finished += usize::from(polled(times, session.remove_all()).await);
        finished += usize::from(polled(times, session.ping()).await);
        finished += usize::from(polled(times, a.events.next()).await);

        // Whichever of them took effect.
        a.remove("ann").await;
        a.load("ann", "3").await;
        a.hears_nothing().await;
    }
    assert!(finished > 0, "no call was polled to its end");
    // The connecting too leaves nothing.
    let store = RedisStore::open(&server.url()).unwrap();
    let (space, mut connected) = (Space::new("users", 3), false);
    for times in 0..40 {
        connected |= polled(times, store.connect(&space, Instance(2))).await;
    }
    assert!(connected, "no connecting was polled to its end");
    crate::faults::has_connections(&server, 1).await;
}
