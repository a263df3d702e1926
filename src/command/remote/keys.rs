//! `slipway generate-key-pair`.

use crate::{app::Global, error::Failure, service::password, show, trust::key::PrivateKey};
use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Make a pair of keys to sign images with, as cosign does.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the two files are called: PREFIX.key and PREFIX.pub
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    output_key_prefix: PathBuf,
}

/// Carries the command out.
pub(crate) fn run(_: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let path = |extension: &str| {
        let mut name = arguments.output_key_prefix.clone().into_os_string();
        name.push(extension);
        PathBuf::from(name)
    };
    let (private, public) = (path(".key"), path(".pub"));
    for path in [&private, &public] {
        if std::fs::symlink_metadata(path).is_ok() {
            let words = format!("`{}` is there already: a key is not written over", path.display());
            return Err(Failure::new(words).with_hint("--output-key-prefix gives the new pair another name"));
        }
    }
    let (own, others) = PrivateKey::generate(&new_password()?)?;
    write(&private, own.as_bytes(), 0o600)?;
    write(&public, others.as_bytes(), 0o644)?;
    show::say(private.display())?;
    show::say(public.display())?;
    Ok(0)
}

/// A password for a new key: cosign's variable, or typed twice.
fn new_password() -> Result<String, Failure> {
    if let Ok(password) = std::env::var("COSIGN_PASSWORD") {
        return Ok(password);
    }
    let hint = "COSIGN_PASSWORD gives it to scripts; empty it is none";
    let first = password::ask("Password for the new key: ").map_err(|failure| failure.with_hint(hint))?;
    match password::ask("The same again: ")? == first {
        true => Ok(first),
        false => Err(Failure::new("the two passwords differ: nothing was written")),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("cannot write `{}`: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
