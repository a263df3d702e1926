//! Installing a system call filter (seccomp(2)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{check, raw};

/// One instruction of classic BPF (`struct sock_filter`, linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How far to jump when the condition holds.
    pub jump_true: u8,
    /// How far to jump when it does not.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Puts the filter on the calling thread, for ever. Needs `CAP_SYS_ADMIN` or no_new_privs.
pub(crate) fn install(filter: &[Instruction]) -> Result<(), Errno> {
    set_filter(filter, 0).map(drop)
}

/// The same, and gives the descriptor from which the calls are read that the filter leaves to us. It closes at an exec.
pub(crate) fn install_with_listener(filter: &[Instruction]) -> Result<OwnedFd, Errno> {
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: usize = 1 << 3;
    let number = set_filter(filter, SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: with that flag the call makes a descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

fn set_filter(filter: &[Instruction], flags: usize) -> Result<usize, Errno> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    let length = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let program = Program { length, instructions: filter.as_ptr() };
    // SAFETY: the program's pointer and length are those of `filter`, which the kernel copies and checks.
    check(unsafe {
        raw::call(libc::SYS_seccomp, [SECCOMP_SET_MODE_FILTER, flags, &raw const program as usize, 0, 0, 0])
    })
}

/// A system call that waits for an answer (`struct seccomp_notif` with its `struct seccomp_data`).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Call {
    /// Names it in the answer.
    pub(crate) id: u64,
    /// The calling thread, as this process sees it.
    pub(crate) pid: u32,
    flags: u32,
    /// The call's number.
    pub(crate) number: i32,
    /// The machine (`AUDIT_ARCH_*`).
    pub(crate) machine: u32,
    instruction: u64,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_IOCTL_NOTIF_*` (linux/seccomp.h).
const RECEIVE: usize = 0xC050_2100;
const SEND: usize = 0xC018_2101;
const IS_VALID: usize = 0x4008_2102;

/// Reads a waiting call; sleeps until there is one.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Call, Errno> {
    let mut call = Call::default();
    let arguments = [listener.as_raw_fd() as usize, RECEIVE, &raw mut call as usize, 0, 0, 0];
    // SAFETY: the structure is the kernel's, of the 80 bytes that the request's number says, and zero as it asks.
    check(unsafe { raw::call(libc::SYS_ioctl, arguments) })?;
    Ok(call)
}

/// Whether the call still waits; until this is asked, its thread's id may have become another's.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, call: &Call) -> bool {
    let arguments = [listener.as_raw_fd() as usize, IS_VALID, &raw const call.id as usize, 0, 0, 0];
    // SAFETY: the request takes a pointer to eight bytes, which it reads.
    check(unsafe { raw::call(libc::SYS_ioctl, arguments) }).is_ok()
}

/// Ends a call with success or an error.
pub(crate) fn answer(listener: BorrowedFd<'_>, call: &Call, result: Result<(), Errno>) -> Result<(), Errno> {
    let error = result.err().map_or(0, |errno| -errno.raw_os_error());
    let answer = Answer { id: call.id, value: 0, error, flags: 0 };
    let arguments = [listener.as_raw_fd() as usize, SEND, &raw const answer as usize, 0, 0, 0];
    // SAFETY: the structure is the kernel's, of the 24 bytes that the request's number says.
    check(unsafe { raw::call(libc::SYS_ioctl, arguments) }).map(drop)
}
