//! Parts of command lines.

use std::path::{Path, PathBuf};

/// The directory in which `cargo bench` is usually called; it starts benches in that of their package.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// The items of a list with commas between them.
pub(crate) fn list<T>(
    text: &str,
    item: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    text.split(',').map(|word| item(word.trim())).collect()
}
