//! A bound by bytes, of values that nobody can measure.

use async_lru::AsyncLru;

struct User {
    _name: String,
}

fn main() {
    let _ = AsyncLru::<u64, User>::builder().max_bytes(1 << 20).build();
}
