//! A second user of the machine, without privilege, against what the sandboxes of the first leave in reach: their processes,
//! guards, first processes, those that wait at a gate, and everything on its way to its command, by `/proc`, pidfds, ptrace,
//! signals, namespaces, scheduling; control groups, FIFOs, abstract sockets and terminals.
//!
//! The subject is a process of each level that has sandboxes in every state, and goes on starting more. The attacker looks at
//! whatever descends from it, as itself and as root of a user namespace of its own.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio as Pipe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal};
use slipway_runtime::identity::Identity;
use slipway_runtime::{
    CgroupSpec, CpuQuota, Created, FileContent, Gate, Life, Mount, Namespace, Running, SandboxSpec, Stdio,
    Stream, create, spawn,
};

use crate::Case;
use crate::runner::{as_user, become_level, user_of};
use crate::support::{Level, Scratch, script};

pub(crate) const CASES: &[Case] = cases! {
    roots_sandboxes_are_out_of_reach,
        not at SubordinateIds: "only root can be two users",
        not at SingleId: "only root can be two users";
    those_of_a_user_with_subordinate_ids_are_out_of_reach,
        not at SubordinateIds: "only root can be two users",
        not at SingleId: "only root can be two users";
    those_of_a_user_with_one_id_are_out_of_reach,
        not at SubordinateIds: "only root can be two users",
        not at SingleId: "only root can be two users";
    what_waits_at_a_gate_is_closed_to_its_own_user,
        not at SubordinateIds: "its users are nobody's on the host",
        not at SingleId: "its users are nobody's on the host";
};

/// Who attacks.
const ATTACKER: u32 = 54_378;

fn roots_sandboxes_are_out_of_reach() {
    try_all(Level::Root);
}

fn those_of_a_user_with_subordinate_ids_are_out_of_reach() {
    try_all(Level::SubordinateIds);
}

fn those_of_a_user_with_one_id_are_out_of_reach() {
    try_all(Level::SingleId);
}

fn try_all(level: Level) {
    let user = match user_of(level) {
        Ok(user) => user,
        Err(reason) => return slipway_skip::skip(&reason),
    };
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let program = std::env::current_exe().unwrap();
    let before = abstract_names();
    let mut subject = as_user(&program, user);
    subject.args(["inner", "stand", level.name()]).arg(folder.path());
    let mut subject = subject.stdin(Pipe::piped()).stdout(Pipe::piped()).spawn().unwrap();
    let mut said = BufReader::new(subject.stdout.take().unwrap());
    let mut paths = String::new();
    said.read_line(&mut paths).unwrap();
    assert!(paths.ends_with('\n'), "the subject failed");
    for own_namespace in ["plain", "namespace"] {
        let mut attacker = as_user(&program, Some((ATTACKER, ATTACKER)));
        attacker
            .args(["inner", "attack", &subject.id().to_string(), own_namespace])
            .args(paths.split_whitespace());
        let output = attacker.output().unwrap();
        let seen = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{seen}{errors}");
        let (looked, reached) = seen.split_once('\n').unwrap();
        // the subject, some guards and first processes, and a few of those that come and go
        assert!(looked.parse::<usize>().unwrap() > 20, "only {looked} processes were seen");
        assert_eq!(reached, "", "{own_namespace}");
    }
    let after = abstract_names();
    // others of these tests have theirs
    let new = after.difference(&before).filter(|name| !name.contains("slipway-test-")).collect::<Vec<_>>();
    assert!(new.is_empty(), "abstract sockets: {new:?}");
    drop(subject.stdin.take());
    assert!(subject.wait().unwrap().success());
}

/// The abstract sockets of this network namespace.
fn abstract_names() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(" @")?.1.to_owned())).collect()
}

/// Sandboxes in every state, kept while something is held.
struct Standing {
    _running: Vec<Running>,
    _created: Vec<Created>,
    _streams: Vec<OwnedFd>,
}

fn sleeper(scratch: &Scratch) -> SandboxSpec {
    script(scratch.directory(), "sleep 600 & exec sleep 601")
}

fn identity(uid: u32) -> Identity {
    Identity { uid, gid: uid, groups: vec![] }
}

fn stand_up(scratch: &Scratch, level: Level, fifo: &Path) -> Standing {
    let (mut running, mut streams) = (Vec::new(), Vec::new());
    let mut start = |change: &dyn Fn(&mut SandboxSpec)| {
        let mut spec = sleeper(scratch);
        change(&mut spec);
        running.push(spawn(&spec).unwrap());
    };
    start(&|_| {});
    start(&|spec| spec.process.user = identity(1000));
    start(&|spec| spec.stdio = Stdio::Terminal { size: None });
    start(&|spec| spec.process.init = true);
    start(&|spec| spec.namespaces.network = Namespace::Host);
    start(&|spec| spec.life = Life::Beyond);
    start(&|spec| {
        let content = FileContent(b"a secret".to_vec());
        spec.mounts =
            vec![Mount::File { content, target: "/run-secret".into(), mode: 0o444, uid: 0, gid: 0 }];
    });
    if level.is_root() {
        start(&|spec| {
            let quota = CpuQuota { quota_us: 100_000, period_us: 100_000 };
            let limits = CgroupSpec { pids_max: Some(50), cpu_quota: Some(quota), ..CgroupSpec::default() };
            spec.cgroup =
                Some(CgroupSpec { name: "neighbour".into(), memory_bytes: Some(1 << 26), ..limits });
        });
    }
    let (reader, writer) = std::io::pipe().unwrap();
    start(&|spec| {
        let stdout = Stream::Fd(writer.try_clone().unwrap().into());
        spec.stdio = Stdio::Streams { stdin: Stream::Null, stdout, stderr: Stream::Null };
    });
    streams.extend([reader.into(), writer.into()]);
    let mut created = Vec::new();
    for (uid, life, gate) in [
        (0, Life::WithCaller, Gate::Held),
        (1000, Life::Beyond, Gate::Held),
        (1000, Life::WithCaller, Gate::Fifo(fifo.to_owned())),
    ] {
        let mut spec = sleeper(scratch);
        (spec.process.user, spec.life) = (identity(uid), life);
        created.push(create(&spec, &gate).unwrap());
    }
    Standing { _running: running, _created: created, _streams: streams }
}

/// The subject.
pub(crate) fn stand(level: &str, folder: &str) -> ExitCode {
    let level = become_level(level);
    let scratch = Scratch::new();
    let fifo = Path::new(folder).join(format!("fifo-{}", level.name()));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let standing = stand_up(&scratch, level, &fifo);
    println!("{}", fifo.display());
    let ended = until_the_input_ends();
    while !ended.load(Ordering::Relaxed) {
        for uid in [0, 1000] {
            let mut spec = script(scratch.directory(), "true");
            (spec.stdio, spec.process.user) = (Stdio::null(), identity(uid));
            spawn(&spec).unwrap().wait().unwrap();
        }
    }
    drop(standing.running_beyond());
    ExitCode::SUCCESS
}

impl Standing {
    /// What would live on is ended.
    fn running_beyond(self) -> Standing {
        self._running.iter().for_each(Running::kill);
        self
    }
}

fn until_the_input_ends() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
    });
    ended
}

/// The attacker: `SUBJECT plain|namespace FIFO`.
pub(crate) fn attack(subject: &str, rest: &[&str]) -> ExitCode {
    let [how, fifo] = rest else { panic!("{rest:?}") };
    if *how == "namespace" {
        become_level("single-id");
    }
    let subject: i32 = subject.parse().unwrap();
    let (mut looked, mut reached) = (BTreeSet::new(), BTreeSet::new());
    let end = Instant::now() + Duration::from_millis(1500);
    let mut rounds = 0;
    while rounds < 2 || Instant::now() < end {
        for pid in family(subject) {
            looked.insert(pid);
            reached.extend(attack_process(pid, rounds == 0));
            reached.extend(attack_groups(pid));
        }
        rounds += 1;
    }
    for (write, word) in [(false, "read"), (true, "wrote")] {
        let mut options = OpenOptions::new();
        if options.read(!write).write(write).open(fifo).is_ok() {
            reached.insert(format!("{word} the FIFO"));
        }
    }
    println!("{}", looked.len());
    reached.iter().for_each(|what| println!("{what}"));
    ExitCode::SUCCESS
}

/// A process and what descends from it, threads too.
pub(crate) fn family(subject: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let parents: Vec<(i32, i32)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
        })
        .collect();
    let mut family = vec![subject];
    let mut place = 0;
    while let Some(parent) = family.get(place).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        place += 1;
    }
    family
}

/// Files of /proc that the kernel gives to those only who may look into a process (proc(5)), to be read.
const READ: [&str; 14] = [
    "mem",
    "environ",
    "maps",
    "smaps",
    "smaps_rollup",
    "numa_maps",
    "auxv",
    "stack",
    "syscall",
    "io",
    "pagemap",
    "mountstats",
    "timers",
    "personality",
];
/// Those to be written.
const WRITE: [&str; 13] = [
    "mem",
    "comm",
    "clear_refs",
    "coredump_filter",
    "oom_score_adj",
    "autogroup",
    "sched",
    "loginuid",
    "uid_map",
    "setgroups",
    "timerslack_ns",
    "attr/current",
    "make-it-fail",
];
/// Folders and links that lead into it.
const ENTER: [&str; 6] = ["root", "cwd", "fd", "fdinfo", "map_files", "fd/0"];
const NAMESPACES: [&str; 8] = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"];

/// Everything that one process may do to another; what worked.
fn attack_process(pid: i32, with_programs: bool) -> Vec<String> {
    let own = PathBuf::from(format!("/proc/{pid}"));
    let name = fs::read_to_string(own.join("comm")).unwrap_or_default();
    let mut reached = Vec::new();
    let mut try_one = |what: &str, works: bool| {
        if works {
            reached.push(format!("{} {what}", name.trim()));
        }
    };
    for file in READ {
        // at the very first of its addresses there is no memory, and the kernel has said yes by then
        let works = fs::File::open(own.join(file))
            .is_ok_and(|mut open| file == "mem" || matches!(open.read(&mut [0; 64]), Ok(1..)));
        try_one(&format!("read {file}"), works);
    }
    for file in WRITE {
        let open = OpenOptions::new().write(true).open(own.join(file));
        let works = open.is_ok_and(|mut open| file == "mem" || open.write(b"0").is_ok());
        try_one(&format!("wrote {file}"), works);
    }
    for place in ENTER {
        let works = fs::read_dir(own.join(place)).is_ok() || fs::read_link(own.join(place)).is_ok();
        try_one(&format!("entered {place}"), works);
    }
    for namespace in NAMESPACES {
        let path = own.join("ns").join(namespace);
        try_one(
            &format!("took namespace {namespace}"),
            fs::File::open(&path).is_ok() || path.read_link().is_ok(),
        );
    }
    let Some(pid) = Pid::from_raw(pid) else { return reached };
    try_one("signalled", rustix::process::kill_process(pid, Signal::WINCH).is_ok());
    try_one("signal 0", rustix::process::test_kill_process(pid).is_ok());
    try_one("signalled its group", rustix::process::kill_process_group(pid, Signal::WINCH).is_ok());
    try_one("priority", rustix::process::setpriority_process(Some(pid), 19).is_ok());
    let limit = Rlimit { current: Some(500), maximum: Some(500) };
    try_one("limits", rustix::process::prlimit(Some(pid), Resource::Nofile, limit).is_ok());
    let mut processors = rustix::thread::CpuSet::new();
    processors.set(0);
    try_one("affinity", rustix::thread::sched_setaffinity(Some(pid), &processors).is_ok());
    if let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        try_one("signalled by pidfd", rustix::process::pidfd_send_signal(&pidfd, Signal::WINCH).is_ok());
        for number in 0..24 {
            let got = rustix::process::pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty());
            try_one("took a descriptor", got.is_ok());
        }
        use rustix::thread::ThreadNameSpaceType as Kind;
        for kind in
            [Kind::MOUNT, Kind::NETWORK, Kind::USER, Kind::CONTROL_GROUP, Kind::INTER_PROCESS_COMMUNICATION]
        {
            let entered = rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), kind);
            try_one("entered a namespace by pidfd", entered.is_ok());
        }
    }
    if with_programs && Path::new("/usr/bin/python3").exists() {
        try_one("traced", trace(pid));
    }
    reached
}

/// ptrace(2) and process_vm_readv(2), for which the house has no safe call.
fn trace(pid: Pid) -> bool {
    let text = "import ctypes, sys
c, pid = ctypes.CDLL(None), int(sys.argv[1])
class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(8)
mine, theirs = V(ctypes.addressof(buffer), 8), V(0x400000, 8)
seized = c.ptrace(0x4206, pid, 0, 0)
read = c.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)
sys.exit(9 if seized == 0 or read > 0 else 0)";
    let pid = pid.as_raw_nonzero().to_string();
    let ended = Command::new("/usr/bin/python3").args(["-c", text, &pid]).stderr(Pipe::null()).status();
    ended.is_ok_and(|status| status.code() == Some(9))
}

/// The control groups of a process, whose paths everybody may read: their files, their locks, their folder.
fn attack_groups(pid: i32) -> Vec<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let tops: Vec<&str> = mounts
        .lines()
        .filter(|line| line.starts_with("cgroup"))
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    let ours = groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter(|path| path.contains("/slipway/"));
    let mut reached = Vec::new();
    for (top, path) in ours.flat_map(|path| tops.iter().map(move |top| (top, path))) {
        let folder = PathBuf::from(format!("{top}{path}"));
        let parent = folder.parent().unwrap();
        let open = |path: &Path| {
            fs::File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_ok())
        };
        if open(&folder) || open(parent) || fs::read_dir(parent).is_ok() {
            reached.push(format!("held {}", folder.display()));
        }
        for file in
            ["cgroup.procs", "tasks", "cgroup.kill", "memory.limit_in_bytes", "pids.max", "cgroup.freeze"]
        {
            if OpenOptions::new().write(true).open(folder.join(file)).is_ok() {
                reached.push(format!("wrote {file}"));
            }
        }
        if fs::create_dir(parent.join("planted")).is_ok() {
            reached.push("made a group".to_owned());
        }
    }
    reached
}

/// A process that waits at its gate has its user already, and a copy of what slipway had in memory.
fn what_waits_at_a_gate_is_closed_to_its_own_user() {
    let scratch = Scratch::new();
    let mut spec = sleeper(&scratch);
    spec.process.user = identity(ATTACKER);
    let mut created = create(&spec, &Gate::Held).unwrap();
    let pid = created.running().pid().unwrap().as_raw_nonzero().to_string();
    let fifo = scratch.path("none");
    let mut attacker = as_user(&std::env::current_exe().unwrap(), Some((ATTACKER, ATTACKER)));
    attacker.args(["inner", "attack", &pid, "plain"]).arg(&fifo);
    let output = attacker.output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{seen}{}", String::from_utf8_lossy(&output.stderr));
    // what a user may do to a process of its own however closed that is: signals, and less of the machine
    let allowed = ["signal", "priority", "limits", "affinity"];
    let reached: Vec<&str> =
        seen.lines().skip(1).filter(|line| !allowed.iter().any(|word| line.contains(word))).collect();
    assert!(reached.is_empty(), "{reached:?}");
    // and the eyes of these tests: they see once it is a program of that user's
    let running = created.start().unwrap();
    let output = attacker.output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    for what in
        ["read mem", "read environ", "entered root", "took a descriptor", "took namespace mnt", "traced"]
    {
        assert!(
            seen.contains(what) || what == "traced" && !Path::new("/usr/bin/python3").exists(),
            "{what}: {seen}"
        );
    }
    drop(running);
}
