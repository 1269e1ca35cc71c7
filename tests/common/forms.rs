//! The forms in which a load is asked for, behind one signature; included by the tests that run all
//! of them as a module of their own.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use async_lru::AsyncLru;

use crate::common::{Calls, Hand, hand};

/// A form of `get_or_insert`, named like it; `Own` is the call of an entry whose error is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    With,
    WithRef,
    Own,
    OwnRef,
    TryWith,
    TryWithRef,
}

impl Form {
    pub const ALL: [Self; 6] =
        [Self::With, Self::WithRef, Self::Own, Self::OwnRef, Self::TryWith, Self::TryWithRef];

    /// Whether its load may fail.
    pub fn is_fallible(self) -> bool {
        !matches!(self, Self::With | Self::WithRef)
    }

    /// Whether the calls that wait for it get its error.
    pub fn shares_errors(self) -> bool {
        matches!(self, Self::TryWith | Self::TryWithRef)
    }

    /// Makes a call of this form. The load of a form that is not fallible must not fail.
    pub fn call<'a, K, V, S, E, Fut>(
        self,
        cache: &'a AsyncLru<K, V, S>,
        key: K,
        load: impl FnOnce() -> Fut + 'a,
    ) -> Hand<'a, Result<V, E>>
    where
        K: Hash + Eq + Clone + 'a,
        V: Clone,
        S: BuildHasher,
        E: Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + 'a,
    {
        let sure = async |load: Fut| match load.await {
            Ok(value) => value,
            Err(_) => panic!("this form takes no load that fails"),
        };
        let own = |error: Arc<E>| E::clone(&error);
        match self {
            Self::With => {
                hand(async move { Ok(cache.get_or_insert_with(key, || sure(load())).await) })
            }
            Self::WithRef => {
                hand(async move { Ok(cache.get_or_insert_with_ref(&key, || sure(load())).await) })
            }
            Self::Own => hand(async move { cache.get_or_insert_own(key, load).await }),
            Self::OwnRef => hand(async move { cache.get_or_insert_own_ref(&key, load).await }),
            Self::TryWith => {
                hand(async move { cache.try_get_or_insert_with(key, load).await.map_err(own) })
            }
            Self::TryWithRef => {
                hand(async move { cache.try_get_or_insert_with_ref(&key, load).await.map_err(own) })
            }
        }
    }
}
