//! `slipway restart`.

use super::{
    selection::{Selection, each},
    start,
    stopping::{self, Asked},
};
use crate::{
    app::{App, Global},
    error::Failure,
};

/// Stop containers, and start them again.
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
