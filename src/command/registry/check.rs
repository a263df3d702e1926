//! `slipway registry check`.

use crate::{error::Failure, settings::Settings, show};
use std::path::PathBuf;

/// Check a registry's configuration.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file
    #[arg(value_name = "FILE", default_value = "slipway.toml")]
    file: PathBuf,
}

/// Carries the command out.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let settings = Settings::default().with_file(Some(&arguments.file))?;
    let access = settings.access()?;
    settings.tls()?;
    settings.acme(|| Ok(None))?;
    settings.mirrors()?;
    settings.engines(|| Ok(None))?;
    let counts: Vec<String> = access.counts().iter().map(|(what, count)| format!("{count} {what}")).collect();
    show::say(format!("{}: ok ({})", arguments.file.display(), counts.join(", ")))?;
    for name in access.expired_tokens() {
        show::note(format_args!("warning: the token of `{name}` is over"));
    }
    if access.lets_anyone_write() {
        show::note("warning: anyone who reaches the registry may push");
    }
    Ok(0)
}
