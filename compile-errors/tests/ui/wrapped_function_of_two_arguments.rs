//! A function of two arguments, which are to be one tuple.

use async_lru::AsyncLru;

async fn sum(a: u64, b: u64) -> u64 {
    a + b
}

fn main() {
    let _ = AsyncLru::builder().wrap(sum);
}
