//! A way to a container's first process that is not its [`Running`](crate::Running).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::container::stop::{self, Reception};
use crate::error::Error;
use crate::sandbox::sys;

/// What a process is known by for as long as the machine runs: its number, which the kernel gives to others after it, and
/// when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessId {
    /// The number as the caller's pid namespace counts.
    pub pid: i32,
    /// Clock ticks since the machine's start (proc_pid_stat(5), `starttime`).
    pub start_time: u64,
}

impl ProcessId {
    /// That of the calling process; `None` where `/proc` does not show it.
    pub fn own() -> Option<ProcessId> {
        ProcessId::read(rustix::process::getpid())
    }

    /// Reads that of the process which has the number now; `None` if none has, or only a dead one that nobody reaped.
    pub(super) fn read(pid: Pid) -> Option<ProcessId> {
        let pid = pid.as_raw_nonzero().get();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name may hold anything
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let is_dead = matches!(fields.next()?, "Z" | "X");
        let start_time = fields.nth(18)?.parse().ok()?;
        (!is_dead).then_some(ProcessId { pid, start_time })
    }
}

fn masks(process: &Path, signal: i32) -> Reception {
    let text = std::fs::read_to_string(process.join("status"));
    text.map_or(Reception::Unknown, |text| Reception::read(&text, signal))
}

/// Whether any thread of a process waits for signals, if that can be seen.
fn waits_for_signals(process: &Path) -> Option<bool> {
    let threads = std::fs::read_dir(process.join("task")).ok()?;
    let mut calls =
        threads.flatten().map(|thread| std::fs::read_to_string(thread.path().join("syscall")).ok());
    calls.try_fold(false, |found, call| Some(found || stop::is_waiting_for_signals(&call?)))
}

pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    match sys::signal::send(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::Process { what: "signal", source: errno.into() }),
    }
}

/// A way to a container's first process that may be used from any thread, also after its end.
#[derive(Debug)]
pub struct Handle {
    pid: Option<Pid>,
    pidfd: OwnedFd,
}

impl Handle {
    pub(super) fn new(pid: Option<Pid>, pidfd: OwnedFd) -> Handle {
        Handle { pid, pidfd }
    }

    /// Finds the first process of a sandbox again, from whatever process; `None` when it has ended.
    pub fn find(process: ProcessId) -> Result<Option<Handle>, Error> {
        let Some(pid) = Some(process.pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(Error::Process { what: "find", source: errno.into() }),
        };
        // whatever has the number now, the descriptor holds it while this is compared
        let is_it = ProcessId::read(pid) == Some(process);
        Ok(is_it.then(|| Handle::new(Some(pid), pidfd)))
    }

    /// The process's pidfd, to poll: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal. A process that has ended already is no error.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        send(self.pidfd.as_fd(), signal)
    }

    /// Whether the process has not ended, or not been waited for.
    pub fn is_alive(&self) -> bool {
        sys::signal::send(self.pidfd.as_fd(), 0).is_ok()
    }

    /// What a signal does to the process right now. [`Reception::Unknown`] where that cannot be seen.
    pub fn reception(&self, signal: i32) -> Reception {
        let Some(pid) = self.pid else { return Reception::Unknown };
        let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let found = masks(&process, signal);
        if found != Reception::Dropped {
            return found;
        }
        // Both ways around, as the process may begin and end waiting in between.
        match (waits_for_signals(&process), masks(&process, signal), waits_for_signals(&process)) {
            (Some(false), found, Some(false)) if self.is_alive() => found,
            (Some(_), _, Some(_)) => Reception::Blocked,
            _ => Reception::Unknown,
        }
    }

    /// Whether the process leads the group that a terminal's keys signal, so that these are for it.
    pub fn leads(&self, terminal: BorrowedFd<'_>) -> bool {
        self.pid.is_some() && rustix::termios::tcgetpgrp(terminal).ok() == self.pid
    }
}
