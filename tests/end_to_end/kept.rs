//! Containers that are kept: made, started, stopped, listed, their logs, their ends, and whatever is killed.

use crate::support::{Slipway, processes_with, run, start, user::User, wait_until};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

/// What `inspect` tells of a container.
fn told(slipway: &Slipway, name: &str, template: &str) -> String {
    slipway.ok(["inspect", "--type", "container", "--format", template, name]).trim_end().to_owned()
}

/// A number of seconds that no other process of this machine sleeps.
fn seconds(number: u32) -> String {
    format!("{}", 1_200_000 + 10_000 * number + std::process::id() % 10_000)
}

#[test]
fn a_container_lives_on_and_is_found_again() {
    let slipway = Slipway::new();
    let script = "echo out; echo err >&2; trap 'echo asked; exit 7' TERM; while :; do sleep 0.02; done";
    let id = slipway.ok(["run", "-d", "--name", "web", "base", "sh", "-c", script]);
    let id = id.trim_end();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    wait_until("it has written", || slipway.run(["logs", "web"]).stdout.contains("out"));
    let logs = slipway.run(["logs", "web"]);
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(slipway.ok(["ps", "-q", "--no-trunc"]).trim_end(), id);
    let row = slipway.ok(["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]);
    assert_eq!(row, "web base running\n");
    assert_eq!(told(&slipway, &id[..6], "{{.State.Status}} {{.Name}}"), "running /web");
    // the same name, and another while it runs
    assert!(slipway.fails(125, ["run", "-d", "--name", "web", "base", "true"]).contains(&id[..12]));
    assert!(slipway.fails(1, ["rm", "web"]).contains("runs"));
    assert!(slipway.fails(1, ["rmi", "base"]).contains("container `web`"));
    assert!(slipway.fails(1, ["reset", "--force"]).contains("in use"));
    slipway.ok(["rename", "web", "shop"]);
    assert_eq!(slipway.ok(["stop", "shop"]), "shop\n");
    assert_eq!(told(&slipway, "shop", "{{.State.Status}} {{.State.ExitCode}}"), "exited 7");
    assert!(slipway.ok(["logs", "shop"]).ends_with("asked\n"));
    assert_eq!(slipway.ok(["ps", "-q"]), "");
    assert_eq!(slipway.ok(["wait", "shop"]), "7\n");
    // again, with what it wrote and its log
    slipway.ok(["start", "shop"]);
    wait_until("it has written again", || slipway.ok(["logs", "shop"]).matches("out").count() == 2);
    slipway.ok(["kill", "shop"]);
    assert_eq!(told(&slipway, "shop", "{{.State.ExitCode}}"), "137");
    assert!(slipway.fails(1, ["kill", "shop"]).contains("does not run"));
    assert_eq!(slipway.ok(["rm", "shop"]), "shop\n");
    assert_eq!(slipway.ok(["ps", "-aq"]), "");
    assert!(slipway.fails(1, ["logs", "shop"]).contains("no container `shop`"));
    assert_eq!(fs::read_dir(slipway.root.join("containers")).unwrap().count(), 0);
    slipway.ok(["rmi", "base"]);
}

#[test]
fn what_a_container_writes_is_there_when_it_starts_again() {
    let slipway = Slipway::new();
    let script = "date >> /seen; wc -l < /seen; cat /etc/hostname";
    slipway.ok(["create", "--name", "count", "-h", "box", "base", "sh", "-c", script]);
    assert_eq!(told(&slipway, "count", "{{.State.Status}}"), "created");
    for number in 1..=3 {
        slipway.ok(["start", "count"]);
        assert_eq!(slipway.ok(["wait", "count"]), "0\n");
        let expected: String = (1..=number).map(|number| format!("{number}\nbox\n")).collect();
        assert_eq!(slipway.ok(["logs", "count"]), expected);
    }
    // in the foreground it is kept as well, and so is what it wrote
    assert_eq!(slipway.ok(["run", "--name", "front", "base", "sh", "-c", "echo hi; exit 0"]), "hi\n");
    assert_eq!(slipway.ok(["logs", "front"]), "hi\n");
    slipway.ok(["start", "front"]);
    slipway.ok(["wait", "front"]);
    assert_eq!(slipway.ok(["logs", "front"]), "hi\nhi\n");
    // but not with --rm, however it ends
    let ended = slipway.run(["run", "--rm", "base", "sh", "-c", "exit 3"]);
    assert_eq!(ended.status.code(), Some(3));
    slipway.ok(["run", "-d", "--rm", "--name", "short", "base", "true"]);
    wait_until("it has removed itself", || !slipway.ok(["ps", "-a"]).contains("short"));
    assert_eq!(slipway.ok(["ps", "-aq"]).lines().count(), 2);
    // a container may put links where it is started from: they lead nowhere outside
    let outside = slipway.path("outside");
    fs::create_dir(&outside).unwrap();
    let script = format!("rm -rf /w; ln -s {} /w; rm -rf /etc; ln -s {0} /etc", outside.display());
    slipway.ok(["run", "--name", "links", "-w", "/w", "base", "sh", "-c", &script]);
    slipway.run(["start", "links"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_container_starts_again_as_its_policy_says() {
    let slipway = Slipway::new();
    slipway.ok([
        "run",
        "-d",
        "--name",
        "fails",
        "--restart",
        "on-failure:2",
        "base",
        "sh",
        "-c",
        "echo x; exit 3",
    ]);
    wait_until("it has given up", || told(&slipway, "fails", "{{.State.Status}}") == "exited");
    assert_eq!(told(&slipway, "fails", "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    assert_eq!(slipway.ok(["logs", "fails"]), "x\nx\nx\n");
    // started by hand it begins anew
    slipway.ok(["start", "fails"]);
    wait_until("it has given up again", || slipway.ok(["logs", "fails"]).lines().count() == 6);
    // one that always comes back is stopped all the same, while it runs and while it waits
    for (name, command) in [("runs", "sleep 1000"), ("waits", "exit 1")] {
        slipway.ok(["run", "-d", "--name", name, "--restart", "always", "base", "sh", "-c", command]);
        if name == "waits" {
            wait_until("it waits", || told(&slipway, name, "{{.State.Status}}") == "restarting");
        }
        slipway.ok(["stop", "-t", "1", name]);
        assert_eq!(told(&slipway, name, "{{.State.Status}}"), "exited");
    }
    let message = slipway.fails(125, ["run", "--rm", "--restart", "always", "base", "true"]);
    assert!(message.contains("--rm and --restart"), "{message}");
}

#[test]
fn what_cannot_be_started_says_why() {
    let slipway = Slipway::new();
    for (command, code) in [("/none", 127), ("/etc", 126)] {
        let message = slipway.fails(code, ["run", "-d", "--name", "bad", "base", command]);
        assert!(message.contains(command), "{message}");
        let state = told(&slipway, "bad", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
        assert!(state.starts_with(&format!("exited {code} ")) && state.contains(command), "{state}");
        assert!(slipway.run(["start", "bad"]).stderr.contains(command));
        slipway.ok(["rm", "bad"]);
        slipway.fails(code, ["run", "-d", "--rm", "base", command]);
        assert_eq!(slipway.ok(["ps", "-aq"]), "");
    }
    for (line, part) in [
        (&["run", "-d", "--name", "a b", "base", "true"][..], "no name of a container"),
        (&["run", "-d", "--restart", "sometimes", "base", "true"], "on-failure"),
        (&["run", "-d", "--log-opt", "max-size=big", "base", "true"], "max-size=big"),
        (&["run", "-d", "--log-driver", "syslog", "base", "true"], "syslog"),
        (&["create", "--pull", "never", "nowhere"], "nowhere"),
    ] {
        let message = slipway.run(line.iter()).fails(125);
        assert!(message.contains(part), "{line:?}: {message}");
    }
    for line in
        [&["start", "x1"][..], &["stop", "x1"], &["rm", "x1"], &["wait", "x1"], &["rename", "x1", "y1"]]
    {
        assert!(slipway.run(line.iter()).fails(1).contains("no container `x1`"), "{line:?}");
    }
    slipway.ok(["rm", "-f", "x1"]);
    slipway.ok(["stop", "--ignore", "x1"]);
}

/// Whatever is killed, the next command clears what it has left, and never touches what lives.
#[test]
fn killed_commands_and_monitors_leave_nothing() {
    let slipway = Slipway::new();
    let (kept, gone, front) = (seconds(0), seconds(1), seconds(2));
    slipway.ok(["run", "-d", "--name", "kept", "base", "sleep", &kept]);
    slipway.ok(["run", "-d", "--rm", "--name", "gone", "base", "sleep", &gone]);
    let running = start(&mut slipway.command(["run", "--name", "front", "base", "sleep", &front]));
    wait_until("all run", || slipway.ok(["ps", "-q"]).lines().count() == 3);
    for id in slipway.ok(["ps", "-q", "--no-trunc", "--filter", "name=e"]).lines().filter(|id| *id != front) {
        let monitors = processes_with(id);
        // one in the foreground is its own
        assert!(monitors <= 1, "{id}");
        let _ = run(std::process::Command::new("pkill").args([
            "-KILL",
            "-f",
            &format!("slipway-monitor watch.*{id}"),
        ]));
    }
    running.signal(Signal::KILL);
    running.wait();
    wait_until("what was in the foreground ends with it", || processes_with(&front) == 0);
    let all = slipway.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
    assert_eq!(all, "front exited\nkept exited\n");
    for seconds in [&kept, &gone] {
        assert_eq!(processes_with(seconds), 0);
    }
    assert!(told(&slipway, "kept", "{{.State.ExitCode}} {{.State.Error}}").starts_with("137 "));
    slipway.ok(["start", "kept", "front"]);
    assert_eq!(slipway.ok(["ps", "-q"]).lines().count(), 2);
    slipway.ok(["rm", "-f", "kept", "front"]);
    assert_eq!(processes_with(&kept) + processes_with(&front), 0);
    assert_eq!(fs::read_dir(slipway.root.join("containers")).unwrap().count(), 0);
}

#[test]
fn logs_are_bounded_followed_and_chosen_from() {
    let slipway = Slipway::new();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let flags = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3"];
    let words = [&["run", "-d", "--name", "flood"][..], &flags, &["base", "sh", "-c", script]].concat();
    slipway.ok(words);
    slipway.ok(["wait", "flood"]);
    let logs = slipway.ok(["logs", "flood"]);
    assert!(logs.ends_with("line 2998\nline 2999\n") && logs.lines().count() < 1500, "{}", logs.len());
    assert_eq!(slipway.ok(["logs", "--tail", "2", "flood"]), "line 2998\nline 2999\n");
    assert_eq!(slipway.ok(["logs", "-n", "0", "flood"]), "");
    assert_eq!(slipway.ok(["logs", "--since", "2030-01-01", "flood"]), "");
    assert_eq!(slipway.ok(["logs", "--until", "2020-01-01", "flood"]), "");
    let stamped = slipway.ok(["logs", "-t", "--tail", "1", "flood"]);
    let (time, line) = stamped.split_once(' ').unwrap();
    assert!(time.len() == 30 && time.ends_with('Z') && line == "line 2999\n", "{stamped}");
    // followed until its end
    let script = "for i in 1 2 3; do echo $i; sleep 0.3; done; printf 'no end'";
    slipway.ok(["run", "-d", "--name", "slow", "base", "sh", "-c", script]);
    assert_eq!(slipway.ok(["logs", "-f", "slow"]), "1\n2\n3\nno end");
    // bytes that are no text
    slipway.ok(["run", "-d", "--name", "raw", "base", "printf", "\\377\\000\\n"]);
    slipway.ok(["wait", "raw"]);
    let raw = slipway.command(["logs", "raw"]).output().unwrap();
    assert_eq!(raw.stdout, b"\xff\0\n");
    slipway.ok(["run", "-d", "--name", "silent", "--log-driver", "none", "base", "echo", "x"]);
    assert!(slipway.fails(1, ["logs", "silent"]).contains("--log-driver none"));
}

#[test]
fn containers_are_chosen_by_flags() {
    let slipway = Slipway::new();
    let file = slipway.path("cid");
    let cidfile = file.to_str().unwrap();
    slipway.ok(["create", "--name", "one", "-l", "kind=a", "--cidfile", cidfile, "base", "true"]);
    slipway.ok(["create", "--name", "two", "--label", "kind=b", "base", "sh", "-c", "exit 4"]);
    slipway.ok(["create", "--name", "three", "base", "sleep", "1000"]);
    let names = |flags: &[&str]| {
        let words = [&["ps", "--format", "{{.Names}}"][..], flags].concat();
        slipway.ok(words).lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&[]), "");
    assert_eq!(names(&["-a"]), "three two one");
    assert_eq!(names(&["-l"]), "three");
    assert_eq!(names(&["-n", "2"]), "three two");
    assert_eq!(names(&["-a", "-f", "label=kind"]), "two one");
    assert_eq!(names(&["-a", "-f", "label=kind=a"]), "one");
    assert_eq!(names(&["-a", "-f", "name=o"]), "two one");
    assert_eq!(names(&["-a", "-f", "ancestor=base"]), "three two one");
    assert_eq!(names(&["-a", "-f", "ancestor=other"]), "");
    slipway.ok(["start", "--all"]);
    slipway.ok(["wait", "two"]);
    wait_until("two have ended", || names(&["-f", "status=exited"]) == "two one");
    assert_eq!(names(&["-f", "exited=4"]), "two");
    assert_eq!(names(&[]), "three");
    assert!(slipway.fails(2, ["ps", "--filter", "colour=red"]).contains("colour=red"));
    slipway.ok(["rm", "--cidfile", cidfile]);
    assert_eq!(names(&["-a"]), "three two");
    assert_eq!(slipway.ok(["container", "prune", "-f"]), "two\n");
    slipway.ok(["stop", "-t", "0", "--filter", "status=running"]);
    slipway.ok(["rm", "--all"]);
    assert_eq!(names(&["-a"]), "");
}

#[test]
fn privileged_plain_users_keep_containers_too() {
    slipway_skip::need_root!();
    let Some(user) = User::new() else { return slipway_skip::skip("there is no plain user") };
    for user in [user, User::nameless()] {
        user.ok(["import", user.path("base.tar").to_str().unwrap(), "base"]);
        let script = "echo up; touch /mine; trap 'exit 5' TERM; while :; do sleep 0.02; done";
        user.ok(["run", "-d", "--name", "mine", "base", "sh", "-c", script]);
        wait_until("it has written", || user.ok(["logs", "mine"]) == "up\n");
        assert_eq!(user.ok(["ps", "--format", "{{.Names}}"]), "mine\n");
        user.ok(["stop", "mine"]);
        let code = user.ok(["inspect", "--format", "{{.State.ExitCode}}", "mine"]);
        assert_eq!(code, "5\n");
        user.ok(["start", "mine"]);
        wait_until("it has written again", || user.ok(["logs", "mine"]) == "up\nup\n");
        user.ok(["rm", "-f", "mine"]);
        assert_eq!(user.ok(["ps", "-aq"]), "");
    }
}

/// A monitor that is killed while it begins, at whatever moment, leaves nothing that runs and nobody knows of.
#[test]
fn a_monitor_killed_while_it_begins_leaves_nothing() {
    let slipway = Slipway::new();
    let seconds = seconds(3);
    for pause in [0, 5, 10, 20, 30, 40, 60, 80, 120] {
        let started = start(&mut slipway.command(["run", "-d", "base", "sleep", &seconds]));
        std::thread::sleep(Duration::from_millis(pause));
        let pattern = format!("^slipway-monitor .*{}", slipway.root.display());
        let _ = run(std::process::Command::new("pkill").args(["-KILL", "-f", &pattern]));
        started.wait();
        // one that came before the signal runs on, and is known
        let known = slipway.ok(["ps", "-q"]).lines().count();
        assert_eq!(processes_with(&seconds), known, "after {pause} ms");
        slipway.ok(["rm", "-f", "--all"]);
        assert_eq!(processes_with(&seconds), 0, "after {pause} ms");
        assert_eq!(slipway.ok(["ps", "-aq"]), "", "after {pause} ms");
    }
    assert_eq!(fs::read_dir(slipway.root.join("containers")).unwrap().count(), 0);
}

/// A monitor holds nothing that its caller's caller has open: who waits for the end of that does not wait for the container's.
#[test]
fn a_monitor_lets_go_of_what_others_have_open() {
    let slipway = Slipway::new();
    let known = slipway.command(["run", "-d", "--name", "long", "base", "sleep", "1000"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "\"$@\" 3>&1 > /dev/null | timeout 20 cat", "sh"]).arg(known.get_program());
    shell.args(known.get_args()).envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(run(&mut shell).code(), Some(0), "the pipe has no end");
    assert_eq!(slipway.ok(["ps", "--format", "{{.Names}}"]), "long\n");
    slipway.ok(["rm", "-f", "long"]);
}

/// Several at once, and none is lost.
#[test]
fn many_start_and_end_at_once() {
    let slipway = Slipway::new();
    let started: Vec<_> = (0..24)
        .map(|number| {
            let script = format!("echo {number}; exit {number}");
            start(slipway.command(["run", "-d", "base", "sh", "-c"]).arg(script))
        })
        .collect();
    // whoever looks meanwhile takes no monitor for dead
    for started in started {
        slipway.ok(["ps", "-q"]);
        assert!(started.wait().status.success());
    }
    let most = Duration::from_secs(20);
    let begun = std::time::Instant::now();
    while !slipway.ok(["ps", "-q"]).is_empty() {
        assert!(begun.elapsed() < most, "{}", slipway.ok(["ps"]));
    }
    let mut codes: Vec<u32> = slipway
        .ok(["ps", "-a", "--format", "{{.Status}}"])
        .lines()
        .map(|line| line.split(['(', ')']).nth(1).unwrap().parse().unwrap())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, Vec::from_iter(0..24));
}
