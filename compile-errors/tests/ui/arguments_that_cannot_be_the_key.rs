//! A wrapped function whose arguments are the key and cannot be cloned.

use async_lru::AsyncLru;

#[derive(PartialEq, Eq, Hash)]
struct Query(String);

fn main() {
    let _ = AsyncLru::builder().wrap(|query: Query| async move { query.0 });
}
