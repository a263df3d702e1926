//! The static binary.
//!
//! `crt-static` must not reach proc macros, which are shared libraries of the host: hence `--target`, after which
//! cargo keeps the two apart even where the target is the host's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{output, run};
use crate::{Failure, failed, house};

/// The host's target triple.
pub(crate) fn triple() -> Result<String, Failure> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or_else(|| Failure("rustc -vV names no host".to_owned()))
}

/// A cargo command whose products are static.
pub(crate) fn cargo(triple: &str, subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let name = triple.to_uppercase().replace(['-', '.'], "_");
    command.current_dir(house::root()).arg(subcommand).args(["--target", triple]);
    command.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), "-C target-feature=+crt-static");
    command
}

/// Builds the static release binary and puts it at target/release/slipway.
pub(crate) fn build() -> Result<PathBuf, Failure> {
    let triple = triple()?;
    let mut build = cargo(&triple, "build");
    build.args(["--release", "--locked", "--package", "slipway"]);
    // sources without a repository have no commit to name
    if let Ok(commit) = output(Command::new("git").current_dir(house::root()).args(["rev-parse", "HEAD"])) {
        build.env("SLIPWAY_COMMIT", commit.trim().chars().take(12).collect::<String>());
    }
    run(&mut build)?;
    let made = house::target().join(&triple).join("release/slipway");
    check_static(&made)?;
    let place = house::folder("release")?.join("slipway");
    let beside = place.with_extension("new");
    let _ = fs::remove_file(&beside);
    fs::hard_link(&made, &beside)
        .or_else(|_| fs::copy(&made, &beside).map(|_| ()))
        .and_then(|()| fs::rename(&beside, &place))
        .map_err(failed(format!("cannot place `{}`", place.display())))?;
    Ok(place)
}

/// Builds and says where it is and how large.
pub(crate) fn report() -> Result<(), Failure> {
    let binary = build()?;
    let size = fs::metadata(&binary).map_err(failed("cannot read the binary"))?.len();
    println!("{}: {:.1} MiB, static", house::shown(&binary), size as f64 / f64::from(1 << 20));
    Ok(())
}

/// A static program names no interpreter (PT_INTERP) in its program headers (elf(5)).
pub(crate) fn check_static(path: &Path) -> Result<(), Failure> {
    let bytes = fs::read(path).map_err(failed(format!("cannot read `{}`", path.display())))?;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = bytes.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let interpreter = || -> Option<bool> {
        let (table, entry, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        let mut kinds = (0..count).filter_map(|index| number((table + index * entry) as usize, 4));
        // 3 is PT_INTERP
        Some(kinds.any(|kind| kind == 3))
    };
    match (bytes.starts_with(b"\x7fELF\x02\x01"), interpreter()) {
        (true, Some(false)) => Ok(()),
        (true, Some(true)) => Err(Failure(format!("`{}` is not static", path.display()))),
        _ => Err(Failure(format!("`{}` is not a 64-bit ELF program", path.display()))),
    }
}
