//! `slipway system reset`.

use crate::{
    app::{self, Global},
    error::Failure,
    show,
};
use slipway_oci::store::{self, StoreError};
use slipway_runtime::levels::{self, Tier};
use std::io::IsTerminal;

/// Remove the whole store: images, layers, caches, everything that builds have kept.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let root = app::store_folder(global.root.as_deref())?;
    if !store::is_store(&root)? {
        show::note(format_args!("note: there is no store in `{}`", root.display()));
        return Ok(0);
    }
    if !arguments.force {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new("nobody is there to be asked").with_hint("give --force"));
        }
        let question = format!(
            "This removes the store `{}` with all its images and caches. Go on? [y/N] ",
            root.display()
        );
        if !show::ask(&question)? {
            return Ok(1);
        }
    }
    // files of subordinate ids are their owner's inside only
    let entered = levels::enter()?;
    let left = store::reset(&root).map_err(|error| explained(&error, entered.tier))?;
    slipway_runtime::sweep()?;
    if left.strangers.is_empty() {
        show::say(format!("removed: {}", root.display()))?;
    } else {
        let names: Vec<String> = left.strangers.iter().map(|path| format!("`{}`", path.display())).collect();
        show::note(format_args!("note: {} is not of the store, and stays", names.join(", ")));
        show::say(format!("emptied: {}", root.display()))?;
    }
    Ok(0)
}

fn explained(error: &StoreError, tier: Tier) -> Failure {
    let failure = Failure::of(error);
    match error {
        StoreError::InUse(_) => failure.with_hint("wait until builds and containers have ended, or stop them"),
        StoreError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied && tier == Tier::SingleId =>
        {
            failure.with_hint(
                "it was made with subordinate ids: restore your lines in /etc/subuid and /etc/subgid and `newuidmap`, \
                 or remove the folder as root",
            )
        }
        _ => failure,
    }
}
