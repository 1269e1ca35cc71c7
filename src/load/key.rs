//! In what forms callers bring keys.

use std::hash::Hash;
use std::mem::needs_drop;

use equivalent::Equivalent;

/// A key as the caller has it: owned, or borrowed and made owned when it has to be.
#[expect(unnameable_types, reason = "it seals `EntryKey`")]
pub trait KeySource<K>: Sized {
    /// What the key is looked for with.
    type Query: Hash + Equivalent<K> + ?Sized;
    /// What the key is looked for with.
    fn query(&self) -> &Self::Query;
    /// The key, if the caller has it as that already or it costs nothing to make.
    fn try_into_key(self) -> Result<K, Self>;
    /// The key. Calls user code: never under a lock.
    fn into_key(self) -> K;
}

/// Gives an [`Entry`](crate::Entry) its key, owned or borrowed.
///
/// Implemented for [`OwnedKey`], [`BorrowedKey`] and [`MadeKey`], which are what
/// [`entry`](crate::AsyncLru::entry), [`entry_ref`](crate::AsyncLru::entry_ref) and
/// [`entry_by`](crate::AsyncLru::entry_by) make of a key; not to be implemented elsewhere.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no form of a key of type `{K}`",
    note = "keys have to be `Hash + Eq`; `entry`, `entry_ref` and `entry_by` take them"
)]
pub trait EntryKey<K>: KeySource<K> {}

impl<K, Q: KeySource<K>> EntryKey<K> for Q {}

/// Holds a key that [`entry`](crate::AsyncLru::entry) was given.
#[derive(Clone, Copy, Debug)]
pub struct OwnedKey<K>(pub(crate) K);

impl<K: Hash + Eq> KeySource<K> for OwnedKey<K> {
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

/// Holds a key that [`entry_ref`](crate::AsyncLru::entry_ref) was given.
#[derive(Clone, Copy, Debug)]
pub struct BorrowedKey<'q, Q: ?Sized>(pub(crate) &'q Q);

impl<K, Q> KeySource<K> for BorrowedKey<'_, Q>
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

/// Holds a key that [`entry_by`](crate::AsyncLru::entry_by) was given, with what makes it an owned one.
#[derive(Clone, Copy, Debug)]
pub struct MadeKey<'q, Q: ?Sized, M> {
    pub(crate) query: &'q Q,
    pub(crate) make: M,
}

impl<K, Q, M> KeySource<K> for MadeKey<'_, Q, M>
where
    Q: Hash + Equivalent<K> + ?Sized,
    M: FnOnce(&Q) -> K,
{
    type Query = Q;

    fn query(&self) -> &Q {
        self.query
    }

    fn try_into_key(self) -> Result<K, Self> {
        Err(self)
    }

    fn into_key(self) -> K {
        (self.make)(self.query)
    }
}
