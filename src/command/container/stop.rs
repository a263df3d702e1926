//! `slipway stop`.

use super::{
    selection::{Selection, each},
    stopping,
};
use crate::{
    app::{App, Global},
    error::Failure,
};
use std::time::Duration;

/// Stop containers: ask them to end, and kill what has not ended in time.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds that they have; -1 for ever [default: the container's, or 10]
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
    let grace = grace(arguments.timeout);
    let app = App::open(global)?;
    each(
        &app,
        global,
        arguments.selection.ignoring(false),
        |kept| kept.state.status.is_up(),
        |kept| stopping::stop(&app, kept, signal, grace),
    )
}

/// `--timeout`, which ends never where it is less than nothing.
pub(super) fn grace(seconds: Option<i64>) -> Option<Option<Duration>> {
    seconds.map(|seconds| u64::try_from(seconds).ok().map(Duration::from_secs))
}
