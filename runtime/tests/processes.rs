//! Entering user namespaces, which only a process with one thread can do; what holds at every level is in `levels/`. This
//! program is its own test runner and, with `inner` as the first argument, its own subject.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use slipway_runtime::identity::Identity;
use slipway_runtime::levels::{self, Tier};
use slipway_runtime::{Namespaces, RootFs, SandboxSpec, Stdio, spawn};
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
    let tests: [(&str, fn()); 4] = [
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
        "user" => user(&root),
        other => panic!("{other}"),
    }
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
