//! The service that each instance runs: users of a database, with a cache of two tiers before it. The part
//! to copy.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_lru::AsyncLru;
use async_lru_tier::{Store, Tiered};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::database::{Database, DatabaseError, User};

/// So long an instance that is cut off serves what it has loaded: changes may be missed meanwhile.
pub(crate) const TTL_ALONE: Duration = Duration::from_millis(500);
/// A link that is lost without a word is noticed after these two.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
pub(crate) const TIMEOUT: Duration = Duration::from_millis(250);

/// The users. Clones share the cache, in which who is not there is remembered too.
#[derive(Clone)]
pub(crate) struct Users {
    database: Database,
    cache: Tiered<u64, Option<Arc<User>>>,
}

impl Users {
    pub(crate) fn new(store: impl Store, database: Database) -> Self {
        let cache = Tiered::builder(store, async_lru_tier::Json, tokio::time::sleep)
            .namespace("users")
            .version(1)
            .ttl(Duration::from_secs(60))
            .ttl_alone(TTL_ALONE)
            .lease(Duration::from_secs(2))
            .heartbeat(HEARTBEAT)
            .timeout(TIMEOUT)
            .local(AsyncLru::builder().maxsize(10_000))
            .build();
        tokio::spawn(cache.driver());
        Self { database, cache }
    }

    /// Waits for the link to the store; but a service starts without it too.
    pub(crate) async fn linked(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.cache.linked()).await;
    }

    async fn get(&self, id: u64) -> Result<Option<Arc<User>>, Arc<DatabaseError>> {
        self.cache.try_get(&id, || self.database.read(id)).await
    }

    /// Renames a user; no instance gives the old name any more once this has returned, or as soon as it
    /// notices that it is cut off.
    async fn rename(&self, id: u64, name: &str) -> Result<Option<Arc<User>>, DatabaseError> {
        let writing = self.cache.writing(&id).await;
        let user = self.database.write(id, name).await?;
        // Without the store the others are told when it is there again; see `removals_deferred`.
        let _ = writing.insert(user.clone()).await;
        Ok(user)
    }
}

/// Serves `users` for ever.
pub(crate) fn serve(
    users: Users,
    listener: TcpListener,
) -> impl Future<Output = io::Result<()>> + Send {
    let router = Router::new()
        .route("/users/{id}", get(read).put(rename))
        .route("/figures", get(figures))
        .with_state(users);
    axum::serve(listener, router).into_future()
}

async fn read(State(users): State<Users>, Path(id): Path<u64>) -> Result<Json<User>, Refusal> {
    answer(users.get(id).await?)
}

async fn rename(
    State(users): State<Users>,
    Path(id): Path<u64>,
    Json(name): Json<String>,
) -> Result<Json<User>, Refusal> {
    answer(users.rename(id, &name).await?)
}

fn answer(user: Option<Arc<User>>) -> Result<Json<User>, Refusal> {
    user.map(|user| Json(User::clone(&user))).ok_or(Refusal::Unknown)
}

/// What happened in an instance. For Prometheus and its like there is `Figures::record`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) linked: bool,
    pub(crate) local_hits: u64,
    pub(crate) store_hits: u64,
    pub(crate) waits: u64,
    pub(crate) loads: u64,
    pub(crate) loads_alone: u64,
    pub(crate) removals_deferred: u64,
    pub(crate) removals_heard: u64,
    pub(crate) links_lost: u64,
}

async fn figures(State(users): State<Users>) -> Json<Figures> {
    let figures = users.cache.figures();
    Json(Figures {
        linked: figures.linked,
        local_hits: figures.local.hits,
        store_hits: figures.hits,
        waits: figures.waits,
        loads: figures.loads,
        loads_alone: figures.loads_alone,
        removals_deferred: figures.removals_deferred,
        removals_heard: figures.removals_heard,
        links_lost: figures.links_lost,
    })
}

/// Why there is no user in the answer.
enum Refusal {
    Unknown,
    Database(String),
}

impl From<Arc<DatabaseError>> for Refusal {
    fn from(error: Arc<DatabaseError>) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND.into_response(),
            Self::Database(error) => (StatusCode::SERVICE_UNAVAILABLE, error).into_response(),
        }
    }
}
