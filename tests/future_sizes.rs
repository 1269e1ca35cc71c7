//! The futures of calls are little larger than what they hold.

use std::time::Duration;

use async_lru::{AsyncLru, Update};
use futures_lite::future::yield_now;

/// Something that weighs, beside which all else is little.
type Large = [u64; 128];

const LARGE: usize = size_of::<Large>();

/// The most that the future of a call takes beyond what it holds; a span of `tracing` comes to that.
const OWN: usize = LARGE / 2 + if cfg!(feature = "tracing") { LARGE / 8 } else { 0 };

async fn later<T>(value: T) -> T {
    yield_now().await;
    value
}

/// Asserts it of each call, after which stands what its future holds.
macro_rules! assert_small {
    ($($call:expr, $holds:expr;)*) => {$(
        let (size, holds) = (size_of_val(&$call), $holds);
        println!("{}: {size} bytes, {holds} of them held", stringify!($call));
        assert!(size <= holds + OWN, "{}: {size} bytes hold {holds}", stringify!($call));
    )*};
}

#[test]
fn the_future_of_a_call_holds_the_closure_and_its_future_once() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let large: Large = [1; 128];
    let load = move || async move { later(large).await[5] };
    let tried = move || async move { Ok::<_, u64>(later(large).await[5]) };
    let timed = move || async move { (later(large).await[5], Duration::MAX) };
    let try_timed = move || async move { Ok::<_, u64>((later(large).await[5], Duration::MAX)) };
    let change = move |_| async move { Update::Put(later(large).await[5]) };
    let try_change = move |_| async move { Ok::<_, u64>(Update::Put(later(large).await[5])) };
    let many = move |_| async move { [(1, later(large).await[5])] };
    let try_many = move |_| async move { Ok::<_, u64>([(1, later(large).await[5])]) };
    let many_timed = move |_| async move { [(1, later(large).await[5], Duration::MAX)] };
    let try_many_timed =
        move |_| async move { Ok::<_, u64>([(1, later(large).await[5], Duration::MAX)]) };
    let both = LARGE + size_of_val(&load());
    assert_small! {
        cache.get_or_insert_with(1, load), both;
        cache.get_or_insert_with_ref(&1, load), both;
        cache.try_get_or_insert_with(1, tried), both;
        cache.try_get_or_insert_with_ref(&1, tried), both;
        cache.entry(1).or_insert_with(load), both;
        cache.entry_ref(&1).or_insert_with(load), both;
        cache.entry(1).or_try_insert_own(tried), both;
        cache.entry_ref(&1).or_try_insert_own(tried), both;
        cache.entry_by(&1, |key| *key).or_try_insert_with(tried), both;
        cache.entry(1).or_insert_timed(timed), both;
        cache.entry(1).or_try_insert_timed(try_timed), both;
        cache.get_or_insert_many([1], many), both;
        cache.try_get_or_insert_many([1], try_many), both;
        cache.entries([1]).or_insert_with(many), both;
        cache.entries([1]).or_try_insert_with(try_many), both;
        cache.entries([1]).or_insert_timed(many_timed), both;
        cache.entries([1]).or_try_insert_timed(try_many_timed), both;
        cache.refresh(1, load), both;
        cache.try_refresh(1, tried), both;
        cache.update_with(1, change), both;
        cache.update_with_ref(&1, change), both;
        cache.try_update_with(1, try_change), both;
    }
    // In place of the closure, the arguments.
    let extract = |large: &Large| large[0];
    let sum = async |large: Large| later(large).await[5];
    let memo = AsyncLru::<u64, u64>::builder().key_extractor(extract).wrap_local(sum);
    let try_sum = async |large: Large| Ok::<_, u64>(later(large).await[5]);
    let tried = AsyncLru::<u64, u64>::builder().key_extractor(extract).wrap_local(try_sum);
    assert_small! {
        memo.call(large), both;
        tried.try_call(large), both;
    }
    assert_small! {
        cache.invalidate_if(move |key, _| large[0] == *key), LARGE;
        cache.invalidate_keys_if(move |key| large[0] == *key), LARGE;
        cache.janitor(move |_| async move { later(large).await }), both;
    }
}

#[test]
fn the_future_of_a_call_with_a_detached_load_holds_the_closure_alone() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let large: Large = [1; 128];
    let load = move || async move { later(large).await[5] };
    let tried = move || async move { Ok::<_, u64>(later(large).await[5]) };
    let many = move |_| async move { [(1, later(large).await[5])] };
    let try_many = move |_| async move { Ok::<_, u64>([(1, later(large).await[5])]) };
    let many_timed = move |_| async move { [(1, later(large).await[5], Duration::MAX)] };
    assert_small! {
        cache.entry(1).detached().or_insert_with(load), LARGE;
        cache.entry_ref(&1).detached().or_insert_with(load), LARGE;
        cache.entry(1).detached().or_try_insert_with(tried), LARGE;
        cache.entry(1).detached().or_try_insert_own(tried), LARGE;
        cache.entries([1]).detached().or_insert_with(many), LARGE;
        cache.entries([1]).detached().or_try_insert_with(try_many), LARGE;
        cache.entries([1]).detached().or_insert_timed(many_timed), LARGE;
    }
    // The function is kept by the memo, and its future by the cache.
    let sum = async |large: Large| later(large).await[5];
    let builder = || AsyncLru::<u64, u64>::builder().key_extractor(|large: &Large| large[0]);
    let memo = builder().wrap(sum);
    let try_memo = builder().try_wrap(async |large: Large| Ok::<_, u64>(later(large).await[5]));
    assert_small! {
        try_memo.call(large), LARGE;
        try_memo.refresh(large), LARGE;
        memo.call(large), LARGE;
        memo.call_traced(large), LARGE;
        memo.refresh(large), LARGE;
    }
}

#[test]
fn the_future_of_a_call_without_a_closure_is_small() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let memo = AsyncLru::<u64, u64>::builder().wrap(async |key: u64| key);
    assert_small! {
        cache.insert(1, 1), 0;
        cache.insert_with_ttl(1, 1, Duration::from_secs(1)), 0;
        cache.remove(&1), 0;
        cache.invalidate(&1), 0;
        cache.clear(), 0;
        cache.invalidate_all(), 0;
        cache.insert_many([(1, 1)]), 0;
        cache.invalidate_many(&[1]), 0;
        cache.purge_expired(), 0;
        cache.set_maxsize(1), 0;
        cache.set_max_weight(1), 0;
        cache.set_max_bytes(1), 0;
        cache.restore([(1, 1, None)]), 0;
        cache.set_ttl(&1, Duration::from_secs(1)), 0;
        cache.limit_ttl(Duration::from_secs(1)), 0;
        memo.invalidate(&1), 0;
        memo.clear(), 0;
        cache.writing(&1).insert(1), 0;
        cache.writing(&1).insert_as(1, 1), 0;
        cache.writing(&1).ttl(Duration::from_secs(1)).insert(1), 0;
        cache.writing_owned(1).insert(1), 0;
        cache.writing_owned(1).ttl(Duration::from_secs(1)).insert(1), 0;
    }
}

#[test]
fn the_future_of_a_call_for_many_keys_holds_them_once() {
    let cache = AsyncLru::<u64, u64>::new(10);
    let large: Large = [1; 128];
    let (pairs, triples) = (large.map(|key| (key, 1)), large.map(|key| (key, 1, None)));
    let saved = cache.snapshot_with_ttl().into_iter().chain(None);
    assert_small! {
        cache.insert_many(pairs), size_of_val(&pairs);
        cache.insert_many(pairs.into_iter().skip(1)), size_of_val(&pairs);
        cache.invalidate_many(large.each_ref()), LARGE;
        cache.restore(pairs), size_of_val(&pairs);
        cache.restore(triples), size_of_val(&triples);
        cache.restore(saved.skip(large[0] as usize).filter(move |saved| saved.key != large[5])), LARGE;
    }
}

#[test]
fn the_future_of_a_call_holds_its_key_once() {
    let cache = AsyncLru::<Large, u64>::new(10);
    let large: Large = [1; 128];
    assert_small! {
        cache.get_or_insert_with(large, async || 1), LARGE;
        cache.entry(large).detached().or_insert_with(|| async { 1 }), LARGE;
        cache.refresh(large, async || 1), LARGE;
        cache.try_refresh(large, async || Ok::<_, u64>(1)), LARGE;
        cache.update_with(large, async |_| Update::Put(1)), LARGE;
        cache.insert(large, 1), LARGE;
        cache.insert_with_ttl(large, 1, Duration::from_secs(1)), LARGE;
        cache.writing(&large).insert(1), 0;
        cache.writing(&large).insert_as(large, 1), LARGE;
        cache.writing_owned(large).insert(1), LARGE;
        cache.remove(&large), 0;
        cache.invalidate(&large), 0;
    }
}

#[test]
fn the_future_of_a_call_holds_its_value_once_and_that_of_an_update_the_old_one_too() {
    let cache = AsyncLru::<u64, Large>::new(10);
    let large: Large = [1; 128];
    assert_small! {
        cache.get_or_insert_with(1, async || large), LARGE;
        cache.entry(1).or_insert_with(async || large), LARGE;
        cache.entry(1).detached().or_insert_with(|| async { [1; 128] }), 0;
        cache.refresh(1, async || large), LARGE;
        cache.try_refresh(1, async || Ok::<_, u64>(large)), LARGE;
        cache.get_or_insert_many([1], async |_| vec![(1, large)]), 0;
        cache.update_with(1, async |_| Update::Put(large)), 2 * LARGE;
        cache.insert(1, large), LARGE;
        cache.writing(&1).insert(large), LARGE;
        cache.writing(&1).insert_as(1, large), LARGE;
        cache.writing_owned(1).insert(large), LARGE;
        cache.remove(&1), 0;
    }
}
