//! Events of `tracing`; nothing without the feature.

use crate::store::{Space, StoreError};

#[cfg(feature = "tracing")]
pub(crate) fn store_failed(space: &Space, error: &StoreError) {
    let source = std::error::Error::source(error).map(tracing::field::display);
    tracing::warn!(space = space.as_str(), source, "{error}");
}

#[cfg(feature = "tracing")]
pub(crate) fn linked(space: &Space) {
    tracing::info!(space = space.as_str(), "linked to the store");
}

#[cfg(feature = "tracing")]
pub(crate) fn link_lost(space: &Space) {
    tracing::warn!(space = space.as_str(), "the link to the store is lost");
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn store_failed(_: &Space, _: &StoreError) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn linked(_: &Space) {}

#[cfg(not(feature = "tracing"))]
pub(crate) fn link_lost(_: &Space) {}
