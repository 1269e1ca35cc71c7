//! A stock price that is kept for a minute, on smol.
//!
//! Time is the program's own: a [`ManualClock`] goes on when it is told to, so
//! that a minute takes no minute. A service leaves `.clock(..)` out.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};

/// A market whose price rises by one cent with every request.
#[derive(Default)]
struct Market {
    requests: AtomicU32,
}

impl Market {
    /// Asks for the price of `symbol`, in cents.
    async fn price(&self, symbol: &str) -> u32 {
        smol::Timer::after(Duration::from_millis(5)).await;
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        100 * symbol.len() as u32 + requests
    }
}

fn main() {
    smol::block_on(async {
        let market = Market::default();
        let clock = ManualClock::new();
        let prices = AsyncLru::builder()
            .maxsize(50)
            .ttl(Duration::from_secs(60))
            .clock(clock.clone())
            .wrap_local(async |symbol: String| market.price(&symbol).await);
        let apple = || prices.call("AAPL".to_owned());

        let first = apple().await;
        println!("  0 s: {first} cents, asked for");

        clock.advance(Duration::from_secs(59));
        let kept = apple().await;
        println!(" 59 s: {kept} cents, from the cache");
        assert_eq!(kept, first);

        // At 60 s exactly the price is gone.
        clock.advance(Duration::from_secs(1));
        let fresh = apple().await;
        println!(" 60 s: {fresh} cents, asked for anew");
        assert_eq!(fresh, first + 1);

        let stats = prices.stats();
        println!("hits: {}, misses: {}, expired: {}", stats.hits, stats.misses, stats.expirations);
        assert_eq!((stats.hits, stats.misses, stats.expirations), (1, 2, 1));
        assert_eq!(market.requests.load(Ordering::Relaxed), 2);
    });
}
