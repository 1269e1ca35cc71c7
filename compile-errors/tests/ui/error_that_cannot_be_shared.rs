//! An error that is for all callers, and cannot go from one thread to another.

use std::rc::Rc;

use async_lru::AsyncLru;

fn main() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let _ = cache.try_get_or_insert_with(1, async || Err(Rc::new("down")));
}
