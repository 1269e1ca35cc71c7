//! Wrapped functions that may borrow what they captured: what tells calls apart, where they can live, and where their futures can run.

mod common;

use async_lru::{ArgsAsKey, AsyncLru, KeyExtractor, LocalMemo, ManualClock};
use common::{Gate, hand, join_all, now, poll};
use futures_lite::future::{block_on, yield_now, zip};
use std::cell::Cell;
use std::collections::HashMap;
use std::future::Future;
use std::hash::RandomState;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a function pointer can return.
type Boxed<V> = Pin<Box<dyn Future<Output = V> + Send>>;

/// The same for one thread.
type BoxedLocal<V> = Pin<Box<dyn Future<Output = V>>>;

/// What the functions here ask. A clone is another handle.
#[derive(Clone, Default)]
struct Db {
    asked: Arc<AtomicUsize>,
}

impl Db {
    /// Counts a question, and returns how many came before it.
    fn ask(&self) -> usize {
        self.asked.fetch_add(1, Ordering::Relaxed)
    }

    async fn name(&self, id: u64) -> String {
        yield_now().await;
        self.ask();
        format!("name {id}")
    }

    async fn find(&self, id: u64) -> Result<String, NotFound> {
        let name = self.name(id).await;
        if id < 100 { Ok(name) } else { Err(NotFound(id)) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct NotFound(u64);

/// Not `Clone`, not `Eq`, not `Hash`: only what an extractor takes of it has to be.
struct Query {
    city: String,
    timeout_seconds: f64,
}

fn query(city: &str, timeout_seconds: f64) -> Query {
    Query { city: city.to_owned(), timeout_seconds }
}

struct ByCity;

impl KeyExtractor<Query> for ByCity {
    type Key = String;

    fn extract(&self, query: &Query) -> String {
        query.city.clone()
    }
}

fn city_of(query: &Query) -> String {
    query.city.clone()
}

async fn forecast(query: Query) -> String {
    yield_now().await;
    format!("{} in {} s", query.city, query.timeout_seconds)
}

fn double(n: u64) -> Boxed<u64> {
    Box::pin(async move {
        yield_now().await;
        n * 2
    })
}

// Keys.

executors! {
    async fn without_an_extractor_all_arguments_are_the_key() {
        let db = Db::default();
        let asked = db.clone();
        let add = AsyncLru::builder().maxsize(10).wrap_local(async move |(a, b): (u64, u64)| {
            asked.ask();
            a + b
        });
        assert_eq!((add.call((1, 2)).await, add.call((1, 2)).await), (3, 3));
        assert_eq!(db.asked(), 1);
        assert_eq!(add.call((2, 1)).await, 3);
        assert_eq!(db.asked(), 2);
        assert_eq!(add.cache().keys(), [(1, 2), (2, 1)]);
    }

    async fn with_an_extractor_what_it_leaves_out_does_not_tell_calls_apart() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder()
            .key_extractor(|(id, _request): &(u64, String)| *id)
            .wrap_local(async move |(id, _request): (u64, String)| asked.name(id).await);
        for request in ["a", "b", "c"] {
            assert_eq!(names.call((7, request.to_owned())).await, "name 7");
        }
        assert_eq!((db.asked(), names.cache().keys()), (1, vec![7]));
        assert_eq!(names.call((8, "a".to_owned())).await, "name 8");
    }

    async fn an_extractor_may_be_a_type_of_ones_own() {
        let weather = AsyncLru::builder().key_extractor(ByCity).wrap_local(forecast);
        assert_eq!(weather.call(query("Rome", 1.0)).await, "Rome in 1 s");
        assert_eq!(weather.call(query("Rome", 2.0)).await, "Rome in 1 s");
        assert_eq!(weather.call(query("Oslo", 2.0)).await, "Oslo in 2 s");
        assert_eq!(weather.stats().loads, 2);
    }

    async fn an_extractor_may_be_a_function() {
        let weather = AsyncLru::builder().key_extractor(city_of).wrap_local(forecast);
        assert_eq!(weather.call(query("Rome", 1.0)).await, "Rome in 1 s");
        assert_eq!(weather.call(query("Rome", 2.0)).await, "Rome in 1 s");
        let pointer: fn(&Query) -> String = city_of;
        let weather = AsyncLru::builder().key_extractor(pointer).wrap_local(forecast);
        assert_eq!(weather.call(query("Rome", 3.0)).await, "Rome in 3 s");
        assert!(weather.invalidate(&query("Rome", 4.0)).await);
    }

    async fn an_extractor_may_hold_what_it_needs() {
        let region = HashMap::from([("Rome", "south"), ("Bari", "south"), ("Oslo", "north")]);
        let weather = AsyncLru::builder()
            .maxsize(10)
            .key_extractor(move |query: &Query| region[query.city.as_str()])
            .wrap_local(forecast);
        assert_eq!(weather.call(query("Rome", 1.0)).await, "Rome in 1 s");
        assert_eq!(weather.call(query("Bari", 1.0)).await, "Rome in 1 s");
        assert_eq!(weather.call(query("Oslo", 1.0)).await, "Oslo in 1 s");
        assert_eq!(weather.cache().keys(), ["south", "north"]);
    }

    async fn the_extractor_runs_once_per_call() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder()
            .key_extractor(move |id: &u64| {
                asked.ask();
                *id
            })
            .wrap_local(async |id: u64| id);
        names.call(1).await;
        names.call(1).await;
        names.invalidate(&1).await;
        assert_eq!(db.asked(), 3);
    }

    async fn a_function_may_have_no_arguments() {
        let db = Db::default();
        let setting = AsyncLru::builder().wrap_local(async move |()| db.ask());
        assert_eq!((setting.call(()).await, setting.call(()).await), (0, 0));
        assert!(setting.invalidate(&()).await);
        assert_eq!(setting.call(()).await, 1);
    }
}

#[test]
fn args_as_key_gives_the_arguments_themselves() {
    assert_eq!(ArgsAsKey.extract(&("a".to_owned(), 1)), ("a".to_owned(), 1));
}

// What a call does.

executors! {
    async fn callers_of_one_moment_share_one_run() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| asked.name(id).await);
        let calls: Vec<_> = (0..60).map(|call| names.call(call % 3)).collect();
        for (call, name) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(name, format!("name {}", call % 3));
        }
        assert_eq!(db.asked(), 3);
        let stats = names.stats();
        assert_eq!((stats.misses, stats.coalesced, stats.loads), (3, 57, 3));
    }

    async fn try_call_caches_no_error() {
        let db = Db::default();
        let asked = db.clone();
        let find = AsyncLru::builder().wrap_local(async move |id: u64| asked.find(id).await);
        for asked in 1..=2 {
            assert_eq!(find.try_call(404).await, Err(Arc::new(NotFound(404))));
            assert_eq!(db.asked(), asked);
        }
        for _ in 0..2 {
            assert_eq!(find.try_call(1).await, Ok("name 1".to_owned()));
        }
        assert_eq!((db.asked(), find.cache().keys()), (3, vec![1]));
        assert_eq!(find.stats().load_failures, 2);
    }

    async fn waiters_of_a_failed_run_get_its_error() {
        let db = Db::default();
        let asked = db.clone();
        let flaky = AsyncLru::builder().wrap_local(async move |id: u64| {
            yield_now().await;
            if asked.ask() == 0 { Err(NotFound(id)) } else { Ok(id) }
        });
        let answers = zip(flaky.try_call(1), zip(flaky.try_call(1), flaky.try_call(1))).await;
        let failed = || Err(Arc::new(NotFound(1)));
        assert_eq!(answers, (failed(), (failed(), failed())));
        assert_eq!(db.asked(), 1);
        assert_eq!(flaky.try_call(1).await, Ok(1));
    }

    /// For a function whose errors are answers too.
    async fn call_caches_whatever_the_function_answers() {
        let db = Db::default();
        let asked = db.clone();
        let find = AsyncLru::builder().wrap_local(async move |id: u64| asked.find(id).await);
        for _ in 0..2 {
            assert_eq!(find.call(404).await, Err(NotFound(404)));
        }
        assert_eq!((db.asked(), find.stats().current_size), (1, 1));
    }

    async fn invalidate_forgets_one_answer() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| asked.name(id).await);
        names.call(1).await;
        names.call(2).await;
        assert!(names.invalidate(&1).await);
        assert!(!names.invalidate(&1).await);
        names.call(2).await;
        assert_eq!(db.asked(), 2);
        names.call(1).await;
        assert_eq!(db.asked(), 3);
    }

    async fn invalidate_keeps_the_answer_of_a_run_in_flight_out() {
        let gate = Gate::new();
        let wait = gate.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| {
            wait.wait().await;
            id
        });
        let mut call = hand(names.call(1));
        assert!(poll(&mut call).is_pending());
        assert!(now(names.invalidate(&1)));
        gate.open();
        assert_eq!(poll(&mut call), Poll::Ready(1));
        assert!(names.cache().is_empty());
    }

    async fn a_dropped_call_leaves_its_run_to_a_waiter() {
        let gate = Gate::new();
        let wait = gate.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| {
            wait.wait().await;
            id
        });
        let mut first = hand(names.call(1));
        let mut second = hand(names.call(1));
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        drop(first);
        assert!(poll(&mut second).is_pending());
        gate.open();
        assert_eq!(poll(&mut second), Poll::Ready(1));
        assert_eq!((names.stats().loads, names.stats().load_failures), (2, 1));
    }

    async fn clear_forgets_all_answers_and_the_statistics() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| asked.name(id).await);
        names.call(1).await;
        names.call(1).await;
        names.clear().await;
        let stats = names.stats();
        assert_eq!((stats.current_size, stats.hits, stats.misses), (0, 0, 0));
        names.call(1).await;
        assert_eq!(db.asked(), 2);
    }

    async fn the_cache_underneath_is_the_one_that_calls_use() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| asked.name(id).await);
        names.cache().insert(1, "set by hand".to_owned()).await;
        assert_eq!(names.call(1).await, "set by hand");
        names.call(2).await;
        assert_eq!(names.cache().get(&2), Some("name 2".to_owned()));
        assert_eq!((names.info(), names.stats()), (names.cache().info(), names.cache().stats()));
    }

    async fn a_clone_is_another_handle_to_the_same_function_and_cache() {
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder().wrap_local(async move |id: u64| asked.name(id).await);
        let other = names.clone();
        names.call(1).await;
        other.call(1).await;
        assert_eq!((db.asked(), other.stats().hits), (1, 1));
        drop(names);
        assert_eq!(other.call(2).await, "name 2");
    }

    async fn two_wrapped_functions_share_nothing() {
        let db = Db::default();
        let [left, right] = ["left", "right"].map(|side| {
            let asked = db.clone();
            let side = side.to_owned();
            AsyncLru::builder().wrap_local(async move |id: u64| {
                asked.ask();
                format!("{side} {id}")
            })
        });
        assert_eq!(left.call(1).await, "left 1");
        assert!(right.cache().is_empty());
        assert_eq!(right.call(1).await, "right 1");
        assert_eq!(db.asked(), 2);
        left.clear().await;
        assert_eq!(right.stats().current_size, 1);
    }

    async fn every_setting_of_the_builder_holds_for_a_wrapped_function() {
        let clock = ManualClock::new();
        let db = Db::default();
        let asked = db.clone();
        let names = AsyncLru::builder()
            .maxsize(2)
            .ttl(SECOND)
            .clock(clock.clone())
            .shards(1)
            .hasher(RandomState::new())
            .measure_with(|_, _| 1_000_000)
            .without_single_flight()
            .key_extractor(|id: &u64| *id)
            .wrap_local(async move |id: u64| {
                asked.ask();
                yield_now().await;
                id
            });
        let info = names.info();
        assert_eq!((info.maxsize, info.ttl, info.shards), (2, Some(SECOND), 1));
        zip(names.call(1), names.call(1)).await;
        assert_eq!(db.asked(), 2);
        for id in [2, 3] {
            names.call(id).await;
        }
        assert_eq!(names.cache().keys(), [2, 3]);
        assert!(names.stats().total_size_in_memory_bytes > 2_000_000);
        clock.advance(SECOND);
        names.call(3).await;
        assert_eq!(db.asked(), 5);
    }

    async fn settings_may_follow_the_extractor() {
        let names = AsyncLru::builder()
            .key_extractor(|id: &u64| *id)
            .maxsize(3)
            .hasher(RandomState::new())
            .ttl(SECOND)
            .deep_size()
            .wrap_local(async |id: u64| id.to_string());
        assert_eq!(names.call(1).await, "1");
        assert_eq!((names.info().maxsize, names.info().ttl), (3, Some(SECOND)));
    }

    async fn debug_shows_no_arguments_and_no_answers() {
        let echo = AsyncLru::builder().maxsize(77).wrap_local(async |text: String| text);
        echo.call("secret".to_owned()).await;
        let shown = format!("{echo:?}");
        assert!(shown.contains("77") && !shown.contains("secret"), "{shown}");
    }
}

// Functions of all kinds.

executors! {
    async fn a_closure_may_borrow_what_it_has_captured() {
        let prefix = "hello ".to_owned();
        let greet = AsyncLru::builder().wrap_local(async move |name: String| {
            yield_now().await;
            let greeting: &str = &prefix;
            greeting.to_owned() + &name
        });
        assert_eq!(greet.call("ann".to_owned()).await, "hello ann");
        assert_eq!(greet.call("bob".to_owned()).await, "hello bob");
    }

    async fn a_closure_may_return_a_future() {
        let db = Db::default();
        let names = AsyncLru::builder().wrap_local(move |id: u64| {
            let db = db.clone();
            async move { db.name(id).await }
        });
        assert_eq!(names.call(1).await, "name 1");
    }

    async fn a_function_can_be_wrapped() {
        let weather = AsyncLru::builder().key_extractor(ByCity).wrap_local(forecast);
        assert_eq!(weather.call(query("Rome", 1.0)).await, "Rome in 1 s");
    }
}

#[test]
fn a_closure_may_borrow_what_lives_as_long_as_the_memo() {
    let texts = ["zero".to_owned(), "one".to_owned()];
    let text = AsyncLru::<usize, &str>::builder().wrap_local(async |n: usize| texts[n].as_str());
    assert_eq!(block_on(text.call(1)), "one");
    assert_eq!(text.cache().get(&1), Some("one"));
}

fn text_of(text: &&str) -> String {
    (*text).to_owned()
}

async fn length_of(text: &str) -> usize {
    text.len()
}

#[test]
fn arguments_may_be_borrowed() {
    let length = AsyncLru::builder().key_extractor(text_of).wrap_local(length_of);
    assert_eq!(block_on(length.call("four")), 4);
    {
        let short_lived = "fo".to_owned() + "ur";
        assert_eq!(block_on(length.call(&short_lived)), 4);
        assert!(block_on(length.invalidate(&&*short_lived)));
    }
    assert_eq!(length.stats().loads, 1);
}

#[test]
fn a_pointer_and_a_boxed_function_can_be_wrapped() {
    let pointer = AsyncLru::builder().wrap_local(double as fn(u64) -> Boxed<u64>);
    assert_eq!(block_on(pointer.call(4)), 8);
    let boxed: Box<dyn Fn(u64) -> Boxed<u64> + Send + Sync> = Box::new(double);
    let boxed = AsyncLru::builder().wrap_local(move |n: u64| boxed(n));
    assert_eq!(block_on(boxed.call(4)), 8);
}

type Recursive = fn(u64) -> BoxedLocal<u64>;

/// Lives in a static, so the function can call the memo again.
static FIBONACCI: LazyLock<LocalMemo<u64, u64, Recursive>> =
    LazyLock::new(|| AsyncLru::builder().wrap_local(fibonacci as _));

fn fibonacci(n: u64) -> BoxedLocal<u64> {
    Box::pin(async move {
        if n < 2 { n } else { FIBONACCI.call(n - 1).await + FIBONACCI.call(n - 2).await }
    })
}

#[test]
fn a_memo_in_a_static_may_call_itself_for_other_arguments() {
    assert_eq!(block_on(FIBONACCI.call(50)), 12_586_269_025);
    assert_eq!(FIBONACCI.stats().loads, 51);
}

// Fields.

type Forecast = fn(Query) -> Boxed<String>;

/// Function pointers name the type in full.
struct Service {
    doubles: LocalMemo<u64, u64, fn(u64) -> Boxed<u64>>,
    forecasts: LocalMemo<String, String, Forecast, ByCity>,
    by_pointer: LocalMemo<String, String, Forecast, fn(&Query) -> String>,
}

fn boxed_forecast(query: Query) -> Boxed<String> {
    Box::pin(forecast(query))
}

impl Service {
    fn new() -> Self {
        Self {
            doubles: AsyncLru::builder().wrap_local(double as _),
            forecasts: AsyncLru::builder().key_extractor(ByCity).wrap_local(boxed_forecast as _),
            by_pointer: AsyncLru::builder()
                .key_extractor(city_of as fn(&Query) -> String)
                .wrap_local(boxed_forecast as _),
        }
    }

    async fn double(&self, n: u64) -> u64 {
        self.doubles.call(n).await
    }
}

/// Type parameters take any function.
struct Generic<F, X = ArgsAsKey> {
    memo: LocalMemo<u64, String, F, X>,
}

impl<F: AsyncFn(u64) -> String> Generic<F> {
    fn new(function: F) -> Self {
        Self { memo: AsyncLru::builder().maxsize(10).wrap_local(function) }
    }

    async fn name(&self, id: u64) -> String {
        self.memo.call(id).await
    }

    async fn rename(&self, id: u64) -> bool {
        self.memo.invalidate(&id).await
    }
}

/// A memo behind a boxed function.
struct Hidden {
    name: Box<dyn Fn(u64) -> Boxed<String> + Send + Sync>,
}

impl Hidden {
    fn new(db: Db) -> Self {
        let memo = AsyncLru::builder().wrap_local(async move |id: u64| db.name(id).await);
        let name = move |id| -> Boxed<String> {
            let memo = memo.clone();
            Box::pin(async move { memo.call(id).await })
        };
        Self { name: Box::new(name) }
    }
}

#[test]
fn a_memo_of_function_pointers_can_be_a_field() {
    let service = Service::new();
    assert_eq!(block_on(zip(service.double(4), service.double(4))), (8, 8));
    assert_eq!(service.doubles.stats().coalesced, 1);
    let ask = |seconds| block_on(service.forecasts.call(query("Rome", seconds)));
    assert_eq!([ask(1.0), ask(2.0)], ["Rome in 1 s", "Rome in 1 s"]);
    let ask = |seconds| block_on(service.by_pointer.call(query("Rome", seconds)));
    assert_eq!([ask(3.0), ask(4.0)], ["Rome in 3 s", "Rome in 3 s"]);
    assert!(block_on(service.by_pointer.invalidate(&query("Rome", 5.0))));
}

executors! {
    async fn a_memo_of_type_parameters_can_be_a_field() {
        let db = Db::default();
        let asked = db.clone();
        let service = Generic::new(async move |id| asked.name(id).await);
        assert_eq!(service.name(1).await, "name 1");
        assert_eq!(service.name(1).await, "name 1");
        assert!(service.rename(1).await);
        service.name(1).await;
        assert_eq!(db.asked(), 2);
    }

    async fn a_memo_can_hide_behind_a_boxed_function() {
        let db = Db::default();
        let service = Hidden::new(db.clone());
        for _ in 0..2 {
            assert_eq!((service.name)(1).await, "name 1");
        }
        assert_eq!(db.asked(), 1);
    }
}

// Spawning.

#[test]
fn calls_can_be_spawned_on_a_tokio_runtime_of_several_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (db, gate) = (Db::default(), Gate::new());
        let (asked, wait) = (db.clone(), gate.clone());
        let names = AsyncLru::builder()
            .key_extractor(|(id, _request): &(u64, String)| *id)
            .wrap_local(async move |(id, _request): (u64, String)| {
                wait.wait().await;
                asked.name(id).await
            });
        let spawn = |request: usize| {
            let names = names.clone();
            tokio::spawn(async move { names.call((1, request.to_string())).await })
        };
        let calls: Vec<_> = (0..20).map(spawn).collect();
        while names.stats().coalesced < 19 {
            tokio::task::yield_now().await;
        }
        gate.open();
        for call in calls {
            assert_eq!(call.await.unwrap(), "name 1");
        }
        assert_eq!(db.asked(), 1);
    });
}

#[test]
fn calls_can_be_spawned_on_smol() {
    smol::block_on(async {
        let db = Db::default();
        let find = AsyncLru::builder().wrap_local(async move |id: u64| db.find(id).await);
        let spawn = |id| {
            let find = find.clone();
            smol::spawn(async move { (id, find.try_call(id).await) })
        };
        for call in (95..105).map(spawn).collect::<Vec<_>>() {
            let (id, answer) = call.await;
            assert_eq!(
                answer,
                if id < 100 { Ok(format!("name {id}")) } else { Err(Arc::new(NotFound(id))) }
            );
        }
        assert_eq!(find.stats().current_size, 5);
    });
}

#[test]
fn a_shared_service_can_be_called_from_spawned_tasks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let db = Db::default();
        let asked = db.clone();
        let service = Arc::new(Generic::new(async move |id| asked.name(id).await));
        let spawn = |id| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.name(id).await })
        };
        for (id, call) in (0..10).map(spawn).collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), format!("name {id}"));
        }
        assert_eq!(db.asked(), 10);
    });
}

// Functions and values of one thread.

#[test]
fn a_function_that_holds_an_rc_works_on_a_bare_executor() {
    let runs = Rc::new(Cell::new(0));
    let counted = {
        let runs = Rc::clone(&runs);
        AsyncLru::<Rc<str>, Rc<str>>::builder().wrap_local(async move |text: Rc<str>| {
            yield_now().await;
            runs.set(runs.get() + 1);
            text
        })
    };
    block_on(async {
        let both = zip(counted.call("a".into()), counted.call("a".into())).await;
        assert!(Rc::ptr_eq(&both.0, &both.1));
    });
    assert_eq!(runs.get(), 1);
}

#[test]
fn a_function_that_holds_an_rc_can_be_spawned_on_a_local_set() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let runs = Rc::new(Cell::new(0));
        let counted = {
            let runs = Rc::clone(&runs);
            AsyncLru::<u64, Rc<str>>::builder().wrap_local(async move |id: u64| -> Rc<str> {
                yield_now().await;
                runs.set(runs.get() + 1);
                id.to_string().into()
            })
        };
        let spawn = |_| {
            let counted = counted.clone();
            tokio::task::spawn_local(async move { counted.call(1).await })
        };
        for call in (0..5).map(spawn).collect::<Vec<_>>() {
            assert_eq!(&*call.await.unwrap(), "1");
        }
        assert_eq!((runs.get(), counted.stats().coalesced), (1, 4));
    });
}

#[test]
fn a_function_that_holds_an_rc_can_be_spawned_on_a_local_executor_of_smol() {
    let runs = Cell::new(0);
    let counted = AsyncLru::<u64, Rc<str>>::builder().wrap_local(async |id: u64| -> Rc<str> {
        yield_now().await;
        runs.set(runs.get() + 1);
        id.to_string().into()
    });
    let executor = smol::LocalExecutor::new();
    let calls: Vec<_> = (0..5).map(|_| executor.spawn(counted.call(1))).collect();
    block_on(executor.run(async {
        for call in calls {
            assert_eq!(&*call.await, "1");
        }
    }));
    assert_eq!(runs.get(), 1);
}
