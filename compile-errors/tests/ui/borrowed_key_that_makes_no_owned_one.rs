//! A borrowed key of which `ToOwned` makes another type than that of the cache's keys.

use std::sync::Arc;

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<Arc<str>, u64>::new(10);
    let _ = cache.get_or_insert_with_ref("a", async || 10);
}
