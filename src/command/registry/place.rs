//! Which registry a command is about: a folder's, or the one that replicas share.

use crate::{
    app::{self, Global},
    error::Failure,
    registries,
    settings::{self, Settings},
    show,
};
use slipway_registry::server::{
    ContentSetting, Engines, bounds,
    storage::{Storage, Turn, Work},
};
use std::{path::PathBuf, sync::Arc};

/// The folder, or the settings that name it, or what replicas share.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The registry's folder [default: that of --config, else registry, in the folder of the local store]
    #[arg(long, value_name = "DIR", env = "SLIPWAY_STORAGE")]
    storage: Option<PathBuf>,
    /// The registry's settings, slipway.toml
    #[arg(long, value_name = "FILE", env = settings::VARIABLE)]
    config: Option<PathBuf>,
    /// The database of a registry that replicas share, as postgres://USER@HOST[:PORT]/NAME, the password in PGPASSWORD [default:
    /// that of --config]
    #[arg(long, value_name = "URL", env = "SLIPWAY_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Where its replicas keep the content, as s3://BUCKET[/PREFIX] [endpoint=URL]... [default: that of --config]
    #[arg(long, value_name = "PLACE", env = "SLIPWAY_CONTENT", value_parser = |text: &str| text.parse::<ContentSetting>())]
    content: Option<ContentSetting>,
}

/// Where a registry is.
pub(super) enum Where {
    /// In a folder.
    Folder(PathBuf),
    /// In what replicas share.
    Shared(Box<Engines>),
}

impl Place {
    fn settings(&self) -> Result<Settings, Failure> {
        let own = Settings {
            storage: self.storage.clone(),
            database: self.database.clone(),
            content: self.content.clone(),
            ..Settings::default()
        };
        own.with_file(settings::named(self.config.as_deref()).as_deref())
    }

    /// Where the registry is, and its settings.
    pub(super) fn find(&self, global: &Global) -> Result<(Where, Settings), Failure> {
        let settings = self.settings()?;
        if let Some(engines) = settings.engines(|| registries::authorities(global).map_err(Failure::new))? {
            return Ok((Where::Shared(Box::new(engines)), settings));
        }
        let folder = match &settings.storage {
            Some(folder) => folder.clone(),
            None => app::own_folder(global)?.join("registry"),
        };
        Ok((Where::Folder(folder), settings))
    }

    /// The registry, which has to be there, and its settings.
    pub(crate) fn open(&self, global: &Global) -> Result<(Arc<Storage>, Settings), Failure> {
        let (found, settings) = self.find(global)?;
        let storage = found.open()?;
        // what brings something back is bounded as by the server
        let quotas = settings.quotas.clone();
        storage.limit(Arc::new(move |repository| bounds(&quotas, repository)));
        Ok((storage, settings))
    }

    /// The folder of a registry for what can be done with no other one; `instead` is to be done with what replicas share.
    pub(crate) fn folder(&self, global: &Global, instead: &str) -> Result<PathBuf, Failure> {
        match self.find(global)?.0 {
            Where::Folder(folder) => Ok(folder),
            Where::Shared(engines) => {
                let what = format!("`{}` is what replicas share, and this is for a folder", engines.database);
                Err(Failure::new(what).with_hint(instead.to_owned()))
            }
        }
    }
}

impl Where {
    /// Opens the registry, which has to be there.
    pub(super) fn open(&self) -> Result<Arc<Storage>, Failure> {
        let opened = match self {
            Where::Folder(folder) => Storage::open_existing(folder),
            Where::Shared(engines) => engines.open_beside(&std::env::temp_dir()),
        };
        opened.map_err(|error| Failure::of(&error))
    }
}

impl Where {
    /// Opens the registry, making it where there is none.
    pub(super) fn open_new(&self) -> Result<Arc<Storage>, Failure> {
        let opened = match self {
            Where::Folder(folder) => Storage::open(folder),
            Where::Shared(engines) => engines.open_new(&std::env::temp_dir()),
        };
        opened.map_err(|error| Failure::of(&error))
    }
}

/// The turn at some work that replicas do one at a time; who has it is said, and waited for.
pub(super) fn turn(storage: &Storage, work: Work) -> Result<Turn, Failure> {
    let mut told = |holder: &str| show::note(format_args!("note: the replica {holder} does it now: waiting"));
    storage.await_turn(work, &mut told).map_err(|error| Failure::of(&error))
}

/// What was done in a turn was done to its end.
pub(super) fn held(turn: &Turn) -> Result<(), Failure> {
    match turn.holds() {
        true => Ok(()),
        false => Err(Failure::new("a replica has taken the turn over: run the command again")),
    }
}
