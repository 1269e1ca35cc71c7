//! In what forms callers bring keys, and loaders answer.

use std::any::Any;
use std::hash::Hash;
use std::marker::PhantomData;

use equivalent::Equivalent;

use crate::flight::Outcome;

/// A key as the caller has it: owned, or borrowed and made owned when it has to be.
pub(crate) trait KeySource<K> {
    type Query: Hash + Equivalent<K> + ?Sized;
    fn query(&self) -> &Self::Query;
    fn into_key(self) -> K;
}

pub(crate) struct Owned<K>(pub(crate) K);

impl<K: Hash + Eq> KeySource<K> for Owned<K> {
    type Query = K;

    fn query(&self) -> &K {
        &self.0
    }

    fn into_key(self) -> K {
        self.0
    }
}

pub(crate) struct Borrowed<'a, Q: ?Sized>(pub(crate) &'a Q);

impl<K, Q> KeySource<K> for Borrowed<'_, Q>
where
    Q: Hash + Equivalent<K> + ToOwned<Owned = K> + ?Sized,
{
    type Query = Q;

    fn query(&self) -> &Q {
        self.0
    }

    fn into_key(self) -> K {
        self.0.to_owned()
    }
}

/// What a loader answers, and what of it is cached and shared with waiters.
pub(crate) trait Protocol<V> {
    type Answer;
    /// The answer of a call that found `value`.
    fn found(value: V) -> Self::Answer;
    /// The value to be cached.
    fn value(answer: &Self::Answer) -> Option<&V>;
    /// What waiters get of an answer without a value.
    fn failure(&self, answer: &Self::Answer) -> Outcome<V>;
    /// The answer of a waiter, unless it has to run its own closure.
    fn shared(&self, failure: &(dyn Any + Send + Sync)) -> Option<Self::Answer>;
    /// The call has got its answer without running its own closure. Most callers do not ask.
    fn answered(&mut self, _by: Source) {}
}

/// Where an answer comes from that is no answer of the call's own loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Cache,
    /// Another call's load that this one waited for, be it that it found its value in the cache.
    Flight,
}

/// Loaders that always give a value.
pub(crate) struct Infallible;

impl<V> Protocol<V> for Infallible {
    type Answer = V;

    fn found(value: V) -> V {
        value
    }

    fn value(answer: &V) -> Option<&V> {
        Some(answer)
    }

    fn failure(&self, _: &V) -> Outcome<V> {
        Outcome::Abandoned
    }

    fn shared(&self, _: &(dyn Any + Send + Sync)) -> Option<V> {
        None
    }
}

/// Loaders whose error is for their own caller.
pub(crate) struct OwnError<E>(PhantomData<fn() -> E>);

impl<E> OwnError<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<V, E> Protocol<V> for OwnError<E> {
    type Answer = Result<V, E>;

    fn found(value: V) -> Self::Answer {
        Ok(value)
    }

    fn value(answer: &Self::Answer) -> Option<&V> {
        answer.as_ref().ok()
    }

    fn failure(&self, _: &Self::Answer) -> Outcome<V> {
        Outcome::Abandoned
    }

    fn shared(&self, _: &(dyn Any + Send + Sync)) -> Option<Self::Answer> {
        None
    }
}

/// Loaders whose error is for all callers of the flight.
///
/// Holds what it needs `E: 'static` for as functions, so that its impl of [`Protocol`] has no such bound:
/// the compiler, which forgets the lifetimes within a future when it asks whether that is `Send`, could
/// not prove it of a `&'static str` or a `dyn Error`.
pub(crate) struct SharedError<E> {
    pack: fn(&E) -> Box<dyn Any + Send + Sync>,
    /// `None` if another call of the same flight has used another type of error.
    unpack: fn(&(dyn Any + Send + Sync)) -> Option<E>,
}

impl<E: Clone + Send + Sync + 'static> SharedError<E> {
    pub(crate) fn new() -> Self {
        Self {
            pack: |error| Box::new(error.clone()),
            unpack: |failure| failure.downcast_ref::<E>().cloned(),
        }
    }
}

impl<V, E> Protocol<V> for SharedError<E> {
    type Answer = Result<V, E>;

    fn found(value: V) -> Self::Answer {
        Ok(value)
    }

    fn value(answer: &Self::Answer) -> Option<&V> {
        answer.as_ref().ok()
    }

    fn failure(&self, answer: &Self::Answer) -> Outcome<V> {
        match answer {
            Ok(_) => Outcome::Abandoned,
            Err(error) => Outcome::Failure((self.pack)(error)),
        }
    }

    fn shared(&self, failure: &(dyn Any + Send + Sync)) -> Option<Self::Answer> {
        (self.unpack)(failure).map(Err)
    }
}
