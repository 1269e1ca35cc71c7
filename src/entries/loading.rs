//! The loads in progress: a node for each, from the moment its leader starts until its value is published
//! or its leader gives up.

use std::sync::Arc;

use crate::flight::{Completion, CompletionGuard, FlightId};

/// Whom a flight still concerns besides its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlightState {
    /// Nobody may join, since the cache was built without single flight; the value will be cached.
    Private,
    /// Callers may join; the value will be cached.
    Open,
    /// The same, in place of the entry that is there.
    Renewing,
    /// Callers may join; the value will not be cached, as the source of the key was being written when the
    /// flight began.
    Guarded,
    /// A later write has won: nobody may join any more, and the value will not be cached.
    Fenced,
}

/// Where the load of a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the future of its leader.
    Led,
    /// In its completion, where any caller polls it.
    Detached,
    /// Nowhere: the flight is an update, and its closure in the future of its leader.
    Update,
    /// As `Led`, for a key whose entry may be there.
    Refresh,
    /// As `Detached`, for a key whose entry may be there.
    DetachedRefresh,
}

impl Kind {
    /// The completion of a new flight; a load in its leader's future does without until somebody waits.
    pub(super) fn completion<V>(self) -> Option<Arc<Completion<V>>> {
        match self {
            Self::Led | Self::Update | Self::Refresh => None,
            Self::Detached | Self::DetachedRefresh => Some(Self::detached()),
        }
    }

    /// The same load, for a key whose entry may be there.
    pub(crate) fn refreshing(self) -> Self {
        match self {
            Self::Led => Self::Refresh,
            Self::Detached => Self::DetachedRefresh,
            other => other,
        }
    }

    /// Tells whether the load is for a key whose entry may be there.
    pub(crate) fn is_refresh(self) -> bool {
        matches!(self, Self::Refresh | Self::DetachedRefresh)
    }

    #[cold]
    fn detached<V>() -> Arc<Completion<V>> {
        Arc::new(Completion::detached())
    }
}

/// The key of a flight.
pub(crate) enum FlightKey<K> {
    /// Moves on into the entry when the value is published.
    Owned(K),
    /// Shared with the leader until it has found out about the entry, outside every lock.
    Shared(Arc<K>),
}

impl<K> FlightKey<K> {
    /// Makes the key of a flight, which its leader will share if the entry is to be appraised.
    pub(crate) fn new(key: K, appraised: bool) -> Self {
        if appraised { Self::Shared(Arc::new(key)) } else { Self::Owned(key) }
    }

    pub(crate) fn get(&self) -> &K {
        match self {
            Self::Owned(key) => key,
            Self::Shared(key) => key,
        }
    }

    /// The same key, to be shared with those who ask about the entry.
    pub(super) fn into_shared(self) -> Self {
        match self {
            Self::Owned(key) => Self::Shared(Arc::new(key)),
            shared @ Self::Shared(_) => shared,
        }
    }

    /// Takes the key, which the leader does not share any more.
    pub(crate) fn into_inner(self) -> K {
        match self {
            Self::Owned(key) => key,
            Self::Shared(key) => Arc::into_inner(key).expect("the leader has let go of the key"),
        }
    }
}

/// Asks of an entry, for a sweep, whether it is to go.
pub(crate) type Predicate<K, V> = dyn Fn(&K, &V) -> bool + Send + Sync;

/// The sweeps that began while a load was in flight, to be asked about its value before that is
/// published; mostly none. They are the user's, and thus dropped under no lock.
pub(crate) struct Sweeps<K, V>(Option<Box<Predicates<K, V>>>);

type Predicates<K, V> = Vec<Arc<Predicate<K, V>>>;

impl<K, V> Default for Sweeps<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> Sweeps<K, V> {
    /// So many are asked about one value.
    const MOST: usize = 64;

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds one, unless there are too many: then the value is taken for chosen, and none of them is asked.
    fn push(&mut self, sweep: &Arc<Predicate<K, V>>) {
        let sweeps = self.0.get_or_insert_default();
        if sweeps.len() < Self::MOST {
            sweeps.push(Arc::clone(sweep));
        } else if sweeps.len() == Self::MOST {
            sweeps.insert(0, Arc::new(|_, _| true));
        }
    }

    /// Tells whether one of them chooses an entry. Calls user code: never under a lock.
    pub(crate) fn choose(&self, key: &K, value: &V) -> bool {
        self.0.iter().flat_map(|sweeps| &**sweeps).any(|is_chosen| is_chosen(key, value))
    }
}

/// A load in progress.
pub(crate) struct Flight<K, V> {
    /// The table finds it by this.
    pub(super) hash: u32,
    pub(super) kind: Kind,
    pub(super) state: FlightState,
    /// Where the table leads to it, unless that has grown since the flight began.
    pub(super) bucket: usize,
    pub(super) id: FlightId,
    pub(super) key: FlightKey<K>,
    pub(super) completion: Option<Arc<Completion<V>>>,
    pub(super) sweeps: Sweeps<K, V>,
}

/// A flight that has ended, in pieces to be dropped under no lock.
pub(crate) struct Ended<K, V> {
    pub(crate) key: FlightKey<K>,
    /// The duty to tell the waiters, if there are any.
    pub(crate) completion: CompletionGuard<V>,
    /// Those that were not asked.
    pub(crate) sweeps: Sweeps<K, V>,
}

impl<K, V> Flight<K, V> {
    /// Tells whether callers may join.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, FlightState::Open | FlightState::Renewing | FlightState::Guarded)
    }

    /// Tells whether it is open, and of a load that began when there was no entry.
    #[inline]
    pub(crate) fn is_first(&self) -> bool {
        self.state == FlightState::Open
    }

    /// Tells whether its leader brings an entry up to date, which may be there.
    pub(crate) fn is_update(&self) -> bool {
        self.kind == Kind::Update
    }

    /// Tells whether a later write has won.
    pub(crate) fn is_fenced(&self) -> bool {
        self.state == FlightState::Fenced
    }

    /// Tells whether its value will be cached, as far as is known.
    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self.state, FlightState::Guarded | FlightState::Fenced)
    }

    /// Tells whether it can be found by its key: nobody asks for a load that a later write has won over, but
    /// updates wait for one another.
    pub(super) fn is_listed(&self) -> bool {
        !self.is_fenced() || self.is_update()
    }

    pub(crate) fn key(&self) -> &K {
        self.key.get()
    }

    /// A hash by which its entry is found.
    pub(crate) fn hash(&self) -> u64 {
        super::wide(self.hash)
    }

    /// The key, if it is shared.
    pub(crate) fn shared_key(&self) -> Option<Arc<K>> {
        match &self.key {
            FlightKey::Owned(_) => None,
            FlightKey::Shared(key) => Some(Arc::clone(key)),
        }
    }

    /// Tells whether a sweep has to be asked about its value.
    #[inline]
    pub(crate) fn has_sweeps(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// Has a sweep asked about its value, unless a later write has won anyway.
    pub(super) fn await_sweep(&mut self, sweep: &Arc<Predicate<K, V>>) {
        if !self.is_fenced() {
            self.sweeps.push(sweep);
        }
    }

    /// Takes the sweeps to be asked about its value, and its key to ask them with.
    pub(crate) fn take_sweeps(&mut self) -> (Option<Arc<K>>, Sweeps<K, V>) {
        (self.shared_key(), std::mem::take(&mut self.sweeps))
    }

    /// Has a caller join it.
    pub(super) fn join(&mut self) -> (Arc<Completion<V>>, FlightId, Kind) {
        let completion = self.completion();
        completion.count_in();
        (completion, self.id, self.kind)
    }

    /// Where its waiters meet it.
    pub(crate) fn completion(&mut self) -> Arc<Completion<V>> {
        Arc::clone(self.completion.get_or_insert_with(Arc::default))
    }

    pub(crate) fn end(self) -> Ended<K, V> {
        let completion = CompletionGuard::new(self.completion);
        Ended { key: self.key, completion, sweeps: self.sweeps }
    }
}
