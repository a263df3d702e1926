//! Interrupts and `kill -9`: afterwards nothing is left behind and everything works.

use crate::support::http::{request, try_request};
use crate::support::server::{Server, free_address};
use crate::support::{Slipway, Started, processes_with, run, start, wait_until};
use rustix::process::Signal;
use slipway_oci::Digest;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a build could leave on the machine, as far as it is this store's.
fn traces(slipway: &Slipway) -> Vec<String> {
    let root = slipway.root.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> =
        mounts.lines().filter(|line| line.contains(root)).map(str::to_owned).collect();
    found.extend(slipway.leftovers());
    found
}

/// Control groups of containers that hold no process; a live container's holds one.
fn empty_cgroups() -> usize {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    let groups = hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]).flat_map(|hierarchy| {
        let children = fs::read_dir(hierarchy.join("slipway")).into_iter().flatten().flatten();
        children.filter(|entry| entry.path().is_dir()).collect::<Vec<_>>()
    });
    groups
        .filter(|group| {
            fs::read_to_string(group.path().join("cgroup.procs")).is_ok_and(|text| text.is_empty())
        })
        .count()
}

fn sleeping_build(slipway: &Slipway, seconds: &str) -> crate::support::Started {
    let recipe = format!("FROM base\nRUN echo kept > /kept\nRUN sleep {seconds} & sleep {seconds}\n");
    let context = slipway.context("sleeping", &[("Dockerfile", &recipe)]);
    let started = start(slipway.command(["build", "--progress", "plain", "-t", "sleeping"]).arg(context));
    wait_until("the step runs", || processes_with(seconds) >= 2);
    started
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    for (number, signal) in [(1, Signal::INT), (2, Signal::TERM)] {
        let slipway = Slipway::new();
        let seconds = format!("{}", 80_000 * number + std::process::id());
        let started = sleeping_build(&slipway, &seconds);
        started.signal(signal);
        let ended = started.wait();
        assert!(matches!(ended.code(), Some(130 | 143 | 1)), "{}: {}", ended.status, ended.stderr);
        assert!(ended.took < Duration::from_secs(20));
        wait_until("its processes end", || processes_with(&seconds) == 0);
        assert_eq!(traces(&slipway), Vec::<String>::new());
        wait_until("its control group goes", || empty_cgroups() == 0);
        assert!(!slipway.ok(["images"]).contains("sleeping"));
        // the lock is free, and what was finished is kept
        slipway.build("after", "FROM base\nRUN echo kept > /kept\n", &[]).ok();
        assert_eq!(slipway.shell("after", "cat /kept"), "kept\n");
    }
}

/// Whether a program has a handler for a signal (proc_pid_status(5), `SigCgt`).
fn catches(started: &Started, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", started.child.id())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (signal.as_raw() - 1) != 0
}

/// The second Ctrl-C ends the program at once, whatever it is at: nothing of the build stays for the next command.
#[test]
fn a_build_that_is_interrupted_twice_leaves_nothing() {
    let recipes = [
        ("step", "FROM base\nRUN trap '' INT TERM; sleep SECONDS & sleep SECONDS\n"),
        ("write", "FROM base\nRUN head -c 300000000 /dev/urandom > /big; sleep SECONDS & sleep SECONDS\n"),
        (
            "commit",
            "FROM base\nRUN head -c 200000000 /dev/urandom > /big\nRUN sleep SECONDS & sleep SECONDS\n",
        ),
        (
            "copy",
            "FROM base\nCOPY big /a\nRUN --mount=type=cache,target=/c cp /a /c/a; sleep SECONDS & sleep SECONDS\n",
        ),
    ];
    for (number, (name, recipe)) in recipes.iter().enumerate() {
        for (round, pause) in [0, 5].into_iter().enumerate() {
            let slipway = Slipway::new();
            let seconds =
                format!("{}", 910_000 + 40_000 * (number * 4 + round) as u32 + std::process::id() % 40_000);
            let context = slipway.context("twice", &[("Dockerfile", &recipe.replace("SECONDS", &seconds))]);
            fs::write(context.join("big"), vec![7; 60_000_000]).unwrap();
            let mut command = slipway.command(["build", "--progress", "plain", "-t", "twice"]);
            let started = start(command.arg(&context));
            // on a busy machine it may not even have begun by then
            wait_until("it takes signals", || catches(&started, Signal::INT));
            match *name {
                "step" => wait_until("the step runs", || processes_with(&seconds) >= 2),
                _ => std::thread::sleep(Duration::from_millis(150 + 100 * round as u64)),
            }
            started.signal(Signal::INT);
            std::thread::sleep(Duration::from_millis(pause));
            started.signal(Signal::INT);
            let ended = started.wait();
            assert!(matches!(ended.code(), Some(130)), "{name}: {}: {}", ended.status, ended.stderr);
            assert!(ended.took < Duration::from_secs(20));
            assert_eq!(traces(&slipway), Vec::<String>::new(), "{name} {pause}: {}", ended.stderr);
            wait_until("its processes end", || processes_with(&seconds) == 0);
            wait_until("its control group goes", || empty_cgroups() == 0);
            assert_eq!(run(Command::new("ls").arg(slipway.root.join("leases"))).ok(), "", "{name} {pause}");
            assert!(!slipway.ok(["images"]).contains("twice"));
        }
    }
}

#[test]
fn a_killed_build_leaves_nothing_that_the_next_command_does_not_sweep() {
    let slipway = Slipway::new();
    let seconds = format!("{}", 240_000 + std::process::id());
    let started = sleeping_build(&slipway, &seconds);
    started.signal(Signal::KILL);
    started.wait();
    wait_until("its processes end", || processes_with(&seconds) == 0);
    slipway.ok(["images"]);
    assert_eq!(traces(&slipway), Vec::<String>::new());
    slipway.build("after", "FROM base\nRUN echo kept > /kept\n", &[]).ok();
    assert_eq!(slipway.shell("after", "cat /kept"), "kept\n");
}

/// The processes that a command of ours consists of: itself and its guards, which are its children.
fn with_guards(started: &crate::support::Started) -> Vec<rustix::process::Pid> {
    let own = started.child.id().to_string();
    let is_child = |entry: &fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(&own)
    };
    let children = fs::read_dir("/proc").unwrap().flatten().filter(is_child);
    let pids = children.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids = pids.chain([started.child.id() as i32]).filter_map(rustix::process::Pid::from_raw).collect();
    assert!(Vec::len(&pids) >= 2, "no guard: {pids:?}");
    pids
}

/// A9: `pkill -9 slipway`, by name or command line, takes the guard along; nothing of the containers may live on then.
#[test]
fn nothing_lives_on_when_all_of_ours_are_killed_at_once() {
    let slipway = Slipway::new();
    let volume = slipway.context("volume", &[]);
    let bind = format!("{}:/v", volume.display());
    for (round, user) in ["0", "1000", "0"].into_iter().enumerate() {
        let seconds = format!("{}{round}", 60_000 + std::process::id() % 10_000);
        let script = format!("setsid sleep {seconds} & while :; do date >> /v/log; sleep 0.01; done");
        let words = ["run", "--rm", "-v", &bind, "-u", user, "base", "sh", "-c", &script];
        fs::write(volume.join("log"), "").unwrap();
        fs::set_permissions(volume.join("log"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let mut command = slipway.command(words);
        // and with --init there are more of that name
        let started = if round == 2 {
            let words = ["run", "--init", "-v", &bind, "base", "sh", "-c", &script];
            start(&mut slipway.command(words))
        } else {
            start(&mut command)
        };
        wait_until("the container runs", || processes_with(&seconds) > 0);
        let pids = with_guards(&started);
        for signal in [Signal::STOP, Signal::KILL] {
            pids.iter().for_each(|pid| rustix::process::kill_process(*pid, signal).unwrap());
        }
        started.wait();
        wait_until("its processes end", || processes_with(&seconds) == 0);
        let written = fs::metadata(volume.join("log")).unwrap().len();
        slipway.ok(["images"]);
        assert_eq!(traces(&slipway), Vec::<String>::new());
        assert_eq!(fs::metadata(volume.join("log")).unwrap().len(), written, "something writes on");
    }
    // a build with steps in parallel has a guard for each
    let seconds = format!("{}", 400_000 + std::process::id());
    let recipe = format!(
        "FROM base AS a\nRUN sleep {seconds}; echo a\nFROM base AS b\nRUN sleep {seconds}; echo b\n\
         FROM base\nCOPY --from=a /etc/motd /a\nCOPY --from=b /etc/motd /b\n"
    );
    let context = slipway.context("parallel", &[("Dockerfile", &recipe)]);
    let started = start(slipway.command(["build", "-t", "x"]).arg(context));
    wait_until("both steps run", || processes_with(&seconds) >= 2);
    let pids = with_guards(&started);
    assert_eq!(pids.len(), 3);
    for signal in [Signal::STOP, Signal::KILL] {
        pids.iter().for_each(|pid| rustix::process::kill_process(*pid, signal).unwrap());
    }
    started.wait();
    wait_until("its processes end", || processes_with(&seconds) == 0);
    slipway.ok(["images"]);
    assert_eq!(traces(&slipway), Vec::<String>::new());
}

/// Where process 1 reaps nobody, what a command leaves unreaped stays for ever.
#[test]
fn no_command_leaves_a_child() {
    let slipway = Slipway::new();
    // a first process that waits for its own child only, and counts what it has inherited
    let script = r#"system("sh", "-c", $ARGV[0]); my $n = 0;
        for my $path (glob "/proc/[0-9]*/stat") { open(my $file, "<", $path) or next; $n += (<$file> =~ /\) Z $$ /); }
        print $n"#;
    let count = |words: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "perl", "-e", script]);
        command.arg(format!("{words} >/dev/null 2>&1"));
        command.env("SLIPWAY_ROOT", &slipway.root).env("SLIPWAY", crate::support::binary());
        crate::support::run(&mut command).stdout
    };
    slipway_skip::need_root!();
    slipway_skip::need!("unshare", "perl");
    let recipe = slipway.context("reaped", &[("Dockerfile", "FROM base\nRUN true\nRUN sleep 0 & exit 0\n")]);
    assert_eq!(count("sh -c '(sleep 0; exit) & exec sleep 0.2'"), "1", "the test sees none");
    for words in [
        "$SLIPWAY run base true",
        "$SLIPWAY run --init base sh -c 'sleep 0.1 & exit 3'",
        "$SLIPWAY run base /no/such/program",
        "timeout 1 $SLIPWAY run base sleep 1000",
        &format!("$SLIPWAY build -t x {}", recipe.display()),
        "$SLIPWAY images",
    ] {
        assert_eq!(count(words), "0", "{words}");
    }
}

#[test]
fn builds_killed_at_any_moment_do_not_hurt_the_store() {
    let slipway = Slipway::new();
    let files: Vec<(String, String)> =
        (0..50).map(|n| (format!("d/{n}"), format!("{n}").repeat(500))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let context = slipway.context("killed", &files);
    let recipe = "FROM base\nCOPY d /d\nRUN echo 1 > /1 && rm /etc/motd\nRUN echo 2 > /2\nCOPY --from=base /etc /etc2\n";
    fs::write(context.join("Dockerfile"), recipe).unwrap();
    let whole = Instant::now();
    slipway.build_folder("killed", &context, &["--no-cache"]).ok();
    let whole = whole.elapsed();
    let digest = slipway.digest("killed");
    for moment in 1..=12 {
        let mut command = slipway.command(["build", "--no-cache", "-t", "killed"]);
        let started = start(command.arg(&context));
        std::thread::sleep(whole * moment / 12);
        started.signal(Signal::KILL);
        started.wait();
        assert_eq!(slipway.digest("killed"), digest, "after {moment}/12");
    }
    slipway.build_folder("killed", &context, &[]).ok();
    assert_eq!(slipway.digest("killed"), digest);
    slipway.build_folder("again", &context, &["--no-cache"]).ok();
    assert_eq!(slipway.digest("again"), digest);
    assert_eq!(slipway.shell("again", "ls /d | wc -l; cat /1 /2").trim(), "50\n1\n2");
    wait_until("nothing is left", || traces(&slipway).is_empty());
}

#[test]
fn a_registry_killed_during_pushes_serves_only_whole_content() {
    let slipway = Slipway::new();
    let storage = slipway.path("storage");
    let address = free_address();
    // content that does not compress, so that a push takes a while
    let recipe = "FROM base\nRUN head -c 6000000 /dev/urandom > /a\nRUN head -c 6000000 /dev/urandom > /b\n";
    let name = format!("{address}/crash:1");
    slipway.build(&name.replace([':', '/'], "-"), recipe, &[]).ok();
    slipway.ok(["tag", &name.replace([':', '/'], "-"), &name]);
    let mut server = Server::slipway_at(&slipway, &storage, &address);
    let timed = Instant::now();
    slipway.ok(["push", &format!("{address}/crash:1")]);
    let whole = timed.elapsed();
    for round in 0..10_u32 {
        let repository = format!("crash{round}");
        let name = format!("{address}/{repository}:1");
        slipway.build(&format!("r{round}"), &recipe.replace("/a", &format!("/a{round}")), &[]).ok();
        slipway.ok(["tag", &format!("r{round}"), &name]);
        let push = start(&mut slipway.command(["push", &name]));
        std::thread::sleep(whole * (round + 1) / 10);
        server.kill();
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(push.child.id() as i32).unwrap(),
            Signal::KILL,
        );
        push.wait();
        server = Server::slipway_at(&slipway, &storage, &address);
        check(&address, &repository);
        if round % 3 == 0 {
            slipway.ok(["push", &name]);
            assert!(check(&address, &repository), "{repository} is whole after a new push");
        }
    }
    check(&address, "crash");
    let other = slipway.another("other");
    other.ok(["pull", &format!("{address}/crash0:1")]);
}

/// Checks everything that a repository's tag leads to; whether there is one.
fn check(address: &str, repository: &str) -> bool {
    let reply = request(address, "GET", &format!("/v2/{repository}/manifests/1"), &[], b"");
    if reply.status == 404 {
        return false;
    }
    assert_eq!(reply.status, 200);
    assert_eq!(Digest::sha256(&reply.body).to_string(), reply.header("docker-content-digest"));
    let manifest = reply.json();
    let blobs = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    for blob in blobs {
        let digest = blob["digest"].as_str().unwrap();
        let reply = request(address, "GET", &format!("/v2/{repository}/blobs/{digest}"), &[], b"");
        assert_eq!(reply.status, 200, "{digest} of a tagged manifest");
        assert_eq!(Digest::sha256(&reply.body).to_string(), digest);
    }
    true
}

#[test]
fn an_upload_cut_short_is_no_blob() {
    let slipway = Slipway::empty();
    let server = Server::slipway(&slipway, &slipway.path("storage"));
    let content = vec![7; 100_000];
    let digest = Digest::sha256(&content).to_string();
    let reply = request(&server.address, "POST", "/v2/cut/blobs/uploads/", &[], b"");
    let place = reply.header("location").to_owned();
    let separator = if place.contains('?') { '&' } else { '?' };
    let path = format!("{place}{separator}digest={digest}");
    let path = path.strip_prefix(&format!("http://{}", server.address)).unwrap_or(&path).to_owned();
    {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
        let head = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", content.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&content[..50_000]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let head =
        || try_request(&server.address, "HEAD", &format!("/v2/cut/blobs/{digest}"), &[], b"").unwrap().status;
    assert_eq!(head(), 404);
    let target = format!("/v2/cut/blobs/uploads/?digest={digest}");
    assert_eq!(request(&server.address, "POST", &target, &[], &content).status, 201);
    assert_eq!(head(), 200);
}
