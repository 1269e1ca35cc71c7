//! Tests how a service's entries expire under tokio's paused time: a clock over `tokio::time::Instant`, which
//! stands still until the test moves it, or until all tasks sleep.
//!
//! `cargo run --example paused_time` prints what the test sees; a test of one's own is the same with
//! `#[tokio::test(start_paused = true)]`.

use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, Clock};
use tokio::time::{Instant, advance, sleep};

/// What is tested: tokens that an identity provider gives out, each with a lifetime of its own.
struct Tokens {
    cache: AsyncLru<String, Arc<str>>,
}

impl Tokens {
    /// In production the clock is a `SystemClock`.
    fn new(clock: impl Clock) -> Self {
        Self { cache: AsyncLru::builder().maxsize(1_000).clock(clock).build() }
    }

    async fn token(&self, user: &str) -> Arc<str> {
        let ask = async || {
            // A round trip, which takes no time in the test.
            sleep(Duration::from_millis(200)).await;
            (Arc::from(format!("token of {user}")), Duration::from_secs(300))
        };
        self.cache.entry_ref(user).or_insert_timed(ask).await.value
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let start = Instant::now();
    let tokens = Tokens::new(move || start.elapsed());
    let asked = || tokens.cache.stats().loads;

    assert_eq!(&*tokens.token("ann").await, "token of ann");
    println!("asked for once: {} loads", asked());

    advance(Duration::from_secs(299)).await;
    tokens.token("ann").await;
    println!("299 s later: {} loads", asked());
    assert_eq!(asked(), 1);

    advance(Duration::from_secs(1)).await;
    tokens.token("ann").await;
    println!("300 s later: {} loads", asked());
    assert_eq!(asked(), 2);

    // The janitor sleeps by the same time: it frees the entry when that has expired.
    let janitor = tokio::spawn(tokens.cache.janitor(sleep));
    sleep(Duration::from_secs(301)).await;
    println!("another 301 s later: {} entries", tokens.cache.stats().current_size);
    assert_eq!(tokens.cache.stats().current_size, 0);
    janitor.abort();
}
