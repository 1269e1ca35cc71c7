//! Tells where the value of a call came from.

use std::marker::PhantomData;
use std::time::Duration;

use crate::flight::Loaded;
use crate::lifetime::Lifetime;
use crate::load::answer::{ManyTerms, Source, Terms};

/// Holds a value, and tells where it came from; what the calls of an [`Entry`](crate::Entry) return.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, LookupOutcome};
///
/// let cache = AsyncLru::<u32, u32>::new(10);
/// let lookup = futures_lite::future::block_on(cache.entry(1).or_insert_with(async || 10));
/// assert_eq!((lookup.value, lookup.outcome), (10, LookupOutcome::Loaded));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lookup<V> {
    /// The value.
    pub value: V,
    /// Where it came from.
    pub outcome: LookupOutcome,
}

/// Says where the value of a call came from.
///
/// # Examples
///
/// ```
/// use async_lru::{AsyncLru, LookupOutcome};
///
/// let cache = AsyncLru::<u32, u32>::new(10);
/// cache.insert_blocking(1, 10);
/// let lookup = futures_lite::future::block_on(cache.entry(1).or_insert_with(async || 11));
/// assert_eq!(lookup.outcome, LookupOutcome::Hit);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LookupOutcome {
    /// From the cache, without waiting.
    Hit,
    /// The same, and past its [`fresh_for`](crate::Builder::fresh_for); or what a refresh by this call's own
    /// closure has left in place, which failed.
    Stale,
    /// From the call's own closure.
    Loaded,
    /// From another call's load that this one waited for.
    Joined,
}

fn lookup<V>(value: V, source: Source) -> Lookup<V> {
    let outcome = match source {
        Source::Cache => LookupOutcome::Hit,
        Source::Stale => LookupOutcome::Stale,
        Source::Closure => LookupOutcome::Loaded,
        Source::Flight => LookupOutcome::Joined,
    };
    Lookup { value, outcome }
}

/// A value whose caller is told where it came from.
#[derive(Clone, Copy)]
pub(super) struct Traced {
    /// The lifetime of what the call loads.
    pub(super) ttl: Option<Duration>,
}

impl<V> Terms<V> for Traced {
    type Given = V;
    type Told = Lookup<V>;

    fn take(&self, value: V) -> Loaded<V> {
        Loaded { value, own: self.ttl.map(Lifetime::new) }
    }

    fn tell(value: V, source: Source) -> Lookup<V> {
        lookup(value, source)
    }
}

impl<V> ManyTerms<V> for Traced {
    type Item<K> = (K, V);

    fn take_item<K>(&self, (key, value): (K, V)) -> (K, Loaded<V>) {
        (key, self.take(value))
    }
}

/// The same, of a load that gives the lifetime too, as an `L`.
pub(super) struct TracedTimed<L>(PhantomData<fn() -> L>);

impl<L> TracedTimed<L> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<L> Clone for TracedTimed<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for TracedTimed<L> {}

impl<V, L: Into<Lifetime>> Terms<V> for TracedTimed<L> {
    type Given = (V, L);
    type Told = Lookup<V>;

    fn take(&self, (value, lifetime): (V, L)) -> Loaded<V> {
        Loaded { value, own: Some(lifetime.into()) }
    }

    fn tell(value: V, source: Source) -> Lookup<V> {
        lookup(value, source)
    }
}

impl<V, L: Into<Lifetime>> ManyTerms<V> for TracedTimed<L> {
    type Item<K> = (K, V, L);

    fn take_item<K>(&self, (key, value, lifetime): (K, V, L)) -> (K, Loaded<V>) {
        (key, self.take((value, lifetime)))
    }
}
