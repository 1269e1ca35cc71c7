//! What stands for the database: a table of users behind HTTP, which takes its time and counts.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// The way of an answer.
const DELAY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The number of changes.
    pub(crate) version: u64,
}

pub(crate) type DatabaseError = reqwest::Error;

/// A client of the database.
#[derive(Clone)]
pub(crate) struct Database {
    http: reqwest::Client,
    url: Arc<str>,
}

impl Database {
    pub(crate) fn new(url: &str) -> Result<Self, DatabaseError> {
        // A proxy set in the environment must not come between.
        Ok(Self { http: reqwest::Client::builder().no_proxy().build()?, url: url.into() })
    }

    pub(crate) async fn read(&self, id: u64) -> Result<Option<Arc<User>>, DatabaseError> {
        answered(self.http.get(format!("{}/users/{id}", self.url))).await
    }

    pub(crate) async fn write(
        &self,
        id: u64,
        name: &str,
    ) -> Result<Option<Arc<User>>, DatabaseError> {
        answered(self.http.put(format!("{}/users/{id}", self.url)).json(name)).await
    }
}

/// The user of an answer, if there is one.
async fn answered(request: reqwest::RequestBuilder) -> Result<Option<Arc<User>>, DatabaseError> {
    let answer = request.send().await?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.error_for_status()?.json().await
}

/// The server of the database, which ends with the program.
#[derive(Clone, Default)]
pub(crate) struct Table {
    rows: Arc<Mutex<HashMap<u64, User>>>,
    reads: Arc<AtomicU64>,
}

impl Table {
    /// Serves users with the ids from 0 to `users` on a free port of the loopback interface.
    pub(crate) async fn serve(users: u64) -> std::io::Result<(Self, SocketAddr)> {
        let user = |id| (id, User { id, name: format!("User {id}"), version: 0 });
        let table =
            Self { rows: Arc::new(Mutex::new((0..users).map(user).collect())), ..Self::default() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router =
            Router::new().route("/users/{id}", get(read).put(write)).with_state(table.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        Ok((table, address))
    }

    /// How often a user was read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    fn with<T>(&self, id: u64, look: impl FnOnce(&mut User) -> T) -> Result<T, StatusCode> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get_mut(&id).map(look).ok_or(StatusCode::NOT_FOUND)
    }
}

/// An answer is under way for a while, and a change may overtake it.
async fn read(State(table): State<Table>, Path(id): Path<u64>) -> Result<Json<User>, StatusCode> {
    table.reads.fetch_add(1, Ordering::Relaxed);
    let user = table.with(id, |user| user.clone());
    tokio::time::sleep(DELAY).await;
    user.map(Json)
}

async fn write(
    State(table): State<Table>,
    Path(id): Path<u64>,
    Json(name): Json<String>,
) -> Result<Json<User>, StatusCode> {
    let user = table.with(id, |user| {
        user.name = name;
        user.version += 1;
        user.clone()
    });
    tokio::time::sleep(DELAY).await;
    user.map(Json)
}
