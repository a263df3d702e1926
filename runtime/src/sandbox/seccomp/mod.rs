//! The system call filter: docker's default profile, compiled here.
//!
//! The kernel runs a new filter once for every system call number, to remember which are always allowed, so installing
//! one costs as much as its longest paths: 3 ms for a chain of a thousand comparisons, 0.2 ms for a tree. And a libseccomp
//! compilation of this profile costs 22 ms. So the table (`syscalls.tbl`) is cut into ranges of equal answers, which a binary
//! search tree (`compile.rs`) tells apart in some eight steps, and the finished program is kept.
//!
//! Beyond docker's profile: `TIOCSTI` and `TIOCLINUX`, with which a program types into the terminal it shares, are refused
//! for every ioctl. Numbers newer than the table get `ENOSYS`, so that C libraries fall back. Machine variants: i386
//! programs on x86-64 and 32-bit arm ones on arm64 run under the same rules with their own numbers; x32 numbers get `ENOSYS`
//! (docker admits them; no distribution ships them, and they have been a way around filters before).

mod compile;
mod custom;
mod profile;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::spec::Seccomp;
pub(crate) use compile::ALL_INSTRUCTIONS;
pub use compile::TooLong;
pub use custom::{PROFILE_BYTES, Profile, ProfileError};

pub use crate::sandbox::sys::seccomp::Instruction;

/// The running machine (`AUDIT_ARCH_*`, linux/audit.h).
pub(crate) const NATIVE_MACHINE: u32 = profile::NATIVE[0].0;

/// What the profile depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Variant {
    mode_default: bool,
    capabilities: CapabilitySet,
    beside: bool,
}

/// The programs for a process with these capabilities, kept for the next one; none when nothing is to be filtered. With
/// `beside` changes of owner wait for the answer of a listener, which is the first program's.
pub(crate) fn filter(
    mode: &Seccomp,
    capabilities: CapabilitySet,
    beside: bool,
) -> Result<Vec<Arc<[Instruction]>>, TooLong> {
    static KEPT: OnceLock<Mutex<HashMap<Variant, Arc<[Instruction]>>>> = OnceLock::new();
    let mode_default = match mode {
        Seccomp::Unconfined if !beside => return Ok(Vec::new()),
        Seccomp::Profile(_) => {
            let programs = programs(mode, capabilities, beside)?;
            return Ok(programs.into_iter().map(Arc::from).collect());
        }
        mode => *mode == Seccomp::Default,
    };
    let variant = Variant { mode_default, capabilities, beside };
    let mut kept = KEPT.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let program = kept.entry(variant).or_insert_with(|| program(mode, capabilities, beside).into());
    Ok(vec![Arc::clone(program)])
}

/// Compiles the programs for a process with these capabilities: one, or as many as the kernel's longest program makes of
/// it.
pub fn programs(
    mode: &Seccomp,
    capabilities: CapabilitySet,
    beside: bool,
) -> Result<Vec<Vec<Instruction>>, TooLong> {
    compile::programs(&profile::machines(mode, capabilities, beside), libc::SYS_seccomp as u32)
}

/// Compiles the one program for a process with these capabilities, however long.
pub fn program(mode: &Seccomp, capabilities: CapabilitySet, beside: bool) -> Vec<Instruction> {
    compile::program(&profile::machines(mode, capabilities, beside))
}

#[cfg(test)]
mod tests;
