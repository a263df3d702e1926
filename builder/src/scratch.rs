//! Folders for one build or one step. One that nobody asks for is never made, so that a build of what is cached leaves the
//! disk alone.

use crate::StepError;
use slipway_oci::{file, store::Store};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// A folder of the store for one user, there from when it is first asked for. It is removed with this value; what cannot
/// be removed then is swept once the process is gone.
pub(crate) struct Scratch<'a> {
    store: &'a Store,
    kind: &'static str,
    made: OnceLock<PathBuf>,
}

impl<'a> Scratch<'a> {
    /// A folder in `store` that is not there yet; `kind` is the beginning of its name.
    pub(crate) fn new(store: &'a Store, kind: &'static str) -> Scratch<'a> {
        Scratch { store, kind, made: OnceLock::new() }
    }

    /// The folder.
    pub(crate) fn path(&self) -> Result<&Path, StepError> {
        if let Some(path) = self.made.get() {
            return Ok(path);
        }
        let path = self.store.temporary_folder(self.kind)?;
        if let Err(second) = self.made.set(path) {
            // another stage was first
            let _ = file::remove_tree(&second);
        }
        Ok(self.made.get().expect("one of the two is set"))
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.made.get() {
            let _ = file::remove_tree(path);
        }
    }
}
