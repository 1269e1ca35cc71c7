//! Loads that live in the cache, and those who poll them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use futures_lite::future::poll_once;
use shuttle::future::block_on;
use shuttle::thread::{scope, spawn, yield_now};

use crate::explore::explore;
use crate::witness::{Cache, Gate, Loads, Mint, Value, begin, builder, number};

/// What the calls of a scenario share.
#[derive(Default)]
struct Ground {
    mint: Mint,
    loads: Arc<Loads>,
}

/// A call for key 1 that owns what it needs, so that it can be begun here and go on elsewhere.
type Call = Pin<Box<dyn Future<Output = Value> + Send>>;

impl Ground {
    /// A call whose load ends after a pause.
    fn call(&self, cache: &Cache, number: u32) -> Call {
        let (cache, loads, value) = (cache.clone(), self.loads.clone(), self.mint.value(number));
        Box::pin(async move {
            let load = move || loads.detached(value);
            cache.entry(1).detached().or_insert_with(load).await.value
        })
    }

    /// A call whose load ends once `gate` is open.
    fn gated_call(&self, cache: &Cache, number: u32, gate: &Arc<Gate>) -> Call {
        let (cache, loads, value) = (cache.clone(), self.loads.clone(), self.mint.value(number));
        let gate = Arc::clone(gate);
        Box::pin(async move {
            let load = move || loads.gated(value, &gate);
            cache.entry(1).detached().or_insert_with(load).await.value
        })
    }

    /// A call whose load lives in the call.
    fn borrowing_call(&self, cache: &Cache, number: u32) -> Call {
        let (cache, loads, value) = (cache.clone(), self.loads.clone(), self.mint.value(number));
        Box::pin(async move { cache.get_or_insert_with(1, || loads.load(value)).await })
    }

    /// Says that a call is about to be dropped: another load may begin while its own is on its way out.
    fn let_go(&self, call: Call) {
        self.loads.fence();
        drop(call);
    }
}

/// Polls a call as an executor does that has other things to do between two polls.
async fn unhurried(mut call: Call) -> Value {
    poll_fn(|cx| {
        yield_now();
        call.as_mut().poll(cx)
    })
    .await
}

#[test]
fn a_leader_that_goes_leaves_its_load_to_one_who_has_joined_it() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let leader = begin(ground.call(&cache, 7));
        let waiter = begin(ground.call(&cache, 8));
        let leaving = spawn(move || drop(leader));
        assert_eq!(block_on(waiter).number, 7);
        leaving.join().unwrap();
        assert_eq!(ground.loads.started(), 1);
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.coalesced), (1, 1));
        assert_eq!((stats.loads, stats.load_failures), (1, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn of_several_who_poll_one_load_some_may_go_at_any_time_and_the_others_get_its_value() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let leader = begin(ground.call(&cache, 7));
        let [leaving, staying] = [8, 9].map(|number| begin(ground.call(&cache, number)));
        scope(|scope| {
            scope.spawn(|| drop(leader));
            scope.spawn(|| drop(block_on(poll_once(leaving))));
            assert_eq!(block_on(staying).number, 7);
        });
        assert_eq!((ground.loads.started(), cache.stats().load_failures), (1, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn a_load_that_another_thread_wakes_while_its_callers_poll_it_is_polled_again() {
    explore(|| {
        let (cache, ground, gate) = (builder(2).build(), Ground::default(), Arc::default());
        let leader = ground.gated_call(&cache, 7, &gate);
        let waiter = ground.gated_call(&cache, 8, &gate);
        let numbers = scope(|scope| {
            let leader = scope.spawn(|| block_on(leader).number);
            scope.spawn(|| gate.open());
            [block_on(waiter).number, leader.join().unwrap()]
        });
        assert!(numbers == [7, 7] || numbers == [8, 8]);
        assert_eq!(ground.loads.started(), 1);
        ground.mint.close(cache);
    });
}

#[test]
fn who_comes_while_the_last_caller_goes_joins_the_load_or_starts_another() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let last = begin(ground.call(&cache, 7));
        let joined = scope(|scope| {
            scope.spawn(|| ground.let_go(last));
            let others = [8, 9].map(|number| {
                let call = ground.call(&cache, number);
                scope.spawn(move || block_on(call).number)
            });
            others.map(|other| other.join().unwrap())
        });
        let started = ground.loads.started();
        assert_eq!(joined[0], joined[1]);
        assert_eq!((joined[0] == 7, started), (started == 1, started.min(2)));
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_failures), (started.into(), u64::from(started) - 1));
        assert_eq!((stats.misses, stats.calls()), (started.into(), 3));
        ground.mint.close(cache);
    });
}

#[test]
fn when_all_callers_go_at_once_the_load_goes_with_the_last() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let calls = [6, 7, 8].map(|number| begin(ground.call(&cache, number)));
        let threads = calls.map(|call| spawn(move || drop(call)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 1));
        assert_eq!(ground.mint.alive(), 0, "a load is left behind");
        ground.mint.close(cache);
    });
}

#[test]
fn calls_of_both_forms_share_a_load_of_either_and_go_on_when_its_caller_goes() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let going = ground.borrowing_call(&cache, 6);
        let detached = ground.call(&cache, 7);
        let borrowing = ground.borrowing_call(&cache, 8);
        let numbers = scope(|scope| {
            scope.spawn(|| {
                let mut going = going;
                block_on(poll_once(&mut going));
                ground.let_go(going);
            });
            let detached = scope.spawn(|| block_on(detached).number);
            [block_on(borrowing).number, detached.join().unwrap()]
        });
        assert_eq!(numbers[0], numbers[1]);
        assert!(ground.loads.started() <= 2);
        let stats = cache.stats();
        assert_eq!(stats.loads - stats.load_failures, 1);
        assert_eq!((stats.loads, stats.calls()), (ground.loads.started().into(), 3));
        ground.mint.close(cache);
    });
}

#[test]
fn a_borrowing_call_moves_on_the_load_of_a_leader_that_goes() {
    explore(|| {
        let (cache, ground, gate) = (builder(2).build(), Ground::default(), Arc::default());
        let leader = begin(ground.gated_call(&cache, 7, &gate));
        let waiter = begin(ground.borrowing_call(&cache, 8));
        scope(|scope| {
            scope.spawn(|| drop(leader));
            scope.spawn(|| gate.open());
            assert_eq!(block_on(waiter).number, 7);
        });
        assert_eq!((ground.loads.started(), cache.stats().load_failures), (1, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn what_was_loaded_before_an_invalidation_is_not_seen_after_it() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let calls = [0, 1].map(|_| {
            let (cache, loads) = (cache.clone(), ground.loads.clone());
            let values = [0, 1, 2].map(|number| ground.mint.value(number));
            async move {
                let load = || loads.detached(values[loads.started() as usize].clone());
                cache.entry(1).detached().or_insert_with(load).await.value.number
            }
        });
        scope(|scope| {
            for call in calls {
                scope.spawn(move || block_on(call));
            }
            let before = ground.loads.started();
            ground.loads.fence();
            assert!(cache.invalidate_blocking(&1) || before == 0);
            assert!(number(cache.get(&1)).is_none_or(|seen| seen >= before));
            let load = || ground.loads.detached(ground.mint.value(ground.loads.started()));
            let seen = block_on(cache.entry(1).detached().or_insert_with(load)).value;
            assert!(seen.number >= before);
        });
        ground.mint.close(cache);
    });
}

#[test]
fn a_value_that_is_loaded_beside_another_writer_is_published_by_whoever_is_polled() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        ground.mint.fill(&cache, [2, 3]);
        let leader = begin(ground.call(&cache, 7));
        let waiter = begin(ground.call(&cache, 8));
        scope(|scope| {
            scope.spawn(|| drop(block_on(poll_once(leader))));
            scope.spawn(|| ground.mint.fill(&cache, [4]));
            assert_eq!(block_on(unhurried(waiter)).number, 7);
        });
        assert_eq!((ground.loads.started(), cache.stats().load_failures), (1, 0));
        assert_eq!((cache.len(), cache.stats().evictions), (2, 2));
        ground.mint.close(cache);
    });
}

#[test]
fn all_callers_of_a_load_that_fails_get_its_error() {
    explore(|| {
        let (cache, ground) = (builder(2).build(), Ground::default());
        let errors = scope(|scope| {
            let callers = [1, 2].map(|error| {
                let (cache, loads) = (&cache, Arc::clone(&ground.loads));
                scope.spawn(move || {
                    let load = || async move { loads.fail(error).await };
                    let call = cache.entry(1).detached().or_try_insert_with(load);
                    block_on(call).map(|lookup| lookup.value.number)
                })
            });
            callers.map(|caller| caller.join().unwrap().unwrap_err())
        });
        let started = ground.loads.started();
        match started {
            1 => assert!(Arc::ptr_eq(&errors[0], &errors[1])),
            _ => assert_eq!(errors.map(|error| *error), [1, 2]),
        }
        assert_eq!(cache.stats().load_failures, started.into());
        ground.mint.close(cache);
    });
}
