//! Sandboxes that wait before their command, and those that live beyond their caller.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio as Pipe};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};
use slipway_runtime::identity::Identity;
use slipway_runtime::{
    BindSource, CgroupSpec, Created, Error, Exit, Gate, Handle, Life, Mount, ProcessId, Rlimit, Running,
    SandboxSpec, Stdio, Stream, create, open_gate, spawn, sweep,
};

use crate::Case;
use crate::runner::become_level;
use crate::support::{Level, Scratch, level, script, spec};

pub(crate) const CASES: &[Case] = cases! {
    all_is_there_and_nothing_has_run;
    a_gate_that_is_dropped_leaves_nothing;
    signals_end_what_waits;
    what_cannot_be_started_is_told_before_the_gate;
    streams_terminals_and_owners_work_behind_a_gate;
    no_gate_outlives_the_caller_that_holds_it;
    a_gate_in_the_file_system_opens_to_another_process;
    nothing_of_a_gate_is_open_behind_it;
    limits_of_the_program_do_not_stop_what_waits;
    a_sandbox_lives_beyond_its_caller;
    a_caller_that_stays_learns_the_end;
    a_group_of_limits_goes_with_the_sandbox_and_not_with_its_caller,
        not at SubordinateIds: "no control group is delegated to the tests' users",
        not at SingleId: "no control group is delegated to the tests' users";
};

fn create_held(spec: &SandboxSpec) -> Created {
    create(spec, &Gate::Held).unwrap()
}

fn pid(running: &Running) -> i32 {
    running.pid().unwrap().as_raw_nonzero().get()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Processes of this one that have not been reaped, guards among them.
fn children() -> usize {
    let own = std::process::id().to_string();
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(&own))
        .count()
}

fn groups(name: &str) -> usize {
    let found =
        Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("*{name}*")]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().count()
}

fn all_is_there_and_nothing_has_run() {
    for life in [Life::WithCaller, Life::Beyond] {
        let scratch = Scratch::new();
        let shared = scratch.path("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("file"), "data").unwrap();
        let mut spec =
            script(scratch.overlay("o"), "touch /tmp/ran; cat /bound/file /proc/self/comm; exit 5");
        spec.mounts = vec![Mount::Bind {
            source: BindSource::Path(shared),
            target: "/bound".into(),
            readonly: true,
            recursive: true,
            create: true,
        }];
        (spec.hostname, spec.life) = (Some("gated".into()), life);
        spec.process.cwd = "/tmp".into();
        if level() != Level::SingleId {
            spec.process.user = Identity { uid: 0, gid: 12, groups: vec![34] };
        }
        let name = format!("gate-{}-{life:?}", std::process::id());
        if level().is_root() {
            let cgroup = CgroupSpec { name: name.clone(), pids_max: Some(40), ..CgroupSpec::default() };
            spec.cgroup = Some(cgroup);
        }
        let (reader, writer) = std::io::pipe().unwrap();
        let stdout = Stream::Fd(writer.into());
        spec.stdio = Stdio::Streams { stdin: Stream::Null, stdout, stderr: Stream::Null };
        let mut created = create_held(&spec);
        drop(spec);
        let own = format!("/proc/{}", pid(created.running()));
        let read = |file: &str| fs::read_to_string(format!("{own}/{file}")).unwrap();
        // a user is kept from looking into what it may not dump, as from its own slipway's memory
        if level().is_root() {
            for namespace in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
                let link = |process: &str| fs::read_link(format!("{process}/ns/{namespace}")).unwrap();
                assert_ne!(link(&own), link("/proc/self"), "{namespace}");
            }
            assert_eq!(fs::read_to_string(format!("{own}/root/bound/file")).unwrap(), "data");
            assert_eq!(fs::read_link(format!("{own}/cwd")).unwrap(), Path::new("/tmp"));
        }
        let mounts = read("mounts");
        for place in [" / overlay", " /proc proc rw", " /dev tmpfs", " /bound "] {
            assert!(mounts.contains(place), "`{place}` in {mounts}");
        }
        if level() != Level::SingleId {
            let status = read("status");
            assert!(status.contains("Gid:\t12\t12") && status.contains("Groups:\t34"), "{status}");
        }
        if level().is_root() {
            assert!(read("cgroup").contains(&name), "{}", read("cgroup"));
        }
        // the file of this program, and what it was called with
        assert!(read("cmdline").contains("case"), "{}", read("cmdline"));
        assert!(!scratch.path("o-upper/tmp/ran").exists());
        assert_eq!(created.running().made(), [] as [&Path; 0], "told when it has begun");
        let mut running = created.start().unwrap();
        assert_eq!(running.made(), [Path::new("/bound")]);
        assert_eq!(running.wait().unwrap(), Exit::Code(5));
        assert_eq!(std::io::read_to_string(reader).unwrap(), "datacat\n");
        assert!(scratch.path("o-upper/tmp/ran").exists());
        assert!(!level().is_root() || groups(&name) == 0);
    }
}

fn a_gate_that_is_dropped_leaves_nothing() {
    let before = children();
    for (life, round) in [(Life::WithCaller, 0), (Life::Beyond, 1)] {
        let scratch = Scratch::new();
        let mut spec = script(scratch.overlay("o"), "touch /tmp/ran");
        (spec.life, spec.stdio) = (life, Stdio::null());
        let name = format!("dropped-{}-{round}", std::process::id());
        if level().is_root() {
            spec.cgroup = Some(CgroupSpec { name: name.clone(), pids_max: Some(9), ..CgroupSpec::default() });
        }
        let mut created = create_held(&spec);
        let identity = created.running().identity().unwrap();
        assert!(Handle::find(identity).unwrap().is_some());
        drop(created);
        assert!(Handle::find(identity).unwrap().is_none());
        assert!(!Path::new(&format!("/proc/{}", identity.pid)).exists(), "it was not reaped");
        assert!(!scratch.path("o-upper/tmp/ran").exists());
        assert_eq!(children(), before);
        assert!(!level().is_root() || groups(&name) == 0);
    }
}

fn signals_end_what_waits() {
    let scratch = Scratch::new();
    for life in [Life::WithCaller, Life::Beyond] {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE, 34, 64] {
            let mut spec = script(scratch.directory(), "true");
            spec.life = life;
            let mut created = create_held(&spec);
            created.running().signal(signal).unwrap();
            assert_eq!(created.running().wait().unwrap(), Exit::Code(128 + signal));
            // and is not started by anybody
            assert!(matches!(created.start(), Err(Error::Process { what: "start", .. })));
        }
        let mut spec = script(scratch.directory(), "exit 6");
        spec.life = life;
        let mut created = create_held(&spec);
        for signal in
            [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, libc::SIGTSTP, libc::SIGTTIN]
        {
            created.running().signal(signal).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(created.start().unwrap().wait().unwrap(), Exit::Code(6));
        let mut spec = script(scratch.directory(), "true");
        spec.life = life;
        let mut created = create_held(&spec);
        created.running().kill();
        assert_eq!(created.running().wait().unwrap(), Exit::Signal(9));
    }
}

fn what_cannot_be_started_is_told_before_the_gate() {
    let scratch = Scratch::new();
    let before = children();
    let start = |args: &[&str], cwd: &str| {
        let mut spec = spec(scratch.directory(), args);
        spec.process.cwd = cwd.into();
        create(&spec, &Gate::Held).err().expect("no sandbox")
    };
    assert!(matches!(start(&["nope"], "/"), Error::CommandNotFound { .. }));
    assert!(matches!(start(&["/bin/nope"], "/"), Error::CommandNotFound { .. }));
    assert!(matches!(start(&["/etc/not-executable"], "/"), Error::NotExecutable { .. }));
    assert!(matches!(start(&["true"], "/missing"), Error::Cwd { .. }));
    assert!(matches!(start(&["true"], "/etc/not-executable"), Error::Cwd { .. }));
    // what only shows when it is executed is told by `start`
    fs::copy("/bin/busybox", scratch.path("root/bin/cut")).unwrap();
    fs::write(scratch.path("root/bin/cut"), "\x7fELF").unwrap();
    let created = create_held(&spec(scratch.directory(), &["/bin/cut"]));
    assert!(matches!(created.start(), Err(Error::NotExecutable { .. })));
    assert_eq!(children(), before);
    for (gate, code) in [("missing", libc::ENOENT), ("file", libc::EINVAL), ("link", libc::ELOOP)] {
        let path = scratch.path(gate);
        match gate {
            "file" => fs::write(&path, "").unwrap(),
            "link" => std::os::unix::fs::symlink(scratch.path("file"), &path).unwrap(),
            _ => {}
        }
        let error = create(&script(scratch.directory(), "true"), &Gate::Fifo(path.clone())).err();
        for error in [error, open_gate(&path).err()] {
            let Some(Error::Gate { source, .. }) = error else { panic!("{gate}: {error:?}") };
            assert_eq!(source.raw_os_error(), Some(code), "{gate}");
        }
    }
}

fn streams_terminals_and_owners_work_behind_a_gate() {
    let scratch = Scratch::new();
    let mut spec = script(scratch.directory(), "tty; read line; echo got $line");
    spec.stdio = Stdio::Terminal { size: None };
    let mut created = create_held(&spec);
    let mut master = fs::File::from(created.running().terminal().unwrap());
    master.write_all(b"early\n").unwrap();
    let mut running = created.start().unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 256]);
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
    assert!(seen.contains("/dev/pts/0") && seen.contains("got early"), "{seen}");

    let (reader, writer) = std::io::pipe().unwrap();
    let text = "touch /tmp/x && chown 33:44 /tmp/x && echo done; chown 0:0 /dev/stdout && echo own";
    let mut spec = script(scratch.overlay("o"), text);
    spec.stdio =
        Stdio::Streams { stdin: Stream::Null, stdout: Stream::Fd(writer.into()), stderr: Stream::Null };
    spec.process.init = true;
    let created = create_held(&spec);
    drop(spec);
    let mut running = created.start().unwrap();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "done\nown\n");
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
}

/// The program's limits are not those of what comes before it.
fn limits_of_the_program_do_not_stop_what_waits() {
    let scratch = Scratch::new();
    // where one id is mapped the filter's listener needs a descriptor
    let files = if level() == Level::SingleId { 12 } else { 0 };
    for (resource, limit) in [(7, files), (7, files + 3), (6, 1), (1, 0), (5, 0)] {
        let mut spec = spec(scratch.directory(), &["/bin/true"]);
        spec.process.rlimits = vec![Rlimit { resource, soft: Some(limit), hard: Some(limit) }];
        let direct = spawn(&spec).unwrap().wait().unwrap();
        let mut created = create_held(&spec);
        created.running().signal(libc::SIGWINCH).unwrap();
        assert_eq!(created.start().unwrap().wait().unwrap(), direct, "{resource} {limit}");
    }
}

/// A caller of its own, which begins a sandbox and waits to be killed.
struct Caller {
    process: Child,
    identity: ProcessId,
}

impl Caller {
    /// `mode` is `held`, `fifo` or `runs`; orphans come to this process.
    fn start(mode: &str, life: &str, scratch: &Scratch, command: &str, more: &str) -> Caller {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let mut caller = Command::new(std::env::current_exe().unwrap());
        caller
            .args(["inner", "live", mode, life, level().name()])
            .arg(scratch.folder.path())
            .args([command, more]);
        let mut process = caller.stdin(Pipe::null()).stdout(Pipe::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (pid, start_time) = line.trim().split_once(' ').expect("the caller made a sandbox");
        let identity = ProcessId { pid: pid.parse().unwrap(), start_time: start_time.parse().unwrap() };
        Caller { process, identity }
    }

    fn kill(mut self) -> ProcessId {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.identity
    }
}

/// Takes in what a killed caller left.
fn reap(process: ProcessId) {
    // it is nobody's else, or the kernel ended it within its namespace
    let _ = rustix::process::waitpid(Pid::from_raw(process.pid), WaitOptions::empty());
}

/// The caller: `MODE LIFE LEVEL FOLDER COMMAND MORE`.
pub(crate) fn live(rest: &[&str]) -> ExitCode {
    let [mode, life, level, folder, command, more] = rest else { panic!("{rest:?}") };
    become_level(level);
    let folder = Path::new(folder);
    let mut spec = script(slipway_runtime::RootFs::Directory(folder.join("root")), command);
    spec.stdio = Stdio::null();
    spec.life = if *life == "beyond" { Life::Beyond } else { Life::WithCaller };
    if !more.is_empty() {
        spec.cgroup =
            Some(CgroupSpec { name: (*more).to_owned(), pids_max: Some(20), ..CgroupSpec::default() });
    }
    let gate = if *mode == "fifo" { Gate::Fifo(folder.join("fifo")) } else { Gate::Held };
    let (mut created, mut running) = (None, None);
    let identity = match *mode {
        "runs" => running.insert(spawn(&spec).unwrap()).identity(),
        _ => created.insert(create(&spec, &gate).unwrap()).running().identity(),
    }
    .unwrap();
    println!("{} {}", identity.pid, identity.start_time);
    if *more == "leave" {
        return ExitCode::SUCCESS;
    }
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

fn ends(identity: ProcessId) -> bool {
    Handle::find(identity).unwrap().is_none()
}

fn no_gate_outlives_the_caller_that_holds_it() {
    for (mode, life) in [("held", "with"), ("held", "beyond"), ("fifo", "with")] {
        let scratch = Scratch::new();
        fifo(&scratch);
        let caller = Caller::start(mode, life, &scratch, "touch /ran", "");
        let identity = caller.identity;
        std::thread::sleep(Duration::from_millis(20));
        assert!(!ends(identity), "{mode} {life}: it waits");
        caller.kill();
        wait_until("it lives on", || ends(identity));
        reap(identity);
        assert!(!scratch.path("root/ran").exists());
        assert!(open_gate(&scratch.path("fifo")).is_err());
    }
}

fn fifo(scratch: &Scratch) {
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, scratch.path("fifo"), kind, 0o600.into(), 0).unwrap();
}

fn a_gate_in_the_file_system_opens_to_another_process() {
    let scratch = Scratch::new();
    fifo(&scratch);
    // as `create` and `start` of the runtime specification are two commands
    let identity = Caller::start("fifo", "beyond", &scratch, "echo ran > /ran; sleep 1000", "").kill();
    std::thread::sleep(Duration::from_millis(30));
    assert!(!ends(identity) && !scratch.path("root/ran").exists());
    open_gate(&scratch.path("fifo")).unwrap();
    wait_until("it did not begin", || scratch.path("root/ran").exists());
    let Err(Error::Gate { source, .. }) = open_gate(&scratch.path("fifo")) else { panic!("opened twice") };
    assert_eq!(source.raw_os_error(), Some(libc::ENXIO));
    Handle::find(identity).unwrap().unwrap().signal(libc::SIGKILL).unwrap();
    wait_until("it was not killed", || ends(identity));
    reap(identity);

    // and to the caller itself
    let mut created =
        create(&script(scratch.directory(), "exit 4"), &Gate::Fifo(scratch.path("fifo"))).unwrap();
    assert!(created.running().pid().is_some());
    assert_eq!(created.start().unwrap().wait().unwrap(), Exit::Code(4));
    // a caller that stays follows, and is there for the container: owners are kept where one id is mapped
    let text = "touch /tmp/x && chown 33:44 /tmp/x && exit 7";
    let created = create(&script(scratch.overlay("o"), text), &Gate::Fifo(scratch.path("fifo"))).unwrap();
    let fifo = scratch.path("fifo");
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        open_gate(&fifo).unwrap();
    });
    assert_eq!(created.follow().unwrap().wait().unwrap(), Exit::Code(7));
    other.join().unwrap();
    // one that is killed meanwhile is followed to its end
    let mut created =
        create(&script(scratch.directory(), "true"), &Gate::Fifo(scratch.path("fifo"))).unwrap();
    created.running().kill();
    assert!(matches!(created.follow(), Err(Error::Process { what: "start", .. })));
}

/// Neither the gate nor anything else that waited stays open in the program.
fn nothing_of_a_gate_is_open_behind_it() {
    let scratch = Scratch::new();
    fifo(&scratch);
    for (gate, init) in [(Gate::Held, false), (Gate::Held, true), (Gate::Fifo(scratch.path("fifo")), true)] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut spec = spec(scratch.directory(), &["/bin/ls", "/proc/self/fd"]);
        spec.stdio =
            Stdio::Streams { stdin: Stream::Null, stdout: Stream::Fd(writer.into()), stderr: Stream::Null };
        spec.process.init = init;
        let created = create(&spec, &gate).unwrap();
        drop(spec);
        let mut running = created.start().unwrap();
        // 0, 1, 2 and the folder that ls itself reads
        assert_eq!(std::io::read_to_string(reader).unwrap(), "0\n1\n2\n3\n", "{gate:?} {init}");
        assert_eq!(running.wait().unwrap(), Exit::Code(0));
    }
}

fn a_sandbox_lives_beyond_its_caller() {
    let scratch = Scratch::new();
    let count = "while :; do echo x >> /ticks; sleep 0.01; done";
    let identity = Caller::start("runs", "beyond", &scratch, count, "").kill();
    let ticks = || fs::metadata(scratch.path("root/ticks")).map_or(0, |found| found.len());
    let before = ticks();
    wait_until("it stopped with its caller", || ticks() > before + 6);
    let handle = Handle::find(identity).unwrap().expect("it is found again");
    assert!(handle.is_alive());
    for other in [
        ProcessId { start_time: identity.start_time + 1, ..identity },
        ProcessId { pid: -1, ..identity },
        ProcessId { pid: 0, ..identity },
    ] {
        assert!(Handle::find(other).unwrap().is_none(), "{other:?}");
    }
    handle.signal(libc::SIGKILL).unwrap();
    let mut ended = [rustix::event::PollFd::from_borrowed_fd(handle.pidfd(), rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut ended, None).unwrap();
    assert!(ends(identity), "a dead one is not found, reaped or not");
    reap(identity);

    // one that lives with its caller does not
    let identity = Caller::start("runs", "with", &scratch, count, "").kill();
    wait_until("it lives on", || ends(identity));
}

fn a_caller_that_stays_learns_the_end() {
    let scratch = Scratch::new();
    let before = children();
    let beyond = |text: &str| {
        let mut spec = script(scratch.directory(), text);
        (spec.life, spec.stdio) = (Life::Beyond, Stdio::null());
        spec
    };
    for (text, exit) in [("exit 0", Exit::Code(0)), ("exit 42", Exit::Code(42))] {
        let mut running = spawn(&beyond(text)).unwrap();
        assert_eq!(running.wait().unwrap(), exit);
        assert_eq!(create_held(&beyond(text)).start().unwrap().wait().unwrap(), exit);
    }
    let mut running = spawn(&beyond("sleep 1000")).unwrap();
    running.kill();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    let mut running = spawn(&beyond("sleep 1000")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    let reader = OwnedFd::from(reader);
    assert_eq!(running.wait_or_cancel(reader.as_fd()).unwrap(), Exit::Signal(9));
    // a failure leaves nothing
    let mut missing = beyond("true");
    missing.process.args = vec!["/no/such".into()];
    assert!(spawn(&missing).is_err());
    assert_eq!(children(), before);

    let running = spawn(&beyond("sleep 1000")).unwrap();
    let identity = running.identity().unwrap();
    drop(running);
    let handle = Handle::find(identity).unwrap().expect("dropping leaves it");
    handle.signal(libc::SIGKILL).unwrap();
    reap(identity);
    assert!(!handle.is_alive());
    assert_eq!(children(), before);
}

fn a_group_of_limits_goes_with_the_sandbox_and_not_with_its_caller() {
    let scratch = Scratch::new();
    let name = format!("beyond-{}", std::process::id());
    let identity = Caller::start("runs", "beyond", &scratch, "sleep 1000", &name).kill();
    sweep().unwrap();
    assert!(!ends(identity), "a sweep killed it");
    assert_ne!(groups(&name), 0, "a sweep took its group");
    Handle::find(identity).unwrap().unwrap().signal(libc::SIGKILL).unwrap();
    reap(identity);
    wait_until("its group stays", || {
        sweep().unwrap();
        groups(&name) == 0
    });
    // that of one that lives with its caller, with both gone at once
    let name = format!("with-{}", std::process::id());
    let identity = Caller::start("held", "with", &scratch, "sleep 1000", &name).kill();
    wait_until("it lives on", || ends(identity));
    wait_until("its group stays", || {
        sweep().unwrap();
        groups(&name) == 0
    });
}
