//! Events of `tracing`; nothing without the feature.

use crate::store::{Space, StoreError};

/// What all events name as their origin, so that filters need to know no module.
#[cfg(feature = "tracing")]
const TARGET: &str = "async_lru_tier";

#[cfg(feature = "tracing")]
pub(crate) fn store_failed(space: &Space, error: &StoreError) {
    let source = std::error::Error::source(error).map(tracing::field::display);
    tracing::warn!(target: TARGET, space = space.as_str(), source, "{error}");
}

/// Warns of the first failure of an outage; the driver goes on trying, and the log is not to fill with it.
#[cfg(feature = "tracing")]
pub(crate) fn connect_failed(space: &Space, error: &StoreError, has_failed_before: bool) {
    let (space, kind) = (space.as_str(), tracing::field::debug(error.kind()));
    let source = std::error::Error::source(error).map(tracing::field::display);
    if has_failed_before {
        tracing::debug!(target: TARGET, space, kind, source, "cannot connect to the store");
    } else {
        tracing::warn!(target: TARGET, space, kind, source, "cannot connect to the store");
    }
}

#[cfg(feature = "tracing")]
pub(crate) fn linked(space: &Space) {
    tracing::info!(target: TARGET, space = space.as_str(), "linked to the store");
}

#[cfg(feature = "tracing")]
pub(crate) fn link_lost(space: &Space) {
    tracing::warn!(target: TARGET, space = space.as_str(), "the link to the store is lost");
}

/// Tells of the link's end with the last handle.
#[cfg(feature = "tracing")]
pub(crate) fn link_closed(space: &Space) {
    tracing::info!(target: TARGET, space = space.as_str(), "the link to the store is closed");
}

/// Warns of removals that nobody will do any more.
#[cfg(feature = "tracing")]
pub(crate) fn removals_left(space: &Space, keys: usize) {
    let space = space.as_str();
    tracing::warn!(target: TARGET, space, keys, "removals were not sent to the store");
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn store_failed(_: &Space, _: &StoreError) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn connect_failed(_: &Space, _: &StoreError, _: bool) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn linked(_: &Space) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn link_lost(_: &Space) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn link_closed(_: &Space) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn removals_left(_: &Space, _: usize) {}
