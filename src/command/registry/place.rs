//! Which registry's folder a command is about.

use crate::{
    app::{self, Global},
    error::Failure,
    settings::{self, Settings},
};
use std::path::PathBuf;

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
    /// Where the registry keeps everything.
    pub(crate) fn folder(&self, global: &Global) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.storage {
            return Ok(folder.clone());
        }
        let file = settings::named(self.config.as_deref());
        match Settings::default().with_file(file.as_deref())?.storage {
            Some(folder) => Ok(folder),
            None => Ok(app::own_folder(global)?.join("registry")),
        }
    }
}
