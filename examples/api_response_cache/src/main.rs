//! A client that keeps the answers of a slow HTTP API: one request upstream
//! per key, however many tasks ask at once.
//!
//! The program serves the API itself, on a free port of the loopback
//! interface, so that it can count what really arrives there. Hundreds of
//! tasks then ask the client for a few dozen things; a user is updated; and
//! at the end the counts of both sides are compared.
//!
//! ```text
//! cargo run --release -p api_response_cache
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_lru::{AsyncLru, CacheStats, impl_deep_size};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// Tasks that ask at once. Half of them ask for the weather, half for a user.
const TASKS: usize = 480;
const CITIES: [&str; 12] = [
    "Berlin", "Bern", "Bogota", "Cairo", "Dakar", "Lagos", "Lima", "London", "Oslo", "Paris",
    "Quito", "Tokyo",
];
const USERS: usize = 24;
/// Cities in two units each, and users.
const KEYS: usize = 2 * CITIES.len() + USERS;

const UPDATED_USER: usize = 7;
const UNKNOWN_USER: usize = 404;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = Upstream::start().await?;
    let client = Arc::new(ApiClient::new(upstream.address)?);
    println!("API at {}, {} ms a request\n", upstream.address, LATENCY.as_millis());

    for round in ["at once", "once more"] {
        let before = upstream.calls().len();
        let start = Instant::now();
        ask_for_everything(&client).await?;
        tell(
            &format!("{TASKS} tasks ask for {KEYS} keys {round}"),
            &format!(
                "{} upstream calls, {:.1} ms",
                upstream.calls().len() - before,
                1_000.0 * start.elapsed().as_secs_f64(),
            ),
        );
    }

    let old = client.user(UPDATED_USER).await?;
    client.rename_user(UPDATED_USER, "Grace Hopper").await?;
    let new = client.user(UPDATED_USER).await?;
    assert_ne!(old.name, new.name);
    assert_eq!(new.name, "Grace Hopper");
    tell(
        &format!("user {UPDATED_USER} renamed upstream, invalidated"),
        &format!("{}, then {}", old.name, new.name),
    );

    // An error reaches the caller and is not cached: the next one asks anew.
    for _ in 0..2 {
        let error = client.user(UNKNOWN_USER).await;
        assert!(error.is_err_and(|error| matches!(*error, ApiError::NotFound)));
    }
    tell(&format!("user {UNKNOWN_USER} asked for twice"), "not found, 2 upstream calls");

    report(&client, &upstream);
    check_upstream_calls(&upstream.calls());

    upstream.stop().await
}

/// Asks for every key several times over, each time in a task of its own.
async fn ask_for_everything(client: &Arc<ApiClient>) -> Result<(), Box<dyn Error>> {
    let mut tasks = JoinSet::new();
    for number in 0..TASKS / 2 {
        let weather = Arc::clone(client);
        tasks.spawn(async move {
            let city = CITIES[number % CITIES.len()];
            let units = match number / CITIES.len() % 2 {
                0 => Units::Metric,
                _ => Units::Imperial,
            };
            // Callers of one key differ in their patience.
            let timeout = Duration::from_secs(10 + number as u64 % 7);
            let weather = weather.weather(city, units, timeout).await?;
            assert_eq!((weather.city.as_str(), weather.units), (city, units));
            Ok::<_, Arc<ApiError>>(())
        });

        let users = Arc::clone(client);
        tasks.spawn(async move {
            let id = number % USERS;
            assert_eq!(users.user(id).await?.id, id);
            Ok(())
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished??;
    }
    Ok(())
}

fn tell(what: &str, outcome: &str) {
    println!("{:<39}{outcome}", format!("{what}:"));
}

/// Every key reached the upstream once, but for the user that was updated and
/// the one whose errors were not cached.
fn check_upstream_calls(calls: &[String]) {
    let mut counts = BTreeMap::<&str, usize>::new();
    for call in calls {
        *counts.entry(call).or_default() += 1;
    }
    let updated = format!("GET /users/{UPDATED_USER}");
    let unknown = format!("GET /users/{UNKNOWN_USER}");

    assert_eq!(counts.len(), KEYS + 2, "keys, the update, the unknown user");
    for (call, count) in counts {
        let expected = if call == updated || call == unknown { 2 } else { 1 };
        assert_eq!(count, expected, "{call}");
    }
    println!("checked: every key reached the upstream once, user {UPDATED_USER} twice");
}

// ---------------------------------------------------------------- the client

/// The client of the API: a cache per kind of answer, beside the connection.
struct ApiClient {
    http: reqwest::Client,
    api: SocketAddr,
    weather: AsyncLru<(String, Units), Arc<Weather>>,
    users: AsyncLru<usize, Arc<User>>,
    /// How long each request upstream took, to tell what the caches saved.
    round_trips: Mutex<Vec<Duration>>,
}

impl ApiClient {
    fn new(api: SocketAddr) -> Result<Self, ApiError> {
        Ok(Self {
            // A proxy set in the environment must not come between.
            http: reqwest::Client::builder().no_proxy().build()?,
            api,
            weather: AsyncLru::builder()
                .maxsize(500)
                .ttl(Duration::from_secs(5 * 60))
                .deep_size()
                .build(),
            users: AsyncLru::builder()
                .maxsize(1_000)
                .ttl(Duration::from_secs(60 * 60))
                .deep_size()
                .build(),
            round_trips: Mutex::default(),
        })
    }

    /// The weather of a city. `timeout` is no part of the key: whoever asks
    /// first sets it for all that share the answer, and when it is too short,
    /// the next of them tries with its own.
    async fn weather(
        &self,
        city: &str,
        units: Units,
        timeout: Duration,
    ) -> Result<Arc<Weather>, ApiError> {
        let key = (city.to_owned(), units);
        let load = async || {
            let url = self.url(&format!("weather/{city}"));
            let request = self.http.get(url).query(&[("units", units)]);
            self.fetch(request.timeout(timeout)).await
        };
        Ok(self.weather.entry(key).or_try_insert_own(load).await?.value)
    }

    /// A user. Whoever waits for a request that fails gets its error too.
    async fn user(&self, id: usize) -> Result<Arc<User>, Arc<ApiError>> {
        self.users
            .try_get_or_insert_with(id, async || {
                let url = self.url(&format!("users/{id}"));
                self.fetch(self.http.get(url)).await
            })
            .await
    }

    async fn rename_user(&self, id: usize, name: &str) -> Result<(), ApiError> {
        let url = self.url(&format!("users/{id}"));
        let update = self.http.put(url).json(&Rename { name: name.into() });
        let sent = self.send(update).await;
        // Even when it failed: the answer may have been lost after the update.
        self.users.invalidate(&id).await;
        sent.map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.api)
    }

    async fn fetch<T: for<'de> Deserialize<'de>>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Arc<T>, ApiError> {
        let start = Instant::now();
        let answer = self.send(request).await?.json().await?;
        locked(&self.round_trips).push(start.elapsed());
        Ok(Arc::new(answer))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, ApiError> {
        let response = request.send().await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(ApiError::NotFound),
            status => Err(ApiError::Refused(status)),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum ApiError {
    NotFound,
    Refused(StatusCode),
    Transport(reqwest::Error),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Refused(status) => write!(f, "refused by the API: {status}"),
            Self::Transport(_) => f.write_str("the API could not be reached"),
        }
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Transport(error) => Some(error),
            Self::NotFound | Self::Refused(_) => None,
        }
    }
}

impl From<reqwest::Error> for ApiError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}

// --------------------------------------------------- what client and API share

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Units {
    Metric,
    Imperial,
}

#[derive(Serialize, Deserialize)]
struct Weather {
    city: String,
    units: Units,
    temperature: f32,
}

#[derive(Clone, Serialize, Deserialize)]
struct User {
    id: usize,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Rename {
    name: String,
}

impl_deep_size!(Units {});
impl_deep_size!(Weather { city });
impl_deep_size!(User { name });

// ------------------------------------------------------------------- the API

/// What every request to the API takes.
const LATENCY: Duration = Duration::from_millis(50);

/// The API, served by a task of this program.
struct Upstream {
    address: SocketAddr,
    database: Arc<Database>,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

struct Database {
    users: Mutex<Vec<User>>,
    /// Every request that arrived, as in `GET /users/7`.
    calls: Mutex<Vec<String>>,
}

impl Upstream {
    async fn start() -> Result<Self, Box<dyn Error>> {
        let users = (0..USERS).map(|id| User { id, name: format!("User {id}") });
        let database =
            Arc::new(Database { users: Mutex::new(users.collect()), calls: Mutex::default() });
        let api = Router::new()
            .route("/weather/{city}", get(weather))
            .route("/users/{id}", get(user).put(rename_user))
            .layer(middleware::from_fn_with_state(Arc::clone(&database), count_and_delay))
            .with_state(Arc::clone(&database));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (shutdown, requested) = oneshot::channel();
        let server = axum::serve(listener, api).with_graceful_shutdown(async {
            // Also when the sender is dropped, on the way out of a failed run.
            let _ = requested.await;
        });
        Ok(Self { address, database, shutdown, server: tokio::spawn(server.into_future()) })
    }

    fn calls(&self) -> Vec<String> {
        locked(&self.database.calls).clone()
    }

    async fn stop(self) -> Result<(), Box<dyn Error>> {
        let _ = self.shutdown.send(());
        self.server.await??;
        Ok(())
    }
}

async fn count_and_delay(
    State(database): State<Arc<Database>>,
    request: Request,
    next: Next,
) -> Response {
    locked(&database.calls).push(format!("{} {}", request.method(), request.uri()));
    tokio::time::sleep(LATENCY).await;
    next.run(request).await
}

#[derive(Deserialize)]
struct WeatherQuery {
    units: Units,
}

async fn weather(
    Path(city): Path<String>,
    Query(WeatherQuery { units }): Query<WeatherQuery>,
) -> Json<Weather> {
    let celsius = 10.0 + city.len() as f32;
    let temperature = match units {
        Units::Metric => celsius,
        Units::Imperial => celsius * 1.8 + 32.0,
    };
    Json(Weather { city, units, temperature })
}

async fn user(
    State(database): State<Arc<Database>>,
    Path(id): Path<usize>,
) -> Result<Json<User>, StatusCode> {
    let users = locked(&database.users);
    let user = users.get(id).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(user.clone()))
}

async fn rename_user(
    State(database): State<Arc<Database>>,
    Path(id): Path<usize>,
    Json(rename): Json<Rename>,
) -> Result<StatusCode, StatusCode> {
    let mut users = locked(&database.users);
    let user = users.get_mut(id).ok_or(StatusCode::NOT_FOUND)?;
    user.name = rename.name;
    Ok(StatusCode::NO_CONTENT)
}

// ---------------------------------------------------------------- the report

/// One cache's share of the work, by its own count and by the upstream's.
struct Row {
    stats: CacheStats,
    upstream_calls: u64,
}

impl Row {
    fn new(stats: CacheStats, calls: &[String], prefix: &str) -> Self {
        let upstream_calls = calls.iter().filter(|call| call.starts_with(prefix)).count() as u64;
        assert_eq!(stats.loads, upstream_calls, "a load is one upstream call");
        Self { stats, upstream_calls }
    }

    fn requests(&self) -> u64 {
        self.stats.hits + self.stats.misses + self.stats.coalesced
    }
}

fn report(client: &ApiClient, upstream: &Upstream) {
    let calls = upstream.calls();
    let weather = Row::new(client.weather.stats(), &calls, "GET /weather/");
    let users = Row::new(client.users.stats(), &calls, "GET /users/");

    let line = |label: &str, weather: String, users: String| {
        println!("{label:<16}{weather:>12}{users:>12}");
    };
    let count = |label: &str, count: fn(&Row) -> u64| {
        line(label, count(&weather).to_string(), count(&users).to_string());
    };
    let text = |label: &str, text: fn(&CacheStats) -> String| {
        line(label, text(&weather.stats), text(&users.stats));
    };
    println!();
    line("", "weather".into(), "users".into());
    count("requests", Row::requests);
    count("upstream calls", |row| row.upstream_calls);
    count("hits", |row| row.stats.hits);
    count("misses", |row| row.stats.misses);
    count("coalesced", |row| row.stats.coalesced);
    count("failed loads", |row| row.stats.load_failures);
    text("hit rate", |stats| format!("{:.1} %", stats.hit_rate() * 100.0));
    text("entries", |stats| match stats.max_size {
        Some(max) => format!("{}/{max}", stats.current_size),
        None => stats.current_size.to_string(),
    });
    text("memory", |stats| stats.total_size_in_memory_pretty.clone());

    let requests = weather.requests() + users.requests();
    let avoided = requests - weather.upstream_calls - users.upstream_calls;
    let round_trips = locked(&client.round_trips);
    let mean = round_trips.iter().sum::<Duration>() / round_trips.len() as u32;
    println!(
        "\n{:.1} % of all requests did without a call of their own",
        100.0 * avoided as f64 / requests as f64,
    );
    println!(
        "upstream time saved: {:.1} s = {avoided} calls avoided x {:.1} ms, the mean round trip",
        mean.as_secs_f64() * avoided as f64,
        mean.as_secs_f64() * 1_000.0,
    );
}

/// Locks a mutex that no panic can leave half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
