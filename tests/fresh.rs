//! Values that are served stale while one call refreshes them.

mod common;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_lru::{
    AsyncLru, Builder, Lifetime, Lookup, LookupOutcome, ManualClock, RemovalCause, Saved, Task,
    Update,
};
use common::{Gate, Hand, hand, join_all, now, poll};
use futures_lite::future::{block_on, yield_now};

type Cache = AsyncLru<u32, u32>;

const FRESH: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(100);
const RETRY: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

/// A load that waits at a gate, for all forms.
#[derive(Clone)]
struct Load {
    gate: Gate,
    result: Result<u32, &'static str>,
    started: Arc<AtomicUsize>,
}

impl Load {
    fn of(result: Result<u32, &'static str>) -> Self {
        Self { gate: Gate::new(), result, started: Arc::default() }
    }

    /// One that is over at once.
    fn at_once(result: Result<u32, &'static str>) -> Self {
        let load = Self::of(result);
        load.gate.open();
        load
    }

    fn run(&self) -> impl Future<Output = Result<u32, &'static str>> + Send + use<> {
        let Self { gate, result, started } = self.clone();
        started.fetch_add(1, Ordering::SeqCst);
        async move {
            gate.wait().await;
            result
        }
    }

    /// One that does not fail.
    fn sure(&self) -> impl Future<Output = u32> + Send + use<> {
        let run = self.run();
        async move { run.await.unwrap_or_else(|error| panic!("{error}")) }
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

type Answer = Result<Lookup<u32>, &'static str>;
type Call = for<'a> fn(&'a Cache, u32, Load) -> Hand<'a, Answer>;

/// Where the load of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Led,
    Detached,
}

/// The forms of calls that load; whether the load may fail.
const FORMS: [(&str, Where, bool, Call); 14] = [
    ("or_insert_with", Where::Led, false, |cache, key, load| {
        hand(async move { Ok(cache.entry(key).or_insert_with(|| load.sure()).await) })
    }),
    ("entry_ref", Where::Led, false, |cache, key, load| {
        hand(async move { Ok(cache.entry_ref(&key).or_insert_with(|| load.sure()).await) })
    }),
    ("entry_by", Where::Led, false, |cache, key, load| {
        hand(
            async move { Ok(cache.entry_by(&key, |key| *key).or_insert_with(|| load.sure()).await) },
        )
    }),
    ("or_try_insert_with", Where::Led, true, |cache, key, load| {
        hand(async move {
            cache.entry(key).or_try_insert_with(|| load.run()).await.map_err(|error| *error)
        })
    }),
    ("or_try_insert_own", Where::Led, true, |cache, key, load| {
        hand(async move { cache.entry(key).or_try_insert_own(|| load.run()).await })
    }),
    ("or_try_insert_timed", Where::Led, true, |cache, key, load| {
        let timed = async move || Ok((load.run().await?, TTL));
        hand(async move {
            cache.entry(key).or_try_insert_timed(timed).await.map_err(|error: Arc<_>| *error)
        })
    }),
    ("detached or_insert_with", Where::Detached, false, |cache, key, load| {
        let call = cache.entry(key).detached().or_insert_with(move || load.sure());
        hand(async { Ok(call.await) })
    }),
    ("detached or_try_insert_with", Where::Detached, true, |cache, key, load| {
        let call = cache.entry(key).detached().or_try_insert_with(move || load.run());
        hand(async { call.await.map_err(|error| *error) })
    }),
    ("detached or_try_insert_own", Where::Detached, true, |cache, key, load| {
        hand(cache.entry(key).detached().or_try_insert_own(move || load.run()))
    }),
    ("entries", Where::Led, true, |cache, key, load| {
        hand(async move {
            let load = async |keys: Vec<u32>| {
                let value = load.run().await?;
                Ok(keys.into_iter().map(move |key| (key, value)))
            };
            let answers = cache.entries([key]).or_try_insert_with(load).await;
            answers.map(one).map_err(|error: Arc<&str>| *error)
        })
    }),
    ("entries, own keys left out", Where::Led, false, |cache, key, load| {
        hand(async move {
            let load = async |keys: Vec<u32>| {
                let value = load.sure().await;
                keys.into_iter().map(move |key| (key, value))
            };
            Ok(one(cache.entries([key]).or_insert_with(load).await))
        })
    }),
    ("detached entries", Where::Detached, true, |cache, key, load| {
        let load = move |keys: Vec<u32>| {
            let run = load.run();
            async move {
                let value = run.await?;
                Ok(keys.into_iter().map(move |key| (key, value)))
            }
        };
        let call = cache.entries([key]).detached().or_try_insert_with(load);
        hand(async { call.await.map(one).map_err(|error: Arc<&str>| *error) })
    }),
    ("entries, timed", Where::Led, true, |cache, key, load| {
        hand(async move {
            let load = async |keys: Vec<u32>| {
                let value = load.run().await?;
                Ok(keys.into_iter().map(move |key| (key, value, TTL)))
            };
            let answers = cache.entries([key]).or_try_insert_timed(load).await;
            answers.map(one).map_err(|error: Arc<&str>| *error)
        })
    }),
    ("detached entries, timed", Where::Detached, false, |cache, key, load| {
        let load = move |keys: Vec<u32>| {
            let run = load.sure();
            async move {
                let value = run.await;
                keys.into_iter().map(move |key| (key, value, TTL))
            }
        };
        let call = cache.entries([key]).detached().or_insert_timed(load);
        hand(async { Ok(one(call.await)) })
    }),
];

fn one(answers: Vec<(u32, Option<Lookup<u32>>)>) -> Lookup<u32> {
    let [(_, Some(lookup))] = answers[..] else { panic!("it has an answer: {answers:?}") };
    lookup
}

/// Tasks that a spawner was given, to be run by hand.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<VecDeque<Task>>>);

impl Tasks {
    fn add(&self, task: Task) {
        self.0.lock().unwrap().push_back(task);
    }

    fn take(&self) -> Option<Task> {
        self.0.lock().unwrap().pop_front()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Polls each once; those that are not over stay.
    fn poll(&self) {
        for _ in 0..self.len() {
            if let Some(mut task) = self.take() {
                if poll(&mut task).is_pending() {
                    self.add(task);
                }
            }
        }
    }
}

/// A cache with an entry that has just become stale.
struct Stale {
    cache: Cache,
    clock: ManualClock,
    tasks: Tasks,
    form: &'static str,
    call: Call,
    goes_to_spawner: bool,
}

impl Stale {
    fn call(&self, load: &Load) -> Hand<'_, Answer> {
        (self.call)(&self.cache, 1, load.clone())
    }

    /// Begins the refresh: the call that does, if it waits for that, and nobody else.
    fn begin(&self, load: &Load) -> Option<Hand<'_, Answer>> {
        let mut call = self.call(load);
        let polled = poll(&mut call);
        assert_eq!(load.started(), 1, "{}", self.form);
        if self.goes_to_spawner {
            assert_eq!(polled, Poll::Ready(Ok(lookup(10, LookupOutcome::Stale))), "{}", self.form);
            self.tasks.poll();
            return None;
        }
        assert!(polled.is_pending(), "{}", self.form);
        Some(call)
    }

    /// Lets the load end, and returns the answer of who has begun it.
    fn end(&self, load: &Load, call: Option<Hand<'_, Answer>>) -> Option<Answer> {
        load.gate.open();
        self.tasks.poll();
        self.tasks.poll();
        assert_eq!(self.tasks.len(), 0, "{}", self.form);
        call.map(|mut call| {
            loop {
                if let Poll::Ready(answer) = poll(&mut call) {
                    return answer;
                }
            }
        })
    }

    /// What a call is given that loads nothing.
    fn found(&self) -> Lookup<u32> {
        let load = Load::of(Err("it finds a value"));
        let found = now(self.call(&load)).unwrap();
        assert_eq!(load.started(), 0, "{}", self.form);
        found
    }

    /// Whether a call begins a refresh, which is dropped then.
    fn is_due(&self) -> bool {
        let load = Load::of(Ok(99));
        let polled = poll(&mut self.call(&load));
        if polled.is_ready() {
            drop(self.tasks.take());
        }
        load.started() == 1
    }
}

fn lookup(value: u32, outcome: LookupOutcome) -> Lookup<u32> {
    let cache = Cache::new(1);
    let mut lookup = now(cache.entry(1).or_insert_with(async || value));
    lookup.outcome = outcome;
    lookup
}

fn builder(clock: &ManualClock) -> Builder<u32, u32> {
    Cache::builder().fresh_for(FRESH).ttl(TTL).refresh_retry(RETRY).clock(clock.clone())
}

/// Every form, with a spawner and without, where it may fail if that is `needed`.
fn each(needs_failure: bool, test: impl Fn(Stale)) {
    for (form, place, may_fail, call) in FORMS {
        for has_spawner in [false, true] {
            for pins in [false, true] {
                if needs_failure && !may_fail {
                    continue;
                }
                let clock = ManualClock::new();
                let tasks = Tasks::default();
                let spawner = tasks.clone();
                let builder = builder(&clock);
                let cache = match has_spawner {
                    true => builder.spawner(move |task| spawner.add(task)).build(),
                    false => builder.build(),
                };
                cache.insert_blocking(1, 10);
                // So often that the thread reads by a pin.
                for _ in 0..if pins { 1_000 } else { 0 } {
                    assert_eq!(cache.get(&1), Some(10));
                }
                clock.advance(FRESH);
                let goes_to_spawner = has_spawner && place == Where::Detached;
                cache.reset_stats();
                test(Stale { cache, clock, tasks, form, call, goes_to_spawner });
            }
        }
    }
}

#[test]
fn an_entry_is_fresh_until_the_end_of_its_fresh_time_exactly() {
    each(false, |stale| {
        let Stale { cache, clock, .. } = &stale;
        cache.insert_blocking(1, 10);
        clock.advance(FRESH - NANO);
        assert_eq!(stale.found(), lookup(10, LookupOutcome::Hit), "{}", stale.form);
        assert!(!stale.is_due());
        assert_eq!(cache.stats().stale_hits, 0);
        clock.advance(NANO);
        assert!(stale.is_due(), "{}", stale.form);
        assert_eq!(cache.stats().stale_hits, 1);
        assert_eq!(cache.validate(), 0);
    });
}

#[test]
fn one_call_refreshes_and_all_others_are_served_the_stale_value_meanwhile() {
    each(false, |stale| {
        let load = Load::of(Ok(11));
        let call = stale.begin(&load);
        for _ in 0..10 {
            assert_eq!(stale.found(), lookup(10, LookupOutcome::Stale), "{}", stale.form);
            assert_eq!(stale.cache.get(&1), Some(10));
        }
        let answer = stale.end(&load, call);
        let waits = !stale.goes_to_spawner;
        assert_eq!(
            answer,
            waits.then_some(Ok(lookup(11, LookupOutcome::Loaded))),
            "{}",
            stale.form
        );
        assert_eq!(stale.found(), lookup(11, LookupOutcome::Hit), "{}", stale.form);
        // The ttl has started anew.
        assert_eq!(stale.cache.time_left(&1), Some(TTL));
        stale.clock.advance(FRESH - NANO);
        assert!(!stale.is_due());
        let stats = stale.cache.stats();
        assert_eq!((stats.hits, stats.stale_hits, stats.misses), (23, 21, 0), "{}", stale.form);
        assert_eq!((stats.loads, stats.refreshes, stats.refresh_failures), (1, 1, 0));
        assert_eq!((stats.load_failures, stats.in_flight), (0, 0));
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn get_serves_a_stale_value_and_refreshes_nothing() {
    let clock = ManualClock::new();
    let cache = builder(&clock).build();
    cache.insert_blocking(1, 10);
    clock.advance(TTL - NANO);
    assert_eq!((cache.get(&1), cache.peek(&1)), (Some(10), Some(10)));
    assert_eq!((cache.stats().hits, cache.stats().stale_hits), (1, 1));
    clock.advance(NANO);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn a_refresh_that_is_dropped_is_taken_up_by_the_next_call() {
    each(false, |stale| {
        let load = Load::of(Ok(11));
        let call = stale.begin(&load);
        assert!(!stale.is_due());
        drop(call);
        drop(stale.tasks.take());
        let again = Load::of(Ok(12));
        let call = stale.begin(&again);
        stale.end(&again, call);
        assert_eq!(stale.found(), lookup(12, LookupOutcome::Hit), "{}", stale.form);
        let stats = stale.cache.stats();
        assert_eq!((stats.loads, stats.load_failures), (2, 1), "{}", stale.form);
        assert_eq!((stats.refreshes, stats.refresh_failures), (2, 1), "{}", stale.form);
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn a_refresh_that_fails_leaves_the_value_until_its_deadline_and_is_tried_again_later() {
    each(true, |stale| {
        let load = Load::of(Err("down"));
        let call = stale.begin(&load);
        stale.clock.advance(RETRY);
        let answer = stale.end(&load, call);
        let waits = !stale.goes_to_spawner;
        assert_eq!(answer, waits.then_some(Ok(lookup(10, LookupOutcome::Stale))), "{}", stale.form);
        // From the end of the failed one.
        stale.clock.advance(RETRY - NANO);
        assert!(!stale.is_due(), "{}", stale.form);
        assert_eq!(stale.found(), lookup(10, LookupOutcome::Stale));
        stale.clock.advance(NANO);
        let again = Load::of(Err("still down"));
        let call = stale.begin(&again);
        stale.end(&again, call);
        assert_eq!(stale.cache.time_left(&1), Some(TTL - FRESH - 2 * RETRY), "{}", stale.form);
        let stats = stale.cache.stats();
        assert_eq!((stats.refreshes, stats.refresh_failures), (2, 2), "{}", stale.form);
        assert_eq!((stats.loads, stats.load_failures), (2, 2), "{}", stale.form);
        // Not a moment beyond its deadline.
        stale.clock.advance(TTL - FRESH - 2 * RETRY);
        let failed = now(stale.call(&Load::at_once(Err("gone"))));
        assert_eq!(failed, Err("gone"), "{}", stale.form);
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn a_refresh_that_panics_waits_as_one_that_fails() {
    each(false, |stale| {
        let load = Load::of(Err("it panics in forms that cannot fail"));
        if FORMS.iter().any(|(form, _, may_fail, _)| *form == stale.form && *may_fail) {
            return;
        }
        let call = stale.begin(&load);
        load.gate.open();
        match call {
            Some(mut call) => {
                assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut call))).is_err());
            }
            // The executor hears nothing of it.
            None => stale.tasks.poll(),
        }
        assert_eq!(stale.tasks.len(), 0);
        stale.clock.advance(RETRY - NANO);
        assert!(!stale.is_due(), "{}", stale.form);
        stale.clock.advance(NANO);
        assert!(stale.is_due(), "{}", stale.form);
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn a_closure_that_panics_waits_as_one_that_fails() {
    let clock = ManualClock::new();
    let cache = builder(&clock).build();
    cache.insert_blocking(1, 10);
    clock.advance(FRESH);
    let panics = || -> std::future::Ready<u32> { panic!("it makes no future") };
    let call = AssertUnwindSafe(|| poll(&mut hand(cache.get_or_insert_with(1, panics))));
    assert!(catch_unwind(call).is_err());
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 10);
    clock.advance(RETRY);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
}

#[test]
fn after_the_deadline_a_refresh_is_a_load_that_others_join() {
    each(true, |stale| {
        for result in [Ok(11), Err("down")] {
            stale.cache.insert_blocking(1, 10);
            stale.clock.advance(FRESH);
            let load = Load::of(result);
            let call = stale.begin(&load);
            stale.clock.advance(TTL - FRESH);
            assert_eq!(stale.cache.get(&1), None);
            let joiner = Load::of(Ok(12));
            let mut joined = stale.call(&joiner);
            assert!(poll(&mut joined).is_pending(), "{}", stale.form);
            let answer = stale.end(&load, call);
            let loaded = result.map(|value| lookup(value, LookupOutcome::Loaded));
            assert_eq!(answer, (!stale.goes_to_spawner).then_some(loaded), "{}", stale.form);
            let polled = poll(&mut joined);
            if result.is_err() && stale.form.ends_with("own") {
                // It runs its own closure.
                assert_eq!((polled, joiner.started()), (Poll::Pending, 1), "{}", stale.form);
                continue;
            }
            let joined = result.map(|value| lookup(value, LookupOutcome::Joined));
            assert_eq!((polled, joiner.started()), (Poll::Ready(joined), 0), "{}", stale.form);
        }
    });
}

/// A write of a key that has the value 10; what it leaves.
type Write = (&'static str, fn(&Cache), Option<u32>);

const WRITES: [Write; 12] = [
    ("insert", |cache| _ = cache.insert_blocking(1, 20), Some(20)),
    ("remove", |cache| _ = cache.remove_blocking(&1), None),
    ("invalidate", |cache| _ = cache.invalidate_blocking(&1), None),
    ("clear", |cache| cache.clear_blocking(), None),
    ("invalidate_if", |cache| _ = cache.invalidate_if_blocking(|key, _| *key == 1), None),
    ("invalidate_all", |cache| cache.invalidate_all_blocking(), None),
    ("limit_ttl", |cache| _ = cache.limit_ttl_blocking(Duration::ZERO), None),
    ("writing", |cache| drop(cache.writing(&1)), None),
    ("writing, which inserts", |cache| now(cache.writing(&1).insert(20)), Some(20)),
    ("writing_owned", |cache| drop(cache.writing_owned(1)), None),
    (
        "writing_owned, which inserts for a while",
        |cache| now(cache.writing_owned(1).ttl(TTL).insert(20)),
        Some(20),
    ),
    (
        "update",
        |cache| {
            let raise = async |value: Option<u32>| Update::Put(value.unwrap_or(0) + 10);
            assert_eq!(now(cache.update_with(1, raise)), Some(20));
        },
        Some(20),
    ),
];

#[test]
fn writes_win_over_a_refresh_as_over_any_load() {
    for (name, write, left) in WRITES {
        each(true, |stale| {
            for result in [Ok(11), Err("down")] {
                stale.cache.insert_blocking(1, 10);
                stale.clock.advance(FRESH);
                let load = Load::of(result);
                let call = stale.begin(&load);
                write(&stale.cache);
                assert_eq!(stale.cache.peek(&1), left, "{name}, {}", stale.form);
                let answer = stale.end(&load, call);
                if let Some(answer) = answer {
                    let kept = left.map(|left| lookup(left, LookupOutcome::Stale));
                    let expected = match result {
                        Ok(value) => Ok(lookup(value, LookupOutcome::Loaded)),
                        Err(error) => kept.ok_or(error),
                    };
                    assert_eq!(answer, expected, "{name}, {}", stale.form);
                }
                assert_eq!(stale.cache.peek(&1), left, "{name}, {}", stale.form);
                if left.is_some() {
                    assert_eq!(stale.found().outcome, LookupOutcome::Hit, "{name}");
                    stale.clock.advance(FRESH);
                    assert!(stale.is_due(), "{name}, {}", stale.form);
                }
                assert_eq!(stale.cache.validate(), 0);
            }
        });
    }
}

#[test]
fn an_update_that_leaves_a_stale_value_leaves_its_refresh_to_the_next_call() {
    each(false, |stale| {
        let load = Load::of(Ok(11));
        let call = stale.begin(&load);
        let keep = async |value| {
            assert_eq!(value, Some(10));
            Update::Keep
        };
        assert_eq!(now(stale.cache.update_with(1, keep)), Some(10));
        stale.end(&load, call);
        assert_eq!(stale.cache.get(&1), Some(10), "it has lost to the update");
        assert!(stale.is_due(), "{}", stale.form);
    });
    // Nor does a call get between an update and its end.
    each(false, |stale| {
        let gate = Gate::new();
        let mut update = hand(stale.cache.update_with(1, async |_| {
            gate.wait().await;
            Update::Keep
        }));
        assert!(poll(&mut update).is_pending());
        assert!(!stale.is_due(), "{}", stale.form);
        assert_eq!(stale.found(), lookup(10, LookupOutcome::Stale));
        gate.open();
        assert_eq!(poll(&mut update), Poll::Ready(Some(10)));
        assert!(stale.is_due(), "{}", stale.form);
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn a_sweep_is_asked_about_what_a_refresh_brings_and_leaves_the_old_value_if_that_is_not_chosen() {
    each(false, |stale| {
        let load = Load::of(Ok(11));
        let call = stale.begin(&load);
        assert_eq!(stale.cache.invalidate_if_blocking(|_, value| *value == 11), 0);
        stale.end(&load, call);
        assert_eq!(stale.cache.get(&1), Some(10), "{}", stale.form);
        assert!(stale.is_due(), "{}", stale.form);
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn a_refresh_of_what_was_evicted_brings_it_back_and_others_wait_for_it() {
    each(false, |stale| {
        let load = Load::of(Ok(11));
        let call = stale.begin(&load);
        assert_eq!(now(stale.cache.set_maxsize(0)), 1);
        now(stale.cache.set_maxsize(10));
        let mut joined = stale.call(&Load::of(Err("it joins")));
        assert!(poll(&mut joined).is_pending(), "{}", stale.form);
        stale.end(&load, call);
        let joined_lookup = lookup(11, LookupOutcome::Joined);
        assert_eq!(poll(&mut joined), Poll::Ready(Ok(joined_lookup)), "{}", stale.form);
        assert_eq!(stale.found(), lookup(11, LookupOutcome::Hit));
        assert_eq!(stale.cache.validate(), 0);
    });
}

#[test]
fn a_listener_hears_of_the_value_that_a_refresh_replaces() {
    let (clock, heard) = (ManualClock::new(), Arc::new(Mutex::new(Vec::new())));
    let hears = Arc::clone(&heard);
    let cache = builder(&clock)
        .on_remove(move |key, value, cause| hears.lock().unwrap().push((key, value, cause)))
        .build();
    cache.insert_blocking(1, 10);
    clock.advance(FRESH);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    assert_eq!(*heard.lock().unwrap(), [(1, 10, RemovalCause::Replaced)]);
    // And of one that comes too late.
    clock.advance(FRESH);
    let load = Load::of(Ok(12));
    let mut call = hand(cache.get_or_insert_with(1, || load.sure()));
    assert!(poll(&mut call).is_pending());
    cache.invalidate_blocking(&1);
    load.gate.open();
    assert_eq!(poll(&mut call), Poll::Ready(12));
    let rest = [(1, 11, RemovalCause::Removed), (1, 12, RemovalCause::Rejected)];
    assert_eq!(heard.lock().unwrap()[1..], rest);
}

#[test]
fn a_refresh_of_another_weight_makes_room_and_one_that_is_too_heavy_removes_the_old_value() {
    let clock = ManualClock::new();
    let cache = builder(&clock).shards(1).max_weight(10, |_, value| u64::from(*value)).build();
    cache.insert_blocking(1, 3);
    cache.insert_blocking(2, 5);
    clock.advance(FRESH);
    assert_eq!(now(cache.get_or_insert_with(1, async || 6)), 6);
    assert_eq!((cache.keys(), cache.stats().current_weight), (vec![1], Some(6)));
    clock.advance(FRESH);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    assert_eq!((cache.keys(), cache.stats().current_weight), (vec![], Some(0)));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn lifetimes_of_entries_and_idle_times_end_a_stale_value_as_any_other() {
    let clock = ManualClock::new();
    let cache = builder(&clock).time_to_idle(2 * FRESH).build();
    cache.insert_with_ttl_blocking(1, 10, FRESH + NANO);
    cache.insert_blocking(2, 20);
    clock.advance(FRESH);
    assert_eq!(cache.get(&1), Some(10), "stale");
    clock.advance(NANO);
    assert_eq!(cache.get(&1), None);
    // A stale hit is a use.
    assert_eq!(cache.get(&2), Some(20));
    clock.advance(2 * FRESH - NANO);
    assert_eq!(cache.get(&2), Some(20));
    clock.advance(2 * FRESH);
    assert_eq!(cache.get(&2), None);
    // Another lifetime leaves the fresh time.
    cache.insert_blocking(3, 30);
    clock.advance(FRESH / 2);
    assert!(cache.set_ttl_blocking(&3, TTL));
    clock.advance(FRESH / 2);
    let load = async || (31, 2 * TTL);
    let lookup = now(cache.entry(3).or_insert_timed(load));
    assert_eq!((lookup.value, lookup.outcome), (31, LookupOutcome::Loaded));
    assert_eq!(cache.time_left(&3), Some(2 * FRESH), "it is idle before");
    clock.advance(FRESH);
    assert_eq!(cache.stats().stale_hits, 4);
    cache.get(&3);
    assert_eq!(cache.stats().stale_hits, 5);
}

/// The calls that give an entry a lifetime of its own with a fresh time.
const GIVING: [(&str, Giving); 10] = [
    ("or_insert_timed", |cache, key, lifetime| {
        hand(async move {
            cache.entry(key).or_insert_timed(async || (key, lifetime)).await;
        })
    }),
    ("or_try_insert_timed", |cache, key, lifetime| {
        hand(async move {
            let load = async || Ok::<_, ()>((key, lifetime));
            cache.entry(key).or_try_insert_timed(load).await.unwrap();
        })
    }),
    ("detached or_insert_timed", |cache, key, lifetime| {
        hand(async move {
            let load = move || async move { (key, lifetime) };
            cache.entry(key).detached().or_insert_timed(load).await;
        })
    }),
    ("detached or_try_insert_timed", |cache, key, lifetime| {
        hand(async move {
            let load = move || async move { Ok::<_, ()>((key, lifetime)) };
            cache.entry(key).detached().or_try_insert_timed(load).await.unwrap();
        })
    }),
    ("entries, or_insert_timed", |cache, key, lifetime| {
        hand(async move {
            cache.entries([key]).or_insert_timed(async |_| [(key, key, lifetime)]).await;
        })
    }),
    ("entries, or_try_insert_timed", |cache, key, lifetime| {
        hand(async move {
            let load = async |_| Ok::<_, ()>([(key, key, lifetime)]);
            cache.entries([key]).or_try_insert_timed(load).await.unwrap();
        })
    }),
    ("detached entries, or_insert_timed", |cache, key, lifetime| {
        hand(async move {
            let load = move |_| async move { [(key, key, lifetime)] };
            cache.entries([key]).detached().or_insert_timed(load).await;
        })
    }),
    ("detached entries, or_try_insert_timed", |cache, key, lifetime| {
        hand(async move {
            let load = move |_| async move { Ok::<_, ()>([(key, key, lifetime)]) };
            cache.entries([key]).detached().or_try_insert_timed(load).await.unwrap();
        })
    }),
    ("writing", |cache, key, lifetime| {
        hand(async move { cache.writing(&key).ttl(lifetime).insert(key).await })
    }),
    ("writing_owned", |cache, key, lifetime| {
        hand(cache.writing_owned(key).ttl(lifetime).insert(key))
    }),
];

type Giving = for<'a> fn(&'a Cache, u32, Lifetime) -> Hand<'a, ()>;

/// Tells whether an entry, which is alive, is stale.
fn is_stale(cache: &Cache, key: u32) -> bool {
    let before = cache.stats().stale_hits;
    assert_eq!(cache.get(&key), Some(key));
    cache.stats().stale_hits > before
}

#[test]
fn an_entry_is_fresh_for_as_long_as_its_load_says() {
    for (name, give) in GIVING {
        for fresh in [FRESH / 2, 3 * FRESH] {
            let clock = ManualClock::new();
            let cache = builder(&clock).build();
            now(give(&cache, 1, Lifetime::new(2 * TTL).fresh_for(fresh)));
            now(give(&cache, 2, TTL.into()));
            let left = cache.snapshot_with_ttl().into_iter().find(|saved| saved.key == 1);
            let left = left.map(|saved| (saved.time_left, saved.fresh_left, saved.own_lifetime));
            assert_eq!(left, Some((Some(2 * TTL), Some(fresh), true)), "{name}");
            clock.set(fresh - NANO);
            assert!(!is_stale(&cache, 1), "{name}");
            clock.set(fresh);
            assert!(is_stale(&cache, 1), "{name}");
            assert_eq!(is_stale(&cache, 2), fresh > FRESH, "{name}: that of the cache");
            // One call renews it, and its value is fresh as long as the cache says, or the load does.
            assert_eq!(now(cache.get_or_insert_with(1, async || 1)), 1);
            clock.advance(FRESH - NANO);
            assert!(!is_stale(&cache, 1), "{name}");
            clock.advance(NANO);
            assert!(is_stale(&cache, 1), "{name}");
            now(give(&cache, 1, Lifetime::new(TTL).fresh_for(Duration::ZERO)));
            assert!(is_stale(&cache, 1), "{name}: from the first");
            clock.advance(TTL - NANO);
            assert!(is_stale(&cache, 1), "{name}");
            clock.advance(NANO);
            assert_eq!(cache.get(&1), None, "{name}");
            assert_eq!(cache.validate(), 0);
        }
    }
}

#[test]
fn a_fresh_time_means_nothing_in_a_cache_that_keeps_none() {
    for (name, give) in GIVING {
        let clock = ManualClock::new();
        let cache = Cache::builder().clock(clock.clone()).build();
        now(give(&cache, 1, Lifetime::new(TTL).fresh_for(Duration::ZERO)));
        assert!(!is_stale(&cache, 1), "{name}");
        assert_eq!(cache.time_left(&1), Some(TTL), "{name}");
        assert_eq!(cache.snapshot_with_ttl()[0].fresh_left, None, "{name}");
    }
}

#[test]
fn the_jitter_shortens_a_fresh_time_that_a_load_gives_as_it_does_a_lifetime() {
    for (name, give) in GIVING {
        let clock = ManualClock::new();
        let cache = builder(&clock).ttl_jitter(0.5).build();
        (0..100).for_each(|key| now(give(&cache, key, Lifetime::new(TTL).fresh_for(4 * FRESH))));
        for saved in cache.snapshot_with_ttl() {
            let (fresh, time) = (saved.fresh_left.unwrap(), saved.time_left.unwrap());
            assert!((2 * FRESH..=4 * FRESH).contains(&fresh), "{name}: {fresh:?}");
            assert!((TTL / 2..=TTL).contains(&time), "{name}: {time:?}");
        }
    }
}

#[test]
fn a_lifetime_that_panics_as_it_is_made_is_a_panic_of_the_load() {
    struct Bomb;
    impl From<Bomb> for Lifetime {
        fn from(_: Bomb) -> Self {
            panic!("no lifetime")
        }
    }
    let cache = builder(&ManualClock::new()).build();
    type Exploding = fn(&Cache) -> Hand<'_, Lookup<u32>>;
    let calls: [Exploding; 4] = [
        |cache| hand(cache.entry(1).or_insert_timed(async || (1, Bomb))),
        |cache| hand(cache.entry(1).detached().or_insert_timed(|| async { (1, Bomb) })),
        |cache| {
            hand(async { one(cache.entries([1]).or_insert_timed(async |_| [(1, 1, Bomb)]).await) })
        },
        |cache| {
            let call = cache.entries([1]).detached();
            hand(async { one(call.or_insert_timed(|_| async { [(1, 1, Bomb)] }).await) })
        },
    ];
    for call in calls {
        let mut first = call(&cache);
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
        drop(first);
        assert_eq!((cache.get(&1), cache.validate()), (None, 0));
    }
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_failures), (4, 4));
}

#[test]
fn the_jitter_shortens_the_fresh_time_too() {
    let clock = ManualClock::new();
    let cache = builder(&clock).maxsize(1_000).ttl_jitter(0.5).build();
    (0..1_000).for_each(|key| _ = cache.insert_blocking(key, key));
    let stale_after = |time| {
        clock.set(time);
        cache.reset_stats();
        (0..1_000).for_each(|key| _ = cache.get(&key));
        cache.stats().stale_hits
    };
    assert_eq!(stale_after(FRESH / 2 - NANO), 0);
    let half = stale_after(FRESH * 3 / 4);
    assert!((400..600).contains(&half), "{half}");
    assert_eq!(stale_after(FRESH), 1_000);
}

#[test]
fn a_snapshot_tells_how_long_entries_are_fresh_and_a_warm_start_goes_on_from_there() {
    let clock = ManualClock::new();
    let cache = builder(&clock).shards(1).build();
    cache.insert_blocking(1, 10);
    clock.advance(FRESH / 2);
    cache.insert_blocking(2, 20);
    clock.advance(FRESH / 2);
    let saved = cache.snapshot_with_ttl();
    let left = |saved: &Saved<u32, u32>| (saved.key, saved.fresh_left, saved.time_left);
    let expected =
        [(1, Some(Duration::ZERO), Some(TTL - FRESH)), (2, Some(FRESH / 2), Some(TTL - FRESH / 2))];
    assert_eq!(saved.iter().map(left).collect::<Vec<_>>(), expected);

    let clock = ManualClock::new();
    let warm = builder(&clock).shards(1).build();
    assert_eq!(warm.restore_blocking(saved.clone()), 2);
    assert_eq!(warm.snapshot_with_ttl(), saved);
    assert_eq!(now(warm.get_or_insert_with(1, async || 11)), 11, "it is stale at once");
    assert_eq!(now(warm.get_or_insert_with(2, async || 21)), 20);
    clock.advance(FRESH / 2);
    assert_eq!(now(warm.get_or_insert_with(2, async || 21)), 21);
    // A pair is as fresh as what is new.
    assert_eq!(warm.restore_blocking([(3, 30)]), 1);
    clock.advance(FRESH - NANO);
    assert_eq!(now(warm.get_or_insert_with(3, async || 31)), 30);
    // And in a cache that keeps nothing fresh, nothing is stale.
    let plain = Cache::new(10);
    assert_eq!(plain.restore_blocking(saved), 2);
    assert_eq!(now(plain.get_or_insert_with(1, async || 11)), 10);
    assert!(plain.snapshot_with_ttl().iter().all(|saved| saved.fresh_left.is_none()));
}

#[test]
fn entries_that_move_to_other_slots_are_as_fresh_as_they_were() {
    let clock = ManualClock::new();
    let cache = builder(&clock).maxsize(1_000).shards(1).build();
    (0..1_000).for_each(|key| _ = cache.insert_blocking(key, key));
    clock.advance(FRESH);
    let load = Load::of(Ok(0));
    let mut refresh = hand(cache.get_or_insert_with(999, || load.sure()));
    assert!(poll(&mut refresh).is_pending());
    assert_eq!(cache.invalidate_if_blocking(|key, _| *key < 990), 990);
    // Nobody else refreshes it, and who is dropped leaves it to the next.
    assert_eq!(now(cache.get_or_insert_with(999, async || unreachable!())), 999);
    drop(refresh);
    assert_eq!(now(cache.get_or_insert_with(999, async || 1)), 1);
    assert_eq!(now(cache.get_or_insert_with(998, async || 2)), 2);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_batch_loads_what_it_finds_stale_with_what_it_misses() {
    let clock = ManualClock::new();
    let cache = builder(&clock).build();
    for key in 1..=3 {
        cache.insert_blocking(key, 10 * key);
    }
    clock.advance(FRESH);
    cache.insert_blocking(4, 40);
    let asked = Mutex::new(Vec::new());
    // The 2 is left out, and so has failed.
    let load = async |keys: Vec<u32>| {
        *asked.lock().unwrap() = keys.clone();
        keys.into_iter().filter(|key| *key != 2).map(|key| (key, key + 100))
    };
    let answers = now(cache.entries([1, 2, 4, 5, 1]).or_insert_with(load));
    assert_eq!(*asked.lock().unwrap(), [1, 2, 5]);
    let told = |(_, answer): &(u32, Option<Lookup<u32>>)| answer.map(|it| (it.value, it.outcome));
    let expected = [
        Some((101, LookupOutcome::Loaded)),
        Some((20, LookupOutcome::Stale)),
        Some((40, LookupOutcome::Hit)),
        Some((105, LookupOutcome::Loaded)),
        Some((101, LookupOutcome::Loaded)),
    ];
    assert_eq!(answers.iter().map(told).collect::<Vec<_>>(), expected);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.refresh_failures), (1, 2, 1));
    assert_eq!((stats.hits, stats.stale_hits, stats.misses), (3, 2, 1));
    // Only what it misses has no answer if it fails.
    let failing = async |_: Vec<u32>| Err::<Vec<(u32, u32)>, _>("down");
    assert_eq!(*now(cache.entries([3, 6]).or_try_insert_with(failing)).unwrap_err(), "down");
    clock.advance(RETRY);
    let answers = now(cache.entries([2, 3, 4]).or_try_insert_with(failing)).unwrap();
    let expected = [
        Some((20, LookupOutcome::Stale)),
        Some((30, LookupOutcome::Stale)),
        Some((40, LookupOutcome::Hit)),
    ];
    assert_eq!(answers.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_detached_batch_has_the_spawner_refresh_all_that_it_finds_stale_in_one_load() {
    let (clock, tasks) = (ManualClock::new(), Tasks::default());
    let spawner = tasks.clone();
    let cache = builder(&clock).spawner(move |task| spawner.add(task)).build();
    for key in 1..=3 {
        cache.insert_blocking(key, 10 * key);
    }
    clock.advance(FRESH);
    let gate = Gate::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let load = |keys: Vec<u32>| {
        let (gate, is_missing) = (gate.clone(), keys.contains(&4));
        asked.lock().unwrap().push(keys.clone());
        async move {
            if !is_missing {
                gate.wait().await;
            }
            keys.into_iter().filter(|key| *key != 2).map(|key| (key, key + 100))
        }
    };
    let answers = now(cache.entries([1, 2, 3, 4]).detached().or_insert_with(load));
    let outcomes = answers.iter().map(|(_, answer)| answer.unwrap().outcome).collect::<Vec<_>>();
    use LookupOutcome::{Loaded, Stale};
    assert_eq!(outcomes, [Stale, Stale, Stale, Loaded]);
    assert_eq!(*asked.lock().unwrap(), [vec![1, 2, 3], vec![4]]);
    assert_eq!(tasks.len(), 1);
    tasks.poll();
    assert_eq!(cache.get(&1), Some(10));
    gate.open();
    tasks.poll();
    assert_eq!(tasks.len(), 0);
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(101), Some(20), Some(103)));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.refresh_failures), (2, 3, 1));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_memo_is_refreshed_by_its_function() {
    let (clock, tasks) = (ManualClock::new(), Tasks::default());
    for has_spawner in [false, true] {
        let spawner = tasks.clone();
        let builder = builder(&clock);
        let builder =
            if has_spawner { builder.spawner(move |task| spawner.add(task)) } else { builder };
        let runs = Arc::new(AtomicUsize::new(0));
        let memo = builder.wrap(move |args: u32| {
            let run = runs.fetch_add(1, Ordering::SeqCst) as u32;
            async move { args + run }
        });
        assert_eq!(now(memo.call(1)), 1);
        clock.advance(FRESH);
        let lookup = now(memo.call_traced(1));
        if has_spawner {
            assert_eq!((lookup.value, lookup.outcome), (1, LookupOutcome::Stale));
            tasks.poll();
        } else {
            assert_eq!((lookup.value, lookup.outcome), (2, LookupOutcome::Loaded));
        }
        assert_eq!(memo.get(&1), Some(2));
        assert_eq!(now(memo.refresh(1)), 3, "fresh or not");
        assert_eq!(memo.stats().refreshes, 2);
    }
}

#[test]
fn refresh_loads_whatever_there_is_and_counts_as_no_call() {
    for clock in [Some(ManualClock::new()), None] {
        let cache = match &clock {
            Some(clock) => builder(clock).build(),
            None => Cache::new(10),
        };
        assert_eq!(now(cache.refresh(1, async || 10)), 10, "it inserts what is absent");
        assert_eq!(now(cache.refresh(1, async || 11)), 11, "fresh or not");
        assert_eq!(cache.get(&1), Some(11));
        let failed = now(cache.try_refresh(1, async || Err("down")));
        assert_eq!(failed.map_err(|error| *error), Err("down"));
        assert_eq!(cache.get(&1), Some(11), "the value stays");
        let stats = cache.stats();
        assert_eq!((stats.calls(), stats.hits), (2, 2));
        assert_eq!((stats.loads, stats.load_failures), (3, 1));
        assert_eq!((stats.refreshes, stats.refresh_failures), (3, 1));
        if let Some(clock) = clock {
            // What is fresh stays so, and a stale one is let alone for a while.
            assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 11);
            clock.advance(FRESH);
            assert!(now(cache.try_refresh(1, async || Err::<u32, _>("down"))).is_err());
            assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 11);
            clock.advance(RETRY);
            assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 12);
        }
        assert_eq!(cache.validate(), 0);
    }
}

#[test]
fn refresh_joins_what_runs_and_is_joined() {
    for result in [Ok(11), Err("down")] {
        // A refresh by a call that found the value stale.
        each(true, |stale| {
            let load = Load::of(result);
            let call = stale.begin(&load);
            let own = Load::at_once(Ok(12));
            let mut refresh = hand(stale.cache.try_refresh(1, || own.run()));
            assert!(poll(&mut refresh).is_pending(), "{}", stale.form);
            stale.end(&load, call);
            let polled = poll(&mut refresh).map_err(|error| *error);
            if result.is_err() && stale.form.ends_with("own") {
                assert_eq!((polled, own.started()), (Poll::Ready(Ok(12)), 1));
            } else {
                assert_eq!((polled, own.started()), (Poll::Ready(result), 0), "{}", stale.form);
            }
        });
        // Calls that find nothing join it, and those that find a stale value do not begin another.
        each(true, |stale| {
            for is_there in [true, false] {
                stale.cache.clear_blocking();
                if is_there {
                    stale.cache.insert_blocking(1, 10);
                    stale.clock.advance(FRESH);
                }
                let load = Load::of(result);
                let mut refresh = hand(stale.cache.try_refresh(1, || load.run()));
                assert!(poll(&mut refresh).is_pending());
                let mut call = stale.call(&Load::at_once(Ok(12)));
                let polled = poll(&mut call);
                if is_there {
                    let expected = lookup(10, LookupOutcome::Stale);
                    assert_eq!(polled, Poll::Ready(Ok(expected)), "{}", stale.form);
                } else {
                    assert!(polled.is_pending());
                }
                load.gate.open();
                assert_eq!(poll(&mut refresh).map_err(|error| *error), Poll::Ready(result));
                let has_own_error = result.is_err() && stale.form.ends_with("own");
                if !is_there && !has_own_error {
                    let expected = result.map(|value| lookup(value, LookupOutcome::Joined));
                    assert_eq!(poll(&mut call), Poll::Ready(expected), "{}", stale.form);
                }
                assert_eq!(stale.cache.validate(), 0);
            }
        });
    }
}

#[test]
fn refresh_waits_for_an_update_and_loads_then() {
    let cache = Cache::new(10);
    let gate = Gate::new();
    let mut update = hand(cache.update_with(1, async |_| {
        gate.wait().await;
        Update::Put(10)
    }));
    assert!(poll(&mut update).is_pending());
    let mut refresh = hand(cache.refresh(1, async || 11));
    assert!(poll(&mut refresh).is_pending());
    gate.open();
    assert_eq!(poll(&mut update), Poll::Ready(Some(10)));
    assert_eq!(poll(&mut refresh), Poll::Ready(11));
    assert_eq!(cache.get(&1), Some(11));
}

#[test]
fn without_single_flight_a_key_has_one_refresh_at_a_time_all_the_same() {
    let clock = ManualClock::new();
    let cache = builder(&clock).without_single_flight().build();
    cache.insert_blocking(1, 10);
    clock.advance(FRESH);
    let load = Load::of(Ok(11));
    let mut call = hand(cache.get_or_insert_with(1, || load.sure()));
    assert!(poll(&mut call).is_pending());
    assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!())), 10);
    drop(call);
    assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 12);
    // Nor if the entry that it was to renew has gone, and another has come and gone stale.
    clock.advance(FRESH);
    let mut call = hand(cache.get_or_insert_with(1, || load.sure()));
    assert!(poll(&mut call).is_pending());
    clock.advance(TTL);
    assert_eq!(now(cache.get_or_insert_with(1, async || 13)), 13);
    clock.advance(FRESH);
    assert_eq!(now(cache.get_or_insert_with(1, async || unreachable!())), 13);
    drop(call);
    assert_eq!(now(cache.get_or_insert_with(1, async || 14)), 14);
    assert_eq!(cache.validate(), 0);
}

/// Has all keys meet in one place.
#[derive(Clone, Default)]
struct AllAlike;

impl std::hash::Hasher for AllAlike {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[u8]) {}
}

#[test]
fn the_refresh_of_another_key_of_the_same_hash_takes_none_away() {
    for (ends, fails) in [([0, 1], [true, false]), ([0, 1], [true, true]), ([1, 0], [false, true])]
    {
        for fences in [false, true] {
            let clock = ManualClock::new();
            let hasher = std::hash::BuildHasherDefault::<AllAlike>::default();
            let cache = builder(&clock).hasher(hasher).build();
            cache.insert_many_blocking([(0, 10), (1, 11)]);
            clock.advance(FRESH);
            let loads = fails.map(|fails| Load::of(if fails { Err("down") } else { Ok(12) }));
            let mut calls = [0, 1].map(|key: u32| {
                let load = &loads[key as usize];
                let mut call = hand(cache.try_get_or_insert_with(key, || load.run()));
                assert!(poll(&mut call).is_pending());
                call
            });
            if fences {
                cache.insert_blocking(1, 13);
            }
            for key in ends {
                loads[key].gate.open();
                assert!(poll(&mut calls[key]).is_ready());
                assert_eq!(cache.validate(), usize::from(key == ends[0]));
                if key == ends[0] {
                    // The other one goes on, and is not begun again.
                    let again = cache.get_or_insert_with(ends[1] as u32, async || unreachable!());
                    assert!([10, 11, 13].contains(&now(again)));
                }
            }
            clock.advance(FRESH);
            for key in [0, 1] {
                let again = now(cache.get_or_insert_with(key, async || 14));
                assert_eq!(
                    again, 14,
                    "nobody refreshes {key} any more: {ends:?} {fails:?} {fences}"
                );
            }
        }
    }
}

#[test]
fn a_key_that_cannot_be_made_leaves_the_refresh_to_the_next_call() {
    let clock = ManualClock::new();
    let cache = builder(&clock).build();
    cache.insert_blocking(1, 10);
    clock.advance(FRESH);
    let panics = |_: &u32| -> u32 { panic!("no key") };
    let call = || poll(&mut hand(cache.entry_by(&1, panics).or_insert_with(async || 11)));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 12);
    assert_eq!(cache.validate(), 0);
}

#[test]
fn what_a_spawner_does_with_its_tasks_harms_nobody() {
    type Spawn = fn(Task);
    let spawners: [(&str, Spawn, bool); 4] = [
        ("drops it", drop, true),
        ("panics", |_| panic!("no room"), true),
        ("panics with what panics", |_| std::panic::panic_any(PanicsWhenDropped), true),
        ("leaks it", std::mem::forget, false),
    ];
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("a payload that panics");
        }
    }
    for (name, spawn, is_due_again) in spawners {
        let clock = ManualClock::new();
        let cache = builder(&clock).spawner(spawn).build();
        let call =
            |value| now(cache.entry(1).detached().or_insert_with(move || async move { value }));
        cache.insert_blocking(1, 10);
        clock.advance(FRESH);
        for _ in 0..3 {
            assert_eq!(call(11).outcome, LookupOutcome::Stale, "{name}");
        }
        let stats = cache.stats();
        let refreshes = if is_due_again { 3 } else { 1 };
        assert_eq!(stats.refreshes, refreshes, "{name}");
        assert_eq!(stats.refresh_failures, if is_due_again { 3 } else { 0 }, "{name}");
        // A write, an eviction or the deadline ends that.
        cache.insert_blocking(1, 12);
        clock.advance(FRESH);
        call(13);
        assert_eq!(cache.stats().refreshes, refreshes + 1, "{name}");
        if is_due_again {
            // A load that its last caller leaves goes the same way.
            cache.invalidate_blocking(&1);
            let load = Load::of(Ok(14));
            let mut call = hand(cache.entry(1).detached().or_insert_with(move || load.sure()));
            assert!(poll(&mut call).is_pending());
            drop(call);
            assert_eq!(cache.validate(), 0, "{name}");
        }
    }
}

#[test]
fn a_load_that_its_last_caller_leaves_goes_on_by_the_spawner() {
    let tasks = Tasks::default();
    let spawner = tasks.clone();
    let cache = Cache::builder().spawner(move |task| spawner.add(task)).build();
    let load = Load::of(Ok(10));
    let mut first = hand(cache.entry(1).detached().or_insert_with(|| load.sure()));
    let mut second = hand(cache.get_or_insert_with(1, async || unreachable!()));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(first);
    assert_eq!(tasks.len(), 0, "somebody waits for it");
    drop(second);
    assert_eq!(tasks.len(), 1);
    tasks.poll();
    let mut third = hand(cache.get_or_insert_with(1, async || unreachable!()));
    assert!(poll(&mut third).is_pending(), "it can still be joined");
    drop(third);
    assert_eq!(tasks.len(), 1, "the task is a caller as well");
    load.gate.open();
    tasks.poll();
    assert_eq!((cache.get(&1), tasks.len()), (Some(10), 0));
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 0));
    assert_eq!(cache.validate(), 0);
}

#[test]
fn a_task_does_not_keep_the_cache() {
    let (clock, tasks) = (ManualClock::new(), Tasks::default());
    let spawner = tasks.clone();
    let cache = builder(&clock).spawner(move |task| spawner.add(task)).build();
    cache.insert_blocking(1, 10);
    clock.advance(FRESH);
    let load = Load::of(Ok(11));
    let held = Arc::clone(&load.started);
    now(cache.entry(1).detached().or_insert_with(|| load.sure()));
    tasks.poll();
    assert_eq!(tasks.len(), 1);
    drop(cache);
    load.gate.open();
    drop(load);
    tasks.poll();
    assert_eq!((tasks.len(), Arc::strong_count(&held)), (0, 1), "the load is dropped");
}

#[test]
fn a_spawner_may_be_called_while_a_panic_unwinds() {
    let tasks = Tasks::default();
    let spawner = tasks.clone();
    let cache = Cache::builder()
        .spawner(move |task| {
            spawner.add(task);
            panic!("and panics itself");
        })
        .build();
    let load = Load::of(Ok(10));
    let unwinds = AssertUnwindSafe(|| {
        let mut call = hand(cache.entry(1).detached().or_insert_with(|| load.sure()));
        assert!(poll(&mut call).is_pending());
        panic!("while the call is there");
    });
    assert!(catch_unwind(unwinds).is_err());
    load.gate.open();
    tasks.poll();
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn background_runs_so_many_tasks_at_once_and_the_others_in_their_order() {
    for limit in [0, 1, 2, 3] {
        let (spawner, background) = async_lru::background(limit);
        let mut background = hand(background);
        let most = limit.max(1);
        let loads: Vec<Load> = (0..5).map(|_| Load::of(Ok(0))).collect();
        let spawn = spawner.clone();
        for load in &loads {
            let load = load.clone();
            spawn(Box::pin(async move { _ = load.run().await }));
        }
        assert!(poll(&mut background).is_pending());
        let started = || loads.iter().map(Load::started).collect::<Vec<_>>();
        for (ended, load) in loads.iter().enumerate() {
            let running = (0..5).map(|number| usize::from(number < ended + most));
            assert_eq!(started(), running.collect::<Vec<_>>(), "{limit}");
            load.gate.open();
            assert!(poll(&mut background).is_pending());
        }
        drop(spawn);
        assert!(poll(&mut background).is_pending());
        drop(spawner);
        assert!(poll(&mut background).is_ready());
    }
}

#[test]
fn background_that_is_dropped_drops_its_tasks_and_all_that_come_later() {
    let (spawner, background) = async_lru::background(1);
    let held = Arc::new(());
    let task = || -> Task {
        let held = Arc::clone(&held);
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(held);
        })
    };
    let mut background = hand(background);
    spawner(task());
    spawner(task());
    assert!(poll(&mut background).is_pending());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(background);
    assert_eq!(Arc::strong_count(&held), 1);
    spawner(task());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn the_configuration_says_how_long_entries_are_fresh() {
    let info = builder(&ManualClock::new()).build().info();
    assert_eq!((info.fresh_for, info.refresh_retry), (Some(FRESH), RETRY));
    assert!(info.to_string().contains("fresh for 10s"), "{info}");
    assert_eq!(Cache::new(1).info().refresh_retry, Duration::from_secs(1));
}

#[test]
fn extreme_times_are_taken_for_what_they_mean() {
    let clock = ManualClock::new();
    // Stale at once.
    let cache = Cache::builder().fresh_for(Duration::ZERO).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 11);
    assert_eq!(now(cache.get_or_insert_with(1, async || 12)), 12);
    // Never stale.
    let cache = Cache::builder().fresh_for(Duration::MAX).clock(clock.clone()).build();
    cache.insert_blocking(1, 10);
    clock.set(Duration::MAX);
    assert_eq!(now(cache.get_or_insert_with(1, async || 11)), 10);
    // Never tried again, and at once.
    for (retry, is_tried) in [(Duration::MAX, false), (Duration::ZERO, true)] {
        let clock = ManualClock::new();
        let cache =
            Cache::builder().fresh_for(FRESH).refresh_retry(retry).clock(clock.clone()).build();
        cache.insert_blocking(1, 10);
        clock.advance(FRESH);
        let failing = async || Err::<u32, _>("down");
        assert!(now(cache.try_get_or_insert_with(1, failing)).is_ok());
        clock.advance(FRESH);
        let again = now(cache.try_get_or_insert_with(1, async || Ok::<_, &str>(11)));
        assert_eq!(again, Ok(if is_tried { 11 } else { 10 }));
    }
}

executors! {
    /// However many ask, each generation of the value is loaded once, and nobody is given one that is
    /// older than it may be.
    async fn many_callers_are_never_kept_waiting_by_a_refresh() {
        let (clock, tasks) = (ManualClock::new(), Tasks::default());
        let spawner = tasks.clone();
        let cache = builder(&clock).spawner(move |task| spawner.add(task)).build();
        cache.insert(1, 0).await;
        for generation in 1..=20_u32 {
            clock.advance(FRESH);
            let before = cache.stats().loads;
            let calls = (0..64).map(|caller| {
                let cache = cache.clone();
                async move {
                    let load = move || async move {
                        for _ in 0..3 {
                            yield_now().await;
                        }
                        generation
                    };
                    match caller % 2 {
                        0 => cache.entry(1).detached().or_insert_with(load).await.value,
                        _ => cache.get(&1).unwrap(),
                    }
                }
            });
            for value in join_all(calls).await {
                assert_eq!(value, generation - 1);
            }
            let task = tasks.take().unwrap();
            task.await;
            assert_eq!(cache.stats().loads, before + 1);
            assert_eq!(cache.get(&1), Some(generation));
        }
        assert_eq!((tasks.len(), cache.validate()), (0, 0));
    }

    async fn a_spawned_load_goes_on_without_its_callers() {
        let (spawner, background) = async_lru::background(2);
        let cache = Cache::builder().spawner(spawner).build();
        let gate = Gate::new();
        let load = Load { gate: gate.clone(), ..Load::of(Ok(10)) };
        {
            let mut call = Box::pin(cache.entry(1).detached().or_insert_with(|| load.sure()));
            assert!(poll(&mut call).is_pending());
        }
        gate.open();
        let end = async move {
            while cache.get(&1).is_none() {
                yield_now().await;
            }
            cache.stats()
        };
        let (_, stats) = futures_lite::future::zip(background, end).await;
        assert_eq!((stats.loads, stats.load_failures), (1, 0));
    }
}

#[test]
fn threads_that_write_read_and_refresh_agree() {
    let clock = ManualClock::new();
    let (spawner, background) = async_lru::background(4);
    let cache = builder(&clock).maxsize(16).shards(1).spawner(spawner).build();
    let runner = std::thread::spawn(|| block_on(background));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (cache, clock) = (cache.clone(), clock.clone());
            scope.spawn(move || {
                for round in 0..5_000_u32 {
                    let key = round.wrapping_mul(2_654_435_761).wrapping_add(thread) >> 7 & 15;
                    match (round + thread) % 8 {
                        0 => clock.advance(FRESH / 4),
                        1 => _ = cache.insert_blocking(key, round),
                        2 => _ = cache.invalidate_blocking(&key),
                        3 => _ = block_on(cache.refresh(key, async || round)),
                        4 | 5 => {
                            let load = move || async move {
                                yield_now().await;
                                round
                            };
                            block_on(cache.entry(key).detached().or_insert_with(load));
                        }
                        _ => _ = block_on(cache.get_or_insert_with(key, async || round)),
                    }
                }
            });
        }
    });
    // What has been given to the spawner comes to its end.
    while cache.stats().in_flight > 0 {
        std::thread::yield_now();
    }
    let stats = cache.stats();
    assert!(stats.stale_hits > 0 && stats.refreshes > 0, "{stats:?}");
    assert_eq!(cache.validate(), 0);
    drop(cache);
    runner.join().unwrap();
}

executors! {
    async fn on_every_executor_one_caller_refreshes_and_the_others_go_on() {
        let clock = ManualClock::new();
        let cache = builder(&clock).build();
        cache.insert(1, 10).await;
        clock.advance(FRESH);
        let load = Load::of(Ok(11));
        let refresher = async { cache.get_or_insert_with(1, || load.sure()).await };
        let readers = async {
            while load.started() == 0 {
                yield_now().await;
            }
            for _ in 0..100 {
                let lookup = cache.entry(1).or_insert_with(async || unreachable!()).await;
                assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Stale));
                yield_now().await;
            }
            load.gate.open();
        };
        let (value, ()) = futures_lite::future::zip(refresher, readers).await;
        assert_eq!((value, cache.get(&1), cache.validate()), (11, Some(11), 0));
    }

    async fn on_every_executor_a_failure_leaves_the_value_and_a_drop_the_refresh_to_the_next() {
        let clock = ManualClock::new();
        let cache = builder(&clock).build();
        cache.insert(1, 10).await;
        clock.advance(FRESH);
        // Dropped by a caller that has no more time.
        let dropped = cache.get_or_insert_with(1, std::future::pending);
        let no_time = async {
            yield_now().await;
            0
        };
        assert_eq!(futures_lite::future::or(dropped, no_time).await, 0);
        let down = async || {
            yield_now().await;
            Err::<u32, _>("down")
        };
        assert_eq!(cache.try_get_or_insert_with(1, down).await, Ok(10));
        assert_eq!(cache.try_get_or_insert_with(1, async || Ok::<_, &str>(11)).await, Ok(10));
        clock.advance(RETRY);
        assert_eq!(cache.try_get_or_insert_with(1, async || Ok::<_, &str>(11)).await, Ok(11));
        let stats = cache.stats();
        assert_eq!((stats.refreshes, stats.refresh_failures, cache.validate()), (3, 2, 0));
    }

    async fn on_every_executor_writes_win_and_the_deadline_makes_it_a_load() {
        let clock = ManualClock::new();
        let cache = builder(&clock).build();
        for is_written in [true, false] {
            cache.insert(1, 10).await;
            clock.advance(FRESH);
            let load = Load::of(Ok(11));
            let refresher = async { cache.get_or_insert_with(1, || load.sure()).await };
            let other = async {
                while load.started() == 0 {
                    yield_now().await;
                }
                if is_written {
                    cache.insert(1, 12).await;
                } else {
                    clock.advance(TTL);
                }
                let found = cache.get_or_insert_with(1, async || unreachable!());
                let opens = async {
                    yield_now().await;
                    load.gate.open();
                };
                futures_lite::future::zip(found, opens).await.0
            };
            let (own, found) = futures_lite::future::zip(refresher, other).await;
            assert_eq!((own, found), (11, if is_written { 12 } else { 11 }));
            assert_eq!(cache.get(&1), Some(found));
        }
    }

    async fn on_every_executor_the_spawner_refreshes_single_keys_batches_and_memos() {
        let clock = ManualClock::new();
        let (spawner, background) = async_lru::background(4);
        let memo = builder(&clock).spawner(spawner.clone()).wrap(|args: u32| async move {
            yield_now().await;
            10 * args
        });
        let cache = builder(&clock).spawner(spawner).build();
        let pairs = |keys: Vec<u32>| async move {
            yield_now().await;
            keys.into_iter().map(|key| (key, key + 100))
        };
        let calls = async move {
            assert_eq!(memo.call(1).await, 10);
            for key in 1..=3 {
                cache.insert(key, key).await;
            }
            clock.advance(FRESH);
            assert_eq!(memo.call_traced(1).await.outcome, LookupOutcome::Stale);
            let answers = cache.entries([1, 2, 3]).detached().or_insert_with(pairs).await;
            assert_eq!(answers.iter().map(|(_, it)| it.unwrap().value).collect::<Vec<_>>(), [1, 2, 3]);
            while memo.stats().loads < 2 || cache.peek(&3) == Some(3) {
                yield_now().await;
            }
            assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(101), Some(102), Some(103)));
            assert_eq!((cache.stats().loads, cache.stats().refreshes), (1, 3));
            assert_eq!((cache.validate(), memo.cache().validate()), (0, 0));
        };
        futures_lite::future::zip(background, calls).await;
    }
}

#[test]
fn a_refresh_that_is_dropped_is_taken_up_however_many_other_keys_are_refreshed() {
    const KEYS: u32 = 500;
    let clock = ManualClock::new();
    let cache = builder(&clock).maxsize(KEYS as usize).shards(1).build();
    (0..KEYS).for_each(|key| _ = cache.insert_blocking(key, 10));
    clock.advance(FRESH);
    let load = Load::of(Ok(11));
    let refresh = |key| {
        let mut refresh = hand(cache.get_or_insert_with(key, || load.sure()));
        assert!(poll(&mut refresh).is_pending());
        (key, refresh)
    };
    let refreshes: Vec<_> = (0..KEYS).map(refresh).collect();
    for (key, refresh) in refreshes {
        drop(refresh);
        assert_eq!(now(cache.get_or_insert_with(key, async || 12)), 12, "{key}");
    }
    assert_eq!(cache.validate(), 0);
}
