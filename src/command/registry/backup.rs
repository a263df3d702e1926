//! `slipway registry backup` and `restore`.

use super::{place::Place, verify};
use crate::{
    app::Global,
    error::Failure,
    progress::{self, Choice},
    service::{
        input::{self, is_stdin},
        output::Output,
    },
    show,
};
use serde_json::json;
use slipway_registry::server::storage::{
    StorageError,
    keep::{self, By, Copied},
};
use std::path::{Path, PathBuf};

/// Copy a registry as it is now, while it may be served: into a folder that is new or an earlier backup, and is a registry's
/// folder itself, or into one file.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Make copies where another name of the same file would do, too
    #[arg(long)]
    copy: bool,
    #[command(flatten)]
    shown: Shown,
    /// A folder; a file, where the name ends with .tar or there is one; or `-` for standard output
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
    /// The backup: a folder, a file, or `-` for standard input
    #[arg(value_name = "FROM")]
    from: PathBuf,
}

/// How it is shown.
#[derive(Clone, Copy, clap::Args)]
struct Shown {
    /// Whether standard output is taken.
    #[arg(skip)]
    aside: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
}

/// What is done with what replicas share.
const BACKUP: &str = "`pg_dump` of the database first, then a copy of the bucket's objects below `blobs/`, make a backup of it";

/// The same to bring it back.
const RESTORE: &str =
    "`pg_restore` into an empty database and a copy of the objects back into the bucket bring it back";

/// Carries `backup` out. Status 1 says that the registry itself has lost something.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let from = arguments.place.folder(global, BACKUP)?;
    let by = if arguments.copy { By::Copies } else { By::Links };
    let to = &arguments.to;
    if !is_file(to) {
        return arguments.shown.tell(|progress| keep::backup(&from, to, by, progress));
    }
    let mut output = Output::prepare("TO", to)?.for_its_owner()?;
    // the archive goes where the result would
    let shown = Shown { aside: to == Path::new("-"), ..arguments.shown };
    let status = shown.tell(|progress| keep::archive(&from, &mut output, progress))?;
    output.finish()?;
    Ok(status)
}

/// Whether a backup is one file.
fn is_file(to: &Path) -> bool {
    let named = to.extension().is_some_and(|end| end.eq_ignore_ascii_case("tar"));
    to == Path::new("-") || !to.is_dir() && (named || to.exists())
}

/// Carries `restore` out. Status 1 says that the backup has lost something.
pub(crate) fn restore(global: &Global, arguments: &RestoreArguments) -> Result<u8, Failure> {
    let to = arguments.place.folder(global, RESTORE)?;
    let from = &arguments.from;
    if from.is_dir() || !is_stdin(from) && !from.exists() {
        return arguments.shown.tell(|progress| keep::restore(from, &to, progress));
    }
    let mut file = std::io::BufReader::with_capacity(1 << 20, input::open("FROM", from)?);
    arguments.shown.tell(|progress| keep::unarchive(&mut file, &to, progress))
}

impl Shown {
    fn tell(
        &self,
        work: impl FnOnce(&(dyn Fn(u64, u64) + Sync)) -> Result<Copied, StorageError>,
    ) -> Result<u8, Failure> {
        let style = self.shown.show();
        let copied = progress::reading(&*style, verify::NAME, work).map_err(|error| Failure::of(&error))?;
        let Copied { contents, bytes, present, shared, removed, lost } = copied;
        for digest in &lost {
            show::note(format_args!("warning: {digest} is missing or damaged; a push brings it back"));
        }
        let size = show::human(bytes);
        let words = match self.json {
            true => json!({
                "contents": contents,
                "bytes": bytes,
                "present": present,
                "shared": shared,
                "removed": removed,
                "lost": lost,
            })
            .to_string(),
            false => format!(
                "{contents} contents, {size}: {present} were there, {shared} share what is stored, {removed} went"
            ),
        };
        if self.aside {
            show::note(words)
        } else {
            show::say(words)?
        }
        Ok(u8::from(!lost.is_empty()))
    }
}
