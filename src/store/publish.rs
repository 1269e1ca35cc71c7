//! Publishes an entry, and finds the room for it in whichever shard: expired entries go before live ones.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Store;
use crate::clock::NEVER;
use crate::entries::Deadlines;
use crate::policy::capacity::Bound;
use crate::policy::measure::Appraised;
use crate::shard::Shard;
use crate::shard::departed::Departed;
use crate::shard::evict::Evicted;
use crate::shard::expire::Expired;
use crate::shard::publication::{Fate, Origin, Publication, Terms};
use crate::shard::publish::Published;
use crate::shard::removals::Deliveries;
use crate::sync::yield_now;

impl<K, V> Store<K, V> {
    /// Publishes the entry, and returns what there was before and what is left to do for the listener.
    pub(crate) fn put(
        &self,
        hash: u64,
        key: K,
        value: V,
        own: Option<Duration>,
    ) -> (Option<V>, Deliveries<K, V>)
    where
        K: Eq,
    {
        let publication = self.publication_of_caller(hash, key, value, own);
        publication.map(|publication| self.put_publication(hash, publication)).unwrap_or_default()
    }

    /// Does the same with the value of a key that the caller has guarded: if it was written otherwise
    /// meanwhile, removes its entry instead.
    pub(crate) fn put_guarded(&self, hash: u64, key: K, value: V) -> (Option<V>, Deliveries<K, V>)
    where
        K: Eq,
    {
        let Some(mut publication) = self.publication_of_caller(hash, key, value, None) else {
            return Default::default();
        };
        publication.guard();
        self.put_publication(hash, publication)
    }

    /// Prepares the entry of a caller; in a cache that takes no values, keeps loads out for it instead.
    fn publication_of_caller(
        &self,
        hash: u64,
        key: K,
        value: V,
        own: Option<Duration>,
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

    fn put_publication<'a>(
        &'a self,
        hash: u64,
        publication: Publication<'a, K, V>,
    ) -> (Option<V>, Deliveries<K, V>)
    where
        K: Eq,
    {
        // The publication goes first if something panics, and gives its room back.
        let mut departed = Departed::default();
        let mut publication = publication;
        self.publish(self.shard(hash), &mut publication, &mut departed);
        publication.into_replaced(departed)
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
            .then(|| appraised.extras(now.map_or(Deadlines::NONE, deadlines)));
        let dies = now.is_some() && !self.lifetimes.let_live(appraised.lifetime);
        let fate = if dies { Fate::Dies } else { Fate::Lives };
        let terms = Terms { extras, fate, now };
        Publication::new(origin, value, terms, self.capacity().reservation())
    }

    /// Publishes an entry in its shard, or keeps it out; what comes of it is in the publication, and what has
    /// left for it in `departed`.
    #[inline(always)]
    pub(crate) fn publish<'a>(
        &'a self,
        shard: &Shard<K, V>,
        publication: &mut Publication<'a, K, V>,
        departed: &mut Departed<K, V>,
    ) where
        K: Eq,
    {
        let deadline = publication.soonest_deadline();
        if self.may_expire_for(publication) {
            self.expire_for(shard, publication, departed);
        }
        let published = shard.publish(publication, departed);
        if published != Published::Done {
            self.go_on_publishing(published, shard, publication, departed);
        }
        // Before anything of the user's is dropped or woken, which may need it.
        publication.reservation.give_back();
        self.alarm.expect(deadline, departed);
    }

    /// Publishes an entry that was not `published` at the first attempt.
    #[cold]
    fn go_on_publishing<'a>(
        &'a self,
        mut published: Published,
        shard: &Shard<K, V>,
        publication: &mut Publication<'a, K, V>,
        departed: &mut Departed<K, V>,
    ) where
        K: Eq,
    {
        let mut turn = shard.number();
        loop {
            match published {
                Published::Done => return,
                Published::Unfinished => yield_now(),
                Published::NeedsVerdict => {
                    // Others are not to wait for the room until the user's code has answered.
                    publication.reservation.give_back();
                    publication.judge(shard);
                }
                Published::NeedsRoom(short) => {
                    // They give in turns, if one entry takes the room of many.
                    turn += 1;
                    let mut others =
                        self.shards_from(turn).filter(|other| !std::ptr::eq(*other, shard));
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
    /// fits in.
    #[inline(never)]
    fn expire_for(
        &self,
        shard: &Shard<K, V>,
        publication: &mut Publication<'_, K, V>,
        departed: &mut Departed<K, V>,
    ) where
        K: Eq,
    {
        /// How many steps the search for an expired entry takes in a shard.
        const STEPS: usize = 16;
        let Some(now) = publication.now() else { return };
        // No more than that: holding it would have others evict live entries for want of it.
        let missing = shard.missing(publication, now);
        if self.capacity().has_room_for(missing) {
            return;
        }
        let reservation = &mut publication.reservation;
        self.alarm.forget();
        let mut soonest = NEVER;
        for shard in self.shards_from(shard.number()) {
            while shard.write(Some(now), departed).expire_one(&mut { STEPS }, reservation)
                == Expired::One
            {
                if reservation.reserve(missing).is_ok() {
                    // There may be more.
                    return self.alarm.expect(0, departed);
                }
            }
            soonest = soonest.min(shard.soonest_deadline());
        }
        self.alarm.remember(soonest);
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
        match writer.evict(short, &mut publication.reservation) {
            Evicted::One => return true,
            Evicted::None => return false,
            Evicted::Unfinished => {}
        }
        drop(writer);
        yield_now();
    }
}
