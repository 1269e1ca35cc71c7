//! Instances of a service that share a store in memory, each with its driver: after all have ended and the
//! drivers have done what was put off, no tier has a value that the source has no longer.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_lru::{AsyncLru, ManualClock};
use async_lru_tier::store::{Ask, Found, Instance, Lease, Session, Space};
use async_lru_tier::{Codec, CodecError, ErrorKind, Key, MemoryStore, Store, Tiered};
use shuttle::future::{block_on, yield_now};
use shuttle::thread;

use crate::explore::explore;

type Users = Tiered<u32, u32>;

/// The key that all meet at.
const KEY: u32 = 1;
/// One whose removal is heard after all others.
const LAST: u32 = 2;
/// Longer than anything takes: the clock stands still.
const NEVER: Duration = Duration::from_secs(3600);

/// The number of a row.
struct Row;

impl Codec<u32> for Row {
    fn encode(&self, row: &u32) -> Result<Vec<u8>, CodecError> {
        Ok(vec![u8::try_from(*row)?])
    }

    fn decode(&self, bytes: &[u8]) -> Result<u32, CodecError> {
        match bytes {
            [row] => Ok((*row).into()),
            _ => Err("no row".into()),
        }
    }
}

/// Pauses end at the scheduler's will, and time-outs never.
async fn sleep(time: Duration) {
    if time >= NEVER {
        pending::<()>().await;
    }
    yield_now().await;
}

/// What all instances load from. No point at which another thread may go on.
#[derive(Default)]
struct Source {
    row: AtomicU32,
    reads: AtomicU32,
}

impl Source {
    fn now(&self) -> u32 {
        self.row.load(Ordering::SeqCst)
    }

    /// Writes the next row.
    fn write(&self) -> u32 {
        self.row.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn read(&self) -> u32 {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let row = self.now();
        yield_now().await;
        row
    }
}

/// Two instances, driven, and what they share.
#[derive(Clone)]
struct Fleet {
    store: MemoryStore,
    source: Arc<Source>,
    one: Users,
    two: Users,
}

impl Fleet {
    /// Lets `threads` run, each with a fleet that is linked, and looks at what is left.
    fn run<const N: usize>(threads: [fn(Fleet); N]) -> Arc<Source> {
        Self::run_after(|_| (), threads, Self::check)
    }

    /// The same where the store and one instance have the first row from the start.
    fn run_filled<const N: usize>(threads: [fn(Fleet); N]) -> Arc<Source> {
        Self::run_after(get_by_two, threads, Self::check)
    }

    fn run_after<const N: usize>(
        begin: fn(Fleet),
        threads: [fn(Fleet); N],
        check: fn(&Self),
    ) -> Arc<Source> {
        let store = MemoryStore::with_clock(ManualClock::new());
        let build = || -> Users {
            Tiered::builder(store.clone(), Row, sleep)
                .ttl(NEVER)
                .lease(NEVER)
                .timeout(NEVER)
                .heartbeat(NEVER)
                .ttl_alone(Duration::ZERO)
                .local(AsyncLru::builder().clock(ManualClock::new()).shards(1))
                .build()
        };
        let fleet = Self { one: build(), two: build(), source: Arc::default(), store };
        let drivers = [&fleet.one, &fleet.two].map(|users| {
            let driver = users.driver();
            thread::spawn(|| block_on(driver))
        });
        for users in [&fleet.one, &fleet.two] {
            block_on(users.linked());
        }
        begin(fleet.clone());
        let threads = threads.map(|run| {
            let fleet = fleet.clone();
            thread::spawn(move || run(fleet))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        check(&fleet);
        let source = Arc::clone(&fleet.source);
        drop(fleet);
        drivers.into_iter().for_each(|driver| driver.join().unwrap());
        source
    }

    /// Without a link nobody hears what others remove, and keeps nothing.
    fn check_cut_off(&self) {
        for users in [&self.one, &self.two] {
            let is_cut_off = || !users.figures().linked && users.local().is_empty();
            // The drivers have a few steps to go.
            let is_cut_off = (0..1_000).any(|_| {
                thread::yield_now();
                is_cut_off()
            });
            assert!(is_cut_off, "it keeps what it had while it was linked");
        }
    }

    fn check(&self) {
        self.store.faults().heal();
        let session = self.session();
        let last = Key::of(&LAST);
        for users in [&self.one, &self.two] {
            // In the order of messages, and again if the link is lost before.
            loop {
                block_on(users.linked());
                users.local().insert_blocking(last.clone(), 0);
                block_on(session.remove(std::slice::from_ref(&last), None)).unwrap();
                while users.local().contains_key(last.as_ref()) {
                    thread::yield_now();
                }
                let figures = users.figures();
                if figures.linked && figures.pending_removals == 0 {
                    break;
                }
            }
        }
        let row = self.source.now();
        let ask = Ask { lease: Lease(7), lease_for: NEVER, stale_below: Duration::ZERO };
        match block_on(session.get_or_lease(&[Key::of(&KEY)], ask)).unwrap().remove(0) {
            Found::Value { bytes, .. } => assert_eq!(u32::from(bytes[0]), row, "in the store"),
            Found::Absent(_) | Found::Foreign(_) => {}
        }
        for users in [&self.one, &self.two] {
            let cached = users.local().peek(Key::of(&KEY).as_ref());
            assert!(
                cached.is_none_or(|cached| cached == row),
                "{cached:?} in an instance, not {row}"
            );
        }
    }

    /// A connection of nobody's.
    fn session(&self) -> Arc<dyn Session> {
        let space = Space::new("cache", 1);
        let connected = block_on(self.store.connect(&space, Instance(7))).unwrap();
        // Its end would be that of the session.
        std::mem::forget(connected.events);
        connected.session
    }

    fn get(&self, users: &Users) -> u32 {
        block_on(users.get(&KEY, || self.source.read()))
    }
}

fn get_by_one(fleet: Fleet) {
    fleet.get(&fleet.one);
}

fn get_by_two(fleet: Fleet) {
    fleet.get(&fleet.two);
}

/// Writes, and sees nothing older on its own instance from then on.
fn invalidate_by_one(fleet: Fleet) {
    let row = fleet.source.write();
    let _ = block_on(fleet.one.invalidate(&KEY));
    assert!(fleet.get(&fleet.one) >= row);
}

fn invalidate_by_two(fleet: Fleet) {
    let row = fleet.source.write();
    let _ = block_on(fleet.two.invalidate(&KEY));
    assert!(fleet.get(&fleet.two) >= row);
}

fn invalidate_all_by_two(fleet: Fleet) {
    let row = fleet.source.write();
    let _ = block_on(fleet.two.invalidate_all());
    assert!(fleet.get(&fleet.two) >= row);
}

fn write_by_one(fleet: Fleet) {
    block_on(async {
        let writing = fleet.one.writing(&KEY).await;
        let row = fleet.source.write();
        yield_now().await;
        let _ = writing.insert(row).await;
    });
}

fn write_by_two(fleet: Fleet) {
    block_on(async {
        let writing = fleet.two.writing(&KEY).await;
        let row = fleet.source.write();
        yield_now().await;
        let _ = writing.insert(row).await;
    });
}

/// A guarded write that is dropped while it puts its value.
fn give_a_write_up_by_one(fleet: Fleet) {
    let faults = fleet.store.faults();
    faults.go_in_steps();
    // Perhaps the first removal, after which the store still has what is to be removed in the end.
    faults.fail_next(1, ErrorKind::Other);
    let written = pin!(async {
        let writing = fleet.one.writing(&KEY).await;
        let row = fleet.source.write();
        let _ = writing.insert(row).await;
    });
    let mut written = Some(Box::pin(written));
    for _ in 0..4 {
        let cx = &mut Context::from_waker(Waker::noop());
        if written.as_mut().is_some_and(|written| written.as_mut().poll(cx).is_ready()) {
            break;
        }
        thread::yield_now();
    }
    written.take();
}

/// Has a call fail, whosever it is.
fn fail_once(fleet: Fleet) {
    fleet.store.faults().fail_next(1, ErrorKind::Other);
}

fn cut_off(fleet: Fleet) {
    fleet.store.faults().refuse(ErrorKind::Lost);
    fleet.store.faults().cut_links();
}

fn cut_links(fleet: Fleet) {
    fleet.store.faults().cut_links();
}

#[test]
fn a_removal_by_another_instance_wins_over_a_load_and_its_put() {
    explore(|| drop(Fleet::run([get_by_one, invalidate_by_two])));
}

#[test]
fn a_removal_by_another_instance_is_not_missed_with_the_link() {
    explore(|| drop(Fleet::run([get_by_one, invalidate_by_two, cut_links])));
}

#[test]
fn after_an_invalidation_no_call_on_the_instance_gets_what_was_there_before() {
    explore(|| drop(Fleet::run([get_by_one, invalidate_by_one, get_by_two])));
}

#[test]
fn after_an_invalidation_without_a_link_neither() {
    explore(|| drop(Fleet::run([get_by_one, invalidate_by_one, cut_links])));
}

#[test]
fn of_instances_that_miss_together_one_loads() {
    explore(|| {
        let source = Fleet::run([get_by_one, get_by_two, get_by_one]);
        assert_eq!(source.reads.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn of_writes_that_overlap_in_two_instances_none_leaves_an_older_value() {
    explore(|| drop(Fleet::run([write_by_one, invalidate_by_two, get_by_two])));
    explore(|| drop(Fleet::run([write_by_one, write_by_two, get_by_one])));
}

#[test]
fn a_guarded_write_loses_to_the_removal_of_everything_and_to_a_lost_link() {
    explore(|| drop(Fleet::run([write_by_one, invalidate_all_by_two])));
    explore(|| drop(Fleet::run([write_by_one, invalidate_by_two, cut_links])));
}

#[test]
fn a_write_that_is_given_up_leaves_no_older_value() {
    explore(|| drop(Fleet::run([give_a_write_up_by_one, get_by_one, get_by_two])));
    explore(|| drop(Fleet::run_filled([give_a_write_up_by_one, get_by_one])));
}

#[test]
fn what_could_not_be_removed_in_the_store_is_not_read_from_it() {
    explore(|| drop(Fleet::run_filled([fail_once, invalidate_by_one])));
}

#[test]
fn an_instance_that_is_cut_off_keeps_nothing_of_what_it_had_or_was_loading() {
    explore(|| {
        let threads = [cut_off, get_by_one, get_by_two];
        drop(Fleet::run_after(get_by_two, threads, Fleet::check_cut_off));
    });
}
