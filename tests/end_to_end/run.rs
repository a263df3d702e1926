//! `slipway run`.

use crate::support::{Slipway, run, run_with_input, start, wait_until};
use rustix::process::Signal;
use slipway_skip::need_root;
use std::fs;
use std::io::{Read, Write};

#[test]
fn exit_statuses_are_the_commands() {
    let slipway = Slipway::new();
    let status = |words: &[&str]| slipway.run([&["run", "--rm", "base"], words].concat()).code();
    assert_eq!(status(&["true"]), Some(0));
    assert_eq!(status(&["sh", "-c", "exit 42"]), Some(42));
    assert_eq!(status(&["/no/such/program"]), Some(127));
    assert_eq!(status(&["/etc/motd"]), Some(126));
    let message = slipway.run(["run", "--rm", "base", "/no/such/program"]).fails(127);
    assert!(message.contains("/no/such/program"), "{message}");
}

#[test]
fn output_goes_where_it_should() {
    let slipway = Slipway::new();
    let ended = slipway.run(["run", "--rm", "base", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn the_image_says_what_runs_and_the_caller_may_differ() {
    let slipway = Slipway::new();
    let recipe = "FROM base\nENV A=image\nWORKDIR /tmp\nUSER app\nENTRYPOINT [\"/bin/echo\", \"entry\"]\nCMD [\"command\"]\n";
    slipway.build("says", recipe, &[]).ok();
    assert_eq!(slipway.ok(["run", "--rm", "says"]), "entry command\n");
    assert_eq!(slipway.ok(["run", "--rm", "says", "other", "words"]), "entry other words\n");
    slipway.build("plain", "FROM base\nENV A=image\nWORKDIR /tmp\nUSER app\nCMD [\"pwd\"]\n", &[]).ok();
    assert_eq!(slipway.ok(["run", "--rm", "plain"]), "/tmp\n");
    let script = "echo $A $B $(pwd) $(id -u):$(id -g) $HOME";
    assert_eq!(slipway.ok(["run", "--rm", "plain", "sh", "-c", script]), "image /tmp 1000:1000 /home/app\n");
    let arguments = [
        "run", "--rm", "-e", "A=mine", "--env", "B=too", "-w", "/etc", "-u", "0:50", "plain", "sh", "-c",
        script,
    ];
    assert_eq!(slipway.ok(arguments), "mine too /etc 0:50 /root\n");
    let mut command =
        slipway.command(["run", "--rm", "-e", "FROM_HOST", "base", "sh", "-c", "echo $FROM_HOST"]);
    assert_eq!(run(command.env("FROM_HOST", "passed on")).ok(), "passed on\n");
}

#[test]
fn volumes_are_shared_and_may_be_read_only() {
    let slipway = Slipway::new();
    let folder = slipway.context("volume", &[("file", "host\n")]);
    let volume = format!("{}:/v", folder.display());
    assert_eq!(
        slipway.ok(["run", "--rm", "-v", &volume, "base", "sh", "-c", "cat /v/file; echo made > /v/new"]),
        "host\n"
    );
    assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "made\n");
    let locked = format!("{volume}:ro");
    let ended = slipway.run(["run", "--rm", "-v", &locked, "base", "sh", "-c", "echo x > /v/more"]);
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(!folder.join("more").exists());
    let one = format!("{}:/etc/motd", folder.join("file").display());
    assert_eq!(slipway.ok(["run", "--rm", "-v", &one, "base", "cat", "/etc/motd"]), "host\n");
}

#[test]
fn standard_input_is_passed_only_when_asked() {
    let slipway = Slipway::new();
    let with = run_with_input(&mut slipway.command(["run", "--rm", "-i", "base", "wc", "-c"]), b"12345");
    assert_eq!(with.ok().trim(), "5");
    let without = run_with_input(&mut slipway.command(["run", "--rm", "base", "wc", "-c"]), b"12345");
    assert_eq!(without.ok().trim(), "0");
}

#[test]
fn a_large_output_comes_whole() {
    let slipway = Slipway::new();
    let ended = slipway.run(["run", "--rm", "base", "sh", "-c", "yes 0123456789 | head -c 5000000"]);
    assert_eq!(ended.ok().len(), 5_000_000);
}

#[test]
fn no_network_is_no_network() {
    let slipway = Slipway::new();
    let list =
        |network: &str| slipway.ok(["run", "--rm", "--network", network, "base", "ls", "/sys/class/net"]);
    assert_eq!(list("none"), "lo\n");
    let hosts: usize = fs::read_dir("/sys/class/net").unwrap().count();
    if slipway_skip::is_root() {
        assert_eq!(list("host").lines().count(), hosts);
    }
    let message = slipway.fails(125, ["run", "--network", "elsewhere", "base", "true"]);
    assert!(message.contains("elsewhere"), "{message}");
}

#[test]
fn signals_reach_the_command() {
    let slipway = Slipway::new();
    let ready = slipway.context("ready", &[]);
    let volume = format!("{}:/ready", ready.display());
    let script = "trap 'echo caught; exit 3' TERM; touch /ready/1; while :; do sleep 0.05; done";
    let started = start(&mut slipway.command(["run", "--rm", "-v", &volume, "base", "sh", "-c", script]));
    wait_until("the container runs", || ready.join("1").exists());
    started.signal(Signal::TERM);
    let ended = started.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(3), "caught\n"), "{}", ended.stderr);
}

#[test]
fn a_command_that_a_signal_ends_has_128_and_its_number() {
    let slipway = Slipway::new();
    let seconds = format!("{}", 60_000 + std::process::id());
    let started = start(&mut slipway.command(["run", "--rm", "base", "sleep", &seconds]));
    wait_until("the container runs", || crate::support::processes_with(&seconds) > 0);
    for pid in crate::support::pids_with(&seconds) {
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    assert_eq!(started.wait().code(), Some(137));
    let script = "sh -c 'kill -TERM $$'; echo $?";
    assert_eq!(slipway.shell("base", script), "143\n");
}

#[test]
fn a_killed_runner_takes_its_container_along() {
    let slipway = Slipway::new();
    let ready = slipway.context("ready", &[]);
    let volume = format!("{}:/ready", ready.display());
    let seconds = format!("{}", 70_000 + std::process::id());
    let script = format!("sleep {seconds} & touch /ready/1; sleep {seconds}");
    let started = start(&mut slipway.command(["run", "--rm", "-v", &volume, "base", "sh", "-c", &script]));
    wait_until("the container runs", || ready.join("1").exists());
    wait_until("its sleeper runs", || crate::support::processes_with(&seconds) > 0);
    started.signal(Signal::KILL);
    wait_until("the container ends", || crate::support::processes_with(&seconds) == 0);
    assert!(started.wait().code().is_none());
    slipway.ok(["run", "--rm", "base", "true"]);
}

#[test]
fn what_a_container_writes_stays_out_of_its_image() {
    let slipway = Slipway::new();
    slipway.ok(["run", "--rm", "base", "sh", "-c", "echo x > /etc/motd; rm /etc/passwd; touch /new"]);
    assert_eq!(
        slipway.shell("base", "cat /etc/motd; ls /etc/passwd; ls /new 2>&1 | grep -c 'No such'"),
        "base\n/etc/passwd\n1\n"
    );
}

#[test]
fn a_container_sees_a_machine_of_its_own() {
    let slipway = Slipway::new();
    let seen = slipway.shell("base", "echo $$; ls /proc | grep -c '^[0-9]'; test -w /proc/sys/kernel/hostname || echo locked; \
        cat /proc/1/cmdline | tr '\\0' ' '; touch /sys/x 2>/dev/null || echo sys; grep -c overlay /proc/self/mounts");
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() < 10, "{seen}");
    assert!(lines[1].parse::<u32>().unwrap() < 10, "{seen}");
    assert!(seen.contains("locked") && seen.contains("sys"), "{seen}");
}

#[test]
fn a_terminal_is_one() {
    let slipway = Slipway::new();
    let (mut ours, theirs) = crate::support::terminal();
    let mut command = slipway.command([
        "run",
        "--rm",
        "-it",
        "base",
        "sh",
        "-c",
        "tty; stty size; read line; echo got $line",
    ]);
    let mut child = command
        .stdin(theirs.try_clone().unwrap())
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    drop(command);
    ours.write_all(b"typed\r").unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    // the last read of a terminal whose other side is gone fails with EIO
    while let Ok(count @ 1..) = ours.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
    }
    assert!(child.wait().unwrap().success());
    let seen = String::from_utf8_lossy(&seen).into_owned();
    for part in ["/dev/pts/0\r\n", "33 99\r\n", "got typed\r\n"] {
        assert!(seen.contains(part), "`{part:?}` in {seen:?}");
    }
}

#[test]
fn a_terminal_needs_one() {
    let slipway = Slipway::new();
    let ended = run_with_input(&mut slipway.command(["run", "--rm", "-it", "base", "true"]), b"");
    assert_ne!(ended.code(), Some(0));
    assert!(
        ended.stderr.to_lowercase().contains("terminal") || ended.stderr.contains("TTY"),
        "{}",
        ended.stderr
    );
}

#[test]
fn privileged_devices_and_capabilities_are_few() {
    need_root!();
    let slipway = Slipway::new();
    let script = "mknod /disk b 8 0 2>/dev/null && cat /disk; mount -t tmpfs x /mnt 2>/dev/null && echo mounted; \
                  grep CapEff /proc/self/status; ls /dev | sort | tr '\\n' ' '";
    let seen = slipway.ok(["run", "--rm", "base", "sh", "-c", script]);
    assert!(!seen.contains("mounted"), "{seen}");
    // docker's default set, without NET_RAW on a network that is shared
    assert!(seen.contains("CapEff:\t00000000a80405fb"), "{seen}");
    assert!(!seen.contains(" sda") && !seen.contains(" vda"), "{seen}");
}

#[test]
fn a_container_without_a_name_to_keep_runs_too() {
    let slipway = Slipway::new();
    assert_eq!(slipway.ok(["run", "base", "echo", "x"]), "x\n");
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn arguments_after_the_image_are_the_commands_own() {
    let slipway = Slipway::new();
    assert_eq!(slipway.ok(["run", "--rm", "base", "echo", "--rm", "-t", "--", "-e"]), "--rm -t -- -e\n");
    let message = slipway.fails(125, ["run", "--rm", "nosuch:image@sha256:00"]);
    assert!(message.contains("sha256:00"), "{message}");
}

#[test]
fn what_follows_the_image_reaches_the_program_byte_by_byte() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let slipway = Slipway::new();
    let tail: [&[u8]; 9] =
        [b"--", b"-v=/:/host", b"--privileged", b"--help", b"-e", b"", b"--rm", b"-\xff\xfe", b"-"];
    let mut given: Vec<&OsStr> = ["run", "--rm=true", "base", "printf", "[%s]"].map(OsStr::new).to_vec();
    given.extend(tail.iter().map(|word| OsStr::from_bytes(word)));
    let output = slipway.command(&given).output().unwrap();
    let expected: Vec<u8> = tail.iter().flat_map(|word| [b"[", *word, b"]"].concat()).collect();
    assert_eq!(output.stdout, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

/// B10: docker's usual log links, whoever the program runs as and whatever the output is.
#[test]
fn every_user_opens_the_standard_streams_by_name() {
    slipway_skip::need_root!();
    let slipway = Slipway::new();
    let script = "for name in /dev/stdout /proc/self/fd/1 /dev/fd/1; do echo $name > $name; echo $name >> $name; done; \
                  for name in /dev/stderr /proc/self/fd/2; do echo $name > $name; done; \
                  ln -s /dev/stdout /tmp/access.log; echo log > /tmp/access.log; cat < /dev/stdin";
    let expected_out =
        "/dev/stdout\n/dev/stdout\n/proc/self/fd/1\n/proc/self/fd/1\n/dev/fd/1\n/dev/fd/1\nlog\n";
    let expected_err = "/dev/stderr\n/proc/self/fd/2\n";
    for user in ["0", "1000", "1000:1000", "app", "33:0"] {
        let words = ["run", "--rm", "-i", "-u", user, "base", "sh", "-c", script];
        let ended = run_with_input(&mut slipway.command(words), b"input\n");
        assert_eq!(ended.stdout, format!("{expected_out}input\n"), "{user}: {}", ended.stderr);
        assert_eq!(ended.stderr, expected_err, "{user}");
        // files: what is there already stays
        let (out, err) = (slipway.path("out"), slipway.path("err"));
        let file = |path| fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        fs::write(&out, "before\n").unwrap();
        fs::write(&err, "").unwrap();
        let mut command = slipway.command(words);
        assert!(command.stdout(file(&out)).stderr(file(&err)).status().unwrap().success(), "{user}");
        assert_eq!(fs::read_to_string(&out).unwrap(), format!("before\n{expected_out}"), "{user}");
        assert_eq!(fs::read_to_string(&err).unwrap(), expected_err, "{user}");
        // a terminal of its own
        let (mut ours, theirs) = crate::support::terminal();
        let words = [
            "run",
            "--rm",
            "-t",
            "-u",
            user,
            "base",
            "sh",
            "-c",
            "echo one > /dev/stdout; echo two > /dev/tty; echo three > /dev/stderr",
        ];
        let mut command = slipway.command(words);
        let mut child = command.stdout(theirs.try_clone().unwrap()).stderr(theirs).spawn().unwrap();
        drop(command);
        let mut seen = Vec::new();
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = ours.read(&mut piece) {
            seen.extend_from_slice(&piece[..count]);
        }
        assert!(child.wait().unwrap().success(), "{user}");
        // both terminals put a carriage return before the end of a line
        assert_eq!(String::from_utf8_lossy(&seen).replace('\r', ""), "one\ntwo\nthree\n", "{user}");
    }
    // and the steps of a build
    for user in ["root", "app", "1234"] {
        let recipe = format!(
            "FROM base\nUSER {user}\nRUN echo as-{user} > /dev/stdout && echo err-{user} > /proc/self/fd/2\n"
        );
        let seen = slipway.build_with("streams", &recipe, &[], &["--no-cache"]);
        for text in [format!("as-{user}\n"), format!("err-{user}\n")] {
            assert!(seen.stderr.contains(&text), "{user}: {}", seen.stderr);
        }
        assert!(seen.status.success());
    }
}

#[test]
fn a_container_finds_itself_by_its_name() {
    let slipway = Slipway::new();
    let script = "cat /etc/hostname; grep -w \"$(hostname)\" /etc/hosts; ping -c 1 -W 2 $(hostname) > /dev/null && echo there";
    let seen =
        slipway.ok(["run", "--rm", "--cap-add", "NET_RAW", "-h", "box.example", "base", "sh", "-c", script]);
    assert!(seen.starts_with("box.example\n127.0.1.1\tbox.example box\n"), "{seen}");
    let seen = slipway.ok([
        "run",
        "--rm",
        "--network",
        "none",
        "base",
        "sh",
        "-c",
        "grep -cw $(hostname) /etc/hosts",
    ]);
    assert_eq!(seen, "1\n");
    let script = "grep -w $(hostname) /etc/hosts";
    let words = ["run", "--rm", "-h", "db", "--add-host", "db:10.0.0.9", "base", "sh", "-c", script];
    assert_eq!(slipway.ok(words), "10.0.0.9\tdb\n");
    slipway.build("step", "FROM base\nRUN grep -w \"localhost $(hostname)\" /etc/hosts\n", &[]).ok();
}

#[test]
fn capabilities_that_cannot_be_given_are_refused() {
    let slipway = Slipway::new();
    let effective = |words: &[&str]| {
        let words = [&["run", "--rm"], words, &["base", "grep", "CapEff", "/proc/self/status"]].concat();
        let seen = slipway.ok(words);
        u64::from_str_radix(seen.trim().rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let (net_admin, chown) = (1 << 12, 1 << 0);
    for word in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin", "SYSLOG,Net_Admin"] {
        assert_ne!(effective(&["--cap-add", word]) & net_admin, 0, "{word}");
    }
    assert_eq!(effective(&["--cap-drop", "cap_all", "--cap-add", "chown"]), chown);
    assert_eq!(effective(&["--cap-drop", "ALL"]), 0);
    let all = effective(&["--cap-add", "all"]);
    assert_eq!(all, effective(&["--privileged"]));
    assert_eq!(effective(&["--cap-add", "ALL", "--cap-drop", "CHOWN"]), all & !chown);
    let names = ["CHOWN", "SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "SYS_RESOURCE", "SYS_TIME", "MAC_ADMIN"];
    for (name, number) in names.into_iter().zip([0, 16, 17, 22, 24, 25, 33]) {
        let ended = slipway.run(["run", "--rm", "--cap-add", name, "base", "true"]);
        if all & 1 << number == 0 {
            let message = ended.fails(125);
            assert!(message.contains(&format!("CAP_{name}")), "{message}");
        } else {
            ended.ok();
        }
    }
    for bad in ["NET", "CAP_", "CAP_NET", "", "NET_ADMIN "] {
        let message = slipway.fails(125, ["run", "--cap-add", bad, "base", "true"]);
        assert!(message.contains("is not a capability"), "{bad:?}: {message}");
        slipway.fails(125, ["run", "--cap-drop", bad, "base", "true"]);
    }
}

/// B11: a limit of memory that leaves swap open is none.
#[test]
fn a_memory_limit_is_one_of_swap_too() {
    slipway_skip::need_root!();
    let find = |file: &str, seconds: &str| -> Option<String> {
        let pid = crate::support::pids_with(seconds).first()?.as_raw_nonzero();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let group = groups.lines().find_map(|line| line.split_once(":memory:"))?.1;
        fs::read_to_string(format!("/sys/fs/cgroup/memory{group}/{file}")).ok()
    };
    if !std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
        return slipway_skip::skip("it needs version 1 control groups that count swap");
    }
    let slipway = Slipway::new();
    let both = "memory.memsw.limit_in_bytes";
    for (place, (flags, memory, swap)) in [
        (&["-m", "32m"][..], 32 << 20, 64 << 20),
        (&["--memory=32m", "--memory-swap=32m"], 32 << 20, 32 << 20),
        (&["--memory", "32m", "--memory-swap", "48m"], 32 << 20, 48 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        let seconds = format!("{}{place}", 90_000 + std::process::id() % 10_000);
        let words = [&["run", "--rm"], flags, &["base", "sleep", &seconds]].concat();
        let started = start(&mut slipway.command(words));
        wait_until("the container runs", || find(both, &seconds).is_some());
        let number = |file| find(file, &seconds).unwrap().trim().parse::<u64>().unwrap();
        assert_eq!((number("memory.limit_in_bytes"), number(both)), (memory, swap), "{flags:?}");
        started.signal(Signal::TERM);
        assert_eq!(started.wait().code(), Some(143));
    }
    let message = slipway.fails(125, ["run", "-m", "32m", "--memory-swap", "16m", "base", "true"]);
    assert!(message.contains("--memory-swap"), "{message}");
}

/// Whose network, names, shared memory and view of control groups a container has.
#[test]
fn namespaces_are_the_containers_or_the_hosts() {
    slipway_skip::need_root!();
    let slipway = Slipway::new();
    let seen = |flags: &[&str], name: &str| {
        let link = format!("/proc/self/ns/{name}");
        slipway.ok([&["run", "--rm"], flags, &["base", "readlink", &link]].concat()).trim().to_owned()
    };
    let host =
        |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned();
    for (flag, name) in [("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--network", "net")] {
        assert_eq!(seen(&[flag, "host"], name), host(name), "{flag}");
        let own = if flag == "--network" { "none" } else { "private" };
        assert_ne!(seen(&[flag, own], name), host(name), "{flag}");
    }
    assert_ne!(seen(&[], "ipc"), host("ipc"));
    // another container's network, by its file
    let seconds = format!("{}", 110_000 + std::process::id() % 10_000);
    let other = start(&mut slipway.command(["run", "--rm", "--network", "none", "base", "sleep", &seconds]));
    wait_until("the other runs", || crate::support::processes_with(&seconds) > 0);
    let pid = crate::support::pids_with(&seconds)[0].as_raw_nonzero();
    let joined = format!("ns:/proc/{pid}/ns/net");
    let others = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(seen(&["--network", &joined], "net"), others.to_str().unwrap());
    other.signal(Signal::TERM);
    other.wait();
    let name = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let script = "hostname; cat /etc/hostname; echo $HOSTNAME";
    let words = ["run", "--rm", "--uts", "host", "base", "sh", "-c", script];
    assert_eq!(slipway.ok(words), format!("{name}\n{name}\n{name}\n"));
    for (flags, word) in [
        (&["--uts=host", "-h", "x"][..], "--hostname"),
        (&["--network", "ns:/no/such/file"], "/no/such/file"),
        (&["--network", "ns:/dev/null"], "network namespace"),
        (&["--ipc", "container:x"], "cannot share theirs by name yet"),
        (&["--uts", "elsewhere"], "elsewhere"),
        (&["--pid", "host"], "--pid"),
    ] {
        let message = slipway.fails(125, [&["run"], flags, &["base", "true"]].concat());
        assert!(message.contains(word), "{flags:?}: {message}");
    }
}
