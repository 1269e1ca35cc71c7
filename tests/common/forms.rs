//! The forms in which a load is asked for, behind one signature; included by the tests that run all
//! of them as a module of their own.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::future::Future;
use std::hash::{BuildHasher, Hash};

use async_lru::AsyncLru;

use crate::common::{Hand, hand};

/// A form of `get_or_insert`, named like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    With,
    WithRef,
    TryWith,
    TryWithRef,
    TryShared,
    TrySharedRef,
}

impl Form {
    pub const ALL: [Self; 6] = [
        Self::With,
        Self::WithRef,
        Self::TryWith,
        Self::TryWithRef,
        Self::TryShared,
        Self::TrySharedRef,
    ];

    /// Whether its load may fail.
    pub fn is_fallible(self) -> bool {
        !matches!(self, Self::With | Self::WithRef)
    }

    /// Whether the calls that wait for it get its error.
    pub fn shares_errors(self) -> bool {
        matches!(self, Self::TryShared | Self::TrySharedRef)
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
        match self {
            Self::With => {
                hand(async move { Ok(cache.get_or_insert_with(key, || sure(load())).await) })
            }
            Self::WithRef => {
                hand(async move { Ok(cache.get_or_insert_with_ref(&key, || sure(load())).await) })
            }
            Self::TryWith => hand(async move { cache.try_get_or_insert_with(key, load).await }),
            Self::TryWithRef => {
                hand(async move { cache.try_get_or_insert_with_ref(&key, load).await })
            }
            Self::TryShared => hand(async move { cache.try_get_or_insert_shared(key, load).await }),
            Self::TrySharedRef => {
                hand(async move { cache.try_get_or_insert_shared_ref(&key, load).await })
            }
        }
    }
}
