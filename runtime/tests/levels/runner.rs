//! Running the cases, each at its levels, in processes of their own.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slipway_runtime::levels::{self, Tier};

use crate::support::{self, Level};
use crate::{Case, TABLES};

/// The longest that one case may take, on however slow a machine.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// A user whom no file knows, and who so has no subordinate ids.
const NAMELESS: u32 = 54_323;

/// The tests' user with subordinate ids (xtask/src/user.rs).
const NAMED: &str = "slipway-e2e";

/// Where this program is for whoever may not enter the folder that it was built in.
struct Copy {
    program: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Copy {
    fn new() -> Copy {
        let own = std::env::current_exe().unwrap();
        if !slipway_skip::is_root() {
            return Copy { program: own, _folder: None };
        }
        let folder = tempfile::Builder::new().prefix("slipway-levels-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("levels");
        fs::copy(own, &program).unwrap();
        Copy { program, _folder: Some(folder) }
    }
}

/// Who a level's cases are run by; `None` for the caller itself.
pub(crate) fn user_of(level: Level) -> Result<Option<(u32, u32)>, String> {
    match level {
        Level::Root => Ok(None),
        Level::SingleId => Ok(Some((NAMELESS, NAMELESS))),
        Level::SubordinateIds => {
            let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
            let line = passwd.lines().find(|line| line.starts_with(&format!("{NAMED}:")));
            let mut ids = line.into_iter().flat_map(|line| line.split(':').skip(2)).map(str::parse);
            let (Some(Ok(uid)), Some(Ok(gid))) = (ids.next(), ids.next()) else {
                return Err(format!("the user {NAMED} is missing: run `cargo xtask test`"));
            };
            let subordinate = fs::read_to_string("/etc/subuid").unwrap_or_default();
            let has_ids = !levels::ranges(&subordinate, Some(NAMED), uid).is_empty();
            if has_ids && slipway_skip::find("newuidmap").is_some() {
                Ok(Some((uid, gid)))
            } else {
                Err(format!("{NAMED} has no subordinate ids, or newuidmap is not installed"))
            }
        }
    }
}

/// This program as a level's user, in no folder of anybody's.
pub(crate) fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null()).env_remove("SLIPWAY_SKIPPED");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env_remove("TMPDIR");
    }
    command
}

/// Becomes what a level is, and answers which that is: the word `own` is whatever the caller reaches.
pub(crate) fn become_level(word: &str) -> Level {
    let entered = levels::enter().unwrap();
    let level = match entered.tier {
        Tier::Root => Level::Root,
        Tier::SubordinateIds => Level::SubordinateIds,
        Tier::SingleId => Level::SingleId,
        Tier::Bare => panic!("no sandbox is made without namespaces: {:?}", entered.note),
    };
    assert!(word == "own" || word == level.name(), "{word} became {}: {:?}", level.name(), entered.note);
    support::set_level(level);
    level
}

/// One case, in this process.
pub(crate) fn one(name: &str, level: &str) -> ExitCode {
    let level = become_level(level);
    let (case, _) = all_cases().find(|(_, known)| known == name).expect("a case of this name");
    if let Some((_, reason)) = case.left_out.iter().find(|(left_out, _)| *left_out == level) {
        println!("left out: {reason}");
        return ExitCode::SUCCESS;
    }
    let run = std::thread::Builder::new().name(name.to_owned()).spawn(case.run).unwrap();
    if run.join().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all_cases() -> impl Iterator<Item = (&'static Case, String)> {
    TABLES
        .iter()
        .flat_map(|(table, cases)| cases.iter().map(move |case| (case, format!("{table}::{}", case.name))))
}

/// What is run: a case at a level.
struct Job {
    name: String,
    word: &'static str,
    user: Option<(u32, u32)>,
}

impl Job {
    fn title(&self) -> String {
        format!("{} at {}", self.name, self.word)
    }
}

/// All cases that the words name, as Rust's own runner takes them.
pub(crate) fn all(words: &[&str]) -> ExitCode {
    if words.contains(&"--list") {
        all_cases().for_each(|(_, name)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&&str> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |title: &str| filters.is_empty() || filters.iter().any(|filter| title.contains(**filter));
    let jobs: Vec<Job> = jobs().into_iter().filter(|job| is_wanted(&job.title())).collect();
    println!("\nrunning {} tests", jobs.len());
    let copy = Copy::new();
    let (next, left_out, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(job, &copy.program) {
                        Ok(Outcome::Passed) => {}
                        Ok(Outcome::LeftOut) => drop(left_out.fetch_add(1, Ordering::Relaxed)),
                        Err(said) => {
                            failures.lock().unwrap().push(format!("---- {} ----\n{said}", job.title()))
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    failures.iter().for_each(|failure| println!("\n{failure}"));
    let word = if failures.is_empty() { "ok" } else { "FAILED" };
    let (failed, left_out) = (failures.len(), left_out.into_inner());
    let passed = jobs.len() - failed - left_out;
    println!("\ntest result: {word}. {passed} passed; {failed} failed; {left_out} left out");
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn jobs() -> Vec<Job> {
    let all = |word: &'static str, user| all_cases().map(move |(_, name)| Job { name, word, user });
    if !slipway_skip::is_root() || levels::needed() {
        return all("own", None).collect();
    }
    let mut jobs = Vec::new();
    for level in Level::ALL {
        match user_of(level) {
            Ok(user) => jobs.extend(all(level.name(), user)),
            Err(reason) => skipped(&format!("every case at {}", level.name()), reason),
        }
    }
    jobs
}

/// Says that something was not run, by its name.
fn skipped(name: &str, reason: String) {
    let skip = std::thread::Builder::new().name(name.to_owned()).spawn(move || slipway_skip::skip(&reason));
    assert!(skip.unwrap().join().is_ok(), "nothing may be skipped here");
}

/// How a case that did not fail ended.
enum Outcome {
    Passed,
    LeftOut,
}

/// Runs a case and prints its line; what it said if it failed.
fn run(job: &Job, program: &Path) -> Result<Outcome, String> {
    let mut command = as_user(program, job.user);
    let (reader, writer) = std::io::pipe().unwrap();
    command.args(["case", &job.name, job.word]).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let said = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = { reader }.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > TIME_LIMIT => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let said = said.join().unwrap();
    let title = job.title();
    let reason = |word: &str| said.lines().find_map(|line| line.strip_prefix(word)).map(str::to_owned);
    match status {
        Some(status) if status.success() => {
            if let Some(reason) = reason("left out: ") {
                println!("test {title} ... left out: {reason}");
                return Ok(Outcome::LeftOut);
            }
            if let Some(reason) = reason("skipped: ") {
                skipped(&title, reason);
            }
            println!("test {title} ... ok");
            Ok(Outcome::Passed)
        }
        status => {
            println!("test {title} ... FAILED");
            Err(format!("{}: {said}", status.map_or("took too long".to_owned(), |status| status.to_string())))
        }
    }
}
