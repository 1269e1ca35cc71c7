//! Publishes an entry, and finds the room for it in whichever shard: expired entries go before live ones.

use std::sync::atomic::Ordering;

use super::Store;
use super::steps::{Step, Steps, run};
use crate::appraisal::Appraised;
use crate::clock::NEVER;
use crate::entries::{Deadlines, Extras};
use crate::lifetime::Lifetime;
use crate::policy::capacity::Bound;
use crate::shard::Shard;
use crate::shard::departed::Departed;
use crate::shard::evict::{EVICTED_PER_WRITE, Evicted};
use crate::shard::expire::Expired;
use crate::shard::publication::{Fate, Origin, Publication, Terms};
use crate::shard::publish::Published;
use crate::shard::removals::Deliveries;
use crate::sync::yield_now;

/// How many entries a publication evicts before other tasks have the thread.
const TURN: usize = 256;

impl<K, V> Store<K, V> {
    /// Publishes the entry, or begins to make room for it where that takes many others.
    pub(crate) fn begin_put(
        &self,
        hash: u64,
        key: K,
        value: V,
        own: Option<Lifetime>,
    ) -> Put<'_, K, V>
    where
        K: Eq,
    {
        let publication = self.publication_of_caller(hash, key, value, own);
        self.begin_insertion(hash, publication)
    }

    /// Does the same with the value of a key that the caller has guarded: if it was written otherwise
    /// meanwhile, removes its entry instead.
    pub(crate) fn begin_put_guarded(
        &self,
        hash: u64,
        key: K,
        value: V,
        own: Option<Lifetime>,
    ) -> Put<'_, K, V>
    where
        K: Eq,
    {
        let mut publication = self.publication_of_caller(hash, key, value, own);
        publication.iter_mut().for_each(Publication::guard);
        self.begin_insertion(hash, publication)
    }

    #[inline(always)]
    fn begin_insertion<'a>(
        &'a self,
        hash: u64,
        publication: Option<Publication<'a, K, V>>,
    ) -> Put<'a, K, V>
    where
        K: Eq,
    {
        // The publication goes first if something panics, and gives its room back.
        let mut departed = Departed::default();
        let Some(mut publication) = publication else { return Put::default() };
        let shard = self.shard(hash);
        if self.begin_publishing(shard, &mut publication, &mut departed) {
            let (replaced, deliveries) = publication.into_replaced(departed);
            return Put { replaced, deliveries, rest: None };
        }
        let deliveries = departed.into_deliveries();
        let rest = Some(Box::new(Insertion::new(self, shard, publication)));
        Put { replaced: None, deliveries, rest }
    }

    /// Publishes the entry, and returns what there was before and what is left to do for the listener.
    pub(crate) fn put(
        &self,
        hash: u64,
        key: K,
        value: V,
        own: Option<Lifetime>,
    ) -> (Option<V>, Deliveries<K, V>)
    where
        K: Eq,
    {
        self.begin_put(hash, key, value, own).finish_now()
    }

    /// Prepares the entry of a caller; in a cache that takes no values, keeps loads out for it instead.
    fn publication_of_caller(
        &self,
        hash: u64,
        key: K,
        value: V,
        own: Option<Lifetime>,
    ) -> Option<Publication<'_, K, V>>
    where
        K: Eq,
    {
        if own.is_some() {
            self.lifetimes.use_time();
        }
        if !self.takes_values() {
            self.shard(hash).fence(hash, &key);
            return None;
        }
        let appraised = self.appraise(&key, &value).with_own(own);
        Some(self.publication(Origin::Caller(Some(key), hash), value, appraised))
    }

    /// Prepares an entry for publication as of now.
    #[inline(always)]
    pub(crate) fn publication(
        &self,
        origin: Origin<K>,
        value: V,
        appraised: Appraised,
    ) -> Publication<'_, K, V> {
        let now = self.lifetimes.now();
        let deadlines = |now| self.lifetimes.deadlines(now, appraised.lifetime);
        let extras = (now.is_some() || self.appraises)
            .then(|| Extras::new(appraised, now.map_or(Deadlines::NONE, deadlines)));
        let dies = now.is_some() && !self.lifetimes.let_live(appraised.ttl());
        let fate = if dies { Fate::Dies } else { Fate::Lives };
        let terms = Terms { extras, fate, now };
        Publication::new(origin, value, terms, self.capacity().reservation())
    }

    /// Tells whether other tasks are to have the thread after so many entries have been published, one
    /// after another: `most` in a row, or fewer where each may take the room of several.
    pub(crate) fn is_turn_over(&self, published: usize, most: usize) -> bool {
        let most = if self.capacity().weighs() { TURN / EVICTED_PER_WRITE } else { most };
        published % most == 0
    }

    /// Publishes an entry in its shard, or keeps it out, unless that takes longer than a turn; tells whether
    /// it is done. What comes of it is in the publication, and what has left for it in `departed`.
    #[inline(always)]
    pub(crate) fn begin_publishing<'a>(
        &'a self,
        shard: &Shard<K, V>,
        publication: &mut Publication<'a, K, V>,
        departed: &mut Departed<K, V>,
    ) -> bool
    where
        K: Eq,
    {
        self.publish_in_turn(shard, publication, departed, TURN)
    }

    /// Does the same unless that takes more entries out than about `turn`. If it is not done, what room was
    /// made is free for others until the next turn, which may never come.
    #[inline(always)]
    fn publish_in_turn<'a>(
        &'a self,
        shard: &Shard<K, V>,
        publication: &mut Publication<'a, K, V>,
        departed: &mut Departed<K, V>,
        turn: usize,
    ) -> bool
    where
        K: Eq,
    {
        let deadline = publication.soonest_deadline();
        if self.may_expire_for(publication) && !self.expire_for(shard, publication, departed, turn)
        {
            publication.reservation.give_back();
            return false;
        }
        let published = shard.publish(publication, departed);
        let is_done = published == Published::Done
            || self.go_on_publishing(published, shard, publication, departed, turn);
        // Before anything of the user's is dropped or woken, which may need it.
        publication.reservation.give_back();
        self.alarm.expect(deadline, departed);
        is_done
    }

    /// Publishes an entry that was not `published` at the first attempt, unless that takes longer than its
    /// `turn`; tells whether it is done.
    #[cold]
    fn go_on_publishing<'a>(
        &'a self,
        mut published: Published,
        shard: &Shard<K, V>,
        publication: &mut Publication<'a, K, V>,
        departed: &mut Departed<K, V>,
        turn: usize,
    ) -> bool
    where
        K: Eq,
    {
        let (mut giver, mut evicted) = (shard.number(), 0);
        loop {
            match published {
                Published::Done => return true,
                _ if evicted >= turn => return false,
                Published::Unfinished => {
                    evicted += EVICTED_PER_WRITE;
                    yield_now();
                }
                Published::NeedsVerdict => {
                    // Others are not to wait for the room until the user's code has answered.
                    publication.reservation.give_back();
                    publication.judge(shard);
                }
                Published::NeedsRoom(short) => {
                    // They give in turns, if one entry takes the room of many.
                    giver += 1;
                    evicted += 1;
                    let mut others =
                        self.shards_from(giver).filter(|other| !std::ptr::eq(*other, shard));
                    if !others.any(|other| evict(other, short, publication, departed)) {
                        // What there is of room is held by entries on their way in. It is given back, for
                        // one of them may need this one's.
                        publication.reservation.give_back();
                        yield_now();
                    }
                }
            }
            published = shard.publish(publication, departed);
        }
    }

    /// Tells whether entries that have expired may have to make room for the publication.
    #[inline]
    fn may_expire_for(&self, publication: &Publication<'_, K, V>) -> bool {
        let Some(now) = publication.now() else { return false };
        let Some(cost) = publication.cost(self.capacity()) else { return false };
        let latest = now.max(self.common.last_expiry.load(Ordering::Relaxed));
        self.alarm.may_be_due(latest) && !self.capacity().has_room_for(cost)
    }

    /// Takes out entries that have expired, of whatever shard, to spare live ones, until the publication
    /// fits in; tells whether that took no longer than a `turn`.
    #[inline(never)]
    fn expire_for(
        &self,
        shard: &Shard<K, V>,
        publication: &mut Publication<'_, K, V>,
        departed: &mut Departed<K, V>,
        turn: usize,
    ) -> bool
    where
        K: Eq,
    {
        /// How many steps the search for an expired entry takes in a shard.
        const STEPS: usize = 16;
        let Some(now) = publication.now() else { return true };
        // No more than that: holding it would have others evict live entries for want of it.
        let missing = shard.missing(publication, now);
        if self.capacity().has_room_for(missing) {
            return true;
        }
        let reservation = &mut publication.reservation;
        self.alarm.forget();
        let (mut soonest, mut expired) = (NEVER, 0);
        for shard in self.shards_from(shard.number()) {
            while shard.write(Some(now), departed).expire_one(&mut { STEPS }, reservation)
                == Expired::One
            {
                expired += 1;
                let fits_in = reservation.reserve(missing).is_ok();
                if fits_in || expired >= turn {
                    // There may be more.
                    self.alarm.expect(0, departed);
                    return fits_in;
                }
            }
            soonest = soonest.min(shard.soonest_deadline());
        }
        self.alarm.remember(soonest);
        true
    }
}

/// An insertion that has begun.
#[must_use]
pub(crate) struct Put<'a, K, V> {
    /// The live value that was there before.
    pub(crate) replaced: Option<V>,
    pub(crate) deliveries: Deliveries<K, V>,
    /// What is left of it, if it takes the room of many entries.
    pub(crate) rest: Option<Box<Insertion<'a, K, V>>>,
}

impl<K, V> Default for Put<'_, K, V> {
    fn default() -> Self {
        Self { replaced: None, deliveries: Deliveries::default(), rest: None }
    }
}

impl<K: Eq, V> Put<'_, K, V> {
    /// Tells whether nothing is left to do, and nobody to wait for.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_none() && self.deliveries.is_empty()
    }

    /// Returns the value that was there before.
    pub(crate) fn into_replaced(self) -> Option<V> {
        self.replaced
    }

    /// Does the rest at once, and returns what there was before and what is left to do for the listener.
    #[inline]
    pub(crate) fn finish_now(self) -> (Option<V>, Deliveries<K, V>) {
        let Self { replaced, deliveries, rest } = self;
        match rest {
            None => (replaced, deliveries),
            Some(insertion) => insertion.finish_now(deliveries),
        }
    }

    /// Does the rest, letting other tasks have the thread in between, waits for the listener, and returns
    /// the value that was there before.
    pub(crate) async fn finish(self, store: &Store<K, V>) -> Option<V> {
        let Self { replaced, deliveries, rest } = self;
        let Some(mut insertion) = rest else { return deliveries.settle_with(replaced).await };
        deliveries.settle().await;
        run(store, &mut *insertion).await;
        let publication = insertion.into_publication();
        let (replaced, deliveries) = publication.into_replaced(Departed::default());
        deliveries.settle_with(replaced).await
    }
}

/// The publication of an entry that takes the room of many others.
pub(crate) struct Insertion<'a, K, V> {
    store: &'a Store<K, V>,
    shard: &'a Shard<K, V>,
    publication: Publication<'a, K, V>,
    /// Others may take the room that a turn has made. So after as many turns as twice all entries take, it
    /// goes on without a pause.
    pub(crate) turns: usize,
}

impl<'a, K, V> Insertion<'a, K, V> {
    pub(crate) fn new(
        store: &'a Store<K, V>,
        shard: &'a Shard<K, V>,
        publication: Publication<'a, K, V>,
    ) -> Self {
        let turns = 2 * store.capacity().len() / TURN;
        Self { store, shard, publication, turns }
    }

    pub(crate) fn into_publication(self) -> Publication<'a, K, V> {
        self.publication
    }

    /// Drops everything, and returns what is left to do for the listener.
    pub(crate) fn into_deliveries(self) -> Deliveries<K, V> {
        self.publication.into_deliveries(Departed::default())
    }
}

impl<K: Eq, V> Insertion<'_, K, V> {
    #[cold]
    fn finish_now(mut self, deliveries: Deliveries<K, V>) -> (Option<V>, Deliveries<K, V>) {
        let mut deliveries = deliveries;
        self.turns = 0;
        let step = self.step(self.store, &mut deliveries);
        debug_assert_eq!(step, Step::Done, "it is not in turns");
        let (replaced, more) = self.publication.into_replaced(Departed::default());
        deliveries.append(more);
        (replaced, deliveries)
    }
}

impl<K: Eq, V> Steps<K, V> for Insertion<'_, K, V> {
    fn step(&mut self, _: &Store<K, V>, deliveries: &mut Deliveries<K, V>) -> Step {
        let Self { store, shard, publication, turns } = self;
        let turn = if *turns == 0 { usize::MAX } else { TURN };
        *turns = turns.saturating_sub(1);
        store.lifetimes.now().into_iter().for_each(|now| publication.put_off(now));
        let mut departed = Departed::default();
        let is_done = store.publish_in_turn(shard, publication, &mut departed, turn);
        deliveries.append(departed.into_deliveries());
        if is_done { Step::Done } else { Step::Again }
    }
}

/// Takes out the least recently used entry of a shard of those that help where this bound is `short`,
/// and adds what it held to the room of the publication; `false` if there is none.
fn evict<K, V>(
    shard: &Shard<K, V>,
    short: Bound,
    publication: &mut Publication<'_, K, V>,
    departed: &mut Departed<K, V>,
) -> bool {
    loop {
        let mut writer = shard.write(publication.now(), departed);
        match writer.evict(short, None, &mut publication.reservation) {
            Evicted::One => return true,
            Evicted::None => return false,
            Evicted::Unfinished => {}
        }
        drop(writer);
        yield_now();
    }
}
