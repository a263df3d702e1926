//! Which registry's folder a command is about.

use crate::{
    app::{self, Global},
    error::Failure,
    settings::{self, Settings},
};
use slipway_registry::server::{bounds, storage::Storage};
use std::{path::PathBuf, sync::Arc};

/// The folder, or the settings that name it.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The registry's folder [default: that of --config, else registry, in the folder of the local store]
    #[arg(long, value_name = "DIR", env = "SLIPWAY_STORAGE")]
    storage: Option<PathBuf>,
    /// The registry's settings, slipway.toml
    #[arg(long, value_name = "FILE", env = settings::VARIABLE)]
    config: Option<PathBuf>,
}

impl Place {
    /// The registry, which has to be there, and its settings.
    pub(crate) fn open(&self, global: &Global) -> Result<(Arc<Storage>, Settings), Failure> {
        let file = settings::named(self.config.as_deref());
        let settings = Settings::default().with_file(file.as_deref())?;
        let folder = self.folder_of(global, &settings)?;
        let storage = Storage::open_existing(&folder).map_err(|error| Failure::of(&error))?;
        // what brings something back is bounded as by the server
        let quotas = settings.quotas.clone();
        storage.limit(Arc::new(move |repository| bounds(&quotas, repository)));
        Ok((storage, settings))
    }

    /// Where the registry keeps everything.
    pub(crate) fn folder(&self, global: &Global) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.storage {
            return Ok(folder.clone());
        }
        let file = settings::named(self.config.as_deref());
        self.folder_of(global, &Settings::default().with_file(file.as_deref())?)
    }

    fn folder_of(&self, global: &Global, settings: &Settings) -> Result<PathBuf, Failure> {
        match self.storage.clone().or_else(|| settings.storage.clone()) {
            Some(folder) => Ok(folder),
            None => Ok(app::own_folder(global)?.join("registry")),
        }
    }
}
