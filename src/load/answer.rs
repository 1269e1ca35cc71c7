//! In what forms loaders answer, and callers are answered.
//!
//! A form is a type parameter of the way that a call takes, and not a future around it: one that turned
//! an answer of one form into another would hold the future within it twice.

use std::marker::PhantomData;
use std::sync::{Arc, PoisonError};

use crate::entries::freshness::Age;
use crate::flight::{Failure, Loaded};
use crate::sync::Mutex;

/// Whether a closure can fail, and who gets its error.
pub(crate) trait Errors {
    /// The error as callers get it.
    type Error;
    /// What the closure gives, if that is a `T` or an error.
    type Given<T>;
    /// What the caller gets.
    type Answer<T>;

    fn result<T>(given: Self::Given<T>) -> Result<T, Self::Error>;
    fn answer<T>(result: Result<T, Self::Error>) -> Self::Answer<T>;
    /// Makes of an error what those who wait for the load get, if they get it.
    fn share(&self, error: &Self::Error) -> Option<Failure>;
    /// The error of a caller that has waited for a load which failed like this, unless it has to run its
    /// own closure.
    fn shared(&self, failure: &Failure) -> Option<Self::Error>;
}

/// Errors of closures whose future lives in the cache.
pub(crate) trait DetachedErrors: Errors {
    /// Keeps an error for whoever is to get it.
    fn keep(&self, error: Self::Error) -> Failure;
    /// The error of the caller whose closure has failed, once.
    fn take(&self, failure: &Failure) -> Option<Self::Error>;
}

/// Closures that always give a value.
#[derive(Clone, Copy)]
pub(crate) struct Infallible;

impl Errors for Infallible {
    type Error = std::convert::Infallible;
    type Given<T> = T;
    type Answer<T> = T;

    fn result<T>(given: T) -> Result<T, Self::Error> {
        Ok(given)
    }

    fn answer<T>(result: Result<T, Self::Error>) -> T {
        let Ok(answer) = result;
        answer
    }

    fn share(&self, error: &Self::Error) -> Option<Failure> {
        match *error {}
    }

    fn shared(&self, _: &Failure) -> Option<Self::Error> {
        None
    }
}

impl DetachedErrors for Infallible {
    fn keep(&self, error: Self::Error) -> Failure {
        match error {}
    }

    fn take(&self, _: &Failure) -> Option<Self::Error> {
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

impl<E> Errors for OwnError<E> {
    type Error = E;
    type Given<T> = Result<T, E>;
    type Answer<T> = Result<T, E>;

    fn result<T>(given: Result<T, E>) -> Result<T, E> {
        given
    }

    fn answer<T>(result: Result<T, E>) -> Result<T, E> {
        result
    }

    fn share(&self, _: &E) -> Option<Failure> {
        None
    }

    fn shared(&self, _: &Failure) -> Option<E> {
        None
    }
}

impl<E: Send + 'static> DetachedErrors for OwnError<E> {
    fn keep(&self, error: E) -> Failure {
        Arc::new(Mutex::new(Some(error)))
    }

    fn take(&self, failure: &Failure) -> Option<E> {
        let error = failure.downcast_ref::<Mutex<Option<E>>>()?;
        error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Closures whose error is for all callers of the flight.
///
/// Takes what it needs `E: 'static` for as closures, which have no size, so that its impl of [`Errors`]
/// has no such bound: the compiler, which forgets the lifetimes within a future when it asks whether that
/// is `Send`, could not prove it of a `&'static str` or a `dyn Error`.
pub(crate) struct SharedError<E, Share, Shared> {
    share: Share,
    /// Gives `None` if another call of the same flight has used another type of error.
    shared: Shared,
    error: PhantomData<fn() -> E>,
}

/// Makes the form of closures whose error is for all callers.
#[expect(clippy::type_complexity, reason = "closures have no names")]
pub(crate) fn shared_error<E: Send + Sync + 'static>()
-> SharedError<E, impl Fn(&Arc<E>) -> Failure, impl Fn(&Failure) -> Option<Arc<E>>> {
    SharedError {
        share: |error: &Arc<E>| -> Failure { Arc::<E>::clone(error) },
        shared: |failure: &Failure| Arc::clone(failure).downcast().ok(),
        error: PhantomData,
    }
}

impl<E, Share, Shared> Errors for SharedError<E, Share, Shared>
where
    Share: Fn(&Arc<E>) -> Failure,
    Shared: Fn(&Failure) -> Option<Arc<E>>,
{
    type Error = Arc<E>;
    type Given<T> = Result<T, E>;
    type Answer<T> = Result<T, Arc<E>>;

    fn result<T>(given: Result<T, E>) -> Result<T, Arc<E>> {
        given.map_err(Arc::new)
    }

    fn answer<T>(result: Result<T, Arc<E>>) -> Result<T, Arc<E>> {
        result
    }

    fn share(&self, error: &Arc<E>) -> Option<Failure> {
        Some((self.share)(error))
    }

    fn shared(&self, failure: &Failure) -> Option<Arc<E>> {
        (self.shared)(failure)
    }
}

impl<E, Share, Shared> DetachedErrors for SharedError<E, Share, Shared>
where
    Self: Errors<Error = Arc<E>>,
{
    fn keep(&self, error: Arc<E>) -> Failure {
        self.share(&error).expect("it is for all callers")
    }

    fn take(&self, failure: &Failure) -> Option<Arc<E>> {
        self.shared(failure)
    }
}

/// What a closure brings besides the value, and what its caller is told besides.
pub(crate) trait Terms<V> {
    /// What the closure brings.
    type Given;
    /// What the caller is told.
    type Told;
    /// Whether it loads although there may be a value.
    const REFRESHES: bool = false;

    fn take(&self, given: Self::Given) -> Loaded<V>;
    fn tell(value: V, source: Source) -> Self::Told;
}

/// The same of a closure that loads many keys.
pub(crate) trait ManyTerms<V>: Terms<V> {
    /// What the closure brings of a key.
    type Item<K>;

    fn take_item<K>(&self, item: Self::Item<K>) -> (K, Loaded<V>);
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Cache,
    /// The same, when it was stale.
    Stale,
    /// The call's own closure.
    Closure,
    /// Another call's load that this one waited for, be it that it found its value in the cache.
    Flight,
}

impl From<Age> for Source {
    fn from(age: Age) -> Self {
        match age {
            Age::Fresh => Self::Cache,
            Age::Stale | Age::Due => Self::Stale,
        }
    }
}

/// A value, and nothing besides.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl<V> Terms<V> for Plain {
    type Given = V;
    type Told = V;

    fn take(&self, value: V) -> Loaded<V> {
        Loaded { value, own: None }
    }

    fn tell(value: V, _: Source) -> V {
        value
    }
}

impl<V> ManyTerms<V> for Plain {
    type Item<K> = (K, V);

    fn take_item<K>(&self, (key, value): (K, V)) -> (K, Loaded<V>) {
        (key, self.take(value))
    }
}

/// The same, of a load that is made whether or not there is a value.
#[derive(Clone, Copy)]
pub(crate) struct Renewed;

impl<V> Terms<V> for Renewed {
    type Given = V;
    type Told = V;
    const REFRESHES: bool = true;

    fn take(&self, value: V) -> Loaded<V> {
        Loaded { value, own: None }
    }

    fn tell(value: V, _: Source) -> V {
        value
    }
}
