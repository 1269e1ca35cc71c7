//! A wrapped function whose futures borrow what it has captured.

use async_lru::AsyncLru;

struct Db;

impl Db {
    async fn name(&self, id: u64) -> String {
        id.to_string()
    }
}

fn main() {
    let db = Db;
    let _ = AsyncLru::builder().wrap(async move |id: u64| db.name(id).await);
}
