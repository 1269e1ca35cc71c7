//! A key that does not equal itself.

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<f64, u64>::new(10);
    let _ = cache.get_or_insert_with(1.5, async || 10);
}
