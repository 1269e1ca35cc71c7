//! Clients of all instances, who remember what they were told.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::database::User;
use crate::service::{Figures, HEARTBEAT, TIMEOUT, TTL_ALONE};

/// So long after the answer of an update another instance may serve what was there before: the way of a
/// message, on a machine that is busy.
pub(crate) const LINKED_BOUND: Duration = Duration::from_millis(100);
/// The same while an instance is cut off.
pub(crate) const CUT_OFF_BOUND: Duration =
    TTL_ALONE.saturating_add(HEARTBEAT).saturating_add(TIMEOUT);
/// Between two requests of a reader.
const READER_PAUSE: Duration = Duration::from_millis(2);
/// Between two updates.
const WRITER_PAUSE: Duration = Duration::from_millis(25);

/// All clients. Clones are the same.
#[derive(Clone)]
pub(crate) struct Clients(Arc<State>);

struct State {
    http: reqwest::Client,
    instances: Vec<SocketAddr>,
    popularity: Zipf,
    end: Instant,
    /// By user the versions whose updates were answered, and when.
    answered: Vec<Mutex<Vec<(u64, Instant)>>>,
    /// The store was killed,
    down: OnceLock<Instant>,
    /// and all instances were linked again.
    back: OnceLock<Instant>,
    seen: Seen,
}

/// What they saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicU64,
    pub(crate) updates: AtomicU64,
    /// The first failures of requests, and how many there were.
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) failed: AtomicU64,
    pub(crate) linked: Age,
    pub(crate) cut_off: Age,
    /// The times from the answer of an update until another instance served it.
    pub(crate) delays: Mutex<Vec<Duration>>,
    /// Those around the outage.
    pub(crate) delays_cut_off: Mutex<Vec<Duration>>,
}

/// Reads of a version older than one whose update was answered before.
#[derive(Default)]
pub(crate) struct Age {
    pub(crate) reads: AtomicU64,
    /// So many of them were older than they may be.
    pub(crate) too_old: AtomicU64,
    most_micros: AtomicU64,
}

impl Clients {
    /// Clients who ask for so many users for so long.
    pub(crate) fn new(
        instances: Vec<SocketAddr>,
        users: u64,
        time: Duration,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self(Arc::new(State {
            http: reqwest::Client::builder().no_proxy().build()?,
            instances,
            popularity: Zipf::new(users),
            end: Instant::now() + time,
            answered: (0..users).map(|_| Mutex::default()).collect(),
            down: OnceLock::new(),
            back: OnceLock::new(),
            seen: Seen::default(),
        })))
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.0.seen
    }

    /// Takes note that the store is about to be killed.
    pub(crate) fn store_goes_down(&self) {
        self.0.down.get_or_init(Instant::now);
    }

    /// Takes note that all instances are linked again.
    pub(crate) fn all_are_back(&self) {
        self.0.back.get_or_init(Instant::now);
    }

    /// Asks for users until the end, with so many readers at each instance and one who updates.
    pub(crate) async fn run(&self, readers: usize) {
        let mut tasks = JoinSet::new();
        for instance in 0..self.0.instances.len() {
            for _ in 0..readers {
                let clients = self.clone();
                tasks.spawn(async move { clients.read(instance).await });
            }
        }
        let clients = self.clone();
        tasks.spawn(async move { clients.update().await });
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no client panics");
        }
    }

    /// Asks an instance for its figures.
    pub(crate) async fn figures(&self, instance: usize) -> Result<Figures, Box<dyn Error>> {
        let url = format!("http://{}/figures", self.0.instances[instance]);
        Ok(self.0.http.get(url).send().await?.json().await?)
    }

    async fn read(&self, instance: usize) {
        while Instant::now() < self.0.end {
            self.get(instance, self.0.popularity.sample()).await;
            tokio::time::sleep(READER_PAUSE).await;
        }
    }

    /// The version that an instance gives of a user.
    async fn get(&self, instance: usize, id: u64) -> Option<u64> {
        let began = Instant::now();
        let request = self.0.http.get(self.url(instance, id));
        let version = self.version(request).await?;
        self.check(id, version, began);
        Some(version)
    }

    async fn update(&self) {
        let mut watches = JoinSet::new();
        let instances = self.0.instances.len();
        for number in 0.. {
            if Instant::now() >= self.0.end {
                break;
            }
            let (id, instance) = (self.0.popularity.sample(), fastrand::usize(..instances));
            let request = self.0.http.put(self.url(instance, id)).json(&format!("Name {number}"));
            if let Some(version) = self.version(request).await {
                let now = Instant::now();
                locked(&self.0.answered[id as usize]).push((version, now));
                self.0.seen.updates.fetch_add(1, Ordering::Relaxed);
                for other in (0..instances).filter(|other| *other != instance) {
                    let clients = self.clone();
                    watches.spawn(async move { clients.wait_for(other, id, version, now).await });
                }
            }
            tokio::time::sleep(WRITER_PAUSE).await;
        }
        while let Some(ended) = watches.join_next().await {
            ended.expect("no watch panics");
        }
    }

    /// Measures how long it takes until `instance` gives a version that was answered at `answered`.
    async fn wait_for(&self, instance: usize, id: u64, version: u64, answered: Instant) {
        // As long as there may be reads of old versions, and then some.
        while answered.elapsed() < 4 * CUT_OFF_BOUND {
            if self.get(instance, id).await.is_some_and(|seen| seen >= version) {
                break;
            }
            tokio::time::sleep(answered.elapsed() / 8).await;
        }
        let Seen { delays, delays_cut_off, .. } = self.seen();
        let delays = if self.0.is_cut_off(answered) { delays_cut_off } else { delays };
        locked(delays).push(answered.elapsed());
    }

    fn url(&self, instance: usize, id: u64) -> String {
        format!("http://{}/users/{id}", self.0.instances[instance])
    }

    /// The version in the answer to `request`, unless it fails.
    async fn version(&self, request: reqwest::RequestBuilder) -> Option<u64> {
        let seen = self.seen();
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let answer = async { request.send().await?.error_for_status()?.json::<User>().await };
        match answer.await {
            Ok(user) => Some(user.version),
            Err(error) => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
                let mut failures = locked(&seen.failures);
                if failures.len() < 3 {
                    failures.push(format!("{error:?}"));
                }
                None
            }
        }
    }

    /// Checks a version that was given to a request that began at `began`.
    fn check(&self, id: u64, version: u64, began: Instant) {
        let newer = {
            let answered = locked(&self.0.answered[id as usize]);
            answered.iter().find(|(newer, _)| *newer > version).map(|(_, at)| *at)
        };
        let Some(age) = newer.and_then(|newer| began.checked_duration_since(newer)) else {
            return;
        };
        match self.0.is_cut_off(began) {
            true => self.0.seen.cut_off.count(age, CUT_OFF_BOUND),
            false => self.0.seen.linked.count(age, LINKED_BOUND),
        }
    }
}

impl State {
    /// Whether instances may have been cut off then.
    fn is_cut_off(&self, at: Instant) -> bool {
        // What was served at the end of the outage may be counted a little later.
        let is_back = self.back.get().is_some_and(|back| at > *back + LINKED_BOUND);
        self.down.get().is_some_and(|down| at >= *down) && !is_back
    }
}

impl Age {
    fn count(&self, age: Duration, bound: Duration) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.most_micros.fetch_max(age.as_micros() as u64, Ordering::Relaxed);
        self.too_old.fetch_add(u64::from(age > bound), Ordering::Relaxed);
    }

    pub(crate) fn most(&self) -> Duration {
        Duration::from_micros(self.most_micros.load(Ordering::Relaxed))
    }
}

/// Users by how often they are asked for: the second half as often as the first, the third a third.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(users: u64) -> Self {
        let mut sum = 0.0;
        let up_to = |id| {
            sum += 1.0 / (id + 1) as f64;
            sum
        };
        Self((0..users).map(up_to).collect())
    }

    fn sample(&self) -> u64 {
        let all = self.0.last().copied().unwrap_or_default();
        let at = fastrand::f64() * all;
        self.0.partition_point(|up_to| *up_to <= at) as u64
    }
}

/// Nobody panics under a lock.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
