//! Calls for many keys, which share loads with each other and with calls for one.

use std::pin::Pin;
use std::sync::Arc;

use futures_lite::future::{Future, poll_once, yield_now};
use shuttle::future::block_on;
use shuttle::thread::scope;

use crate::explore::explore;
use crate::witness::{Cache, Gate, Loads, Mint, Value, begin, builder, number};

const KEYS: usize = 4;

/// A call for many keys that owns what it needs, so that it can be begun here and go on elsewhere.
type Detached = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the calls of a scenario share.
#[derive(Default)]
struct Ground {
    mint: Mint,
    /// By key.
    loads: [Loads; KEYS],
}

impl Ground {
    /// A value of `key` that the call of this number has loaded.
    fn number_of(key: u32, call: u32) -> u32 {
        10 * call + key
    }

    /// Loads all `keys` at once.
    async fn load(&self, call: u32, keys: Vec<u32>) -> Vec<(u32, Value)> {
        let _live: Vec<_> = keys.iter().map(|key| self.loads[*key as usize].enter()).collect();
        yield_now().await;
        keys.into_iter().map(|key| (key, self.mint.value(Self::number_of(key, call)))).collect()
    }

    /// Calls for all `keys`; returns the numbers of their values.
    async fn many<const N: usize>(&self, cache: &Cache, call: u32, keys: [u32; N]) -> [u32; N] {
        let answers = cache.get_or_insert_many(keys, |missing| self.load(call, missing)).await;
        let numbers = answers.into_iter().zip(keys).map(|((key, value), asked)| {
            assert_eq!(key, asked);
            let number = number(value).expect("the load leaves nothing out");
            assert_eq!(number % 10, key, "a value of another key");
            number
        });
        numbers.collect::<Vec<_>>().try_into().expect("an answer for each key")
    }

    /// A call for all `keys` whose load lives in the cache and ends once `gate` is open.
    fn detached<const N: usize>(
        self: &Arc<Self>,
        cache: &Cache,
        call: u32,
        keys: [u32; N],
        gate: &Arc<Gate>,
    ) -> Detached {
        let (cache, ground, gate) = (cache.clone(), Arc::clone(self), Arc::clone(gate));
        Box::pin(async move {
            let load = |missing| {
                let (ground, gate) = (Arc::clone(&ground), Arc::clone(&gate));
                async move {
                    gate.pass().await;
                    ground.load(call, missing).await
                }
            };
            drop(cache.entries(keys).detached().or_insert_with(load).await);
        })
    }

    /// Calls for one key.
    async fn one(&self, cache: &Cache, call: u32, key: u32) -> u32 {
        let value = || self.mint.value(Self::number_of(key, call));
        cache.get_or_insert_with(key, || self.loads[key as usize].load(value())).await.number
    }

    fn started(&self, key: u32) -> u32 {
        self.loads[key as usize].started()
    }
}

#[test]
fn two_calls_whose_keys_overlap_in_whatever_order_load_each_key_once() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        let [one, other] = scope(|scope| {
            let one = scope.spawn(|| block_on(ground.many(&cache, 1, [1, 2, 3])));
            [block_on(ground.many(&cache, 2, [3, 0, 2])), one.join().unwrap()]
        });
        assert_eq!((one[0], one[2]), (other[2], other[1]), "{one:?} {other:?}");
        assert_eq!([0, 1, 2, 3].map(|key| ground.started(key)), [1; KEYS]);
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.calls(), stats.load_failures), (4, 6, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn three_calls_that_overlap_in_a_circle_do_not_wait_for_each_other() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        let numbers = scope(|scope| {
            let calls = [[0, 1], [1, 2], [2, 0]].map(|keys| {
                let (cache, ground) = (&cache, &ground);
                scope.spawn(move || block_on(ground.many(cache, keys[0], keys)))
            });
            calls.map(|call| call.join().unwrap())
        });
        for next in 0..3 {
            assert_eq!(numbers[next][1], numbers[(next + 1) % 3][0], "{numbers:?}");
        }
        assert_eq!([0, 1, 2].map(|key| ground.started(key)), [1; 3]);
        ground.mint.close(cache);
    });
}

#[test]
fn a_call_for_many_keys_shares_the_load_of_one_of_them_whoever_comes_first() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        let (one, many) = scope(|scope| {
            let one = scope.spawn(|| block_on(ground.one(&cache, 1, 2)));
            let many = scope.spawn(|| block_on(ground.many(&cache, 2, [1, 2])));
            scope.spawn(|| assert!(number(cache.get(&2)).is_none_or(|seen| seen % 10 == 2)));
            (one.join().unwrap(), many.join().unwrap())
        });
        assert_eq!(one, many[1]);
        assert_eq!([1, 2].map(|key| ground.started(key)), [1, 1]);
        ground.mint.close(cache);
    });
}

#[test]
fn a_call_for_many_keys_that_goes_leaves_them_to_those_who_have_joined_it() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        let (one, many) = scope(|scope| {
            scope.spawn(|| block_on(poll_once(ground.many(&cache, 1, [1, 2, 3]))));
            let many = scope.spawn(|| block_on(ground.many(&cache, 2, [3, 2])));
            let one = scope.spawn(|| block_on(ground.one(&cache, 3, 2)));
            (one.join().unwrap(), many.join().unwrap())
        });
        assert_eq!(one, many[1]);
        assert!([1, 2, 3].iter().all(|key| ground.started(*key) <= 2));
        let stats = cache.stats();
        assert_eq!((stats.calls(), stats.load_failures <= 1), (6, true), "{stats}");
        ground.mint.close(cache);
    });
}

#[test]
fn a_key_that_the_load_of_another_leaves_out_is_loaded_by_those_who_wait_for_it() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        let one = scope(|scope| {
            scope.spawn(|| {
                let load = async |missing: Vec<u32>| {
                    let found = missing.into_iter().filter(|key| *key != 2).collect();
                    ground.load(1, found).await
                };
                let answers = block_on(cache.get_or_insert_many([1, 2], load));
                let [one, two] = answers.try_into().expect("an answer for each key");
                assert_eq!((one.0, number(one.1)), (1, Some(Ground::number_of(1, 1))));
                let two = number(two.1);
                assert!(two.is_none_or(|two| two == Ground::number_of(2, 2)));
            });
            block_on(ground.one(&cache, 2, 2))
        });
        assert_eq!(one, Ground::number_of(2, 2));
        assert_eq!([1, 2].map(|key| ground.started(key)), [1, 1]);
        ground.mint.close(cache);
    });
}

#[test]
fn two_calls_whose_loads_leave_out_what_the_other_waits_for_do_not_wait_in_a_circle() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        let load = async |missing: Vec<u32>| {
            drop(ground.load(1, missing).await);
            None::<(u32, Value)>
        };
        scope(|scope| {
            let other = scope.spawn(|| block_on(cache.get_or_insert_many([1, 2], load)));
            let empty = block_on(cache.get_or_insert_many([2, 1], load));
            let answers = empty.into_iter().chain(other.join().unwrap());
            let answers = answers.map(|(key, value)| (key, number(value)));
            assert!(answers.eq([2, 1, 1, 2].map(|key| (key, None))));
        });
        assert_eq!((cache.len(), cache.stats().load_failures), (0, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn of_the_keys_of_a_load_only_that_which_is_written_meanwhile_is_kept_out() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Ground::default());
        scope(|scope| {
            scope.spawn(|| {
                let numbers = block_on(ground.many(&cache, 1, [1, 2, 3]));
                assert_eq!([numbers[0], numbers[2]], [11, 13]);
                assert!([12, 102].contains(&numbers[1]));
            });
            let replaced = number(cache.insert_blocking(2, ground.mint.value(102)));
            assert!(replaced.is_none_or(|replaced| replaced == 12));
            assert_eq!(number(cache.get(&2)), Some(102));
        });
        assert_eq!([1, 2, 3].map(|key| number(cache.peek(&key))), [Some(11), Some(102), Some(13)]);
        ground.mint.close(cache);
    });
}

#[test]
fn a_detached_load_goes_on_in_one_who_waits_for_one_of_its_keys_when_its_caller_goes() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Arc::new(Ground::default()));
        let gate = Arc::default();
        let many = begin(ground.detached(&cache, 1, [1, 2, 3], &gate));
        gate.open();
        let one = begin(Box::pin(ground.one(&cache, 2, 2)));
        scope(|scope| {
            scope.spawn(|| drop(many));
            assert_eq!(block_on(one), Ground::number_of(2, 1));
        });
        assert_eq!([1, 2, 3].map(|key| ground.started(key)), [1; 3]);
        // Nobody was left to bring the others.
        assert_eq!([1, 2, 3].map(|key| number(cache.peek(&key))), [None, Some(12), None]);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_failures, stats.coalesced), (1, 0, 1));
        ground.mint.close(cache);
    });
}

#[test]
fn of_those_who_wait_for_keys_of_a_detached_load_each_may_move_it_on_and_any_may_go() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Arc::new(Ground::default()));
        let gate = Arc::default();
        let many = begin(ground.detached(&cache, 1, [1, 2, 3], &gate));
        let [two, three] = [2, 3].map(|key| begin(Box::pin(ground.one(&cache, key, key))));
        scope(|scope| {
            scope.spawn(|| block_on(poll_once(many)));
            scope.spawn(|| assert_eq!(block_on(two), Ground::number_of(2, 1)));
            scope.spawn(|| gate.open());
            assert_eq!(block_on(three), Ground::number_of(3, 1));
        });
        assert_eq!([1, 2, 3].map(|key| ground.started(key)), [1; 3]);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (1, 0));
        ground.mint.close(cache);
    });
}

#[test]
fn one_who_waits_for_a_key_of_a_detached_load_that_fails_gets_its_error() {
    explore(|| {
        let (cache, ground) = (builder(4).build(), Arc::new(Ground::default()));
        let (failed, one) = scope(|scope| {
            let failed = scope.spawn(|| {
                let load = |missing| {
                    let ground = Arc::clone(&ground);
                    async move {
                        drop(ground.load(1, missing).await);
                        Err::<Option<(u32, Value)>, _>(1)
                    }
                };
                block_on(cache.entries([1, 2]).detached().or_try_insert_with(load)).unwrap_err()
            });
            let load = async || Ok::<_, u32>(ground.load(2, vec![2]).await.remove(0).1);
            let one = block_on(cache.try_get_or_insert_with(2, load));
            (failed.join().unwrap(), one)
        });
        assert_eq!(*failed, 1);
        let stats = cache.stats();
        match one {
            Err(error) => {
                assert!(Arc::ptr_eq(&error, &failed));
                assert_eq!([1, 2].map(|key| ground.started(key)), [1, 1]);
            }
            Ok(value) => {
                assert_eq!(value.number, Ground::number_of(2, 2));
                // It came before, or as the load had ended: then it loads for itself.
                assert!(stats.coalesced == 0 || stats.loads == 2, "the error is lost");
            }
        }
        assert_eq!(stats.load_failures, 1);
        ground.mint.close(cache);
    });
}
