//! What the store in memory does for its sessions, and how it goes wrong when it is told to.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_lru::{Clock, ManualClock};
use async_lru_tier::store::{
    Ask, Claim, Connected, Event, Events, Found, Instance, Lease, Session, Space, Turn,
};
use async_lru_tier::{ErrorKind, Faults, Key, MemoryStore, Store, StoreError};
use futures_lite::future::{block_on, poll_once};

const TTL: Duration = Duration::from_secs(100);
const LEASE_FOR: Duration = Duration::from_secs(10);
const STALE_BELOW: Duration = Duration::from_secs(30);
const NANO: Duration = Duration::from_nanos(1);

const ANN: Instance = Instance(1);
const BOB: Instance = Instance(2);

/// A store, and what moves its time and has it fail.
struct Scene {
    store: MemoryStore,
    clock: ManualClock,
    faults: Faults,
    space: Space,
}

impl Scene {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let faults = store.faults();
        Self { store, clock, faults, space: Space::new("users", 1) }
    }

    fn link(&self, instance: Instance) -> Linked {
        self.link_to(&self.space, instance)
    }

    fn link_to(&self, space: &Space, instance: Instance) -> Linked {
        Linked::new(now(self.store.connect(space, instance)).expect("the store is up"))
    }

    fn refusal(&self, instance: Instance) -> ErrorKind {
        match now(self.store.connect(&self.space, instance)) {
            Ok(_) => panic!("connected"),
            Err(error) => error.kind(),
        }
    }
}

/// A connection, and its calls on one key.
struct Linked {
    session: Arc<dyn Session>,
    events: Box<dyn Events>,
}

impl Linked {
    fn new(connected: Connected) -> Self {
        Self { session: connected.session, events: connected.events }
    }

    fn try_look(&self, key: &str, lease: Lease) -> Result<Found, StoreError> {
        let found = now(self.session.get_or_lease(&[Key::of(key)], ask(lease)));
        found.map(|mut found| found.pop().expect("an answer for each key"))
    }

    fn look(&self, key: &str, lease: Lease) -> Found {
        self.try_look(key, lease).expect("the store works")
    }

    fn try_put(&self, key: &str, lease: Lease, value: &str) -> Result<bool, StoreError> {
        let values = [(Key::of(key), value.as_bytes().to_vec())];
        now(self.session.put(lease, &values, TTL)).map(|kept| kept == [true])
    }

    fn put(&self, key: &str, lease: Lease, value: &str) -> bool {
        self.try_put(key, lease, value).expect("the store works")
    }

    /// Leases `key` and puts a value.
    fn load(&self, key: &str, value: &str) {
        let lease = Lease(1_000);
        assert_eq!(self.look(key, lease), Found::Absent(Turn::Mine));
        assert!(self.put(key, lease, value));
    }

    fn release(&self, key: &str, lease: Lease) {
        now(self.session.release(lease, &[Key::of(key)])).expect("the store works");
    }

    fn remove(&self, key: &str) {
        now(self.session.remove(&[Key::of(key)], None)).expect("the store works");
    }

    fn claim(&self, key: &str, lease: Lease) {
        let claim = Claim { lease, lease_for: LEASE_FOR };
        now(self.session.remove(&[Key::of(key)], Some(claim))).expect("the store works");
    }

    fn remove_all(&self) {
        now(self.session.remove_all()).expect("the store works");
    }

    fn ping(&self) -> Result<(), ErrorKind> {
        now(self.session.ping()).map_err(|error| error.kind())
    }

    /// The events that have arrived; the last is `None` if the session is lost.
    fn heard(&mut self) -> Vec<Option<Event>> {
        let mut heard = Vec::new();
        while let Some(event) = block_on(poll_once(self.events.next())) {
            let is_end = event.is_none();
            heard.push(event);
            if is_end {
                break;
            }
        }
        heard
    }

    /// Asserts that all calls fail and no event comes any more.
    fn assert_lost(&mut self) {
        assert_eq!(self.heard(), [None]);
        assert_eq!(self.heard(), [None], "for good");
        let keys = [Key::of("k")];
        let values = [(Key::of("k"), Vec::new())];
        let session = &self.session;
        let errors = [
            now(session.get_or_lease(&keys, ask(Lease(1)))).unwrap_err(),
            now(session.put(Lease(1), &values, TTL)).unwrap_err(),
            now(session.release(Lease(1), &keys)).unwrap_err(),
            now(session.remove(&keys, None)).unwrap_err(),
            now(session.remove_all()).unwrap_err(),
            now(session.ping()).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Lost));
    }
}

fn ask(lease: Lease) -> Ask {
    Ask { lease, lease_for: LEASE_FOR, stale_below: STALE_BELOW }
}

fn value(bytes: &str, left: Duration, turn: Turn) -> Found {
    Found::Value { bytes: bytes.as_bytes().to_vec(), left, turn }
}

fn gone(key: &str) -> Option<Event> {
    Some(Event::Gone(vec![Key::of(key)]))
}

fn ready(key: &str) -> Option<Event> {
    Some(Event::Ready(vec![Key::of(key)]))
}

/// The result of a future that is done at its first poll.
fn now<T>(future: impl Future<Output = T>) -> T {
    block_on(poll_once(future)).expect("done at once")
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

mod values_and_leases {
    use super::*;

    #[test]
    fn what_is_absent_is_leased_put_and_found_for_its_time() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
        assert!(ann.put("k", Lease(1), "v"));
        assert_eq!(ann.look("k", Lease(2)), value("v", TTL, Turn::Nobodys));
        scene.clock.advance(TTL - STALE_BELOW - NANO);
        assert_eq!(ann.look("k", Lease(2)), value("v", STALE_BELOW + NANO, Turn::Nobodys));
        scene.clock.advance(NANO);
        assert_eq!(ann.look("k", Lease(2)), value("v", STALE_BELOW, Turn::Mine));
        scene.clock.advance(STALE_BELOW);
        assert_eq!(ann.look("k", Lease(2)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn the_answers_are_in_the_order_of_the_keys() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        ann.load("b", "B");
        scene.faults.put_foreign(&scene.space, &Key::of("c"));
        let keys = ["c", "a", "b", "a"].map(Key::of);
        let found = now(ann.session.get_or_lease(&keys, ask(Lease(1)))).unwrap();
        let absent = Found::Absent(Turn::Mine);
        let b = value("B", TTL, Turn::Nobodys);
        assert_eq!(found, [Found::Foreign(Turn::Mine), absent.clone(), b, absent]);
        let values = ["b", "a", "c", "a"].map(|key| (Key::of(key), Vec::new()));
        let kept = now(ann.session.put(Lease(1), &values, TTL)).unwrap();
        assert_eq!(kept, [false, true, true, false]);
    }

    #[test]
    fn a_call_for_no_keys_does_and_tells_nothing() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        assert_eq!(now(ann.session.get_or_lease(&[], ask(Lease(1)))).unwrap(), []);
        assert!(now(ann.session.put(Lease(1), &[], TTL)).unwrap().is_empty());
        now(ann.session.release(Lease(1), &[])).unwrap();
        now(ann.session.remove(&[], None)).unwrap();
        assert_eq!(bob.heard(), []);
    }

    #[test]
    fn one_at_a_time_has_the_lease_of_a_key() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
        assert_eq!(bob.look("k", Lease(2)), Found::Absent(Turn::Anothers));
        assert_eq!(ann.look("k", Lease(3)), Found::Absent(Turn::Anothers));
        assert_eq!(bob.look("other", Lease(2)), Found::Absent(Turn::Mine));
        assert!(!bob.put("k", Lease(2), "bob's"));
        assert!(ann.put("k", Lease(1), "ann's"));
        assert_eq!(bob.look("k", Lease(2)), value("ann's", TTL, Turn::Nobodys));
    }

    #[test]
    fn who_asks_again_with_its_own_lease_has_it_for_longer() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("k", Lease(1));
        bob.look("k", Lease(2));
        scene.clock.advance(LEASE_FOR - NANO);
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
        scene.clock.advance(LEASE_FOR - NANO);
        assert!(ann.put("k", Lease(1), "v"));
        assert_eq!(bob.heard(), [ready("k")], "it is still wanted");
    }

    #[test]
    fn a_stale_value_is_leased_to_one_who_asks_and_found_by_all() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        ann.load("k", "old");
        let left = STALE_BELOW - NANO;
        scene.clock.advance(TTL - left);
        assert_eq!(ann.look("k", Lease(1)), value("old", left, Turn::Mine));
        assert_eq!(bob.look("k", Lease(2)), value("old", left, Turn::Anothers));
        assert!(ann.put("k", Lease(1), "new"));
        assert_eq!(bob.look("k", Lease(2)), value("new", TTL, Turn::Nobodys));
    }

    #[test]
    fn a_stale_value_outlives_the_release_of_its_lease() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        ann.load("k", "old");
        scene.clock.advance(TTL - NANO);
        ann.look("k", Lease(1));
        ann.release("k", Lease(1));
        assert_eq!(ann.look("k", Lease(2)), value("old", NANO, Turn::Mine));
    }

    #[test]
    fn a_lease_is_lost_to_its_time() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("k", Lease(1));
        scene.clock.advance(LEASE_FOR - NANO);
        assert_eq!(bob.look("k", Lease(2)), Found::Absent(Turn::Anothers));
        scene.clock.advance(NANO);
        assert!(!ann.put("k", Lease(1), "late"), "even if nobody else has it");
        assert_eq!(bob.look("k", Lease(2)), Found::Absent(Turn::Mine));
        assert!(!ann.put("k", Lease(1), "late"));
        assert!(bob.put("k", Lease(2), "v"));
    }

    #[test]
    fn a_lease_is_lost_to_a_removal_of_the_key_or_of_all() {
        let removals: [fn(&Linked); 3] =
            [|by| by.remove("k"), |by| by.remove_all(), |by| by.claim("k", Lease(9))];
        for remove in removals {
            let scene = Scene::new();
            let (ann, bob) = (scene.link(ANN), scene.link(BOB));
            ann.load("stays", "s");
            ann.look("k", Lease(1));
            remove(&bob);
            assert!(!ann.put("k", Lease(1), "late"));
            assert_eq!(ann.look("k", Lease(2)), Found::Absent(Turn::Mine));
            ann.release("k", Lease(1));
            assert!(ann.put("k", Lease(2), "v"), "one that is lost gives nothing back");
        }
    }

    #[test]
    fn a_value_is_removed_with_its_key_or_with_all() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        ann.load("k", "v");
        ann.load("other", "o");
        bob.remove("k");
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
        assert_eq!(ann.look("other", Lease(1)), value("o", TTL, Turn::Nobodys));
        bob.remove_all();
        assert_eq!(ann.look("other", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn who_claims_puts_unless_somebody_has_looked_or_removed_since() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        ann.load("k", "old");
        ann.claim("k", Lease(1));
        assert!(ann.put("k", Lease(1), "new"));
        assert_eq!(bob.look("k", Lease(2)), value("new", TTL, Turn::Nobodys));

        ann.claim("k", Lease(3));
        assert_eq!(bob.look("k", Lease(4)), Found::Absent(Turn::Mine), "nobody waits for a claim");
        assert!(!ann.put("k", Lease(3), "newer"));
        assert_eq!(ann.look("k", Lease(5)), Found::Absent(Turn::Anothers), "but for a lease");

        ann.claim("k", Lease(6));
        bob.remove("k");
        assert!(!ann.put("k", Lease(6), "newer"));

        ann.claim("k", Lease(7));
        scene.clock.advance(LEASE_FOR);
        assert!(!ann.put("k", Lease(7), "newer"));

        ann.claim("k", Lease(8));
        ann.release("k", Lease(8));
        assert!(!ann.put("k", Lease(8), "newer"));
    }

    #[test]
    fn a_value_that_is_to_live_for_no_time_is_not_kept() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        ann.load("k", "old");
        scene.clock.advance(TTL - NANO);
        ann.look("k", Lease(1));
        let values = [(Key::of("k"), Vec::new())];
        assert_eq!(now(ann.session.put(Lease(1), &values, Duration::ZERO)).unwrap(), [false]);
        assert_eq!(ann.look("k", Lease(2)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn the_longest_times_are_for_ever() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.clock.advance(TTL);
        let ask = Ask { lease: Lease(1), lease_for: Duration::MAX, stale_below: Duration::ZERO };
        now(ann.session.get_or_lease(&[Key::of("k")], ask)).unwrap();
        let values = [(Key::of("k"), Vec::new())];
        assert_eq!(now(ann.session.put(Lease(1), &values, Duration::MAX)).unwrap(), [true]);
        scene.clock.advance(Duration::MAX);
        assert!(matches!(ann.look("k", Lease(2)), Found::Value { turn: Turn::Nobodys, .. }));
    }

    #[test]
    fn spaces_know_nothing_of_each_other() {
        let scene = Scene::new();
        let next = Space::new("users", 2);
        let (ann, mut bob) = (scene.link(ANN), scene.link_to(&next, BOB));
        ann.load("k", "v");
        assert_eq!(bob.look("k", Lease(1)), Found::Absent(Turn::Mine));
        ann.look("other", Lease(2));
        ann.remove_all();
        assert_eq!(bob.heard(), []);
        assert!(bob.put("k", Lease(1), "w"));
    }

    #[test]
    fn a_clone_is_the_same_store_and_another_store_is_not() {
        let scene = Scene::new();
        scene.link(ANN).load("k", "v");
        let (same, other) = (scene.store.clone(), MemoryStore::default());
        let bob = Linked::new(now(same.connect(&scene.space, BOB)).unwrap());
        assert_eq!(bob.look("k", Lease(1)), value("v", TTL, Turn::Nobodys));
        let bob = Linked::new(now(other.connect(&scene.space, BOB)).unwrap());
        assert_eq!(bob.look("k", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn a_clock_that_steps_back_revives_nothing() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        ann.load("k", "v");
        scene.clock.advance(TTL);
        assert_eq!(ann.look("other", Lease(1)), Found::Absent(Turn::Mine));
        scene.clock.set(Duration::ZERO);
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
        scene.clock.set(TTL + LEASE_FOR - NANO);
        assert!(ann.put("k", Lease(1), "w"));
    }
}

mod messages {
    use super::*;

    #[test]
    fn others_hear_of_a_removal_once_and_who_removes_does_not() {
        let scene = Scene::new();
        let (mut ann, mut bob, mut twin) = (scene.link(ANN), scene.link(BOB), scene.link(ANN));
        ann.remove("absent");
        ann.remove_all();
        ann.claim("k", Lease(1));
        let heard = [gone("absent"), Some(Event::AllGone), gone("k")];
        assert_eq!(bob.heard(), heard);
        assert_eq!(bob.heard(), []);
        assert_eq!(ann.heard(), []);
        assert_eq!(twin.heard(), [], "it is the same instance");
        for linked in [&ann, &bob, &twin] {
            assert_eq!(linked.ping(), Ok(()), "all have counted them");
        }
    }

    #[test]
    fn several_keys_make_one_message() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        let keys = ["a", "b"].map(Key::of);
        now(ann.session.remove(&keys, None)).unwrap();
        assert_eq!(bob.heard(), [Some(Event::Gone(keys.to_vec()))]);
        assert_eq!(scene.faults.figures().messages, 1);
    }

    #[test]
    fn all_hear_that_what_somebody_waits_for_is_put_or_given_up() {
        let scene = Scene::new();
        let (mut ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("put", Lease(1));
        ann.look("released", Lease(1));
        ann.look("nobody's wish", Lease(1));
        bob.look("put", Lease(2));
        bob.look("released", Lease(2));
        assert!(ann.put("put", Lease(1), "v"));
        ann.release("released", Lease(1));
        assert!(ann.put("nobody's wish", Lease(1), "v"));
        for linked in [&mut ann, &mut bob] {
            assert_eq!(linked.heard(), [ready("put"), ready("released")]);
        }
    }

    #[test]
    fn a_lease_that_is_not_held_is_not_given_back_and_nobody_hears_of_it() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("k", Lease(1));
        bob.look("k", Lease(2));
        ann.release("k", Lease(3));
        assert!(!ann.put("k", Lease(3), "v"));
        assert_eq!(bob.look("k", Lease(2)), Found::Absent(Turn::Anothers));
        scene.clock.advance(LEASE_FOR);
        ann.release("k", Lease(1));
        assert_eq!(bob.heard(), []);
    }

    #[test]
    fn a_new_lease_is_not_wanted_since_the_last_one_was() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("k", Lease(1));
        bob.look("k", Lease(2));
        scene.clock.advance(LEASE_FOR);
        ann.load("k", "v");
        assert_eq!(bob.heard(), []);
    }

    #[test]
    fn a_session_hears_of_what_comes_after_its_connection() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        ann.remove("before");
        let mut bob = scene.link(BOB);
        ann.remove("after");
        assert_eq!(bob.heard(), [gone("after")]);
        assert_eq!(bob.ping(), Ok(()));
    }

    #[test]
    fn a_message_wakes_who_waits_for_it_and_a_dropped_wait_loses_none() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);

        let mut next = bob.events.next();
        assert!(next.as_mut().poll(&mut cx).is_pending());
        ann.remove("k");
        assert_eq!(wakes.count(), 1);
        drop(next);
        assert_eq!(bob.events.next().as_mut().poll(&mut cx), Poll::Ready(gone("k")));

        let mut next = bob.events.next();
        assert!(next.as_mut().poll(&mut cx).is_pending());
        scene.faults.cut_links();
        assert_eq!(wakes.count(), 2);
        assert_eq!(next.as_mut().poll(&mut cx), Poll::Ready(None));
    }

    #[test]
    fn a_waker_may_use_the_store() {
        struct Asks(Arc<dyn Session>, Faults);

        impl Wake for Asks {
            fn wake(self: Arc<Self>) {
                now(self.0.get_or_lease(&[Key::of("k")], ask(Lease(1)))).unwrap();
                self.1.figures();
            }
        }

        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        let waker = Waker::from(Arc::new(Asks(Arc::clone(&bob.session), scene.faults.clone())));
        let mut next = bob.events.next();
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        ann.remove("k");
        assert_eq!(ann.look("k", Lease(2)), Found::Absent(Turn::Anothers));
    }

    #[test]
    fn the_end_of_the_events_is_the_end_of_the_session() {
        let scene = Scene::new();
        let Linked { session, events } = scene.link(ANN);
        assert_eq!(scene.faults.instances(), [ANN]);
        drop(events);
        assert_eq!(scene.faults.instances(), []);
        assert_eq!(now(session.ping()).unwrap_err().kind(), ErrorKind::Lost);
    }

    #[test]
    fn events_outlive_the_session() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        let Linked { session, mut events } = bob;
        drop(session);
        ann.remove("k");
        assert_eq!(now(events.next()), gone("k"));
    }
}

mod lost_messages {
    use super::*;

    #[test]
    fn a_gap_ends_the_session_with_the_next_removal() {
        let scene = Scene::new();
        let (mut ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.lose_messages_to(BOB, 1);
        ann.remove("lost");
        assert_eq!(bob.heard(), [], "it does not know yet");
        assert_eq!(bob.look("k", Lease(1)), Found::Absent(Turn::Mine));
        ann.remove("next");
        bob.assert_lost();
        assert_eq!(ann.heard(), []);
        assert_eq!(ann.ping(), Ok(()));
        assert_eq!(scene.faults.instances(), [ANN]);
    }

    #[test]
    fn a_ping_ends_a_session_that_misses_a_message() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.lose_messages_to(BOB, 1);
        ann.remove("lost");
        assert_eq!(bob.ping(), Err(ErrorKind::Lost));
        bob.assert_lost();
    }

    #[test]
    fn a_message_that_is_lost_to_all_is_missed_by_its_sender_too() {
        let scene = Scene::new();
        let (mut ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.lose_messages(2);
        ann.remove("lost");
        ann.remove("lost");
        assert_eq!((ann.heard(), bob.heard()), (vec![], vec![]));
        bob.remove("next");
        ann.assert_lost();
        bob.assert_lost();
    }

    #[test]
    fn so_many_messages_are_lost_and_no_more() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.faults.lose_messages(1);
        scene.faults.lose_messages_to(BOB, 1);
        ann.remove("lost to all");
        let mut bob = scene.link(BOB);
        let ann = scene.link(ANN);
        ann.remove("lost to bob");
        bob = {
            drop(bob);
            scene.link(BOB)
        };
        ann.remove("heard");
        assert_eq!(bob.heard(), [gone("heard")]);
    }

    #[test]
    fn that_a_value_is_ready_may_be_missed() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("k", Lease(1));
        bob.look("k", Lease(2));
        scene.faults.lose_messages_to(BOB, 1);
        assert!(ann.put("k", Lease(1), "v"));
        ann.remove("next");
        assert_eq!(bob.heard(), [gone("next")]);
        assert_eq!(bob.ping(), Ok(()));
    }

    #[test]
    fn a_session_after_a_gap_begins_anew() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.lose_messages_to(BOB, 1);
        ann.remove("lost");
        ann.remove("next");
        let mut again = scene.link(BOB);
        ann.remove("k");
        assert_eq!(again.heard(), [gone("k")]);
        bob.assert_lost();
    }
}

mod delayed_messages {
    use super::*;

    #[test]
    fn messages_that_are_held_back_arrive_in_their_order() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.delay_messages();
        ann.remove("a");
        ann.remove("b");
        assert_eq!(bob.heard(), []);
        assert_eq!(scene.faults.figures().delayed_messages, 4, "two for each");
        scene.faults.deliver();
        assert_eq!(bob.heard(), [gone("a"), gone("b")]);
        ann.remove("c");
        assert_eq!(bob.heard(), [gone("c")]);
        assert_eq!((ann.ping(), bob.ping()), (Ok(()), Ok(())));
    }

    #[test]
    fn one_by_one_they_arrive_when_the_test_says() {
        let scene = Scene::new();
        let (mut ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.delay_messages_to(BOB);
        assert!(!scene.faults.deliver_next());
        ann.remove("a");
        ann.remove("b");
        bob.remove("c");
        assert_eq!(ann.heard(), [gone("c")]);
        assert!(scene.faults.deliver_next());
        assert_eq!(bob.heard(), [gone("a")]);
        ann.remove("d");
        assert_eq!(bob.heard(), []);
        scene.faults.deliver();
        assert_eq!(bob.heard(), [gone("b"), gone("d")]);
        assert!(!scene.faults.deliver_next());
    }

    #[test]
    fn a_ping_misses_what_is_held_back() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.delay_messages_to(BOB);
        ann.remove("k");
        assert_eq!(ann.ping(), Ok(()));
        assert_eq!(bob.ping(), Err(ErrorKind::Lost));
        bob.assert_lost();
        assert_eq!(scene.faults.figures().delayed_messages, 0);
        let mut again = scene.link(BOB);
        scene.faults.deliver();
        assert_eq!(again.heard(), [], "it connected after the message");
    }

    #[test]
    fn cut_links_take_the_messages_with_them_that_are_held_back() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.faults.delay_messages();
        ann.remove("k");
        scene.faults.cut_links();
        assert_eq!(scene.faults.figures().delayed_messages, 0);
    }

    #[test]
    fn a_gap_shows_when_the_message_behind_it_arrives() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.lose_messages_to(BOB, 1);
        ann.remove("lost");
        scene.faults.delay_messages_to(BOB);
        ann.remove("next");
        ann.remove("later");
        assert_eq!(bob.heard(), []);
        assert!(scene.faults.deliver_next());
        bob.assert_lost();
        assert!(!scene.faults.deliver_next(), "the rest is for nobody");
    }
}

mod links {
    use super::*;

    #[test]
    fn cut_links_end_all_sessions_and_new_ones_see_the_same_data() {
        let scene = Scene::new();
        let (mut ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.load("k", "v");
        ann.look("leased", Lease(1));
        ann.remove("other");
        scene.faults.cut_links();
        ann.assert_lost();
        bob.assert_lost();
        let ann = scene.link(ANN);
        assert_eq!(ann.look("k", Lease(1)), value("v", TTL, Turn::Nobodys));
        assert!(ann.put("leased", Lease(1), "v"), "a lease is no part of the session");
    }

    #[test]
    fn a_store_that_is_down_refuses_and_has_its_data_when_it_is_up_again() {
        let scene = Scene::new();
        let mut ann = scene.link(ANN);
        ann.load("k", "v");
        scene.faults.take_down();
        ann.assert_lost();
        assert_eq!(scene.refusal(ANN), ErrorKind::Lost);
        scene.faults.bring_up();
        ann.assert_lost();
        let ann = scene.link(ANN);
        assert_eq!(ann.look("k", Lease(1)), value("v", TTL, Turn::Nobodys));
    }

    #[test]
    fn after_a_restart_nobody_sees_the_data_that_it_kept() {
        let scene = Scene::new();
        let mut ann = scene.link(ANN);
        ann.load("k", "v");
        ann.look("leased", Lease(1));
        scene.faults.restart_keeping_data();
        ann.assert_lost();
        let ann = scene.link(ANN);
        assert_eq!(ann.look("k", Lease(2)), Found::Absent(Turn::Mine));
        assert!(!ann.put("leased", Lease(1), "late"));
        assert_eq!(scene.faults.figures().values, 1, "it takes up memory");
        scene.clock.advance(TTL);
        for _ in 0..4 {
            assert_eq!(ann.ping(), Ok(()));
        }
        let figures = scene.faults.figures();
        assert_eq!((figures.in_memory, figures.spaces), (0, 1), "until it is over");
    }

    #[test]
    fn sessions_after_a_restart_share_their_space_when_the_kept_data_is_over() {
        let scene = Scene::new();
        scene.link(ANN).load("k", "v");
        scene.faults.restart_keeping_data();
        let ann = scene.link(ANN);
        scene.clock.advance(TTL);
        for _ in 0..4 {
            assert_eq!(ann.ping(), Ok(()));
        }
        ann.load("k", "v");
        assert_eq!(scene.link(BOB).look("k", Lease(1)), value("v", TTL, Turn::Nobodys));
    }

    #[test]
    fn instances_are_in_the_order_in_which_they_connected() {
        let scene = Scene::new();
        let other = Space::new("others", 1);
        let links = [
            scene.link(BOB),
            scene.link_to(&other, ANN),
            scene.link(BOB),
            scene.link_to(&other, ANN),
        ];
        assert_eq!(scene.faults.instances(), [BOB, ANN, BOB, ANN]);
        drop(links);
    }

    #[test]
    fn after_a_restart_without_data_there_is_none() {
        let scene = Scene::new();
        let mut ann = scene.link(ANN);
        ann.load("k", "v");
        scene.faults.restart_losing_data();
        ann.assert_lost();
        let figures = scene.faults.figures();
        assert_eq!((figures.in_memory, figures.spaces), (0, 0));
        assert_eq!(scene.link(ANN).look("k", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn a_restart_while_the_store_is_down_shows_when_it_is_up() {
        let scene = Scene::new();
        scene.link(ANN).load("k", "v");
        scene.faults.take_down();
        scene.faults.restart_keeping_data();
        assert_eq!(scene.refusal(ANN), ErrorKind::Lost);
        scene.faults.bring_up();
        assert_eq!(scene.link(ANN).look("k", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn connections_are_refused_as_asked_and_sessions_go_on() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        for kind in [ErrorKind::ReadOnly, ErrorKind::Denied, ErrorKind::Other] {
            scene.faults.refuse(kind);
            assert_eq!(scene.refusal(BOB), kind);
        }
        assert_eq!(ann.ping(), Ok(()));
        scene.faults.accept();
        scene.link(BOB);
    }
}

mod stopped {
    use super::*;

    #[test]
    fn calls_wait_until_the_store_goes_on() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.faults.stop();
        let keys = [Key::of("k")];
        let mut look = ann.session.get_or_lease(&keys, ask(Lease(1)));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(look.as_mut().poll(&mut cx).is_pending());
        assert!(look.as_mut().poll(&mut cx).is_pending());
        assert_eq!(scene.faults.figures().waiting_calls, 1);
        assert_eq!(scene.faults.figures().get_or_lease, 0);
        scene.faults.resume();
        assert_eq!(wakes.count(), 1);
        let found = now(look).unwrap();
        assert_eq!(found, [Found::Absent(Turn::Mine)]);
        assert_eq!(ann.ping(), Ok(()), "later ones do not wait");
    }

    #[test]
    fn calls_take_effect_in_the_order_in_which_they_came() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.stop();
        let keys = [Key::of("k")];
        let mut first = pin!(ann.session.get_or_lease(&keys, ask(Lease(1))));
        let mut second = pin!(bob.session.get_or_lease(&keys, ask(Lease(2))));
        assert!(block_on(poll_once(first.as_mut())).is_none());
        assert!(block_on(poll_once(second.as_mut())).is_none());
        assert!(scene.faults.resume_next());
        assert!(block_on(poll_once(second.as_mut())).is_none());
        assert_eq!(now(first).unwrap(), [Found::Absent(Turn::Mine)]);
        assert!(scene.faults.resume_next());
        assert!(!scene.faults.resume_next());
        assert_eq!(now(second).unwrap(), [Found::Absent(Turn::Anothers)]);
        assert!(block_on(poll_once(ann.session.ping())).is_none(), "the store is still stopped");
    }

    #[test]
    fn one_instance_waits_and_others_overtake_it() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.look("k", Lease(1));
        scene.faults.stop_for(ANN);
        let values = [(Key::of("k"), b"old".to_vec())];
        let mut put = pin!(ann.session.put(Lease(1), &values, TTL));
        assert!(block_on(poll_once(put.as_mut())).is_none());
        bob.remove("k");
        scene.faults.resume();
        assert_eq!(now(put).unwrap(), [false]);
        assert_eq!(bob.heard(), []);
    }

    #[test]
    fn a_dropped_call_takes_effect_when_the_store_goes_on() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.load("k", "v");
        scene.faults.stop();
        let keys = [Key::of("k")];
        drop(ann.session.remove(&[Key::of("never polled")], None));
        assert!(block_on(poll_once(ann.session.remove(&keys, None))).is_none());
        assert_eq!(bob.heard(), []);
        scene.faults.resume();
        assert_eq!(bob.heard(), [gone("k")]);
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn a_call_whose_session_ends_fails_at_once_and_takes_effect_all_the_same() {
        let scene = Scene::new();
        let mut ann = scene.link(ANN);
        ann.load("k", "v");
        scene.faults.stop();
        let keys = [Key::of("k")];
        let session = Arc::clone(&ann.session);
        let mut remove = pin!(session.remove(&keys, None));
        assert!(block_on(poll_once(remove.as_mut())).is_none());
        scene.faults.cut_links();
        assert_eq!(now(remove).unwrap_err().kind(), ErrorKind::Lost);
        ann.assert_lost();
        scene.faults.resume();
        assert_eq!(scene.link(ANN).look("k", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn the_end_of_its_session_wakes_a_call_that_waits() {
        type End = fn(&Scene, &Linked, &mut Option<Box<dyn Events>>);

        let ends: [End; 3] = [
            |_, _, events| *events = None,
            |scene, _, _| scene.faults.cut_links(),
            |scene, bob, _| {
                scene.faults.lose_messages_to(ANN, 1);
                bob.remove("lost");
                bob.remove("next");
            },
        ];
        for end in ends {
            let scene = Scene::new();
            let (Linked { session, events }, bob) = (scene.link(ANN), scene.link(BOB));
            let mut events = Some(events);
            scene.faults.stop_for(ANN);
            let wakes = Arc::new(Wakes::default());
            let waker = Waker::from(Arc::clone(&wakes));
            let mut ping = session.ping();
            assert!(ping.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            end(&scene, &bob, &mut events);
            assert_eq!(wakes.count(), 1);
            assert_eq!(now(ping).unwrap_err().kind(), ErrorKind::Lost);
        }
    }

    #[test]
    fn a_call_takes_effect_in_a_space_that_nobody_uses_any_longer() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.faults.stop();
        let keys = [Key::of("k")];
        assert!(block_on(poll_once(ann.session.get_or_lease(&keys, ask(Lease(1))))).is_none());
        drop(ann);
        scene.faults.resume();
        assert_eq!(scene.faults.figures().leases, 1);
        assert_eq!(scene.link(BOB).look("k", Lease(2)), Found::Absent(Turn::Anothers));
    }

    #[test]
    fn a_restart_forgets_the_calls_that_wait() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.faults.stop();
        let keys = [Key::of("k")];
        let mut remove = pin!(ann.session.remove(&keys, None));
        assert!(block_on(poll_once(remove.as_mut())).is_none());
        scene.faults.restart_keeping_data();
        assert_eq!(now(remove).unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(scene.link(ANN).ping(), Ok(()), "another process is not stopped");
        scene.faults.resume();
        assert_eq!(scene.faults.figures().remove, 0);
    }

    #[test]
    fn a_connection_waits_and_is_given_up_when_it_is_dropped() {
        let scene = Scene::new();
        scene.faults.stop();
        let mut ann = pin!(scene.store.connect(&scene.space, ANN));
        {
            let mut bob = pin!(scene.store.connect(&scene.space, BOB));
            assert!(block_on(poll_once(ann.as_mut())).is_none());
            assert!(block_on(poll_once(bob.as_mut())).is_none());
        }
        scene.faults.resume();
        let connected = now(ann).unwrap();
        assert_eq!(scene.faults.instances(), [ANN]);
        drop(connected);
    }

    #[test]
    fn a_connection_that_waits_is_refused_when_the_store_goes_down() {
        let scene = Scene::new();
        scene.faults.stop();
        let mut ann = pin!(scene.store.connect(&scene.space, ANN));
        assert!(block_on(poll_once(ann.as_mut())).is_none());
        scene.faults.take_down();
        assert!(matches!(now(ann), Err(error) if error.kind() == ErrorKind::Lost));
    }
}

mod failures {
    use super::*;

    #[test]
    fn the_next_calls_fail_and_take_no_effect() {
        let kinds = [ErrorKind::ReadOnly, ErrorKind::Denied, ErrorKind::TimedOut, ErrorKind::Other];
        for kind in kinds {
            let scene = Scene::new();
            let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
            ann.look("k", Lease(1));
            scene.faults.fail_next(3, kind);
            assert_eq!(ann.try_look("other", Lease(1)).unwrap_err().kind(), kind);
            assert_eq!(ann.try_put("k", Lease(1), "v").unwrap_err().kind(), kind);
            let keys = [Key::of("k")];
            assert_eq!(now(ann.session.remove(&keys, None)).unwrap_err().kind(), kind);
            assert_eq!(bob.heard(), []);
            assert_eq!(bob.look("other", Lease(2)), Found::Absent(Turn::Mine));
            assert!(ann.put("k", Lease(1), "v"));
        }
    }

    #[test]
    fn all_calls_fail_until_they_are_to_work() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        scene.faults.fail(ErrorKind::Other);
        for _ in 0..100 {
            assert_eq!(ann.ping(), Err(ErrorKind::Other));
        }
        scene.faults.fail_next(1, ErrorKind::Denied);
        assert_eq!((ann.ping(), ann.ping()), (Err(ErrorKind::Denied), Ok(())));
        scene.faults.fail(ErrorKind::Other);
        scene.faults.work();
        assert_eq!(ann.ping(), Ok(()));
    }

    #[test]
    fn a_call_that_fails_as_lost_ends_its_session() {
        let scene = Scene::new();
        let (mut ann, bob) = (scene.link(ANN), scene.link(BOB));
        scene.faults.fail_next(1, ErrorKind::Lost);
        assert_eq!(ann.try_look("k", Lease(1)).unwrap_err().kind(), ErrorKind::Lost);
        ann.assert_lost();
        assert_eq!(bob.ping(), Ok(()));
    }

    #[test]
    fn a_full_store_serves_and_removes_and_keeps_nothing() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        ann.load("k", "v");
        ann.load("gone", "g");
        ann.look("leased", Lease(1));
        ann.look("wanted", Lease(1));
        bob.look("wanted", Lease(2));
        scene.faults.fail(ErrorKind::Full);
        assert_eq!(bob.look("k", Lease(2)), value("v", TTL, Turn::Nobodys));
        assert_eq!(bob.look("absent", Lease(2)), Found::Absent(Turn::Full));
        assert_eq!(bob.look("leased", Lease(2)), Found::Absent(Turn::Anothers));
        assert!(!ann.put("leased", Lease(1), "v"));
        assert!(!ann.put("wanted", Lease(1), "v"));
        assert_eq!(bob.heard(), [ready("wanted")], "of the other nobody knew that it was wanted");
        ann.remove("gone");
        ann.claim("claimed", Lease(3));
        assert_eq!(bob.heard(), [gone("gone"), gone("claimed")]);
        assert_eq!(ann.ping(), Ok(()));
        scene.faults.work();
        assert!(!ann.put("claimed", Lease(3), "v"));
        assert_eq!(bob.look("leased", Lease(2)), Found::Absent(Turn::Mine), "it was given back");

        scene.faults.fail(ErrorKind::Full);
        scene.clock.advance(TTL - NANO);
        assert_eq!(bob.look("k", Lease(2)), value("v", NANO, Turn::Full));
    }

    #[test]
    fn foreign_data_is_found_and_may_be_replaced_or_removed() {
        let scene = Scene::new();
        let (ann, bob) = (scene.link(ANN), scene.link(BOB));
        let k = Key::of("k");
        scene.faults.put_foreign(&scene.space, &k);
        assert_eq!(ann.look("k", Lease(1)), Found::Foreign(Turn::Mine));
        assert_eq!(bob.look("k", Lease(2)), Found::Foreign(Turn::Anothers));
        assert!(ann.put("k", Lease(1), "v"));
        assert_eq!(ann.look("k", Lease(1)), value("v", TTL, Turn::Nobodys));
        scene.faults.put_foreign(&scene.space, &k);
        scene.faults.fail_next(1, ErrorKind::Full);
        assert_eq!(ann.look("k", Lease(1)), Found::Foreign(Turn::Full));
        bob.remove("k");
        assert_eq!(ann.look("k", Lease(1)), Found::Absent(Turn::Mine));
    }

    #[test]
    fn a_corrupt_value_has_other_bytes_for_the_same_time() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        let k = Key::of("k");
        assert!(!scene.faults.corrupt(&scene.space, &k, b"?"));
        ann.load("k", "v");
        scene.clock.advance(NANO);
        assert!(scene.faults.corrupt(&scene.space, &k, b"?"));
        assert_eq!(ann.look("k", Lease(1)), value("?", TTL - NANO, Turn::Nobodys));
    }

    #[test]
    fn a_look_for_something_to_corrupt_leaves_nothing_behind() {
        let scene = Scene::new();
        assert!(!scene.faults.corrupt(&scene.space, &Key::of("k"), b"?"));
        assert_eq!(scene.faults.figures().spaces, 0);
    }

    #[test]
    fn healing_ends_all_faults() {
        let scene = Scene::new();
        let (ann, mut bob) = (scene.link(ANN), scene.link(BOB));
        let faults = &scene.faults;
        faults.delay_messages();
        ann.remove("delayed");
        faults.stop();
        let keys = [Key::of("waits")];
        assert!(block_on(poll_once(ann.session.remove(&keys, None))).is_none());
        faults.go_in_steps();
        faults.fail(ErrorKind::Other);
        faults.lose_messages(1);
        faults.lose_messages_to(BOB, 1);
        faults.refuse(ErrorKind::Denied);
        faults.heal();
        assert_eq!(bob.heard(), [gone("delayed"), gone("waits")]);
        assert_eq!(bob.ping(), Ok(()));
        faults.take_down();
        faults.heal();
        scene.link(BOB).load("k", "v");
    }
}

mod steps {
    use super::*;

    /// A way to make a call of a session, and whether it has taken effect.
    type Case = (&'static str, fn(&dyn Session) -> Calls<'_>, fn(&Scene) -> u64);
    type Calls<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

    fn cases() -> [Case; 6] {
        [
            (
                "get_or_lease",
                |by| {
                    Box::pin(async {
                        let keys = [Key::of("absent")];
                        by.get_or_lease(&keys, ask(Lease(2))).await.map(drop)
                    })
                },
                |scene| scene.faults.figures().get_or_lease - 2,
            ),
            (
                "put",
                |by| {
                    Box::pin(async {
                        let values = [(Key::of("leased"), Vec::new())];
                        by.put(Lease(1), &values, TTL).await.map(drop)
                    })
                },
                |scene| scene.faults.figures().put - 1,
            ),
            (
                "release",
                |by| Box::pin(async { by.release(Lease(1), &[Key::of("leased")]).await }),
                |scene| scene.faults.figures().release,
            ),
            (
                "remove",
                |by| Box::pin(async { by.remove(&[Key::of("k")], None).await }),
                |scene| scene.faults.figures().remove,
            ),
            ("remove_all", |by| by.remove_all(), |scene| scene.faults.figures().remove_all),
            ("ping", |by| by.ping(), |scene| scene.faults.figures().ping),
        ]
    }

    #[test]
    fn a_call_in_steps_is_pending_before_and_after_its_effect_and_may_be_dropped_at_each() {
        for (name, call, effects) in cases() {
            for polls in 0..=3 {
                let scene = Scene::new();
                let ann = scene.link(ANN);
                ann.load("k", "v");
                ann.look("leased", Lease(1));
                scene.faults.go_in_steps();
                {
                    let mut call = call(&*ann.session);
                    for poll in 1..=polls {
                        let done = block_on(poll_once(call.as_mut()));
                        assert_eq!(done.is_some(), poll == 3, "{name}, poll {poll}");
                    }
                }
                assert_eq!(effects(&scene), u64::from(polls >= 2), "{name} after {polls} polls");
                scene.faults.go_at_once();
                assert_eq!(ann.ping(), Ok(()), "{name} leaves the session usable");
            }
        }
    }

    #[test]
    fn a_connection_in_steps_may_be_dropped_at_each() {
        for polls in 0..=3 {
            let scene = Scene::new();
            scene.faults.go_in_steps();
            let mut connect = scene.store.connect(&scene.space, ANN);
            for poll in 1..=polls {
                let done = block_on(poll_once(connect.as_mut()));
                assert_eq!(done.is_some(), poll == 3);
            }
            drop(connect);
            let figures = scene.faults.figures();
            assert_eq!(figures.connects, u64::from(polls >= 2));
            assert_eq!((figures.sessions, figures.spaces), (0, 0), "nobody has it");
        }
    }
}

mod memory {
    use super::*;

    #[test]
    fn what_is_over_is_freed_by_calls_for_other_keys() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        for i in 0..1_000 {
            ann.load(&format!("value {i}"), "v");
            ann.look(&format!("lease {i}"), Lease(1));
        }
        let figures = scene.faults.figures();
        assert_eq!((figures.values, figures.leases, figures.in_memory), (1_000, 1_000, 2_000));
        scene.clock.advance(TTL);
        let figures = scene.faults.figures();
        assert_eq!((figures.values, figures.leases, figures.in_memory), (0, 0, 2_000));
        for _ in 0..100 {
            assert_eq!(ann.ping(), Ok(()));
        }
        assert_eq!(scene.faults.figures().in_memory, 0);
    }

    #[test]
    fn what_is_over_in_a_space_that_nobody_uses_is_freed_by_calls_in_another() {
        let scene = Scene::new();
        for version in 2..12 {
            let ann = scene.link_to(&Space::new("users", version), ANN);
            for i in 0..100 {
                ann.load(&i.to_string(), "v");
            }
        }
        let ann = scene.link(ANN);
        scene.clock.advance(TTL);
        for _ in 0..200 {
            ann.ping().unwrap();
        }
        let figures = scene.faults.figures();
        assert_eq!((figures.in_memory, figures.spaces), (0, 1));
    }

    #[test]
    fn ever_new_keys_take_no_more_memory_than_live_at_once() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        let most = (0..5_000)
            .map(|i| {
                ann.load(&i.to_string(), "v");
                scene.clock.advance(TTL / 100);
                scene.faults.figures().in_memory
            })
            .max();
        assert!(most <= Some(110), "{most:?}");
    }

    #[test]
    fn calls_for_many_keys_free_as_many_as_they_add() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        for i in 0..100 {
            let keys: Vec<_> = (0..100).map(|j| Key::of(&(i, j))).collect();
            now(ann.session.get_or_lease(&keys, ask(Lease(1)))).unwrap();
            scene.clock.advance(LEASE_FOR);
            assert!(scene.faults.figures().in_memory <= 200);
        }
    }

    #[test]
    fn overwriting_and_removing_leave_nothing_behind() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        for i in 0..1_000_u64 {
            let key = (i % 10).to_string();
            ann.claim(&key, Lease(i));
            assert!(ann.put(&key, Lease(i), "v"));
            scene.clock.advance(NANO);
        }
        assert_eq!(scene.faults.figures().in_memory, 10);
        for key in 0..10 {
            ann.remove(&key.to_string());
        }
        assert_eq!(scene.faults.figures().in_memory, 0);
        ann.load("k", "v");
        ann.remove_all();
        assert_eq!(scene.faults.figures().in_memory, 0);
    }

    #[test]
    fn sessions_and_spaces_that_nobody_has_take_no_memory() {
        let scene = Scene::new();
        for version in 0..100 {
            drop(scene.link_to(&Space::new("users", version), ANN));
        }
        let figures = scene.faults.figures();
        assert_eq!((figures.sessions, figures.spaces, figures.connects), (0, 0, 100));
    }

    #[test]
    fn figures_count_the_calls_of_each_kind() {
        let scene = Scene::new();
        let ann = scene.link(ANN);
        ann.load("k", "v");
        ann.release("k", Lease(1));
        ann.remove("k");
        ann.claim("k", Lease(1));
        ann.remove_all();
        ann.ping().unwrap();
        scene.faults.fail_next(1, ErrorKind::Other);
        ann.try_look("k", Lease(1)).unwrap_err();
        let f = scene.faults.figures();
        let calls = [f.get_or_lease, f.put, f.release, f.remove, f.remove_all, f.ping];
        assert_eq!(calls, [2, 1, 1, 2, 1, 1]);
        assert_eq!((f.connects, f.sessions, f.messages, f.values), (1, 1, 3, 0));
    }
}

#[test]
fn a_clock_may_use_the_store_and_may_panic() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::OnceLock;

    struct Hostile(Arc<OnceLock<Faults>>);

    impl Clock for Hostile {
        fn now(&self) -> Duration {
            if let Some(faults) = self.0.get() {
                assert!(faults.instances().is_empty(), "a panic of the clock");
            }
            NANO
        }
    }

    let faults = Arc::new(OnceLock::new());
    let store = MemoryStore::with_clock(Hostile(Arc::clone(&faults)));
    faults.set(store.faults()).unwrap();
    let connected = Linked::new(now(store.connect(&Space::new("users", 1), ANN)).unwrap());
    let panicked = catch_unwind(AssertUnwindSafe(|| connected.ping()));
    assert!(panicked.is_err());
    drop(connected);
    assert_eq!(store.faults().figures().ping, 0);
}

#[test]
fn handles_go_to_other_threads_and_show_nothing() {
    fn sent<T: Send + Sync + Clone + 'static>(value: &T) -> T {
        value.clone()
    }

    let store = sent(&MemoryStore::new());
    let faults = sent(&store.faults());
    assert_eq!(format!("{store:?}"), "MemoryStore { .. }");
    assert_eq!(format!("{faults:?}"), "Faults { .. }");
}

#[test]
fn threads_that_lease_and_remove_at_once_keep_to_the_rules() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 500;

    let scene = Scene::new();
    let kept: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                let mut linked = scene.link(Instance(i));
                scope.spawn(move || {
                    let mut kept = 0;
                    for round in 0..ROUNDS {
                        let lease = Lease(i * ROUNDS + round + 1);
                        if linked.look("k", lease) == Found::Absent(Turn::Mine) {
                            kept += u64::from(linked.put("k", lease, "v"));
                        }
                        linked.remove("k");
                        assert!(!linked.heard().contains(&None));
                    }
                    kept
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(kept > 0);
    let figures = scene.faults.figures();
    assert_eq!((figures.values, figures.leases), (0, 0));
    assert_eq!(figures.remove, THREADS * ROUNDS);
}
