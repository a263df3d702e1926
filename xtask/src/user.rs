//! The plain user of the tests without root.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::process::quiet;
use crate::{Failure, failed};

/// Its name; tests/support knows it too.
pub(crate) const NAME: &str = "slipway-e2e";

/// Makes the user and its subordinate ids. Only root can.
pub(crate) fn provide() -> Result<(), Failure> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(failed("cannot read /etc/passwd"))?;
    if !passwd.lines().any(|line| line.starts_with(&format!("{NAME}:"))) {
        let shell = ["--create-home", "--shell", "/bin/sh", NAME];
        quiet(Command::new("/usr/sbin/useradd").args(shell))?;
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        subordinate(file)?;
    }
    Ok(())
}

/// useradd gives subordinate ids where the `uidmap` package was there first; otherwise they come after the last.
fn subordinate(file: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(file).unwrap_or_default();
    if text.lines().any(|line| line.starts_with(&format!("{NAME}:"))) {
        return Ok(());
    }
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(1).map(|field| field.parse::<u64>().ok());
        Some(fields.next()?? + fields.next()??)
    });
    let start = ends.max().unwrap_or(0).max(100_000);
    let mut file = fs::OpenOptions::new().append(true).create(true).open(file).map_err(failed(file))?;
    writeln!(file, "{NAME}:{start}:65536").map_err(failed("cannot add subordinate ids"))
}
