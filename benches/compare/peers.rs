//! The caches under test, each used as its own documentation says.

mod plain;
mod single_flight;

use std::future::Future;
use std::time::Duration;

use crate::workload::{AtOnce, Numbers, Workload};

pub(crate) const OURS: &str = "async-lru";
/// Ours, with the other order of eviction.
pub(crate) const ADAPTIVE: &str = "async-lru adaptive";
pub(crate) const QUICK_CACHE: &str = "quick_cache";
pub(crate) const MOKA: &str = "moka";
pub(crate) const HASHLINK: &str = "parking_lot+hashlink";
/// Left out of the rows that evict, and of what counts as best.
pub(crate) const FLOOR: &str = "floor";

/// What is worth knowing of a peer beside its numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) flight: Flight,
    pub(crate) expiry: Expiry,
    pub(crate) home: Home,
    pub(crate) note: &'static str,
}

/// Whether callers that miss together share one load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flight {
    Single,
    /// Its callers each load: look up, load, insert. It does less.
    None,
}

/// Whether entries can have a time to live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expiry {
    Ttl,
    /// It runs the rows with a time to live without one, and so does less.
    None,
}

/// Where the callers run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    /// On threads that poll the calls themselves.
    Threads,
    /// In tasks of a multi-threaded tokio runtime: for peers that spawn loads there or wait for a lock
    /// of tokio's, for either of which a thread outside would have to sleep.
    Tokio,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) capacity: usize,
    pub(crate) ttl: Option<Duration>,
}

/// A cache under test. Its loader is [`Workload::load`].
pub(crate) trait Cache<W: Workload>: Send + Sync + Sized + 'static {
    const ABOUT: About;

    /// Default settings but for the capacity and the time to live.
    fn build(config: Config) -> Self;

    fn get(&self, key: &W::Key) -> impl Future<Output = Option<W::Value>> + Send;

    /// The single-flight call if there is one, else what its users have to write.
    fn get_or_insert(&self, key: &W::Key) -> impl Future<Output = W::Value> + Send {
        async {
            if let Some(value) = self.get(key).await {
                return value;
            }
            let value = W::load(key).await;
            self.insert(key.clone(), value.clone()).await;
            value
        }
    }

    fn insert(&self, key: W::Key, value: W::Value) -> impl Future<Output = ()> + Send;

    /// Waits until insertions have taken effect.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The entries held; `None` if it cannot say.
    fn len(&self) -> Option<usize>;

    /// Bytes of the single-flight call's future with a loader of 64 bytes. `None` where the loader is
    /// in the cache or in a task of its own, or where there is no such call: what a user writes instead
    /// is as large as it is written.
    fn future_size() -> Option<usize> {
        None
    }
}

/// Does something with the type of a peer.
pub(crate) trait Visitor<W: Workload> {
    fn visit<C: Cache<W>>(&mut self);
}

/// Visits all peers, in the order of the tables.
fn visit_all<W: Workload>(visitor: &mut impl Visitor<W>) {
    visitor.visit::<single_flight::Ours<W>>();
    visitor.visit::<single_flight::OursAdaptive<W>>();
    visitor.visit::<single_flight::QuickCache<W>>();
    visitor.visit::<single_flight::Moka<W>>();
    visitor.visit::<single_flight::Fibre<W>>();
    visitor.visit::<single_flight::Foyer<W>>();
    visitor.visit::<plain::HashlinkLru<W>>();
    visitor.visit::<plain::TokioLru<W>>();
    visitor.visit::<plain::Scc<W>>();
    visitor.visit::<plain::TinyUfo<W>>();
    visitor.visit::<plain::Stretto<W>>();
    visitor.visit::<plain::Cached<W>>();
    visitor.visit::<plain::Floor<W>>();
}

/// All peers, in the order of the tables.
pub(crate) fn all() -> Vec<About> {
    struct List(Vec<About>);

    impl<W: Workload> Visitor<W> for List {
        fn visit<C: Cache<W>>(&mut self) {
            self.0.push(C::ABOUT);
        }
    }

    let mut list = List(Vec::new());
    visit_all::<Numbers<AtOnce>>(&mut list);
    list.0
}

/// What is measured of one peer, whichever it is.
pub(crate) trait Measure<W: Workload> {
    type Output;

    fn measure<C: Cache<W>>(&self) -> Self::Output;
}

/// Measures the peer of that name, if there is one.
pub(crate) fn measure<W: Workload, M: Measure<W>>(name: &str, measure: &M) -> Option<M::Output> {
    struct Named<'a, M, O> {
        name: &'a str,
        measure: &'a M,
        output: Option<O>,
    }

    impl<W: Workload, M: Measure<W>> Visitor<W> for Named<'_, M, M::Output> {
        fn visit<C: Cache<W>>(&mut self) {
            if C::ABOUT.name == self.name {
                self.output = Some(self.measure.measure::<C>());
            }
        }
    }

    let mut named = Named { name, measure, output: None };
    visit_all::<W>(&mut named);
    named.output
}
