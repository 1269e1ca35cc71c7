//! The delivery of a value whose entry takes the room of many others: in turns with other tasks.

use std::future::Future;
use std::pin::Pin;

use super::delivery::{Delivered, Unfinished};
use super::leader::Leader;
use crate::appraisal::Appraised;
use crate::flight::Outcome;
use crate::shard::departed::Departed;
use crate::shard::publication::Publication;
use crate::shard::removals::Deliveries;
use crate::store::publish::Insertion;
use crate::store::steps::{Step, Steps, run};

impl<'a, K: Eq, V: Clone> Delivered<'a, K, V> {
    /// Does what is left, with a pause after each turn, and waits for the listener when that who leads the
    /// flight is dropped.
    ///
    /// In a box, so that the futures of calls need no room for what few of them wait with.
    pub(super) fn settle(
        self,
        leads: impl AsMut<Leader<'a, K, V>>,
    ) -> Pin<Box<impl Future<Output = ()>>> {
        let Self { mut deliveries, unfinished } = self;
        let mut leads = leads;
        Box::pin(async move {
            if let Some(unfinished) = unfinished {
                deliveries.settle().await;
                deliveries = leads.as_mut().finish(unfinished).await;
            }
            drop(leads);
            deliveries.settle().await;
        })
    }
}

impl<'a, K: Eq, V: Clone> Leader<'a, K, V> {
    /// Puts the rest of a publication off until the next turn.
    #[cold]
    pub(super) fn put_off(
        &self,
        publication: Publication<'a, K, V>,
        departed: Departed<K, V>,
        appraised: Appraised,
        outcome: Outcome<V>,
    ) -> Delivered<'a, K, V> {
        let insertion = Insertion::new(self.store, self.flight.shard(), publication);
        let deliveries = departed.into_deliveries();
        let unfinished = Some(Box::new(Unfinished { insertion, appraised, outcome }));
        Delivered { deliveries, unfinished }
    }

    /// Does what is left of a delivery, with a pause after each turn. Returns what is left to do for the
    /// listener.
    async fn finish(&mut self, unfinished: Box<Unfinished<'a, K, V>>) -> Deliveries<K, V> {
        let Unfinished { mut insertion, outcome, .. } = *unfinished;
        run(self.store, &mut insertion).await;
        self.conclude(insertion, || outcome)
    }

    /// Takes another turn at a delivery that somebody has begun.
    #[cold]
    pub(super) fn deliver_more(
        &mut self,
        value: &V,
        appraised: Appraised,
        turns: usize,
    ) -> Delivered<'a, K, V> {
        let publication = self.publication(value.clone(), appraised);
        let mut insertion = Insertion::new(self.store, self.flight.shard(), publication);
        insertion.turns = turns;
        let mut deliveries = Deliveries::default();
        if insertion.step(self.store, &mut deliveries) == Step::Again {
            let outcome = Outcome::Value(value.clone());
            let unfinished = Some(Box::new(Unfinished { insertion, appraised, outcome }));
            return Delivered { deliveries, unfinished };
        }
        deliveries.append(self.conclude(insertion, || Outcome::Value(value.clone())));
        deliveries.into()
    }

    /// Ends the flight of an entry that is in. Returns what is left to do for the listener.
    fn conclude(
        &mut self,
        insertion: Insertion<'a, K, V>,
        outcome: impl FnOnce() -> Outcome<V>,
    ) -> Deliveries<K, V> {
        let mut publication = insertion.into_publication();
        self.tell(&mut publication, outcome);
        self.part_with(publication, Departed::default())
    }
}
