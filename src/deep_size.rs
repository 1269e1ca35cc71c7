//! How much memory a value owns: the trait that the cache's memory figure is made of.

use std::alloc::Layout;
use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZero;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo};
use std::path::{Path, PathBuf};
use std::rc::{self, Rc};
use std::sync::{self, Arc, atomic};
use std::time::{Duration, Instant, SystemTime};

/// Measures the memory that a value owns, in bytes.
///
/// # Contract
///
/// [`heap_size`](Self::heap_size) is what the value has requested from the allocator and would
/// give back if it were dropped now: the *capacity* of its buffers, not their length, and the same
/// for everything inside them. What the allocator adds for its own bookkeeping is not counted.
/// The figure must not change while the value sits in a cache, which does not look again; hence
/// there are no impls for `RefCell`, `Mutex` and their like.
///
/// A type that has nothing to drop owns nothing, so the collections here do not visit elements of
/// such a type: a `Vec<u64>` is measured in constant time, a `Vec<String>` in linear time.
///
/// # What is exact and what is not
///
/// Every impl here is exact, but for these:
///
/// - **Shared memory** counts once for every holder: two [`Arc`]s of one value report it twice,
///   as do two `Rc`s. A `Weak` and a `&T` own nothing and report 0.
/// - **Hash tables** are computed from their capacity by the layout of the standard library's
///   table. A table that was filled to the brim and then lost half of its entries or more, one by
///   one, hides a part of its capacity, and may count for a quarter of its slots or less. What the
///   hasher itself may own is left out.
/// - **`BTreeMap`, `BTreeSet`** do not show how full their nodes are. Up to 11 entries are exact
///   (one node). From 12 on, the nodes are taken to be as full as keys inserted in random order
///   make them. That is about 20 % less than the truth for keys inserted in ascending order, 50 %
///   more for a map that was collected from an iterator, and for any history between 0.6 and 1.7
///   times the truth. What the keys and values own is added exactly. Nodes that removals leave
///   behind in a map of 11 entries or fewer are not seen.
/// - **`bytes::Bytes`, `BytesMut`** (feature `bytes`) count the bytes they can see: not what a
///   sibling holds of the same buffer, nor its header of some 24 to 40 bytes; a `Bytes` over
///   a `static` counts as if it owned it.
/// - **`serde_json::Map`** (feature `serde_json`) is a `BTreeMap`, with what that means, or, under
///   serde_json's `preserve_order`, an index map that is assumed never to have shrunk. Under its
///   `arbitrary_precision` a number is a text, of which the spare capacity is not seen.
///
/// # Examples
///
/// ```
/// use async_lru::DeepSize;
///
/// let name = String::from("hello");
/// assert_eq!(name.heap_size(), 5);
/// assert_eq!(name.deep_size(), size_of::<String>() + 5);
///
/// // Spare capacity is memory too.
/// assert_eq!(Vec::<u32>::with_capacity(10).heap_size(), 40);
/// ```
///
/// For a struct, [`impl_deep_size!`](crate::impl_deep_size) writes the impl. For an enum or
/// a generic type it is a few lines by hand:
///
/// ```
/// use async_lru::DeepSize;
///
/// enum Reply<T> {
///     Found(Box<T>),
///     Redirect { url: String, code: u16 },
///     Gone,
/// }
///
/// impl<T: DeepSize> DeepSize for Reply<T> {
///     fn heap_size(&self) -> usize {
///         match self {
///             Reply::Found(body) => body.heap_size(),
///             Reply::Redirect { url, code: _ } => url.heap_size(),
///             Reply::Gone => 0,
///         }
///     }
/// }
///
/// assert_eq!(Reply::Found(Box::new(7_u64)).heap_size(), 8);
/// assert_eq!(Reply::<u64>::Gone.heap_size(), 0);
/// let moved = Reply::<u64>::Redirect { url: "/new".into(), code: 301 };
/// assert_eq!(moved.heap_size(), 4);
/// ```
#[diagnostic::on_unimplemented(
    message = "the cache cannot measure how many bytes `{Self}` takes",
    label = "`{Self}` does not implement `DeepSize`",
    note = "implement `async_lru::DeepSize` for it, for which there is the macro `impl_deep_size!`",
    note = "or say how to measure: `Builder::max_bytes_with`, `Builder::measure_with`"
)]
pub trait DeepSize {
    /// Returns the bytes that this value owns on the heap.
    ///
    /// Its own size is not among them: that is in whatever holds it. Sums saturate at
    /// `usize::MAX`, which shared memory counted per holder could otherwise overflow.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::DeepSize;
    ///
    /// assert_eq!(7_u64.heap_size(), 0);
    /// assert_eq!(Box::new(7_u64).heap_size(), 8);
    ///
    /// let names = vec![String::from("ab"), String::from("c")];
    /// assert_eq!(names.heap_size(), 2 * size_of::<String>() + 3);
    /// ```
    fn heap_size(&self) -> usize;

    /// Returns the bytes of this value itself and of all that it owns.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_lru::DeepSize;
    ///
    /// assert_eq!(7_u64.deep_size(), 8);
    /// assert_eq!(Box::new(7_u64).deep_size(), size_of::<usize>() + 8);
    /// assert_eq!("four"[..].deep_size(), 4);
    /// ```
    fn deep_size(&self) -> usize {
        size_of_val(self).saturating_add(self.heap_size())
    }
}

/// Implements [`DeepSize`] for a struct as the sum of the fields that are named.
///
/// A field that is left out counts with its inline size only, as if it owned nothing: right for
/// one that has no heap memory, and the way to exclude one that is shared. Each named field's type
/// must implement [`DeepSize`]. The fields of a tuple struct are named by their index. A generic
/// struct takes its arguments spelled out (`Page<u32>`); to cover all of them, write the impl by
/// hand as [`DeepSize`] shows.
///
/// # Examples
///
/// ```
/// use async_lru::{DeepSize, impl_deep_size};
/// use std::sync::Arc;
///
/// struct User {
///     id: u64,
///     name: String,
///     tags: Vec<u16>,
///     config: Arc<String>, // one for all users: no user's share
/// }
/// impl_deep_size!(User { name, tags });
///
/// struct Pair(Box<u32>, String);
/// impl_deep_size!(Pair { 0, 1 });
///
/// struct Unit;
/// impl_deep_size!(Unit {});
///
/// let user = User { id: 7, name: "ann".into(), tags: vec![1, 2], config: Arc::default() };
/// assert_eq!(user.heap_size(), 3 + 4);
/// assert_eq!(user.deep_size(), size_of::<User>() + 7);
/// assert_eq!(Pair(Box::new(1), "ab".into()).heap_size(), 4 + 2);
/// assert_eq!(Unit.deep_size(), 0);
/// # let _ = (user.id, user.config);
/// ```
#[macro_export]
macro_rules! impl_deep_size {
    ($type:ty { $($field:tt),* $(,)? }) => {
        impl $crate::DeepSize for $type {
            fn heap_size(&self) -> usize {
                0_usize $(.saturating_add($crate::DeepSize::heap_size(&self.$field)))*
            }
        }
    };
}

/// Sums what the items own, without a look at them when their type cannot own anything. The
/// optimiser would find that out for a slice, but not for a table or a tree.
fn owned_by_all<'a, T: DeepSize + 'a>(items: impl IntoIterator<Item = &'a T>) -> usize {
    if !needs_drop::<T>() {
        return 0;
    }
    items.into_iter().fold(0, |sum: usize, item| sum.saturating_add(item.heap_size()))
}

/// A contiguous buffer of `capacity` elements; of zero-sized ones there is none, although their
/// capacity is `usize::MAX`.
fn buffer<T>(capacity: usize) -> usize {
    capacity.saturating_mul(size_of::<T>())
}

// --- values that own nothing ------------------------------------------------------------------

macro_rules! owns_nothing {
    ($($type:ty),* $(,)?) => {$(
        impl DeepSize for $type {
            fn heap_size(&self) -> usize {
                0
            }
        }
    )*};
}

macro_rules! integers_own_nothing {
    ($($integer:ty),*) => { owns_nothing!($($integer, NonZero<$integer>),*); };
}

integers_own_nothing!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);
owns_nothing!(f32, f64, bool, char, (), Infallible, Ordering, RangeFull);
owns_nothing!(str, OsStr, CStr, Path);
owns_nothing!(Duration, Instant, SystemTime);
owns_nothing!(IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6);
owns_nothing!(
    atomic::AtomicBool,
    atomic::AtomicU8,
    atomic::AtomicU16,
    atomic::AtomicU32,
    atomic::AtomicU64,
    atomic::AtomicUsize,
    atomic::AtomicI8,
    atomic::AtomicI16,
    atomic::AtomicI32,
    atomic::AtomicI64,
    atomic::AtomicIsize,
);

impl<T: ?Sized> DeepSize for PhantomData<T> {
    fn heap_size(&self) -> usize {
        0
    }
}

impl<T: ?Sized> DeepSize for &T {
    fn heap_size(&self) -> usize {
        0
    }
}

// What is `Copy` has nothing to drop; a cell of anything else cannot be read through `&self`.
impl<T: Copy> DeepSize for Cell<T> {
    fn heap_size(&self) -> usize {
        0
    }
}

// --- pointers ---------------------------------------------------------------------------------

impl<T: DeepSize + ?Sized> DeepSize for Box<T> {
    fn heap_size(&self) -> usize {
        (**self).deep_size()
    }
}

/// The allocation behind an `Rc` or `Arc`: two counters, then the value, padded as a C struct is.
pub(crate) fn shared_size<T: ?Sized>(value: &T) -> usize {
    let allocation = Layout::new::<[usize; 2]>().extend(Layout::for_value(value));
    allocation.map_or(usize::MAX, |(layout, _)| layout.pad_to_align().size())
}

/// That, and what the value owns.
fn counted<T: DeepSize + ?Sized>(value: &T) -> usize {
    shared_size(value).saturating_add(value.heap_size())
}

/// Counts the whole shared value, once for every holder.
impl<T: DeepSize + ?Sized> DeepSize for Rc<T> {
    fn heap_size(&self) -> usize {
        counted(&**self)
    }
}

/// Counts the whole shared value, once for every holder.
impl<T: DeepSize + ?Sized> DeepSize for Arc<T> {
    fn heap_size(&self) -> usize {
        counted(&**self)
    }
}

impl<T: ?Sized> DeepSize for rc::Weak<T> {
    fn heap_size(&self) -> usize {
        0
    }
}

impl<T: ?Sized> DeepSize for sync::Weak<T> {
    fn heap_size(&self) -> usize {
        0
    }
}

/// Counts what an owned value owns; a borrowed one owns nothing.
impl<B: ToOwned<Owned: DeepSize> + ?Sized> DeepSize for Cow<'_, B> {
    fn heap_size(&self) -> usize {
        match self {
            Cow::Borrowed(_) => 0,
            Cow::Owned(owned) => owned.heap_size(),
        }
    }
}

// --- values inside values ---------------------------------------------------------------------

impl<T: DeepSize> DeepSize for Option<T> {
    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, T::heap_size)
    }
}

impl<T: DeepSize, E: DeepSize> DeepSize for Result<T, E> {
    fn heap_size(&self) -> usize {
        match self {
            Ok(value) => value.heap_size(),
            Err(error) => error.heap_size(),
        }
    }
}

impl<T: DeepSize> DeepSize for Reverse<T> {
    fn heap_size(&self) -> usize {
        self.0.heap_size()
    }
}

impl<T: DeepSize> DeepSize for Range<T> {
    fn heap_size(&self) -> usize {
        self.start.heap_size().saturating_add(self.end.heap_size())
    }
}

impl<T: DeepSize> DeepSize for RangeInclusive<T> {
    fn heap_size(&self) -> usize {
        let (start, end) = (self.start(), self.end());
        start.heap_size().saturating_add(end.heap_size())
    }
}

impl<T: DeepSize> DeepSize for RangeFrom<T> {
    fn heap_size(&self) -> usize {
        self.start.heap_size()
    }
}

impl<T: DeepSize> DeepSize for RangeTo<T> {
    fn heap_size(&self) -> usize {
        self.end.heap_size()
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: DeepSize),+> DeepSize for ($($name,)+) {
            fn heap_size(&self) -> usize {
                #[allow(non_snake_case)]
                let ($($name,)+) = self;
                0_usize $(.saturating_add($name.heap_size()))+
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);
tuples!(A B C D E F G H I J);
tuples!(A B C D E F G H I J K);
tuples!(A B C D E F G H I J K L);

// --- text and sequences -----------------------------------------------------------------------

impl DeepSize for String {
    fn heap_size(&self) -> usize {
        self.capacity()
    }
}

impl DeepSize for OsString {
    fn heap_size(&self) -> usize {
        self.capacity()
    }
}

impl DeepSize for PathBuf {
    fn heap_size(&self) -> usize {
        self.capacity()
    }
}

impl DeepSize for CString {
    fn heap_size(&self) -> usize {
        // A boxed slice inside: there is no spare capacity, but there is the final zero.
        self.as_bytes_with_nul().len()
    }
}

impl<T: DeepSize> DeepSize for [T] {
    fn heap_size(&self) -> usize {
        owned_by_all(self)
    }
}

impl<T: DeepSize, const N: usize> DeepSize for [T; N] {
    fn heap_size(&self) -> usize {
        owned_by_all(self)
    }
}

impl<T: DeepSize> DeepSize for Vec<T> {
    fn heap_size(&self) -> usize {
        buffer::<T>(self.capacity()).saturating_add(owned_by_all(self))
    }
}

impl<T: DeepSize> DeepSize for VecDeque<T> {
    fn heap_size(&self) -> usize {
        buffer::<T>(self.capacity()).saturating_add(owned_by_all(self))
    }
}

impl<T: DeepSize> DeepSize for BinaryHeap<T> {
    fn heap_size(&self) -> usize {
        buffer::<T>(self.capacity()).saturating_add(owned_by_all(self))
    }
}

impl<T: DeepSize> DeepSize for LinkedList<T> {
    fn heap_size(&self) -> usize {
        type Node<T> = (T, [usize; 2]);
        buffer::<Node<T>>(self.len()).saturating_add(owned_by_all(self))
    }
}

// --- hash tables ------------------------------------------------------------------------------

/// How many control bytes the standard library's table reads at once, and hence repeats at its
/// end. A wrong guess on some rare target costs a dozen bytes a table.
const GROUP_WIDTH: usize = if cfg!(all(target_feature = "sse2", not(miri))) { 16 } else { 8 };

/// The slots of a hash table (hashbrown, in the standard library) made for so many entries:
/// a power of two, of which seven eighths may be filled, or all but one where there are at most 8.
fn slots(entries: usize) -> usize {
    match entries {
        0 => 0,
        1..4 => 4,
        4..8 => 8,
        _ => (entries.saturating_mul(8) / 7).next_power_of_two(),
    }
}

/// The one allocation of a hash table: the slots, padded to the alignment of the control bytes,
/// then one control byte for each slot and a group's worth more.
///
/// The capacity that a table reports is its entries plus what it can take before it next rehashes,
/// so it shrinks with the tombstones that removals leave. The slots computed from it are the true
/// ones as long as the tombstones take away less than half.
fn table<T>(capacity: usize) -> usize {
    let slots = slots(capacity);
    if slots == 0 {
        return 0;
    }
    let align = align_of::<T>().max(GROUP_WIDTH);
    let padded = buffer::<T>(slots).saturating_add(align - 1) & !(align - 1);
    padded.saturating_add(slots + GROUP_WIDTH)
}

/// Counts the table, the keys and the values; not what the hasher may own.
impl<K: DeepSize, V: DeepSize, S> DeepSize for HashMap<K, V, S> {
    fn heap_size(&self) -> usize {
        table::<(K, V)>(self.capacity())
            .saturating_add(owned_by_all(self.keys()))
            .saturating_add(owned_by_all(self.values()))
    }
}

/// Counts the table and the elements; not what the hasher may own.
impl<T: DeepSize, S> DeepSize for HashSet<T, S> {
    fn heap_size(&self) -> usize {
        table::<T>(self.capacity()).saturating_add(owned_by_all(self.iter()))
    }
}

// --- trees ------------------------------------------------------------------------------------

/// The nodes of a `BTreeMap` (B = 6: up to 11 entries and 12 children a node), estimated.
///
/// Every entry outside the leaves separates two of them, so a tree whose leaves hold `f` entries
/// on average has `(len + 1) / (f + 1)` leaves. `f + 1` is between 6 (after removals) and 12
/// (built from an iterator), 7 for keys inserted in ascending order, and measures 8.5 for keys in
/// random order, which also happens to be the geometric middle of the range. With as many children
/// to an inner node there is one of those to 7.5 leaves. Fractions of a node are kept: rounding
/// them to whole ones makes the estimate jump, and its worst error larger.
fn tree<K, V>(len: usize) -> usize {
    /// Fields as the real node has them: entries, parent, index in the parent, length.
    type Leaf<K, V> = ([K; 11], [V; 11], usize, u16, u16);
    type Inner<K, V> = (Leaf<K, V>, [usize; 12]);
    const CHILDREN: f64 = 8.5;

    let leaf = size_of::<Leaf<K, V>>();
    match len {
        0 => 0,
        1..=11 => leaf,
        _ => {
            let leaves = (len as f64 + 1.0) / CHILDREN;
            let inners = (leaves / (CHILDREN - 1.0)).max(1.0);
            let inner = size_of::<Inner<K, V>>();
            (leaves.max(2.0) * leaf as f64 + inners * inner as f64) as usize
        }
    }
}

/// Estimates the nodes (see [`DeepSize`] for how well) and counts the keys and the values.
impl<K: DeepSize, V: DeepSize> DeepSize for BTreeMap<K, V> {
    fn heap_size(&self) -> usize {
        tree::<K, V>(self.len())
            .saturating_add(owned_by_all(self.keys()))
            .saturating_add(owned_by_all(self.values()))
    }
}

/// Estimates the nodes (see [`DeepSize`] for how well) and counts the elements.
impl<T: DeepSize> DeepSize for BTreeSet<T> {
    fn heap_size(&self) -> usize {
        tree::<T, ()>(self.len()).saturating_add(owned_by_all(self))
    }
}

// --- other crates -----------------------------------------------------------------------------

/// Counts the bytes of this view, as if it alone owned them. The rest of a shared buffer, its
/// header and its spare capacity cannot be seen, nor whether the bytes are `static`.
#[cfg(feature = "bytes")]
impl DeepSize for bytes::Bytes {
    fn heap_size(&self) -> usize {
        self.len()
    }
}

/// Counts the capacity that this view can reach. After a split the other half counts its own, and
/// the header that both share is not seen; after an advance nor are the bytes that were passed.
#[cfg(feature = "bytes")]
impl DeepSize for bytes::BytesMut {
    fn heap_size(&self) -> usize {
        self.capacity()
    }
}

#[cfg(feature = "serde_json")]
mod json {
    use super::{BTreeMap, DeepSize, buffer, needs_drop, owned_by_all, slots, table, tree};
    use serde_json::{Map, Number, Value};

    impl DeepSize for Value {
        fn heap_size(&self) -> usize {
            match self {
                Value::Null | Value::Bool(_) => 0,
                Value::Number(number) => number.heap_size(),
                Value::String(text) => text.heap_size(),
                Value::Array(items) => items.heap_size(),
                Value::Object(map) => map.heap_size(),
            }
        }
    }

    impl DeepSize for Number {
        fn heap_size(&self) -> usize {
            // serde_json's `arbitrary_precision`, which any crate of the program may switch on,
            // makes a number the text of itself. Otherwise there is nothing to drop.
            if needs_drop::<Number>() { self.to_string().len() } else { 0 }
        }
    }

    /// Estimates the nodes or the table, and counts the keys and the values.
    impl DeepSize for Map<String, Value> {
        fn heap_size(&self) -> usize {
            // serde_json's `preserve_order` is not ours to see either, but its map is larger.
            let own = if size_of::<Self>() == size_of::<BTreeMap<String, Value>>() {
                tree::<String, Value>(self.len())
            } else {
                index_map(self.len())
            };
            own.saturating_add(owned_by_all(self.keys()))
                .saturating_add(owned_by_all(self.values()))
        }
    }

    /// The two allocations of an index map: a hash table of indexes, and entries (hash, key,
    /// value) in a vector that grows to the table's capacity.
    fn index_map(len: usize) -> usize {
        let capacity = match slots(len) {
            0 => 0,
            few @ (4 | 8) => few - 1,
            many => many / 8 * 7,
        };
        table::<usize>(capacity).saturating_add(buffer::<(usize, String, Value)>(capacity))
    }
}
