//! A load that may fail, and does not say how.

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let _ = cache.try_get_or_insert_with(1, async || Ok(10));
}
