//! Signal dispositions and masks (rt_sigaction(2), rt_sigprocmask(2)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{check, raw};

/// The highest signal number (`_NSIG`, asm-generic/signal.h).
const LAST_SIGNAL: i32 = 64;
/// The bytes of the kernel's signal set.
const SET_BYTES: usize = 8;

/// `struct sigaction` as the kernel takes it; all zero is `SIG_DFL`.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// What a signal does where no handler is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// `SIG_DFL`.
    Default,
    /// `SIG_IGN`.
    Ignored,
}

/// Numbers of all signals that have a disposition of their own to set, those that libc keeps to itself included.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    (1..=LAST_SIGNAL).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

/// Whether a signal is ignored.
pub(crate) fn is_ignored(signal: i32) -> Result<bool, Errno> {
    let mut found = KernelAction::default();
    let arguments = [signal as usize, 0, &raw mut found as usize, SET_BYTES, 0, 0];
    // SAFETY: `found` takes a full kernel action.
    check(unsafe { raw::call(libc::SYS_rt_sigaction, arguments) })?;
    Ok(found.handler == libc::SIG_IGN)
}

/// Takes a signal's handler away, or the lack of one.
pub(crate) fn dispose(signal: i32, disposition: Disposition) -> Result<(), Errno> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignored => libc::SIG_IGN,
    };
    let action = KernelAction { handler, ..KernelAction::default() };
    let arguments = [signal as usize, &raw const action as usize, 0, SET_BYTES, 0, 0];
    // SAFETY: `action` is a full kernel action that names no function.
    check(unsafe { raw::call(libc::SYS_rt_sigaction, arguments) }).map(drop)
}

/// The one place before every exec of a container's program: every signal has its default disposition and none is blocked,
/// whatever the caller left behind. `CLONE_CLEAR_SIGHAND` does so for handlers but leaves what is ignored ignored, and
/// an exec keeps both that and the mask.
pub(crate) fn make_default() -> Result<(), Errno> {
    for signal in all() {
        dispose(signal, Disposition::Default)?;
    }
    set_mask(0).map(drop)
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

/// A descriptor that is readable while a signal of the set waits for this process, which must block it (signalfd(2)).
pub(crate) fn descriptor(set: u64) -> Result<OwnedFd, Errno> {
    let arguments = [usize::MAX, &raw const set as usize, SET_BYTES, libc::SFD_CLOEXEC as usize, 0, 0];
    // SAFETY: the set is eight bytes, as the call is told; -1 asks for a new descriptor.
    let number = check(unsafe { raw::call(libc::SYS_signalfd4, arguments) })?;
    // SAFETY: the call above made the descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Takes the next signal from such a descriptor; sleeps until there is one.
pub(crate) fn take(descriptor: BorrowedFd<'_>) -> Result<i32, Errno> {
    // `struct signalfd_siginfo`, whose first word is the signal's number
    let mut information = [0u8; 128];
    rustix::io::read(descriptor, &mut information)?;
    let [a, b, c, d, ..] = information;
    Ok(i32::from_ne_bytes([a, b, c, d]))
}
