//! `slipway kill`.

use super::{
    selection::{Selection, each},
    stopping,
};
use crate::{
    app::{App, Global},
    error::Failure,
};

/// Send a signal to running containers.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    selection: Selection,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let signal = stopping::signal("--signal", &arguments.signal)?;
    let app = App::open(global)?;
    each(
        &app,
        global,
        arguments.selection.ignoring(false),
        |kept| kept.state.status.is_up(),
        |kept| {
            let process = kept.state.find_process().ok_or_else(|| {
                Failure::new(format!("container `{}` does not run", kept.row.name))
                    .with_hint("`slipway ps` lists those that do")
            })?;
            if signal == signal_hook::consts::SIGKILL {
                return stopping::kill(&app, kept);
            }
            Ok(process.signal(signal)?)
        },
    )
}
