//! What a command sees: its mounts, devices, limits, identity, streams.

use std::fs;
use std::io::{Read, Write};

use slipway_runtime::identity::Identity;
use slipway_runtime::seccomp::Profile;
use slipway_runtime::{
    BindSource, CapabilitySet, CgroupSpec, CpuQuota, Device, Error, Exit, Mount, Namespace, Rlimit, Seccomp,
    Security, Stdio, Stream, SwapLimit, spawn,
};

use crate::Case;
use crate::support::{Level, Scratch, level, output, script, spec, succeed};

pub(crate) const CASES: &[Case] = cases! {
    the_standard_mounts_are_there;
    masked_paths_are_empty_and_read_only_ones_cannot_be_written;
    the_identity_is_the_specifications;
    mounts_follow_the_order_and_stay_inside;
    a_read_only_root_stays_so;
    device_nodes_of_the_containers_own_making_do_not_open;
    a_terminal_is_controlling_and_handed_back;
    namespaces_are_new_the_callers_or_joined;
    shared_memory_is_of_whose_ipc_it_is;
    limits_hold_and_their_groups_go;
    the_filter_answers_as_dockers;
    long_filters_are_divided_or_refused_by_name;
};

fn the_standard_mounts_are_there() {
    let scratch = Scratch::new();
    let text = "for n in null zero full random urandom tty; do test -c /dev/$n || echo no $n; done
        stat -c '%n %F %t %T' /dev/null; cat /proc/mounts; readlink /dev/fd; readlink /dev/ptmx; echo pid $$;
        echo x > /dev/null; head -c 3 /dev/zero | wc -c; touch /dev/shm/ok /dev/new; ls /proc/self/fd | wc -w
        ip -o link | wc -l; ip -o addr show lo; stat -c %a /dev/shm /dev/pts/ptmx";
    let seen = succeed(script(scratch.overlay("a"), text));
    for part in [
        "/dev/null character special file 1 3",
        "overlay / overlay rw,nodev",
        "proc /proc proc rw,nosuid,nodev,noexec",
        "sysfs /sys sysfs ro,nosuid,nodev,noexec",
        "tmpfs /dev tmpfs rw,nosuid,nodev",
        "devpts /dev/pts devpts rw,nosuid,noexec",
        "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec",
        "mqueue /dev/mqueue mqueue",
        "/proc/sys proc ro",
        "tmpfs /sys/firmware tmpfs ro",
        "/proc/self/fd\npts/ptmx\npid 1\n3\n",
        "127.0.0.1",
        "1777\n666",
    ] {
        assert!(seen.contains(part), "`{part}` in\n{seen}");
    }
    assert!(!seen.contains("no "), "{seen}");
}

fn masked_paths_are_empty_and_read_only_ones_cannot_be_written() {
    let scratch = Scratch::new();
    let text = "wc -c < /proc/keys; ls /sys/firmware | wc -l; (echo 1 > /proc/sys/kernel/domainname) 2>&1;
        (echo 1 > /proc/irq/default_smp_affinity) 2>&1; (touch /sys/x) 2>&1; (mount -o remount,rw /proc/sys) 2>&1; true";
    let seen = succeed(script(scratch.directory(), text));
    assert!(seen.starts_with("0\n0\n"), "{seen}");
    // where the host's root owns them, the owner is asked before the mount
    let refused = |word: &str| seen.matches(word).count();
    assert_eq!(refused("Read-only file system") + refused(": Permission denied"), 3, "{seen}");
    assert!(!level().is_root() || refused("Read-only file system") == 3, "{seen}");
    assert!(seen.contains("mount: ") || seen.contains("denied") || seen.contains("not permitted"), "{seen}");

    let same = if level().is_root() { "echo same > /proc/sys/kernel/domainname" } else { "true" };
    let mut open = script(scratch.directory(), &format!("wc -l < /proc/keys; {same}"));
    (open.security, open.seccomp) = (Security::insecure(), Seccomp::Unconfined);
    open.process.capabilities = CapabilitySet::ALL;
    succeed(open);
}

fn the_identity_is_the_specifications() {
    let scratch = Scratch::new();
    let mut spec = script(
        scratch.directory(),
        "id; grep -E '^(Cap|Groups|NoNew|Seccomp:|Umask|Sig(Blk|Ign))' /proc/self/status; pwd; env; ulimit -n",
    );
    spec.process.user = Identity { uid: 1234, gid: 55, groups: vec![7, 8] };
    spec.process.env = vec!["A=b".into(), "PATH=/bin".into()];
    spec.process.cwd = "/tmp".into();
    spec.process.umask = 0o027;
    spec.process.no_new_privileges = true;
    spec.process.rlimits = vec![Rlimit { resource: 7, soft: Some(123), hard: Some(200) }];
    let seen = succeed(spec);
    for part in [
        if level() == Level::SingleId { "uid=1234 gid=55" } else { "uid=1234 gid=55 groups=7,8" },
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapInh:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Umask:\t0027",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "/tmp\n",
        "A=b\n",
        "\n123\n",
    ] {
        assert!(seen.contains(part), "`{part}` in\n{seen}");
    }
    assert!(!seen.contains("CARGO"), "{seen}");
    let root = succeed(script(scratch.directory(), "grep Cap /proc/self/status"));
    assert_eq!(root.matches("00000000a80425fb").count(), 3, "{root}");
}

fn mounts_follow_the_order_and_stay_inside() {
    let scratch = Scratch::new();
    let shared = scratch.path("shared");
    fs::create_dir_all(shared.join("sub")).unwrap();
    fs::write(shared.join("file"), "data").unwrap();
    let bind = |source: &std::path::Path, target: &str, readonly| Mount::Bind {
        source: BindSource::Path(source.to_owned()),
        target: target.into(),
        readonly,
        recursive: true,
        create: true,
    };
    let mut spec = script(
        scratch.overlay("m"),
        "cat /data/file /etc/one; (touch /data/x) 2>&1; touch /rw/x /scratch/y; stat -c %a /scratch; cat /scratch/in/file; hostname",
    );
    spec.mounts = vec![
        bind(&shared, "/data", true),
        bind(&shared.join("file"), "/etc/one", true),
        bind(&shared.join("sub"), "/rw", false),
        Mount::Tmpfs { target: "/scratch".into(), size_bytes: Some(1 << 20), mode: 0o1770, exec: false },
        bind(&shared, "/scratch/in", true),
    ];
    spec.hostname = Some("box".into());
    let (reader, writer) = std::io::pipe().unwrap();
    spec.stdio =
        Stdio::Streams { stdin: Stream::Null, stdout: Stream::Fd(writer.into()), stderr: Stream::Null };
    let mut running = spawn(&spec).unwrap();
    drop(spec);
    let seen = std::io::read_to_string(reader).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
    assert_eq!(seen, "datadatatouch: /data/x: Read-only file system\n1770\ndatabox\n");
    assert!(shared.join("sub/x").exists());
    let made: Vec<_> = running.made().iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    assert_eq!(made, ["/data", "/etc/one", "/rw", "/scratch", "/scratch/in"]);
}

fn a_read_only_root_stays_so() {
    let scratch = Scratch::new();
    let mut spec = script(scratch.overlay("ro"), "(touch /etc/x) 2>&1; touch /dev/shm/y && echo fine");
    spec.root_readonly = true;
    assert_eq!(succeed(spec), "touch: /etc/x: Read-only file system\nfine\n");
}

fn device_nodes_of_the_containers_own_making_do_not_open() {
    let scratch = Scratch::new();
    let text = "exec 2>&1; mknod /tmp/n c 1 3 && cat /tmp/n; mknod /dev/n c 1 3 && cat /dev/n; true";
    let seen = succeed(script(scratch.overlay("n"), text));
    let refusal = if level().is_root() { "Permission denied" } else { "Operation not permitted" };
    assert_eq!(seen.matches(refusal).count(), 2, "{seen}");
    let mut given = script(scratch.overlay("g"), "stat -c %F /dev/mine; head -c 1 /dev/mine | wc -c");
    given.devices = vec![Device { source: "/dev/zero".into(), target: "/dev/mine".into() }];
    assert_eq!(succeed(given), "character special file\n1\n");
}

fn a_terminal_is_controlling_and_handed_back() {
    let scratch = Scratch::new();
    let mut spec = script(
        scratch.directory(),
        "tty; test -c /dev/console && echo console; stty size; echo hi > /dev/tty; read line; echo got $line; \
         stat -c %u $(tty); sleep 0.01",
    );
    spec.stdio = Stdio::Terminal { size: Some((33, 77)) };
    spec.process.user = Identity { uid: 1000, gid: 1000, groups: vec![] };
    let mut running = spawn(&spec).unwrap();
    let mut master = fs::File::from(running.terminal().unwrap());
    assert!(running.terminal().is_none());
    master.write_all(b"line\n").unwrap();
    let (mut seen, mut buffer) = (String::new(), [0; 256]);
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert_eq!(running.wait().unwrap(), Exit::Code(0), "{seen}");
    for part in ["/dev/pts/0", "console", "33 77", "hi", "got line", "1000"] {
        assert!(seen.contains(part), "`{part}` in\n{seen}");
    }
}

/// Whose namespaces a sandbox has, kind by kind: its own, the caller's, those of another process.
fn namespaces_are_new_the_callers_or_joined() {
    let scratch = Scratch::new();
    // whose namespaces are joined
    let mut other = script(scratch.directory(), "sleep 1000");
    other.hostname = Some("other".into());
    other.stdio = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
    let other = spawn(&other).unwrap();
    let others = format!("/proc/{}/ns", other.pid().unwrap().as_raw_nonzero());
    let link = |folder: &str, name: &str| fs::read_link(format!("{folder}/{name}")).unwrap();
    for name in ["net", "ipc", "uts", "cgroup"] {
        let seen = |namespace: Namespace| {
            let mut spec = script(scratch.directory(), &format!("readlink /proc/self/ns/{name}; hostname"));
            *match name {
                "net" => &mut spec.namespaces.network,
                "ipc" => &mut spec.namespaces.ipc,
                "uts" => &mut spec.namespaces.uts,
                _ => &mut spec.namespaces.cgroup,
            } = namespace;
            let text = succeed(spec);
            let (link, hostname) = text.trim().split_once('\n').unwrap();
            (std::path::PathBuf::from(link), hostname.to_owned())
        };
        let (hosts, joined) = (link("/proc/self/ns", name), link(&others, name));
        let (own, _) = seen(Namespace::New);
        assert!(own != hosts && own != joined, "{name}: {own:?}");
        assert_eq!(seen(Namespace::Host).0, hosts);
        let file = fs::File::open(format!("{others}/{name}")).unwrap();
        let (found, hostname) = seen(Namespace::Join(file.into()));
        assert_eq!(found, joined);
        assert_eq!(hostname == "other", name == "uts", "{name}: {hostname}");
    }
    // what is no namespace, or one of another kind
    for path in [format!("{others}/uts"), "/dev/null".to_owned()] {
        let mut spec = script(scratch.directory(), "true");
        spec.namespaces.network = Namespace::Join(fs::File::open(path).unwrap().into());
        let error = spawn(&spec).unwrap_err();
        assert!(matches!(error, Error::Join { namespace: "network", .. }), "{error}");
    }
    // a name is never set in somebody else's namespace
    for uts in [Namespace::Host, Namespace::Join(fs::File::open(format!("{others}/uts")).unwrap().into())] {
        let mut spec = script(scratch.directory(), "true");
        (spec.hostname, spec.namespaces.uts) = (Some("taken".into()), uts);
        assert!(matches!(spawn(&spec), Err(Error::Invalid { .. })));
    }
}

/// The caller's shared memory goes with its IPC namespace, and only with it.
fn shared_memory_is_of_whose_ipc_it_is() {
    let scratch = Scratch::new();
    let name = format!("slipway-test-{}", std::process::id());
    let file = std::path::Path::new("/dev/shm").join(&name);
    fs::write(&file, "ours").unwrap();
    let text = format!(
        "cat /dev/shm/{name} 2>/dev/null; ls -d /dev/mqueue; echo theirs 2>/dev/null > /dev/shm/{name}"
    );
    let seen = |ipc: Namespace| {
        let mut spec = script(scratch.directory(), &text);
        spec.namespaces.ipc = ipc;
        succeed(spec)
    };
    assert_eq!(seen(Namespace::New), "/dev/mqueue\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "ours");
    assert_eq!(seen(Namespace::Host), "ours/dev/mqueue\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "theirs\n");
    fs::remove_file(&file).unwrap();
}

fn limits_hold_and_their_groups_go() {
    let scratch = Scratch::new();
    if !level().is_root() {
        return limits_are_refused(&scratch);
    }
    let mut spec = script(
        scratch.directory(),
        "cat /proc/self/cgroup; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done 2>&1; wait",
    );
    spec.cgroup = Some(CgroupSpec {
        name: "limits-test".into(),
        memory_bytes: Some(24 << 20),
        swap: SwapLimit::AsMemory,
        pids_max: Some(6),
        cpu_quota: Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }),
        cpuset_cpus: Some("0".into()),
    });
    let (exit, seen) = output(spec).unwrap();
    assert!(seen.contains("can't fork") || seen.contains("Resource temporarily"), "{exit:?} {seen}");
    assert_ne!(exit, Exit::Code(0), "{seen}");
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-name", "*limits-test*"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    let mut hungry = script(scratch.directory(), "dd if=/dev/zero of=/dev/shm/x bs=1M count=50");
    hungry.cgroup = Some(CgroupSpec {
        name: "memory-test".into(),
        memory_bytes: Some(16 << 20),
        ..CgroupSpec::default()
    });
    let (exit, seen) = output(hungry).unwrap();
    assert_eq!(exit, Exit::Signal(9), "{seen}");
    let mut refused = script(scratch.directory(), "true");
    refused.cgroup = Some(CgroupSpec { name: "../../x".into(), ..CgroupSpec::default() });
    assert!(matches!(spawn(&refused), Err(Error::Invalid { .. })));
}

/// One that is longer than the kernel's longest program, and one that is longer than all that a process may have.
fn long_filters_are_divided_or_refused_by_name() {
    let scratch = Scratch::new();
    let rules = |name: &str, argument: u32, count: u32| {
        let rule = |value: u32| {
            let argument = format!(r#"{{"index":{argument},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
            format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":99,"args":[{argument}]}}"#)
        };
        (0..count).map(rule).collect::<Vec<_>>().join(",")
    };
    let profile = |count: u32| {
        let calls = [("chmod", 1), ("fchmodat", 2), ("socket", 2), ("openat", 3), ("ioctl", 1), ("write", 2)];
        let all = calls.map(|(name, argument)| match name {
            // what would stop the shell is longer and never holds
            "chmod" | "fchmodat" => rules(name, argument, count),
            name => rules(name, argument, count).replace(r#""value":"#, r#""value":77000000"#),
        });
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#, all.join(","));
        Seccomp::Profile(Profile::parse("mine.json", json.as_bytes()).unwrap().into())
    };
    // 0604 is 388
    let text =
        "touch /tmp/x; chmod 0604 /tmp/x 2>&1; chmod 0700 /tmp/x && chown 33:44 /tmp/x && stat -c %a /tmp/x";
    let mut spec = script(scratch.overlay("o"), text);
    spec.seccomp = profile(400);
    assert_eq!(succeed(spec), "chmod: /tmp/x: Cannot assign requested address\n700\n");
    let mut spec = script(scratch.overlay("p"), "true");
    spec.seccomp = profile(1500);
    let error = spawn(&spec).unwrap_err();
    let Error::Profile { name, .. } = &error else { panic!("{error:?}") };
    assert!(name == "mine.json" && error.to_string().contains("`mine.json` is too long"), "{error}");
}

/// A user to whom no control group is delegated has no limits, and hears what to do.
fn limits_are_refused(scratch: &Scratch) {
    let limits = [
        CgroupSpec { memory_bytes: Some(1 << 24), ..CgroupSpec::default() },
        CgroupSpec { pids_max: Some(6), ..CgroupSpec::default() },
        CgroupSpec { cpuset_cpus: Some("0".into()), ..CgroupSpec::default() },
        CgroupSpec {
            cpu_quota: Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }),
            ..CgroupSpec::default()
        },
    ];
    for limit in limits {
        let mut spec = script(scratch.directory(), "true");
        spec.cgroup = Some(CgroupSpec { name: "limits-test".into(), ..limit });
        let error = spawn(&spec).unwrap_err();
        let Error::Limit { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.contains("as root") && reason.contains("without the limit"), "{error}");
    }
}

fn the_filter_answers_as_dockers() {
    let scratch = Scratch::new();
    let mut spec = spec(scratch.directory(), &["/bin/mount", "-t", "tmpfs", "x", "/tmp"]);
    spec.process.capabilities = CapabilitySet::DOCKER;
    let (exit, seen) = output(spec).unwrap();
    assert!(exit != Exit::Code(0) && seen.contains("ermi"), "{exit:?} {seen}");
}
