//! What has broken in other caches and is tested nowhere else here.
//!
//! The number in a test's comment is that of the table in `docs/reliability.md`, which says where each
//! failure was seen and which test stands against it.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::cell::RefCell;
use std::fs;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use common::{Gate, hand, now, poll};

type Cache = AsyncLru<u32, u32>;

thread_local! {
    /// What happens when a waker is cloned next.
    static ON_CLONE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A waker that does nothing but what [`ON_CLONE`] says.
fn waker_with_a_hook() -> Waker {
    fn clone(data: *const ()) -> RawWaker {
        let hook = ON_CLONE.take();
        hook.into_iter().for_each(|hook| hook());
        RawWaker::new(data, &VTABLE)
    }
    fn nothing(_: *const ()) {}
    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
    // The functions ignore the pointer.
    #[allow(unsafe_code, reason = "a safe waker cannot tell that it is cloned")]
    unsafe {
        Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE))
    }
}

/// (A4) Between the look at the load and the registration, the load ends.
#[test]
fn a_load_that_ends_while_a_waiter_registers_is_not_missed() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let of_leader = (cache.clone(), gate.clone());
    let mut leader = Box::pin(async move {
        let (cache, gate) = of_leader;
        cache
            .get_or_insert_with(1, async || {
                gate.wait().await;
                10
            })
            .await
    });
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || 11));
    ON_CLONE.set(Some(Box::new(move || {
        gate.open();
        assert_eq!(poll(&mut leader), Poll::Ready(10));
    })));
    let waker = waker_with_a_hook();
    assert_eq!(waiter.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(10));
}

/// (A4) The same for a load that comes to nothing.
#[test]
fn a_load_that_is_dropped_while_a_waiter_registers_is_not_waited_for() {
    let cache = Cache::new(10);
    let of_leader = cache.clone();
    let mut leader = Box::pin(async move { of_leader.get_or_insert_with(1, pending::<u32>).await });
    assert!(poll(&mut leader).is_pending());
    let mut waiter = hand(cache.get_or_insert_with(1, async || 11));
    ON_CLONE.set(Some(Box::new(move || drop(leader))));
    let waker = waker_with_a_hook();
    assert_eq!(waiter.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(11));
}

/// (A12) Nobody is woken in another's place.
#[test]
fn the_end_of_a_load_wakes_every_waiter_by_its_own_waker() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    for dropped in [1, 3, 5] {
        let cache = Cache::new(10);
        let gate = Gate::new();
        let mut leader = hand(cache.get_or_insert_with(1, async || {
            gate.wait().await;
            10
        }));
        assert!(poll(&mut leader).is_pending());
        let mut waiters: Vec<_> = (0..7)
            .map(|_| {
                let flag = Arc::new(Flag(AtomicBool::new(false)));
                let mut call = hand(cache.get_or_insert_with(1, async || 11));
                let waker = Waker::from(Arc::clone(&flag));
                assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                (call, flag)
            })
            .collect();
        // Its place is free, or another's.
        drop(waiters.remove(dropped));
        gate.open();
        assert_eq!(poll(&mut leader), Poll::Ready(10));
        for (call, flag) in &mut waiters {
            assert!(flag.0.load(Ordering::Relaxed));
            assert_eq!(poll(call), Poll::Ready(10));
        }
    }
}

/// (A18) There is no call that reads and then writes, but those that replace tell what they replace.
#[test]
fn no_insertion_of_several_threads_is_lost() {
    const EACH: u32 = 5_000;
    let cache = Cache::new(10);
    let mut replaced: Vec<u32> = std::thread::scope(|scope| {
        let insert_all = |thread: u32| {
            let cache = &cache;
            move || {
                let values = thread * EACH..(thread + 1) * EACH;
                values.filter_map(|value| cache.insert_blocking(1, value)).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..3).map(|thread| scope.spawn(insert_all(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    replaced.extend(cache.get(&1));
    replaced.sort_unstable();
    assert_eq!(replaced, (0..3 * EACH).collect::<Vec<_>>(), "each value left exactly once");
}

/// (A21) Nor what was used after it came.
#[test]
fn clear_misses_nothing_that_came_before_it() {
    for shards in [1, 16] {
        let cache = Cache::builder().maxsize(1_000).shards(shards).build();
        for key in 0..1_500 {
            now(cache.get_or_insert_with(key, async || key));
            cache.get(&(key / 2));
        }
        cache.insert_blocking(2_000, 0);
        now(cache.clear());
        assert!(cache.is_empty() && cache.keys().is_empty());
        assert!((0..=2_000).all(|key| cache.get(&key).is_none()));
    }
}

/// (A31) Records of what has left do not pile up behind keys that come again and again.
#[test]
fn keys_that_come_again_and_again_take_no_more_memory() {
    let makes = [
        Cache::builder().maxsize(8).build(),
        Cache::builder().maxsize(8).shards(4).build(),
        Cache::builder().maxsize(8).ttl(Duration::from_secs(1)).clock(ManualClock::new()).build(),
    ];
    for cache in makes {
        let churn = |rounds: u32| {
            for round in 0..rounds {
                cache.insert_blocking(0, round);
                cache.insert_blocking(round % 9, round);
                cache.get(&(round % 5));
                now(cache.get_or_insert_with(round % 7, async || round));
                cache.remove_blocking(&(round % 3));
            }
            assert!(cache.len() <= 8);
        };
        churn(1_000);
        let before = counting::live();
        churn(50_000);
        let grown = counting::live().wrapping_sub(before) as isize;
        assert!(grown.abs() < 4_096, "{grown} bytes");
    }
}

/// (A37) An order of eviction that was found before the slot was vacated.
#[test]
fn an_entry_in_the_slot_of_another_does_not_leave_in_its_place() {
    for size in 3..40 {
        let cache = Cache::builder().maxsize(size as usize).shards(1).build();
        for key in 0..size {
            cache.insert_blocking(key, 0);
        }
        // Makes the cache look for those who leave next, among them the keys 1 and 2.
        cache.insert_blocking(size, 0);
        cache.remove_blocking(&1);
        cache.insert_blocking(1_000, 0);
        let order: Vec<u32> = (2..=size).chain([1_000]).collect();
        assert_eq!(cache.keys(), order);
        for (new, victim) in (2_000..).zip(order) {
            assert!(cache.contains_key(&victim), "{victim} of {size} left too soon");
            cache.insert_blocking(new, 0);
            assert!(!cache.contains_key(&victim), "{victim} of {size} did not leave");
        }
    }
}

/// (A39) Keys that collide in one process do not in another.
#[test]
fn each_cache_has_a_seed_of_its_own() {
    let shard_by_shard = || {
        let cache = Cache::builder().maxsize(1_000).shards(16).build();
        for key in 0..200 {
            cache.insert_blocking(key, 0);
        }
        cache.keys()
    };
    assert_ne!(shard_by_shard(), shard_by_shard());
    assert!(dependency("ahash").expect("a dependency").contains("runtime-rng"));
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// (A37) What else of memory safety there is to prove is the compiler's.
#[test]
fn the_library_forbids_unsafe_code() {
    let lib = fs::read_to_string(repository().join("src/lib.rs")).unwrap();
    assert!(lib.lines().any(|line| line == "#![forbid(unsafe_code)]"));
}

/// What `Cargo.toml` says of a dependency of the library, on any system.
fn dependency(name: &str) -> Option<String> {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let is_for_users = |section: &&str| {
        let title = section.lines().next().unwrap_or_default();
        title.ends_with("dependencies]") && !title.contains("dev-dependencies")
    };
    let sections = manifest.split("\n[").filter(is_for_users);
    let lines = sections.flat_map(|section| section.lines().skip(1));
    let entry = lines.filter_map(|line| line.split_once(" = ")).find(|(key, _)| *key == name);
    entry.map(|(_, says)| says.to_owned())
}

/// The least version that a dependency may have.
fn least_version(says: &str) -> Vec<u32> {
    let version = says.split('"').nth(1).unwrap();
    version.split('.').map(|number| number.parse().unwrap()).collect()
}

/// (A40) RUSTSEC-2025-0047 and RUSTSEC-2026-0221; async-std is discontinued (RUSTSEC-2025-0052).
#[test]
fn no_dependency_may_be_a_version_with_a_known_failure() {
    let slab = dependency("slab").expect("a dependency");
    assert!(least_version(&slab) >= vec![0, 4, 11], "slab {slab}");
    if let Some(listener) = dependency("event-listener") {
        assert!(least_version(&listener) >= vec![5, 4, 2], "event-listener {listener}");
    }
    assert_eq!(dependency("async-std"), None, "for tests alone");
}

/// A test that was renamed would leave the page with a claim that nobody can check.
#[test]
fn the_page_on_reliability_names_tests_that_are_there_for_every_failure() {
    let page = fs::read_to_string(repository().join("docs/reliability.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| A")).collect();
    assert_eq!(rows.len(), 51);
    for (number, row) in (1..).zip(rows) {
        assert!(row.starts_with(&format!("| A{number} |")), "{row}");
        for (place, name) in row.split('`').filter_map(|word| word.rsplit_once("::")) {
            let file = match place.strip_suffix("::tests") {
                Some(module) => format!("src/{}.rs", module.replace("::", "/")),
                None => format!("tests/{place}.rs"),
            };
            let source = fs::read_to_string(repository().join(&file)).expect(&file);
            assert!(source.contains(&format!("fn {name}(")), "there is no {place}::{name}");
        }
    }
}
