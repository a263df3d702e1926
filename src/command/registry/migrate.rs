//! `slipway registry migrate`.

use super::verify;
use crate::{
    app::Global,
    error::Failure,
    progress::{self, Choice},
    registries,
    settings::Settings,
    show,
};
use serde_json::json;
use slipway_registry::server::{
    Home, migrate, stay,
    storage::keep::{Moved, Moving},
};
use std::path::{Path, PathBuf};

/// Move a registry while it is served: out of a folder into what replicas share, back, or between two of a kind. Reads go on all the time,
/// and pushes until the last seconds, when they are told to try again. What was interrupted goes on with the same words.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Do not move it, or move it no more: FROM takes pushes again
    #[arg(long)]
    cancel: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shown: Choice,
    /// Where it is: its folder, or the settings of a server of it, slipway.toml
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// Where it goes: a folder, or settings that name `database` and `content`; there must be no registry yet
    #[arg(value_name = "TO", required_unless_present = "cancel")]
    to: Option<PathBuf>,
}

/// Carries the command out. Status 1 says that the registry itself has lost something.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let within = std::env::temp_dir();
    let from = home(global, &arguments.from)?;
    if arguments.cancel {
        stay(&from, &within).map_err(|error| Failure::of(&error))?;
        show::say(format!("`{}` takes pushes", arguments.from.display()))?;
        return Ok(0);
    }
    let to = arguments.to.as_deref().expect("clap asks for it");
    let target = home(global, to)?;
    let style = arguments.shown.show();
    let moved = progress::reading(&*style, verify::NAME, |progress| {
        let held =
            || show::note("note: pushes are told to try again from now on, until everything is carried");
        migrate(&from, &target, &within, &Moving { progress: &|done, all| progress(done, all), held: &held })
    });
    let moved = moved.map_err(|error| Failure::of(&error))?;
    tell(&moved, to, arguments.json)?;
    Ok(u8::from(!moved.lost.is_empty()))
}

/// A folder, or what a file of settings names.
fn home(global: &Global, path: &Path) -> Result<Home, Failure> {
    if !path.is_file() {
        return Ok(Home::Folder(path.to_owned()));
    }
    let settings = Settings::default().with_file(Some(path))?;
    if let Some(engines) = settings.engines(|| registries::authorities(global).map_err(Failure::new))? {
        return Ok(Home::Shared(Box::new(engines)));
    }
    let lacks =
        || Failure::new(format!("`{}` names neither `storage` nor `database` and `content`", path.display()));
    settings.storage.map(Home::Folder).ok_or_else(lacks)
}

fn tell(moved: &Moved, to: &Path, as_json: bool) -> Result<(), Failure> {
    let Moved { rows, contents, bytes, present, lost, notices, held_ms } = moved;
    for digest in lost {
        show::note(format_args!("warning: {digest} was missing or damaged already; a push brings it back"));
    }
    if as_json {
        return show::say(json!({
            "rows": rows,
            "contents": contents,
            "bytes": bytes,
            "present": present,
            "lost": lost,
            "notices": notices,
            "heldMilliseconds": held_ms,
        }));
    }
    show::say(format!(
        "{contents} contents ({}), {present} were there, {rows} rows, {notices} notices; pushes waited for {held_ms} ms",
        show::human(*bytes)
    ))?;
    show::note(format_args!(
        "note: serve `{}` now, and stop who serves what it was moved from",
        to.display()
    ));
    Ok(())
}
