//! Signal dispositions and masks (rt_sigaction(2), rt_sigprocmask(2)).

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
