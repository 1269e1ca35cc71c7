//! A profile that is updated, invalidated and fetched anew, on async-std.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_lru::AsyncLru;

/// A database that takes its time.
struct Database {
    names: Mutex<HashMap<String, String>>,
}

impl Database {
    async fn load(&self, id: &str) -> Option<Arc<str>> {
        async_std::task::sleep(Duration::from_millis(5)).await;
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(id).map(|name| name.as_str().into())
    }

    async fn store(&self, id: &str, name: &str) {
        async_std::task::sleep(Duration::from_millis(5)).await;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(id.to_owned(), name.to_owned());
    }
}

/// Profiles as a service keeps them: the cache is a field beside its source.
struct Profiles {
    database: Database,
    cache: AsyncLru<String, Option<Arc<str>>>,
}

impl Profiles {
    async fn name(&self, id: &str) -> Option<Arc<str>> {
        // `_ref` makes a `String` of the id only when it is not cached.
        self.cache.get_or_insert_with_ref(id, async || self.database.load(id).await).await
    }

    /// Changes a name.
    async fn rename(&self, id: &str, name: &str) {
        // From here on nothing of the id is cached, be it that a load has read the old name, or that this
        // call is dropped while the database may have stored the new one.
        let writing = self.cache.writing(id);
        self.database.store(id, name).await;
        writing.insert(Some(name.into())).await;
    }

    /// Notes that somebody else has changed a name, and says whether an older one was cached.
    async fn forget(&self, id: &str) -> bool {
        // A load that is under way is fenced off, and its result is not cached.
        self.cache.invalidate(id).await
    }
}

fn main() {
    async_std::task::block_on(run());
}

async fn run() {
    let names = HashMap::from([("user123".to_owned(), "Ada".to_owned())]);
    let profiles =
        Profiles { database: Database { names: Mutex::new(names) }, cache: AsyncLru::new(200) };

    let loaded = profiles.name("user123").await;
    let cached = profiles.name("user123").await;
    println!("before the update: {loaded:?}, then from the cache {cached:?}");
    assert_eq!(loaded.as_deref(), Some("Ada"));
    assert_eq!(cached, loaded);

    profiles.rename("user123", "Ada Lovelace").await;
    let renamed = profiles.name("user123").await;
    println!("after the update:  {renamed:?}, from the cache");
    assert_eq!(renamed.as_deref(), Some("Ada Lovelace"));

    // Dropped in the middle of a write: nobody knows whether the database has the new name.
    let mut write = Box::pin(profiles.rename("user123", "Countess"));
    assert!(futures_lite::future::poll_once(&mut write).await.is_none());
    drop(write);
    assert_eq!(profiles.cache.get("user123"), None);
    let fresh = profiles.name("user123").await;
    println!("after a dropped one: {fresh:?}, from the database");
    assert_eq!(fresh.as_deref(), Some("Ada Lovelace"));

    profiles.database.store("user123", "Augusta Ada").await;
    let invalidated = profiles.forget("user123").await;
    println!("cache invalidated: {invalidated}");
    assert!(invalidated);
    assert_eq!(profiles.name("user123").await.as_deref(), Some("Augusta Ada"));

    let stats = profiles.cache.stats();
    println!("from the cache: {}, from the database: {}", stats.hits, stats.misses);
    assert_eq!((stats.hits, stats.misses), (2, 4));
}
