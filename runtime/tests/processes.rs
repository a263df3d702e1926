//! Tests that need a whole process of their own: `kill -9` of the runner, and user namespaces, which only a process with
//! one thread can enter. This program is its own test runner and, with `inner` as the first argument, its own subject.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio as Pipe};
use std::time::{Duration, Instant};

use slipway_runtime::identity::Identity;
use slipway_runtime::levels::{self, Tier};
use slipway_runtime::{Namespaces, RootFs, SandboxSpec, Stdio, Stream, spawn};
use support::{make_root, privileged};

/// A user of the tests' own, and where its subordinate ids start.
const USER: &str = "slipwaytest";

fn main() -> ExitCode {
    // a background job of a shell would ignore the interrupts that are tried here
    slipway_runtime::signals::begin().unwrap();
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("inner") {
        return inner(&args[2..]);
    }
    let filter = args.iter().skip(1).find(|arg| !arg.starts_with('-'));
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, fn()); 9] = [
        ("privileged_whatever_dies_no_container_lives_on", whatever_dies),
        ("privileged_nothing_is_left_to_reap", nothing_to_reap),
        ("privileged_no_user_sees_the_memory_of_the_program", secret_memory),
        ("privileged_killing_the_runner_kills_its_containers", killed_runner),
        ("privileged_a_terminals_interrupt_leaves_the_guard_alone", interrupted_runner),
        ("privileged_a_plain_user_gets_subordinate_ids", subordinate_ids),
        ("privileged_a_user_without_subordinate_ids_gets_one", single_id),
        ("privileged_who_may_take_any_id_needs_no_subordinate_ids", own_ids),
        ("privileged_a_masked_proc_is_shared_and_not_uncovered", masked_proc),
    ];
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in
        tests.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())))
    {
        let is_ok = in_time(name, *test);
        (passed, failed) = (passed + usize::from(is_ok), failed + usize::from(!is_ok));
        println!("test {name} ... {}", if is_ok { "ok" } else { "FAILED" });
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The longest that one test may take, on however slow a machine.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Runs a test; one that hangs fails by its name.
fn in_time(name: &str, test: fn()) -> bool {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(catch_unwind(test).is_ok()));
    receiver.recv_timeout(TIME_LIMIT).unwrap_or_else(|_| {
        println!("test {name} took longer than {TIME_LIMIT:?}");
        false
    })
}

/// The subject: `inner MODE ROOT`.
fn inner(args: &[String]) -> ExitCode {
    let root = PathBuf::from(&args[1]);
    match args[0].as_str() {
        "sleep" => {
            let mut spec =
                support::script(RootFs::Directory(root), &format!("setsid sleep {0} & sleep {0}", args[2]));
            spec.stdio = Stdio::null();
            let mut running = spawn(&spec).unwrap();
            println!("{}", running.pid().unwrap().as_raw_nonzero());
            running.wait().unwrap();
            ExitCode::SUCCESS
        }
        "reap" => reap(&root),
        "user" => user(&root),
        "peek" => peek(&args[1], &args[2]),
        other => panic!("{other}"),
    }
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
    let mut spec = SandboxSpec::new(RootFs::Directory(root.to_owned()), ["/no/such/program"]);
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

fn namespaces(hosts_network: bool) -> Namespaces {
    if hosts_network { Namespaces::with_hosts_network() } else { Namespaces::default() }
}

/// Enters a user namespace and runs everything there that differs in one.
fn user(root: &Path) -> ExitCode {
    let entered = levels::enter().unwrap();
    println!("tier {:?} uid {}", entered.tier, rustix::process::geteuid().as_raw());
    println!("note {}", entered.note.as_deref().unwrap_or("none"));
    let single_id = entered.tier == Tier::SingleId;
    let text = "echo in; id -u; touch /made; chown 33:44 /made && stat -c '%u:%g' /made; test -c /dev/null && echo dev
        echo x > /dev/null && echo null; ls /sys/class | wc -l; echo processes $(ls /proc | grep -c '^[0-9]'); rm /etc/not-executable; echo $$; cat /proc/self/comm
        (touch /sys/x) 2>&1; mknod /n c 1 3 2>&1";
    for (name, hosts_network) in [("host", true), ("none", false)] {
        let place = |part: &str| {
            let path = root.parent().unwrap().join(format!("{name}-{part}"));
            fs::create_dir(&path).unwrap();
            path
        };
        let overlay = RootFs::Overlay {
            lower: vec![root.to_owned().into()],
            upper: place("upper"),
            work: place("work"),
            volatile: true,
            userxattr: true,
        };
        let mut spec = SandboxSpec::new(overlay, ["/bin/sh", "-c", text]);
        (spec.namespaces, spec.single_id) = (namespaces(hosts_network), single_id);
        let (_, seen) = support::output(spec).unwrap();
        println!("{name}: {}", seen.trim().replace('\n', " | "));
        let mut terminal = support::script(RootFs::Directory(root.to_owned()), "tty; id -u");
        (terminal.namespaces, terminal.single_id) = (namespaces(hosts_network), single_id);
        terminal.process.user = Identity { uid: 1000, gid: 1000, groups: vec![1001] };
        terminal.stdio = Stdio::Terminal { size: None };
        let mut running = spawn(&terminal).unwrap();
        let mut seen = Vec::new();
        // The last read of a terminal whose other side is gone fails with EIO.
        let _ = fs::File::from(running.terminal().unwrap()).read_to_end(&mut seen);
        println!(
            "{name} terminal: {} {:?}",
            String::from_utf8_lossy(&seen).replace("\r\n", " ").trim(),
            running.wait().unwrap()
        );
    }
    ExitCode::SUCCESS
}

fn subject(mode: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["inner", mode]).arg(root);
    command
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

fn killed_runner() {
    if !privileged() {
        return;
    }
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
fn whatever_dies() {
    if !privileged() {
        return;
    }
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

fn nothing_to_reap() {
    if !privileged() {
        return;
    }
    let scratch = support::Scratch::new();
    let output = subject("reap", &scratch.path("root")).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(seen, "[0, 7, 0, 3, 2, 1] 0\n", "{}", String::from_utf8_lossy(&output.stderr));
}

fn interrupted_runner() {
    if !privileged() {
        return;
    }
    let scratch = support::Scratch::new();
    let mut runner = Runner::start(subject("sleep", &scratch.path("root")).process_group(0), 170_000);
    // As the terminal does for Ctrl-C: the whole group gets it. The runner dies of it, the guard must not.
    let group = rustix::process::Pid::from_raw(runner.process.id() as i32).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    wait_until("the runner ignores what a terminal sends", || runner.process.try_wait().unwrap().is_some());
    runner.wait_for_the_container();
}

/// A world-readable place that the test's user owns, with a root in it.
fn place_of(uid: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    make_root(&folder.path().join("root"));
    let status = Command::new("chown").arg("-R").arg(format!("{uid}:{uid}")).arg(folder.path()).status();
    assert!(status.unwrap().success());
    folder
}

fn as_user(uid: u32) -> String {
    let place = place_of(uid);
    let output =
        subject("user", &place.path().join("root")).uid(uid).gid(uid).current_dir("/").output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{seen}{}", String::from_utf8_lossy(&output.stderr));
    // What subordinate ids own, only root removes.
    drop(place);
    seen
}

/// As root in a container that may not mount: no `CAP_SYS_ADMIN`, and every id of the namespace.
fn own_ids() {
    if !privileged() {
        return;
    }
    let place = place_of(0);
    let subject = subject("user", &place.path().join("root"));
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-sys_admin"])
        .arg(subject.get_program())
        .args(subject.get_args())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{seen}{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "tier SubordinateIds uid 0",
        "note none",
        "in | 0 | 33:44 | dev | null",
        "none terminal: /dev/pts/0 1000 Code(0)",
    ] {
        assert!(seen.contains(part), "`{part}` in\n{seen}");
    }
}

fn subordinate_ids() {
    if !privileged() {
        return;
    }
    let _ = Command::new("useradd").args(["--no-create-home", USER]).output().unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line =
        passwd.lines().find(|line| line.starts_with(&format!("{USER}:"))).expect("useradd made the user");
    let uid: u32 = line.split(':').nth(2).unwrap().parse().unwrap();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        assert!(text.contains(USER), "useradd gives subordinate ids in {file}");
    }
    let seen = as_user(uid);
    let _ = Command::new("userdel").arg(USER).output().unwrap();
    for part in [
        "tier SubordinateIds uid 0",
        "note none",
        "in | 0 | 33:44 | dev | null",
        "none terminal: /dev/pts/0 1000 Code(0)",
        "host terminal: /dev/pts/0 1000 Code(0)",
    ] {
        assert!(seen.contains(part), "`{part}` in\n{seen}");
    }
    assert_eq!(seen.matches("Read-only file system").count(), 2, "{seen}");
    assert!(processes(&seen) < 6, "{seen}");
}

/// How many processes the first container saw in its /proc.
fn processes(seen: &str) -> usize {
    let (_, rest) = seen.split_once("processes ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn single_id() {
    if !privileged() {
        return;
    }
    let seen = as_user(54_321);
    for part in [
        "tier SingleId uid 0",
        "note no subordinate ids: add the line `54321:",
        ":65536` to /etc/subuid and /etc/subgid",
        "in | 0 | 0:0 | dev | null",
        "none terminal: /dev/pts/0 1000 Code(0)",
    ] {
        assert!(seen.contains(part), "`{part}` in\n{seen}");
    }
}

/// Where the caller's own /proc has covered parts, as in docker, the kernel refuses a user namespace a fresh one.
fn masked_proc() {
    if !privileged() {
        return;
    }
    let place = place_of(54_321);
    let script =
        "mount -t tmpfs none /proc/bus && exec setpriv --reuid 54321 --regid 54321 --clear-groups \"$@\"";
    let subject = subject("user", &place.path().join("root"));
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(subject.get_program())
        .args(subject.get_args())
        .current_dir("/")
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.contains("in | 0 | 0:0 | dev | null"), "{seen}{}", String::from_utf8_lossy(&output.stderr));
    assert!(processes(&seen) > 5, "the fallback was not taken: {seen}");
}

/// A user that no container of the tests' has but those of the test below.
const WATCHER: u32 = 54_377;

/// A2: a container's user finds nothing of the program's memory, however many threads start containers and however
/// long they are on their way to their command.
fn secret_memory() {
    if !privileged() {
        return;
    }
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
        let mut spec = SandboxSpec::new(scratch.directory(), [command, "0"]);
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

/// The watcher: looks for a secret in the memory of all children of a process, until its input ends.
fn peek(parent: &str, covered: &str) -> ExitCode {
    let secret: Vec<u8> = covered.bytes().map(|byte| byte ^ 1).collect();
    println!("ready");
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (mut found, mut looked) = (0, 0);
    let own = std::process::id().to_string();
    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let mut fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
            // the watcher is a child of the program as well, also as `self`, and knows what it looks for
            if fields.nth(1) != Some(parent) || stat.split(' ').next() == Some(&own) {
                continue;
            }
            looked += 1;
            found += usize::from(memory_has(&entry.path(), &secret));
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
