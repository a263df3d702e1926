//! Signal dispositions and masks (rt_sigaction(2), rt_sigprocmask(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{check, raw};

/// The highest signal number (`_NSIG`, asm-generic/signal.h).
const LAST_SIGNAL: usize = 64;
/// The bytes of the kernel's signal set.
const SET_BYTES: usize = 8;

/// `struct sigaction` as the kernel takes it; all zero is `SIG_DFL`.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// Gives every signal its default disposition. `CLONE_CLEAR_SIGHAND` does so for handlers but leaves what is
/// ignored ignored, and Rust ignores SIGPIPE.
pub(crate) fn reset_dispositions() {
    let default = KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..=LAST_SIGNAL {
        let arguments = [signal, &raw const default as usize, 0, SET_BYTES, 0, 0];
        // SAFETY: `default` is a full kernel action; the call only fails for SIGKILL and SIGSTOP, harmlessly.
        unsafe { raw::call(libc::SYS_rt_sigaction, arguments) };
    }
}

/// Sets the calling thread's mask of blocked signals (bit n-1 is signal n) and gives the former one.
pub(crate) fn set_mask(mask: u64) -> Result<u64, Errno> {
    let mut former = 0u64;
    let arguments =
        [libc::SIG_SETMASK as usize, &raw const mask as usize, &raw mut former as usize, SET_BYTES, 0, 0];
    // SAFETY: both sets are eight bytes, as the call is told.
    check(unsafe { raw::call(libc::SYS_rt_sigprocmask, arguments) })?;
    Ok(former)
}

/// Sends a signal to the process of a pidfd (pidfd_send_signal(2)), real-time ones too, which rustix cannot name.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let arguments = [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0];
    // SAFETY: a null information structure is what kill(2) sends; the call takes no other pointer.
    check(unsafe { raw::call(libc::SYS_pidfd_send_signal, arguments) }).map(drop)
}

/// Sends a signal to a process (kill(2)).
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers only.
    check(unsafe { raw::call(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0]) }).map(drop)
}

/// Waits for one of the signals of a set that are blocked, and takes it (rt_sigtimedwait(2)).
pub(crate) fn wait(set: u64) -> Result<i32, Errno> {
    let arguments = [&raw const set as usize, 0, 0, SET_BYTES, 0, 0];
    // SAFETY: the set is eight bytes, as the call is told; no information and no time limit are asked for.
    check(unsafe { raw::call(libc::SYS_rt_sigtimedwait, arguments) }).map(|signal| signal as i32)
}
