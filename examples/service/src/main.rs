//! A web service over SQLite that goes on through an outage of its database.
//!
//! It serves users by their id and by their mail address, with a cache before the database that renews
//! what is old while everybody goes on with it, remembers who is not there, keeps nothing that an update
//! has made wrong, and is written to a file at the end for a warm start. Figures are served for Prometheus,
//! and loads are traced.
//!
//! The program drives itself with some thousands of real HTTP requests, cuts its database off for a while,
//! prints what happened, and checks it:
//!
//! ```text
//! cargo run --release -p service
//! ```

mod drive;
mod http;
mod repository;
mod traces;
mod users;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_lru::CacheStats;
use indicatif::{ProgressBar, ProgressStyle};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::drive::{Answers, Client, drive};
use crate::http::{Changes, Server};
use crate::repository::{Sqlite, mail_of};
use crate::traces::Traces;
use crate::users::{FRESH_FOR, Users};

/// Who is in the database.
const USERS: i64 = 200;
/// So many of them are asked for in the usual rounds,
const POPULAR: i64 = 100;
/// beginning with this one.
const FIRST: i64 = 11;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let files = Files::new()?;
    let traces = Traces::start();
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let database = Arc::new(Sqlite::open(&files.database, USERS)?);

    let mut run = Run::start(&database, prometheus.clone()).await?;
    cold_start(&mut run).await?;
    renewal(&mut run).await?;
    outage(&mut run).await?;
    recovery(&mut run).await?;
    updates(&mut run).await?;
    time_outs(&mut run).await?;

    let metrics = run.client.get("metrics").await?.text().await?;
    let users = run.users.clone();
    let rounds = run.end().await?;
    let saved = users.save(&files.snapshot)?;
    drop(users);

    let mut run = Run::start(&database, prometheus).await?;
    run.rounds = rounds;
    let restored = run.users.restore(&files.snapshot).await?;
    assert!((2 * POPULAR as usize..=saved).contains(&restored), "{restored} of {saved}");
    let warm = run.round("warm start", 1_000, popular).await?;
    assert_eq!((warm.answers.ok, warm.first_loads), (1_000, 0), "nobody waits for a query");

    let rounds = run.end().await?;
    report(&rounds, &metrics, &traces, saved);
    Ok(())
}

/// Nothing is cached yet: one query for each user, however many ask.
async fn cold_start(run: &mut Run) -> Result<(), Box<dyn Error>> {
    let one_after_another = |n: usize| {
        let id = FIRST + n as i64 % POPULAR;
        if n as i64 / POPULAR % 2 == 0 {
            format!("users/{id}")
        } else {
            format!("mails/{}", mail_of(id))
        }
    };
    let round = run.round("cold start", 2_000, one_after_another).await?;
    assert_eq!((round.answers.ok, round.first_loads), (2_000, 2 * POPULAR as u64));
    let nobody = |n: usize| format!("users/{}", -1 - n as i64 % 5);
    let round = run.round("who is not there", 500, nobody).await?;
    assert_eq!((round.answers.unknown, round.first_loads), (500, 5), "that is remembered too");
    Ok(())
}

/// All is stale: everybody is served at once, and one query renews each user.
async fn renewal(run: &mut Run) -> Result<(), Box<dyn Error>> {
    tokio::time::sleep(FRESH_FOR).await;
    let round = run.round("renewal", 2_000, popular).await?;
    assert_eq!((round.answers.ok, round.first_loads), (2_000, 0));
    assert!(round.stale > 0 && round.queries > 0);
    Ok(())
}

/// The database is cut off: who is known is served as before, and all others share few failures.
async fn outage(run: &mut Run) -> Result<(), Box<dyn Error>> {
    run.database.cut(true);
    tokio::time::sleep(FRESH_FOR).await;
    let known = run.round("outage", 2_000, popular).await?;
    assert_eq!((known.answers.ok, known.first_loads), (2_000, 0), "stale values are served");
    let unknown = run.round("outage, users not cached", 640, |_| format!("users/{USERS}")).await?;
    assert_eq!(unknown.answers.unavailable, 640);
    assert!(unknown.first_loads * 4 < 640, "failures are shared: {}", unknown.first_loads);
    Ok(())
}

/// It is back: what is stale is renewed, and what was unavailable is there.
async fn recovery(run: &mut Run) -> Result<(), Box<dyn Error>> {
    run.database.cut(false);
    tokio::time::sleep(FRESH_FOR).await;
    let all = |n: usize| if n % 20 == 0 { format!("users/{USERS}") } else { popular(n) };
    let round = run.round("recovery", 2_000, all).await?;
    assert_eq!((round.answers.ok, round.first_loads), (2_000, 1));
    Ok(())
}

/// Users change under the eyes of others: who asks after the answer of an update sees it.
async fn updates(run: &mut Run) -> Result<(), Box<dyn Error>> {
    let readers = {
        let (client, bar) = (run.client.clone(), run.bar.clone());
        tokio::spawn(async move {
            let answers = drive(&client, &bar, 1_000, |n| format!("users/{}", 1 + n % 10)).await;
            answers.map_err(|error| error.to_string())
        })
    };
    for id in 1..=10 {
        let (mail, name) = (format!("new{id}@example.org"), format!("Renamed {id}"));
        let changes = Changes { mail: mail.clone(), name: name.clone() };
        assert_eq!(run.client.update(id, changes).await?.name, name);
        assert_eq!(run.client.user(&format!("users/{id}")).await?.name, name);
        assert_eq!(run.client.user(&format!("mails/{mail}")).await?.name, name);
        let old = run.client.get(&format!("mails/{}", mail_of(id))).await?;
        assert_eq!(old.status(), reqwest::StatusCode::NOT_FOUND, "nobody has that mail any more");
    }
    assert_eq!(readers.await??.ok, 1_000);
    Ok(())
}

/// The database is slower than requests may be: the first run out of time, but their query goes on.
async fn time_outs(run: &mut Run) -> Result<(), Box<dyn Error>> {
    run.database.slow_down(true);
    let user = |_: usize| format!("users/{}", USERS - 1);
    let slow = run.round("slow database", 64, user).await?;
    assert!(slow.answers.out_of_time > 0);
    assert_eq!(slow.first_loads, 1);
    let later = run.round("the same, a little later", 64, user).await?;
    assert_eq!((later.answers.ok, later.first_loads), (64, 0), "it was not in vain");
    run.database.slow_down(false);
    Ok(())
}

/// Users that are often asked for, half of the time by their mail.
fn popular(_: usize) -> String {
    // Some far more often than others.
    let id = FIRST + (fastrand::f64().powi(3) * (POPULAR - 1) as f64) as i64;
    if fastrand::bool() { format!("users/{id}") } else { format!("mails/{}", mail_of(id)) }
}

/// A running service, and what was asked of it.
struct Run {
    database: Arc<Sqlite>,
    users: Users<Sqlite>,
    server: Server,
    client: Client,
    bar: ProgressBar,
    rounds: Vec<Round>,
}

/// Requests of one kind.
#[derive(Clone)]
struct Round {
    title: &'static str,
    answers: Answers,
    /// That the database was sent meanwhile.
    queries: u64,
    stale: u64,
    /// Loads of what was not there, for which callers had to wait.
    first_loads: u64,
}

impl Run {
    async fn start(
        database: &Arc<Sqlite>,
        prometheus: PrometheusHandle,
    ) -> Result<Self, Box<dyn Error>> {
        let users = Users::new(Arc::clone(database));
        let server = Server::start(users.clone(), prometheus).await?;
        let client = Client::new(server.address)?;
        let style = ProgressStyle::with_template("{msg:26} {wide_bar} {pos}/{len}")?;
        let bar = ProgressBar::new(0).with_style(style);
        let database = Arc::clone(database);
        Ok(Self { database, users, server, client, bar, rounds: Vec::new() })
    }

    /// The sum of a figure of both caches.
    fn sum(&self, figure: impl Fn(&CacheStats) -> u64) -> u64 {
        self.users.stats().iter().map(|(_, stats)| figure(stats)).sum()
    }

    async fn round(
        &mut self,
        title: &'static str,
        requests: usize,
        path: impl Fn(usize) -> String + Send + Sync + 'static,
    ) -> Result<Round, Box<dyn Error>> {
        let stale_hits = |stats: &CacheStats| stats.stale_hits;
        let first_loads = |stats: &CacheStats| stats.loads - stats.refreshes;
        let before = (self.database.queries(), self.sum(stale_hits), self.sum(first_loads));
        self.bar.set_message(title);
        self.bar.inc_length(requests as u64);
        let answers = drive(&self.client, &self.bar, requests, path).await?;
        // What it has begun in the background is its own.
        self.users.settle().await;
        let queries = self.database.queries() - before.0;
        let (stale, first_loads) =
            (self.sum(stale_hits) - before.1, self.sum(first_loads) - before.2);
        let round = Round { title, answers, queries, stale, first_loads };
        self.rounds.push(round.clone());
        Ok(round)
    }

    /// Lets the service answer what was asked, and stops it.
    async fn end(self) -> Result<Vec<Round>, Box<dyn Error>> {
        self.bar.finish_and_clear();
        self.server.stop().await?;
        Ok(self.rounds)
    }
}

fn report(rounds: &[Round], metrics: &str, traces: &Traces, saved: usize) {
    println!(
        "| {:<24} | {:>8} | {:>5} | {:>4} | {:>4} | {:>4} | {:>7} | {:>10} | {:>8} | {:>8} |",
        "round", "requests", "ok", "404", "503", "504", "queries", "stale hits", "p50", "p99",
    );
    println!(
        "|{:-<26}|{:->10}|{:->7}|{:->6}|{:->6}|{:->6}|{:->9}|{:->12}|{:->10}|{:->10}|",
        "", ":", ":", ":", ":", ":", ":", ":", ":", ":"
    );
    for Round { title, answers, queries, stale, .. } in rounds {
        println!(
            "| {title:<24} | {:>8} | {:>5} | {:>4} | {:>4} | {:>4} | {queries:>7} | {stale:>10} | {:>8} | {:>8} |",
            answers.all(),
            answers.ok,
            answers.unknown,
            answers.unavailable,
            answers.out_of_time,
            milliseconds(answers.within(0.5)),
            milliseconds(answers.within(0.99)),
        );
    }
    println!(
        "\n{saved} entries saved at the end of the first run, and restored at the start of the second."
    );
    println!("Checked: every answer, and how many loads callers had to wait for.");
    println!("\nOf /metrics:");
    let shown = ["hits", "stale_hits", "loads", "load_failures", "refreshes", "refresh_failures"];
    for name in shown {
        let sample = format!("async_lru_{name}_total{{cache=\"users\"}}");
        let line = metrics.lines().find(|line| line.starts_with(&sample));
        println!("  {}", line.expect("it is served"));
    }
    println!("\nOf {} spans of loads:", traces.loads());
    traces.some().iter().for_each(|line| println!("  {line}"));
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", 1_000.0 * time.as_secs_f64())
}

/// The files of a run, which are gone with it.
struct Files {
    folder: PathBuf,
    database: PathBuf,
    snapshot: PathBuf,
}

impl Files {
    fn new() -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("async-lru-service-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let file = |name: &str| Path::join(&folder, name);
        let (database, snapshot) = (file("users.sqlite"), file("cache.json"));
        Ok(Self { folder, database, snapshot })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
