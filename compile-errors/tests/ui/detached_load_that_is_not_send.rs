//! A load that lives in the cache, and cannot go from one thread to another.

use std::rc::Rc;

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let _ = cache.entry(1).detached().or_insert_with(|| async {
        let number = Rc::new(7);
        std::future::ready(()).await;
        *number
    });
}
