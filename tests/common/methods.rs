//! The public methods, each as it is called from within a callback, for keys that are in the middle of
//! something and for others.

#![allow(unreachable_pub, reason = "a module of one test file")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_lru::{Lifetime, Update};

use crate::callbacks::{
    Cache, Change, Failure, Key, Load, Memos, Method, Pairs, Shared, TTL, Value,
    drop_those_in_progress, poll_those_in_progress, sure,
};
use crate::common::poll;
use crate::forms::Form;

/// The keys that callbacks ask for: of an entry, of a load, and of neither.
const KEYS: [u32; 3] = [1, 5, 77];

/// Polls a call to its end, which nothing stands in the way of.
pub fn within_few_polls<T>(call: impl Future<Output = T>) -> T {
    let mut call = Box::pin(call);
    for _ in 0..50 {
        if let Poll::Ready(result) = poll(&mut call) {
            return result;
        }
    }
    panic!("a call that nothing stands in the way of never ends");
}

/// A method, for each key and in both caches.
fn with_keys(memos: &Memos, shared: &Arc<Shared>, method: fn(&Cache, &Key, &Arc<Shared>)) {
    for cache in memos.caches() {
        for number in KEYS {
            method(cache, &shared.key(number), shared);
        }
    }
}

/// A method that concerns all keys, in both caches.
fn with_caches(memos: &Memos, method: fn(&Cache)) {
    memos.caches().into_iter().for_each(method);
}

/// A call that loads, for each key in both caches. A load of the key that is being loaded would wait
/// for itself, so that is fenced first.
fn fenced(memos: &Memos, shared: &Arc<Shared>, method: impl Fn(&Cache, Key)) {
    for cache in memos.caches() {
        for number in KEYS {
            cache.invalidate_blocking(&shared.key(number));
            method(cache, shared.key(number));
        }
    }
}

/// A load of this form.
fn load(memos: &Memos, shared: &Arc<Shared>, form: Form, load: Load) {
    fenced(memos, shared, |cache, key| {
        drop(within_few_polls(form.call(cache, key, shared.loader(load))));
    });
}

/// The same load with a lifetime.
async fn timed(load: impl Future<Output = Value>) -> (Value, Lifetime) {
    (load.await, Lifetime::new(TTL / 2).fresh_for(TTL / 4))
}

/// A load of many keys with a lifetime for each value.
async fn try_timed_each(
    load: impl Future<Output = Result<Pairs, Failure>>,
) -> Result<Vec<(Key, Value, Lifetime)>, Failure> {
    let pairs = load.await?.into_iter();
    Ok(pairs.map(|(key, value)| (key, value, Lifetime::new(TTL / 2))).collect())
}

/// The same, of one that does not fail.
async fn timed_each(
    load: impl Future<Output = Result<Pairs, Failure>>,
) -> Vec<(Key, Value, Lifetime)> {
    try_timed_each(load).await.unwrap_or_default()
}

/// A load of all keys together.
fn load_many(memos: &Memos, shared: &Arc<Shared>, load: Load) {
    for cache in memos.caches() {
        let keys = KEYS.map(|number| shared.key(number));
        for key in &keys {
            cache.invalidate_blocking(key);
        }
        drop(within_few_polls(cache.try_get_or_insert_many(keys, shared.bulk_loader(load))));
    }
}

/// The same, with a load that lives in the cache.
fn load_many_detached(memos: &Memos, shared: &Arc<Shared>, load: Load) {
    for cache in memos.caches() {
        let keys = KEYS.map(|number| shared.key(number));
        for key in &keys {
            cache.invalidate_blocking(key);
        }
        let call = cache.entries(keys).ttl(TTL / 2).detached();
        drop(within_few_polls(call.or_try_insert_with(shared.bulk_loader(load))));
    }
}

/// An update of a key that nothing else updates, and the first poll of one of each other key, whose
/// updates in progress it may have to wait for, fenced or not.
fn update(memos: &Memos, shared: &Arc<Shared>, change: Change) {
    for cache in memos.caches() {
        let update =
            |number| Box::pin(cache.try_update_with(shared.key(number), shared.update(change)));
        drop(within_few_polls(update(88)));
        for number in KEYS {
            let mut update = update(number);
            unless_recursive(|| poll(&mut update));
        }
    }
}

/// A call of the memo that cannot fail, fenced like the loads.
fn call(memos: &Memos, shared: &Arc<Shared>) {
    for number in KEYS {
        memos.sure.cache().invalidate_blocking(&shared.key(number));
        within_few_polls(memos.sure.call(shared.args(number, Load::Succeeds)));
    }
}

/// A call of the memo that can fail, fenced like the loads.
fn try_call(memos: &Memos, shared: &Arc<Shared>, load: Load) {
    for number in KEYS {
        memos.fallible.cache().invalidate_blocking(&shared.key(number));
        drop(within_few_polls(memos.fallible.try_call(shared.args(number, load))));
    }
}

/// Polls something that may meet the very load that polls it, which is named then.
fn unless_recursive<T>(poll: impl FnOnce() -> T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(poll()))) {
        let message = payload.downcast_ref::<&str>();
        assert!(message.is_some_and(|message| message.contains("recursive load")));
    }
}

/// A call that is not fenced and not waited for.
fn join_and_leave(memos: &Memos, shared: &Arc<Shared>) {
    for number in KEYS {
        let loader = shared.loader(Load::Succeeds);
        let mut call = Form::With.call(memos.sure.cache(), shared.key(number), loader);
        unless_recursive(|| poll(&mut call));
    }
}

/// Every public method by its name, and what else a program may do.
pub const METHODS: &[(&str, Method)] = &[
    ("get", |memos, shared| with_keys(memos, shared, |cache, key, _| drop(cache.get(key)))),
    ("peek", |memos, shared| with_keys(memos, shared, |cache, key, _| drop(cache.peek(key)))),
    ("contains_key", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| {
            cache.contains_key(key);
        })
    }),
    ("get_or_insert_with", |memos, shared| load(memos, shared, Form::With, Load::Succeeds)),
    ("get_or_insert_with_ref", |memos, shared| load(memos, shared, Form::WithRef, Load::Succeeds)),
    ("try_get_or_insert_with", |memos, shared| load(memos, shared, Form::TryWith, Load::Succeeds)),
    ("try_get_or_insert_with_ref", |memos, shared| {
        load(memos, shared, Form::TryWithRef, Load::Succeeds)
    }),
    ("try_get_or_insert_with, failing", |memos, shared| {
        load(memos, shared, Form::TryWith, Load::Fails)
    }),
    ("try_get_or_insert_with_ref, failing", |memos, shared| {
        load(memos, shared, Form::TryWithRef, Load::Fails)
    }),
    ("Entry::or_try_insert_own", |memos, shared| load(memos, shared, Form::Own, Load::Succeeds)),
    ("Entry::or_try_insert_own, failing", |memos, shared| {
        load(memos, shared, Form::Own, Load::Fails)
    }),
    ("Entry::or_try_insert_own, of a borrowed key, failing", |memos, shared| {
        load(memos, shared, Form::OwnRef, Load::Fails)
    }),
    ("Entry::or_insert_with", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.loader(Load::Succeeds);
            within_few_polls(cache.entry(key).or_insert_with(|| sure(load())));
        })
    }),
    ("Entry::or_insert_with, of a borrowed key", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.loader(Load::Succeeds);
            within_few_polls(cache.entry_ref(&key).or_insert_with(|| sure(load())));
        })
    }),
    ("Entry::or_insert_with, of a key that is made", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.loader(Load::Succeeds);
            let call = cache.entry_by(&key, Key::clone).ttl(TTL / 2);
            within_few_polls(call.or_insert_with(|| sure(load())));
        })
    }),
    ("Entry::or_insert_timed", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.loader(Load::Succeeds);
            within_few_polls(cache.entry(key).or_insert_timed(|| timed(sure(load()))));
        })
    }),
    ("Entry::or_try_insert_with, failing", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.loader(Load::Fails);
            drop(within_few_polls(cache.entry(key).or_try_insert_with(load)));
        })
    }),
    ("DetachedEntry::or_insert_with", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.detached_loader(Load::Succeeds);
            within_few_polls(cache.entry(key).detached().or_insert_with(|| sure(load())));
        })
    }),
    ("DetachedEntry::or_insert_with, of a borrowed key", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.detached_loader(Load::Succeeds);
            within_few_polls(cache.entry_ref(&key).detached().or_insert_with(|| sure(load())));
        })
    }),
    ("DetachedEntry::or_insert_timed", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.detached_loader(Load::Succeeds);
            within_few_polls(cache.entry(key).detached().or_insert_timed(|| timed(sure(load()))));
        })
    }),
    ("DetachedEntry::or_try_insert_with, failing", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.detached_loader(Load::Fails);
            drop(within_few_polls(cache.entry(key).detached().or_try_insert_with(load)));
        })
    }),
    ("DetachedEntry::or_try_insert_own, failing", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.detached_loader(Load::Fails);
            drop(within_few_polls(cache.entry_ref(&key).detached().or_try_insert_own(load)));
        })
    }),
    ("refresh", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let load = shared.loader(Load::Succeeds);
            within_few_polls(cache.refresh(key, || sure(load())));
        })
    }),
    ("try_refresh", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            drop(within_few_polls(cache.try_refresh(key, shared.loader(Load::Succeeds))));
        })
    }),
    ("try_refresh, failing", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            drop(within_few_polls(cache.try_refresh(key, shared.loader(Load::Fails))));
        })
    }),
    ("a refresh of what is there that is left", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            let loader = shared.loader(Load::Succeeds);
            unless_recursive(|| poll(&mut Box::pin(cache.try_refresh(key.clone(), loader))));
        })
    }),
    ("a detached call of what is there that is left", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            let loader = shared.detached_loader(Load::Succeeds);
            let call = cache.entry_ref(key).detached().or_try_insert_with(loader);
            unless_recursive(|| poll(&mut Box::pin(call)));
        })
    }),
    ("get_many", |memos, shared| {
        let keys = KEYS.map(|number| shared.key(number));
        for cache in memos.caches() {
            drop(cache.get_many(&keys));
        }
    }),
    ("get_or_insert_many", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let mut load = shared.bulk_loader(Load::Succeeds);
            let load = |missing| {
                let load = load(missing);
                async { load.await.unwrap_or_default() }
            };
            drop(within_few_polls(cache.get_or_insert_many([key], load)));
        })
    }),
    ("try_get_or_insert_many", |memos, shared| load_many(memos, shared, Load::Succeeds)),
    ("try_get_or_insert_many, failing", |memos, shared| load_many(memos, shared, Load::Fails)),
    ("Entries::or_try_insert_with", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let call = cache.entries([key]).or_try_insert_with(shared.bulk_loader(Load::Succeeds));
            drop(within_few_polls(call));
        })
    }),
    ("Entries::or_insert_timed", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let mut load = shared.bulk_loader(Load::Succeeds);
            let load = |missing| timed_each(load(missing));
            drop(within_few_polls(cache.entries([key]).or_insert_timed(load)));
        })
    }),
    ("Entries::or_try_insert_timed, failing", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let mut load = shared.bulk_loader(Load::Fails);
            let load = |missing| try_timed_each(load(missing));
            drop(within_few_polls(cache.entries([key]).or_try_insert_timed(load)));
        })
    }),
    ("DetachedEntries::or_insert_timed", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let mut load = shared.bulk_loader(Load::Succeeds);
            let load = |missing| timed_each(load(missing));
            drop(within_few_polls(cache.entries([key]).detached().or_insert_timed(load)));
        })
    }),
    ("DetachedEntries::or_try_insert_timed", |memos, shared| {
        fenced(memos, shared, |cache, key| {
            let mut load = shared.bulk_loader(Load::Succeeds);
            let load = |missing| try_timed_each(load(missing));
            drop(within_few_polls(cache.entries([key]).detached().or_try_insert_timed(load)));
        })
    }),
    ("DetachedEntries::or_try_insert_with", |memos, shared| {
        load_many_detached(memos, shared, Load::Succeeds)
    }),
    ("DetachedEntries::or_try_insert_with, failing", |memos, shared| {
        load_many_detached(memos, shared, Load::Fails)
    }),
    ("update_with", |memos, shared| {
        for cache in memos.caches() {
            let put = async |_| Update::Put(shared.value());
            drop(within_few_polls(cache.update_with(shared.key(88), put)));
        }
    }),
    ("update_with_ref", |memos, shared| {
        for cache in memos.caches() {
            let put = async |_| Update::Put(shared.value());
            drop(within_few_polls(cache.update_with_ref(&shared.key(88), put)));
        }
    }),
    ("try_update_with, which puts", |memos, shared| update(memos, shared, Change::Put)),
    ("try_update_with, which puts for a while", |memos, shared| {
        update(memos, shared, Change::PutFor)
    }),
    ("try_update_with, which keeps", |memos, shared| update(memos, shared, Change::Keep)),
    ("try_update_with, which removes", |memos, shared| update(memos, shared, Change::Remove)),
    ("try_update_with, failing", |memos, shared| update(memos, shared, Change::Fails)),
    ("writing", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| drop(cache.writing(key)));
    }),
    ("writing, which inserts", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            within_few_polls(cache.writing(key).insert(shared.value()));
        })
    }),
    ("writing, which inserts for a while", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            within_few_polls(cache.writing(key).ttl(TTL / 4).insert(shared.value()));
        })
    }),
    ("writing_owned", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| drop(cache.writing_owned(key.clone())));
    }),
    ("writing_owned, which inserts", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            within_few_polls(cache.writing_owned(key.clone()).insert(shared.value()));
        })
    }),
    ("insert", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            drop(within_few_polls(cache.insert(key.clone(), shared.value())));
        })
    }),
    ("insert_blocking", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            drop(cache.insert_blocking(key.clone(), shared.value()));
        })
    }),
    ("insert_with_ttl", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            let insert = cache.insert_with_ttl(key.clone(), shared.value(), TTL / 4);
            drop(within_few_polls(insert));
        })
    }),
    ("set_ttl", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| {
            within_few_polls(cache.set_ttl(key, TTL / 3));
        })
    }),
    ("set_ttl_blocking", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| {
            cache.set_ttl_blocking(key, Duration::ZERO);
        })
    }),
    ("limit_ttl", |memos, _| {
        with_caches(memos, |cache| {
            within_few_polls(cache.limit_ttl(TTL / 3));
        })
    }),
    ("limit_ttl_blocking", |memos, _| {
        with_caches(memos, |cache| {
            cache.limit_ttl_blocking(Duration::ZERO);
        })
    }),
    ("insert_with_ttl_blocking", |memos, shared| {
        with_keys(memos, shared, |cache, key, shared| {
            drop(cache.insert_with_ttl_blocking(key.clone(), shared.value(), TTL / 4));
        })
    }),
    ("restore", |memos, shared| {
        for cache in memos.caches() {
            let entries = KEYS.map(|number| (shared.key(number), shared.value(), Some(TTL / 4)));
            within_few_polls(cache.restore(entries));
        }
    }),
    ("restore_blocking", |memos, shared| {
        for cache in memos.caches() {
            cache.restore_blocking(KEYS.map(|number| (shared.key(number), shared.value(), None)));
        }
    }),
    ("remove", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| drop(within_few_polls(cache.remove(key))))
    }),
    ("remove_blocking", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| drop(cache.remove_blocking(key)))
    }),
    ("invalidate", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| {
            within_few_polls(cache.invalidate(key));
        })
    }),
    ("invalidate_blocking", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| {
            cache.invalidate_blocking(key);
        })
    }),
    ("invalidate_if", |memos, _| {
        with_caches(memos, |cache| {
            within_few_polls(cache.invalidate_if(|_, _| true));
        })
    }),
    ("invalidate_keys_if", |memos, _| {
        with_caches(memos, |cache| {
            within_few_polls(cache.invalidate_keys_if(|_| true));
        })
    }),
    ("invalidate_keys_if_blocking", |memos, _| {
        with_caches(memos, |cache| {
            cache.invalidate_keys_if_blocking(|_| true);
        })
    }),
    ("invalidate_if_blocking", |memos, _| {
        with_caches(memos, |cache| {
            cache.invalidate_if_blocking(|_, _| true);
        })
    }),
    ("invalidate_all", |memos, _| {
        with_caches(memos, |cache| within_few_polls(cache.invalidate_all()))
    }),
    ("invalidate_all_blocking", |memos, _| {
        with_caches(memos, |cache| cache.invalidate_all_blocking())
    }),
    ("insert_many", |memos, shared| {
        for cache in memos.caches() {
            let entries = KEYS.map(|number| (shared.key(number), shared.value()));
            within_few_polls(cache.insert_many(entries));
        }
    }),
    ("insert_many_blocking", |memos, shared| {
        for cache in memos.caches() {
            let entries = KEYS.map(|number| (shared.key(number), shared.value()));
            cache.insert_many_blocking(entries);
        }
    }),
    ("invalidate_many", |memos, shared| {
        let keys = KEYS.map(|number| shared.key(number));
        for cache in memos.caches() {
            within_few_polls(cache.invalidate_many(&keys));
        }
    }),
    ("invalidate_many_blocking", |memos, shared| {
        let keys = KEYS.map(|number| shared.key(number));
        for cache in memos.caches() {
            cache.invalidate_many_blocking(&keys);
        }
    }),
    ("downgrade", |memos, _| {
        with_caches(memos, |cache| drop(cache.downgrade().upgrade()));
    }),
    ("clear", |memos, _| with_caches(memos, |cache| within_few_polls(cache.clear()))),
    ("clear_blocking", |memos, _| with_caches(memos, |cache| cache.clear_blocking())),
    ("purge_expired", |memos, _| {
        with_caches(memos, |cache| {
            within_few_polls(cache.purge_expired());
        })
    }),
    ("purge_expired_blocking", |memos, _| {
        with_caches(memos, |cache| {
            cache.purge_expired_blocking();
        })
    }),
    ("set_maxsize", |memos, _| {
        with_caches(memos, |cache| {
            let maxsize = cache.info().maxsize;
            within_few_polls(cache.set_maxsize(maxsize / 2));
            within_few_polls(cache.set_maxsize(maxsize));
        })
    }),
    ("set_max_weight_blocking", |memos, _| {
        with_caches(memos, |cache| {
            let Some(weight) = cache.info().max_weight else { return };
            cache.set_max_weight_blocking(weight / 2);
            cache.set_max_weight_blocking(weight);
        })
    }),
    ("janitor", |memos, _| {
        with_caches(memos, |cache| {
            let _ = poll(&mut Box::pin(cache.janitor(|_| std::future::pending::<()>())));
        })
    }),
    ("len", |memos, _| {
        with_caches(memos, |cache| {
            let _ = cache.len();
        })
    }),
    ("is_empty", |memos, _| {
        with_caches(memos, |cache| {
            let _ = cache.is_empty();
        })
    }),
    ("time_left", |memos, shared| {
        with_keys(memos, shared, |cache, key, _| {
            let _ = cache.time_left(key);
        })
    }),
    ("snapshot", |memos, _| with_caches(memos, |cache| drop(cache.snapshot()))),
    ("snapshot_with_ttl", |memos, _| {
        with_caches(memos, |cache| drop(cache.snapshot_with_ttl()));
    }),
    ("keys", |memos, _| with_caches(memos, |cache| drop(cache.keys()))),
    ("info", |memos, _| with_caches(memos, |cache| drop(cache.info()))),
    ("stats", |memos, _| with_caches(memos, |cache| drop(cache.stats()))),
    ("now", |memos, _| {
        with_caches(memos, |cache| {
            let _ = cache.now();
        })
    }),
    ("reset_stats", |memos, _| with_caches(memos, |cache| cache.reset_stats())),
    ("clone", |memos, _| with_caches(memos, |cache| drop(cache.clone()))),
    ("Debug", |memos, _| with_caches(memos, |cache| drop(format!("{cache:?}")))),
    ("LocalMemo::call", call),
    ("LocalMemo::try_call", |memos, shared| try_call(memos, shared, Load::Succeeds)),
    ("LocalMemo::try_call, failing", |memos, shared| try_call(memos, shared, Load::Fails)),
    ("LocalMemo::invalidate", |memos, shared| {
        for number in KEYS {
            let args = shared.args(number, Load::Succeeds);
            within_few_polls(memos.sure.invalidate(&args));
            within_few_polls(memos.fallible.invalidate(&args));
        }
    }),
    ("LocalMemo::clear", |memos, _| {
        within_few_polls(memos.sure.clear());
        within_few_polls(memos.fallible.clear());
    }),
    ("LocalMemo::info", |memos, _| {
        let _ = (memos.sure.info(), memos.fallible.info());
    }),
    ("LocalMemo::stats", |memos, _| drop((memos.sure.stats(), memos.fallible.stats()))),
    ("LocalMemo::clone", |memos, _| drop(memos.clone())),
    ("LocalMemo's Debug", |memos, _| drop(format!("{:?} {:?}", memos.sure, memos.fallible))),
    ("a call that joins a load and leaves it", join_and_leave),
    ("a poll of the calls in progress", |_, _| unless_recursive(poll_those_in_progress)),
    ("a drop of the calls in progress", |_, _| drop_those_in_progress()),
    // Then the handles of the calls that go on are the last.
    ("a drop of all other handles", |_, shared| drop(shared.take_stage())),
];
