//! `cargo xtask test`: what CI runs, the same here as there.

mod plan;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::process::{run, seconds, shown};
use crate::{Failure, base, binary, failed, house, machine, user};
use plan::{Asked, Round};

/// What the test runners counted.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// Sets the machine up, then runs everything; words without a dash name tests to run alone.
pub(crate) fn run_all(words: &[String]) -> Result<(), Failure> {
    let asked = Asked::parse(words)?;
    let start = Instant::now();
    set_up(&asked)?;
    println!("== set-up took {}", seconds(start.elapsed()));
    let triple = binary::triple()?;
    if asked.filter.is_empty() {
        check(&triple)?;
    }
    let skipped = house::folder("xtask")?.join("skipped");
    fs::write(&skipped, "").map_err(failed("cannot write the list of skipped tests"))?;
    let run_one = |round: Round| count(round.command(&triple).env("SLIPWAY_SKIPPED", &skipped));
    let (mut total, mut succeeded) = run_one(asked.first())?;
    for round in asked.others_here(&triple)?.into_iter().chain(asked.pairs_here()) {
        let (count, is_green) = run_one(round)?;
        total = total.and(&count);
        succeeded &= is_green;
    }
    let reasons = fs::read_to_string(&skipped).unwrap_or_default();
    for reason in reasons.lines() {
        println!("skipped: {reason}");
    }
    let left_out = reasons.lines().count();
    println!("== everything took {}", seconds(start.elapsed()));
    // a test that finds it cannot run ends as passed for its runner
    let passed = total.passed.saturating_sub(left_out);
    println!("{passed} passed, {} failed, {} skipped", total.failed, left_out + total.ignored);
    match succeeded {
        true => Ok(()),
        false => Err(Failure("tests failed".to_owned())),
    }
}

/// Programs, the plain user, and the Debian base.
fn set_up(asked: &Asked) -> Result<(), Failure> {
    let missing = machine::provide(machine::TEST_TOOLS);
    if asked.cluster {
        // what cannot be had is said, and its tests are counted as skipped
        machine::provide(machine::CLUSTER_TOOLS);
    }
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
    let (mut count, mut slow) = (Count::default(), Slow::default());
    let stdout = child.stdout.take().ok_or_else(|| Failure("no output to read".to_owned()))?;
    let (sender, lines) = channel();
    std::thread::spawn(move || BufReader::new(stdout).split(b'\n').try_for_each(|line| sender.send(line)));
    // compiling says nothing here, and takes what it takes
    let mut patience = None;
    loop {
        let line = match patience.map_or_else(|| Ok(lines.recv()?), |time| lines.recv_timeout(time)) {
            Ok(line) => line.map_err(failed("cannot read the tests' output"))?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                end_all(child.id());
                return Err(Failure(slow.words()));
            }
        };
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        patience = Some(SILENCE);
        slow.look(&line);
        if let Some(rest) = line.strip_prefix("test result: ") {
            count.add(rest);
        }
    }
    let status = child.wait().map_err(failed("cannot wait for the tests"))?;
    Ok((count, status.success()))
}

/// The longest that no test may end, on however slow a machine. Rust's runner itself waits for a test for ever.
const SILENCE: Duration = Duration::from_secs(600);

/// Tests that Rust's runner called slow and that have not ended since.
#[derive(Default)]
struct Slow(BTreeSet<String>);

impl Slow {
    /// Looks at a line: `test NAME has been running for over 60 seconds`, or `test NAME ... ok`.
    fn look(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some((name, _)) = rest.split_once(" has been running for over ") {
            self.0.insert(name.to_owned());
        } else if let Some((name, _)) = rest.split_once(" ... ") {
            self.0.remove(name);
        }
    }

    /// Why the tests were ended.
    fn words(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let names = if names.is_empty() { "a program of tests".to_owned() } else { names.join(", ") };
        format!("no test ended within {} s; hanging: {names}", SILENCE.as_secs())
    }
}

/// Ends a process and what descends from it, the youngest last, so that none is handed to another parent unseen.
fn end_all(process: u32) {
    let children = children(process);
    // one that has ended already is as good
    let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
    children.into_iter().for_each(end_all);
}

/// The children of a process (proc_pid_stat(5): the parent is the second word after the name).
fn children(process: u32) -> Vec<u32> {
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1).and_then(|word| word.parse().ok()) == Some(process)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

impl Count {
    /// Both together.
    fn and(&self, other: &Count) -> Count {
        Count {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }

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

    #[test]
    fn what_hangs_has_a_name() {
        let mut slow = Slow::default();
        for line in [
            "running 3 tests",
            "test a::b has been running for over 60 seconds",
            "test a::c has been running for over 60 seconds",
            "test a::d ... ok",
            "test a::c ... FAILED",
        ] {
            slow.look(line);
        }
        assert!(slow.words().ends_with("hanging: a::b"), "{}", slow.words());
        slow.look("test a::b ... ok");
        assert!(slow.words().ends_with("hanging: a program of tests"));
    }

    #[test]
    fn a_whole_family_is_ended() {
        let mut shell =
            Command::new("sh").args(["-c", "sleep 1000 & sleep 1000 & wait"]).spawn().expect("sh");
        while children(shell.id()).len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let sleepers = children(shell.id());
        end_all(shell.id());
        assert!(!shell.wait().expect("ended").success());
        let is_alive =
            |id: &u32| fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
        while sleepers.iter().any(is_alive) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
