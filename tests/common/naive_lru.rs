//! A cache as simple as it can be: a list of entries and one of loads, searched from end to end. The
//! real one is held against it.

#![allow(unreachable_pub, reason = "a module of one test file")]

use std::collections::HashMap;

use async_lru::RemovalCause;

use crate::forms::Form;

/// How a load of the test's goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Wait,
    Succeed,
    Fail,
}

/// What a call gives: the number of the call whose load made the value or the error.
pub type Answer = Result<u32, u32>;

/// What a cache is built with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub maxsize: usize,
    /// `None` if entries are not weighed; otherwise they weigh as [`weight`] says.
    pub max_weight: Option<u64>,
    pub ttl: Option<u64>,
    pub is_single_flight: bool,
    /// Which shard each key lives in.
    pub shard_of: Vec<usize>,
}

/// What the statistics must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub coalesced: u64,
    pub loads: u64,
    pub load_failures: u64,
    pub evictions: u64,
    /// Entries whose time was over, whether they are freed or still lie about.
    pub expired: u64,
}

/// What an entry of this value weighs: often little, sometimes nothing, now and then more than fits.
pub fn weight(value: u32) -> u64 {
    match value % 16 {
        13 => 0,
        14 => 9,
        15 => u64::MAX,
        little => u64::from(little / 4) + 1,
    }
}

/// A live entry.
#[derive(Clone, Debug)]
struct Entry {
    key: u8,
    value: u32,
    expiry: Option<Expiry>,
}

/// When an entry is gone. Where the clock has stepped back the cache may go by the latest time it has
/// seen or by what the clock says now, so between the two the entry may be there or not.
#[derive(Clone, Copy, Debug)]
struct Expiry {
    earliest: u64,
    latest: u64,
}

/// How a load ended, for those that wait for it.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Value(u32),
    SharedError(u32),
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// Nobody joins it, since the cache was built without single flight.
    Private,
    /// A later write has won.
    Fenced,
}

#[derive(Clone, Debug)]
struct Flight {
    key: u8,
    standing: Standing,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    New,
    /// Has been counted, and looks once more after a load that came to nothing.
    Again,
    Leads(usize),
    Waits(usize),
}

/// A call that has begun.
#[derive(Clone, Debug)]
pub struct Call {
    pub key: u8,
    pub form: Form,
    pub number: u32,
    pub plan: Plan,
    state: State,
}

impl Call {
    pub fn new(key: u8, form: Form, number: u32, plan: Plan) -> Self {
        Self { key, form, number, plan, state: State::New }
    }
}

/// What may make a cache too full.
#[derive(Clone, Copy, Debug)]
enum Crowding {
    /// A put of this key.
    Put(u8),
    /// A bound that has come down.
    Bound,
}

/// The model.
#[derive(Debug)]
pub struct NaiveLru {
    settings: Settings,
    now: u64,
    /// The latest time that the clock has shown.
    latest: u64,
    /// Live entries, least recently used first.
    entries: Vec<Entry>,
    /// All flights there ever were.
    flights: Vec<Flight>,
    /// What made the cache too full, so that the victims are still to be found out.
    crowding: Option<Crowding>,
    pub counts: Counts,
    /// What has left since it was looked at, with its value and why; of what has expired, only that it
    /// has, for the cache frees it when it likes.
    pub left: Vec<(u8, u32, RemovalCause)>,
}

impl NaiveLru {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            latest: 0,
            entries: Vec::new(),
            flights: Vec::new(),
            crowding: None,
            counts: Counts::default(),
            left: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn peek(&self, key: u8) -> Option<u32> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    pub fn get(&mut self, key: u8) -> Option<u32> {
        let value = self.use_entry(key);
        *(if value.is_some() { &mut self.counts.hits } else { &mut self.counts.misses }) += 1;
        value
    }

    pub fn insert(&mut self, key: u8, value: u32) -> Option<u32> {
        self.fence(key);
        self.put(key, value)
    }

    pub fn remove(&mut self, key: u8) -> Option<u32> {
        self.fence(key);
        self.let_go(key, RemovalCause::Removed).map(|entry| entry.value)
    }

    pub fn invalidate(&mut self, key: u8) -> bool {
        // Both, whatever comes of the first.
        let was_in_flight = self.fence(key);
        self.let_go(key, RemovalCause::Removed).is_some() || was_in_flight
    }

    pub fn clear(&mut self) {
        for key in self.keys() {
            self.let_go(key, RemovalCause::Cleared);
        }
        for flight in &mut self.flights {
            flight.standing = Standing::Fenced;
        }
        self.reset_stats(0);
    }

    /// Starts counting anew, with `lying_about` expired entries that are not freed yet.
    pub fn reset_stats(&mut self, lying_about: u64) {
        self.counts = Counts { expired: lying_about, ..Counts::default() };
    }

    pub fn set_maxsize(&mut self, maxsize: usize) {
        self.settings.maxsize = maxsize;
        self.crowding = Some(Crowding::Bound);
    }

    pub fn set_max_weight(&mut self, weight: u64) {
        // Of no effect where nothing is weighed.
        self.settings.max_weight = self.settings.max_weight.map(|_| weight);
        self.crowding = Some(Crowding::Bound);
    }

    pub fn set_clock(&mut self, now: u64) {
        self.now = now;
        self.latest = self.latest.max(now);
    }

    /// Polls a call once.
    pub fn poll(&mut self, call: &mut Call) -> Option<Answer> {
        loop {
            match call.state {
                State::New | State::Again => {
                    if let Some(value) = self.use_entry(call.key) {
                        self.counts.hits += u64::from(matches!(call.state, State::New));
                        return Some(Ok(value));
                    }
                    self.board(call);
                }
                State::Leads(flight) => return self.load(flight, call),
                State::Waits(flight) => match self.flights[flight].outcome? {
                    Outcome::Value(value) => return Some(Ok(value)),
                    Outcome::SharedError(error) if call.form.shares_errors() => {
                        return Some(Err(error));
                    }
                    Outcome::SharedError(_) | Outcome::Abandoned => call.state = State::Again,
                },
            }
        }
    }

    /// Drops a call that has not ended.
    pub fn cancel(&mut self, call: &Call) {
        if let State::Leads(flight) = call.state {
            self.counts.load_failures += 1;
            self.flights[flight].outcome = Some(Outcome::Abandoned);
        }
    }

    /// Finds out, from the keys that the cache still has, what is left to it: which shard gives up its
    /// oldest entry, and the time after the clock has stepped back.
    pub fn observe(&mut self, left: &[u8]) {
        if let Some(crowding) = self.crowding.take() {
            self.make_room(crowding, left);
        }
        let now = self.now;
        let is_over = |entry: &&Entry| match entry.expiry {
            Some(expiry) if now >= expiry.latest => true,
            Some(expiry) if now >= expiry.earliest => !left.contains(&entry.key),
            _ => false,
        };
        let over: Vec<u8> = self.entries.iter().filter(is_over).map(|entry| entry.key).collect();
        for key in over {
            self.let_go(key, RemovalCause::Expired);
            self.counts.expired += 1;
        }
    }

    /// The keys as the cache lists them: shard by shard, each in the order of use.
    pub fn keys(&self) -> Vec<u8> {
        let mut keys: Vec<u8> = self.entries.iter().map(|entry| entry.key).collect();
        keys.sort_by_key(|key| self.shard(*key));
        keys
    }

    pub fn shard(&self, key: u8) -> usize {
        self.settings.shard_of[key as usize]
    }

    fn take(&mut self, key: u8) -> Option<Entry> {
        let place = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(place))
    }

    /// Takes the entry of `key` out and notes why.
    fn let_go(&mut self, key: u8, cause: RemovalCause) -> Option<Entry> {
        let entry = self.take(key)?;
        self.left.push((key, entry.value, cause));
        Some(entry)
    }

    /// Returns the value of `key`, which is now the one most recently used.
    fn use_entry(&mut self, key: u8) -> Option<u32> {
        let entry = self.take(key)?;
        let value = entry.value;
        self.entries.push(entry);
        Some(value)
    }

    /// Puts an entry; returns the value that it replaces.
    fn put(&mut self, key: u8, value: u32) -> Option<u32> {
        let Settings { maxsize, max_weight, ttl, .. } = self.settings;
        let old = self.let_go(key, RemovalCause::Replaced).map(|entry| entry.value);
        let is_too_heavy = max_weight.is_some_and(|max| weight(value) > max);
        if maxsize == 0 || ttl == Some(0) || is_too_heavy {
            self.left.push((key, value, RemovalCause::Rejected));
            return old;
        }
        self.crowding = Some(Crowding::Put(key));
        let expiry = ttl.map(|ttl| Expiry { earliest: self.now + ttl, latest: self.latest + ttl });
        self.entries.push(Entry { key, value, expiry });
        old
    }

    fn is_too_full(&self) -> bool {
        self.are_too_many(&self.entries)
    }

    fn are_too_many(&self, entries: &[Entry]) -> bool {
        let Settings { maxsize, max_weight, .. } = self.settings;
        let weights = entries.iter().map(|entry| u128::from(weight(entry.value)));
        let are_too_heavy = max_weight.is_some_and(|max| weights.sum::<u128>() > max.into());
        entries.len() > maxsize || are_too_heavy
    }

    /// Removes victims until there is room, and none without need.
    fn make_room(&mut self, crowding: Crowding, left: &[u8]) {
        // One of each shard, evicted after its others.
        let mut last_victims = HashMap::new();
        while self.is_too_full() {
            let victim = self.evict(crowding, left);
            last_victims.insert(self.shard(victim.key), victim);
        }
        if self.settings.max_weight.is_none() {
            return;
        }
        // The order among shards is the cache's to choose, so others may have gone before the last of
        // those: but one was the last, without which there was no room yet.
        while self.find_victim(crowding, left).is_some() {
            let victim = self.evict(crowding, left);
            last_victims.insert(self.shard(victim.key), victim);
        }
        let was_needed = |victim: &Entry| {
            let mut with_it = self.entries.clone();
            with_it.push(victim.clone());
            self.are_too_many(&with_it)
        };
        assert!(last_victims.is_empty() || last_victims.values().any(was_needed), "one too many");
    }

    /// Removes a victim: of a put, the oldest of its shard or, if that has no other, the oldest of any
    /// shard, which only the cache can choose, as it can where a bound has come down.
    fn evict(&mut self, crowding: Crowding, left: &[u8]) -> Entry {
        let victim = self.find_victim(crowding, left);
        let victim = victim.unwrap_or_else(|| panic!("{crowding:?}: another had to go: {left:?}"));
        self.counts.evictions += 1;
        self.let_go(victim, RemovalCause::Capacity).expect("a victim is an entry")
    }

    /// The next victim, which is gone from the cache.
    fn find_victim(&self, crowding: Crowding, left: &[u8]) -> Option<u8> {
        let put = match crowding {
            Crowding::Put(key) => Some(key),
            Crowding::Bound => None,
        };
        let others =
            || self.entries.iter().map(|entry| entry.key).filter(|other| Some(*other) != put);
        let oldest_own =
            put.and_then(|key| others().find(|other| self.shard(*other) == self.shard(key)));
        let is_oldest = |candidate: &u8| {
            others().find(|other| self.shard(*other) == self.shard(*candidate)) == Some(*candidate)
        };
        let mut candidates = match oldest_own {
            Some(oldest) => vec![oldest],
            None => others().filter(is_oldest).collect(),
        };
        candidates.retain(|candidate| !left.contains(candidate));
        candidates.first().copied()
    }

    /// Keeps the loads of `key` out of the cache; says whether there was one.
    fn fence(&mut self, key: u8) -> bool {
        let mut found = false;
        for flight in &mut self.flights {
            let is_in_flight = flight.outcome.is_none() && flight.standing != Standing::Fenced;
            if flight.key == key && is_in_flight {
                flight.standing = Standing::Fenced;
                found = true;
            }
        }
        found
    }

    /// Joins the open flight of the call's key, or starts one.
    fn board(&mut self, call: &mut Call) {
        let is_new = u64::from(matches!(call.state, State::New));
        let is_open = |flight: &Flight| {
            let joinable = flight.standing == Standing::Open && flight.outcome.is_none();
            joinable && flight.key == call.key
        };
        if let Some(flight) = self.flights.iter().position(is_open) {
            self.counts.coalesced += is_new;
            call.state = State::Waits(flight);
            return;
        }
        self.counts.misses += is_new;
        self.counts.loads += 1;
        let standing =
            if self.settings.is_single_flight { Standing::Open } else { Standing::Private };
        self.flights.push(Flight { key: call.key, standing, outcome: None });
        call.state = State::Leads(self.flights.len() - 1);
    }

    /// Polls the load of a call.
    fn load(&mut self, flight: usize, call: &Call) -> Option<Answer> {
        let (answer, outcome) = match call.plan {
            Plan::Wait => return None,
            Plan::Succeed => (Ok(call.number), Outcome::Value(call.number)),
            Plan::Fail if call.form.shares_errors() => {
                (Err(call.number), Outcome::SharedError(call.number))
            }
            Plan::Fail => (Err(call.number), Outcome::Abandoned),
        };
        self.flights[flight].outcome = Some(outcome);
        if answer.is_err() {
            self.counts.load_failures += 1;
        } else if self.flights[flight].standing == Standing::Fenced {
            self.left.push((call.key, call.number, RemovalCause::Rejected));
        } else {
            self.put(call.key, call.number);
        }
        Some(answer)
    }
}
