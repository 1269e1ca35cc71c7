//! What a store that instances share must be able to do: for those who write one.
//!
//! A [`Store`] is what one connects to, a [`Session`] what one then works with. Each session is bound to
//! one [`Space`] and to the server process that it met: what another process holds, be it the same server
//! after a restart, is not seen through it. So nothing needs to reconnect but the
//! [driver](crate::Tiered::driver), and it knows when it does.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::key::Key;

/// A future in a box, so that stores can be told apart at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store that instances share, such as [`RedisStore`](crate::RedisStore) or
/// [`MemoryStore`](crate::MemoryStore).
pub trait Store: Send + Sync + 'static {
    /// Connects `instance` to the entries of `space`.
    ///
    /// What is told through the [`Events`] begins before the session can read anything: a removal that
    /// comes after the connection is either seen by the session's reads, or told. A connection to what
    /// cannot be written, such as a replica, is an error.
    ///
    /// # Errors
    ///
    /// If there is no connection to be had. Nothing bounds the wait; callers do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn connect<'a>(
        &'a self,
        space: &'a Space,
        instance: Instance,
    ) -> BoxFuture<'a, Result<Connected, StoreError>> {
        (**self).connect(space, instance)
    }
}

/// A connection to a store: what one asks, and what one is told.
#[expect(missing_debug_implementations, reason = "its parts have nothing to show")]
pub struct Connected {
    /// Reads and writes.
    pub session: Arc<dyn Session>,
    /// Hears what other instances do.
    pub events: Box<dyn Events>,
}

/// The calls of one connection, for any number of tasks at once.
///
/// A future that is dropped may have taken effect or not; none may leave the session unusable. After the
/// connection is lost all calls fail.
pub trait Session: Send + Sync + 'static {
    /// Looks for each of `keys`, and leases those that are absent or stale to the caller, who is to load
    /// them and to [`put`](Self::put) them. One round trip; the answers are in the order of the keys.
    fn get_or_lease<'a>(
        &'a self,
        keys: &'a [Key],
        ask: Ask,
    ) -> BoxFuture<'a, Result<Vec<Found>, StoreError>>;

    /// Stores values for `ttl` and gives their leases back; tells for each whether it is kept. It is not
    /// if the lease was lost: to a removal, to a write, or because it was over.
    fn put<'a>(
        &'a self,
        lease: Lease,
        values: &'a [(Key, Vec<u8>)],
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Vec<bool>, StoreError>>;

    /// Gives up the leases of `keys`, as far as they are held by `lease`.
    fn release<'a>(
        &'a self,
        lease: Lease,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes `keys` and their leases and, in the same step, tells all other instances.
    ///
    /// With a `claim` the keys are leased to the caller, who may put what it writes. Unlike a lease that
    /// was asked for, such a claim keeps nobody from loading: the next look at the key takes it over.
    fn remove<'a>(
        &'a self,
        keys: &'a [Key],
        claim: Option<Claim>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes all keys of the space and their leases and, in the same step, tells all other instances.
    fn remove_all(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Asks for a sign of life.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`] also if messages were sent before that have not arrived.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What other instances do, in their order.
pub trait Events: Send {
    /// Waits for the next event; `None` if the connection is lost or a message is missing, for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    fn next(&mut self) -> BoxFuture<'_, Option<Event>>;
}

/// A message of another instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// These were removed or replaced.
    Gone(Vec<Key>),
    /// All entries of the space were removed.
    AllGone,
    /// These, which somebody waits for, were put or given up.
    Ready(Vec<Key>),
}

/// The entries of one kind in a store: a namespace and the version of what is stored in it.
///
/// # Examples
///
/// ```
/// use async_lru_tier::store::Space;
///
/// assert_eq!(Space::new("users", 3).as_str(), "users:3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Space(Arc<str>);

impl Space {
    /// The space of this name and version.
    pub fn new(namespace: &str, version: u32) -> Self {
        Self(format!("{namespace}:{version}").into())
    }

    /// Returns the prefix of all names in the store: the namespace, a colon and the version.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An instance of a service, as messages name their sender: a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instance(pub u64);

/// The right to put what one loads, until a removal, a write or its time ends it: a number that nobody else
/// has. The caller chooses it, so that it can give up a lease whose grant it has not heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease(pub u64);

/// The right to put what one writes, until somebody loads or removes the key.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// What it is put with.
    pub lease: Lease,
    /// How long it holds.
    pub lease_for: Duration,
}

/// What a look into the store asks for besides the keys.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The lease for what is absent or stale.
    pub lease: Lease,
    /// How long the lease holds.
    pub lease_for: Duration,
    /// A value that has only this left, or less, is stale.
    pub stale_below: Duration,
}

/// What a look into the store found of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A value that lives for `left` more, and whether it is leased to the caller, as it is stale.
    Value {
        /// The bytes that were put.
        bytes: Vec<u8>,
        /// The time that it has left by the server's clock.
        left: Duration,
        /// Who may load it anew.
        turn: Turn,
    },
    /// Nothing.
    Absent(Turn),
    /// Something that no instance has put there, such as a list.
    Foreign(Turn),
}

/// Who may load a key now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody needs to: the value is fresh.
    Nobodys,
    /// The caller, who was given the lease.
    Mine,
    /// Another, who holds the lease.
    Anothers,
    /// Anybody, without a lease: the store is full, and keeps nothing.
    Full,
}

/// The store did not do as it was asked.
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The connection is lost, or not to be had.
    Lost,
    /// No answer came in time.
    TimedOut,
    /// The store takes no more values.
    Full,
    /// The server only reads, as a replica does.
    ReadOnly,
    /// The server lets the instance not do that: no login, or no right.
    Denied,
    /// The address of the store is malformed, or needs a feature that is not enabled.
    Address,
    /// Anything else.
    Other,
}

impl StoreError {
    /// An error of this kind, and what is known of it.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// Tells what is wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "there is no connection to the store",
            Self::TimedOut => "the store did not answer in time",
            Self::Full => "the store is full",
            Self::ReadOnly => "the store only reads",
            Self::Denied => "the store denies access",
            Self::Address => "the address of the store is malformed or not supported",
            Self::Other => "the store failed",
        })
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
