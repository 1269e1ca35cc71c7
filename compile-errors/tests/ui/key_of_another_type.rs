//! A cache of numbers that is asked for a text.

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<u64, String>::new(10);
    let _ = cache.get("7");
}
