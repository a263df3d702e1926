//! `slipway dockerfile expand`.

use crate::{error::Failure, show::say};
use slipway_dockerfile::Expander;
use std::collections::BTreeMap;

/// Expand variables, quotes and escapes as in a value of ENV.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A variable's value; may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// The escape character: a backslash or a backtick
    #[arg(long, value_name = "CHARACTER", default_value = "\\")]
    escape: char,
    /// The text
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
}

/// Carries the command out.
pub(super) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if !matches!(arguments.escape, '\\' | '`') {
        return Err(Failure::usage(format!("invalid escape character `{}`", arguments.escape))
            .with_hint("it is a backslash or a backtick"));
    }
    let mut variables = BTreeMap::new();
    for given in &arguments.variables {
        let (name, value) = given
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("`{given}` is not of the form NAME=VALUE")))?;
        variables.insert(name, value);
    }
    let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let expansion = Expander::new(arguments.escape)
        .expand(&arguments.text, &lookup)
        .map_err(|error| Failure::new(format!("cannot expand `{}`: {error}", arguments.text)))?;
    say(expansion.value)?;
    Ok(0)
}
