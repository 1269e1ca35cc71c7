//! An error that callers share, returned as if it were the caller's own.

use async_lru::AsyncLru;

struct Down;

async fn load() -> Result<u64, Down> {
    Err(Down)
}

async fn number(cache: &AsyncLru<u64, u64>) -> Result<u64, Down> {
    Ok(cache.try_get_or_insert_with(1, load).await?)
}

fn main() {
    let _ = number(&AsyncLru::new(10));
}
