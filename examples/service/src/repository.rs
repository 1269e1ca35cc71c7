//! Where users are kept: a trait, and SQLite behind it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) mail: String,
    pub(crate) name: String,
}

/// What can go wrong with a query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("the database cannot be reached")]
    CutOff,
    #[error("the database refuses the query: {0}")]
    Refused(#[from] rusqlite::Error),
    #[error("the query was dropped: {0}")]
    Dropped(#[from] tokio::task::JoinError),
}

/// The users of the service. Its futures are `Send`, so that they can go on in the background.
pub(crate) trait Repository: Send + Sync + 'static {
    fn by_id(&self, id: i64) -> impl Future<Output = Result<Option<User>, QueryError>> + Send;

    fn id_of(&self, mail: &str) -> impl Future<Output = Result<Option<i64>, QueryError>> + Send;

    /// Changes a user, and returns it as it is then.
    fn update(&self, user: User) -> impl Future<Output = Result<Option<User>, QueryError>> + Send;
}

/// Users in a file of SQLite, as far away as a database over the network.
pub(crate) struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    /// For the line to be cut, and the way to be long.
    line: Line,
    queries: AtomicU64,
}

#[derive(Default)]
struct Line {
    is_cut: AtomicBool,
    is_slow: AtomicBool,
}

impl Sqlite {
    /// How long a query is on its way.
    const LATENCY: Duration = Duration::from_millis(20);
    /// The same when the database is slow.
    const SLOW: Duration = Duration::from_millis(400);

    /// Opens a database with so many users.
    pub(crate) fn open(path: &Path, users: i64) -> Result<Self, QueryError> {
        let mut connection = Connection::open(path)?;
        connection.execute_batch(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE, name TEXT NOT NULL)",
        )?;
        let insertion = connection.transaction()?;
        for id in 1..=users {
            let (mail, name) = (mail_of(id), format!("User {id}"));
            insertion.execute("INSERT INTO users VALUES (?1, ?2, ?3)", params![id, mail, name])?;
        }
        insertion.commit()?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, line: Line::default(), queries: AtomicU64::new(0) })
    }

    /// Cuts the line to the database, or restores it.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.line.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Makes the way to the database long.
    pub(crate) fn slow_down(&self, is_slow: bool) {
        self.line.is_slow.store(is_slow, Ordering::SeqCst);
    }

    /// Queries that were sent, answered or not.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::SeqCst)
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        let is_slow = self.line.is_slow.load(Ordering::SeqCst);
        tokio::time::sleep(if is_slow { Self::SLOW } else { Self::LATENCY }).await;
        if self.line.is_cut.load(Ordering::SeqCst) {
            return Err(QueryError::CutOff);
        }
        let connection = Arc::clone(&self.connection);
        // SQLite blocks its thread.
        let answer = tokio::task::spawn_blocking(move || {
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(answer.await??)
    }
}

impl Repository for Sqlite {
    async fn by_id(&self, id: i64) -> Result<Option<User>, QueryError> {
        self.query(move |connection| {
            let sql = "SELECT id, mail, name FROM users WHERE id = ?1";
            let user = |row: &rusqlite::Row<'_>| {
                Ok(User { id: row.get(0)?, mail: row.get(1)?, name: row.get(2)? })
            };
            connection.query_row(sql, [id], user).optional()
        })
        .await
    }

    async fn id_of(&self, mail: &str) -> Result<Option<i64>, QueryError> {
        let mail = mail.to_owned();
        self.query(move |connection| {
            let sql = "SELECT id FROM users WHERE mail = ?1";
            connection.query_row(sql, [mail], |row| row.get(0)).optional()
        })
        .await
    }

    async fn update(&self, user: User) -> Result<Option<User>, QueryError> {
        self.query(move |connection| {
            let sql = "UPDATE users SET mail = ?2, name = ?3 WHERE id = ?1";
            let changed = connection.execute(sql, params![user.id, user.mail, user.name])?;
            Ok((changed == 1).then_some(user))
        })
        .await
    }
}

/// The mail address that a user has at first.
pub(crate) fn mail_of(id: i64) -> String {
    format!("user{id}@example.org")
}
