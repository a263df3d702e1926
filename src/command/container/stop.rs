//! `slipway stop`.

use super::{
    selection::{Selection, each},
    stopping::{self, Asked},
};
use crate::{
    app::{App, Global},
    error::Failure,
};

/// Stop containers: ask them to end, and kill what has not ended in time.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    selection: Selection,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let (signal, grace) = arguments.asked.read()?;
    let app = App::open(global)?;
    each(
        &app,
        global,
        arguments.selection.ignoring(false),
        |kept| kept.state.status.is_up(),
        |kept| stopping::stop(&app, kept, signal, grace),
    )
}
