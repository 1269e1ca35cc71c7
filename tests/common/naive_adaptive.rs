//! The adaptive order of eviction as simple as it can be: a list of entries by slot, searched from end to end,
//! and a queue. The real one is held against it.
//!
//! Time is one number. A hit adds one to it, as does each turn that an entry is given; each value that comes
//! takes it to the next multiple of 1,024. A tick is as long as that.

#![allow(unreachable_pub, reason = "a module of some test files")]

use std::collections::{HashMap, VecDeque};

/// Uses above this are not counted.
const MOST_USES: u8 = 3;

/// The most entries that get another turn before one leaves.
const MOST_TURNS: usize = 16;

/// Records of one bucket of ghosts.
const BUCKET: usize = 8;

/// So many entries, and as many ghosts, tell who would be there if all left in the order of their use.
const SAMPLE: usize = 64;

#[derive(Clone, Debug)]
struct Resident {
    key: u32,
    hash: u32,
    stamp: u64,
    is_cold: bool,
    uses: u8,
    /// When it was queued, in units of the ghosts' time.
    queued: u16,
}

/// What is left of an entry: a part of its hash, and when it was last used.
#[derive(Clone, Copy, Debug, Default)]
struct Ghost {
    /// `None` where there is nothing, or nothing any more.
    fingerprint: Option<u16>,
    time: u16,
}

/// One shard, bounded by the number of its entries.
pub struct NaiveAdaptive {
    maxsize: usize,
    time: u64,
    slots: Vec<Option<Resident>>,
    /// Which slot each key has.
    places: HashMap<u32, usize>,
    /// Slots without an entry; the last is the next to get one.
    free: Vec<usize>,
    /// For how many there is room without another allocation, and for how many there will be at most.
    room: (usize, usize),
    /// Slots of the cold ones, oldest first.
    queue: VecDeque<usize>,
    ghosts: Vec<Ghost>,
    /// Ticks of one unit of the ghosts' time.
    unit: u64,
    /// The part of all that is for cold ones.
    share: f64,
    /// The last use of the oldest that would be there if all left in the order of their use, and when it is to be
    /// told anew.
    bar: u64,
    next_bar: u64,
    sequence: u64,
    /// The latest last use of a hot one whose turn had come.
    hot_bar: u64,
    /// A hit of what was last used before this tick is a gain.
    gain_bar: u64,
    gains: u64,
    has_evicted: bool,
    /// Keys that made room for others, in order.
    pub evicted: Vec<u32>,
    /// How often what happened that a comparison is to have seen.
    pub seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub rotations: u64,
    pub requeues: u64,
    pub promotions: u64,
    pub hot_returns: u64,
    pub cold_returns: u64,
    pub gains: u64,
    pub losses: u64,
    pub most_turns: usize,
    pub compactions: u64,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.rotations += other.rotations;
        self.requeues += other.requeues;
        self.promotions += other.promotions;
        self.hot_returns += other.hot_returns;
        self.cold_returns += other.cold_returns;
        self.gains += other.gains;
        self.losses += other.losses;
        self.most_turns = self.most_turns.max(other.most_turns);
        self.compactions += other.compactions;
    }

    /// Asserts that a comparison has seen everything that happens to entries.
    pub fn assert_everything(&self) {
        self.assert_everything_but_compactions();
        assert!(self.compactions > 0, "{self:?}");
    }

    pub fn assert_everything_but_compactions(&self) {
        let Self { rotations, requeues, promotions, hot_returns, cold_returns, .. } = *self;
        let counts = [rotations, requeues, promotions, hot_returns, cold_returns];
        let of_duel = [self.gains, self.losses];
        assert!(counts.iter().chain(&of_duel).all(|count| *count > 0), "{self:?}");
        assert_eq!(self.most_turns, MOST_TURNS, "{self:?}");
    }
}

impl NaiveAdaptive {
    pub fn new(maxsize: usize) -> Self {
        Self {
            maxsize,
            time: 0,
            slots: Vec::new(),
            places: HashMap::new(),
            free: Vec::new(),
            room: (0, maxsize + 4 * maxsize.isqrt()),
            queue: VecDeque::new(),
            ghosts: Vec::new(),
            unit: 1,
            share: 0.05,
            bar: 0,
            next_bar: 0,
            sequence: 0,
            hot_bar: 0,
            gain_bar: 0,
            gains: 0,
            has_evicted: false,
            evicted: Vec::new(),
            seen: Seen::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// All keys, least recently used first.
    pub fn keys(&self) -> Vec<u32> {
        let mut residents: Vec<&Resident> = self.slots.iter().flatten().collect();
        residents.sort_by_key(|resident| resident.stamp);
        residents.into_iter().map(|resident| resident.key).collect()
    }

    /// A use of `key`; tells whether it is there.
    pub fn get(&mut self, key: u32) -> bool {
        let Some(slot) = self.find(key) else { return false };
        self.time += 1;
        let (time, gain_bar) = (self.time, self.gain_bar);
        let resident = self.resident(slot);
        let is_gain = resident.stamp / 1_024 < gain_bar;
        resident.uses = (resident.uses + 1).min(MOST_USES);
        resident.stamp = time;
        self.gains += u64::from(is_gain);
        self.seen.gains += u64::from(is_gain);
        true
    }

    /// A value of `key` comes, whose hash this is; tells whether there was one.
    pub fn insert(&mut self, key: u32, hash: u32) -> bool {
        if self.maxsize == 0 {
            return false;
        }
        if let Some(slot) = self.find(key) {
            let time = self.next_tick();
            let resident = self.resident(slot);
            resident.uses = (resident.uses + 1).min(MOST_USES);
            resident.stamp = time;
            return true;
        }
        if self.len() == self.maxsize {
            self.evict();
        }
        self.arrive(key, hash);
        false
    }

    /// Tells whether `key` was there.
    pub fn remove(&mut self, key: u32) -> bool {
        let Some(slot) = self.find(key) else { return false };
        self.take_out(slot);
        true
    }

    /// Forgets everything but the time.
    pub fn clear(&mut self) {
        let (maxsize, time, seen) = (self.maxsize, self.time, self.seen);
        let most = self.room.1;
        *self = Self { maxsize, time, seen, room: (0, most), ..Self::new(maxsize) };
    }

    pub fn set_maxsize(&mut self, maxsize: usize) {
        self.maxsize = maxsize;
        while self.len() > maxsize {
            self.evict();
        }
        let room = self.room.0;
        if room >= 32 && self.len() < room / 4 {
            self.compact();
        }
    }

    fn find(&self, key: u32) -> Option<usize> {
        self.places.get(&key).copied()
    }

    fn resident(&mut self, slot: usize) -> &mut Resident {
        self.slots[slot].as_mut().expect("there is an entry in the slot")
    }

    fn tick(&self) -> u64 {
        self.time / 1_024
    }

    fn next_tick(&mut self) -> u64 {
        self.time = (self.tick() + 1) * 1_024;
        self.time
    }

    fn last_tick(&self, slot: usize) -> u64 {
        self.slots[slot].as_ref().expect("there is an entry in the slot").stamp / 1_024
    }

    /// How many of so many may be hot.
    fn hot_room(&self) -> usize {
        let all = self.len();
        all - ((self.share * all as f64) as usize).max(1).min(all)
    }

    fn hot(&self) -> usize {
        self.len() - self.queue.len()
    }

    /// Gives the entry in `slot` another turn, as if it were used now.
    fn renew(&mut self, slot: usize) {
        self.time += 1;
        let time = self.time;
        self.resident(slot).stamp = time;
    }

    fn take_out(&mut self, slot: usize) {
        self.queue.retain(|queued| *queued != slot);
        let left = self.slots[slot].take().expect("there is an entry in the slot");
        self.places.remove(&left.key);
        self.free.push(slot);
    }

    /// The entries move to the first slots, in the order of those that they have.
    fn compact(&mut self) {
        let is_there = |slot: &usize| self.slots[*slot].is_some();
        let old: Vec<usize> = (0..self.slots.len()).filter(is_there).collect();
        for slot in &mut self.queue {
            *slot = old.iter().position(|old| old == slot).unwrap();
        }
        self.slots.retain(Option::is_some);
        let keys = self.slots.iter().flatten().map(|resident| resident.key);
        self.places = keys.zip(0..).collect();
        self.free.clear();
        self.room.0 = self.slots.len();
        self.seen.compactions += 1;
    }

    fn evict(&mut self) {
        let slot = self.victim();
        let Resident { key, hash, .. } = *self.resident(slot);
        self.put_ghost(hash, self.last_tick(slot));
        self.take_out(slot);
        self.evicted.push(key);
    }

    fn victim(&mut self) -> usize {
        self.has_evicted = true;
        self.fit_ghosts();
        self.tell_bar();
        if self.hot() > self.hot_room() {
            return self.hot_victim();
        }
        let mut turns = 0;
        while let Some(&slot) = self.queue.front() {
            let Resident { uses, queued, .. } = *self.resident(slot);
            if uses == 0 || turns == MOST_TURNS {
                return slot;
            }
            let has_room = self.hot() < self.hot_room();
            if uses >= 2 && (has_room || self.tick_of(queued) >= self.hot_bar) {
                self.queue.pop_front();
                self.resident(slot).is_cold = false;
                self.renew(slot);
                self.seen.promotions += 1;
                if self.hot() > self.hot_room() {
                    break;
                }
            } else {
                let queued = self.time_of(self.last_tick(slot));
                let resident = self.resident(slot);
                (resident.uses, resident.queued) = (0, queued);
                self.queue.rotate_left(1);
                turns += 1;
                self.see_turns(turns);
                self.seen.requeues += 1;
            }
        }
        self.hot_victim()
    }

    fn hot_victim(&mut self) -> usize {
        let mut turns = 0;
        loop {
            let slots = self.slots.iter().enumerate();
            let hot = slots.filter_map(|(slot, there)| Some((slot, there.as_ref()?)));
            let hot = hot.filter(|(_, resident)| !resident.is_cold);
            let Some((slot, _)) = hot.min_by_key(|(_, resident)| resident.stamp) else {
                return self.queue[0];
            };
            self.hot_bar = self.hot_bar.max(self.last_tick(slot));
            let resident = self.resident(slot);
            if resident.uses == 0 || turns == MOST_TURNS {
                return slot;
            }
            resident.uses -= 1;
            self.renew(slot);
            turns += 1;
            self.see_turns(turns);
            self.seen.rotations += 1;
        }
    }

    fn see_turns(&mut self, turns: usize) {
        self.seen.most_turns = self.seen.most_turns.max(turns);
    }

    fn arrive(&mut self, key: u32, hash: u32) {
        let len = self.len() + 1;
        if len > self.room.0 {
            let (room, most) = self.room;
            let more = if room < most { room.min(most - room) } else { room / 8 };
            self.room.0 += more.max(4);
        }
        let stamp = self.next_tick();
        let queued = self.time_of(self.tick());
        let new = Some(Resident { key, hash, stamp, is_cold: true, uses: 0, queued });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = new;
                slot
            }
            None => {
                self.slots.push(new);
                self.slots.len() - 1
            }
        };
        let comes_back_hot = self.has_evicted && self.comes_back_hot(hash, len);
        // It is among the cold until it is seen to be hot.
        self.places.insert(key, slot);
        self.queue.push_back(slot);
        if comes_back_hot || self.hot() < self.hot_room() {
            self.queue.pop_back();
            self.resident(slot).is_cold = false;
        }
    }

    fn comes_back_hot(&mut self, hash: u32, len: usize) -> bool {
        let least_share = 0.01_f64.max(1.0 / len as f64);
        let gains = std::mem::take(&mut self.gains);
        if gains > 0 {
            self.share = (self.share - gains as f64 / len as f64).max(least_share);
        }
        let last_use = self.take_ghost(hash);
        if last_use.is_some_and(|last_use| last_use >= self.bar) {
            self.share = (self.share + 1.0 / len as f64).min(0.95);
            self.seen.losses += 1;
        }
        self.gain_bar = if self.share > least_share { self.bar } else { 0 };
        let is_hot = last_use.is_some_and(|last_use| last_use >= self.hot_bar);
        self.seen.hot_returns += u64::from(is_hot);
        self.seen.cold_returns += u64::from(last_use.is_some() && !is_hot);
        is_hot
    }

    /// Finds out anew who would be there if all left in the order of their use, every while.
    fn tell_bar(&mut self) {
        if self.tick() < self.next_bar {
            return;
        }
        let len = self.len();
        let mut ticks: Vec<u64> = Vec::new();
        let tick_of_ghost =
            |ghost: &Ghost| ghost.fingerprint.map_or(0, |_| self.tick_of(ghost.time));
        if len <= SAMPLE {
            ticks.extend(self.slots.iter().flatten().map(|resident| resident.stamp / 1_024));
            ticks.extend(self.ghosts.iter().take(len).map(tick_of_ghost));
            ticks.resize(2 * len, 0);
        } else {
            let mut sequence = self.sequence;
            let mut next = |end: usize| {
                sequence = sequence.wrapping_add(0x9E37_79B9_7F4A_7C15);
                (((sequence >> 32) * end as u64) >> 32) as usize
            };
            for _ in 0..SAMPLE {
                let first = next(self.slots.len());
                let near = (first..first + 16).map(|slot| slot % self.slots.len());
                ticks.extend(
                    near.filter_map(|slot| self.slots[slot].as_ref())
                        .take(1)
                        .map(|there| there.stamp / 1_024),
                );
            }
            for _ in 0..SAMPLE / BUCKET {
                let bucket = next(self.ghosts.len() / BUCKET) * BUCKET;
                ticks.extend(self.ghosts[bucket..bucket + BUCKET].iter().map(tick_of_ghost));
            }
            self.sequence = sequence;
        }
        ticks.sort_unstable();
        self.bar = ticks[ticks.len() / 2];
        self.next_bar = self.tick() + (len as u64 / 8).max(16);
    }

    /// Makes room for the ghosts of about as many as there are.
    fn fit_ghosts(&mut self) {
        let (len, room) = (self.len(), self.ghosts.len());
        if room == 0 || len > room + room / 4 || len < room / 4 {
            self.ghosts = vec![Ghost::default(); len.next_multiple_of(BUCKET)];
            let doubles = std::iter::successors(Some(1), |unit| Some(2 * unit));
            self.unit =
                doubles.take_while(|unit| *unit == 1 || unit * 256 <= len as u64).last().unwrap();
        }
    }

    fn put_ghost(&mut self, hash: u32, tick: u64) {
        let fingerprint = Some(fingerprint(hash));
        let bucket = self.bucket(hash);
        // In steps of eight units, and of those in one step the last.
        let oldest = (bucket..bucket + BUCKET)
            .max_by_key(|place| (self.age(self.ghosts[*place].time) / 8, *place));
        self.ghosts[oldest.unwrap()] = Ghost { fingerprint, time: self.time_of(tick) };
    }

    fn take_ghost(&mut self, hash: u32) -> Option<u64> {
        let bucket = self.bucket(hash);
        let is_it = |place: &usize| self.ghosts[*place].fingerprint == Some(fingerprint(hash));
        let place = (bucket..bucket + BUCKET).find(is_it)?;
        // As old as can be.
        let time = self.time_of(self.tick()).wrapping_add(1);
        let ghost = std::mem::replace(&mut self.ghosts[place], Ghost { fingerprint: None, time });
        Some(self.tick_of(ghost.time))
    }

    fn bucket(&self, hash: u32) -> usize {
        let buckets = self.ghosts.len() as u64 / BUCKET as u64;
        ((u64::from(hash) * buckets) >> 32) as usize * BUCKET
    }

    /// A tick in sixteen bits.
    fn time_of(&self, tick: u64) -> u16 {
        (tick / self.unit % 65_536) as u16
    }

    /// Units that have passed since, as far as sixteen bits tell.
    fn age(&self, time: u16) -> u64 {
        (self.tick() / self.unit + 65_536 - u64::from(time)) % 65_536
    }

    fn tick_of(&self, time: u16) -> u64 {
        self.tick().saturating_sub(self.age(time) * self.unit)
    }
}

fn fingerprint(hash: u32) -> u16 {
    (hash as u16).max(1)
}
