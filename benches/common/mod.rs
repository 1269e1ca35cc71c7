//! What the benches that write pages under `docs/` have in common.

pub(crate) mod arguments;
pub(crate) mod bars;
pub(crate) mod table;
