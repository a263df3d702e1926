//! `slipway rm`.

use super::{
    kept::Kept,
    selection::{Selection, each},
    stopping,
};
use crate::{
    app::{App, Global},
    error::Failure,
    show,
};

/// Remove containers, with what they wrote.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kill those that run; pass over missing ones
    #[arg(short, long)]
    force: bool,
    /// Seconds that one which runs has to end before it is killed, with --force [default: 0]
    #[arg(short = 't', long, alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    #[command(flatten)]
    selection: Selection,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let app = App::open(global)?;
    // what killed commands have left of others goes along
    if let Err(error) = app.store.sweep_containers() {
        show::note(format_args!("warning: {}", Failure::from(error).words()));
    }
    each(
        &app,
        global,
        arguments.selection.ignoring(arguments.force),
        |kept| arguments.force || !kept.state.status.is_up(),
        |kept| {
            if let (true, Some(grace)) = (arguments.force, stopping::grace(arguments.time)) {
                stopping::stop(&app, kept, None, Some(grace))?;
            }
            remove(&app, kept, arguments.force)
        },
    )
}

/// Removes a container; one that runs only with force.
pub(super) fn remove(app: &App, kept: &mut Kept, force: bool) -> Result<(), Failure> {
    if kept.state.status.is_up() {
        if !force {
            let words = format!("container `{}` runs", kept.row.name);
            return Err(Failure::new(words).with_hint(format!(
                "stop it first, `slipway stop {name}`, or kill it, `slipway rm -f {name}`",
                name = kept.row.name
            )));
        }
        stopping::kill(app, kept)?;
    }
    // one that removes itself is gone by now
    let lock = match kept.lock(app) {
        Err(_) if !kept.folder(app).exists() => None,
        other => match other? {
            Some(lock) => Some(lock),
            None => return Err(Failure::new(format!("container `{}` is being worked on", kept.row.name))),
        },
    };
    Ok(app.store.remove_container(&kept.row.id, lock)?)
}
