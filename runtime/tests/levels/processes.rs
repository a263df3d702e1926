//! Life and death of runners, guards and containers, and what others see of their memory.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio as Pipe};
use std::time::{Duration, Instant};

use slipway_runtime::identity::Identity;
use slipway_runtime::{RootFs, Stdio, Stream, spawn};

use crate::Case;
use crate::neighbour::family;
use crate::runner::become_level;
use crate::support::{self, level};

pub(crate) const CASES: &[Case] = cases! {
    whatever_dies_no_container_lives_on;
    nothing_is_left_to_reap;
    no_user_sees_the_memory_of_the_program,
        not at SingleId: "the container's user is the caller itself on the host";
    killing_the_runner_kills_its_containers;
    a_terminals_interrupt_leaves_the_guard_alone;
};

/// The subject whose container sleeps: `LEVEL ROOT SECONDS`.
pub(crate) fn sleep(rest: &[&str]) -> ExitCode {
    let [level, root, seconds] = rest else { panic!("{rest:?}") };
    become_level(level);
    let text = format!("setsid sleep {seconds} & sleep {seconds}");
    let mut spec = support::script(RootFs::Directory(PathBuf::from(root)), &text);
    spec.stdio = Stdio::null();
    let mut running = spawn(&spec).unwrap();
    println!("{}", running.pid().unwrap().as_raw_nonzero());
    running.wait().unwrap();
    ExitCode::SUCCESS
}

/// The subject that counts its children: `LEVEL ROOT`.
pub(crate) fn count(rest: &[&str]) -> ExitCode {
    let [level, root] = rest else { panic!("{rest:?}") };
    become_level(level);
    reap(Path::new(root))
}

fn subject(mode: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["inner", mode, level().name()]).arg(root);
    command
}

/// Runs containers one after the other and two at once, and says how many children there are then, dead or alive.
fn reap(root: &Path) -> ExitCode {
    let run = |text: &str| {
        let mut spec = support::script(RootFs::Directory(root.to_owned()), text);
        spec.stdio = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
        spawn(&spec)
    };
    let mut ends = Vec::new();
    for text in ["exit 0", "exit 7", "kill -KILL $$; exec sleep 0", "sleep 0.1 & exit 3"] {
        ends.push(run(text).unwrap().wait().unwrap().status());
    }
    let (mut one, mut other) = (run("exit 1").unwrap(), run("sleep 0.2; exit 2").unwrap());
    ends.extend([other.wait().unwrap().status(), one.wait().unwrap().status()]);
    drop(run("sleep 1000").unwrap());
    let mut spec = support::spec(RootFs::Directory(root.to_owned()), &["/no/such/program"]);
    spec.stdio = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
    assert!(spawn(&spec).is_err());
    println!("{ends:?} {}", children(std::process::id()).len());
    ExitCode::SUCCESS
}

/// The ids of a process's children with their names, zombies among them.
fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let child = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        let is_child = rest.split(' ').nth(1) == Some(&parent.to_string());
        is_child.then(|| (pid, name.to_owned()))
    };
    entries.into_iter().filter_map(child).collect()
}

fn is_alive(name: &[u8]) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.into_iter().any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == name))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long a test's containers sleep, which nobody else's do, and the command line that they are known by.
fn sleeper(above: u32) -> (String, Vec<u8>) {
    let seconds = (above + std::process::id() % 100_000).to_string();
    let line = format!("sleep\0{seconds}\0").into_bytes();
    (seconds, line)
}

/// A subject whose container runs. A test that fails leaves none behind for the next one to find.
struct Runner {
    process: std::process::Child,
    sleeper: Vec<u8>,
}

impl Runner {
    /// `above` tells the sleep of one test from that of another.
    fn start(command: &mut Command, above: u32) -> Runner {
        let (seconds, sleeper) = sleeper(above);
        let process = command.arg(seconds).stdout(Pipe::piped()).spawn().unwrap();
        let mut runner = Runner { process, sleeper };
        let mut pid = String::new();
        BufReader::new(runner.process.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        // the shell's children have its name until they have executed their program
        wait_until("the container did not begin", || is_alive(&runner.sleeper));
        runner
    }

    fn wait_for_the_container(&self) {
        wait_until("the container survived", || !is_alive(&self.sleeper));
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // most are gone by now
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn killing_the_runner_kills_its_containers() {
    let scratch = support::Scratch::new();
    let mut runner = Runner::start(&mut subject("sleep", &scratch.path("root")), 70_000);
    runner.process.kill().unwrap();
    runner.process.wait().unwrap();
    runner.wait_for_the_container();
    wait_until("the guard stayed", || !orphaned_guards());
}

/// Whether a guard is alive whose process is not.
fn orphaned_guards() -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let stat = read("stat");
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        read("comm") == "slipway-guard\n" && fields.get(1) == Some(&"1") && fields.first() != Some(&"Z")
    })
}

/// A9: the runner, its guard, or both before either can do anything about it, in any order.
fn whatever_dies_no_container_lives_on() {
    let scratch = support::Scratch::new();
    for (round, victims) in ["runner", "guard", "runner guard", "guard runner"].into_iter().enumerate() {
        let mut runner = Runner::start(&mut subject("sleep", &scratch.path("root")), 270_000 + round as u32);
        let guards = children(runner.process.id());
        assert_eq!(guards.len(), 1, "{guards:?}");
        assert_eq!(guards[0].1, "slipway-guard");
        let pids = victims
            .split(' ')
            .map(|victim| if victim == "guard" { guards[0].0 } else { runner.process.id() });
        let pids: Vec<_> = pids.map(|pid| rustix::process::Pid::from_raw(pid as i32).unwrap()).collect();
        // none of them runs again
        for signal in [rustix::process::Signal::STOP, rustix::process::Signal::KILL] {
            pids.iter().for_each(|pid| rustix::process::kill_process(*pid, signal).unwrap());
        }
        runner.wait_for_the_container();
        let ended = runner.process.wait().unwrap();
        // a runner that lives sees its container end
        assert_eq!(ended.success(), victims == "guard", "{victims}: {ended}");
        wait_until("the guard stayed", || !orphaned_guards());
    }
}

fn nothing_is_left_to_reap() {
    let scratch = support::Scratch::new();
    let output = subject("count", &scratch.path("root")).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(seen, "[0, 7, 0, 3, 2, 1] 0\n", "{}", String::from_utf8_lossy(&output.stderr));
}

fn a_terminals_interrupt_leaves_the_guard_alone() {
    let scratch = support::Scratch::new();
    let mut runner = Runner::start(subject("sleep", &scratch.path("root")).process_group(0), 170_000);
    // As the terminal does for Ctrl-C: the whole group gets it. The runner dies of it, the guard must not.
    let group = rustix::process::Pid::from_raw(runner.process.id() as i32).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    wait_until("the runner ignores what a terminal sends", || runner.process.try_wait().unwrap().is_some());
    runner.wait_for_the_container();
}

/// A user that no container of the tests' has but those of the test below.
const WATCHER: u32 = 54_377;

/// A2: a container's user finds nothing of the program's memory, however many threads start containers and however
/// long they are on their way to their command.
fn no_user_sees_the_memory_of_the_program() {
    let scratch = support::Scratch::new();
    // Made while running, so that it is in no file, argument or variable.
    let letter = |n: u32| char::from(b'a' + ((n * 7 + std::process::id()) % 26) as u8);
    let secret: String = (0..48).map(letter).collect();
    let held: Vec<String> = (0..64).map(|_| secret.clone()).collect();
    let busy = scratch.path("root/bin/busy");
    fs::copy("/bin/busybox", &busy).unwrap();
    fs::set_permissions(&busy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut watcher = subject("peek", Path::new(&std::process::id().to_string()))
        .arg(secret.chars().map(|c| char::from(c as u8 ^ 1)).collect::<String>())
        .uid(WATCHER)
        .gid(WATCHER)
        .current_dir("/")
        .stdin(Pipe::piped())
        .stdout(Pipe::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(watcher.stdout.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    let spec = |command: &str| {
        let mut spec = support::spec(scratch.directory(), &[command, "0"]);
        spec.process.user = Identity { uid: WATCHER, gid: WATCHER, groups: vec![] };
        spec.stdio = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
        spec
    };
    let end = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Executing what is open for writing is tried again for a while, as the user.
            let open = fs::OpenOptions::new().append(true).open(&busy).unwrap();
            while Instant::now() < end {
                assert!(spawn(&spec("/bin/busy")).is_err());
            }
            drop(open);
        });
        for uid in [WATCHER, 0] {
            let spec = &spec;
            scope.spawn(move || {
                while Instant::now() < end {
                    let mut spec = spec("/bin/true");
                    spec.process.user.uid = uid;
                    spawn(&spec).unwrap().wait().unwrap();
                }
            });
        }
    });
    drop(watcher.stdin.take());
    let mut seen = String::new();
    said.read_to_string(&mut seen).unwrap();
    assert!(watcher.wait().unwrap().success());
    let (read, looked) = seen.trim().split_once(' ').unwrap();
    assert!(looked.parse::<u32>().unwrap() > 0, "the watcher saw no container");
    assert_eq!(read, "0", "memory of the program was read");
    drop(held);
}

/// The watcher: looks for a secret in the memory of a process and of all that descends from it, until its input ends.
pub(crate) fn peek(parent: &str, covered: &str) -> ExitCode {
    let secret: Vec<u8> = covered.bytes().map(|byte| byte ^ 1).collect();
    println!("ready");
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (mut found, mut looked) = (0, 0);
    let (parent, own) = (parent.parse().unwrap(), std::process::id() as i32);
    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
        // the watcher descends from the program as well, and knows what it looks for
        for pid in family(parent).into_iter().filter(|pid| *pid != own) {
            looked += 1;
            found += usize::from(memory_has(&Path::new("/proc").join(pid.to_string()), &secret));
        }
    }
    println!("{found} {looked}");
    ExitCode::SUCCESS
}

/// Whether the memory of a process can be read and holds the secret.
fn memory_has(process: &Path, secret: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let Ok(memory) = fs::File::open(process.join("mem")) else { return false };
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw").then_some((number(start)?, number(end)?))
    };
    maps.lines().filter_map(range).any(|(start, end)| {
        let mut bytes = vec![0; (end - start).min(8 << 20) as usize];
        let count = memory.read_at(&mut bytes, start).unwrap_or(0);
        bytes[..count].windows(secret.len()).any(|window| window == secret)
    })
}
