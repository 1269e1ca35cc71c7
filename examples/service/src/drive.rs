//! Clients of the service, and what they were answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::http::Changes;
use crate::repository::User;

/// Requests at the same time.
const AT_ONCE: usize = 64;

/// A client of the service.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Result<Self, reqwest::Error> {
        // A proxy set in the environment must not come between.
        Ok(Self { http: reqwest::Client::builder().no_proxy().build()?, address })
    }

    /// Asks for a path such as `users/7`.
    pub(crate) async fn get(&self, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        self.http.get(format!("http://{}/{path}", self.address)).send().await
    }

    pub(crate) async fn user(&self, path: &str) -> Result<User, reqwest::Error> {
        self.get(path).await?.error_for_status()?.json().await
    }

    pub(crate) async fn update(&self, id: i64, changes: Changes) -> Result<User, reqwest::Error> {
        let request = self.http.put(format!("http://{}/users/{id}", self.address));
        request.json(&changes).send().await?.error_for_status()?.json().await
    }
}

/// What many requests were answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) ok: usize,
    pub(crate) unknown: usize,
    pub(crate) unavailable: usize,
    pub(crate) out_of_time: usize,
    /// In order.
    times: Vec<Duration>,
}

impl Answers {
    pub(crate) fn all(&self) -> usize {
        self.times.len()
    }

    /// The time within which this share of the answers has come.
    pub(crate) fn within(&self, share: f64) -> Duration {
        let place = (self.times.len() as f64 * share) as usize;
        self.times.get(place.min(self.times.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Sends so many requests for the paths that `path` gives, many at once.
pub(crate) async fn drive(
    client: &Client,
    bar: &ProgressBar,
    requests: usize,
    path: impl Fn(usize) -> String + Send + Sync + 'static,
) -> Result<Answers, Box<dyn std::error::Error>> {
    let (next, path) = (Arc::new(AtomicUsize::new(0)), Arc::new(path));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE.min(requests) {
        let (client, bar) = (client.clone(), bar.clone());
        let (next, path) = (Arc::clone(&next), Arc::clone(&path));
        tasks.spawn(async move {
            let mut answered = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return Ok::<_, reqwest::Error>(answered);
                }
                let start = Instant::now();
                let status = client.get(&path(number)).await?.status();
                answered.push((status, start.elapsed()));
                bar.inc(1);
            }
        });
    }
    let mut answers = Answers::default();
    while let Some(answered) = tasks.join_next().await {
        for (status, time) in answered?? {
            match status {
                StatusCode::OK => answers.ok += 1,
                StatusCode::NOT_FOUND => answers.unknown += 1,
                StatusCode::SERVICE_UNAVAILABLE => answers.unavailable += 1,
                StatusCode::GATEWAY_TIMEOUT => answers.out_of_time += 1,
                other => return Err(format!("an unexpected answer: {other}").into()),
            }
            answers.times.push(time);
        }
    }
    answers.times.sort();
    Ok(answers)
}
