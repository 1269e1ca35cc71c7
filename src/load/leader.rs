//! The guard of a flight: its `Drop` lets the waiters go on if the load is cancelled, fails or panics.

use super::delivery::Delivered;
use crate::appraisal::Appraised;
use crate::entries::{Ended, Kind};
use crate::flight::Outcome;
use crate::flight::load_timer::LoadTimer;
use crate::flight::trace::LoadSpan;
use crate::lifetime::Lifetime;
use crate::shard::departed::Departed;
use crate::shard::lead_or_join::FlightRef;
use crate::shard::publication::{Origin, Publication};
use crate::shard::removals::Deliveries;
use crate::store::Store;
use crate::sync::counters::Event;

/// The duty to end a flight. Dropped early, by a cancelled call, a panic or on the way out of an
/// error, it lets the waiters try for themselves.
pub(super) struct Leader<'a, K, V> {
    pub(super) store: &'a Store<K, V>,
    pub(super) flight: FlightRef<'a, K, V>,
    pub(super) kind: Kind,
    pub(super) stage: Stage,
}

/// How far a leader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It leads its flight.
    Leading,
    /// Its load has started, and fails if it comes no further.
    Loading,
    /// The flight has ended, or is somebody else's to end.
    Ended,
}

impl<'a, K, V> Leader<'a, K, V> {
    #[inline]
    pub(super) fn new(store: &'a Store<K, V>, flight: FlightRef<'a, K, V>, kind: Kind) -> Self {
        Self { store, flight, kind, stage: Stage::Leading }
    }

    /// Calls the user's closure.
    #[inline]
    pub(super) fn start<Fut>(&mut self, load: impl FnOnce() -> Fut) -> Fut {
        if let Some(timer) = self.store.load_timer() {
            self.note_begin(timer);
        }
        self.store.count(Event::Load);
        self.stage = Stage::Loading;
        load()
    }

    #[cold]
    fn note_begin(&self, timer: &LoadTimer) {
        self.flight.completion().note_begin(timer.now());
    }

    /// Begins the span of its load.
    #[inline]
    pub(super) fn span(&self) -> LoadSpan {
        self.store.span(self.kind.is_refresh())
    }

    /// Counts the time that its load has taken, in a cache that measures that.
    #[inline]
    pub(super) fn count_time(&self) {
        if let Some(timer) = self.store.load_timer() {
            self.count_time_by(timer);
        }
    }

    #[cold]
    fn count_time_by(&self, timer: &LoadTimer) {
        if let Some(begun) = self.flight.completion().begun() {
            timer.count_since(begun);
        }
    }

    /// Ends the flight with a value, which is cached if the cache takes any, and may be given a lifetime of
    /// its `own`.
    #[inline(always)]
    pub(super) fn deliver(&mut self, value: &V, own: Option<Lifetime>) -> Delivered<'a, K, V>
    where
        K: Eq,
        V: Clone,
    {
        let outcome = || Outcome::Value(value.clone());
        if !self.store.takes_values() {
            if self.kind == Kind::Update {
                // It wins over loads in flight all the same.
                self.flight.fence_others();
            }
            self.end(outcome);
            return Deliveries::default().into();
        }
        if own.is_some() {
            self.store.lifetimes().use_time();
        }
        let kept = value.clone();
        let appraised = self.appraise(&kept).with_own(own);
        self.publish(kept, appraised, outcome)
    }

    /// Takes a look at the value before it is published, if the cache does that. The flight has its key
    /// back before it needs it.
    #[inline(always)]
    fn appraise(&self, value: &V) -> Appraised {
        match self.store.appraises() {
            true => self.appraise_now(value),
            false => Appraised::default(),
        }
    }

    #[cold]
    fn appraise_now(&self, value: &V) -> Appraised {
        let key = self.flight.shared_key();
        key.map(|key| self.store.appraise(&key, value)).unwrap_or_default()
    }

    /// Caches the value of the flight, which has been appraised, unless a later write has won, and ends
    /// the flight.
    #[inline(always)]
    fn publish(
        &mut self,
        value: V,
        appraised: Appraised,
        outcome: impl FnOnce() -> Outcome<V>,
    ) -> Delivered<'a, K, V>
    where
        K: Eq,
        V: Clone,
    {
        let mut departed = Departed::default();
        let mut publication = self.publication(value, appraised);
        let shard = self.flight.shard();
        if !self.store.begin_publishing(shard, &mut publication, &mut departed) {
            return self.put_off(publication, departed, appraised, outcome());
        }
        self.tell(&mut publication, outcome);
        if self.store.has_listener() {
            return self.part_with(publication, departed).into();
        }
        departed.let_go();
        Deliveries::default().into()
    }

    /// Prepares an entry for publication.
    #[inline(always)]
    pub(super) fn publication(&self, value: V, appraised: Appraised) -> Publication<'a, K, V> {
        let origin = match self.kind {
            Kind::Update => Origin::Update(self.flight.id()),
            _ => Origin::Load(self.flight.id()),
        };
        self.store.publication(origin, value, appraised)
    }

    /// Ends the flight once its entry is in, or kept out: before the user's `Drop` of what that has displaced
    /// may panic.
    #[inline(always)]
    pub(super) fn tell(
        &mut self,
        publication: &mut Publication<'a, K, V>,
        outcome: impl FnOnce() -> Outcome<V>,
    ) {
        self.stage = Stage::Ended;
        publication.take_completion().complete(outcome);
    }

    /// Drops the rest of a publication, and returns what is left to do for the listener: to wait for it too
    /// if it is far behind, whatever has left on this call's account.
    #[cold]
    pub(super) fn part_with(
        &self,
        publication: Publication<K, V>,
        departed: Departed<K, V>,
    ) -> Deliveries<K, V> {
        let mut deliveries = publication.into_deliveries(departed);
        deliveries.append(self.backlog());
        deliveries
    }

    /// The duty to wait for a listener that is far behind.
    pub(super) fn backlog(&self) -> Deliveries<K, V> {
        match self.store.has_listener() {
            true => self.flight.shard().backlog(),
            false => Deliveries::default(),
        }
    }

    /// Ends the flight with a value that is not to be cached, or with none.
    pub(super) fn end(&mut self, outcome: impl FnOnce() -> Outcome<V>) {
        self.stage = Stage::Ended;
        // The rest is dropped last: the waiters come before the user's `Drop`.
        let Ended { key: _key, completion, sweeps: _sweeps } = self.flight.end();
        completion.complete(outcome);
    }

    /// Leaves the waiters to themselves.
    #[cold]
    fn abandon(&mut self) {
        self.count_failure();
        if self.kind.is_refresh() {
            return self.abandon_refresh();
        }
        self.end(|| Outcome::Abandoned);
    }
}

impl<K, V> AsMut<Self> for Leader<'_, K, V> {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl<K, V> Drop for Leader<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        if self.stage != Stage::Ended {
            self.abandon();
        }
    }
}
