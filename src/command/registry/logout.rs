//! `slipway logout`.

use crate::{app::Global, credentials, error::Failure, show};
use slipway_registry::client::forget_credential;

/// Log out from a registry.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let host = credentials::host(arguments.registry.as_deref())?;
    let path = credentials::place(global)?;
    let there = forget_credential(&path, &host).map_err(|error| Failure::of(&error))?;
    if there {
        show::say(format!("Removing login credentials for {host}"))?;
    } else {
        show::say(format!("Not logged in to {host}"))?;
    }
    // another file may have one too, which would be used all the same
    let left = credentials::read(global).map_err(Failure::new)?;
    if left(&host, "").is_ok_and(|left| left.is_some()) {
        show::note(format_args!(
            "warning: another file has credentials for {host}: `slipway info` lists them"
        ));
    }
    Ok(0)
}
