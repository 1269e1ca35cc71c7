//! An extractor whose keys are not those of the cache.

use async_lru::AsyncLru;

fn main() {
    let _ = AsyncLru::<String, u64>::builder().key_extractor(|id: &u64| *id);
}
