//! Attacks of reference/runtime.md §4 that are the engine's to stop; the numbers are that table's.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use slipway_runtime::{
    BindSource, CapabilitySet, Device, Error, Exit, Mount, RootFs, Security, Stdio, Stream, spawn,
};

use crate::Case;
use crate::support::{Scratch, level, output, script, spec, succeed};

pub(crate) const CASES: &[Case] = cases! {
    a_working_folder_cannot_be_a_leaked_descriptor;
    descriptors_do_not_leak;
    standard_places_that_are_links_are_refused;
    the_images_dev_is_of_no_consequence;
    the_hosts_device_nodes_stay_as_they_are;
    streams_are_nameless_or_refused;
    mount_destinations_stay_inside_the_root;
    swapped_mount_destinations_lead_nowhere;
    nothing_survives_the_first_process;
    two_hundred_quick_runs_all_end;
    dropping_and_cancelling_end_the_container;
    layer_names_are_no_syntax;
};

fn bind(source: &Path, target: &str) -> Mount {
    Mount::Bind {
        source: BindSource::Path(source.to_owned()),
        target: target.into(),
        readonly: false,
        recursive: true,
        create: true,
    }
}

/// 2: CVE-2024-21626, a working folder that is a leaked descriptor of the host's.
fn a_working_folder_cannot_be_a_leaked_descriptor() {
    let scratch = Scratch::new();
    let host_root = fs::File::open("/").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&host_root, 3).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    symlink(format!("/proc/self/fd/{}", leaked.as_raw_fd()), scratch.path("root/link")).unwrap();
    for fd in 3..24.max(leaked.as_raw_fd() + 1) {
        for cwd in [format!("/proc/self/fd/{fd}"), format!("/proc/self/fd/{fd}/etc"), "/link".into()] {
            let mut spec = script(scratch.directory(), "pwd");
            spec.process.cwd = cwd.clone().into();
            match output(spec) {
                Err(Error::Cwd { .. }) => {}
                other => panic!("{cwd}: {other:?}"),
            }
        }
    }
}

/// 17: what the caller has open stays out.
fn descriptors_do_not_leak() {
    let scratch = Scratch::new();
    let file = fs::File::open("/etc/passwd").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&file, 9).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    // 0, 1, 2 and the folder that ls itself reads.
    let seen = succeed(spec(scratch.directory(), &["/bin/ls", "/proc/self/fd"]));
    assert_eq!(seen, "0\n1\n2\n3\n");
}

/// 6: /proc or /sys as a link or a file. 7: /dev as one.
fn standard_places_that_are_links_are_refused() {
    for name in ["proc", "sys", "dev"] {
        for as_link in [true, false] {
            let scratch = Scratch::new();
            let place = scratch.path("root").join(name);
            fs::remove_dir(&place).unwrap();
            if as_link {
                symlink("/tmp", &place).unwrap();
            } else {
                fs::write(&place, "").unwrap();
            }
            let error = spawn(&script(scratch.directory(), "true")).unwrap_err();
            let Error::MountPoint { target, .. } = error else { panic!("{error:?}") };
            assert_eq!(target, Path::new("/").join(name));
        }
    }
}

/// 3: /dev/null of the image as a link to something of the host's; ours replaces all of /dev.
fn the_images_dev_is_of_no_consequence() {
    let scratch = Scratch::new();
    symlink("/proc/sys/kernel/core_pattern", scratch.path("root/dev/null")).unwrap();
    symlink("/etc", scratch.path("root/dev/shm")).unwrap();
    symlink("/etc", scratch.path("root/dev/pts")).unwrap();
    let seen = succeed(script(
        scratch.directory(),
        "stat -c '%F %t:%T' /dev/null; touch /dev/shm/x; ls /etc; wc -c </proc/keys",
    ));
    assert_eq!(seen, "character special file 1:3\nnot-executable\n0\n");
}

/// Issue 7, A5: what a container does to a node, by name or by descriptor, never shows on the host's.
fn the_hosts_device_nodes_stay_as_they_are() {
    let scratch = Scratch::new();
    let (mine, folder) = (scratch.path("mine"), scratch.path("folder"));
    let mut names = vec!["null", "zero", "full", "random", "urandom", "tty"];
    let mut nodes: Vec<_> = names.iter().map(|name| Path::new("/dev").join(name)).collect();
    let mut devices = vec![Device { source: "/dev/full".into(), target: "/dev/lent".into() }];
    names.push("lent");
    // only root makes nodes of its own
    if level().is_root() {
        fs::create_dir(&folder).unwrap();
        for node in [&mine, &folder.join("inner")] {
            let made =
                std::process::Command::new("mknod").arg(node).args(["-m", "640", "c", "1", "5"]).status();
            assert!(made.unwrap().success());
        }
        nodes.extend([mine.clone(), folder.join("inner")]);
        devices.push(Device { source: mine, target: "/dev/mine".into() });
        devices.push(Device { source: folder, target: "/dev/folder".into() });
        names.extend(["mine", "folder/inner"]);
    }
    let before: Vec<_> = nodes.iter().map(|node| status(node)).collect();
    let names = names.join(" ");
    let security = [Security::default(), Security::insecure()];
    for (security, capabilities) in security.into_iter().zip([CapabilitySet::DOCKER, CapabilitySet::ALL]) {
        let masks = if security.masked.is_empty() { "" } else { "/proc/kcore /proc/keys /proc/timer_list" };
        let text = format!("for n in {names}; do
            (chmod 0 /dev/$n; chown 12:34 /dev/$n; touch -d '1970-01-02 03:04' /dev/$n; rm -f /dev/$n
             mv /dev/$n /dev/moved; ln /dev/$n /dev/linked) 2>>/dev/shm/said
        done
        for word in chmod chown touch; do grep -c $word.*Read-only /dev/shm/said; done
        for n in /proc/self/fd/0 {masks}; do test ! -e $n || (chmod 0 $n; chown 12:34 $n); done 2>/dev/shm/said; grep -vc Read-only /dev/shm/said
        touch -d '1970-01-02 03:04' /proc/self/fd/0 2>/dev/null; rm -rf /dev/folder 2>/dev/null
        for n in {names}; do (echo data > /dev/$n) 2>/dev/null && printf $n,; done; echo
        head -c 5 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c
        for n in mine folder/inner; do test -e /dev/$n && head -c 2 /dev/$n | wc -c; done
        cat /dev/null; exec 7<>/dev/null && echo open");
        let mut spec = script(scratch.directory(), &text);
        spec.devices = devices.clone();
        (spec.security, spec.process.capabilities) = (security, capabilities);
        spec.process.umask = 0;
        let seen = succeed(spec);
        let expected = match level().is_root() {
            true => "9\n9\n9\n0\nnull,zero,random,urandom,mine,folder/inner,\n5\n5\n2\n2\nopen\n",
            false => "7\n7\n7\n0\nnull,zero,random,urandom,\n5\n5\nopen\n",
        };
        assert_eq!(seen, expected);
        let after: Vec<_> = nodes.iter().map(|node| status(node)).collect();
        assert_eq!(after, before);
    }
}

/// Issue 7, A7: nothing that the caller has by name becomes a stream: not its terminal, not its files, devices and FIFOs.
fn streams_are_nameless_or_refused() {
    let scratch = Scratch::new();
    let fifo = scratch.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let write = |path: &Path| fs::File::options().read(true).write(true).open(path).unwrap();
    let file = fs::File::create(scratch.path("file")).unwrap();
    let terminal =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    let folder = fs::File::open("/").unwrap();
    let all =
        [file.into(), folder.into(), terminal, write(&fifo).into(), write(Path::new("/dev/null")).into()];
    for (number, given) in all.into_iter().enumerate() {
        for place in 0..3 {
            let given = Stream::Fd(given.try_clone().unwrap());
            let mut streams = [Stream::Null, Stream::Null, Stream::Null];
            streams[place] = given;
            let [stdin, stdout, stderr] = streams;
            let mut spec = script(scratch.directory(), "true");
            spec.stdio = Stdio::Streams { stdin, stdout, stderr };
            let error = spawn(&spec).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{number} as {place}: {error:?}");
        }
    }
}

/// Mode, owner, times but that of the last access, links.
fn status(path: &Path) -> (u32, u32, u32, i64, u64) {
    use std::os::unix::fs::MetadataExt;
    let found = fs::symlink_metadata(path).unwrap();
    // data that is written moves the time of a device's content on, as it does for everybody
    let mtime = if found.mtime() < 1_000_000 { found.mtime() } else { i64::MAX };
    (found.mode(), found.uid(), found.gid(), mtime, found.nlink())
}

/// 8: mount destinations that are links, out of the root or into /proc.
fn mount_destinations_stay_inside_the_root() {
    let scratch = Scratch::new();
    let (source, outside) = (scratch.path("source"), scratch.path("outside"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(source.join("mark"), "").unwrap();
    symlink("../../../../../../../tmp", scratch.path("root/up")).unwrap();
    symlink("/proc", scratch.path("root/door")).unwrap();
    symlink("/proc/self/fd", scratch.path("root/magic")).unwrap();
    symlink(&outside, scratch.path("root/out")).unwrap();

    let mut spec = script(scratch.directory(), "ls /tmp");
    spec.mounts = vec![bind(&source, "/up")];
    assert_eq!(succeed(spec), "mark\n", "`..` stops at the container's root");

    for target in ["/proc", "/proc/sys", "/door/sys", "/door/self/attr", "/proc/../proc/irq"] {
        let mut spec = script(scratch.directory(), "true");
        spec.mounts = vec![bind(&source, target)];
        let error = spawn(&spec).unwrap_err();
        assert!(matches!(error, Error::InsideProc { .. } | Error::MountPoint { .. }), "{target}: {error:?}");
    }
    for target in ["/magic/0/x", "/out/new", "/etc/not-executable/x"] {
        let mut spec = script(scratch.directory(), "true");
        spec.mounts = vec![bind(&source, target)];
        let error = spawn(&spec).unwrap_err();
        assert!(matches!(error, Error::MountPoint { .. }), "{target}: {error:?}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// 8: a container that shares a folder swaps a component of a mount's destination for a link, while others are made.
fn swapped_mount_destinations_lead_nowhere() {
    let scratch = Scratch::new();
    let (source, outside) = (scratch.path("source"), scratch.path("outside"));
    for folder in [&source, &outside, &scratch.path("root/a"), &scratch.path("root/c")] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(source.join("mark"), "").unwrap();
    let up = "../".repeat(20) + outside.strip_prefix("/").unwrap().to_str().unwrap();
    let links = [outside.to_str().unwrap(), &up, "/proc/1", "/proc/self/cwd", "/dev"];
    for (number, target) in links.iter().enumerate() {
        symlink(target, scratch.path(&format!("root/link{number}"))).unwrap();
    }
    let root = fs::File::open(scratch.path("root")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut made, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for number in 0..links.len() {
                    let link = format!("link{number}");
                    for name in ["a", "c"] {
                        // away and back, so that the folder is itself half of the time
                        rustix::fs::renameat_with(&root, name, &root, &link, flags).unwrap();
                        rustix::fs::renameat_with(&root, name, &root, &link, flags).unwrap();
                    }
                }
            }
        });
        for round in 0..120 {
            let mut spec = script(scratch.directory(), "ls /a/deep /c/x 2>/dev/null");
            spec.process.cwd = if round % 2 == 0 { "/".into() } else { "/a".into() };
            spec.mounts =
                vec![bind(&source, "/a/deep"), bind(&source, "/c/x/y"), bind(&source, "/a/deep/er")];
            match output(spec) {
                Ok(_) => made += 1,
                Err(
                    Error::MountPoint { .. }
                    | Error::InsideProc { .. }
                    | Error::Cwd { .. }
                    | Error::Mount { .. },
                ) => {
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{made} made, {refused} refused");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(scratch.folder.path().to_str().unwrap()), "{mounts}");
    assert!(made > 0, "{refused} refused");
}

/// 18: a fork bomb's children, daemons and all, end with the first process.
fn nothing_survives_the_first_process() {
    let scratch = Scratch::new();
    let seconds = format!("43{}", std::process::id());
    let text = format!(
        "for i in 1 2 3 4 5; do setsid sleep {seconds} & done; (setsid sh -c 'setsid sleep {seconds} &' &); sleep 0.05"
    );
    let mut running = spawn(&script(scratch.directory(), &text)).unwrap();
    running.wait().unwrap();
    let alive = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(&seconds))
    });
    assert!(!alive);
}

/// 19: many short ones in a row, from several threads.
fn two_hundred_quick_runs_all_end() {
    let scratch = Scratch::new();
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap().lines().count();
    let before = mounts();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let scratch = &scratch;
            scope.spawn(move || {
                for run in 0..50 {
                    let root = if run % 2 == 0 {
                        scratch.directory()
                    } else {
                        scratch.overlay(&format!("{thread}-{run}"))
                    };
                    let mut spec = script(root, "exit 3");
                    spec.stdio =
                        Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
                    assert_eq!(spawn(&spec).unwrap().wait().unwrap(), Exit::Code(3));
                }
            });
        }
    });
    assert_eq!(mounts(), before);
}

/// A container that a test forgets is killed with its handle; a cancelled one ends at once.
fn dropping_and_cancelling_end_the_container() {
    let scratch = Scratch::new();
    let running = spawn(&script(scratch.directory(), "sleep 1000")).unwrap();
    let pid = running.pid().unwrap();
    drop(running);
    assert!(rustix::process::test_kill_process(pid).is_err());

    use std::os::fd::AsFd;
    let (reader, writer) = std::io::pipe().unwrap();
    let mut running =
        spawn(&script(scratch.directory(), "trap '' TERM INT; sleep 1000; sleep 1000")).unwrap();
    drop(writer);
    assert_eq!(running.wait_or_cancel(reader.as_fd()).unwrap(), Exit::Signal(9));
}

/// Names with what overlay options take for separators reach the right folders.
fn layer_names_are_no_syntax() {
    let scratch = Scratch::new();
    let odd = scratch.path("a:b,c\\d,upperdir=x");
    crate::support::make_root(&odd);
    let long = scratch.path(&"l".repeat(200)).join("m".repeat(100));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("top"), "top").unwrap();
    let (upper, work) = (scratch.path("u,p"), scratch.path("w:k"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let root = RootFs::Overlay {
        lower: vec![long.into(), odd.into()],
        upper: upper.clone(),
        work,
        volatile: true,
        userxattr: !level().is_root(),
    };
    assert_eq!(succeed(script(root, "cat /top; touch /made")), "top");
    assert!(upper.join("made").exists());
}
