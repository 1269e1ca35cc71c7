//! Values that callers cannot each have.

use async_lru::AsyncLru;

struct Page(String);

fn main() {
    let cache = AsyncLru::<u64, Page>::new(10);
    let _ = cache.get_or_insert_with(1, async || Page(String::new()));
}
