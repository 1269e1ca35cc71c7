//! Who is let in, and with what rights.

use async_lru_tier::store::{Found, Lease, Turn};
use async_lru_tier::{ErrorKind, Key, StoreError};

use crate::common::server::Server;
use crate::peer::{LONG, Peer, keys};

crate::server_tests! {
    a_password_is_asked_for
    a_replica_is_refused
    few_rights_are_enough
    a_right_that_is_missing_is_told_and_no_key
    a_database_that_is_not_there_is_told
    a_unix_socket_is_as_good
    a_password_may_have_any_characters
    a_namespace_may_have_any_characters
    namespaces_with_one_beginning_share_its_rights
}

fn with_login(server: &Server, login: &str) -> String {
    format!("redis://{login}@127.0.0.1:{}/", server.port())
}

async fn refused(url: &str) -> ErrorKind {
    Peer::connect_to(url, "users", 1).await.err().unwrap().kind()
}

async fn a_password_is_asked_for() {
    let server = Server::with(&["--requirepass", "secret"]);
    assert_eq!(refused(&server.url()).await, ErrorKind::Denied);
    assert_eq!(refused(&with_login(&server, ":wrong")).await, ErrorKind::Denied);
    assert_eq!(refused(&with_login(&server, "nobody:secret")).await, ErrorKind::Denied);
    for login in [":secret", "default:secret"] {
        let a = Peer::connect_to(&with_login(&server, login), "users", 1).await.unwrap();
        a.get("ann").await;
    }
}

async fn a_replica_is_refused() {
    let server = Server::start();
    let port = server.port().to_string();
    let replica = Server::with(&["--replicaof", "127.0.0.1", &port]);
    assert_eq!(refused(&replica.url()).await, ErrorKind::ReadOnly);
    // Also one that can be written, of which its own writes are lost.
    replica.command("CONFIG SET replica-read-only no");
    assert_eq!(refused(&replica.url()).await, ErrorKind::ReadOnly);
}

/// Does all that can be done.
async fn everything(url: &str) -> Result<(), StoreError> {
    let a = Peer::connect_to(url, "users", 1).await?;
    let b = Peer::connect_to(url, "users", 2).await?;
    let keys = keys(&["ann"]);
    a.session.get_or_lease(&keys, a.ask()).await?;
    b.session.get_or_lease(&keys, b.ask()).await?;
    let values = [(keys[0].clone(), b"1".to_vec())];
    a.session.put(Lease(1), &values, LONG).await?;
    a.session.get_or_lease(&keys, a.ask()).await?;
    a.session.remove(&keys, a.claim()).await?;
    a.session.remove(&keys, None).await?;
    a.session.get_or_lease(&keys, a.ask()).await?;
    a.session.release(Lease(1), &keys).await?;
    a.session.remove_all().await?;
    a.session.ping().await
}

/// What an instance needs, with each of them.
const RIGHTS: [&str; 12] = [
    "~users:3:*",
    "&users:3:*",
    "+info",
    "+subscribe",
    "+evalsha",
    "+script|load",
    "+get",
    "+set",
    "+del",
    "+pttl",
    "+incr",
    "+publish",
];

async fn few_rights_are_enough() {
    let server = Server::start();
    let user = |rights: &[&str]| {
        let rights = rights.join(" ");
        server.command(&format!("ACL SETUSER tier reset resetchannels on >secret {rights}"));
        server.command("SCRIPT FLUSH");
        with_login(&server, "tier:secret")
    };
    everything(&user(&RIGHTS)).await.unwrap();
    for missing in RIGHTS {
        let others: Vec<_> = RIGHTS.into_iter().filter(|right| *right != missing).collect();
        let result = everything(&user(&others)).await;
        assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Denied), "{missing}");
    }
}

async fn a_right_that_is_missing_is_told_and_no_key() {
    let server = Server::start();
    server.command("ACL SETUSER tier on >secret ~* &* +@all -info");
    let error = Peer::connect_to(&with_login(&server, "tier:secret"), "users", 1).await.err();
    let shown = format!("{:?}", error.unwrap());
    assert!(shown.contains("info"), "{shown}");

    // Later a server repeats what it was asked.
    server.command("ACL SETUSER tier +info");
    let a = Peer::connect_to(&with_login(&server, "tier:secret"), "users", 1).await.unwrap();
    a.get("secret").await;
    for wrong in ["-set", "-evalsha", "resetkeys"] {
        server.command(&format!("ACL SETUSER tier {wrong}"));
        let error = a.session.remove(&[Key::of("secret")], a.claim()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

async fn a_password_may_have_any_characters() {
    let server = Server::with(&["--requirepass", "p@ss/1 %"]);
    Peer::connect_to(&with_login(&server, ":p%40ss%2F1%20%25"), "users", 1).await.unwrap();
}

async fn a_namespace_may_have_any_characters() {
    let server = Server::start();
    for namespace in ["", "a b", "*", "{a}[b]?", "\u{fc}:\n\0"] {
        let a = Peer::connect_to(&server.url(), namespace, 1).await.unwrap();
        let mut b = Peer::connect_to(&server.url(), namespace, 2).await.unwrap();
        a.load("ann", "1").await;
        assert!(matches!(b.get("ann").await, Found::Value { .. }), "{namespace:?}");
        a.remove("ann").await;
        assert_eq!(b.next().await, crate::peer::gone(&["ann"]), "{namespace:?}");
    }
}

async fn namespaces_with_one_beginning_share_its_rights() {
    let server = Server::start();
    let rights = RIGHTS.join(" ").replace("users:3:*", "prices:*");
    server.command(&format!("ACL SETUSER tier reset resetchannels on >secret {rights}"));
    let url = with_login(&server, "tier:secret");
    for namespace in ["prices", "prices:id", "prices:sku"] {
        let a = Peer::connect_to(&url, namespace, 1).await.unwrap();
        a.load("ann", "1").await;
        a.remove("ann").await;
    }
    assert_eq!(
        Peer::connect_to(&url, "pricey", 1).await.err().map(|error| error.kind()),
        Some(ErrorKind::Denied)
    );
}

async fn a_database_that_is_not_there_is_told() {
    let server = Server::start();
    assert_eq!(refused(&format!("{}999", server.url())).await, ErrorKind::Other);
}

async fn a_unix_socket_is_as_good() {
    let server = Server::start();
    let url = format!("unix://{}", server.socket().display());
    let (a, mut b) =
        (Peer::connect_to(&url, "users", 1).await.unwrap(), Peer::connect(&server, 2).await);
    a.load("ann", "1").await;
    a.remove("ann").await;
    assert_eq!(b.next().await, crate::peer::gone(&["ann"]));
    assert_eq!(b.get("ann").await, Found::Absent(Turn::Mine));
}
