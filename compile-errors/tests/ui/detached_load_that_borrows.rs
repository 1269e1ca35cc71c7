//! A load that lives in the cache, and borrows what lives in a function.

use async_lru::AsyncLru;

struct Db;

impl Db {
    async fn name(&self, id: u64) -> String {
        id.to_string()
    }
}

async fn name(cache: &AsyncLru<u64, String>, db: &Db) -> String {
    cache.entry(1).detached().or_insert_with(|| db.name(1)).await.value
}

fn main() {
    let _ = name(&AsyncLru::new(10), &Db);
}
