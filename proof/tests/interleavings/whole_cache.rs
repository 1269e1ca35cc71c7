//! Handles, and what is counted.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use shuttle::future::block_on;
use shuttle::thread::{scope, spawn};

use crate::explore::{explore, explore_in_either_order};
use crate::witness::{Loads, Mint, builder, number};

#[test]
fn a_cache_lives_as_long_as_its_last_handle_which_may_be_within_a_call() {
    explore(|| {
        let (mint, loads) = (Arc::new(Mint::default()), Arc::new(Loads::default()));
        let cache = builder(2).build();
        // A call that owns a handle: begun here, dropped or ended elsewhere.
        let call = |number| {
            let (cache, mint, loads) = (cache.clone(), Arc::clone(&mint), Arc::clone(&loads));
            async move { cache.get_or_insert_with(1, || loads.load(mint.value(number))).await }
        };
        let mut begun: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(call(7));
        assert!(begun.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let other = call(8);
        let threads =
            [spawn(move || drop(begun)), spawn(move || assert!(block_on(other).number >= 7))];
        drop(cache);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((loads.started(), mint.alive()), (2, 0));
    });
}

#[test]
fn the_numbers_of_threads_that_count_at_once_add_up() {
    explore_in_either_order(|eviction| {
        let (cache, mint, loads) =
            (builder(1).eviction(eviction).build(), Mint::default(), Mutex::new(0));
        mint.fill(&cache, [1]);
        scope(|scope| {
            for key in [1, 2] {
                let (cache, mint, loads) = (&cache, &mint, &loads);
                scope.spawn(move || {
                    cache.get(&key);
                    block_on(cache.get_or_insert_with(2, || {
                        *loads.lock().unwrap() += 1;
                        async { mint.value(2) }
                    }));
                });
            }
            scope.spawn(|| {
                let stats = cache.stats();
                assert!(stats.hits + stats.misses + stats.coalesced <= 4);
                assert!(stats.current_size <= 1 && stats.loads <= 1 && stats.evictions <= 1);
            });
        });
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses + stats.coalesced, 4);
        assert_eq!((stats.loads, *loads.lock().unwrap()), (1, 1));
        assert_eq!((stats.evictions, number(cache.peek(&2))), (1, Some(2)));
        mint.close(cache);
    });
}
