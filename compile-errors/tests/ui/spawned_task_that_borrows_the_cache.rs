//! A task that borrows the cache, of which it needs a handle of its own.

use async_lru::AsyncLru;

fn spawn(_task: impl Future<Output = ()> + Send + 'static) {}

fn main() {
    let cache = AsyncLru::<u64, u64>::new(10);
    spawn(async {
        cache.get_or_insert_with(1, async || 10).await;
    });
}
