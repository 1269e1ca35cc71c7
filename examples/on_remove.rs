//! Sessions that are closed when they leave the cache, by a task that hears of them through a channel.

use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock, RemovalCause};
use tokio::sync::mpsc;

/// A session with another service.
struct Session {
    user: String,
}

/// Tells the other service, which takes its time.
async fn close(session: &Session) {
    tokio::time::sleep(Duration::from_millis(2)).await;
    println!("closed the session of {}", session.user);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (removals, mut removed) = mpsc::unbounded_channel();
    let clock = ManualClock::new();
    let sessions = AsyncLru::<String, Arc<Session>>::builder()
        .maxsize(2)
        .shards(1)
        .ttl(Duration::from_secs(60))
        .clock(clock.clone())
        // The listener is short: whoever makes a session leave waits for it.
        .on_remove(move |_user, session, cause| {
            // Fails once the task is gone, and then nobody wants to know.
            let _ = removals.send((session, cause));
        })
        .build();

    let closing = tokio::spawn(async move {
        let mut closed = Vec::new();
        while let Some((session, cause)) = removed.recv().await {
            close(&session).await;
            closed.push((session.user.clone(), cause));
        }
        closed
    });

    let open = async |user: &str| {
        let session = async || Arc::new(Session { user: user.to_owned() });
        sessions.get_or_insert_with_ref(user, session).await
    };
    open("ann").await;
    open("bob").await;
    // In a full cache the session used least recently has to go.
    open("eve").await;
    // The caller gets a clone of what is removed, here of an `Arc`.
    let bob = sessions.remove("bob").await;
    assert!(bob.is_some_and(|session| session.user == "bob"));
    clock.advance(Duration::from_secs(60));
    assert_eq!(sessions.purge_expired().await, 1);
    open("dan").await;
    // What a dropped cache holds is not reported: so it is cleared first.
    sessions.clear().await;

    // With the cache goes the listener, with it the channel, and the task ends.
    drop(sessions);
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
