//! Refreshes of one entry, against each other, against all that writes it, and against its deadline.
//!
//! Every load is counted by its key's [`Loads`], which fail as two are live at once that no write has won
//! over: no key has two refreshes at a time. In the end of each scenario the next call refreshes what is
//! stale: no key is left that nobody refreshes any more.

use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Lookup, LookupOutcome, ManualClock, Update};
use futures_lite::future::{poll_once, yield_now};
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Hasher, Loads, Mint, Moment, Value, begin, builder, number};

const FRESH: Duration = Duration::from_secs(10);

/// The number of the value that is stale; those of loads are numbered from one on.
const OLD: u32 = 0;

/// The number of the value that is inserted.
const INSERTED: u32 = 100;

/// What a call has got, and from where.
type Answer = (u32, LookupOutcome);

const SERVED_STALE: Answer = (OLD, LookupOutcome::Stale);

fn answer(lookup: Lookup<Value>) -> Answer {
    (lookup.value.number, lookup.outcome)
}

/// A cache with an entry of key 1 that has just become stale.
struct Stale {
    cache: Cache,
    clock: ManualClock,
    mint: Mint,
    loads: Arc<Loads>,
}

impl Stale {
    fn new() -> Self {
        Self::built(|builder| builder)
    }

    fn built(
        configure: impl FnOnce(Builder<u32, Value, Hasher>) -> Builder<u32, Value, Hasher>,
    ) -> Self {
        let clock = ManualClock::new();
        let cache = configure(builder(2).fresh_for(FRESH).clock(clock.clone())).build();
        let (mint, loads) = Default::default();
        let this = Self { cache, clock, mint, loads };
        this.cache.insert_blocking(1, this.mint.value(OLD));
        this.clock.advance(FRESH);
        this
    }

    /// The value of the load that begins now.
    fn next_value(&self) -> Value {
        self.mint.value(self.loads.started() + 1)
    }

    /// A call whose load ends after a pause.
    async fn call(&self) -> Answer {
        let load = || self.loads.load(self.next_value());
        answer(self.cache.entry(1).or_insert_with(load).await)
    }

    /// A call whose load fails after a pause.
    async fn failing_call(&self) -> Result<Answer, u32> {
        let load = || self.loads.fail(7);
        let found = self.cache.entry(1).or_try_insert_with(load).await;
        found.map(answer).map_err(|error| *error)
    }

    /// A call whose load does not end, and that is dropped after a poll.
    fn dropped_call(&self) {
        let call = self.cache.entry(1).or_insert_with(|| self.loads.never());
        drop(block_on(poll_once(call)));
    }

    /// Has the calling thread pin the shard, unless others write to it.
    fn pin(&self) {
        for _ in 0..2 {
            assert!(self.cache.get(&1).is_some());
        }
    }

    /// The number of the value that is there.
    fn cached(&self) -> Option<u32> {
        number(self.cache.peek(&1))
    }

    /// Asserts that the next call loads the value, whoever has tried before.
    fn assert_due(&self) {
        let expected = (self.loads.started() + 1, LookupOutcome::Loaded);
        assert_eq!(block_on(self.call()), expected, "nobody refreshes it any more");
    }

    /// Asserts that the entry is refreshed once it is stale again, and that all is whole.
    fn close(self) {
        assert_eq!(self.cache.validate(), 0, "a load has been left behind");
        if self.cache.contains_key(&1) {
            self.clock.advance(FRESH);
            let before = self.cache.stats().refreshes;
            self.assert_due();
            assert_eq!(self.cache.stats().refreshes, before + 1);
        }
        self.mint.close(self.cache);
    }
}

#[test]
fn of_those_who_find_an_entry_stale_by_their_pins_one_refreshes_it() {
    explore(|| {
        let stale = Stale::new();
        let answers = scope(|scope| {
            let callers = [(); 2].map(|()| {
                scope.spawn(|| {
                    stale.pin();
                    block_on(stale.call())
                })
            });
            stale.pin();
            callers.map(|caller| caller.join().unwrap())
        });
        for answer in answers {
            assert!([OLD, 1].contains(&answer.0), "{answer:?}");
            assert_eq!(answer == SERVED_STALE, answer.0 == OLD);
        }
        let loaded = answers.into_iter().filter(|answer| *answer == (1, LookupOutcome::Loaded));
        assert_eq!((loaded.count(), stale.loads.started(), stale.cached()), (1, 1, Some(1)));
        let stats = stale.cache.stats();
        assert_eq!((stats.refreshes, stats.refresh_failures, stats.misses), (1, 0, 0));
        stale.close();
    });
}

#[test]
fn without_single_flight_one_of_those_who_find_an_entry_stale_refreshes_it_all_the_same() {
    explore(|| {
        let stale = Stale::built(Builder::without_single_flight);
        let dropped = scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert!(block_on(stale.call()).0 <= 2));
            }
            stale.dropped_call();
            stale.cache.stats().refresh_failures
        });
        // After one that was dropped there may be another.
        assert!(u64::from(stale.loads.started()) <= 1 + dropped);
        stale.close();
    });
}

#[test]
fn an_insertion_wins_over_a_refresh_wherever_that_is_and_is_not_refreshed() {
    explore(|| {
        let stale = Stale::new();
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    stale.pin();
                    assert!([OLD, 1, INSERTED].contains(&block_on(stale.call()).0));
                });
            }
            let replaced = number(stale.cache.insert_blocking(1, stale.mint.value(INSERTED)));
            assert!(matches!(replaced, Some(OLD | 1)));
            assert_eq!(block_on(stale.call()), (INSERTED, LookupOutcome::Hit));
        });
        assert_eq!(stale.cached(), Some(INSERTED), "a refresh has undone a write");
        assert!(stale.loads.started() <= 1);
        stale.close();
    });
}

/// Runs `write` while two others call for a stale entry; what was there or began to load before is not
/// seen after it. Tells it how many loads had started.
fn contest(write: impl Fn(&Stale, u32) + Sync) {
    let stale = Stale::new();
    scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| block_on(stale.call()));
        }
        let before = stale.loads.started();
        stale.loads.fence();
        write(&stale, before);
        assert!(stale.cached().is_none_or(|seen| seen > before), "a refresh has undone a write");
        assert!(block_on(stale.call()).0 > before);
    });
    assert!(stale.cached().is_some());
    stale.close();
}

#[test]
fn what_a_refresh_brings_that_began_before_an_invalidation_is_not_seen_after_it() {
    explore(|| {
        contest(|stale, _| assert!(stale.cache.invalidate_blocking(&1), "the old value was there"));
    });
}

#[test]
fn what_a_refresh_brings_that_began_before_a_clear_is_not_seen_after_it() {
    explore(|| contest(|stale, _| stale.cache.clear_blocking()));
}

#[test]
fn what_a_refresh_brings_that_began_before_a_sweep_of_its_key_is_not_seen_after_it() {
    explore(|| {
        contest(|stale, _| {
            // None is removed if a refresh that began after it has brought another value.
            assert!(stale.cache.invalidate_keys_if_blocking(|key| *key == 1) <= 1);
        });
    });
}

#[test]
fn what_a_refresh_brings_that_began_before_a_guarded_write_or_during_it_is_not_seen_after_it() {
    explore(|| {
        contest(|stale, _| {
            let writing = stale.cache.writing(&1);
            assert_eq!(stale.cached(), None, "nobody can tell what it was loaded from");
            stale.loads.fence();
            drop(writing);
        });
    });
}

#[test]
fn a_sweep_that_chooses_what_is_there_and_what_is_loaded_leaves_neither() {
    explore(|| {
        let stale = Stale::new();
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(stale.call()));
            }
            let before = stale.loads.started();
            // No load is fenced by it, so that all who miss the key join the one there is.
            stale.cache.invalidate_if_blocking(move |_, value| value.number <= before);
            assert!(stale.cached().is_none_or(|seen| seen > before));
        });
        stale.close();
    });
}

#[test]
fn a_refresh_beside_a_sweep_that_chooses_nothing_brings_its_value() {
    explore(|| {
        let stale = Stale::new();
        let removed = scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(stale.call()));
            }
            stale.cache.invalidate_if_blocking(|_, _| false)
        });
        assert_eq!((removed, stale.cached(), stale.loads.started()), (0, Some(1), 1));
        stale.close();
    });
}

#[test]
fn an_update_that_keeps_a_stale_value_wins_over_its_refresh_and_leaves_it_to_the_next_call() {
    explore(|| {
        let stale = Stale::new();
        stale.loads.fence();
        let (answer, kept) = scope(|scope| {
            let caller = scope.spawn(|| block_on(stale.call()));
            let kept = stale.cache.update_with(1, async |old| {
                yield_now().await;
                assert!(old.is_some());
                Update::Keep
            });
            let kept = number(block_on(kept)).unwrap();
            (caller.join().unwrap(), kept)
        });
        let cached = stale.cached().unwrap();
        const LOADED: Answer = (1, LookupOutcome::Loaded);
        match (answer, kept) {
            // The refresh came first.
            (LOADED, 1) => assert_eq!(cached, 1),
            // It was overtaken, or came after the update.
            (LOADED, OLD) => assert!([OLD, 1].contains(&cached)),
            // The call has left it to the update, which has brought nothing.
            (SERVED_STALE, OLD) => assert_eq!(cached, OLD),
            other => panic!("a refresh and an update: {other:?}"),
        }
        if cached == OLD {
            stale.assert_due();
        }
        stale.close();
    });
}

#[test]
fn an_update_that_puts_a_value_is_not_undone_by_a_refresh_and_starts_from_what_that_has_brought() {
    explore(|| {
        let stale = Stale::new();
        let put = scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(stale.call()));
            }
            let put = stale.cache.update_with(1, async |old| {
                yield_now().await;
                Update::Put(stale.mint.value(INSERTED + number(old).unwrap()))
            });
            number(block_on(put)).unwrap()
        });
        assert!([INSERTED + OLD, INSERTED + 1].contains(&put));
        assert_eq!(stale.cached(), Some(put), "a refresh has undone an update");
        assert!(stale.loads.started() <= 1);
        stale.close();
    });
}

#[test]
fn a_refresh_that_is_dropped_is_taken_up_by_whoever_calls_next() {
    explore(|| {
        let stale = Stale::new();
        let answers = scope(|scope| {
            scope.spawn(|| stale.dropped_call());
            let callers = [(); 2].map(|()| scope.spawn(|| block_on(stale.call())));
            callers.map(|caller| caller.join().unwrap())
        });
        let loaded = answers.into_iter().find(|answer| answer.1 == LookupOutcome::Loaded);
        assert_eq!(stale.cached(), Some(loaded.map_or(OLD, |answer| answer.0)));
        let (stats, started) = (stale.cache.stats(), stale.loads.started().into());
        assert_eq!((stats.loads, stats.refreshes), (started, started));
        assert_eq!(stats.refresh_failures, started - u64::from(loaded.is_some()));
        if loaded.is_none() {
            stale.assert_due();
        }
        stale.close();
    });
}

#[test]
fn a_detached_refresh_ends_with_its_last_caller_and_is_taken_up_by_whoever_calls_next() {
    explore(|| {
        let stale = Stale::new();
        let call = || {
            let (cache, loads, value) = (&stale.cache, &stale.loads, stale.next_value());
            let load = move || loads.detached(value);
            Box::pin(async move { answer(cache.entry(1).detached().or_insert_with(load).await) })
        };
        let last = begin(call());
        assert_eq!(stale.loads.started(), 1);
        let answers = scope(|scope| {
            // The load that is dropped may be on its way out while the next begins.
            stale.loads.fence();
            scope.spawn(|| drop(last));
            let callers = [(); 2].map(|()| scope.spawn(|| block_on(call())));
            callers.map(|caller| caller.join().unwrap())
        });
        let loaded = answers.into_iter().filter(|answer| answer.1 == LookupOutcome::Loaded).count();
        assert!(answers.iter().all(|answer| answer.1 != LookupOutcome::Joined));
        assert_eq!((stale.loads.started() as usize, loaded <= 1), (1 + loaded, true));
        assert_eq!(
            (loaded == 0, stale.cache.stats().refresh_failures),
            (stale.cached() == Some(OLD), 1)
        );
        if loaded == 0 {
            stale.assert_due();
        }
        stale.close();
    });
}

#[test]
fn a_refresh_that_fails_is_tried_again_by_one_at_a_time() {
    explore(|| {
        let stale = Stale::built(|builder| builder.refresh_retry(Duration::ZERO));
        scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(block_on(stale.failing_call()), Ok(SERVED_STALE)));
            }
        });
        let (stats, started) = (stale.cache.stats(), stale.loads.started().into());
        assert!((1..=3).contains(&started));
        assert_eq!((stats.refreshes, stats.refresh_failures), (started, started));
        assert_eq!((stats.load_failures, stats.stale_hits), (started, 3));
        stale.assert_due();
        stale.close();
    });
}

#[test]
fn a_refresh_that_has_failed_is_not_tried_again_before_its_time_whoever_comes_as_it_ends() {
    explore(|| {
        let stale = Stale::new();
        scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(block_on(stale.failing_call()), Ok(SERVED_STALE)));
            }
        });
        assert_eq!((stale.loads.started(), stale.cache.stats().refreshes), (1, 1));
        stale.clock.advance(stale.cache.info().refresh_retry);
        stale.assert_due();
        stale.close();
    });
}

#[test]
fn a_refresh_that_is_asked_for_and_a_call_that_finds_the_entry_stale_run_one_at_a_time() {
    explore(|| {
        let stale = Stale::new();
        let (answer, refreshed) = scope(|scope| {
            let caller = scope.spawn(|| block_on(stale.call()));
            let load = || stale.loads.load(stale.next_value());
            let refreshed = block_on(stale.cache.refresh(1, load)).number;
            (caller.join().unwrap(), refreshed)
        });
        // That call does not get the old value, nor is it overtaken.
        assert_ne!(refreshed, OLD);
        assert_eq!(stale.cached(), Some(refreshed));
        match (stale.loads.started(), answer) {
            // The call refreshed it first, or the other joined.
            (2 | 1, (1, LookupOutcome::Loaded)) => {}
            // It was served what there was, or what the other had brought.
            (1, SERVED_STALE | (1, LookupOutcome::Hit)) => {}
            other => panic!("two refreshes: {other:?}"),
        }
        assert_eq!(stale.cache.stats().refreshes, stale.loads.started().into());
        stale.close();
    });
}

#[test]
fn a_refresh_that_is_asked_for_and_fails_leaves_the_entry_to_the_next_call() {
    explore(|| {
        let stale = Stale::built(|builder| builder.refresh_retry(Duration::ZERO));
        let refreshed = scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(stale.call()));
            }
            let refresh = stale.cache.try_refresh(1, || stale.loads.fail(7));
            block_on(refresh).map(|value| value.number).map_err(|error| *error)
        });
        match (refreshed, stale.cached().unwrap()) {
            // It has joined the refresh of a call.
            (Ok(1), 1) => {}
            (Err(7), OLD) => stale.assert_due(),
            // Before a call, or after it.
            (Err(7), cached) => assert!(cached <= stale.loads.started()),
            other => panic!("two refreshes: {other:?}"),
        }
        stale.close();
    });
}

#[test]
fn no_call_is_given_the_old_value_after_its_deadline_though_its_refresh_goes_on() {
    explore(|| {
        let stale = Stale::built(|builder| builder.ttl(2 * FRESH));
        let over = Moment::default();
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let is_over = over.is_reached();
                    let answer = block_on(stale.call());
                    assert!(answer.0 != OLD || answer == SERVED_STALE && !is_over);
                });
            }
            stale.clock.advance(FRESH);
            over.reach();
            assert_ne!(number(stale.cache.get(&1)), Some(OLD));
            let answer = block_on(stale.call());
            assert_ne!(answer.0, OLD, "{answer:?}");
        });
        // One loads what was stale or gone; what has come before the deadline is stale after it.
        assert!(stale.loads.started() <= 2);
        stale.close();
    });
}

#[test]
fn a_refresh_that_fails_after_the_deadline_gives_its_error_and_leaves_nothing_in_place() {
    explore(|| {
        let stale = Stale::built(|builder| builder.ttl(2 * FRESH));
        let over = Moment::default();
        scope(|scope| {
            scope.spawn(|| {
                let is_over = over.is_reached();
                match block_on(stale.failing_call()) {
                    Ok(answer) => assert!(!is_over && answer == SERVED_STALE),
                    Err(error) => assert_eq!(error, 7),
                }
            });
            stale.clock.advance(FRESH);
            over.reach();
            assert_eq!(block_on(stale.failing_call()), Err(7));
        });
        assert_eq!(stale.cached(), None);
        assert_eq!(stale.cache.stats().load_failures, stale.loads.started().into());
        stale.assert_due();
        stale.close();
    });
}

#[test]
fn an_entry_that_is_evicted_while_it_is_refreshed_is_joined_and_its_place_is_another_ones() {
    explore(|| {
        let stale = Stale::new();
        scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(stale.call()));
            }
            stale.mint.fill(&stale.cache, [2, 3]);
        });
        assert!(stale.loads.started() <= 2);
        stale.clock.advance(FRESH);
        for key in [2, 3].into_iter().filter(|key| stale.cache.contains_key(key)) {
            let lookup = stale.cache.entry(key).or_insert_with(async || stale.mint.value(7));
            assert_eq!(answer(block_on(lookup)), (7, LookupOutcome::Loaded));
        }
        stale.close();
    });
}

/// Has all keys meet in one place.
#[derive(Default)]
struct AllAlike;

impl std::hash::Hasher for AllAlike {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, _: &[u8]) {}
}

#[test]
fn of_two_keys_of_one_hash_each_is_refreshed_again_however_the_refresh_of_the_other_ends() {
    explore(|| {
        let (clock, hasher) = (ManualClock::new(), BuildHasherDefault::<AllAlike>::default());
        let builder = AsyncLru::builder().maxsize(2).fresh_for(FRESH).clock(clock.clone());
        let cache = builder.refresh_retry(Duration::ZERO).hasher(hasher).build();
        cache.insert_many_blocking([(1, OLD), (2, OLD)]);
        clock.advance(FRESH);
        let (one, other) = (Loads::default(), Loads::default());
        scope(|scope| {
            scope.spawn(|| {
                let failing = async || {
                    let _live = one.enter();
                    yield_now().await;
                    Err::<u32, _>("down")
                };
                assert_eq!(block_on(cache.try_get_or_insert_with(1, failing)), Ok(OLD));
            });
            scope.spawn(|| {
                let never = async || {
                    let _live = one.enter();
                    std::future::pending().await
                };
                block_on(poll_once(cache.get_or_insert_with(1, never)));
            });
            let load = async || {
                let _live = other.enter();
                yield_now().await;
                7
            };
            assert_eq!(block_on(cache.get_or_insert_with(2, load)), 7);
        });
        assert_eq!((cache.validate(), cache.peek(&1), cache.peek(&2)), (0, Some(OLD), Some(7)));
        clock.advance(FRESH);
        for key in [1, 2] {
            let again = block_on(cache.get_or_insert_with(key, async || 8));
            assert_eq!(again, 8, "nobody refreshes {key} any more");
        }
        assert_eq!(cache.validate(), 0);
    });
}
