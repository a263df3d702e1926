//! Signals at the program's start.
//!
//! A process is born with its caller's mask of blocked signals and with what the caller ignores (signal(7)), so that
//! without care its life depends on who started it: with SIGCHLD ignored no child can be waited for, with SIGTERM blocked
//! a server cannot be stopped, and each background job of a shell ignores SIGINT and SIGQUIT.

use std::io;

use rustix::io::Errno;

use crate::sandbox::sys::signal::{self, Disposition};

/// What the program ignores: a write to a reader that left, or beyond the limit of a file's size, is an error with words
/// and no silent end.
const IGNORED: [i32; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

/// What stays ignored where the caller ignored it, as nohup(1) does on purpose.
const CALLERS: [i32; 1] = [libc::SIGHUP];

/// The one place where the program takes its signals: nothing is blocked, SIGPIPE and SIGXFSZ are ignored, SIGHUP is as the
/// caller left it, and everything else that was ignored has its default. Handlers that are set already stay.
///
/// Call it first in `main`, before any thread: the mask is a thread's own.
pub fn begin() -> io::Result<()> {
    for number in signal::all() {
        let ignored = match signal::is_ignored(number) {
            Ok(ignored) => ignored,
            // fewer signals than we know of
            Err(Errno::INVAL) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if IGNORED.contains(&number) {
            signal::dispose(number, Disposition::Ignored)?;
        } else if ignored && !CALLERS.contains(&number) {
            signal::dispose(number, Disposition::Default)?;
        }
    }
    signal::set_mask(0)?;
    Ok(())
}

/// Whether a signal is ignored by this process; not for one that does not exist.
pub fn is_ignored(number: i32) -> bool {
    signal::is_ignored(number).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_needs_is_so_after_the_start() {
        begin().expect("begun");
        assert!(IGNORED.iter().all(|number| is_ignored(*number)));
        assert!(!is_ignored(libc::SIGCHLD) && !is_ignored(libc::SIGTERM) && !is_ignored(9999));
        assert_eq!(signal::set_mask(0).expect("mask"), 0);
    }
}
