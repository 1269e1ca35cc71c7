//! A cached repository behind a trait, as the state of an axum service.
//!
//! Handlers know the trait `Users` alone. The cached repository implements it over any other, so that the
//! service is built with a cache, and a test of a handler without one. The program serves on a free port of the
//! loopback interface, asks itself, and checks the answers.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_lru::AsyncLru;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use reqwest::RequestBuilder;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// An answer of a repository. The error can be shared by all who have waited for it.
type Answer<T> = Result<T, Arc<io::Error>>;

/// A boxed future, so that the trait can be used as `dyn Users`.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait Users: Send + Sync + 'static {
    fn find(&self, id: u64) -> Boxed<'_, Answer<Option<Arc<User>>>>;

    fn rename(&self, id: u64, name: String) -> Boxed<'_, Answer<Option<Arc<User>>>>;
}

/// A database that takes its time.
struct Database {
    names: Mutex<HashMap<u64, String>>,
    queries: AtomicU32,
    is_down: AtomicBool,
}

impl Database {
    async fn query<R>(&self, work: impl FnOnce(&mut HashMap<u64, String>) -> R) -> Answer<R> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.is_down.load(Ordering::Relaxed) {
            return Err(Arc::new(io::ErrorKind::ConnectionRefused.into()));
        }
        Ok(work(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Users for Database {
    fn find(&self, id: u64) -> Boxed<'_, Answer<Option<Arc<User>>>> {
        Box::pin(async move {
            let name = self.query(|names| names.get(&id).cloned()).await?;
            Ok(name.map(|name| Arc::new(User { id, name })))
        })
    }

    fn rename(&self, id: u64, name: String) -> Boxed<'_, Answer<Option<Arc<User>>>> {
        Box::pin(async move {
            let renamed = User { id, name: name.clone() };
            let old = self.query(|names| names.get_mut(&id).map(|old| *old = name)).await?;
            Ok(old.map(|()| Arc::new(renamed)))
        })
    }
}

/// The users of another repository, with a cache before it.
struct Cached<U> {
    users: Arc<U>,
    /// Who is not there is remembered too, as `None`.
    cache: AsyncLru<u64, Option<Arc<User>>>,
}

impl<U: Users> Cached<U> {
    fn new(users: Arc<U>) -> Self {
        let cache = AsyncLru::builder()
            .maxsize(10_000)
            .fresh_for(Duration::from_secs(60))
            .ttl(Duration::from_secs(600))
            .expiry(|_id, user: &Option<_>| user.is_none().then_some(Duration::from_secs(10)))
            .spawner(|task| drop(tokio::spawn(task)))
            .build();
        Self { users, cache }
    }
}

impl<U: Users> Users for Cached<U> {
    fn find(&self, id: u64) -> Boxed<'_, Answer<Option<Arc<User>>>> {
        let users = Arc::clone(&self.users);
        let load = move || async move { users.find(id).await };
        Box::pin(async move {
            let found = self.cache.entry(id).detached().or_try_insert_with(load).await;
            // The cache shares the error of the repository below, which is an `Arc` already.
            found.map(|found| found.value).map_err(Arc::unwrap_or_clone)
        })
    }

    fn rename(&self, id: u64, name: String) -> Boxed<'_, Answer<Option<Arc<User>>>> {
        let (users, writing) = (Arc::clone(&self.users), self.cache.writing_owned(id));
        // A task: a database goes on with a write whose request was given up, and the guard has to as well.
        let write = tokio::spawn(async move {
            let renamed = users.rename(id, name).await?;
            writing.insert(renamed.clone()).await;
            Ok(renamed)
        });
        Box::pin(async { write.await.unwrap_or_else(|error| Err(Arc::new(error.into()))) })
    }
}

async fn show(State(users): State<Arc<dyn Users>>, Path(id): Path<u64>) -> Response {
    answer(users.find(id).await)
}

async fn rename(
    State(users): State<Arc<dyn Users>>,
    Path(id): Path<u64>,
    Json(name): Json<String>,
) -> Response {
    answer(users.rename(id, name).await)
}

type Response = Result<Json<User>, StatusCode>;

fn answer(user: Answer<Option<Arc<User>>>) -> Response {
    match user {
        Ok(Some(user)) => Ok(Json(User::clone(&user))),
        Ok(None) => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

fn router(users: Arc<dyn Users>) -> Router {
    Router::new().route("/users/{id}", get(show).put(rename)).with_state(users)
}

/// Sends requests at once, and tells how they were answered.
async fn send_all(
    requests: impl Iterator<Item = RequestBuilder>,
) -> Result<Vec<StatusCode>, Box<dyn Error>> {
    let mut sent: JoinSet<_> = requests.map(RequestBuilder::send).collect();
    let mut answers = Vec::new();
    while let Some(answer) = sent.join_next().await {
        answers.push(answer??.status());
    }
    Ok(answers)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let names = (1..=10).map(|id| (id, format!("user {id}"))).collect();
    let database = Arc::new(Database {
        names: Mutex::new(names),
        queries: AtomicU32::new(0),
        is_down: AtomicBool::new(false),
    });
    let service = router(Arc::new(Cached::new(Arc::clone(&database))));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/users", listener.local_addr()?);
    let server = tokio::spawn(axum::serve(listener, service).into_future());

    // A proxy set in the environment must not come between.
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answers =
        send_all((0..200).map(|number| client.get(format!("{url}/{}", 1 + number % 11)))).await?;
    let found = answers.iter().filter(|status| status.is_success()).count();
    let queries = database.queries.load(Ordering::Relaxed);
    println!("200 requests, {found} of them for users that exist: {queries} queries");
    assert_eq!((found, queries), (182, 11));

    let changed = client.put(format!("{url}/3")).json("Ada").send().await?.json::<User>().await?;
    let shown = client.get(format!("{url}/3")).send().await?.json::<User>().await?;
    println!("user 3 was renamed, and is shown as {}", shown.name);
    assert_eq!((&*shown.name, &shown), ("Ada", &changed));
    assert_eq!(database.queries.load(Ordering::Relaxed), 12);

    // A failure is shared like a value. What is cached is served on.
    database.is_down.store(true, Ordering::Relaxed);
    let answers = send_all((0..100).map(|_| client.get(format!("{url}/12")))).await?;
    assert_eq!(answers, [StatusCode::SERVICE_UNAVAILABLE; 100]);
    assert!(client.get(format!("{url}/3")).send().await?.status().is_success());
    let failed = database.queries.load(Ordering::Relaxed) - 12;
    println!("the database is down: 100 requests for one user, {failed} of them asked it");
    assert!(failed < 10);

    server.abort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody is there.
    struct Empty;

    impl Users for Empty {
        fn find(&self, _: u64) -> Boxed<'_, Answer<Option<Arc<User>>>> {
            Box::pin(async { Ok(None) })
        }

        fn rename(&self, _: u64, _: String) -> Boxed<'_, Answer<Option<Arc<User>>>> {
            Box::pin(async { Ok(None) })
        }
    }

    #[tokio::test]
    async fn a_handler_is_tested_without_a_cache() {
        let answer = show(State(Arc::new(Empty)), Path(1)).await;
        assert_eq!(answer.unwrap_err(), StatusCode::NOT_FOUND);
    }
}
