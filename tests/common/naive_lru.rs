//! A cache as simple as it can be: a list of entries and one of loads, searched from end to end. The
//! real one is held against it. Of a cache that adapts its order of eviction it knows how many have to
//! leave, and learns who has.

#![allow(unreachable_pub, reason = "a module of one test file")]

use async_lru::{Eviction, LookupOutcome, RemovalCause};

use crate::forms::Form;

/// How a load of the test's goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Wait,
    Succeed,
    Fail,
}

/// What a call gives: the number of the call whose load made the value, and where it came from, or the number
/// of the one whose load made the error.
pub type Answer = Result<(u32, LookupOutcome), u32>;

/// What a cache is built with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub maxsize: usize,
    pub eviction: Eviction,
    /// `None` if entries are not weighed; otherwise they weigh as [`weight`] says.
    pub max_weight: Option<u64>,
    /// `None` if the bytes of entries are not bounded; otherwise they have as many as [`bytes`] says.
    pub max_bytes: Option<u64>,
    pub ttl: Option<u64>,
    /// How long entries are fresh, and when a refresh that has failed is tried again.
    pub fresh: Option<(u64, u64)>,
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
    pub stale_hits: u64,
    pub refreshes: u64,
    pub refresh_failures: u64,
    pub evictions: u64,
    /// Entries whose time was over, whether they are freed or still lie about.
    pub expired: u64,
}

/// What an entry of this value weighs: often nothing, often little, now and then more than fits.
pub fn weight(value: u32) -> u64 {
    match value % 16 {
        0..6 => 0,
        14 => 9,
        15 => u64::MAX,
        little => u64::from(little / 4),
    }
}

/// How many bytes an entry of this value has, of which its weight tells nothing: none as often.
pub fn bytes(value: u32) -> u64 {
    weight(value / 16 + value * 5)
}

/// Whether the sweep of this number chooses an entry, by its key and its value.
pub fn is_chosen(sweep: u8, key: u8, value: u32) -> bool {
    key % 4 == sweep % 4 && value % 3 != 0 || value % 11 == u32::from(sweep)
}

/// Whether it does by the key alone.
pub fn is_key_chosen(sweep: u8, key: u8) -> bool {
    key % 5 == sweep % 5
}

/// What an update does.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Put,
    Keep,
    Remove,
}

/// A value that weighs nothing and has no bytes.
pub const NOTHING: u32 = 0;

/// What may be short, in the order in which the cache looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Entries,
    Weight,
    Bytes,
}

/// A live entry.
#[derive(Clone, Debug)]
struct Entry {
    key: u8,
    value: u32,
    expiry: Option<Expiry>,
    /// When it is stale.
    stale_at: Option<u64>,
    /// When it may be refreshed then, since an attempt at that has failed.
    refresh_at: u64,
}

impl Entry {
    /// Whether it makes room to evict it.
    fn helps(&self, short: Bound) -> bool {
        match short {
            Bound::Entries => true,
            Bound::Weight => weight(self.value) > 0,
            Bound::Bytes => bytes(self.value) > 0,
        }
    }

    fn may_be_over(&self, now: u64) -> bool {
        self.expiry.is_some_and(|expiry| now >= expiry.earliest)
    }
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
    /// Whether it is to renew an entry that was there when it began.
    is_refresh: bool,
    /// The sweeps that began since, as [`is_chosen`] takes them.
    sweeps: Vec<u8>,
}

impl Flight {
    fn is_open(&self) -> bool {
        self.standing == Standing::Open && self.outcome.is_none()
    }

    /// Whether its value is kept out of the cache.
    fn keeps_out(&self, value: u32) -> bool {
        let is_swept = self.sweeps.iter().any(|sweep| is_chosen(*sweep, self.key, value));
        self.standing == Standing::Fenced || is_swept
    }
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
    /// What a put replaces, which goes after the victims.
    replaced: Option<(u8, u32, RemovalCause)>,
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
            replaced: None,
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
        self.counts.stale_hits += u64::from(self.is_stale(key));
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

    /// Removes what the sweep chooses, and what it will choose of that which is in flight; returns how many
    /// entries that were.
    pub fn sweep(&mut self, sweep: u8) -> usize {
        for flight in self.flights.iter_mut().filter(|flight| flight.outcome.is_none()) {
            flight.sweeps.push(sweep);
        }
        self.remove_if(|key, value| is_chosen(sweep, key, value))
    }

    /// Removes what the sweep chooses by the key, loads in flight as well.
    pub fn sweep_keys(&mut self, sweep: u8) -> usize {
        for flight in &mut self.flights {
            if is_key_chosen(sweep, flight.key) {
                flight.standing = Standing::Fenced;
            }
        }
        self.remove_if(|key, _| is_key_chosen(sweep, key))
    }

    fn remove_if(&mut self, is_chosen: impl Fn(u8, u32) -> bool) -> usize {
        let chosen = self.entries.iter().filter(|entry| is_chosen(entry.key, entry.value));
        let chosen: Vec<u8> = chosen.map(|entry| entry.key).collect();
        for key in &chosen {
            self.let_go(*key, RemovalCause::Removed);
        }
        chosen.len()
    }

    /// Whether an update of `key` would have to wait for a load, which it does not for one that only renews
    /// what is there.
    pub fn is_joinable(&self, key: u8) -> bool {
        let is_there = self.peek(key).is_some();
        let is_waited_for = |flight: &Flight| flight.is_open() && !(is_there && flight.is_refresh);
        self.flights.iter().any(|flight| is_waited_for(flight) && flight.key == key)
    }

    /// Whether there is a live entry of `key` that is stale.
    fn is_stale(&self, key: u8) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.is_some_and(|entry| entry.stale_at.is_some_and(|stale_at| self.now >= stale_at))
    }

    /// Whether whoever finds the entry of `key` stale is to refresh it: nobody else does, and if one has failed
    /// that is long enough ago.
    fn is_due(&self, key: u8) -> bool {
        let is_refreshed = self.flights.iter().any(|flight| {
            let is_under_way = flight.outcome.is_none() && flight.standing != Standing::Fenced;
            flight.key == key && flight.is_refresh && is_under_way
        });
        let entry = self.entries.iter().find(|entry| entry.key == key);
        !is_refreshed && entry.is_some_and(|entry| self.now >= entry.refresh_at)
    }

    /// Takes note that a refresh has failed; returns the value that is there all the same.
    fn fail_refresh(&mut self, flight: usize) -> Option<u32> {
        self.counts.refresh_failures += 1;
        let Flight { key, standing, .. } = self.flights[flight];
        let (now, retry) = (self.now, self.settings.fresh.map_or(0, |(_, retry)| retry));
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        // After a write it is another value, which it was not to renew.
        if standing != Standing::Fenced {
            entry.refresh_at = now + retry;
        }
        Some(entry.value)
    }

    /// An update that does not have to wait; returns what it leaves.
    pub fn update(&mut self, key: u8, change: Change, value: u32) -> Option<u32> {
        let old = self.use_entry(key);
        // It starts from what is there, over which no refresh wins any more.
        for flight in &mut self.flights {
            if flight.key == key && flight.is_refresh && flight.outcome.is_none() {
                flight.standing = Standing::Fenced;
            }
        }
        match change {
            Change::Put => {
                self.fence(key);
                self.put(key, value);
                Some(value)
            }
            Change::Keep => old,
            Change::Remove => {
                self.remove(key);
                None
            }
        }
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

    pub fn set_max_bytes(&mut self, bytes: u64) {
        // The same where they are not bounded.
        self.settings.max_bytes = self.settings.max_bytes.map(|_| bytes);
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
                    let Some(value) = self.use_entry(call.key) else {
                        self.board(call);
                        continue;
                    };
                    let is_new = matches!(call.state, State::New);
                    let is_stale = self.is_stale(call.key);
                    self.counts.hits += u64::from(is_new);
                    self.counts.stale_hits += u64::from(is_new && is_stale);
                    if is_stale && self.is_due(call.key) {
                        self.counts.refreshes += 1;
                        call.state = State::Leads(self.lead(call.key, true));
                        continue;
                    }
                    let outcome = match (is_new, is_stale) {
                        (false, _) => LookupOutcome::Joined,
                        (true, true) => LookupOutcome::Stale,
                        (true, false) => LookupOutcome::Hit,
                    };
                    return Some(Ok((value, outcome)));
                }
                State::Leads(flight) => return self.load(flight, call),
                State::Waits(flight) => match self.flights[flight].outcome? {
                    Outcome::Value(value) => return Some(Ok((value, LookupOutcome::Joined))),
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
            // The next call takes it up.
            self.counts.refresh_failures += u64::from(self.flights[flight].is_refresh);
            self.flights[flight].outcome = Some(Outcome::Abandoned);
        }
    }

    /// Finds out, from the keys that the cache still has, what is left to it: which shard gives up its
    /// oldest entry, and the time after the clock has stepped back. And if the order of eviction adapts, who
    /// leaves, and who takes another turn when somebody has left.
    pub fn observe(&mut self, left: &[u8], has_anybody_left: bool) {
        let crowding = self.crowding.take();
        if let Some(crowding) = crowding {
            self.make_room(crowding, left);
        }
        let now = self.now;
        let is_over = |entry: &&Entry| match entry.expiry {
            Some(expiry) if now >= expiry.latest => true,
            _ => entry.may_be_over(now) && !left.contains(&entry.key),
        };
        let over: Vec<u8> = self.entries.iter().filter(is_over).map(|entry| entry.key).collect();
        for key in over {
            self.let_go(key, RemovalCause::Expired);
            self.counts.expired += 1;
        }
        if let (true, true, Some(crowding)) = (self.adapts(), has_anybody_left, crowding) {
            self.take_turns(crowding, left);
        }
    }

    fn adapts(&self) -> bool {
        self.settings.eviction == Eviction::Adaptive
    }

    /// Takes over the order of an adaptive cache that has looked for victims. What has come is the newest.
    fn take_turns(&mut self, crowding: Crowding, left: &[u8]) {
        self.entries.sort_by_key(|entry| left.iter().position(|key| *key == entry.key));
        if let Crowding::Put(put) = crowding {
            let newest = self.keys().into_iter().rfind(|key| self.shard(*key) == self.shard(put));
            let is_there = self.entries.iter().any(|entry| entry.key == put);
            assert!(!is_there || newest == Some(put), "{put} has come, and {newest:?} is newer");
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
        let ttl = self.settings.ttl;
        let old = self.take(key).map(|entry| entry.value);
        let replaced = old.map(|value| (key, value, RemovalCause::Replaced));
        let expiry = ttl.map(|ttl| Expiry { earliest: self.now + ttl, latest: self.latest + ttl });
        let stale_at = self.settings.fresh.map(|(fresh, _)| self.now + fresh);
        let entry = Entry { key, value, expiry, stale_at, refresh_at: 0 };
        let has_room = self.short(std::slice::from_ref(&entry)).is_none();
        if has_room && ttl != Some(0) {
            self.crowding = Some(Crowding::Put(key));
            self.replaced = replaced;
            self.entries.push(entry);
        } else {
            self.left.extend(replaced);
            self.left.push((key, value, RemovalCause::Rejected));
        }
        old
    }

    /// The first bound that these entries exceed together.
    fn short(&self, entries: &[Entry]) -> Option<Bound> {
        let Settings { maxsize, max_weight, max_bytes, .. } = self.settings;
        let exceed = |max: Option<u64>, of: fn(u32) -> u64| {
            let sum: u128 = entries.iter().map(|entry| u128::from(of(entry.value))).sum();
            max.is_some_and(|max| sum > max.into())
        };
        if entries.len() > maxsize {
            Some(Bound::Entries)
        } else if exceed(max_weight, weight) {
            Some(Bound::Weight)
        } else if exceed(max_bytes, bytes) {
            Some(Bound::Bytes)
        } else {
            None
        }
    }

    /// Removes victims until there is room, and none without need.
    fn make_room(&mut self, crowding: Crowding, left: &[u8]) {
        let victims = self.victims(crowding, left, &self.entries);
        let victims = victims.unwrap_or_else(|| {
            panic!("{crowding:?}: others of {:?} had to go: {left:?} are left", self.entries)
        });
        for victim in victims {
            self.counts.evictions += 1;
            self.let_go(victim, RemovalCause::Capacity);
        }
        self.left.extend(self.replaced.take());
    }

    /// Victims of these entries, each of which was needed when it went, and all of which are gone from the
    /// cache with nothing besides; `None` if that cannot be.
    ///
    /// The order among shards is the cache's to choose, so all are tried.
    fn victims(&self, crowding: Crowding, left: &[u8], entries: &[Entry]) -> Option<Vec<u8>> {
        let Some(short) = self.short(entries) else {
            let is_accounted_for =
                |entry: &Entry| left.contains(&entry.key) || entry.may_be_over(self.now);
            return entries.iter().all(is_accounted_for).then(Vec::new);
        };
        let candidates = self.candidates(crowding, short, entries).into_iter();
        candidates.filter(|victim| !left.contains(victim)).find_map(|victim| {
            let mut others = entries.to_vec();
            others.retain(|entry| entry.key != victim);
            let mut victims = self.victims(crowding, left, &others)?;
            victims.insert(0, victim);
            Some(victims)
        })
    }

    /// Who may go next where a bound is short: for a put, the oldest of its shard that helps or, if none
    /// does, the oldest of any shard that helps, which only the cache can choose, as it can where a bound
    /// has come down. If the order of eviction adapts, any that helps in place of the oldest.
    fn candidates(&self, crowding: Crowding, short: Bound, entries: &[Entry]) -> Vec<u8> {
        let put = match crowding {
            Crowding::Put(key) => Some(key),
            Crowding::Bound => None,
        };
        let helpful = entries.iter().filter(|entry| Some(entry.key) != put && entry.helps(short));
        let mut next: Vec<u8> = Vec::new();
        for Entry { key, .. } in helpful {
            let is_oldest = next.iter().all(|other| self.shard(*other) != self.shard(*key));
            if is_oldest || self.adapts() {
                next.push(*key);
            }
        }
        let is_own = |key: &u8| put.is_some_and(|put| self.shard(put) == self.shard(*key));
        if next.iter().any(is_own) {
            next.retain(is_own);
        }
        next
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
        let is_open = |flight: &Flight| flight.is_open() && flight.key == call.key;
        if let Some(flight) = self.flights.iter().position(is_open) {
            self.counts.coalesced += is_new;
            call.state = State::Waits(flight);
            return;
        }
        self.counts.misses += is_new;
        call.state = State::Leads(self.lead(call.key, false));
    }

    /// Starts a flight.
    fn lead(&mut self, key: u8, is_refresh: bool) -> usize {
        self.counts.loads += 1;
        let standing =
            if self.settings.is_single_flight { Standing::Open } else { Standing::Private };
        let (outcome, sweeps) = (None, Vec::new());
        self.flights.push(Flight { key, standing, outcome, is_refresh, sweeps });
        self.flights.len() - 1
    }

    /// Polls the load of a call.
    fn load(&mut self, flight: usize, call: &Call) -> Option<Answer> {
        let (answer, outcome) = match call.plan {
            Plan::Wait => return None,
            Plan::Succeed => {
                (Ok((call.number, LookupOutcome::Loaded)), Outcome::Value(call.number))
            }
            Plan::Fail if call.form.shares_errors() => {
                (Err(call.number), Outcome::SharedError(call.number))
            }
            Plan::Fail => (Err(call.number), Outcome::Abandoned),
        };
        self.flights[flight].outcome = Some(outcome);
        if answer.is_err() {
            self.counts.load_failures += 1;
            if self.flights[flight].is_refresh {
                if let Some(left) = self.fail_refresh(flight) {
                    return Some(Ok((left, LookupOutcome::Stale)));
                }
            }
        } else if self.flights[flight].keeps_out(call.number) {
            self.left.push((call.key, call.number, RemovalCause::Rejected));
        } else {
            self.put(call.key, call.number);
        }
        Some(answer)
    }
}
