//! `slipway registry backup` and `restore`.

use super::{place::Place, verify};
use crate::{
    app::Global,
    error::Failure,
    progress::{self, Style},
    show,
};
use serde_json::json;
use slipway_registry::server::storage::{
    StorageError,
    keep::{self, By, Copied},
};
use std::path::PathBuf;

/// Copy a registry as it is now, while it may be served, into a folder that is new or an earlier backup of it: a registry's
/// folder itself.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Make copies where another name of the same file would do, too
    #[arg(long)]
    copy: bool,
    #[command(flatten)]
    shown: Shown,
    /// The folder
    #[arg(value_name = "TO")]
    to: PathBuf,
}

/// Bring a backup back into a folder without a registry; every byte is looked at, where it is copied.
#[derive(clap::Args)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    shown: Shown,
    /// The backup
    #[arg(value_name = "FROM")]
    from: PathBuf,
}

/// How it is shown.
#[derive(clap::Args)]
struct Shown {
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_PROGRESS")]
    progress: Style,
}

/// Carries `backup` out. Status 1 says that the registry itself has lost something.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let from = arguments.place.folder(global)?;
    let by = if arguments.copy { By::Copies } else { By::Links };
    arguments.shown.tell(|progress| keep::backup(&from, &arguments.to, by, progress))
}

/// Carries `restore` out. Status 1 says that the backup has lost something.
pub(crate) fn restore(global: &Global, arguments: &RestoreArguments) -> Result<u8, Failure> {
    let to = arguments.place.folder(global)?;
    arguments.shown.tell(|progress| keep::restore(&arguments.from, &to, progress))
}

impl Shown {
    fn tell(
        &self,
        work: impl FnOnce(&(dyn Fn(u64, u64) + Sync)) -> Result<Copied, StorageError>,
    ) -> Result<u8, Failure> {
        let style = progress::of(if self.quiet { Style::Quiet } else { self.progress });
        let copied = verify::watch(&*style, work).map_err(|error| Failure::of(&error))?;
        let Copied { contents, bytes, present, shared, removed, lost } = copied;
        for digest in &lost {
            show::note(format_args!("warning: {digest} is missing or damaged; a push brings it back"));
        }
        if self.json {
            show::say(json!({
                "contents": contents,
                "bytes": bytes,
                "present": present,
                "shared": shared,
                "removed": removed,
                "lost": lost,
            }))?;
        } else {
            let size = show::human(bytes);
            show::say(format!(
                "{contents} contents, {size}: {present} were there, {shared} share what is stored, {removed} went"
            ))?;
        }
        Ok(u8::from(!lost.is_empty()))
    }
}
