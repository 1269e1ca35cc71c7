//! Wrapped functions that can be named, kept anywhere and called from spawned tasks, whatever they have
//! captured: each shape is compiled, and run on tokio's work-stealing runtime, smol and async-std.

mod common;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use async_lru::LookupOutcome::{Hit, Joined, Loaded};
use async_lru::{AsyncLru, KeyExtractor, Memo, TryMemo};
use common::{Gate, hand, join_all, now, poll};
use futures_lite::future::{block_on, yield_now};

/// Runs what `test` makes as a spawned task of each executor that has several threads.
fn on_every_runtime<Fut>(test: impl Fn() -> Fut)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    common::tokio_multi_thread(Box::pin(test()));
    common::smol(Box::pin(test()));
    common::async_std(Box::pin(test()));
}

/// Asks of a future what every function that spawns asks.
fn spawnable<F>(task: F) -> F
where
    F: Future<Output: Send> + Send + 'static,
{
    task
}

async fn later<T>(answer: T) -> T {
    yield_now().await;
    answer
}

/// Ends after more polls than there are callers, each of which may poll it.
async fn slow<T>(answer: T) -> T {
    for _ in 0..20 {
        yield_now().await;
    }
    answer
}

/// Something to ask, behind a pointer.
trait Source: Send + Sync {
    fn find(&self, id: u64) -> Pin<Box<dyn Future<Output = Result<String, NotFound>> + Send + '_>>;
}

#[derive(Debug, PartialEq)]
struct NotFound(u64);

/// Counts what it is asked.
#[derive(Default)]
struct Names(AtomicUsize);

impl Source for Names {
    fn find(&self, id: u64) -> Pin<Box<dyn Future<Output = Result<String, NotFound>> + Send + '_>> {
        Box::pin(async move {
            self.0.fetch_add(1, Ordering::Relaxed);
            later(if id < 100 { Ok(format!("name {id}")) } else { Err(NotFound(id)) }).await
        })
    }
}

// Where a memo can be.

/// A field of a struct without type parameters, whose function has captured an `Arc<dyn Trait>`.
#[derive(Clone)]
struct Users {
    names: TryMemo<u64, u64, String, NotFound>,
}

impl Users {
    fn new(source: Arc<dyn Source>) -> Self {
        let names = AsyncLru::builder().maxsize(100).try_wrap(move |id: u64| {
            let source = Arc::clone(&source);
            async move { source.find(id).await }
        });
        Self { names }
    }

    async fn name(&self, id: u64) -> Result<String, Arc<NotFound>> {
        self.names.call(id).await
    }
}

#[test]
fn a_field_of_a_struct_without_type_parameters() {
    on_every_runtime(|| async {
        let users = Users::new(Arc::new(Names::default()));
        let call = |id| {
            let users = users.clone();
            spawnable(async move { users.name(id).await })
        };
        for answer in join_all((0..6).map(|_| call(1))).await {
            assert_eq!(answer.as_deref(), Ok("name 1"));
        }
        assert_eq!(*users.name(404).await.unwrap_err(), NotFound(404));
        assert_eq!(users.names.stats().loads, 2);
    });
}

static SQUARES: LazyLock<Memo<u64, u64, u64>> =
    LazyLock::new(|| AsyncLru::builder().wrap(|n: u64| later(n * n)));

/// Calls itself for other arguments.
static FIBONACCI: LazyLock<Memo<u64, u64, u64>> =
    LazyLock::new(|| AsyncLru::builder().wrap(fibonacci));

fn fibonacci(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n < 2 { n } else { FIBONACCI.call(n - 1).await + FIBONACCI.call(n - 2).await }
    })
}

#[test]
fn a_static() {
    on_every_runtime(|| async {
        assert_eq!(SQUARES.call(12).await, 144);
        assert_eq!(FIBONACCI.call(50).await, 12_586_269_025);
    });
    assert_eq!((SQUARES.stats().loads, FIBONACCI.stats().loads), (1, 51));
}

/// A trait object that holds a memo.
trait Greeter: Send + Sync {
    fn greet(&self, name: &'static str) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
}

struct Cached {
    greetings: Memo<&'static str, &'static str, String>,
}

impl Greeter for Cached {
    fn greet(&self, name: &'static str) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(self.greetings.call(name))
    }
}

#[test]
fn a_trait_object_whose_memo_takes_static_texts() {
    on_every_runtime(|| async {
        let greetings = AsyncLru::builder().wrap(|name: &'static str| async move {
            let name: &'static str = later(name).await;
            format!("hello {name}")
        });
        let greeter: Arc<dyn Greeter> = Arc::new(Cached { greetings });
        let shared = Arc::clone(&greeter);
        spawnable(async move { assert_eq!(shared.greet("ann").await, "hello ann") }).await;
        assert_eq!(greeter.greet("bob").await, "hello bob");
    });
}

/// A service whose repository is a type parameter.
struct Service<R> {
    memo: TryMemo<u64, u64, String, NotFound>,
    _repo: Arc<R>,
}

trait Repo: Send + Sync + 'static {
    fn load(&self, id: u64) -> impl Future<Output = Result<String, NotFound>> + Send;
}

impl Repo for Names {
    async fn load(&self, id: u64) -> Result<String, NotFound> {
        self.find(id).await
    }
}

impl<R: Repo> Service<R> {
    fn new(repo: R) -> Self {
        let repo = Arc::new(repo);
        let source = Arc::clone(&repo);
        let memo = AsyncLru::builder().try_wrap(move |id: u64| {
            let source = Arc::clone(&source);
            async move { source.load(id).await }
        });
        Self { memo, _repo: repo }
    }

    async fn name(&self, id: u64) -> Result<String, Arc<NotFound>> {
        self.memo.call(id).await
    }
}

#[test]
fn a_service_that_is_generic_over_its_repository() {
    async fn ask<R: Repo>(service: Arc<Service<R>>) {
        let other = Arc::clone(&service);
        let name = spawnable(async move { other.name(7).await });
        assert_eq!(name.await.as_deref(), Ok("name 7"));
        assert!(service.name(700).await.is_err());
    }
    on_every_runtime(|| ask(Arc::new(Service::new(Names::default()))));
}

#[test]
fn a_key_extractor_of_any_kind() {
    struct ByCity(HashMap<&'static str, u8>);

    impl KeyExtractor<(String, u64)> for ByCity {
        type Key = u8;

        fn extract(&self, (city, _): &(String, u64)) -> u8 {
            self.0[city.as_str()]
        }
    }

    on_every_runtime(|| async {
        let by_city = ByCity(HashMap::from([("Rome", 1), ("Bari", 1), ("Oslo", 2)]));
        let weather: Memo<(String, u64), u8, String> =
            AsyncLru::builder().key_extractor(by_city).wrap(|(city, _): (String, u64)| later(city));
        let ask = |city: &str| weather.call((city.to_owned(), 1));
        assert_eq!((ask("Rome").await, ask("Bari").await), ("Rome".into(), "Rome".into()));
        assert_eq!(ask("Oslo").await, "Oslo");
        assert_eq!(weather.get(&("Bari".to_owned(), 9)), Some("Rome".to_owned()));
        assert!(weather.invalidate(&("Bari".to_owned(), 2)).await);
        assert_eq!(weather.get(&("Rome".to_owned(), 1)), None);
    });
}

// What a call does.

executors! {
    async fn callers_of_one_moment_share_one_run_and_are_told_so() {
        let squares: Memo<u64, u64, u64> = AsyncLru::builder().wrap(|n: u64| slow(n * n));
        let lookups = join_all((0..3).map(|_| squares.call_traced(7))).await;
        let outcomes = lookups.iter().map(|lookup| (lookup.value, lookup.outcome));
        assert_eq!(Vec::from_iter(outcomes), [(49, Loaded), (49, Joined), (49, Joined)]);
        assert_eq!(squares.call_traced(7).await.outcome, Hit);
        squares.clear().await;
        assert_eq!(squares.stats().calls(), 0);
        assert_eq!(squares.cache().validate(), 0);
    }

    async fn callers_of_a_run_that_fails_share_its_error_and_it_is_not_kept() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let find = AsyncLru::builder().try_wrap(move |id: u64| {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            slow(if run == 0 { Err(NotFound(id)) } else { Ok(id) })
        });
        let answers = join_all((0..4).map(|_| find.call(9))).await;
        let first = answers[0].as_ref().unwrap_err();
        assert_eq!(**first, NotFound(9));
        assert!(answers.iter().all(|answer| Arc::ptr_eq(answer.as_ref().unwrap_err(), first)));
        assert_eq!((find.call(9).await, find.call_traced(9).await.unwrap().outcome), (Ok(9), Hit));
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert_eq!((find.stats().loads, find.stats().load_failures), (2, 1));
        assert_eq!((find.get(&9), find.info().maxsize), (Some(9), 1024));
    }
}

#[test]
fn a_dropped_call_leaves_its_run_to_the_others() {
    let gate = Gate::new();
    let wait = gate.clone();
    let names: Memo<u64, u64, u64> = AsyncLru::builder().wrap(move |id: u64| {
        let gate = wait.clone();
        async move {
            gate.wait().await;
            id
        }
    });
    let (mut first, mut second) = (hand(names.call(1)), hand(names.call(1)));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(first);
    gate.open();
    assert_eq!(poll(&mut second), Poll::Ready(1));
    assert_eq!((names.stats().loads, names.stats().load_failures), (1, 0));
}

#[test]
fn a_value_of_one_thread_is_made_by_a_function_that_is_not() {
    let texts: Memo<u64, u64, Rc<str>> =
        AsyncLru::builder().wrap(|n: u64| async move { later(n).await.to_string().into() });
    let text = block_on(texts.call(7));
    assert!(Rc::ptr_eq(&text, &now(texts.clone().call(7))));
    assert!(format!("{texts:?}").starts_with("Memo"));
}
