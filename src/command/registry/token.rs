//! `slipway registry token`.

use crate::{error::Failure, show};
use slipway_registry::server::access::{SecretHash, is_name, new_secret};

/// Make a token for a user, and the line of the configuration that takes it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The user's name
    #[arg(value_name = "NAME")]
    name: String,
    /// When it ends: a date, 2027-01-31, or a moment, 2027-01-31T12:00:00Z
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
}

/// Carries the command out: the token alone on standard output, so that it can be kept, and the line for people beside it.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let name = &arguments.name;
    if !is_name(name) {
        return Err(Failure::usage(format!("`{name}` is no name of a user")));
    }
    let secret = new_secret().ok_or_else(|| Failure::new("the system has no random numbers"))?;
    let hash = SecretHash::of(&secret);
    let hash = match &arguments.until {
        Some(until) => hash.until(until).map_err(|words| Failure::usage(format!("--until: {words}")))?,
        None => hash,
    };
    show::say(&secret)?;
    show::note(format_args!(
        "the token is shown this once. In slipway.toml, below [tokens]:\n\"{name}\" = \"{}\"",
        hash
    ));
    Ok(0)
}
