//! Where things lie in the house.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{Failure, failed};

/// The workspace's folder: where `cargo run` says that xtask/ is now, since a target folder may be a copy of another
/// checkout's.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = std::env::var_os("CARGO_MANIFEST_DIR");
        let here = here.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        // xtask/ lies directly beneath it
        here.parent().expect("xtask has a parent folder").to_owned()
    })
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A folder under target/, made where it is missing.
pub(crate) fn folder(name: &str) -> Result<PathBuf, Failure> {
    let path = target().join(name);
    std::fs::create_dir_all(&path).map_err(failed(format!("cannot create `{}`", path.display())))?;
    Ok(path)
}

/// The same, emptied first.
pub(crate) fn empty_folder(name: &str) -> Result<PathBuf, Failure> {
    let path = target().join(name);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure(format!("cannot empty `{}`: {error}", path.display())))
        }
        _ => folder(name),
    }
}

/// The path as seen from the workspace, for messages.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
