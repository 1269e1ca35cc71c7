//! Connections that are closed when they leave the cache, by a task that hears of them through a channel.

use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, RemovalCause};
use tokio::sync::mpsc;

/// A connection to another service.
struct Connection {
    user: String,
}

/// Tells the other service, which takes its time.
async fn close(connection: &Connection) {
    tokio::time::sleep(Duration::from_millis(2)).await;
    println!("closed the connection of {}", connection.user);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (removals, mut removed) = mpsc::unbounded_channel();
    let clock = ManualClock::new();
    let connections = AsyncLru::<String, Arc<Connection>>::builder()
        .maxsize(2)
        .shards(1)
        .ttl(Duration::from_secs(60))
        .clock(clock.clone())
        // The listener is short: whoever makes a connection leave waits for it.
        .on_remove(move |_user, connection, cause| {
            // Fails once the task is gone, and then nobody wants to know.
            let _ = removals.send((connection, cause));
        })
        .build();

    let closing = tokio::spawn(async move {
        let mut closed = Vec::new();
        while let Some((connection, cause)) = removed.recv().await {
            close(&connection).await;
            closed.push((connection.user.clone(), cause));
        }
        closed
    });

    let open = async |user: &str| {
        let connection = async || Arc::new(Connection { user: user.to_owned() });
        connections.get_or_insert_with_ref(user, connection).await
    };
    open("ann").await;
    open("bob").await;
    // In a full cache the connection used least recently has to go.
    open("eve").await;
    // The caller gets a clone of what is removed, here of an `Arc`.
    let bob = connections.remove("bob").await;
    assert!(bob.is_some_and(|connection| connection.user == "bob"));
    clock.advance(Duration::from_secs(60));
    assert_eq!(connections.purge_expired().await, 1);
    open("dan").await;
    // What a dropped cache holds is not reported: so it is cleared first.
    connections.clear().await;

    // With the cache goes the listener, with it the channel, and the task ends.
    drop(connections);
    let closed = closing.await.expect("it does not panic");
    let expected = [
        ("ann", RemovalCause::Capacity),
        ("bob", RemovalCause::Removed),
        ("eve", RemovalCause::Expired),
        ("dan", RemovalCause::Cleared),
    ];
    assert_eq!(closed, expected.map(|(user, cause)| (user.to_owned(), cause)));
    for (user, cause) in closed {
        println!("{user}: {cause}");
    }
}
