//! Starting a planned sandbox, and its first process's life.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cgroup::Group;
use crate::error::Error;
use crate::sandbox::child;
use crate::sandbox::guard::{self, Enrolled};
use crate::sandbox::plan::Plan;
use crate::sandbox::spec::SandboxSpec;
use crate::sandbox::sys;
use crate::sandbox::sys::clone::{CLONE_CLEAR_SIGHAND, Memory, Request};
use crate::sandbox::undumpable;

/// How a container's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The status as a shell tells it: 128+N for signal N.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    /// Whether it exited with status 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// A running container. Dropping it kills the container and waits for its end.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
    made: Vec<PathBuf>,
    exit: Option<Exit>,
    /// Held for what their drop does, in this order: leave the guard's list, then remove the empty group.
    enrolled: Option<Enrolled>,
    group: Option<Group>,
}

/// Plans and starts a sandbox. When this returns, the command is executing.
///
/// Any thread may call it, several at once; the calling thread sleeps until the command executes, about a
/// millisecond. The [`Running`] may move to another thread.
pub fn spawn(spec: &SandboxSpec) -> Result<Running, Error> {
    Plan::new(spec)?.start()
}

impl Plan {
    /// Makes the process and executes the command in it.
    pub fn start(mut self) -> Result<Running, Error> {
        let enrolled = guard::enroll()?;
        let request = Request {
            memory: self.memory(),
            flags: self.namespaces(),
            pid_slot: Some(enrolled.slot()),
            cgroup: self.group.as_ref().and_then(Group::folder),
        };
        let undumpable = undumpable::hold();
        let cloned = sys::clone::vfork(&request, child::run, &self);
        drop(undumpable);
        let (pid, pidfd) = cloned.map_err(|errno| Error::Clone { source: errno.into() })?;
        let mut running = Running {
            // A successful clone gives a positive number.
            pid: Pid::from_raw(pid).ok_or(Error::Clone { source: Errno::SRCH.into() })?,
            pidfd,
            terminal: self.terminal.take().map(|terminal| terminal.master),
            made: self.made(),
            exit: None,
            enrolled: Some(enrolled),
            group: self.group.take(),
        };
        match self.failure() {
            None => Ok(running),
            Some(error) => {
                running.wait()?;
                Err(error)
            }
        }
    }

    /// Ids never change in memory that is shared: the kernel marks the memory of a process that does so, by a setting of
    /// the machine's (`fs.suid_dumpable`), and what it marks would be ours.
    fn memory(&self) -> Memory {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if (self.process.uid, self.process.gid) == (uid, gid) { Memory::Shared } else { Memory::Copied }
    }

    /// The namespaces made with the process; the control group one follows once it is in its group.
    fn namespaces(&self) -> u64 {
        let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if self.own_network {
            flags |= libc::CLONE_NEWNET;
        }
        flags as u64 | CLONE_CLEAR_SIGHAND
    }
}

impl Running {
    /// The first process's pidfd, to poll: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The first process's id as the caller sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Files and folders that had to be made in the root for mounts, outermost first, as container paths. In an
    /// overlay they are in the upper folder, and no part of what the command did.
    pub fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// The caller's side of the terminal, once. Reading from it gives `EIO` when the last process has let go.
    pub fn terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Waits for the end of the container: of its first process, with which all others of its namespace end.
    pub fn wait(&mut self) -> Result<Exit, Error> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        // Not before it has ended may its slot be emptied, and not after it was reaped.
        self.poll_end(None)?;
        self.enrolled = None;
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                result => break result,
            }
        };
        let failed = |errno: Errno| Error::Process { what: "wait for", source: errno.into() };
        let status = status.map_err(failed)?.ok_or_else(|| failed(Errno::CHILD))?;
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => return Err(failed(Errno::INVAL)),
        };
        self.exit = Some(exit);
        self.group = None;
        Ok(exit)
    }

    /// Waits for the end of the container; kills all of it as soon as `cancel` is readable (or closed at its far end).
    pub fn wait_or_cancel(&mut self, cancel: BorrowedFd<'_>) -> Result<Exit, Error> {
        if self.exit.is_none() && self.poll_end(Some(cancel))? {
            self.kill();
        }
        self.wait()
    }

    /// Sends a signal to the first process. One that has ended already is no error.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        let failed = |errno: Errno| Error::Process { what: "signal", source: errno.into() };
        let signal = Signal::from_named_raw(signal).ok_or_else(|| failed(Errno::INVAL))?;
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Kills the container: without its first process the kernel ends every other one of its pid namespace.
    pub fn kill(&self) {
        // The only failure for a child of ours is that it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Sleeps until the process has ended (`false`) or `cancel` is readable (`true`).
    fn poll_end(&self, cancel: Option<BorrowedFd<'_>>) -> Result<bool, Error> {
        loop {
            let end = PollFd::new(&self.pidfd, PollFlags::IN);
            let other = cancel.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let mut fds: Vec<PollFd<'_>> = [Some(end), other].into_iter().flatten().collect();
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::Process { what: "wait for", source: errno.into() }),
                Ok(_) => {}
            }
            if !fds[0].revents().is_empty() {
                return Ok(false);
            }
            if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
                return Ok(true);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_none() {
            self.kill();
            // Nobody is left to tell.
            let _ = self.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_move_between_threads() {
        fn moves<T: Send>() {}
        moves::<Running>();
        moves::<SandboxSpec>();
    }

    #[test]
    fn signals_are_told_as_shells_do() {
        assert_eq!((Exit::Code(3).status(), Exit::Signal(15).status()), (3, 143));
        assert!(Exit::Code(0).success() && !Exit::Signal(9).success());
    }
}
