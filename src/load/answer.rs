//! In what forms callers bring keys, and loaders answer.

use std::hash::Hash;
use std::marker::PhantomData;
use std::mem::needs_drop;

use equivalent::Equivalent;

use crate::flight::{Failure, Outcome};

/// A key as the caller has it: owned, or borrowed and made owned when it has to be.
pub(crate) trait KeySource<K> {
    type Query: Hash + Equivalent<K> + ?Sized;
    fn query(&self) -> &Self::Query;
    /// The key, if the caller has it as that already or it costs nothing to make.
    fn try_into_key(self) -> Result<K, Self>
    where
        Self: Sized;
    /// The key. Calls user code: never under a lock.
    fn into_key(self) -> K;
}

pub(crate) struct Owned<K>(pub(crate) K);

impl<K: Hash + Eq> KeySource<K> for Owned<K> {
    type Query = K;

    fn query(&self) -> &K {
        &self.0
    }

    fn try_into_key(self) -> Result<K, Self> {
        Ok(self.0)
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

    /// A small key that owns nothing, such as a number, is sooner copied than looked for a second time.
    #[inline]
    fn try_into_key(self) -> Result<K, Self> {
        const SMALL: usize = 32;
        let is_plain = !needs_drop::<K>() && size_of::<K>() <= SMALL;
        if is_plain { Ok(self.into_key()) } else { Err(self) }
    }

    fn into_key(self) -> K {
        self.0.to_owned()
    }
}

/// In what form a call answers, and its closure does: with a value, or with an error if there can be
/// one; what else it tells, and who gets the error.
///
/// A future that turned one form into another would hold the future within it twice.
pub(crate) trait Loader {
    type Error;
    /// An answer whose value is a `T`.
    type Answer<T>;
    /// A value, and what the caller is told of it.
    type Told<V>;

    fn result<T>(answer: Self::Answer<T>) -> Result<T, Self::Error>;
    fn answer<T>(result: Result<T, Self::Error>) -> Self::Answer<T>;
    fn tell<V>(value: V, source: Source) -> Self::Told<V>;
    /// Makes of an error what waiters get.
    fn failure<V>(&self, error: &Self::Error) -> Outcome<V>;
    /// The error of a waiter, unless it has to run its own closure.
    fn shared(&self, failure: &Failure) -> Option<Self::Error>;
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Cache,
    /// The call's own closure.
    Closure,
    /// Another call's load that this one waited for, be it that it found its value in the cache.
    Flight,
}

/// Closures that always give a value.
pub(crate) struct Infallible;

impl Loader for Infallible {
    type Error = std::convert::Infallible;
    type Answer<T> = T;
    type Told<V> = V;

    fn result<T>(answer: T) -> Result<T, Self::Error> {
        Ok(answer)
    }

    fn answer<T>(result: Result<T, Self::Error>) -> T {
        let Ok(answer) = result;
        answer
    }

    fn tell<V>(value: V, _: Source) -> V {
        value
    }

    fn failure<V>(&self, error: &Self::Error) -> Outcome<V> {
        match *error {}
    }

    fn shared(&self, _: &Failure) -> Option<Self::Error> {
        None
    }
}

/// Closures whose error is for their own caller.
pub(crate) struct OwnError<E>(PhantomData<fn() -> E>);

impl<E> OwnError<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Loader for OwnError<E> {
    type Error = E;
    type Answer<T> = Result<T, E>;
    type Told<V> = V;

    fn result<T>(answer: Result<T, E>) -> Result<T, E> {
        answer
    }

    fn answer<T>(result: Result<T, E>) -> Result<T, E> {
        result
    }

    fn tell<V>(value: V, _: Source) -> V {
        value
    }

    fn failure<V>(&self, _: &E) -> Outcome<V> {
        Outcome::Abandoned
    }

    fn shared(&self, _: &Failure) -> Option<E> {
        None
    }
}

/// Closures whose error is for all callers of the flight.
///
/// Holds what it needs `E: 'static` for as functions, so that its impl of [`Loader`] has no such bound:
/// the compiler, which forgets the lifetimes within a future when it asks whether that is `Send`, could
/// not prove it of a `&'static str` or a `dyn Error`.
pub(crate) struct SharedError<E> {
    pack: fn(&E) -> Failure,
    /// `None` if another call of the same flight has used another type of error.
    unpack: fn(&Failure) -> Option<E>,
}

impl<E: Clone + Send + Sync + 'static> SharedError<E> {
    pub(crate) fn new() -> Self {
        Self {
            pack: |error| Box::new(error.clone()),
            unpack: |failure| failure.downcast_ref::<E>().cloned(),
        }
    }
}

impl<E> Loader for SharedError<E> {
    type Error = E;
    type Answer<T> = Result<T, E>;
    type Told<V> = V;

    fn result<T>(answer: Result<T, E>) -> Result<T, E> {
        answer
    }

    fn answer<T>(result: Result<T, E>) -> Result<T, E> {
        result
    }

    fn tell<V>(value: V, _: Source) -> V {
        value
    }

    fn failure<V>(&self, error: &E) -> Outcome<V> {
        Outcome::Failure((self.pack)(error))
    }

    fn shared(&self, failure: &Failure) -> Option<E> {
        (self.unpack)(failure)
    }
}
