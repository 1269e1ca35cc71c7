//! The users of a repository, with a cache before it: the part of the service that this example is about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, CacheStats, Saved};
use serde::{Deserialize, Serialize};

use crate::repository::{QueryError, Repository, User};

/// After that a value is renewed, while everybody goes on with the one there is.
pub(crate) const FRESH_FOR: Duration = Duration::from_millis(250);
/// So long the service does without its database.
const TTL: Duration = Duration::from_secs(60);
/// So long somebody who is not there stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// So long the database is let alone after a refresh that has failed.
const RETRY: Duration = Duration::from_millis(100);

/// Who is not there is remembered too, as `None`.
type ById = AsyncLru<i64, Option<Arc<User>>>;
type ByMail = AsyncLru<String, Option<i64>>;

/// The users of a repository. Clones share its caches.
pub(crate) struct Users<R> {
    repository: Arc<R>,
    by_id: ById,
    by_mail: ByMail,
}

impl<R> Clone for Users<R> {
    fn clone(&self) -> Self {
        let (by_id, by_mail) = (self.by_id.clone(), self.by_mail.clone());
        Self { repository: Arc::clone(&self.repository), by_id, by_mail }
    }
}

impl<R: Repository> Users<R> {
    pub(crate) fn new(repository: Arc<R>) -> Self {
        Self { repository, by_id: cache("users").build(), by_mail: cache("mails").build() }
    }

    /// A user, from the cache or else from the repository, whose error goes to all who wait for it.
    ///
    /// The query lives in the cache: it goes on when the request that has started it runs out of time.
    pub(crate) async fn by_id(&self, id: i64) -> Result<Option<Arc<User>>, Arc<QueryError>> {
        let repository = Arc::clone(&self.repository);
        let load = move || async move {
            let user = repository.by_id(id).await?.map(Arc::new);
            Ok((user.clone(), lifetime(&user)))
        };
        Ok(self.by_id.entry(id).detached().or_try_insert_timed(load).await?.value)
    }

    pub(crate) async fn by_mail(&self, mail: &str) -> Result<Option<Arc<User>>, Arc<QueryError>> {
        let (repository, owned) = (Arc::clone(&self.repository), mail.to_owned());
        let load = move || async move {
            let id = repository.id_of(&owned).await?;
            Ok((id, lifetime(&id)))
        };
        let id = self.by_mail.entry_ref(mail).detached().or_try_insert_timed(load).await?.value;
        match id {
            Some(id) => self.by_id(id).await,
            None => Ok(None),
        }
    }

    /// Changes a user; afterwards nobody is given the old one any more, also if this is dropped half way: the
    /// database may go on with a write whose request ran out of time, and the guards then do so too.
    pub(crate) async fn update(&self, user: User) -> Result<Option<Arc<User>>, Arc<QueryError>> {
        let Some(old) = self.by_id(user.id).await? else { return Ok(None) };
        let repository = Arc::clone(&self.repository);
        let writing = self.by_id.writing_owned(user.id);
        let mails = [old.mail.clone(), user.mail.clone()];
        let writing_mails = mails.map(|mail| self.by_mail.writing_owned(mail));
        let write = tokio::spawn(async move {
            let updated = repository.update(user).await?.map(Arc::new);
            writing.insert(updated.clone()).await;
            drop(writing_mails);
            Ok(updated)
        });
        write.await.map_err(QueryError::from)?
    }

    /// The figures of both caches.
    pub(crate) fn stats(&self) -> [(&'static str, CacheStats); 2] {
        [("users", self.by_id.stats()), ("mails", self.by_mail.stats())]
    }

    /// Waits until no load goes on in the background.
    pub(crate) async fn settle(&self) {
        while self.stats().iter().any(|(_, stats)| stats.in_flight > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes what is cached into a file, for the next start.
    pub(crate) fn save(&self, file: &Path) -> Result<usize, Box<dyn std::error::Error>> {
        let snapshot = Snapshot {
            users: self.by_id.snapshot_with_ttl(),
            mails: self.by_mail.snapshot_with_ttl(),
        };
        std::fs::write(file, serde_json::to_vec(&snapshot)?)?;
        Ok(snapshot.users.len() + snapshot.mails.len())
    }

    /// Takes in what an earlier run has saved; how much of it was still alive.
    pub(crate) async fn restore(&self, file: &Path) -> Result<usize, Box<dyn std::error::Error>> {
        let snapshot: Snapshot = serde_json::from_slice(&std::fs::read(file)?)?;
        let users = self.by_id.restore(snapshot.users).await;
        Ok(users + self.by_mail.restore(snapshot.mails).await)
    }
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    users: Vec<Saved<i64, Option<Arc<User>>>>,
    mails: Vec<Saved<String, Option<i64>>>,
}

/// How long an answer is kept: what is there longer than what is not.
fn lifetime<T>(answer: &Option<T>) -> Duration {
    if answer.is_some() { TTL } else { UNKNOWN_FOR }
}

fn cache<K, V>(name: &'static str) -> async_lru::Builder<K, V>
where
    K: Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    AsyncLru::builder()
        .name(name)
        .maxsize(10_000)
        .ttl(TTL)
        .fresh_for(FRESH_FOR)
        .refresh_retry(RETRY)
        .ttl_jitter(0.1)
        .record_load_time()
        .spawner(|task| drop(tokio::spawn(task)))
}
