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
                    _ => panic!("load of {operand}"),
                }
            }
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
    program(Seccomp::Default, CapabilitySet::DOCKER, false)
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
    let admin = program(Seccomp::Default, CapabilitySet::ALL, false);
    for name in ["mount", "unshare", "clone3", "bpf", "setns", "open_by_handle_at", "reboot"] {
        assert_eq!(native(&admin, name, [0; 6]), ALLOW, "{name}");
        assert_ne!(native(&docker(), name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(native(&admin, "clone", [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(native(&admin, "keyctl", [0; 6]), EPERM);
    assert_eq!(native(&docker(), "chroot", [0; 6]), ALLOW);
    assert_eq!(native(&program(Seccomp::Default, CapabilitySet::NONE, false), "chroot", [0; 6]), EPERM);
}

#[test]
fn changes_of_owner_are_left_to_a_listener_where_owners_are_beside() {
    const LISTENER: u32 = 0x7FC0_0000;
    for mode in [Seccomp::Default, Seccomp::Unconfined] {
        let program = program(mode, CapabilitySet::DOCKER, true);
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
    let free = program(Seccomp::Unconfined, CapabilitySet::DOCKER, true);
    assert_eq!(native(&free, "mount", [0; 6]), ALLOW);
    assert!(filter(Seccomp::Unconfined, CapabilitySet::DOCKER, false).is_none());
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
    let one = filter(Seccomp::Default, CapabilitySet::DOCKER, false).unwrap();
    let two = filter(Seccomp::Default, CapabilitySet::DOCKER, false).unwrap();
    assert!(Arc::ptr_eq(&one, &two));
}
