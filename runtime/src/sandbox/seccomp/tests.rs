//! The compiled programs, run by an interpreter of the few instructions they use.

use super::table::{Machine, rows};
use super::*;

const ALLOW: u32 = 0x7FFF_0000;
const KILL: u32 = 0x8000_0000;
const fn errno(number: i32) -> u32 {
    0x0005_0000 | number as u32
}
const EPERM: u32 = errno(libc::EPERM);
const ENOSYS: u32 = errno(libc::ENOSYS);
#[cfg(target_arch = "x86_64")]
const MACHINES: [(u32, Machine); 2] = [(0xC000_003E, Machine::X86_64), (0x4000_0003, Machine::I386)];
#[cfg(target_arch = "aarch64")]
const MACHINES: [(u32, Machine); 2] = [(0xC000_00B7, Machine::Aarch64), (0x4000_0028, Machine::Arm)];

/// Runs a program; gives its answer and how many instructions it took.
fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> (u32, usize) {
    let (mut accumulator, mut place, mut steps) = (0u32, 0usize, 0usize);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = program[place];
        place += 1;
        steps += 1;
        let mut branch = |taken: bool| place += usize::from(if taken { jump_true } else { jump_false });
        match code {
            0x20 => {
                accumulator = match operand {
                    0 => number,
                    4 => arch,
                    16..64 if operand % 8 == 0 => args[(operand as usize - 16) / 8] as u32,
                    16..64 if operand % 4 == 0 => (args[(operand as usize - 16) / 8] >> 32) as u32,
                    _ => panic!("load of {operand}"),
                }
            }
            0x54 => accumulator &= operand,
            0x25 => branch(accumulator > operand),
            0x05 => place += operand as usize,
            0x15 => branch(accumulator == operand),
            0x35 => branch(accumulator >= operand),
            0x45 => branch(accumulator & operand != 0),
            0x06 => return (operand, steps),
            _ => panic!("instruction {code:#x}"),
        }
    }
}

fn docker() -> Vec<Instruction> {
    program(&Seccomp::Default, CapabilitySet::DOCKER, false)
}

fn number(name: &str) -> u32 {
    rows().iter().find(|row| row.name == name).unwrap().number(MACHINES[0].1).unwrap()
}

fn native(program: &[Instruction], name: &str, args: [u64; 6]) -> u32 {
    run(program, MACHINES[0].0, number(name), args).0
}

#[test]
fn every_plain_row_gets_its_answer_on_both_machines() {
    let program = docker();
    for (arch, machine) in MACHINES {
        for row in rows() {
            let Some(number) = row.number(machine) else { continue };
            let expected = match row.rule {
                "allow" | "owner" | "sys_chroot" => ALLOW,
                "clone3" => ENOSYS,
                "clone" | "socket" | "personality" | "ioctl" => continue,
                _ => EPERM,
            };
            assert_eq!(run(&program, arch, number, [0; 6]).0, expected, "{} on {machine:?}", row.name);
        }
    }
}

#[test]
fn unknown_numbers_and_machines_are_refused() {
    let program = docker();
    for unknown in [470, 1000, 0x4000_0000, 0x4000_0001, u32::MAX] {
        assert_eq!(run(&program, MACHINES[0].0, unknown, [0; 6]).0, ENOSYS, "{unknown:#x}");
    }
    assert_eq!(run(&program, 0xC000_0016, 0, [0; 6]).0, KILL);
}

#[test]
fn arguments_decide_by_their_low_half() {
    let program = docker();
    let high = 0xDEAD_0000_0000;
    for family in 0..60u64 {
        let allowed = family < 12
            || (13..=18).contains(&family) && family != 12
            || [21, 22, 24, 35, 36, 39].contains(&family)
            || (26..=33).contains(&family)
            || (41..=45).contains(&family);
        let expected = if allowed { ALLOW } else { EPERM };
        assert_eq!(native(&program, "socket", [family, 1, 0, 0, 0, 0]), expected, "family {family}");
        assert_eq!(
            native(&program, "socket", [high | family, 1, 0, 0, 0, 0]),
            expected,
            "family {family}, high half"
        );
    }
    for (persona, expected) in
        [(0, ALLOW), (8, ALLOW), (0x20008, ALLOW), (0xFFFF_FFFF, ALLOW), (0x40000, EPERM)]
    {
        assert_eq!(native(&program, "personality", [persona, 0, 0, 0, 0, 0]), expected);
    }
    assert_eq!(native(&program, "clone", [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), ALLOW);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWCGROUP] {
        assert_eq!(native(&program, "clone", [flag as u64 | high, 0, 0, 0, 0, 0]), EPERM);
    }
    for command in [0x5412u64, 0x541C] {
        assert_eq!(native(&program, "ioctl", [0, command, 0, 0, 0, 0]), EPERM);
        assert_eq!(native(&program, "ioctl", [0, high | command, 0, 0, 0, 0]), EPERM);
    }
    assert_eq!(native(&program, "ioctl", [0, 0x5413, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn capabilities_open_their_calls() {
    let admin = program(&Seccomp::Default, CapabilitySet::ALL, false);
    for name in ["mount", "unshare", "clone3", "bpf", "setns", "open_by_handle_at", "reboot"] {
        assert_eq!(native(&admin, name, [0; 6]), ALLOW, "{name}");
        assert_ne!(native(&docker(), name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(native(&admin, "clone", [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(native(&admin, "keyctl", [0; 6]), EPERM);
    assert_eq!(native(&docker(), "chroot", [0; 6]), ALLOW);
    assert_eq!(native(&program(&Seccomp::Default, CapabilitySet::NONE, false), "chroot", [0; 6]), EPERM);
}

#[test]
fn changes_of_owner_are_left_to_a_listener_where_owners_are_beside() {
    const LISTENER: u32 = 0x7FC0_0000;
    for mode in [Seccomp::Default, Seccomp::Unconfined] {
        let program = program(&mode, CapabilitySet::DOCKER, true);
        for name in ["fchown", "fchownat"] {
            assert_eq!(native(&program, name, [0; 6]), LISTENER, "{name}");
        }
        for name in ["setuid", "setresgid", "setgroups", "read"] {
            assert_eq!(
                native(&program, name, [0; 6]),
                ALLOW,
                "{name}: the kernel's own answer is the true one"
            );
        }
        let (other, machine) = MACHINES[1];
        let number = rows().iter().find(|row| row.name == "fchown").unwrap().number(machine).unwrap();
        assert_eq!(run(&program, other, number, [0; 6]).0, EPERM);
    }
    let free = program(&Seccomp::Unconfined, CapabilitySet::DOCKER, true);
    assert_eq!(native(&free, "mount", [0; 6]), ALLOW);
    assert!(filter(&Seccomp::Unconfined, CapabilitySet::DOCKER, false).unwrap().is_empty());
}

#[test]
fn installing_stays_cheap() {
    let program = docker();
    let (mut longest, mut sum) = (0, 0);
    for number in 0..470 {
        let steps = run(&program, MACHINES[0].0, number, [0; 6]).1;
        (longest, sum) = (longest.max(steps), sum + steps);
    }
    assert!(program.len() < 512, "{} instructions", program.len());
    assert!(longest < 40 && sum / 470 < 16, "longest path {longest}, mean {}", sum / 470);
}

#[test]
fn programs_are_kept() {
    let one = filter(&Seccomp::Default, CapabilitySet::DOCKER, false).unwrap();
    let two = filter(&Seccomp::Default, CapabilitySet::DOCKER, false).unwrap();
    assert!(Arc::ptr_eq(&one[0], &two[0]));
}

fn custom(json: &str, capabilities: CapabilitySet) -> Vec<Instruction> {
    let profile = Profile::parse("test", json.as_bytes()).unwrap();
    program(&Seccomp::Profile(Arc::new(profile)), capabilities, false)
}

#[test]
fn a_callers_profile_answers_as_it_says() {
    const LOG: u32 = 0x7FFC_0000;
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [
        {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
        {"name": "write", "action": "SCMP_ACT_LOG"},
        {"names": ["openat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        {"names": ["dup"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["close"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4000.1"}},
        {"names": ["setns"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}, "args": []},
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
        {"names": ["getpid"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let (plain, admin) = (custom(json, CapabilitySet::DOCKER), custom(json, CapabilitySet::ALL));
    for (name, argument, expected) in [
        ("read", 0, ALLOW),
        ("write", 0, LOG),
        ("openat", 0, errno(13)),
        ("dup", 0, EPERM),
        ("close", 0, KILL),
        ("mount", 0, errno(38)),
        ("chroot", 0, ALLOW),
        ("bpf", 0, errno(38)),
        ("setns", 0, errno(38)),
        ("getpid", 5, EPERM),
        ("getpid", 6, ALLOW),
        ("getuid", 0, errno(38)),
    ] {
        assert_eq!(native(&plain, name, [argument, 0, 0, 0, 0, 0]), expected, "{name} {argument}");
    }
    assert_eq!(native(&admin, "mount", [0; 6]), ALLOW);
    assert_eq!(native(&admin, "chroot", [0; 6]), errno(38));
    assert_eq!(run(&plain, MACHINES[1].0, 3, [0; 6]).0, KILL, "a machine that it does not name");
    assert_eq!(run(&plain, MACHINES[0].0, 5000, [0; 6]).0, ENOSYS);
    let open = custom(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": null}"#.replace("null", "[]").as_str(),
        CapabilitySet::NONE,
    );
    assert_eq!(run(&open, MACHINES[0].0, 5000, [0; 6]).0, ALLOW);
    assert_eq!(run(&open, MACHINES[0].0, 0x4000_0001, [0; 6]).0, ENOSYS, "x32");
}

/// Every comparison over values around 32 and 64 bits, alone and two of them in one rule.
#[test]
fn comparisons_of_a_callers_profile_are_64_bits_wide() {
    let edges = [0u64, 1, 7, 0xFFFF_FFFF, 0x1_0000_0000, 0x1_0000_0007, u64::MAX - 1, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let comparisons: [(&str, Holds); 7] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
        ("MASKED_EQ", |a, b| a & b == b & 0xFF_0000_0005),
    ];
    for (word, holds) in comparisons {
        for value in edges {
            let second = value & 0xFF_0000_0005;
            let one =
                format!(r#"{{"index": 2, "value": {value}, "valueTwo": {second}, "op": "SCMP_CMP_{word}"}}"#);
            let two = format!(r#"{one}, {{"index": 5, "value": 7, "op": "SCMP_CMP_GE"}}"#);
            let profile = |args: &str| {
                let json = format!(
                    r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                    {{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
                );
                custom(&json, CapabilitySet::DOCKER)
            };
            let (alone, both) = (profile(&one), profile(&two));
            for argument in edges {
                let answer = |holds: bool| if holds { ALLOW } else { EPERM };
                let held = holds(argument, value);
                assert_eq!(
                    native(&alone, "ioctl", [0, 0, argument, 0, 0, 0]),
                    answer(held),
                    "{argument:x} {word} {value:x}"
                );
                for last in [6, 7] {
                    let args = [0, 0, argument, 0, 0, last];
                    assert_eq!(
                        native(&both, "ioctl", args),
                        answer(held && last == 7),
                        "{argument:x} {word} {value:x}"
                    );
                }
            }
        }
    }
}

#[test]
fn profiles_that_cannot_be_kept_are_refused_by_name() {
    for (json, word) in [
        ("[]", "docker's form"),
        ("{", "docker's form"),
        (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
        (r#"{"defaultAction": "SCMP_ACT_TRACE"}"#, "SCMP_ACT_TRACE"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "allow"}]}"#,
            "`allow`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "argument 6",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
             "includes": {"caps": ["CAP_NONE"]}}]}"#,
            "CAP_NONE",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
             "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "archMap",
        ),
    ] {
        let error = Profile::parse("test", json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{json}: {error}");
    }
}

/// A profile with this many conditional rules for each of some calls, whose answer is their number's.
fn long(calls: &[&str], rules: u64) -> String {
    let call = |(place, name): (usize, &&str)| {
        let rule = |value: u64| {
            let argument = format!(r#"{{"index":1,"value":{value},"op":"SCMP_CMP_EQ"}}"#);
            let errno = 1 + (place as u64 * 7 + value) % 100;
            format!(
                r#"{{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":{errno},"args":[{argument}]}}"#
            )
        };
        (0..rules).map(rule).collect::<Vec<_>>().join(",")
    };
    let all: Vec<String> = calls.iter().enumerate().map(call).collect();
    format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#, all.join(","))
}

/// The answer that the kernel gives to several programs: the most restrictive one.
fn together(programs: &[Vec<Instruction>], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    // seccomp(2): kill process, kill thread, trap, errno, listener, trace, log, allow: as signed numbers
    programs
        .iter()
        .map(|program| run(program, arch, number, args).0)
        .min_by_key(|answer| *answer as i32)
        .unwrap()
}

#[test]
fn long_profiles_are_divided_and_mean_the_same() {
    let names = [
        "read",
        "openat",
        "socket",
        "fchownat",
        "seccomp",
        "ioctl",
        "statx",
        "chown",
        "execve",
        "futex_wait",
    ];
    let default_kill = |json: String| json.replacen("SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", 1);
    for (rules, beside) in [(60, false), (200, false), (200, true), (450, false)] {
        for json in [long(&names, rules), default_kill(long(&names, rules))] {
            let profile = Profile::parse("long", json.as_bytes()).unwrap();
            let mode = Seccomp::Profile(Arc::new(profile));
            let whole = program(&mode, CapabilitySet::DOCKER, beside);
            let parts = programs(&mode, CapabilitySet::DOCKER, beside).unwrap();
            assert_eq!(parts.len() > 1, whole.len() > 4096, "{rules}");
            assert!(parts.iter().all(|part| part.len() <= 4096));
            for (arch, _) in profile::NATIVE {
                for number in (0..600).chain([0x4000_0001, 0x7FFF_FFFF]) {
                    for argument in [0, 1, rules - 1, rules, 1 << 40] {
                        let args = [0, argument, 0, 0, 0, 0];
                        let expected = run(&whole, arch, number, args).0;
                        assert_eq!(
                            together(&parts, arch, number, args),
                            expected,
                            "{arch:x} {number} {argument}"
                        );
                    }
                }
            }
            // the one that answers for the call which installs them comes last
            let call = [0, 3, 0, 0, 0, 0];
            let answering =
                |part: &Vec<Instruction>| run(part, profile::NATIVE[0].0, number("seccomp"), call).0 != ALLOW;
            assert_eq!(parts.iter().position(answering), Some(parts.len() - 1));
            // at most one has a listener, and it is the first
            let listens =
                |part: &Vec<Instruction>| part.iter().any(|one| one.code == 6 && one.operand == 0x7FC0_0000);
            assert!(parts.iter().skip(1).all(|part| !listens(part)));
        }
    }
}

#[test]
fn profiles_that_are_too_long_in_any_form_say_so() {
    let too_long = |json: String| {
        let mode = Seccomp::Profile(Arc::new(Profile::parse("long", json.as_bytes()).unwrap()));
        let Err(long) = programs(&mode, CapabilitySet::DOCKER, false) else { panic!("it is taken") };
        long
    };
    // one call alone, and all of them
    let one = too_long(long(&["read"], 2000));
    assert!(one.most == 4096 && one.instructions > 4096, "{one:?}");
    let all = too_long(long(
        &["read", "write", "openat", "socket", "ioctl", "statx", "execve", "fchown", "bind", "dup"],
        700,
    ));
    assert!(all.most == 32_768 && all.instructions > 32_768, "{all:?}");
}
