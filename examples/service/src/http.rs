//! The service as its clients see it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{Instrument, debug_span};

use crate::repository::{QueryError, Repository, User};
use crate::users::Users;

/// A request that takes longer is answered with 504, and its handler dropped.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(200);

/// The running service.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves these users on a free port of the loopback interface.
    pub(crate) async fn start<R: Repository>(
        users: Users<R>,
        prometheus: PrometheusHandle,
    ) -> io::Result<Self> {
        let figures = users.clone();
        let metrics = move || async move {
            figures.stats().iter().for_each(|(name, stats)| stats.record(name));
            prometheus.render()
        };
        let router = Router::new()
            .route("/users/{id}", get(by_id::<R>).put(update::<R>))
            .route("/mails/{mail}", get(by_mail::<R>))
            .layer(middleware::from_fn(within_time))
            .with_state(users)
            .route("/metrics", get(metrics));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            // Also when the sender is dropped, on the way out of a failed run.
            let _ = stopped.await;
        });
        Ok(Self { address, stop, task: tokio::spawn(server.into_future()) })
    }

    /// Answers the requests that have come, and ends.
    pub(crate) async fn stop(self) -> Result<(), Box<dyn std::error::Error>> {
        let _ = self.stop.send(());
        Ok(self.task.await??)
    }
}

async fn within_time(request: Request, next: Next) -> Response {
    let span = debug_span!("request", method = %request.method(), path = request.uri().path());
    let answer = tokio::time::timeout(TIMEOUT, next.run(request).instrument(span)).await;
    answer.unwrap_or_else(|_| StatusCode::GATEWAY_TIMEOUT.into_response())
}

async fn by_id<R: Repository>(
    State(users): State<Users<R>>,
    Path(id): Path<i64>,
) -> Result<Json<User>, Refusal> {
    found(users.by_id(id).await?)
}

async fn by_mail<R: Repository>(
    State(users): State<Users<R>>,
    Path(mail): Path<String>,
) -> Result<Json<User>, Refusal> {
    found(users.by_mail(&mail).await?)
}

/// What a client may change of a user.
#[derive(Serialize, Deserialize)]
pub(crate) struct Changes {
    pub(crate) mail: String,
    pub(crate) name: String,
}

async fn update<R: Repository>(
    State(users): State<Users<R>>,
    Path(id): Path<i64>,
    Json(Changes { mail, name }): Json<Changes>,
) -> Result<Json<User>, Refusal> {
    found(users.update(User { id, mail, name }).await?)
}

fn found(user: Option<Arc<User>>) -> Result<Json<User>, Refusal> {
    user.map(|user| Json(User::clone(&user))).ok_or(Refusal::Unknown)
}

/// Why there is no user in the answer.
enum Refusal {
    Unknown,
    Failed(Arc<QueryError>),
}

impl From<Arc<QueryError>> for Refusal {
    fn from(error: Arc<QueryError>) -> Self {
        Self::Failed(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND.into_response(),
            Self::Failed(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
            }
        }
    }
}
