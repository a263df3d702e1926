//! `slipway registry htpasswd`.

use crate::{error::Failure, service::password, show};
use slipway_registry::server::access::{htpasswd_line, is_name};

/// Make a line of an htpasswd file for a user.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The user's name
    #[arg(value_name = "NAME")]
    name: String,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Carries the command out.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let name = &arguments.name;
    if !is_name(name) {
        return Err(Failure::usage(format!("`{name}` is no name of a user")));
    }
    let password = match arguments.password_stdin {
        true => password::from_stdin()?,
        false => password::ask("Password: ")?,
    };
    let line = htpasswd_line(name, &password).ok_or_else(|| {
        Failure::new("the password is empty or longer than the 71 bytes that bcrypt looks at")
    })?;
    show::say(line)?;
    Ok(0)
}
