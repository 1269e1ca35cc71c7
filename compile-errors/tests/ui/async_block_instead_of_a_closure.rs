//! A future where a closure is asked for that makes one on a miss.

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let _ = cache.get_or_insert_with(1, async { 10 });
}
