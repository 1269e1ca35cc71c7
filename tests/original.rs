//! The Python original: each of its features is here, and none of its defects.

mod common;

use async_lru::{AsyncLru, Clock, LocalMemo, ManualClock, SystemClock};
use common::{Gate, hand, join_all, now, poll};
use futures_lite::future::{yield_now, zip};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Counts the runs of a function. A clone is another handle.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn count(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn so_far(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

// Defects.

/// Hashes as Python does: -1 like -2, every other number as itself.
#[derive(Default)]
struct LikePython(u64);

impl Hasher for LikePython {
    fn write(&mut self, _: &[u8]) {
        unimplemented!("the keys are numbers")
    }

    fn write_i64(&mut self, number: i64) {
        self.0 = if number == -1 { -2_i64 as u64 } else { number as u64 };
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

executors! {
    async fn keys_of_one_hash_are_told_apart() {
        let negate = AsyncLru::builder()
            .hasher(BuildHasherDefault::<LikePython>::new())
            .wrap(async |n: i64| -n);
        assert_eq!((negate.call(-1).await, negate.call(-2).await), (1, 2));
        assert_eq!((negate.call(-1).await, negate.call(-2).await), (1, 2));
        assert_eq!(negate.stats().loads, 2);
        assert!(negate.invalidate(&-1).await);
        assert_eq!(negate.cache().keys(), [-2]);
    }

    async fn a_cancelled_leader_leaves_no_waiter_hanging() {
        let runs = Runs::default();
        let counted = runs.clone();
        let never = Gate::new();
        let first_hangs = AsyncLru::builder().wrap_local(async move |id: u64| {
            if counted.count() == 1 {
                never.wait().await;
            }
            id
        });
        let mut leader = hand(first_hangs.call(1));
        let mut waiters: Vec<_> = (0..3).map(|_| hand(first_hangs.call(1))).collect();
        assert!(poll(&mut leader).is_pending());
        for waiter in &mut waiters {
            assert!(poll(waiter).is_pending());
        }
        drop(leader);
        for waiter in &mut waiters {
            assert_eq!(poll(waiter), Poll::Ready(1));
        }
        assert_eq!(runs.so_far(), 2);
    }

    async fn a_maxsize_of_zero_is_a_cache_that_keeps_nothing() {
        let runs = Runs::default();
        let counted = runs.clone();
        let double = AsyncLru::builder().maxsize(0).wrap_local(async move |n: u64| {
            counted.count();
            yield_now().await;
            n * 2
        });
        assert_eq!((double.call(4).await, double.call(4).await), (8, 8));
        assert_eq!((runs.so_far(), double.stats().current_size), (2, 0));
        assert_eq!(zip(double.call(4), double.call(4)).await, (8, 8));
        assert_eq!(runs.so_far(), 3, "callers of one moment share a run all the same");
    }

    async fn an_invalidation_during_a_load_keeps_the_stale_value_out() {
        let runs = Runs::default();
        let counted = runs.clone();
        let (gate, wait) = (Gate::new(), Gate::new());
        let gates = [gate.clone(), wait.clone()];
        let version = AsyncLru::builder().wrap_local(async move |_id: u64| {
            let run = counted.count();
            gates[run - 1].wait().await;
            run
        });
        let mut leader = hand(version.call(1));
        let mut joined = hand(version.call(1));
        assert!(poll(&mut leader).is_pending());
        assert!(poll(&mut joined).is_pending());
        assert!(now(version.invalidate(&1)));
        let mut later = hand(version.call(1));
        assert!(poll(&mut later).is_pending());
        gate.open();
        assert_eq!(poll(&mut leader), Poll::Ready(1));
        assert_eq!(poll(&mut joined), Poll::Ready(1));
        assert_eq!(version.cache().peek(&1), None, "stale");
        wait.open();
        assert_eq!(poll(&mut later), Poll::Ready(2));
        assert_eq!(version.cache().peek(&1), Some(2));
    }

    async fn no_step_of_a_clock_prolongs_or_revives_an_entry() {
        let clock = ManualClock::new();
        let cache = AsyncLru::<u64, u64>::builder().ttl(SECOND).clock(clock.clone()).build();
        clock.set(100 * SECOND);
        cache.insert(1, 1).await;
        clock.set(50 * SECOND);
        assert_eq!(cache.get(&1), Some(1), "a step back does not end a life");
        clock.set(101 * SECOND);
        assert_eq!(cache.get(&1), None, "nor does it prolong one");
        clock.set(100 * SECOND);
        assert_eq!(cache.get(&1), None, "nor does it bring one back");
    }

    async fn the_default_clock_never_steps_back() {
        let clock = SystemClock::new();
        let times: Vec<_> = (0..1_000).map(|_| clock.now()).collect();
        assert!(times.is_sorted());
        assert!(clock.now() < 3_600 * SECOND, "it counts from its own making, not from 1970");
    }

    async fn a_key_replaced_at_capacity_evicts_nobody() {
        let cache = AsyncLru::<u64, u64>::new(3);
        for key in 1..=3 {
            cache.insert(key, 0).await;
        }
        assert_eq!(cache.insert(3, 1).await, Some(0));
        assert_eq!(cache.insert(1, 1).await, Some(0));
        assert_eq!(cache.keys(), [2, 3, 1]);
        assert_eq!(cache.stats().evictions, 0);
    }

    async fn each_instance_has_entries_of_its_own() {
        let [one, two] = ["one", "two"].map(|name| {
            let name = name.to_owned();
            Client::new(async move |id| format!("{name} {id}"))
        });
        assert_eq!(one.fetch(1).await, "one 1");
        assert_eq!(two.fetch(1).await, "two 1");
        assert_eq!((one.pages.stats().loads, two.pages.stats().loads), (1, 1));
        assert!(one.pages.invalidate(&1).await);
        assert_eq!(two.pages.stats().current_size, 1);
    }
}

/// A service with a cached method.
struct Client<F> {
    pages: LocalMemo<u64, String, F>,
}

impl<F: AsyncFn(u64) -> String> Client<F> {
    fn new(fetch: F) -> Self {
        Self { pages: AsyncLru::builder().wrap_local(fetch) }
    }

    async fn fetch(&self, id: u64) -> String {
        self.pages.call(id).await
    }
}

// Features.

/// Arguments with defaults.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Search {
    text: String,
    limit: u32,
    tags: Vec<String>,
}

impl Default for Search {
    fn default() -> Self {
        Self { text: String::new(), limit: 10, tags: Vec::new() }
    }
}

executors! {
    async fn a_function_runs_once_for_equal_arguments() {
        let runs = Runs::default();
        let counted = runs.clone();
        let add = AsyncLru::builder().wrap_local(async move |(a, b): (u64, u64)| {
            counted.count();
            a + b
        });
        assert_eq!((add.call((1, 2)).await, add.call((1, 2)).await), (3, 3));
        assert_eq!(add.call((2, 1)).await, 3);
        assert_eq!(runs.so_far(), 2);
    }

    async fn by_default_there_is_room_for_1024_and_no_time_to_live() {
        let double = AsyncLru::builder().wrap(async |n: u64| n * 2);
        assert_eq!(double.call(1).await, 2);
        let info = double.info();
        assert_eq!((info.maxsize, info.ttl), (1024, None));
    }

    async fn the_least_recently_used_answer_makes_room() {
        let double = AsyncLru::builder().maxsize(2).wrap(async |n: u64| n * 2);
        for n in [1, 2, 1, 3] {
            double.call(n).await;
        }
        assert_eq!(double.cache().keys(), [1, 3]);
    }

    async fn an_answer_is_good_for_its_time_to_live() {
        let clock = ManualClock::new();
        let runs = Runs::default();
        let counted = runs.clone();
        let price = AsyncLru::builder()
            .ttl(60 * SECOND)
            .clock(clock.clone())
            .wrap_local(async move |_symbol: String| counted.count());
        let ask = || price.call("AAPL".to_owned());
        assert_eq!(ask().await, 1);
        clock.advance(59 * SECOND);
        assert_eq!(ask().await, 1);
        clock.advance(SECOND);
        assert_eq!(ask().await, 2);
        let stats = price.stats();
        assert_eq!((stats.hits, stats.misses, stats.ttl), (1, 2, Some(60 * SECOND)));
    }

    async fn parameters_can_be_ignored() {
        let runs = Runs::default();
        let counted = runs.clone();
        let permissions = AsyncLru::builder()
            .key_extractor(|(user, _request, _time): &(String, String, f64)| user.clone())
            .wrap_local(async move |(user, _request, _time): (String, String, f64)| {
                counted.count();
                user == "admin"
            });
        for (request, time) in [("a", 0.5), ("b", f64::NAN), ("c", f64::INFINITY)] {
            assert!(permissions.call(("admin".to_owned(), request.to_owned(), time)).await);
        }
        assert_eq!(runs.so_far(), 1);
        assert!(permissions.invalidate(&("admin".to_owned(), String::new(), -1.0)).await);
    }

    async fn lists_maps_sets_and_structs_are_arguments() {
        type Everything = (Vec<u64>, BTreeMap<String, u64>, BTreeSet<char>, Search, Option<()>);
        let runs = Runs::default();
        let counted = runs.clone();
        let everything = AsyncLru::builder().wrap_local(async move |_: Everything| counted.count());
        let arguments = |letters: &str| {
            let map = [("b", 2), ("a", 1)].map(|(key, value)| (key.to_owned(), value));
            (vec![1, 2], map.into(), letters.chars().collect(), Search::default(), None)
        };
        assert_eq!(everything.call(arguments("xyz")).await, 1);
        assert_eq!(everything.call(arguments("zyxx")).await, 1, "a set has no order");
        assert_eq!(everything.call(arguments("xy")).await, 2);
    }

    async fn a_map_without_an_order_is_an_argument_with_an_extractor() {
        let total = AsyncLru::builder()
            .key_extractor(|prices: &HashMap<String, u64>| {
                let mut sorted: Vec<_> = prices.iter().map(|(k, v)| (k.clone(), *v)).collect();
                sorted.sort_unstable();
                sorted
            })
            .wrap(async |prices: HashMap<String, u64>| prices.values().sum::<u64>());
        for _ in 0..3 {
            let prices = ["tea", "milk", "jam"].into_iter().zip(1..);
            let prices = prices.map(|(name, price)| (name.to_owned(), price)).collect();
            assert_eq!(total.call(prices).await, 6);
        }
        assert_eq!(total.stats().loads, 1);
    }

    async fn arguments_left_at_their_defaults_are_the_same_call() {
        let runs = Runs::default();
        let counted = runs.clone();
        let search = AsyncLru::builder().wrap_local(async move |_: Search| counted.count());
        let short = Search { text: "rust".to_owned(), ..Search::default() };
        let spelled_out = Search { tags: vec![], limit: 10, text: "rust".to_owned() };
        assert_eq!(search.call(short).await, search.call(spelled_out).await);
        assert_eq!(runs.so_far(), 1);
    }

    async fn an_answer_of_nothing_is_kept() {
        let runs = Runs::default();
        let counted = runs.clone();
        let find = AsyncLru::builder().wrap_local(async move |_id: u64| {
            counted.count();
            None::<String>
        });
        assert_eq!((find.call(1).await, find.call(1).await), (None, None));
        assert_eq!(runs.so_far(), 1);
    }

    async fn an_error_reaches_the_caller_and_is_not_kept() {
        let runs = Runs::default();
        let counted = runs.clone();
        let flaky = AsyncLru::builder().wrap_local(async move |id: u64| match counted.count() {
            1 => Err("down".to_owned()),
            _ => Ok(id),
        });
        assert_eq!(*flaky.try_call(1).await.unwrap_err(), "down");
        assert_eq!((flaky.try_call(1).await, flaky.try_call(1).await), (Ok(1), Ok(1)));
        assert_eq!(runs.so_far(), 2);
    }

    async fn one_answer_can_be_invalidated() {
        let double = AsyncLru::builder().wrap(async |n: u64| n * 2);
        double.call(1).await;
        double.call(2).await;
        assert!(double.invalidate(&1).await);
        assert!(!double.invalidate(&1).await);
        assert!(!double.invalidate(&9).await);
        assert_eq!(double.cache().keys(), [2]);
    }

    async fn clearing_forgets_answers_and_statistics() {
        let double = AsyncLru::builder().wrap(async |n: u64| n * 2);
        double.call(1).await;
        double.call(1).await;
        double.clear().await;
        let stats = double.stats();
        assert_eq!((stats.current_size, stats.hits, stats.misses), (0, 0, 0));
    }

    async fn statistics_tell_sizes_hits_misses_and_memory() {
        let repeat = AsyncLru::builder()
            .maxsize(100)
            .ttl(60 * SECOND)
            .deep_size()
            .wrap(async |n: usize| vec!["x".repeat(n); 10]);
        let empty = repeat.stats().total_size_in_memory_bytes;
        for n in [100_000, 100_000, 100_000, 5] {
            repeat.call(n).await;
        }
        let stats = repeat.stats();
        assert_eq!((stats.current_size, stats.max_size, stats.ttl), (2, Some(100), Some(60 * SECOND)));
        assert_eq!((stats.hits, stats.misses, stats.hit_rate()), (2, 2, 0.5));
        let grown = stats.total_size_in_memory_bytes - empty;
        assert!((1_000_000..1_100_000).contains(&grown), "what values own counts too: {grown}");
        assert!(stats.total_size_in_memory_pretty.ends_with(" KB"), "{stats}");
    }

    async fn the_configuration_can_be_asked_for() {
        let double = AsyncLru::builder().maxsize(7).ttl(SECOND).wrap(async |n: u64| n * 2);
        assert_eq!(double.call(1).await, 2);
        assert_eq!((double.info().maxsize, double.info().ttl), (7, Some(SECOND)));
    }

    async fn callers_of_one_moment_share_a_run() {
        let runs = Runs::default();
        let counted = runs.clone();
        let slow = AsyncLru::builder().wrap_local(async move |id: u64| {
            yield_now().await;
            counted.count();
            id
        });
        assert_eq!(join_all((0..10).map(|_| slow.call(1))).await, [1; 10]);
        assert_eq!(runs.so_far(), 1);
    }

    /// What the original says that it does.
    async fn callers_of_one_moment_can_run_it_each_for_himself() {
        let runs = Runs::default();
        let counted = runs.clone();
        let slow = AsyncLru::builder().without_single_flight().wrap_local(async move |id: u64| {
            yield_now().await;
            counted.count();
            id
        });
        assert_eq!(join_all((0..10).map(|_| slow.call(1))).await, [1; 10]);
        assert_eq!((runs.so_far(), slow.stats().current_size), (10, 1));
    }

    async fn a_cancelled_waiter_leaves_the_run_alone() {
        let gate = Gate::new();
        let wait = gate.clone();
        let slow = AsyncLru::builder().wrap_local(async move |id: u64| {
            wait.wait().await;
            id
        });
        let mut leader = hand(slow.call(1));
        let mut waiter = hand(slow.call(1));
        assert!(poll(&mut leader).is_pending());
        assert!(poll(&mut waiter).is_pending());
        drop(waiter);
        gate.open();
        assert_eq!(poll(&mut leader), Poll::Ready(1));
        assert_eq!(slow.stats().loads, 1);
    }

    async fn expired_answers_are_freed_without_being_asked_for() {
        let clock = ManualClock::new();
        let double = AsyncLru::builder()
            .maxsize(1_000)
            .shards(1)
            .ttl(SECOND)
            .clock(clock.clone())
            .wrap(async |n: u64| n * 2);
        for n in 0..400 {
            double.call(n).await;
        }
        clock.advance(SECOND);
        for n in 1_000..1_400 {
            double.call(n).await;
        }
        let stats = double.stats();
        assert_eq!((stats.current_size, stats.expirations, stats.evictions), (400, 400, 0));
    }

    async fn any_task_may_call() {
        let double = AsyncLru::builder().wrap(async |n: u64| n * 2);
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let double = double.clone();
                smol::spawn(async move { double.call(n % 2).await })
            })
            .collect();
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.await, n % 2 * 2);
        }
        assert_eq!(double.stats().loads, 2);
    }
}
