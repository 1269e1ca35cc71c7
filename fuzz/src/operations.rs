//! Operations one after another, against a model that does everything the slow and simple way.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::time::Duration;

use async_lru::{AsyncLru, Eviction, Lookup, LookupOutcome, ManualClock, Saved, Update};
use futures_lite::future::{block_on, poll_once};

use super::bytes::Bytes;
use super::census::{Census, Key, Value, numbers};

const KEYS: usize = 12;

/// Runs the operations that `input` stands for.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let census = Census::default();
    let clock = ManualClock::new();
    let maxsize = bytes.below(9);
    let shards = bytes.pick(&[1, 1, 1, 2, 4, 8]);
    let rules = Rules {
        ttl: bytes.pick(&[None, None, Some(0), Some(1), Some(3), Some(20)]),
        idle: bytes.pick(&[None, None, None, None, Some(0), Some(4), Some(30)]),
        of_entry: bytes.pick(&[None, None, Some(lifetime as fn(u32) -> _)]),
    };
    let mut builder = AsyncLru::builder().maxsize(maxsize).shards(shards).clock(clock.clone());
    if let Some(ttl) = rules.ttl {
        builder = builder.ttl(Duration::from_nanos(ttl));
    }
    if let Some(idle) = rules.idle {
        builder = builder.time_to_idle(Duration::from_nanos(idle));
    }
    if let Some(of_entry) = rules.of_entry {
        builder = builder
            .expiry(move |_, value: &Value| of_entry(value.number).map(Duration::from_nanos));
    }
    let (is_measured, eviction) = bytes.bit_and_eviction();
    builder = builder.eviction(eviction);
    if is_measured {
        builder = builder.measure_with(|_, value: &Value| value.number as usize);
    }
    let model = Model { maxsize, eviction, rules, ..Model::default() };
    let mut run = Run { cache: builder.build(), shards, clock, census: census.clone(), model };
    let mut number = 0;
    while !bytes.is_empty() {
        number += 1;
        run.step(&mut bytes, number);
        run.check();
    }
    drop(run);
    census.assert_only(0);
}

/// How long an entry lives that has this value, where the cache asks: for no time, a short one, one that
/// takes many steps to find, or for ever.
fn lifetime(value: u32) -> Option<u64> {
    [None, Some(2), None, Some(15), Some(0), Some(100_000), Some(5_000)][value as usize % 7]
}

/// What entries live by.
#[derive(Clone, Copy, Default)]
struct Rules {
    ttl: Option<u64>,
    idle: Option<u64>,
    of_entry: Option<fn(u32) -> Option<u64>>,
}

impl Rules {
    /// How long an entry lives, used or not, that may have a lifetime of its `own`.
    fn lifetime(self, value: u32, own: Option<u64>) -> Option<u64> {
        own.or(self.of_entry.and_then(|of_entry| of_entry(value))).or(self.ttl)
    }
}

/// A live entry of the model.
struct Entry {
    key: u8,
    value: u32,
    deadline: Option<u64>,
    idle_deadline: Option<u64>,
    /// Whether the deadline is that of a lifetime of its own.
    is_own: bool,
}

/// An entry of an earlier cache.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Copied {
    key: u8,
    value: u32,
    time_left: Option<u64>,
    idle_left: Option<u64>,
    is_own: bool,
}

impl Copied {
    fn of(saved: &Saved<Key, Value>) -> Self {
        let nanos = |left: Option<Duration>| left.map(|left| left.as_nanos() as u64);
        Self {
            key: saved.key.number,
            value: saved.value.number,
            time_left: nanos(saved.time_left),
            idle_left: nanos(saved.idle_left),
            is_own: saved.own_lifetime,
        }
    }
}

impl Entry {
    fn soonest(&self) -> Option<u64> {
        self.deadline.into_iter().chain(self.idle_deadline).min()
    }
}

/// What the cache has to be like. What has expired is gone at once.
#[derive(Default)]
struct Model {
    maxsize: usize,
    eviction: Eviction,
    rules: Rules,
    now: u64,
    /// Least recently used first.
    entries: Vec<Entry>,
    hits: u64,
    misses: u64,
    loads: u64,
    load_failures: u64,
    evictions: u64,
    /// Entries that came to a key which had none.
    came: u64,
    removed: u64,
    /// Evictions and expirations that the cache had counted when its order was last compared.
    departed: u64,
}

impl Model {
    fn find(&self, key: u8) -> Option<u32> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    fn take(&mut self, key: u8) -> Option<u32> {
        let place = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(place).value)
    }

    /// A use.
    fn touch(&mut self, key: u8) -> Option<u32> {
        let place = self.entries.iter().position(|entry| entry.key == key)?;
        self.entries[place].idle_deadline = self.rules.idle.map(|idle| self.now + idle);
        self.entries[place..].rotate_left(1);
        self.find(key)
    }

    /// A use, counted.
    fn get(&mut self, key: u8) -> Option<u32> {
        let found = self.touch(key);
        self.hits += u64::from(found.is_some());
        self.misses += u64::from(found.is_none());
        found
    }

    /// Puts an entry that may have a lifetime of its `own`, and returns the value that it replaces. There
    /// may be one too many then.
    fn put(&mut self, key: u8, value: u32, own: Option<u64>) -> Option<u32> {
        let lifetime = self.rules.lifetime(value, own);
        let deadline = lifetime.map(|lifetime| self.now + lifetime);
        let idle_deadline = self.rules.idle.map(|idle| self.now + idle);
        self.place(Entry { key, value, deadline, idle_deadline, is_own: own.is_some() })
    }

    fn place(&mut self, entry: Entry) -> Option<u32> {
        let is_over = entry.soonest().is_some_and(|deadline| deadline <= self.now);
        if self.maxsize == 0 || is_over {
            return self.remove(entry.key);
        }
        let old = self.take(entry.key);
        self.came += u64::from(old.is_none());
        self.entries.push(entry);
        old
    }

    /// Lets an entry live for so long from now on, which is no use of it.
    fn set_ttl(&mut self, key: u8, ttl: u64) -> bool {
        let deadline = self.now + ttl;
        let found = self.entries.iter_mut().find(|entry| entry.key == key);
        let is_there = found.map(|entry| (entry.deadline, entry.is_own) = (Some(deadline), true));
        self.wait(0);
        is_there.is_some()
    }

    /// Lets no entry live longer than so long from now on; returns how many end sooner by it.
    fn limit_ttl(&mut self, ttl: u64) -> usize {
        let limit = self.now + ttl;
        let ends_later =
            |entry: &&mut Entry| entry.deadline.is_none_or(|deadline| deadline > limit);
        let limited = self.entries.iter_mut().filter(ends_later);
        let count =
            limited.map(|entry| (entry.deadline, entry.is_own) = (Some(limit), true)).count();
        self.wait(0);
        count
    }

    /// A load, counted; returns what the call has to answer.
    fn load(&mut self, key: u8, value: u32) -> u32 {
        self.load_for(key, value, None)
    }

    /// The same, of a value that may have a lifetime of its `own`.
    fn load_for(&mut self, key: u8, value: u32, own: Option<u64>) -> u32 {
        if let Some(value) = self.get(key) {
            return value;
        }
        self.loads += 1;
        self.put(key, value, own);
        value
    }

    /// A load that fails, counted.
    fn fail(&mut self, key: u8) -> Option<u32> {
        let found = self.get(key);
        let failed = u64::from(found.is_none());
        self.loads += failed;
        self.load_failures += failed;
        found
    }

    /// A call for many keys, of which the load brings those that it does not leave `out`, with a lifetime
    /// of their `own` or none. Returns the values and where they come from; `None` for what is left out.
    fn load_many(
        &mut self,
        keys: &[u8],
        out: Option<u8>,
        value: u32,
        own: Option<u64>,
    ) -> Vec<Option<(u32, LookupOutcome)>> {
        let hit = |key: &u8| self.get(*key).map(|value| (value, LookupOutcome::Hit));
        let mut answers: Vec<_> = keys.iter().map(hit).collect();
        self.loads += u64::from(answers.contains(&None));
        for (key, answer) in keys.iter().zip(&mut answers) {
            if answer.is_none() && Some(*key) != out {
                self.put(*key, value, own);
                *answer = Some((value, LookupOutcome::Loaded));
            }
        }
        answers
    }

    /// An update; returns what it leaves.
    fn update(&mut self, key: u8, change: Update<u32>) -> Option<u32> {
        let old = self.touch(key);
        match change {
            Update::Put(value) => {
                let found = self.entries.iter().find(|entry| entry.key == key && entry.is_own);
                match found.map(|entry| (entry.deadline, entry.idle_deadline)) {
                    Some((deadline, idle_deadline)) => {
                        self.place(Entry { key, value, deadline, idle_deadline, is_own: true })
                    }
                    None => self.put(key, value, None),
                };
                Some(value)
            }
            Update::PutFor(value, ttl) => {
                self.put(key, value, Some(ttl.as_nanos() as u64));
                Some(value)
            }
            Update::Keep => old,
            Update::Remove => {
                self.remove(key);
                None
            }
        }
    }

    /// Takes in entries of an earlier cache; returns how many.
    fn restore(&mut self, copies: &[Copied]) -> usize {
        let mut room = self.maxsize - self.entries.len();
        let mut coming = Vec::new();
        for copy in copies.iter().rev() {
            let Copied { key, value, time_left, idle_left, is_own } = *copy;
            let longest = self.rules.lifetime(value, None).filter(|_| !is_own);
            let left = time_left.into_iter().chain(longest).min();
            let idle = self.rules.idle.map(|idle| idle.min(idle_left.unwrap_or(idle)));
            let has_time = ![left, idle, idle_left].contains(&Some(0));
            if room > 0 && has_time && self.find(key).is_none() {
                room -= 1;
                let (deadline, idle_deadline) =
                    (left.map(|left| self.now + left), idle.map(|idle| self.now + idle));
                coming.push(Entry { key, value, deadline, idle_deadline, is_own });
            }
        }
        let restored = coming.len();
        for entry in coming.into_iter().rev() {
            self.place(entry);
        }
        restored
    }

    fn remove(&mut self, key: u8) -> Option<u32> {
        let value = self.take(key);
        self.removed += u64::from(value.is_some());
        value
    }

    fn remove_if(&mut self, is_chosen: impl Fn(u8, u32) -> bool) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| !is_chosen(entry.key, entry.value));
        let removed = before - self.entries.len();
        self.removed += removed as u64;
        removed
    }

    fn wait(&mut self, time: u64) {
        self.now += time;
        let now = self.now;
        self.entries.retain(|entry| entry.soonest().is_none_or(|deadline| deadline > now));
    }

    fn clear(&mut self) {
        let Self { maxsize, eviction, rules, now, .. } = *self;
        *self = Self { maxsize, eviction, rules, now, ..Self::default() };
    }

    /// Counts anew; of the entries that came, only those that are `there` still count.
    fn reset_counts(&mut self, there: usize) {
        let entries = std::mem::take(&mut self.entries);
        self.clear();
        self.entries = entries;
        self.came = there as u64;
    }

    /// Makes room as the cache has done, which has only `left`. With one shard it has no choice, unless its
    /// order of eviction adapts.
    fn evict(&mut self, left: &[u8], shards: usize) {
        while self.entries.len() > self.maxsize {
            let newest = self.entries.len() - 1;
            let gone = self.entries.iter().position(|entry| !left.contains(&entry.key));
            let victim = gone.expect("a full cache has kept everything");
            assert!(victim < newest, "the entry that came was the victim");
            let may_choose = shards > 1 || self.eviction == Eviction::Adaptive;
            assert!(may_choose || victim == 0, "the victim was not the least recently used");
            self.entries.remove(victim);
            self.evictions += 1;
        }
    }
}

struct Run {
    cache: AsyncLru<Key, Value>,
    shards: usize,
    clock: ManualClock,
    census: Census,
    model: Model,
}

impl Run {
    fn step(&mut self, bytes: &mut Bytes<'_>, number: u32) {
        let Self { cache, clock, census, model, .. } = self;
        let kind = bytes.below(24);
        let at = bytes.below(KEYS) as u8;
        let key = || census.key(at);
        let value = || census.value(number);
        let load = async || value();
        let fails = async || Err::<Value, _>(number);
        match kind {
            0 | 1 => assert_eq!(numbers(cache.get(&key())), model.get(at)),
            2 => assert_eq!(numbers(cache.peek(&key())), model.find(at)),
            3 => assert_eq!(cache.contains_key(&key()), model.find(at).is_some()),
            4 | 5 => {
                let old = block_on(cache.insert(key(), value()));
                assert_eq!(numbers(old), model.put(at, number, None));
            }
            6 if number % 3 == 0 => {
                block_on(cache.insert_many([(key(), value())]));
                model.put(at, number, None);
            }
            6 => {
                let old = cache.insert_blocking(key(), value());
                assert_eq!(numbers(old), model.put(at, number, None));
            }
            7 => assert_eq!(numbers(block_on(cache.remove(&key()))), model.remove(at)),
            8 => assert_eq!(numbers(cache.remove_blocking(&key())), model.remove(at)),
            9 if number % 3 > 0 => {
                let guarded = key();
                let writing = cache.writing(&guarded);
                assert!(!cache.contains_key(&guarded));
                model.remove(at);
                if number % 3 == 1 {
                    block_on(writing.insert(value()));
                    model.put(at, number, None);
                }
            }
            9 => assert_eq!(cache.invalidate_blocking(&key()), model.remove(at).is_some()),
            10 => {
                let loaded = block_on(cache.get_or_insert_with(key(), load));
                assert_eq!(loaded.number, model.load(at, number));
            }
            11 => {
                let loaded = block_on(cache.get_or_insert_with_ref(&key(), load));
                assert_eq!(loaded.number, model.load(at, number));
            }
            12 => {
                let load = async || Ok::<_, u32>(value());
                let loaded = block_on(cache.entry(key()).or_try_insert_own(load));
                let loaded = loaded.map(|lookup| lookup.value.number);
                assert_eq!(loaded, Ok(model.load(at, number)));
            }
            13 => {
                let failed = block_on(cache.entry_ref(&key()).or_try_insert_own(fails));
                let found = failed.map(|lookup| lookup.value.number);
                assert_eq!(found, model.fail(at).ok_or(number));
            }
            14 => {
                let failed = block_on(cache.try_get_or_insert_with(key(), fails));
                let found = failed.map(|value| value.number).map_err(|error| *error);
                assert_eq!(found, model.fail(at).ok_or(number));
            }
            15 => {
                block_on(cache.purge_expired());
                assert_eq!(cache.len(), model.entries.len());
            }
            16 => {
                // Sometimes so far that entries have to be searched.
                let time = u64::from(at) * [1, 1, 700][number as usize % 3];
                clock.advance(Duration::from_nanos(time));
                model.wait(time);
            }
            17 if at == 0 => {
                cache.clear_blocking();
                model.clear();
            }
            17 => {
                cache.reset_stats();
                model.reset_counts(cache.len());
            }
            18 => {
                let time = [0, 1, 6, 40, 3_000, 200_000][number as usize % 6];
                let ttl = Duration::from_nanos(time);
                if number / 6 % 2 == 1 && at == 0 {
                    assert_eq!(block_on(cache.limit_ttl(ttl)), model.limit_ttl(time));
                    return;
                }
                if number / 6 % 2 == 1 {
                    let is_there = block_on(cache.set_ttl(&key(), ttl));
                    assert_eq!(is_there, model.set_ttl(at, time));
                    return;
                }
                let old = block_on(cache.insert_with_ttl(key(), value(), ttl));
                assert_eq!(numbers(old), model.put(at, number, Some(time)));
            }
            _ => self.newer_step(kind, at, number),
        }
    }

    /// Calls that came in later, several of each kind.
    fn newer_step(&mut self, kind: usize, at: u8, number: u32) {
        let Self { cache, census, model, .. } = self;
        let key = || census.key(at);
        match (kind, number % 3) {
            (19, 0) => {
                let value = census.value(number);
                let loaded = cache.entry(key()).detached().or_insert_with(|| async { value });
                assert_eq!(block_on(loaded).value.number, model.load(at, number));
            }
            (19, 1) => {
                let fails = || async move { Err(number) };
                let call = cache.entry(key()).detached();
                let failed = match number / 3 % 2 {
                    0 => block_on(call.or_try_insert_with(fails)).map_err(|error| *error),
                    _ => block_on(call.or_try_insert_own(fails)),
                };
                let found = failed.map(|lookup| lookup.value.number);
                assert_eq!(found, model.fail(at).ok_or(number));
            }
            (19, _) => {
                let hits = model.hits;
                let own = [None, Some(2), Some(50)][number as usize / 3 % 3];
                let call = cache.entry(key());
                let load = async || census.value(number);
                let lookup = block_on(match own {
                    Some(own) => call.ttl(Duration::from_nanos(own)).or_insert_with(load),
                    None => call.or_insert_with(load),
                });
                assert_eq!(lookup.value.number, model.load_for(at, number, own));
                let is_hit = model.hits > hits;
                let outcomes = [LookupOutcome::Loaded, LookupOutcome::Hit];
                assert_eq!(lookup.outcome, outcomes[usize::from(is_hit)]);
            }
            (20, kind) => self.many(kind, at, number),
            (21, 0) => {
                let update = async |_| Err::<Update<Value>, _>(number);
                let failed = block_on(cache.try_update_with(key(), update));
                assert_eq!(failed.err(), Some(number));
                model.touch(at);
            }
            (21, _) => {
                let ttl = Duration::from_nanos([0, 2, 50, 5_000][number as usize / 12 % 4]);
                let put_for = Update::PutFor(number, ttl);
                let changes = [Update::Put(number), put_for, Update::Keep, Update::Remove];
                let change = changes[number as usize / 3 % 4];
                let found = model.find(at);
                let left = block_on(cache.update_with(key(), async |old| {
                    assert_eq!(numbers(old), found);
                    match change {
                        Update::Put(number) => Update::Put(census.value(number)),
                        Update::PutFor(number, ttl) => Update::PutFor(census.value(number), ttl),
                        Update::Keep => Update::Keep,
                        Update::Remove => Update::Remove,
                    }
                }));
                assert_eq!(numbers(left), model.update(at, change));
            }
            (22, 0) => {
                if number % 2 == 0 {
                    let is_chosen = |key: u8| key % 3 == at % 3;
                    let removed = block_on(cache.invalidate_keys_if(|key| is_chosen(key.number)));
                    assert_eq!(removed, model.remove_if(|key, _| is_chosen(key)));
                    return;
                }
                let is_chosen = move |key: u8, value: u32| key % 3 == at % 3 || value % 5 == 0;
                let choose = move |key: &Key, value: &Value| is_chosen(key.number, value.number);
                let removed = block_on(cache.invalidate_if(choose));
                assert_eq!(removed, model.remove_if(is_chosen));
            }
            (22, 1) => {
                let left = |deadline| Duration::from_nanos(deadline - model.now);
                let expected = model.entries.iter().find(|entry| entry.key == at);
                let expected = expected.map(|entry| entry.soonest().map_or(Duration::MAX, left));
                assert_eq!(cache.time_left(&key()), expected);
            }
            (22, _) => {
                // Frees all that has expired, and then waits for more.
                assert!(block_on(poll_once(cache.janitor(|_| pending::<()>()))).is_none());
                assert_eq!(cache.len(), model.entries.len());
            }
            (_, 0) => self.warm_start(),
            _ => {
                let entry = |more: u8| {
                    let times = [None, Some(0), Some(9), Some(60)];
                    let left = times[(number + u32::from(more)) as usize % 4];
                    let key = census.key((at + more) % KEYS as u8);
                    Saved::from((key, census.value(number), left.map(Duration::from_nanos)))
                };
                let entries = [0, 1, 2, 3].map(entry);
                let copies = entries.each_ref().map(Copied::of);
                assert_eq!(block_on(cache.restore(entries)), model.restore(&copies));
            }
        }
    }

    /// A call for four keys, one of them twice.
    fn many(&mut self, kind: u32, at: u8, number: u32) {
        let Self { cache, census, model, .. } = self;
        let keys = [0, 1, 5, 2].map(|more| (at + more) % KEYS as u8);
        let asked = || keys.iter().chain(&keys[..1]).map(|key| census.key(*key));
        if kind == 2 {
            let asked: Vec<Key> = asked().collect();
            let found: Vec<Option<u32>> = cache.get_many(&asked).into_iter().map(numbers).collect();
            let expected = asked.iter().map(|key| model.get(key.number));
            assert_eq!(found, expected.collect::<Vec<_>>());
            return;
        }
        let out = (kind == 0).then_some(keys[1]);
        let bring = |missing: Vec<Key>| {
            let kept = missing.into_iter().filter(|key| Some(key.number) != out);
            kept.map(|key| (key, census.value(number))).collect::<Vec<_>>()
        };
        let form = number / 3 % 3;
        let own = match form {
            0 => None,
            _ => [None, Some(2), Some(50)][number as usize / 9 % 3],
        };
        let expected = model.load_many(&keys, out, number, own);
        let expected: Vec<_> =
            keys.into_iter().zip(expected).cycle().take(keys.len() + 1).collect();
        if form == 0 {
            let load = async |missing| Ok::<_, Infallible>(bring(missing));
            let answers = block_on(cache.try_get_or_insert_many(asked(), load)).unwrap();
            let answers = answers.into_iter().map(|(key, value)| (key.number, numbers(value)));
            let number = |told: Option<(u32, _)>| told.map(|(number, _)| number);
            let expected = expected.into_iter().map(|(key, told)| (key, number(told)));
            assert_eq!(answers.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            return;
        }
        let mut call = cache.entries(asked());
        if let Some(own) = own {
            call = call.ttl(Duration::from_nanos(own));
        }
        let answers = block_on(async {
            if form == 1 {
                return call.or_insert_with(async |missing| bring(missing)).await;
            }
            let load = |missing| ready(bring(missing));
            call.detached().or_insert_with(load).await
        });
        let told = |lookup: Lookup<Value>| (lookup.value.number, lookup.outcome);
        let answers = answers.into_iter().map(|(key, lookup)| (key.number, lookup.map(told)));
        assert_eq!(answers.collect::<Vec<_>>(), expected);
    }

    /// Empties the cache and fills it with what was there.
    fn warm_start(&mut self) {
        let Self { cache, shards, model, .. } = self;
        let copies = cache.snapshot_with_ttl();
        let copied: Vec<Copied> = copies.iter().map(Copied::of).collect();
        let left = |deadline: Option<u64>| deadline.map(|deadline| deadline - model.now);
        let copy = |entry: &Entry| Copied {
            key: entry.key,
            value: entry.value,
            time_left: left(entry.deadline),
            idle_left: left(entry.idle_deadline),
            is_own: entry.is_own,
        };
        let mut expected: Vec<Copied> = model.entries.iter().map(copy).collect();
        if *shards > 1 {
            expected.sort_by_key(|of| copied.iter().position(|copied| copied.key == of.key));
        }
        assert_eq!(copied, expected);
        cache.clear_blocking();
        model.clear();
        assert_eq!(cache.restore_blocking(copies), model.restore(&copied));
        assert_eq!(cache.len(), copied.len());
    }

    fn check(&mut self) {
        let Self { cache, shards, census, model, .. } = self;
        assert_eq!(cache.validate(), 0);
        let keys: Vec<u8> = cache.keys().iter().map(|key| key.number).collect();
        model.evict(&keys, *shards);
        let stats = cache.stats();
        let departed = stats.evictions + stats.expirations;
        if model.eviction == Eviction::Adaptive && departed != model.departed {
            // Whoever looks for a victim gives others another turn.
            model.entries.sort_by_key(|of| keys.iter().position(|key| *key == of.key));
        }
        model.departed = departed;
        let mut expected: Vec<u8> = model.entries.iter().map(|entry| entry.key).collect();
        if *shards > 1 {
            expected.sort_by_key(|key| keys.iter().position(|found| found == key));
        }
        assert_eq!(keys, expected);

        assert!(cache.len() <= model.maxsize);
        assert_eq!((stats.hits, stats.misses, stats.coalesced), (model.hits, model.misses, 0));
        assert_eq!((stats.loads, stats.load_failures), (model.loads, model.load_failures));
        assert_eq!(stats.evictions, model.evictions);
        let left = stats.evictions + stats.expirations + model.removed;
        assert_eq!(model.came, cache.len() as u64 + left);
        // Whatever has left was dropped before the call returned.
        census.assert_only(cache.len());
    }
}
