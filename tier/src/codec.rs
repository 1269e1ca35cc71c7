//! Values as bytes.

use std::error::Error;

#[cfg(any(feature = "json", feature = "postcard"))]
use serde::{Serialize, de::DeserializeOwned};

/// Why a value could not be turned into bytes, or back.
pub type CodecError = Box<dyn Error + Send + Sync>;

/// Makes bytes of values, and values of bytes.
///
/// What an instance of the service encodes, all others of the same
/// [version](crate::Builder::version) must be able to decode. Bytes that are no value are a miss and not an
/// error. A panic reaches the caller for whom it was asked, as one of its load does.
///
/// # Examples
///
/// ```
/// use async_lru_tier::{Codec, CodecError};
///
/// struct Utf8;
///
/// impl Codec<String> for Utf8 {
///     fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
///         Ok(value.clone().into_bytes())
///     }
///
///     fn decode(&self, bytes: &[u8]) -> Result<String, CodecError> {
///         Ok(String::from_utf8(bytes.to_vec())?)
///     }
/// }
///
/// assert!(Utf8.decode(&[0xff]).is_err());
/// ```
///
/// # Change the type of the values in a rolling release
///
/// Of two releases with different versions the one does not hear of what the other writes. With one version
/// they do, if the new one reads both formats. What it writes the old one cannot read, and loads anew; a
/// release in between that reads both and still writes the old format spares these loads. A field that serde
/// may leave out, by `#[serde(default)]`, needs none of this with [`Json`].
///
/// ```
/// use async_lru_tier::{Codec, CodecError, Json};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct User {
///     first: String,
///     last: String,
/// }
///
/// /// As the release before spells it.
/// #[derive(Deserialize)]
/// struct OldUser {
///     name: String,
/// }
///
/// /// Writes the new format, and reads the old one too.
/// struct Users;
///
/// impl Codec<User> for Users {
///     fn encode(&self, user: &User) -> Result<Vec<u8>, CodecError> {
///         Json.encode(user)
///     }
///
///     fn decode(&self, bytes: &[u8]) -> Result<User, CodecError> {
///         Json.decode(bytes).or_else(|_| {
///             let OldUser { name } = serde_json::from_slice(bytes)?;
///             let (first, last) = name.split_once(' ').unwrap_or(("", &name));
///             Ok(User { first: first.to_owned(), last: last.to_owned() })
///         })
///     }
/// }
///
/// let user = Users.decode(br#"{"name":"Ann Lee"}"#).unwrap();
/// assert_eq!(user, User { first: "Ann".to_owned(), last: "Lee".to_owned() });
/// assert_eq!(Users.decode(&Users.encode(&user).unwrap()).unwrap(), user);
/// ```
pub trait Codec<V>: Send + Sync + 'static {
    /// The bytes of `value`.
    ///
    /// # Errors
    ///
    /// If it has none. Then it is kept by this instance alone, for a short time.
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError>;

    /// The value of `bytes`.
    ///
    /// # Errors
    ///
    /// If they are none.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// Values as JSON, by the crate `serde_json`: to be read in the store, and by other languages.
///
/// # Examples
///
/// ```
/// use async_lru_tier::{Codec, Json};
///
/// assert_eq!(Json.encode(&vec![1, 2]).unwrap(), b"[1,2]");
/// assert_eq!(Codec::<Vec<u32>>::decode(&Json, b"[1,2]").unwrap(), [1, 2]);
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// Values in the compact format of the crate `postcard`, which has no names of fields: raise the
/// [version](crate::Builder::version) with each change of the type.
///
/// # Examples
///
/// ```
/// use async_lru_tier::{Codec, Postcard};
///
/// assert_eq!(Postcard.encode(&300_u32).unwrap().len(), 2);
/// ```
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        Ok(postcard::to_stdvec(value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        // Bytes that are left over are those of another type.
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(format!("{} bytes too many", rest.len()).into()),
        }
    }
}
