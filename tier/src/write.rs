//! Removing and replacing values in both tiers.
//!
//! Each way keeps loads of its keys out of the local cache until the store has done its part, or the driver
//! has been told to see to it. From then on calls do without the store for these keys until it has.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_lru::OwnedWriteGuard;

use crate::core::{Alive, Core, new_lease};
use crate::key::Key;
use crate::store::{Claim, ErrorKind, Lease, StoreError};

/// What was removed is gone in this instance, and not yet in the others: it is sent again as soon as the
/// store is there.
///
/// Until then other instances may serve what they have, as long as it lives; this one does without the
/// store for these keys.
#[derive(Debug)]
pub struct NotPropagated(StoreError);

impl NotPropagated {
    /// Tells what is wrong with the store; without a link to it, why the last operation failed: such as
    /// [`Denied`](ErrorKind::Denied) where it takes no login.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
}

impl fmt::Display for NotPropagated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done in this instance, and not yet told to the others: {}", self.kind())
    }
}

impl Error for NotPropagated {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Keeps loads of a key out of both tiers while its source is written; made by
/// [`Tiered::writing`](crate::Tiered::writing).
#[must_use = "the key is removed when it is dropped"]
pub struct WriteGuard<V> {
    // Dropped in this order: calls do without the store before they use the local cache again.
    removal: Removal<V>,
    local: OwnedWriteGuard<Key, V>,
    claim: Lease,
    // Last, as the driver sees to the removal.
    alive: Arc<Alive<V>>,
}

/// Keys whose removal is on its way, and which loads are kept out of the local cache for.
struct Removing<V> {
    // Dropped in this order, as in a `WriteGuard`.
    removal: Removal<V>,
    local: Vec<OwnedWriteGuard<Key, V>>,
}

/// Keys that are to be removed in the store: by the driver, if this is dropped before it is done.
struct Removal<V> {
    core: Arc<Core<V>>,
    keys: Vec<Key>,
}

/// The same for all keys, those of the local cache too.
struct RemovalOfAll<'a, V> {
    core: &'a Core<V>,
    is_done: bool,
}

/// Removes `keys` in both tiers.
pub(crate) async fn invalidate<V: Send + Sync + 'static>(
    core: &Arc<Core<V>>,
    keys: Vec<Key>,
) -> Result<(), NotPropagated> {
    // Before the local cache calls a listener, which may panic.
    let removal = Removal { core: Arc::clone(core), keys };
    let mut removing = Removing { removal, local: Vec::new() };
    for key in &removing.removal.keys {
        removing.local.push(core.local.writing_owned(key.clone()));
    }
    let result = removing.removal.finish().await;
    drop(removing.local);
    result
}

/// Removes everything in both tiers.
pub(crate) async fn invalidate_all<V>(core: &Core<V>) -> Result<(), NotPropagated> {
    let mut removal = RemovalOfAll { core, is_done: false };
    core.local.invalidate_all().await;
    let session = core.link.session().ok_or_else(|| no_link(core))?;
    core.ask(&session, session.remove_all()).await.map_err(NotPropagated)?;
    // What came from the store meanwhile.
    core.local.invalidate_all().await;
    removal.is_done = true;
    Ok(())
}

/// Removes `key` in both tiers, and once more when the guard is dropped.
pub(crate) async fn write<V: Send + Sync + 'static>(
    alive: &Arc<Alive<V>>,
    key: Key,
) -> WriteGuard<V> {
    let core = &alive.0;
    let removal = Removal { core: Arc::clone(core), keys: vec![key.clone()] };
    let local = core.local.writing_owned(key);
    let guard = WriteGuard { removal, local, claim: new_lease(), alive: Arc::clone(alive) };
    let claim = Claim { lease: guard.claim, lease_for: core.times.lease };
    // The removal at the end is made up for if this one fails.
    let _ = guard.removal.send(Some(claim)).await;
    guard
}

impl<V: Send + Sync + 'static> WriteGuard<V> {
    /// Ends the guard with the new value in both tiers, in place of the last removal.
    ///
    /// If the key was written or loaded by another instance during the guard, nobody knows whose value is the
    /// newer one: then it is removed in both tiers instead, as it is if the value cannot be encoded.
    ///
    /// # Errors
    ///
    /// If the store is not to be had. Then this instance keeps the value for
    /// [`ttl_alone`](crate::Builder::ttl_alone), and the key is removed in the store as soon as may be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the guard.
    pub async fn insert(self, value: V) -> Result<(), NotPropagated> {
        // Dropped in the order of the fields: what is named last goes first.
        let Self { alive: _alive, claim, local, removal } = self;
        let core = Arc::clone(&removal.core);
        let Some(bytes) = core.encode(&value) else {
            return removal.finish().await;
        };
        let put = match core.link.session_for(&removal.keys[0]) {
            Some(session) => {
                let values = [(removal.keys[0].clone(), bytes)];
                core.put(&session, claim, &values).await.map_err(NotPropagated)
            }
            None => Err(no_link(&core)),
        };
        match put.map(|mut kept| kept.pop().flatten()) {
            Ok(Some(lifetime)) => {
                removal.done();
                local.ttl(lifetime).insert(value).await;
                Ok(())
            }
            Ok(None) => {
                let result = removal.finish().await;
                drop(local);
                result
            }
            Err(error) => {
                // The driver removes it.
                drop(removal);
                local.ttl(core.times.local_alone()).insert(value).await;
                Err(error)
            }
        }
    }

    /// Ends the guard with the last removal, and waits for it.
    ///
    /// # Errors
    ///
    /// If the store is not to be had. Then the key is removed there as soon as may be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the guard.
    pub async fn finish(self) -> Result<(), NotPropagated> {
        let Self { alive: _alive, local, removal, .. } = self;
        let result = removal.finish().await;
        drop(local);
        result
    }
}

impl<V> Removal<V> {
    /// Removes the keys in the store, or has the driver do so.
    async fn finish(self) -> Result<(), NotPropagated> {
        self.send(None).await?;
        self.done();
        Ok(())
    }

    async fn send(&self, claim: Option<Claim>) -> Result<(), NotPropagated> {
        let session = self.core.link.session().ok_or_else(|| no_link(&self.core))?;
        let remove = session.remove(&self.keys, claim);
        self.core.ask(&session, remove).await.map_err(NotPropagated)?;
        self.core.counters.removals.add(self.keys.len());
        Ok(())
    }

    fn done(mut self) {
        self.keys.clear();
    }
}

impl<V> Drop for Removal<V> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.core.counters.removals_deferred.add(self.keys.len());
            self.core.link.defer_removal(&self.keys, self.core.most_pending);
        }
    }
}

impl<V> Drop for RemovalOfAll<'_, V> {
    fn drop(&mut self) {
        if !self.is_done {
            self.core.link.defer_removal_of_all();
            // What came from the store before.
            self.core.local.invalidate_all_blocking();
        }
    }
}

fn no_link<V>(core: &Core<V>) -> NotPropagated {
    let kind = core.link.last_failure().unwrap_or(ErrorKind::Lost);
    NotPropagated(StoreError::new(kind, "there is no link to the store"))
}

/// Shows nothing of the key.
impl<V> fmt::Debug for WriteGuard<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").finish_non_exhaustive()
    }
}
