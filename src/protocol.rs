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
    fn failure(answer: &Self::Answer) -> Outcome<V>;
    /// The answer of a waiter, unless it has to run its own closure.
    fn shared(failure: &(dyn Any + Send + Sync)) -> Option<Self::Answer>;
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

    fn failure(_: &V) -> Outcome<V> {
        Outcome::Abandoned
    }

    fn shared(_: &(dyn Any + Send + Sync)) -> Option<V> {
        None
    }
}

/// Loaders whose error is for their own caller.
pub(crate) struct OwnError<E>(PhantomData<E>);

impl<V, E> Protocol<V> for OwnError<E> {
    type Answer = Result<V, E>;

    fn found(value: V) -> Self::Answer {
        Ok(value)
    }

    fn value(answer: &Self::Answer) -> Option<&V> {
        answer.as_ref().ok()
    }

    fn failure(_: &Self::Answer) -> Outcome<V> {
        Outcome::Abandoned
    }

    fn shared(_: &(dyn Any + Send + Sync)) -> Option<Self::Answer> {
        None
    }
}

/// Loaders whose error is for all callers of the flight.
pub(crate) struct SharedError<E>(PhantomData<E>);

impl<V, E: Clone + Send + Sync + 'static> Protocol<V> for SharedError<E> {
    type Answer = Result<V, E>;

    fn found(value: V) -> Self::Answer {
        Ok(value)
    }

    fn value(answer: &Self::Answer) -> Option<&V> {
        answer.as_ref().ok()
    }

    fn failure(answer: &Self::Answer) -> Outcome<V> {
        match answer {
            Ok(_) => Outcome::Abandoned,
            Err(error) => Outcome::Failure(Box::new(error.clone())),
        }
    }

    fn shared(failure: &(dyn Any + Send + Sync)) -> Option<Self::Answer> {
        // Another call of the same flight may use another type of error.
        failure.downcast_ref::<E>().map(|error| Err(error.clone()))
    }
}
