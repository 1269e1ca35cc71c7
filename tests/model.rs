//! Every operation in every order, loads in flight and odd clocks included, against a naive model:
//! what calls return, the order of use, the victims, the statistics, and what a listener hears.

mod common;
#[path = "common/forms.rs"]
mod forms;
#[path = "common/naive_lru.rs"]
mod naive_lru;

use std::cell::Cell;
use std::future::poll_fn;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_lru::{AsyncLru, Builder, Eviction, Lookup, ManualClock, RemovalCause, Update};
use common::{Hand, hand, now, poll};
use forms::Form;
use futures_lite::future::block_on;
use naive_lru::{Answer, Call, Change, NaiveLru, Plan, Settings};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

type Cache = AsyncLru<u8, u32, Fixed>;

/// The same hash in every cache, so that keys fall into the same shards.
type Fixed = BuildHasherDefault<DefaultHasher>;

const KEYS: u8 = 16;

/// How many sequences each test tries, unless `MODEL_SEQUENCES` says otherwise.
const SEQUENCES: u32 = 40;

#[derive(Clone, Copy, Debug)]
enum Way {
    Async,
    Blocking,
}

/// One call, or a step of the clock or of calls that have begun. An `Index` picks one of these.
#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Peek(u8),
    Contains(u8),
    Insert(u8, Way),
    /// Of one entry or none.
    InsertMany(u8, usize, Way),
    /// A guarded write, which is dropped or inserts.
    Write(u8, Change),
    Remove(u8, Way),
    Invalidate(u8, Way),
    Clear(Way),
    Purge(Way),
    ResetStats,
    SetMaxsize(usize, Way),
    SetMaxWeight(u64, Way),
    SetMaxBytes(u64, Way),
    /// Many other entries come, and a sweep takes them out again, which gives their memory back.
    Swell(Way),
    Sweep(u8, Way),
    SweepKeys(u8, Way),
    Update(u8, Change),
    Begin(u8, Form, Plan),
    Decide(Index, Plan),
    Poll(Index),
    PollAll,
    Drop(Index),
    Advance(u64),
    StepBack(u64),
}

/// Where the clock may go.
#[derive(Clone, Copy, Debug)]
enum Steps {
    Forward,
    BothWays,
}

fn ops(steps: Steps) -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..KEYS;
    // A few keys more often than others, so that calls meet.
    let hot = || prop_oneof![0..4_u8, 0..KEYS];
    let way = || select(vec![Way::Async, Way::Blocking]);
    let plan = || select(vec![Plan::Wait, Plan::Wait, Plan::Succeed, Plan::Succeed, Plan::Fail]);
    let end = || select(vec![Plan::Succeed, Plan::Succeed, Plan::Fail]);
    let forward = (0..6_u64).prop_map(Op::Advance);
    let step = match steps {
        Steps::Forward => forward.boxed(),
        Steps::BothWays => {
            prop_oneof![2 => forward, 1 => (0..12_u64).prop_map(Op::StepBack)].boxed()
        }
    };
    let op = prop_oneof![
        40 => key().prop_map(Op::Get),
        10 => key().prop_map(Op::Peek),
        10 => key().prop_map(Op::Contains),
        30 => (hot(), way()).prop_map(|(key, way)| Op::Insert(key, way)),
        5 => (hot(), 0..=1_usize, way()).prop_map(|(key, many, way)| Op::InsertMany(key, many, way)),
        5 => (hot(), select(vec![Change::Put, Change::Remove]))
            .prop_map(|(key, change)| Op::Write(key, change)),
        10 => (hot(), way()).prop_map(|(key, way)| Op::Remove(key, way)),
        10 => (hot(), way()).prop_map(|(key, way)| Op::Invalidate(key, way)),
        1 => way().prop_map(Op::Clear),
        10 => way().prop_map(Op::Purge),
        1 => Just(Op::ResetStats),
        3 => (0..=8_usize, way()).prop_map(|(maxsize, way)| Op::SetMaxsize(maxsize, way)),
        3 => (bounds(), way()).prop_map(|(weight, way)| Op::SetMaxWeight(weight, way)),
        3 => (bounds(), way()).prop_map(|(bytes, way)| Op::SetMaxBytes(bytes, way)),
        2 => way().prop_map(Op::Swell),
        8 => (0..12_u8, way()).prop_map(|(sweep, way)| Op::Sweep(sweep, way)),
        4 => (0..12_u8, way()).prop_map(|(sweep, way)| Op::SweepKeys(sweep, way)),
        15 => (hot(), select(vec![Change::Put, Change::Put, Change::Keep, Change::Remove]))
            .prop_map(|(key, change)| Op::Update(key, change)),
        80 => (hot(), select(Form::ALL.to_vec()), plan())
            .prop_map(|(key, form, plan)| Op::Begin(key, form, plan)),
        30 => (any::<Index>(), end()).prop_map(|(which, plan)| Op::Decide(which, plan)),
        20 => any::<Index>().prop_map(Op::Poll),
        5 => Just(Op::PollAll),
        15 => any::<Index>().prop_map(Op::Drop),
        40 => step,
    ];
    prop::collection::vec(op, 1..200)
}

/// Bounds by weight or by bytes.
fn bounds() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..=20_u64, 1 => Just(u64::MAX)]
}

/// A call that has begun: the real one, and the model's.
struct Pending<'a> {
    future: Hand<'a, Answer>,
    plan: Rc<Cell<Plan>>,
    call: Call,
}

/// A cache and its model, taken through the same operations.
struct Pair<'a> {
    cache: &'a Cache,
    clock: &'a ManualClock,
    model: NaiveLru,
    time: u64,
    pending: Vec<Pending<'a>>,
    reports: Option<Reports>,
    /// How many had left for want of room or of time when the cache was looked at last.
    departed: u64,
}

/// A key, its value, and why they have left.
type Left = (u8, u32, RemovalCause);

/// What a listener has heard, to be held against what has left the model.
#[derive(Default)]
struct Reports {
    heard: Arc<Mutex<Vec<Left>>>,
    /// What has expired and was not freed.
    lying_about: Vec<(u8, u32)>,
}

impl Reports {
    /// All that `left` has to have been heard by now, in the same order within each shard; only of what
    /// has expired the cache chooses itself when it goes, as long as it is not cleared away.
    fn compare(&mut self, mut left: Vec<Left>, lying_about: usize, shard_of: impl Fn(u8) -> usize) {
        left.retain(|(key, value, cause)| {
            let has_expired = *cause == RemovalCause::Expired;
            self.lying_about.extend(has_expired.then_some((*key, *value)));
            !has_expired
        });
        let mut heard = std::mem::take(&mut *self.heard.lock().unwrap());
        heard.retain(|(key, value, cause)| {
            let place = self.lying_about.iter().position(|entry| *entry == (*key, *value));
            place.map(|place| self.lying_about.swap_remove(place));
            match cause {
                RemovalCause::Expired => assert!(place.is_some(), "{key} has not expired"),
                RemovalCause::Cleared => {}
                _ => assert!(place.is_none(), "{cause} of {key}, which has expired"),
            }
            place.is_none()
        });
        heard.sort_by_key(|(key, ..)| shard_of(*key));
        left.sort_by_key(|(key, ..)| shard_of(*key));
        assert_eq!(heard, left);
        assert_eq!(self.lying_about.len(), lying_about);
    }
}

impl<'a> Pair<'a> {
    fn run(&mut self, number: u32, op: &Op) {
        let Self { cache, model, .. } = self;
        match *op {
            Op::Get(key) => assert_eq!(cache.get(&key), model.get(key)),
            Op::Peek(key) => assert_eq!(cache.peek(&key), model.peek(key)),
            Op::Contains(key) => assert_eq!(cache.contains_key(&key), model.peek(key).is_some()),
            Op::Insert(key, way) => {
                let replaced = match way {
                    Way::Async => now(cache.insert(key, number)),
                    Way::Blocking => cache.insert_blocking(key, number),
                };
                assert_eq!(replaced, model.insert(key, number));
            }
            Op::InsertMany(key, many, way) => {
                let entries = vec![(key, number); many];
                match way {
                    Way::Async => now(cache.insert_many(entries)),
                    Way::Blocking => cache.insert_many_blocking(entries),
                }
                for _ in 0..many {
                    model.insert(key, number);
                }
            }
            Op::Write(key, change) => {
                let writing = cache.writing(&key);
                assert!(!cache.contains_key(&key));
                model.invalidate(key);
                match change {
                    Change::Put => {
                        now(writing.insert(number));
                        model.insert(key, number);
                    }
                    Change::Keep | Change::Remove => drop(writing),
                }
            }
            Op::Remove(key, way) => {
                let removed = match way {
                    Way::Async => now(cache.remove(&key)),
                    Way::Blocking => cache.remove_blocking(&key),
                };
                assert_eq!(removed, model.remove(key));
            }
            Op::Invalidate(key, way) => {
                let found = match way {
                    Way::Async => now(cache.invalidate(&key)),
                    Way::Blocking => cache.invalidate_blocking(&key),
                };
                assert_eq!(found, model.invalidate(key));
            }
            Op::Clear(way) => {
                match way {
                    Way::Async => now(cache.clear()),
                    Way::Blocking => cache.clear_blocking(),
                }
                assert_eq!(cache.len(), 0);
                model.clear();
            }
            Op::Purge(way) => {
                let lying_about = cache.len() - model.len();
                let freed = match way {
                    Way::Async => now(cache.purge_expired()),
                    Way::Blocking => cache.purge_expired_blocking(),
                };
                assert_eq!((freed, cache.len()), (lying_about, model.len()));
            }
            Op::ResetStats => {
                cache.reset_stats();
                model.reset_stats((cache.len() - model.len()) as u64);
            }
            Op::SetMaxsize(maxsize, way) => {
                self.shrinks(|cache| match way {
                    Way::Async => now(cache.set_maxsize(maxsize)),
                    Way::Blocking => cache.set_maxsize_blocking(maxsize),
                });
                self.model.set_maxsize(maxsize);
            }
            Op::SetMaxWeight(weight, way) => {
                self.shrinks(|cache| match way {
                    Way::Async => now(cache.set_max_weight(weight)),
                    Way::Blocking => cache.set_max_weight_blocking(weight),
                });
                self.model.set_max_weight(weight);
            }
            Op::SetMaxBytes(bytes, way) => {
                self.shrinks(|cache| match way {
                    Way::Async => now(cache.set_max_bytes(bytes)),
                    Way::Blocking => cache.set_max_bytes_blocking(bytes),
                });
                self.model.set_max_bytes(bytes);
            }
            Op::Swell(way) => self.swell(way),
            Op::Sweep(sweep, way) => {
                let is_chosen =
                    move |key: &u8, value: &u32| naive_lru::is_chosen(sweep, *key, *value);
                let removed = match way {
                    Way::Async => block_on(cache.invalidate_if(is_chosen)),
                    Way::Blocking => cache.invalidate_if_blocking(is_chosen),
                };
                assert_eq!(removed, model.sweep(sweep));
                self.take_the_order_of_a_sweep();
            }
            Op::SweepKeys(sweep, way) => {
                let is_chosen = |key: &u8| naive_lru::is_key_chosen(sweep, *key);
                let removed = match way {
                    Way::Async => block_on(cache.invalidate_keys_if(is_chosen)),
                    Way::Blocking => cache.invalidate_keys_if_blocking(is_chosen),
                };
                assert_eq!(removed, model.sweep_keys(sweep));
                self.take_the_order_of_a_sweep();
            }
            Op::Update(key, _) if model.is_joinable(key) => {}
            Op::Update(key, change) => {
                let before = model.peek(key);
                let left = now(cache.update_with(key, async |old| {
                    assert_eq!(old, before);
                    match change {
                        Change::Put => Update::Put(number),
                        Change::Keep => Update::Keep,
                        Change::Remove => Update::Remove,
                    }
                }));
                assert_eq!(left, model.update(key, change, number));
            }
            Op::Begin(key, form, plan) => {
                self.begin(key, form, number, plan);
                self.poll(self.pending.len() - 1);
            }
            Op::Decide(which, plan) => {
                if let Some(place) = self.pick(which) {
                    let Pending { call, plan: shared, .. } = &mut self.pending[place];
                    call.plan = plan_for(call.form, plan);
                    shared.set(call.plan);
                    self.poll(place);
                }
            }
            Op::Poll(which) => {
                if let Some(place) = self.pick(which) {
                    self.poll(place);
                }
            }
            Op::PollAll => {
                let mut place = 0;
                while place < self.pending.len() {
                    if !self.poll(place) {
                        place += 1;
                    }
                }
            }
            Op::Drop(which) => {
                if let Some(place) = self.pick(which) {
                    self.drop_call(place);
                }
            }
            Op::Advance(step) => self.set_clock(self.time + step),
            Op::StepBack(step) => self.set_clock(self.time.saturating_sub(step)),
        }
        self.compare();
    }

    /// A sweep goes over the entries in an order of its own.
    fn take_the_order_of_a_sweep(&mut self) {
        if let Some(Reports { heard, .. }) = &self.reports {
            let heard = heard.lock().unwrap();
            self.model.left.sort_by_key(|left| heard.iter().position(|heard| heard == left));
        }
    }

    /// An adaptive order of eviction chooses its victims in an order of its own.
    fn take_the_order_of_victims(&mut self) {
        let Some(Reports { heard, .. }) = &self.reports else { return };
        let heard = heard.lock().unwrap();
        let is_victim = |left: &Left| left.2 == RemovalCause::Capacity;
        let mut victims: Vec<Left> = self.model.left.iter().copied().filter(is_victim).collect();
        victims.sort_by_key(|left| heard.iter().position(|heard| heard == left));
        let places = self.model.left.iter_mut().filter(|left| is_victim(left));
        places.zip(victims).for_each(|(place, victim)| *place = victim);
    }

    /// Moves a bound by a call that tells how many entries it evicted.
    fn shrinks(&self, set: impl FnOnce(&Cache) -> usize) {
        let before = self.cache.stats().evictions;
        let evicted = set(self.cache);
        assert_eq!(before + evicted as u64, self.cache.stats().evictions);
    }

    /// The others weigh nothing, have no bytes and leave nothing behind.
    fn swell(&mut self, way: Way) {
        let cache = self.cache;
        let maxsize = cache.info().maxsize;
        cache.set_maxsize_blocking(1_000);
        for key in KEYS..=u8::MAX {
            cache.insert_blocking(key, naive_lru::NOTHING);
        }
        match way {
            Way::Async => drop(block_on(cache.invalidate_if(|key, _| *key >= KEYS))),
            Way::Blocking => drop(cache.invalidate_if_blocking(|key, _| *key >= KEYS)),
        }
        cache.set_maxsize_blocking(maxsize);
        if let Some(Reports { heard, .. }) = &self.reports {
            heard.lock().unwrap().retain(|(key, ..)| *key < KEYS);
        }
    }

    fn begin(&mut self, key: u8, form: Form, number: u32, plan: Plan) {
        let plan = plan_for(form, plan);
        let shared = Rc::new(Cell::new(plan));
        let told = Rc::clone(&shared);
        let load = move || {
            poll_fn(move |_| match told.get() {
                Plan::Wait => Poll::Pending,
                Plan::Succeed => Poll::Ready(Ok(number)),
                Plan::Fail => Poll::Ready(Err(number)),
            })
        };
        let future = traced(form, self.cache, key, load);
        let call = Call::new(key, form, number, plan);
        self.pending.push(Pending { future, plan: shared, call });
    }

    fn drop_call(&mut self, place: usize) {
        let Pending { future, call, .. } = self.pending.remove(place);
        drop(future);
        self.model.cancel(&call);
    }

    /// Drops what has not ended; then every key is free.
    fn end(&mut self) {
        while !self.pending.is_empty() {
            self.drop_call(0);
            self.compare();
        }
        for key in 0..KEYS {
            self.begin(key, Form::With, 0, Plan::Succeed);
            assert!(self.poll(0), "the load of {key} has to wait");
        }
    }

    fn pick(&self, which: Index) -> Option<usize> {
        (!self.pending.is_empty()).then(|| which.index(self.pending.len()))
    }

    /// Polls one of the calls that have begun, which must end when the model's does; says whether it
    /// has.
    fn poll(&mut self, place: usize) -> bool {
        let Pending { future, call, .. } = &mut self.pending[place];
        let expected = self.model.poll(call).map_or(Poll::Pending, Poll::Ready);
        assert_eq!(poll(future), expected, "{call:?}");
        if expected.is_ready() {
            self.pending.remove(place);
        }
        // Each poll may put one entry, so the victim has to be asked for each time.
        self.compare();
        expected.is_ready()
    }

    fn set_clock(&mut self, time: u64) {
        self.time = time;
        self.clock.set(Duration::from_nanos(time));
        self.model.set_clock(time);
    }

    /// What can be seen of the cache without changing it is as in the model.
    fn compare(&mut self) {
        let Self { cache, model, .. } = self;
        let _loads_in_flight = cache.validate();
        let (keys, stats) = (cache.keys(), cache.stats());
        let departed = stats.evictions + stats.expirations;
        let before = std::mem::replace(&mut self.departed, departed);
        model.observe(&keys, departed != before);
        assert_eq!(keys, model.keys());
        if cache.info().eviction == Eviction::Adaptive {
            self.take_the_order_of_victims();
        }
        let Self { cache, model, .. } = self;
        let len = cache.len();
        assert!((model.len()..=cache.info().maxsize).contains(&len));
        assert_eq!((stats.current_size, cache.is_empty()), (len, len == 0));
        assert!(stats.current_weight <= stats.max_weight);
        assert!(stats.current_bytes <= stats.max_bytes);
        let left = std::mem::take(&mut model.left);
        if let Some(reports) = &mut self.reports {
            reports.compare(left, len - model.len(), |key| model.shard(key));
        }
        let lying_about = (len - model.len()) as u64;
        let counts = naive_lru::Counts {
            hits: stats.hits,
            misses: stats.misses,
            coalesced: stats.coalesced,
            loads: stats.loads,
            load_failures: stats.load_failures,
            stale_hits: stats.stale_hits,
            refreshes: stats.refreshes,
            refresh_failures: stats.refresh_failures,
            evictions: stats.evictions,
            expired: stats.expirations + lying_about,
        };
        assert_eq!(counts, model.counts);
    }
}

/// Makes a call of this form that tells where its answer came from.
fn traced<'a, Fut>(
    form: Form,
    cache: &'a Cache,
    key: u8,
    load: impl FnOnce() -> Fut + 'a,
) -> Hand<'a, Answer>
where
    Fut: Future<Output = Result<u32, u32>> + 'a,
{
    let sure = async |load: Fut| load.await.expect("it takes no load that fails");
    let told = |lookup: Lookup<u32>| (lookup.value, lookup.outcome);
    let shared = |error: Arc<u32>| *error;
    match form {
        Form::With => {
            hand(async move { Ok(told(cache.entry(key).or_insert_with(|| sure(load())).await)) })
        }
        Form::WithRef => {
            hand(
                async move { Ok(told(cache.entry_ref(&key).or_insert_with(|| sure(load())).await)) },
            )
        }
        Form::Own => hand(async move { cache.entry(key).or_try_insert_own(load).await.map(told) }),
        Form::OwnRef => {
            hand(async move { cache.entry_ref(&key).or_try_insert_own(load).await.map(told) })
        }
        Form::TryWith => hand(async move {
            cache.entry(key).or_try_insert_with(load).await.map(told).map_err(shared)
        }),
        Form::TryWithRef => hand(async move {
            cache.entry_ref(&key).or_try_insert_with(load).await.map(told).map_err(shared)
        }),
    }
}

/// A load of a form that cannot fail succeeds instead.
fn plan_for(form: Form, plan: Plan) -> Plan {
    if plan == Plan::Fail && !form.is_fallible() { Plan::Succeed } else { plan }
}

/// Which shard each key lives in, found out from the outside: a key that is used moves to the end of
/// its shard in the list of keys.
fn shards_of_keys(shards: usize) -> Vec<usize> {
    let cache = builder(100, shards).build();
    for key in 0..KEYS {
        cache.insert_blocking(key, 0);
    }
    let end_of_shard = |key| {
        cache.get(&key);
        cache.keys().iter().position(|other| *other == key).unwrap()
    };
    (0..KEYS).map(end_of_shard).collect()
}

fn builder(maxsize: usize, shards: usize) -> Builder<u8, u32, Fixed> {
    AsyncLru::<u8, u32>::builder().hasher(Fixed::new()).maxsize(maxsize).shards(shards)
}

/// The caches of one test.
#[derive(Clone, Copy, Debug)]
struct Kind {
    eviction: Eviction,
    shards: usize,
    ttl: Option<u64>,
    /// How long entries are fresh, and when a refresh that has failed is tried again.
    fresh: Option<(u64, u64)>,
    max_weight: Option<u64>,
    max_bytes: Option<u64>,
    is_single_flight: bool,
    has_listener: bool,
}

impl Kind {
    fn build(self, maxsize: usize, clock: &ManualClock, reports: Option<&Reports>) -> Cache {
        let mut builder = builder(maxsize, self.shards).clock(clock.clone());
        builder = builder.eviction(self.eviction);
        if let Some(max_weight) = self.max_weight {
            builder = builder.max_weight(max_weight, |_, value| naive_lru::weight(*value));
        }
        if let Some(max_bytes) = self.max_bytes {
            let bytes = |_: &u8, value: &u32| naive_lru::bytes(*value) as usize;
            builder = builder.max_bytes_with(max_bytes, bytes);
        }
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(Duration::from_nanos(ttl));
        }
        if let Some((fresh, retry)) = self.fresh {
            builder = builder.fresh_for(Duration::from_nanos(fresh));
            builder = builder.refresh_retry(Duration::from_nanos(retry));
        }
        if !self.is_single_flight {
            builder = builder.without_single_flight();
        }
        if let Some(Reports { heard, .. }) = reports {
            let heard = Arc::clone(heard);
            builder = builder.on_remove(move |key, value, cause| {
                heard.lock().unwrap().push((key, value, cause));
            });
        }
        builder.build()
    }
}

/// Takes a cache and its model through `ops`.
fn check(kind: Kind, maxsize: usize, ops: &[Op]) {
    let clock = ManualClock::new();
    let reports = kind.has_listener.then(Reports::default);
    let cache = kind.build(maxsize, &clock, reports.as_ref());
    let Kind { eviction, shards, ttl, fresh, max_weight, max_bytes, is_single_flight, .. } = kind;
    let shard_of = shards_of_keys(shards);
    let settings = Settings {
        maxsize,
        eviction,
        max_weight,
        max_bytes,
        ttl,
        fresh,
        is_single_flight,
        shard_of,
    };
    let (model, pending) = (NaiveLru::new(settings), Vec::new());
    let (cache, clock) = (&cache, &clock);
    let mut pair = Pair { cache, clock, model, time: 0, pending, reports, departed: 0 };
    for (number, op) in (0..).zip(ops) {
        pair.run(number, op);
    }
    pair.end();
}

/// Tries sequences of operations on caches of every small size, and prints how many.
fn hold_against_the_model(kinds: impl Strategy<Value = Kind>, steps: Steps) {
    let sequences = std::env::var("MODEL_SEQUENCES");
    let cases = sequences.map_or(SEQUENCES, |number| number.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let operations = Cell::new(0);
    let outcome =
        TestRunner::new(config).run(&(kinds, 0..=8_usize, ops(steps)), |(kind, maxsize, ops)| {
            check(kind, maxsize, &ops);
            operations.set(operations.get() + ops.len());
            Ok(())
        });
    println!("model sequences: {cases}, operations: {}", operations.get());
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn kinds(shards: &[usize], ttl: impl Strategy<Value = Option<u64>>) -> impl Strategy<Value = Kind> {
    (select(shards.to_vec()), ttl).prop_map(|(shards, ttl)| Kind {
        eviction: Eviction::Lru,
        shards,
        ttl,
        fresh: None,
        max_weight: None,
        max_bytes: None,
        is_single_flight: true,
        has_listener: false,
    })
}

/// The kinds of cache, each with a bound by weight, by bytes, or by both.
fn weighed(kinds: impl Strategy<Value = Kind>) -> impl Strategy<Value = Kind> {
    let both = prop_oneof![
        bounds().prop_map(|weight| (Some(weight), None)),
        bounds().prop_map(|bytes| (None, Some(bytes))),
        (bounds(), bounds()).prop_map(|(weight, bytes)| (Some(weight), Some(bytes))),
    ];
    (kinds, both).prop_map(|(kind, (max_weight, max_bytes))| Kind { max_weight, max_bytes, ..kind })
}

#[test]
fn one_shard_is_the_model() {
    hold_against_the_model(kinds(&[1], Just(None)), Steps::Forward);
}

#[test]
fn one_shard_with_a_time_to_live_is_the_model() {
    hold_against_the_model(kinds(&[1], (0..=8_u64).prop_map(Some)), Steps::Forward);
}

#[test]
fn several_shards_are_the_model_each_by_itself_under_one_bound() {
    hold_against_the_model(kinds(&[2, 4], Just(None)), Steps::Forward);
}

#[test]
fn several_shards_with_a_time_to_live_are_the_model() {
    hold_against_the_model(kinds(&[2, 4], (0..=8_u64).prop_map(Some)), Steps::Forward);
}

#[test]
fn one_shard_is_the_model_on_a_clock_that_steps_back() {
    hold_against_the_model(kinds(&[1], (1..=8_u64).prop_map(Some)), Steps::BothWays);
}

#[test]
fn several_shards_are_the_model_on_a_clock_that_steps_back() {
    hold_against_the_model(kinds(&[2, 4], (1..=8_u64).prop_map(Some)), Steps::BothWays);
}

#[test]
fn one_shard_of_weighed_entries_is_the_model() {
    hold_against_the_model(weighed(kinds(&[1], Just(None))), Steps::Forward);
}

#[test]
fn one_shard_of_weighed_entries_with_a_time_to_live_is_the_model() {
    hold_against_the_model(weighed(kinds(&[1], (0..=8_u64).prop_map(Some))), Steps::Forward);
}

#[test]
fn several_shards_of_weighed_entries_are_the_model() {
    hold_against_the_model(weighed(kinds(&[2, 4], Just(None))), Steps::Forward);
}

#[test]
fn several_shards_of_weighed_entries_with_a_time_to_live_are_the_model() {
    hold_against_the_model(weighed(kinds(&[2, 4], (0..=8_u64).prop_map(Some))), Steps::Forward);
}

#[test]
fn what_was_seen_expired_makes_room_before_what_lives_although_the_clock_has_stepped_back() {
    let shard_of = shards_of_keys(2);
    let elsewhere = (1..KEYS).find(|key| shard_of[*key as usize] != shard_of[0]).unwrap();
    let ops = [
        Op::Insert(0, Way::Async),
        Op::Advance(1),
        Op::StepBack(1),
        Op::Insert(elsewhere, Way::Async),
    ];
    let kind = Kind {
        eviction: Eviction::Lru,
        shards: 2,
        ttl: Some(1),
        fresh: None,
        max_weight: None,
        max_bytes: None,
        is_single_flight: true,
        has_listener: true,
    };
    check(kind, 1, &ops);
}

#[test]
fn a_cache_without_single_flight_is_the_model() {
    let kinds = kinds(&[1, 2, 4], prop::option::of(0..=8_u64))
        .prop_map(|kind| Kind { is_single_flight: false, ..kind });
    hold_against_the_model(kinds, Steps::Forward);
}

/// The kinds of cache, each of which keeps its entries fresh.
fn fresh(kinds: impl Strategy<Value = Kind>) -> impl Strategy<Value = Kind> {
    let fresh = (0..=12_u64, 0..=6_u64).prop_map(Some);
    (kinds, fresh).prop_map(|(kind, fresh)| Kind { fresh, ..kind })
}

#[test]
fn one_shard_whose_entries_go_stale_is_the_model() {
    hold_against_the_model(fresh(kinds(&[1], Just(None))), Steps::Forward);
}

#[test]
fn one_shard_whose_entries_go_stale_and_expire_is_the_model() {
    hold_against_the_model(fresh(kinds(&[1], (1..=24_u64).prop_map(Some))), Steps::Forward);
}

#[test]
fn several_shards_of_weighed_entries_that_go_stale_and_expire_are_the_model() {
    let kinds = weighed(kinds(&[2, 4], prop::option::of(1..=24_u64)));
    hold_against_the_model(fresh(kinds), Steps::Forward);
}

#[test]
fn a_listener_hears_of_stale_entries_that_leave_the_model() {
    let kinds = heard(kinds(&[1, 4], prop::option::of(1..=24_u64)));
    hold_against_the_model(fresh(kinds), Steps::Forward);
}

/// The kinds of cache, each with a listener.
fn heard(kinds: impl Strategy<Value = Kind>) -> impl Strategy<Value = Kind> {
    kinds.prop_map(|kind| Kind { has_listener: true, ..kind })
}

/// Against (A29) of `docs/reliability.md`.
#[test]
fn a_listener_hears_of_what_leaves_the_model_once_in_its_order_and_with_its_cause() {
    hold_against_the_model(heard(kinds(&[1], prop::option::of(0..=8_u64))), Steps::Forward);
}

#[test]
fn a_listener_of_several_shards_hears_of_what_leaves_the_model() {
    hold_against_the_model(heard(kinds(&[2, 4], prop::option::of(0..=8_u64))), Steps::Forward);
}

#[test]
fn a_listener_hears_of_weighed_entries_that_leave_the_model() {
    let kinds = weighed(kinds(&[1], prop::option::of(0..=8_u64)));
    hold_against_the_model(heard(kinds), Steps::Forward);
}

#[test]
fn a_listener_hears_of_what_leaves_the_model_on_a_clock_that_steps_back() {
    let ttl = (1..=8_u64).prop_map(Some);
    hold_against_the_model(heard(kinds(&[1, 2, 4], ttl)), Steps::BothWays);
}

/// The kinds of cache, each with an order of eviction that adapts itself.
fn adaptive(kinds: impl Strategy<Value = Kind>) -> impl Strategy<Value = Kind> {
    kinds.prop_map(|kind| Kind { eviction: Eviction::Adaptive, ..kind })
}

#[test]
fn one_shard_with_an_adaptive_order_is_the_model_but_for_the_choice_of_victims() {
    hold_against_the_model(adaptive(kinds(&[1], Just(None))), Steps::Forward);
}

#[test]
fn several_shards_with_an_adaptive_order_are_the_model_on_a_clock_that_steps_back() {
    let ttl = (1..=8_u64).prop_map(Some);
    hold_against_the_model(adaptive(kinds(&[2, 4], ttl)), Steps::BothWays);
}

#[test]
fn a_listener_hears_of_weighed_entries_that_leave_an_adaptive_order_once_and_with_their_cause() {
    let kinds = weighed(heard(kinds(&[1, 4], prop::option::of(0..=8_u64))));
    hold_against_the_model(adaptive(kinds), Steps::Forward);
}

#[test]
fn stale_entries_in_an_adaptive_order_are_the_model_but_for_the_choice_of_victims() {
    let kinds = heard(kinds(&[1, 4], prop::option::of(1..=24_u64)));
    hold_against_the_model(fresh(adaptive(kinds)), Steps::Forward);
}

#[test]
fn equal_hashers_hash_equally() {
    // What `shards_of_keys` rests on.
    assert_eq!(Fixed::new().hash_one(7_u8), Fixed::new().hash_one(7_u8));
}
