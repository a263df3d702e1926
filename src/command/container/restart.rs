//! `slipway restart`.

use super::{
    selection::{Selection, each},
    start, stop, stopping,
};
use crate::{
    app::{App, Global},
    error::Failure,
};

/// Stop containers, and start them again.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds that they have to end; -1 for ever [default: the container's, or 10]
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// What they are asked with [default: the container's]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let signal = arguments.signal.as_deref().map(|text| stopping::signal("--signal", text)).transpose()?;
    let grace = stop::grace(arguments.timeout);
    let app = App::open_for_containers(global)?;
    each(
        &app,
        global,
        arguments.selection.ignoring(false),
        |_| true,
        |kept| {
            stopping::stop(&app, kept, signal, grace)?;
            start::start(&app, kept)
        },
    )
}
