//! Docker's default profile over the table: an answer for every number of every machine (moby profiles/seccomp).

use super::custom::Rule;
use super::table::{Machine, Row, rows};
use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::spec::Seccomp;

/// What a filter answers. Conditions look at the low half of one argument: all of these are 32 bits wide to the kernel,
/// which ignores the rest, and so must the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Go on.
    Allow,
    /// Fail with this number.
    Errno(u16),
    /// These bits of the kernel's.
    Return(u32),
    /// The first rule whose conditions hold, else these bits.
    Rules { rules: Vec<Rule>, otherwise: u32 },
    /// Wait for the answer of whoever holds the listener.
    Listener,
    /// If the argument equals one of the values, the first answer, else the second.
    OneOf { argument: u8, values: &'static [u32], then: Plain, otherwise: Plain },
    /// If any of the bits is set in the argument, the first answer, else the second.
    AnyBit { argument: u8, bits: u32, then: Plain, otherwise: Plain },
}

/// An answer without a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    Allow,
    Errno(u16),
}

/// One architecture's answers.
pub(super) struct MachineRules {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    pub(super) audit: u32,
    /// Number and answer, sorted by number.
    pub(super) answers: Vec<(u32, Answer)>,
    /// For numbers that the table has not.
    pub(super) newer: u32,
}

const EPERM: u16 = libc::EPERM as u16;
/// `SECCOMP_RET_ERRNO` with ENOSYS: C libraries fall back to older calls.
const RETURN_ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
const ENOSYS: u16 = libc::ENOSYS as u16;

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const NAMESPACE_FLAGS: u32 = 0x7E02_0000;
/// Linux, linux32, UNAME26 and both, and the query.
const PERSONALITIES: &[u32] = &[0, 8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];
/// `TIOCSTI` and `TIOCLINUX` (asm-generic/ioctls.h).
const TERMINAL_INJECTION: &[u32] = &[0x5412, 0x541C];
/// The address families that docker lets open (linux/socket.h): not DECnet (12), ALG (38), VSOCK (40) and others that
/// containers have no use for and attackers have had.
const SOCKET_FAMILIES: &[u32] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33,
    35, 36, 39, 41, 42, 43, 44, 45,
];

/// The machines that the running one can execute programs of, itself first: `AUDIT_ARCH_*` and column.
pub(super) const NATIVE: [(u32, Machine); 2] = if cfg!(target_arch = "x86_64") {
    [(0xC000_003E, Machine::X86_64), (0x4000_0003, Machine::I386)]
} else {
    [(0xC000_00B7, Machine::Aarch64), (0x4000_0028, Machine::Arm)]
};

/// What those machines' calls are answered; `beside` leaves changes of owner to a listener.
pub(super) fn machines(mode: &Seccomp, capabilities: CapabilitySet, beside: bool) -> Vec<MachineRules> {
    if let Seccomp::Profile(profile) = mode {
        return profile.machines(capabilities, beside);
    }
    let rules = |&(audit, machine): &(u32, Machine)| {
        let answer = |row: &Row| {
            Some((row.number(machine)?, answer(row, mode, capabilities, beside.then_some(machine))))
        };
        let mut answers: Vec<_> = rows().iter().filter_map(answer).collect();
        answers.sort_by_key(|(number, _)| *number);
        MachineRules { audit, answers, newer: RETURN_ENOSYS }
    };
    NATIVE.iter().map(rules).collect()
}

fn answer(row: &Row, mode: &Seccomp, capabilities: CapabilitySet, beside: Option<Machine>) -> Answer {
    // of programs for other machines the listener does not know the arguments
    if let (true, Some(machine)) = (row.rule == "owner", beside) {
        return if machine == NATIVE[0].1 { Answer::Listener } else { Answer::Errno(EPERM) };
    }
    if *mode == Seccomp::Unconfined {
        return Answer::Allow;
    }
    let is_admin = capabilities.intersects(CapabilitySet::SYS_ADMIN);
    match row.rule {
        "allow" | "owner" => Answer::Allow,
        "deny" => Answer::Errno(EPERM),
        // C libraries take ENOSYS as "use clone instead", whose flags a filter can see.
        "clone3" => {
            if is_admin {
                Answer::Allow
            } else {
                Answer::Errno(ENOSYS)
            }
        }
        "clone" if is_admin => Answer::Allow,
        "clone" => Answer::AnyBit {
            argument: 0,
            bits: NAMESPACE_FLAGS,
            then: Plain::Errno(EPERM),
            otherwise: Plain::Allow,
        },
        "socket" => one_of(0, SOCKET_FAMILIES, Plain::Allow, Plain::Errno(EPERM)),
        "personality" => one_of(0, PERSONALITIES, Plain::Allow, Plain::Errno(EPERM)),
        "ioctl" => one_of(1, TERMINAL_INJECTION, Plain::Errno(EPERM), Plain::Allow),
        names => {
            let wanted: CapabilitySet = names.split('+').filter_map(|name| name.parse().ok()).collect();
            if wanted.intersects(capabilities) { Answer::Allow } else { Answer::Errno(EPERM) }
        }
    }
}

fn one_of(argument: u8, values: &'static [u32], then: Plain, otherwise: Plain) -> Answer {
    Answer::OneOf { argument, values, then, otherwise }
}
