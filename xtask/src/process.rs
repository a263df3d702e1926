//! Running other programs and waiting for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, failed};

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs with this process's own output; anything but exit status 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Result<Duration, Failure> {
    let start = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().map_err(failed(format!("cannot run `{}`", shown(command))))?;
    match status.success() {
        true => Ok(start.elapsed()),
        false => Err(Failure(format!("`{}` ended with {status}", shown(command)))),
    }
}

/// Runs with its output caught; a failure quotes the end of it.
pub(crate) fn quiet(command: &mut Command) -> Result<(Output, Duration), Failure> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(failed(format!("cannot run `{}`", shown(command))))?;
    let took = start.elapsed();
    if output.status.success() {
        return Ok((output, took));
    }
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    Err(Failure(format!("`{}` ended with {}\n{tail}", shown(command), output.status)))
}

/// Standard output of a command that succeeds, without white space at its ends.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let (output, _) = quiet(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where programs are kept that are built here, for every checkout of a user. `tests/skip` knows it too.
pub(crate) fn built() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    cache.unwrap_or_else(crate::house::target).join("slipway-peers")
}

/// Where Debian keeps what a PostgreSQL server is made of. `tests/skip` knows it too.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// Where a program is: on the path, where Debian puts an administrator's, or built here.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin", POSTGRES].map(Into::into));
    folders.chain([built()]).map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}

/// `1.23 s`, or milliseconds where that says more.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        long => format!("{long:.2} s"),
    }
}
