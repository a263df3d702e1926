//! `slipway rename`.

use super::{kept::Kept, name};
use crate::{
    app::{App, Global},
    error::Failure,
};

/// Give a container another name.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The container: a name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    name: String,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let name = name::check(&arguments.name)?;
    let app = App::open(global)?;
    let kept = Kept::find(&app, &arguments.container)?;
    app.store.rename_container(&kept.row.id, &name)?;
    Ok(0)
}
