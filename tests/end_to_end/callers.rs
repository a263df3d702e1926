//! What a caller leaves behind reaches nobody (issue 14, point 7): neither the program nor its containers know who
//! started them.
//!
//! States are made by env(1), which ignores and blocks signals before it executes a command.

use crate::support::server::{Server, free_address};
use crate::support::{Ended, Slipway, binary, processes_with, run, start, wait_until};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// A command of the program's, started with the flags of env(1).
fn by(slipway: &Slipway, flags: &[&str], words: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(flags).arg(binary()).args(words).env("SLIPWAY_ROOT", &slipway.root).env("NO_COLOR", "1");
    command.env("HOME", slipway.path("")).env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    command
}

/// Both states, of all signals and of those that shells, agents and languages change.
fn states() -> Vec<Vec<String>> {
    let named = [
        "HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "CHLD",
        "CONT", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "WINCH", "IO", "SYS", "RTMIN", "RTMAX",
    ];
    let each = named
        .iter()
        .flat_map(|name| [vec![format!("--ignore-signal={name}")], vec![format!("--block-signal={name}")]]);
    let both = vec!["--ignore-signal".to_owned(), "--block-signal".to_owned()];
    let all = [vec![both[0].clone()], vec![both[1].clone()], both];
    all.into_iter().chain(each).collect()
}

fn words(state: &[String]) -> Vec<&str> {
    state.iter().map(String::as_str).collect()
}

/// What a container's program sees of its signals, which must be nothing.
const LOOK: &str = "grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status | cut -f2 | sort -u";
const NONE: &str = "0000000000000000\n";

#[test]
fn no_state_of_a_signal_reaches_a_container() {
    slipway_skip::need!("env");
    let slipway = Slipway::new();
    for state in states() {
        let seen = run(&mut by(&slipway, &words(&state), &["run", "--rm", "base", "sh", "-c", LOOK])).ok();
        assert_eq!(seen, NONE, "{state:?}");
    }
    for state in &states()[..3] {
        let flags = ["run", "--rm", "--init", "base", "sh", "-c", LOOK];
        assert_eq!(run(&mut by(&slipway, &words(state), &flags)).ok(), NONE, "--init {state:?}");
    }
}

#[test]
fn no_state_of_a_signal_reaches_a_step() {
    slipway_skip::need!("env");
    let slipway = Slipway::new();
    let context = slipway.context("steps", &[("Dockerfile", &format!("FROM base\nRUN {LOOK} > /seen\n"))]);
    let context = context.to_str().unwrap();
    let among = ["HUP", "INT", "QUIT", "TERM", "CHLD", "PIPE"].map(|name| format!("signal={name}"));
    let told = |state: &&Vec<String>| state.iter().all(|flag| among.iter().any(|name| flag.ends_with(name)));
    let all = states();
    for state in all[..3].iter().chain(all[3..].iter().filter(told)) {
        let flags = ["build", "--no-cache", "-t", "seen", context];
        run(&mut by(&slipway, &words(state), &flags)).ok();
        assert_eq!(slipway.shell("seen", "cat /seen"), NONE, "{state:?}");
    }
}

/// Whatever the caller did with a signal, it stops what runs.
const STOPPING: [(&str, Signal, i32); 3] =
    [("TERM", Signal::TERM, 15), ("INT", Signal::INT, 2), ("QUIT", Signal::QUIT, 3)];

fn stopping() -> impl Iterator<Item = ([String; 1], Signal, i32)> {
    STOPPING.into_iter().flat_map(|(name, signal, number)| {
        ["ignore", "block"].map(|state| ([format!("--{state}-signal={name}")], signal, number))
    })
}

#[test]
fn a_run_and_a_build_can_be_stopped_whoever_started_them() {
    slipway_skip::need!("env");
    let slipway = Slipway::new();
    for (place, (state, signal, number)) in stopping().enumerate() {
        let seconds = (40_000 + 16 * (std::process::id() % 1000) + place as u32).to_string();
        // the number is no word of env's and slipway's own command lines
        let script = format!("exec sleep {seconds}");
        let flags = ["run", "--rm", "base", "sh", "-c", &script];
        let runs = start(&mut by(&slipway, &words(&state), &flags));
        wait_until("it executes sleep", || processes_with(&seconds) > 0);
        runs.signal(signal);
        assert_eq!(runs.wait().code(), Some(128 + number), "run {state:?}");
        let recipe = format!("FROM base\nRUN exec sleep {seconds}\n");
        let context = slipway.context(&format!("stop{place}"), &[("Dockerfile", &recipe)]);
        let flags = ["build", context.to_str().unwrap()];
        let builds = start(&mut by(&slipway, &words(&state), &flags));
        wait_until("the step runs", || processes_with(&seconds) > 0);
        builds.signal(signal);
        let ended = builds.wait();
        assert!(!ended.status.success(), "build {state:?}: {}", ended.stderr);
        wait_until("the step is gone", || processes_with(&seconds) == 0);
    }
}

#[test]
fn a_server_can_be_stopped_whoever_started_it() {
    slipway_skip::need!("env");
    let slipway = Slipway::empty();
    let states = stopping().filter(|(_, signal, _)| *signal != Signal::QUIT);
    for (place, (state, signal, _)) in states.enumerate() {
        let (address, storage) = (free_address(), slipway.path(&format!("storage{place}")));
        let words_of = ["serve", "--listen", &address, "--storage", storage.to_str().unwrap()];
        let mut server =
            Server::start(by(&slipway, &words(&state), &words_of).stderr(Stdio::null()), &address);
        assert!(server.end(signal).success(), "{state:?}");
    }
}

#[test]
fn a_pull_can_be_stopped_whoever_started_it() {
    slipway_skip::need!("env");
    let slipway = Slipway::empty();
    for (state, signal, number) in stopping() {
        // a registry that takes the question and never answers
        let registry = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("{}/x", registry.local_addr().unwrap());
        let pulls = start(&mut by(&slipway, &words(&state), &["pull", &name]));
        let asked = registry.accept().unwrap();
        pulls.signal(signal);
        let ended = pulls.wait();
        let told = ended.status.signal().map(|signal| 128 + signal).or(ended.code());
        assert_eq!(told, Some(128 + number), "{state:?}: {}", ended.stderr);
        drop(asked);
    }
}

#[test]
fn nohup_s_word_is_kept() {
    slipway_skip::need!("env");
    let slipway = Slipway::empty();
    let address = free_address();
    let storage = slipway.path("storage");
    let words = ["serve", "--listen", &address, "--storage", storage.to_str().unwrap()];
    let mut command = by(&slipway, &["--ignore-signal=HUP"], &words);
    let mut server = Server::start(command.stderr(Stdio::null()), &address);
    let pid = rustix::process::Pid::from_raw(server.id() as i32).unwrap();
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(std::net::TcpStream::connect(&address).is_ok(), "the terminal's end ended it");
    assert!(server.end(Signal::TERM).success());
}

/// A shell's line around the program, which is `"$0"`.
fn shell(slipway: &Slipway, line: &str) -> Ended {
    let mut command = Command::new("bash");
    command.args(["-c", line]).arg(binary()).env("SLIPWAY_ROOT", &slipway.root).env("NO_COLOR", "1");
    run(command.env("HOME", slipway.path("")).env_remove("SOURCE_DATE_EPOCH").env_remove("TMPDIR"))
}

#[test]
fn poor_surroundings_are_enough() {
    slipway_skip::need!("bash", "env");
    let slipway = Slipway::new();
    let context =
        slipway.context("poor", &[("Dockerfile", "FROM base\nCOPY f /f\nRUN cat /f > /g\n"), ("f", "x\n")]);
    let gone = slipway.path("gone");
    let (root, context, gone) = (slipway.root.display(), context.display(), gone.display());
    let build = format!("\"$0\" build --no-cache -q -t poor {context}");
    let run = "\"$0\" run --rm base cat /etc/motd >/dev/null";
    let lines = [
        format!("{run} <&- && {build} <&-"),
        format!("{build} >&-"),
        format!("{run} 2>&- && {build} 2>&-"),
        format!("{build} <&- >&- 2>&-"),
        format!("mkdir {gone} && cd {gone} && rmdir {gone} && {run} && {build}"),
        format!("env -i SLIPWAY_ROOT={root} \"$0\" run --rm base true"),
        format!("env -i \"$0\" --root {root} build --no-cache {context}"),
        format!("env -u HOME -u PATH \"$0\" build --no-cache {context}"),
        format!("TMPDIR=/nowhere/at/all; export TMPDIR; {run} && {build}"),
        format!("HOME=/nowhere/at/all; export HOME; {run} && {build}"),
        format!("HOME=; TMPDIR=; export HOME TMPDIR; {run} && {build}"),
        format!("ulimit -n 64; {run} && {build}"),
        format!("ulimit -c 0; ulimit -s 1024; {run} && {build}"),
        format!("umask 777; {run} && {build}"),
        format!("umask 000; {run} && {build}"),
    ];
    for line in lines {
        let ended = shell(&slipway, &line);
        assert_eq!(ended.code(), Some(0), "{line}\n{}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn a_limit_on_files_is_an_error_with_words() {
    slipway_skip::need!("bash");
    let slipway = Slipway::new();
    let recipe = "FROM base\nRUN head -c 400000 /dev/urandom > /f\n";
    let context = slipway.context("limit", &[("Dockerfile", recipe)]);
    // without the program's care the kernel would end it by SIGXFSZ
    let line = format!("ulimit -f 100; exec \"$0\" build {}", context.display());
    let ended = shell(&slipway, &line);
    assert_eq!(ended.status.signal(), None, "{}", ended.stderr);
    ended.fails(1);
    let line = "ulimit -f 100; exec \"$0\" save -o \"$HOME/out\" base";
    let message = shell(&slipway, line).fails(1);
    assert!(message.to_lowercase().contains("too large"), "{message}");
}
