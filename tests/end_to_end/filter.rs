//! System call filters of the caller's own.

use crate::support::Slipway;
use std::fs;

/// Issue 7, D3: any profile, installed after all that we do ourselves.
#[test]
fn a_callers_own_filter_holds_for_the_command_alone() {
    let slipway = Slipway::new();
    let file = slipway.path("profile.json");
    let run = |profile: &str, words: &[&str]| {
        fs::write(&file, profile).unwrap();
        let option = format!("seccomp={}", file.display());
        slipway.run([&["run", "--rm", "--security-opt", &option], words].concat())
    };
    let denied = |names: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_ERRNO"}}]}}"#
        )
    };
    let seen =
        run(&denied(r#""mkdir", "mkdirat""#), &["base", "sh", "-c", "mkdir /x || echo refused; echo fine"]);
    assert_eq!(seen.stdout, "refused\nfine\n", "{}", seen.stderr);
    let ours = r#""setresuid", "setresgid", "setgroups", "setuid", "setgid", "prctl", "chdir", "umask", "setsid", "unshare",
        "mount", "move_mount", "pivot_root", "close_range", "dup3", "sendmsg", "keyctl", "openat2", "prlimit64", "seccomp""#;
    for flags in [
        &["-u", "1000:50", "-w", "/tmp"][..],
        &["-u", "0"],
        &["--security-opt", "no-new-privileges"],
        &["--init"],
    ] {
        let words = [flags, &["base", "/bin/busybox", "echo", "there"]].concat();
        assert_eq!(run(&denied(ours), &words).ok(), "there\n", "{flags:?}");
    }
    let none = slipway.ok([
        "run",
        "--rm",
        "--security-opt",
        "seccomp=unconfined",
        "base",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ]);
    assert_eq!(none, "Seccomp:\t0\n");
    let builtin = slipway.ok([
        "run",
        "--rm",
        "--security-opt",
        "seccomp=builtin",
        "base",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ]);
    assert_eq!(builtin, "Seccomp:\t2\n");
    let killed = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    assert_eq!(run(killed, &["base", "mkdir", "/x"]).code(), Some(128 + 31));
    let message = run(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, &["base", "true"]).fails(125);
    assert!(message.contains("profile.json") && message.contains("SCMP_ACT_NOTIFY"), "{message}");
    let message = slipway.fails(125, ["run", "--security-opt", "seccomp=/no/such/file", "base", "true"]);
    assert!(message.contains("/no/such/file"), "{message}");
    let message = slipway.fails(125, ["run", "--security-opt", "seccomp=", "base", "true"]);
    assert!(message.contains("seccomp=FILE"), "{message}");
}
