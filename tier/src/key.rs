//! Keys as all instances and all releases of a service spell them.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use async_lru::DeepSize;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

/// The longest key that is stored as it is, in bytes.
const LONGEST: usize = 128;
/// What the name of a hashed key begins with; a key that begins with it is hashed too, so that the two
/// kinds never meet.
const HASHED: u8 = b'#';

/// A key's stable bytes: the same in every instance, every release and every process.
///
/// Implemented for strings, byte strings, integers (in decimal, so that keys can be read in the store),
/// pairs of these, and pointers to them. Never made of `Hash`, which promises nothing across releases of
/// the compiler.
///
/// Keys that are not equal must differ in their bytes, and a form that a key can be borrowed as must have
/// the same bytes as the key, as with `Hash`.
///
/// # Examples
///
/// ```
/// use async_lru_tier::{KeyBytes, TierKey};
///
/// struct UserId(u64);
///
/// impl TierKey for UserId {
///     fn write_to(&self, bytes: &mut KeyBytes) {
///         self.0.write_to(bytes);
///     }
/// }
///
/// assert_eq!(KeyBytes::of(&UserId(42)).as_bytes(), b"42");
/// assert_eq!(KeyBytes::of(&("eu", UserId(42))).as_bytes(), b"2:eu42");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no stable bytes that name it in the store",
    note = "implement `async_lru_tier::TierKey` for it, by writing its parts one after the other"
)]
pub trait TierKey {
    /// Writes the bytes of the key after what is there.
    fn write_to(&self, bytes: &mut KeyBytes);
}

/// The bytes of a key while they are written.
///
/// # Examples
///
/// ```
/// use async_lru_tier::KeyBytes;
///
/// let mut bytes = KeyBytes::default();
/// bytes.part(&"tenant");
/// bytes.push(b"rest");
/// assert_eq!(bytes.as_bytes(), b"6:tenantrest");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyBytes(SmallVec<[u8; 48]>);

impl KeyBytes {
    /// The bytes of `key`.
    pub fn of<Q: TierKey + ?Sized>(key: &Q) -> Self {
        let mut bytes = Self::default();
        key.write_to(&mut bytes);
        bytes
    }

    /// Writes `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Writes `key` with its length before it, so that whatever follows cannot be taken for a part of it.
    pub fn part<Q: TierKey + ?Sized>(&mut self, key: &Q) {
        let start = self.0.len();
        key.write_to(self);
        let length = self.0.len() - start;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(length).bytes().chain([b':']);
        self.0.insert_many(start, digits.collect::<SmallVec<[u8; 8]>>());
    }

    /// Returns what has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes that name `key` in both tiers: its own, or if these are many, a hash of them.
    pub(crate) fn naming<Q: TierKey + ?Sized>(key: &Q) -> Self {
        let bytes = Self::of(key);
        if bytes.0.len() <= LONGEST && bytes.0.first() != Some(&HASHED) {
            return bytes;
        }
        let mut name = Self::default();
        name.push(&[HASHED]);
        for byte in Sha256::digest(&bytes.0) {
            name.push(&[hex(byte >> 4), hex(byte & 15)]);
        }
        name
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789abcdef"[usize::from(digit)]
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyBytes").finish_non_exhaustive()
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        /// In decimal.
        impl TierKey for $integer {
            fn write_to(&self, bytes: &mut KeyBytes) {
                bytes.push(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

impl TierKey for str {
    fn write_to(&self, bytes: &mut KeyBytes) {
        bytes.push(self.as_bytes());
    }
}

impl TierKey for String {
    fn write_to(&self, bytes: &mut KeyBytes) {
        bytes.push(self.as_bytes());
    }
}

impl TierKey for [u8] {
    fn write_to(&self, bytes: &mut KeyBytes) {
        bytes.push(self);
    }
}

impl<const N: usize> TierKey for [u8; N] {
    fn write_to(&self, bytes: &mut KeyBytes) {
        bytes.push(self);
    }
}

impl TierKey for Vec<u8> {
    fn write_to(&self, bytes: &mut KeyBytes) {
        bytes.push(self);
    }
}

/// The first with its length before it, then the second.
impl<A: TierKey, B: TierKey> TierKey for (A, B) {
    fn write_to(&self, bytes: &mut KeyBytes) {
        bytes.part(&self.0);
        self.1.write_to(bytes);
    }
}

impl<Q: TierKey + ?Sized> TierKey for &Q {
    fn write_to(&self, bytes: &mut KeyBytes) {
        (**self).write_to(bytes);
    }
}

impl<Q: TierKey + ?Sized> TierKey for Box<Q> {
    fn write_to(&self, bytes: &mut KeyBytes) {
        (**self).write_to(bytes);
    }
}

impl<Q: TierKey + ?Sized> TierKey for Arc<Q> {
    fn write_to(&self, bytes: &mut KeyBytes) {
        (**self).write_to(bytes);
    }
}

impl<Q: TierKey + ToOwned + ?Sized> TierKey for Cow<'_, Q> {
    fn write_to(&self, bytes: &mut KeyBytes) {
        (**self).write_to(bytes);
    }
}

/// The name of an entry, in the local cache and, below a [`Space`](crate::store::Space), in the store: the bytes
/// of a [`TierKey`], or `#` and their SHA-256 if they are more than 128.
///
/// # Examples
///
/// ```
/// use async_lru_tier::Key;
///
/// assert_eq!(Key::of("ann").as_ref(), b"ann");
/// assert_eq!(Key::of(&"x".repeat(200)).as_ref().len(), 65);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The name of `key`.
    pub fn of<Q: TierKey + ?Sized>(key: &Q) -> Self {
        Self::from_name(KeyBytes::naming(key).as_bytes())
    }

    /// The key of this name, as [`as_ref`](AsRef::as_ref) gave it.
    pub fn from_name(name: &[u8]) -> Self {
        Self(name.into())
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl DeepSize for Key {
    fn heap_size(&self) -> usize {
        // The counts of the `Arc` lie before the bytes.
        2 * size_of::<usize>() + self.0.len()
    }
}

/// Shows nothing of the key, which is the users' own.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &(impl TierKey + ?Sized)) -> Vec<u8> {
        KeyBytes::naming(key).as_bytes().to_vec()
    }

    #[test]
    fn parts_of_a_pair_are_told_apart() {
        assert_ne!(name(&("a", "bc")), name(&("ab", "c")));
        assert_ne!(name(&("", "1:a")), name(&("a", "")));
        assert_ne!(name(&(("a", "b"), "c")), name(&("a", ("b", "c"))));
        assert_ne!(name(&(1, 23)), name(&(12, 3)));
    }

    #[test]
    fn a_borrowed_form_has_the_bytes_of_its_key() {
        assert_eq!(name("ann"), name(&"ann".to_owned()));
        assert_eq!(name(b"ann"), name(&vec![b'a', b'n', b'n']));
        assert_eq!(name(&("eu", 7_u64)), name(&("eu".to_owned(), 7_u32)));
        assert_eq!(name(&Arc::<str>::from("ann")), name(&Cow::from("ann")));
        assert_eq!(name(&i128::MIN), i128::MIN.to_string().into_bytes());
    }

    #[test]
    fn a_long_key_is_hashed_and_takes_nobodys_name() {
        let (short, long) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        assert_eq!(name(&short), short.as_bytes());
        let hashed = name(&long);
        assert_eq!((hashed.len(), hashed[0]), (65, HASHED));
        // Whoever spells the name of a hashed key gets another one.
        assert_ne!(name(&hashed), hashed);
        assert_ne!(name(&"x".repeat(LONGEST + 2)), hashed);
        // That of "#", by sha256sum.
        let expected = "#334359b90efed75da5f0ada1d5e6b256f4a6bd0aee7eb39c0f90182a021ffc8b";
        assert_eq!(name("#"), expected.as_bytes());
    }
}
