//! `slipway start`.

use super::{
    kept::Kept,
    monitor,
    selection::{Selection, each},
};
use crate::{
    app::{App, Global},
    error::Failure,
};

/// Start containers that were made or have ended.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: Selection,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open_for_containers(global)?;
    each(
        &app,
        global,
        arguments.selection.ignoring(false),
        |kept| !kept.state.status.is_up(),
        |kept| start(&app, kept),
    )
}

/// Starts a container; one that runs already runs on.
pub(super) fn start(app: &App, kept: &mut Kept) -> Result<(), Failure> {
    if kept.state.status.is_up() {
        return Ok(());
    }
    let Some(lock) = kept.lock(app)? else {
        return Err(Failure::new(format!("container `{}` is being worked on", kept.row.name)));
    };
    monitor::start(app, kept, lock)
}
