//! What the cache promises, promise by promise, over a store in memory.

mod common;

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_lru_tier::{CutOff, ErrorKind, NotPropagated, Tiered};
use common::world::{
    ALONE, HEARTBEAT, LEASE, MILLIS, Plain, SECOND, Source, TIMEOUT, TTL, Task, World,
};
use futures_lite::future::{block_on, poll_once};

type Users = Tiered<str, String>;

/// Gets `key` from `users`, loading it from `source`.
fn get(
    users: &Users,
    key: &'static str,
    source: &Source,
) -> impl Future<Output = String> + 'static {
    let (users, source) = (users.clone(), source.clone());
    async move { users.get(key, async || source.read()).await }
}

/// The same with a load that takes `time`.
fn get_slowly(
    world: &World,
    users: &Users,
    key: &'static str,
    source: &Source,
    gate: &Gate,
) -> Task<String> {
    let (users, source, gate) = (users.clone(), source.clone(), gate.clone());
    world.spawn(async move {
        let load = async || {
            let value = source.read();
            gate.pass().await;
            value
        };
        users.get(key, load).await
    })
}

fn invalidate(users: &Users, key: &'static str) -> impl Future<Output = bool> + 'static {
    let users = users.clone();
    async move { users.invalidate(key).await.is_ok() }
}

/// Invalidates a key where the others cannot be told.
#[track_caller]
fn not_propagated(world: &World, users: &Users) -> NotPropagated {
    let users = users.clone();
    world.run(async move { users.invalidate("ann").await.unwrap_err() })
}

/// Keeps loads waiting until it is opened.
#[derive(Clone, Default)]
struct Gate(Rc<(Cell<bool>, event_listener::Event)>);

impl Gate {
    async fn pass(&self) {
        while !self.0.0.get() {
            self.0.1.listen().await;
        }
    }

    fn opened() -> Self {
        let gate = Self::default();
        gate.open();
        gate
    }

    fn open(&self) {
        self.0.0.set(true);
        self.0.1.notify(usize::MAX);
    }
}

/// An instance of keys that can be asked for together.
fn many(world: &World) -> Tiered<String, String> {
    world.start(world.builder_of(Plain, world.sleeper()))
}

/// Gets all `keys`, whose values are their names, with a load that waits for `gate`.
fn get_many(
    users: &Tiered<String, String>,
    keys: &[&'static str],
    gate: &Gate,
) -> impl Future<Output = ()> + 'static {
    let (users, gate) = (users.clone(), gate.clone());
    let keys: Vec<_> = keys.iter().copied().map(str::to_owned).collect();
    async move {
        let load = async |keys: Vec<String>| {
            gate.pass().await;
            keys.into_iter().map(|key| (key.clone(), key)).collect::<Vec<_>>()
        };
        let answers = users.get_many(keys, load).await;
        assert!(answers.into_iter().all(|(key, value)| value == Some(key)));
    }
}

/// Polls once.
fn now_or_never<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    block_on(poll_once(future))
}

// 1. Read your own writes.

#[test]
fn after_an_invalidation_no_call_on_the_instance_gets_the_old_value() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("old"));
    assert_eq!(world.run(get(&users, "ann", &source)), "old");
    source.write("new");
    assert_eq!(world.run(get(&users, "ann", &source)), "old");
    assert!(world.run(invalidate(&users, "ann")));
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    assert_eq!(source.reads(), 2);
}

#[test]
fn what_an_invalidation_could_not_remove_is_not_read_from_the_store() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    source.write("new");
    world.faults.fail(ErrorKind::Other);
    assert!(!world.run(invalidate(&users, "ann")));
    assert_eq!(users.figures().pending_removals, 1);
    world.faults.work();
    // The store still has it.
    assert_eq!(world.faults.figures().values, 1);
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    world.pass(HEARTBEAT);
    assert_eq!(users.figures().pending_removals, 0);
    assert_eq!(world.faults.figures().values, 0);
}

#[test]
fn an_invalidation_that_is_dropped_is_made_up_for() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.run(get(&other, "ann", &source));
    world.faults.stop();
    let task = world.spawn(invalidate(&users, "ann"));
    world.settle();
    assert!(!task.is_done());
    task.cancel();
    world.settle();
    assert_eq!(users.figures().pending_removals, 1);
    source.write("new");
    world.faults.resume();
    world.settle();
    assert_eq!(users.figures().pending_removals, 0);
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
}

// 2. Other instances.

#[test]
fn other_instances_hear_of_an_invalidation() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    assert_eq!(world.run(get(&other, "ann", &source)), "old");
    assert_eq!(source.reads(), 1, "one load for both");
    source.write("new");
    world.run(invalidate(&users, "ann"));
    world.settle();
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    assert_eq!(other.figures().removals_heard, 1);
    assert_eq!(users.figures().removals_heard, 0, "nobody hears itself");
}

#[test]
fn a_value_that_was_read_before_an_invalidation_is_not_kept_after_it() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    // The other's look into the store has its answer, but has not been polled with it.
    world.faults.go_in_steps();
    let late = world.spawn(get(&other, "ann", &source));
    world.settle();
    world.faults.go_at_once();
    drop(late);
    source.write("new");
    world.run(invalidate(&users, "ann"));
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
}

#[test]
fn an_instance_that_is_cut_off_keeps_nothing_of_before() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.run(get(&other, "ann", &source));
    world.faults.take_down();
    world.settle();
    source.write("new");
    assert!(!world.run(invalidate(&users, "ann")));
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    // What it loads alone it keeps for so long.
    source.write("newer");
    world.pass(ALONE - MILLIS);
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    world.pass(MILLIS);
    assert_eq!(world.run(get(&other, "ann", &source)), "newer");
}

#[test]
fn a_link_that_is_lost_without_a_word_is_noticed_with_the_heartbeat() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.run(get(&other, "ann", &source));
    world.faults.lose_messages(1);
    source.write("new");
    assert!(world.run(invalidate(&users, "ann")));
    assert_eq!(world.run(get(&other, "ann", &source)), "old", "the message is lost");
    world.pass(HEARTBEAT + TIMEOUT);
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    assert_eq!(other.figures().links_lost, 1);
}

#[test]
fn with_keep_the_local_cache_serves_what_it_has_for_so_long() {
    let world = World::new();
    let users = world.start(world.builder().when_cut_off(CutOff::Keep));
    let source = Source::new("old");
    world.run(get(&users, "ann", &source));
    source.write("new");
    world.faults.take_down();
    world.pass(ALONE - MILLIS);
    assert_eq!(world.run(get(&users, "ann", &source)), "old");
    world.pass(MILLIS);
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
}

// 3. A late put.

#[test]
fn a_late_put_does_not_undo_an_invalidation() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    let gate = Gate::default();
    let late = get_slowly(&world, &users, "ann", &source, &gate);
    world.settle();
    source.write("new");
    assert!(world.run(invalidate(&other, "ann")));
    gate.open();
    world.settle();
    assert_eq!(late.take().unwrap(), "old", "its caller gets what it loaded");
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    assert_eq!(users.figures().puts_refused, 1);
}

#[test]
fn a_load_beyond_its_lease_is_kept_nowhere() {
    let world = World::new();
    let (users, source, gate) = (world.instance(), Source::new("slow"), Gate::default());
    let late = get_slowly(&world, &users, "ann", &source, &gate);
    world.pass(LEASE);
    gate.open();
    world.settle();
    assert_eq!(late.take().unwrap(), "slow");
    assert_eq!(world.faults.figures().values, 0);
    assert!(users.local().is_empty());
}

#[test]
fn a_guarded_write_does_not_end_with_its_value_once_another_has_removed_everything() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("ours"));
    world.faults.go_in_steps();
    let insert = {
        let users = users.clone();
        async move { users.writing("ann").await.insert("ours".to_owned()).await }
    };
    let mut insert = Box::pin(insert);
    // The store has the value, and the call has not been told.
    while world.faults.figures().values == 0 {
        assert!(now_or_never(&mut insert).is_none());
    }
    source.write("theirs");
    assert!(world.run(async move { other.invalidate_all().await }).is_ok());
    assert!(world.run(insert).is_ok());
    assert_eq!(world.run(get(&users, "ann", &source)), "theirs");
}

#[test]
fn a_guard_that_is_dropped_bars_the_store_before_it_lets_loads_in() {
    let (world, pending) = (World::new(), Arc::new(Mutex::new(None)));
    let instance = Arc::new(OnceLock::<Users>::new());
    let listener = {
        let (instance, pending) = (Arc::clone(&instance), Arc::clone(&pending));
        move |_, _, _| {
            *pending.lock().unwrap() = instance.get().map(|it| it.figures().pending_removals)
        }
    };
    let users = world.start(world.builder().local(world.local().on_remove(listener)));
    instance.set(users.clone()).unwrap();
    world.faults.go_in_steps();
    let insert = {
        let users = users.clone();
        async move {
            let writing = users.writing("ann").await;
            // Goes with the guard.
            users.local().insert_blocking(async_lru_tier::Key::of("ann"), "local".to_owned());
            writing.insert("new".to_owned()).await
        }
    };
    let mut insert = Box::pin(insert);
    while users.local().is_empty() {
        assert!(now_or_never(&mut insert).is_none());
    }
    drop(insert);
    assert_eq!(*pending.lock().unwrap(), Some(1));
}

/// A write whose value is in the store, and that does not know yet.
fn answered_write(
    world: &World,
    users: &Users,
    value: &'static str,
) -> Pin<Box<dyn Future<Output = bool>>> {
    let writing = {
        let users = users.clone();
        world.run(async move { users.writing("ann").await })
    };
    let mut insert = Box::pin(async move { writing.insert(value.to_owned()).await.is_ok() });
    world.faults.stop_for(world.faults.instances()[0]);
    assert_eq!(block_on(poll_once(&mut insert)), None);
    assert!(world.faults.resume_next());
    insert
}

#[test]
fn a_write_that_ends_after_all_was_removed_keeps_nothing_of_before() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    let late = answered_write(&world, &users, "old");
    source.write("new");
    world.run(async move { other.invalidate_all().await.unwrap() });
    assert!(world.run(late));
    world.faults.resume();
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
}

#[test]
fn a_write_that_ends_after_the_link_was_lost_is_not_kept_beyond_what_is_loaded_alone() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("old"));
    let late = answered_write(&world, &users, "old");
    world.faults.take_down();
    world.settle();
    // Nobody hears of it.
    source.write("new");
    assert!(world.run(late));
    world.pass(ALONE);
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
}

// 4. A lost link.

#[test]
fn removals_are_sent_before_the_store_is_used_again() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.faults.take_down();
    world.settle();
    source.write("new");
    assert!(!world.run(invalidate(&users, "ann")));
    world.faults.bring_up();
    world.pass(3 * SECOND);
    let figures = users.figures();
    assert!(figures.linked);
    assert_eq!((figures.pending_removals, figures.links), (0, 2));
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
}

#[test]
fn too_many_removals_become_one_of_everything() {
    let world = World::new();
    let users = world.start(world.builder().max_pending_removals(2));
    let (other, source) = (world.instance(), Source::new("old"));
    for key in ["a", "b", "c", "d"] {
        world.run(get(&users, key, &source));
        world.run(get(&other, key, &source));
    }
    world.faults.fail(ErrorKind::Other);
    for key in ["a", "b", "c"] {
        assert!(!world.run(invalidate(&users, key)));
    }
    source.write("new");
    world.faults.work();
    world.pass(HEARTBEAT);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(world.run(get(&other, key, &source)), "new", "{key}");
    }
}

#[test]
fn a_load_that_was_in_flight_when_the_link_was_lost_is_not_kept() {
    let world = World::new();
    let (users, source, gate) = (world.instance(), Source::new("old"), Gate::default());
    let late = get_slowly(&world, &users, "ann", &source, &gate);
    world.settle();
    world.faults.cut_links();
    world.settle();
    source.write("new");
    gate.open();
    world.settle();
    assert_eq!(late.take().unwrap(), "old");
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
}

#[test]
fn a_dropped_driver_is_a_lost_link() {
    let world = World::new();
    let users = world.builder().build();
    let driver = world.spawn(users.driver());
    world.settle();
    let (other, source) = (world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    driver.cancel();
    world.settle();
    assert!(!users.figures().linked);
    source.write("new");
    world.run(invalidate(&other, "ann"));
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    // Another one may take its place.
    world.spawn(users.driver());
    world.settle();
    assert!(users.figures().linked);
}

#[test]
fn a_lease_that_outlived_the_link_is_given_back_on_the_next_one() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("value"));
    let leader = get_slowly(&world, &users, "ann", &source, &Gate::default());
    world.settle();
    world.faults.cut_links();
    world.settle();
    leader.cancel();
    world.pass(SECOND);
    assert!(users.figures().linked);
    assert_eq!(world.run(get(&other, "ann", &source)), "value", "with no wait for the lease");
    assert_eq!(other.figures().waits, 0);
}

#[test]
fn a_guard_keeps_the_driver_until_it_ends() {
    let world = World::new();
    let users = world.builder().build();
    let driver = world.spawn(users.driver());
    world.settle();
    let writing = {
        let users = users.clone();
        world.run(async move { users.writing("ann").await })
    };
    drop(users);
    world.settle();
    assert!(!driver.is_done());
    assert!(world.run(writing.finish()).is_ok());
    world.settle();
    assert!(driver.is_done());
}

#[test]
fn what_is_pending_while_the_store_is_down_is_not_waited_for() {
    let world = World::new();
    world.faults.take_down();
    let users = world.builder().build();
    let driver = world.spawn(users.driver());
    assert!(!world.run(invalidate(&users, "ann")));
    assert_eq!(users.figures().pending_removals, 1);
    drop(users);
    world.settle();
    assert!(driver.is_done());
}

#[test]
fn guards_of_many_keys_are_held_together() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    for key in ["ann", "bob"] {
        world.run(get(&other, key, &source));
    }
    let writer = users.clone();
    world.run(async move {
        let mut writing = Vec::new();
        for key in ["ann", "bob"] {
            writing.push(writer.writing(key).await);
        }
        for guard in writing {
            guard.insert("new".to_owned()).await.unwrap();
        }
    });
    source.write("new");
    world.settle();
    for key in ["ann", "bob"] {
        assert_eq!(world.run(get(&users, key, &source)), "new");
        assert_eq!(world.run(get(&other, key, &source)), "new");
    }
    assert_eq!(source.reads(), 2, "none after the writes");
}

#[test]
fn the_last_handle_does_not_go_before_what_it_has_removed() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&other, "ann", &source));
    let writing = {
        let users = users.clone();
        world.run(async move { users.writing("ann").await })
    };
    drop(users);
    world.settle();
    // Loaded while the row is written.
    world.run(get(&other, "ann", &source));
    source.write("new");
    drop(writing);
    world.settle();
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    assert_eq!(world.faults.figures().sessions, 1, "the driver has ended");
}

// 5. Lifetimes.

#[test]
fn a_local_entry_ends_with_the_one_in_the_store() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.pass(TTL - SECOND);
    world.run(get(&other, "ann", &source));
    let left = other.local().time_left("ann".as_bytes());
    assert_eq!(left, Some(SECOND));
    assert_eq!(users.local().time_left("ann".as_bytes()), Some(SECOND));
    source.write("new");
    world.pass(SECOND);
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    assert_eq!(source.reads(), 2);
}

#[test]
fn the_time_of_the_look_itself_counts() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.faults.stop();
    let look = world.spawn(get(&other, "ann", &source));
    world.pass(TIMEOUT / 2);
    world.faults.resume();
    world.settle();
    assert_eq!(look.take().unwrap(), "old");
    // By the store's clock a whole minute less what passed before the answer, and less the wait for it.
    assert_eq!(other.local().time_left("ann".as_bytes()), Some(TTL - TIMEOUT));
}

#[test]
fn the_time_in_which_one_of_many_keys_is_loaded_counts_for_the_others() {
    let world = World::new();
    let (users, other) = (many(&world), many(&world));
    let gate = Gate::default();
    world.run(get_many(&users, &["ann"], &Gate::opened()));
    let both = world.spawn(get_many(&other, &["ann", "bob"], &gate));
    world.pass(LEASE / 2);
    gate.open();
    world.settle();
    assert!(both.is_done());
    let left = |key: &str| other.local().time_left(key.as_bytes());
    assert_eq!((left("ann"), left("bob")), (Some(TTL - LEASE / 2), Some(TTL)));
}

#[test]
fn a_stale_value_that_does_for_a_failed_load_lives_no_longer_by_it() {
    let world = World::new();
    let (users, source, gate) = (refreshing(&world), Source::new("old"), Gate::default());
    world.run(get(&users, "ann", &source));
    world.pass(FRESH);
    let other = refreshing(&world);
    let failing = {
        let (other, gate) = (other.clone(), gate.clone());
        world.spawn(async move {
            let load = async || {
                gate.pass().await;
                Err("down")
            };
            other.try_get("ann", load).await
        })
    };
    world.pass(LEASE / 2);
    gate.open();
    world.settle();
    assert_eq!(failing.take().unwrap().unwrap(), "old");
    let left = other.local().time_left("ann".as_bytes());
    assert_eq!(left, Some(TTL - FRESH - LEASE / 2));
}

#[test]
fn the_local_ttl_may_be_shorter() {
    let world = World::new();
    let users = world.start(world.builder().local(world.local().ttl(SECOND)));
    let source = Source::new("old");
    world.run(get(&users, "ann", &source));
    assert_eq!(users.local().time_left("ann".as_bytes()), Some(SECOND));
}

// 6. The store never fails or slows a call.

#[test]
fn a_store_that_is_down_fails_no_call() {
    let world = World::new();
    world.faults.take_down();
    let users = world.builder().build();
    world.spawn(users.driver());
    let source = Source::new("value");
    assert_eq!(world.run(get(&users, "ann", &source)), "value");
    assert_eq!(world.run(get(&users, "ann", &source)), "value");
    assert_eq!(source.reads(), 1, "kept for a while");
    assert_eq!(users.figures().loads_alone, 1);
}

/// Shows what an instance says of a store that fails with `kind`, while it is cut off and afterwards.
fn is_told(kind: ErrorKind) {
    let world = World::new();
    world.faults.refuse(kind);
    let users = world.builder().build();
    world.spawn(users.driver());
    world.settle();
    let figures = users.figures();
    assert_eq!((figures.linked, figures.last_error), (false, Some(kind)));
    let start = format!("not linked ({kind}), 0 removals pending; 0 local hits");
    assert!(figures.to_string().starts_with(&start), "{figures}");
    let error = not_propagated(&world, &users);
    assert_eq!(error.kind(), kind);
    let expected = format!("done in this instance, and not yet told to the others: {kind}");
    assert_eq!(error.to_string(), expected);
    world.faults.accept();
    world.pass(SECOND);
    let figures = users.figures();
    assert_eq!((figures.linked, figures.last_error, figures.pending_removals), (true, None, 0));
    assert!(figures.to_string().starts_with("linked, 0 removals pending"), "{figures}");
}

#[test]
fn what_keeps_an_instance_from_connecting_is_told() {
    for kind in [ErrorKind::Denied, ErrorKind::Lost, ErrorKind::ReadOnly, ErrorKind::TimedOut] {
        is_told(kind);
    }
}

#[test]
fn the_last_failure_of_a_call_is_told_until_the_link_is_made_anew() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("value"));
    world.faults.fail_next(1, ErrorKind::Denied);
    world.run(get(&users, "ann", &source));
    let figures = users.figures();
    assert_eq!((figures.linked, figures.last_error), (true, Some(ErrorKind::Denied)));
    world.faults.cut_links();
    world.pass(SECOND);
    let figures = users.figures();
    assert_eq!((figures.linked, figures.last_error), (true, None));
}

#[test]
fn a_store_that_is_left_alone_is_told_to_be_slow() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("value"));
    world.faults.stop();
    for key in ["a", "b", "c"] {
        world.spawn(get(&users, key, &source));
    }
    world.pass(TIMEOUT);
    assert_eq!(not_propagated(&world, &users).kind(), ErrorKind::TimedOut);
    world.faults.resume();
    world.settle();
    assert_eq!((users.figures().linked, users.figures().last_error), (true, None));
}

#[test]
fn a_slow_store_costs_a_call_its_time_out_and_later_ones_nothing() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("value"));
    world.faults.stop();
    let mut slow = 0;
    for key in ["a", "b", "c", "d", "e"] {
        let call = world.spawn(get(&users, key, &source));
        world.settle();
        if !call.is_done() {
            slow += 1;
            world.pass(TIMEOUT);
        }
        assert!(call.is_done(), "{key}");
    }
    // The breaker is open after three time-outs, the one of a lease that is given back among them.
    assert_eq!(slow, 2);
    assert_eq!(users.figures().breaker_opened, 1);
}

#[test]
fn a_store_that_answers_again_is_used_again() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("value"));
    world.faults.stop();
    for key in ["a", "b", "c"] {
        world.spawn(get(&users, key, &source));
    }
    world.pass(TIMEOUT);
    assert!(!users.figures().linked);
    // The probe has it.
    world.faults.resume();
    world.settle();
    let figures = users.figures();
    assert!(figures.linked);
    assert_eq!((figures.links, figures.links_lost), (1, 0), "nothing was lost");
    world.run(get(&users, "d", &source));
    assert_eq!(users.figures().puts, 1);
}

#[test]
fn what_cannot_be_decoded_is_a_miss_and_is_replaced() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("value"));
    world.run(get(&users, "ann", &source));
    let key = async_lru_tier::Key::of("ann");
    assert!(world.faults.corrupt(&World::space(), &key, &[0xff]));
    assert_eq!(world.run(get(&other, "ann", &source)), "value");
    assert_eq!(other.figures().undecodable, 1, "though it is looked at twice");
    let third = world.instance();
    assert_eq!(world.run(get(&third, "ann", &source)), "value");
    assert_eq!((third.figures().hits, source.reads()), (1, 2));
}

#[test]
fn what_cannot_be_decoded_of_many_counts_once() {
    let world = World::new();
    let (users, other) = (many(&world), many(&world));
    world.run(get_many(&users, &["ann", "bob"], &Gate::opened()));
    let key = async_lru_tier::Key::of("ann");
    assert!(world.faults.corrupt(&World::space(), &key, &[0xff]));
    world.run(get_many(&other, &["ann", "bob"], &Gate::opened()));
    assert_eq!((other.figures().undecodable, other.figures().hits), (1, 1));
}

#[test]
fn something_else_under_a_key_is_a_miss_and_is_replaced() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("value"));
    world.faults.put_foreign(&World::space(), &async_lru_tier::Key::of("ann"));
    assert_eq!(world.run(get(&users, "ann", &source)), "value");
    assert_eq!((users.figures().foreign, users.figures().puts), (1, 1));
}

#[test]
fn no_error_of_the_store_reaches_a_caller() {
    use ErrorKind::{Denied, Full, Lost, Other, ReadOnly, TimedOut};
    for kind in [Denied, Full, Lost, Other, ReadOnly, TimedOut] {
        let world = World::new();
        let (users, source) = (world.instance(), Source::new("value"));
        world.faults.fail(kind);
        for _ in 0..10 {
            assert_eq!(world.run(get(&users, "ann", &source)), "value", "{kind}");
        }
        // Some failures lose the link, and with it what was loaded just before.
        let reads = if matches!(kind, Lost | ReadOnly) { 2 } else { 1 };
        assert_eq!(source.reads(), reads, "{kind}");
    }
}

// 7. One load per key over all instances.

#[test]
fn one_instance_loads_for_all() {
    let world = World::new();
    let (source, gate) = (Source::new("value"), Gate::default());
    let instances: Vec<_> = (0..4).map(|_| world.instance()).collect();
    let calls = instances.iter().flat_map(|users| {
        (0..5).map(|_| get_slowly(&world, users, "ann", &source, &gate)).collect::<Vec<_>>()
    });
    let calls: Vec<_> = calls.collect();
    world.settle();
    gate.open();
    // Word of the put ends the waits, with no time passing.
    world.settle();
    assert!(calls.iter().all(|call| call.take().as_deref() == Some("value")));
    assert_eq!(source.reads(), 1);
}

#[test]
fn a_leader_that_is_dropped_delays_nobody_while_its_driver_runs() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("value"));
    let leader = get_slowly(&world, &users, "ann", &source, &Gate::default());
    world.settle();
    let waiter = world.spawn(get(&other, "ann", &source));
    world.settle();
    assert!(!waiter.is_done());
    leader.cancel();
    world.settle();
    assert_eq!(waiter.take().unwrap(), "value");
}

#[test]
fn an_instance_that_dies_delays_others_by_the_lease_at_most() {
    let world = World::new();
    let (users, other, source) = (world.builder().build(), world.instance(), Source::new("value"));
    let driver = world.spawn(users.driver());
    world.settle();
    let leader = get_slowly(&world, &users, "ann", &source, &Gate::default());
    world.settle();
    driver.cancel();
    leader.cancel();
    let waiter = world.spawn(get(&other, "ann", &source));
    world.pass(LEASE - MILLIS);
    assert!(!waiter.is_done());
    world.pass(2 * MILLIS);
    assert_eq!(waiter.take().unwrap(), "value");
    assert_eq!(other.figures().puts, 1);
}

#[test]
fn a_load_that_fails_lets_another_instance_try_at_once() {
    let world = World::new();
    let (users, other, source) = (world.instance(), world.instance(), Source::new("value"));
    let gate = Gate::default();
    let failing = {
        let (users, gate) = (users.clone(), gate.clone());
        world.spawn(async move {
            users
                .try_get("ann", async || {
                    gate.pass().await;
                    Err("down")
                })
                .await
        })
    };
    world.settle();
    let waiter = world.spawn(get(&other, "ann", &source));
    world.settle();
    gate.open();
    world.settle();
    assert_eq!(*failing.take().unwrap().unwrap_err(), "down");
    assert_eq!(waiter.take().unwrap(), "value");
}

#[test]
fn of_those_that_wait_for_a_load_that_fails_one_after_the_other_loads() {
    let world = World::new();
    let instances: Vec<_> = (0..4).map(|_| world.instance()).collect();
    let loads = Rc::new(Cell::new(0));
    let sleep = Rc::new(world.sleeper());
    let calls: Vec<_> = instances
        .iter()
        .enumerate()
        .map(|(name, users)| {
            let (users, loads, sleep) = (users.clone(), Rc::clone(&loads), Rc::clone(&sleep));
            let call = world.spawn(async move {
                let load = async || {
                    loads.set(loads.get() + 1);
                    sleep(LEASE * 2 / 5).await;
                    Err::<String, _>(name)
                };
                *users.try_get("ann", load).await.unwrap_err()
            });
            world.settle();
            call
        })
        .collect();
    assert_eq!(loads.get(), 1);
    for loaded in [2, 3] {
        world.pass(LEASE * 2 / 5);
        assert_eq!(loads.get(), loaded, "one at a time");
    }
    // The last has waited long enough.
    world.pass(LEASE / 5);
    assert_eq!(loads.get(), 4);
    world.pass(LEASE);
    for (name, call) in calls.iter().enumerate() {
        assert_eq!(call.take(), Some(name), "its own error");
    }
}

#[test]
fn the_calls_of_an_instance_get_the_error_of_its_load() {
    let world = World::new();
    let (users, gate, loads) = (world.instance(), Gate::default(), Rc::new(Cell::new(0)));
    let call = || {
        let (users, gate, loads) = (users.clone(), gate.clone(), Rc::clone(&loads));
        world.spawn(async move {
            let load = async || {
                loads.set(loads.get() + 1);
                gate.pass().await;
                Err::<String, _>("down")
            };
            *users.try_get("ann", load).await.unwrap_err()
        })
    };
    let calls = [call(), call(), call()];
    world.settle();
    gate.open();
    world.settle();
    assert!(calls.iter().all(|call| call.take() == Some("down")));
    assert_eq!((loads.get(), users.figures().local.load_failures), (1, 1));
}

#[test]
fn a_look_for_many_keys_that_took_too_long_keeps_nobody_waiting() {
    let world = World::new();
    let (users, other) = (many(&world), many(&world));
    world.faults.stop();
    let both = world.spawn(get_many(&users, &["ann", "bob"], &Gate::opened()));
    world.pass(TIMEOUT);
    assert!(both.is_done());
    // The look takes effect after all.
    world.faults.resume();
    world.settle();
    assert_eq!(world.faults.figures().leases, 0);
    world.run(get_many(&other, &["ann", "bob"], &Gate::opened()));
    assert_eq!(other.figures().waits, 0);
}

// 8. A refresh asks the store first.

const FRESH: Duration = Duration::from_secs(20);

fn refreshing(world: &World) -> Users {
    world.start(world.builder().local(world.local().fresh_for(FRESH)))
}

#[test]
fn a_refresh_takes_what_another_instance_has_refreshed() {
    let world = World::new();
    let (users, other, source) = (refreshing(&world), refreshing(&world), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.run(get(&other, "ann", &source));
    world.pass(FRESH);
    source.write("new");
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
    assert_eq!(source.reads(), 2, "one refresh for both");
    assert_eq!(other.figures().hits, 2);
}

#[test]
fn a_stale_value_of_the_store_is_loaded_anew_by_one_and_served_to_others() {
    let world = World::new();
    let (users, source, gate) = (refreshing(&world), Source::new("old"), Gate::default());
    world.run(get(&users, "ann", &source));
    world.pass(FRESH);
    source.write("new");
    let (one, two) = (refreshing(&world), refreshing(&world));
    let loader = get_slowly(&world, &one, "ann", &source, &gate);
    world.settle();
    assert_eq!(world.run(get(&two, "ann", &source)), "old");
    gate.open();
    world.settle();
    assert_eq!(loader.take().unwrap(), "new");
}

#[test]
fn freshness_counts_from_the_put_wherever_that_was() {
    let world = World::new();
    let (users, source) = (refreshing(&world), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.pass(FRESH - SECOND);
    let other = refreshing(&world);
    world.run(get(&other, "ann", &source));
    source.write("new");
    world.pass(SECOND);
    assert_eq!(world.run(get(&other, "ann", &source)), "new");
}

#[test]
fn a_stale_value_does_while_the_source_is_down() {
    let world = World::new();
    let (users, source) = (refreshing(&world), Source::new("old"));
    world.run(get(&users, "ann", &source));
    world.pass(FRESH);
    // One that has it in its local cache, and one that has it in the store only.
    for users in [users, refreshing(&world)] {
        let value = world.run(async move { users.try_get("ann", async || Err("down")).await });
        assert_eq!(value.unwrap(), "old");
    }
}

#[test]
fn a_refresh_on_demand_loads_anew_and_leaves_the_value_if_it_fails() {
    let world = World::new();
    let (users, source) = (world.instance(), Source::new("old"));
    world.run(get(&users, "ann", &source));
    source.write("new");
    let failed = {
        let users = users.clone();
        world.run(async move { users.refresh("ann", async || Err("down")).await })
    };
    assert_eq!(failed.unwrap_err(), "down");
    assert_eq!(world.run(get(&users, "ann", &source)), "old");
    let refreshed = {
        let (users, source) = (users.clone(), source.clone());
        world.run(
            async move { users.refresh("ann", async || Ok::<_, Infallible>(source.read())).await },
        )
    };
    assert_eq!(refreshed.unwrap(), "new");
    assert_eq!(world.run(get(&users, "ann", &source)), "new");
    assert_eq!(source.reads(), 2);
}
