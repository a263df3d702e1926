//! A container can always be stopped (issue 7, B18).

use crate::support::{Ended, Slipway, Started, run, start, wait_until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::time::Duration;

/// How long a container that is ended at once may take on a loaded machine; half of the grace.
const AT_ONCE: Duration = Duration::from_secs(8);

/// `run FLAGS IMAGE sh -c SCRIPT`, begun when the script has made `/ready/1`.
fn ready(slipway: &Slipway, name: &str, image: &str, flags: &[&str], script: &str) -> Started {
    let folder = slipway.context(name, &[]);
    let volume = format!("{}:/ready", folder.display());
    let words = [&["run", "--rm", "-v", &volume], flags, &[image, "sh", "-c", script]].concat();
    let started = start(&mut slipway.command(words));
    wait_until("the container runs", || folder.join("1").exists());
    started
}

/// What is sent, 50 ms apart, and how it ended.
fn sent(started: Started, signals: &[Signal]) -> Ended {
    for signal in signals {
        started.signal(*signal);
        std::thread::sleep(Duration::from_millis(50));
    }
    started.wait()
}

const LOOP: &str = "touch /ready/1; while :; do sleep 0.05; done";

#[test]
fn a_signal_ends_a_program_that_has_no_handler_for_it() {
    let slipway = Slipway::new();
    let cases = [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)];
    for (signal, status) in cases {
        for flags in [&[][..], &["--init"]] {
            let name = format!("{status}{}", flags.len());
            let seconds = format!("{status}{}{}", flags.len(), 10_000 + std::process::id() % 10_000);
            let script = format!("touch /ready/1; exec sleep {seconds}");
            let started = ready(&slipway, &name, "base", flags, &script);
            // a shell has handlers of its own until then
            wait_until("it executes sleep", || crate::support::processes_with(&seconds) > 0);
            let ended = sent(started, &[signal]);
            assert_eq!(ended.code(), Some(status), "{flags:?} {signal:?}: {}", ended.stderr);
            assert!(ended.took < AT_ONCE, "{flags:?} {signal:?}: {:?}", ended.took);
        }
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}

#[test]
fn timeout_ends_a_container() {
    slipway_skip::need!("timeout");
    let slipway = Slipway::new();
    let mut command = std::process::Command::new("timeout");
    command.arg("2").arg(crate::support::binary()).args(["run", "--rm", "base", "sleep", "1000"]);
    let ended = run(command.env("SLIPWAY_ROOT", &slipway.root));
    assert_eq!(ended.code(), Some(124), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(2) + AT_ONCE, "{:?}", ended.took);
}

#[test]
fn what_ignores_term_has_a_grace() {
    let slipway = Slipway::new();
    for (place, ignore) in ["trap '' TERM", "trap '' TERM INT", "trap 'echo no' TERM"].iter().enumerate() {
        for init in [false, true] {
            let flags = [&["--stop-timeout", "1"][..], if init { &["--init"] } else { &[] }].concat();
            let script = format!("{ignore}; {LOOP}");
            let name = format!("{place}{init}");
            let ended = sent(ready(&slipway, &name, "base", &flags, &script), &[Signal::TERM]);
            assert_eq!(ended.code(), Some(137), "{ignore} {init}: {}", ended.stderr);
            assert!(ended.stderr.contains("within 1 s"), "{ignore} {init}: {}", ended.stderr);
            assert!(ended.took < AT_ONCE, "{ignore} {init}: {:?}", ended.took);
        }
    }
}

#[test]
fn what_ignores_interrupts_ends_with_the_second_or_third() {
    let slipway = Slipway::new();
    let interrupt = Signal::INT;
    let flags = ["--stop-timeout", "60"];
    let script = format!("trap '' INT; trap 'exit 7' TERM; {LOOP}");
    let ended = sent(ready(&slipway, "a", "base", &flags, &script), &[interrupt; 2]);
    assert_eq!(ended.code(), Some(7), "{}", ended.stderr);
    let script = format!("trap '' INT TERM; {LOOP}");
    let ended = sent(ready(&slipway, "b", "base", &flags, &script), &[interrupt; 3]);
    assert_eq!(ended.code(), Some(137), "{}", ended.stderr);
    // a handler that does not end it; at a prompt it takes one more
    for (name, more, count) in [("c", None, 3), ("d", Some("-i"), 4)] {
        let script = format!("trap 'echo at the prompt' INT; trap '' TERM; {LOOP}");
        let flags: Vec<&str> = flags.into_iter().chain(more).collect();
        let ended = sent(ready(&slipway, name, "base", &flags, &script), &vec![interrupt; count]);
        assert_eq!(ended.code(), Some(137), "{}", ended.stderr);
        assert!(ended.stdout.contains("at the prompt"), "{}", ended.stdout);
    }
}

#[test]
fn the_stop_signal_is_the_flags_or_the_images() {
    let slipway = Slipway::new();
    let script =
        format!("trap 'echo quit; exit 3' QUIT; trap 'echo usr1; exit 4' USR1; trap '' TERM; {LOOP}");
    slipway.build("quits", "FROM base\nSTOPSIGNAL SIGQUIT\n", &[]).ok();
    slipway.build("real", "FROM base\nSTOPSIGNAL RTMIN+3\n", &[]).ok();
    let cases: [(&str, &[&str], i32); 5] = [
        ("quits", &[], 3),
        ("quits", &["--stop-signal", "usr1"], 4),
        ("base", &["--stop-signal=10"], 4),
        // a signal that nobody handles ends what it is sent to
        ("real", &[], 128 + 37),
        ("base", &["--init", "--stop-signal=USR1"], 4),
    ];
    for (place, (image, flags, status)) in cases.into_iter().enumerate() {
        let ended = sent(ready(&slipway, &place.to_string(), image, flags, &script), &[Signal::TERM]);
        assert_eq!(ended.code(), Some(status), "{image} {flags:?}: {}", ended.stderr);
    }
    for bad in ["SIGNOPE", "0", "65", "RTMIN+31"] {
        let message = slipway.fails(125, ["run", "--stop-signal", bad, "base", "true"]);
        assert!(message.contains(bad), "{message}");
    }
}

#[test]
fn a_terminals_keys_end_what_has_no_handler() {
    let slipway = Slipway::new();
    for (key, status) in [(b"\x03", 130), (b"\x1c", 131)] {
        let seconds = format!("{status}{}", 100_000 + std::process::id() % 10_000);
        let script = format!("echo on; exec sleep {seconds}");
        let (mut ours, theirs) = crate::support::terminal();
        let mut command = slipway.command(["run", "--rm", "-it", "base", "sh", "-c", &script]);
        command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut seen = Vec::new();
        let mut piece = [0; 64];
        while !seen.ends_with(b"on\r\n") {
            let count = ours.read(&mut piece).unwrap();
            seen.extend_from_slice(&piece[..count]);
        }
        wait_until("it executes sleep", || crate::support::processes_with(&seconds) > 0);
        ours.write_all(key).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status));
    }
}

#[test]
fn nohup_keeps_a_container() {
    slipway_skip::need!("nohup");
    let slipway = Slipway::new();
    let folder = slipway.context("ready", &[]);
    let volume = format!("{}:/ready", folder.display());
    let mut command = std::process::Command::new("nohup");
    command.arg(crate::support::binary()).args(["run", "--rm", "-v", &volume, "base", "sh", "-c"]);
    command.arg("touch /ready/1; until test -e /ready/2; do sleep 0.05; done; echo whole");
    let started = start(command.env("SLIPWAY_ROOT", &slipway.root).stdin(std::process::Stdio::null()));
    wait_until("the container runs", || folder.join("1").exists());
    started.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(200));
    std::fs::write(folder.join("2"), "").unwrap();
    assert_eq!(started.wait().ok(), "whole\n");
}

#[test]
fn init_is_a_first_process() {
    let slipway = Slipway::new();
    let run = |flags: &[&str], script: &str| {
        slipway.run([&["run", "--rm", "--init"], flags, &["base", "sh", "-c", script]].concat())
    };
    // the command is not the first, which is called as what it is and has neither descriptors nor variables of the caller's
    let script = "echo $$; tr '\\0' ' ' < /proc/1/cmdline | cut -c1-20; cat /proc/1/comm; ls /proc/1/fd | tr '\\n' ' '; \
                  grep -c SLIPWAY_ROOT /proc/1/environ; ls -l /proc/1/exe >/dev/null && echo; stat -c %a /tmp";
    let seen = run(&[], script).ok();
    assert!(!seen.starts_with("1\n"), "{seen}");
    assert!(seen.contains("slipway-init -- sh -\nslipway-init\n0 1 2 0\n"), "{seen}");
    // orphans are reaped
    let script = "for i in 1 2 3; do (sh -c 'sleep 0.01 & exit' &); done; sleep 0.5; \
                  grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l; ls -d /proc/[0-9]* | wc -l";
    let seen = run(&[], script).ok();
    assert!(seen.starts_with("0\n"), "{seen}");
    // statuses, users, words
    assert_eq!(run(&[], "exit 42").code(), Some(42));
    assert_eq!(run(&[], "kill -KILL $$").code(), Some(137));
    assert_eq!(
        run(&["-u", "1000:1000"], "id -u; id -g; grep CapEff /proc/1/status").ok(),
        "1000\n1000\nCapEff:\t0000000000000000\n"
    );
    let message = slipway.fails(127, ["run", "--init", "base", "nosuchprogram"]);
    assert!(message.contains("`nosuchprogram` not found"), "{message}");
    let message = slipway.fails(126, ["run", "--init", "base", "/etc/motd"]);
    assert!(message.contains("/etc/motd"), "{message}");
    assert_eq!(slipway.ok(["run", "--init", "base", "printf", "[%s]", "--", "", "-x"]), "[--][][-x]");
    assert_eq!(slipway.ok(["run", "--init=false", "base", "sh", "-c", "echo $$"]), "1\n");
}

#[test]
fn init_passes_every_signal_on() {
    let slipway = Slipway::new();
    let script = format!("trap 'echo usr1; exit 9' USR1; {LOOP}");
    let ended = sent(ready(&slipway, "usr1", "base", &["--init"], &script), &[Signal::USR1]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(9), "usr1\n"), "{}", ended.stderr);
}

#[test]
fn init_and_a_terminal_go_together() {
    let slipway = Slipway::new();
    let (mut ours, theirs) = crate::support::terminal();
    let script =
        "trap 'echo caught; exit 5' INT; echo on; read line; echo got $line; while :; do sleep 0.05; done";
    let mut command = slipway.command(["run", "--rm", "-it", "--init", "base", "sh", "-c", script]);
    command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    ours.write_all(b"typed\r").unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 256];
    while let Ok(count @ 1..) = ours.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
        if seen.ends_with(b"got typed\r\n") {
            ours.write_all(b"\x03").unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let seen = String::from_utf8_lossy(&seen);
    // once: the key's signal goes to the command alone
    assert_eq!(seen.matches("caught").count(), 1, "{seen}");
}

#[test]
fn a_step_that_ignores_signals_ends_with_its_build() {
    let slipway = Slipway::new();
    for (place, signal) in [Signal::INT, Signal::TERM].into_iter().enumerate() {
        let seconds = (80_000 + 7 * std::process::id() % 10_000 + place as u32).to_string();
        let recipe = format!("FROM base\nRUN trap '' INT TERM HUP; sh -c 'sleep {seconds}; echo over'\n");
        let folder = slipway.context(&format!("ignores{place}"), &[("Dockerfile", &recipe)]);
        let started = start(&mut slipway.command(["build".as_ref(), folder.as_os_str()]));
        wait_until("the step runs", || crate::support::processes_with(&seconds) > 0);
        started.signal(signal);
        let ended = started.wait();
        assert!(!ended.status.success(), "{}", ended.stderr);
        wait_until("the step is gone", || crate::support::processes_with(&seconds) == 0);
    }
    assert_eq!(slipway.leftovers(), Vec::<String>::new());
}
