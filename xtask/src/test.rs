//! `cargo xtask test`: what CI runs, the same here as there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::process::{run, seconds, shown};
use crate::{Failure, base, binary, failed, house, machine, user};

/// What the test runners counted.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// Sets the machine up, then runs everything; `filter` names tests to run alone.
pub(crate) fn run_all(filter: &[String]) -> Result<(), Failure> {
    let start = Instant::now();
    set_up()?;
    println!("== set-up took {}", seconds(start.elapsed()));
    let triple = binary::triple()?;
    if filter.is_empty() {
        check(&triple)?;
    }
    let skipped = house::folder("xtask")?.join("skipped");
    fs::write(&skipped, "").map_err(failed("cannot write the list of skipped tests"))?;
    let mut command = binary::cargo(&triple, "test");
    command.args(["--locked", "--workspace", "--no-fail-fast"]).env("SLIPWAY_SKIPPED", &skipped);
    command.arg("--").args(filter);
    let (count, succeeded) = count(&mut command)?;
    let reasons = fs::read_to_string(&skipped).unwrap_or_default();
    for reason in reasons.lines() {
        println!("skipped: {reason}");
    }
    let left_out = reasons.lines().count();
    println!("== everything took {}", seconds(start.elapsed()));
    // a test that finds it cannot run ends as passed for its runner
    let passed = count.passed.saturating_sub(left_out);
    println!("{passed} passed, {} failed, {} skipped", count.failed, left_out + count.ignored);
    match succeeded {
        true => Ok(()),
        false => Err(Failure("tests failed".to_owned())),
    }
}

/// Programs, the plain user, and the Debian base.
fn set_up() -> Result<(), Failure> {
    let missing = machine::provide(machine::TEST_TOOLS);
    if machine::is_ci() && !missing.is_empty() {
        return Err(Failure(format!("CI needs {}", missing.join(", "))));
    }
    if machine::is_root() {
        user::provide()?;
    }
    let base = base::provide()?;
    println!("base image: {} ({})", house::shown(&base.archive), base.description);
    Ok(())
}

/// Form and lints. The checks share cargo's build scripts with the tests, and with them every C library.
fn check(triple: &str) -> Result<(), Failure> {
    run(Command::new("cargo").current_dir(house::root()).args(["fmt", "--all", "--check"]))?;
    let start = Instant::now();
    let mut clippy = binary::cargo(triple, "clippy");
    run(clippy.args(["--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    println!("== fmt and clippy took {}", seconds(start.elapsed()));
    Ok(())
}

/// Runs a test command, shows what it prints, and adds up its runners' closing lines.
fn count(command: &mut Command) -> Result<(Count, bool), Failure> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed(format!("cannot run `{}`", shown(command))))?;
    let mut count = Count::default();
    let stdout = child.stdout.take().ok_or_else(|| Failure("no output to read".to_owned()))?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.map_err(failed("cannot read the tests' output"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(rest) = line.strip_prefix("test result: ") {
            count.add(rest);
        }
    }
    let status = child.wait().map_err(failed("cannot wait for the tests"))?;
    Ok((count, status.success()))
}

impl Count {
    /// Adds `ok. 12 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, result: &str) {
        let words: Vec<&str> = result.split_whitespace().collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<usize>() else { continue };
            match pair[1].trim_end_matches(';') {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut count = Count::default();
        count.add("ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s");
        count.add("FAILED. 2 passed; 1 failed");
        assert_eq!((count.passed, count.failed, count.ignored), (14, 1, 1));
    }
}
