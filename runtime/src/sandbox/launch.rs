//! Starting a planned sandbox, and its first process's life.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::cgroup::Group;
use crate::error::Error;
use crate::sandbox::gate::{self, Gate, Kept};
use crate::sandbox::guard::{Birth, Parent, Used};
use crate::sandbox::handle::{Handle, ProcessId, send};
use crate::sandbox::owners::{self, Keeper};
use crate::sandbox::plan::Plan;
use crate::sandbox::spec::{Life, SandboxSpec};
use crate::sandbox::sys::clone::Memory;
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

/// A running container. Dropping it kills the container and waits for its end, unless its life is
/// [beyond](crate::Life::Beyond) its caller: then dropping leaves it.
#[derive(Debug)]
pub struct Running {
    pid: Option<Pid>,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
    made: Vec<PathBuf>,
    exit: Option<Exit>,
    parent: Parent,
    /// Whether it goes on when this is dropped.
    stays: bool,
    /// Removed when it is empty.
    group: Option<Group>,
    /// Answers changes of owner; gone before the container counts as ended, as it is in its mount namespace.
    keeper: Option<Keeper>,
}

/// Plans and starts a sandbox. When this returns, the command is executing.
///
/// Any thread may call it, several at once; the calling thread sleeps until the command executes, about a
/// millisecond. The [`Running`] may move to another thread.
pub fn spawn(spec: &SandboxSpec) -> Result<Running, Error> {
    Plan::new(spec)?.start()
}

/// Plans and makes a sandbox that waits before its command. When this returns, all of it is there, the command can be
/// found, and nothing of it has been executed.
pub fn create(spec: &SandboxSpec, gate: &Gate) -> Result<Created, Error> {
    Plan::new(spec)?.create(gate)
}

/// A sandbox that waits before its command. Dropping it ends the sandbox and leaves nothing of it, but one that lives
/// [beyond](crate::Life::Beyond) its caller and waits at a FIFO is left there.
///
/// While it waits, a signal that would end a program ends it, with 128 and the signal's number as its exit code.
pub struct Created {
    running: Running,
    plan: Plan,
    gate: Kept,
}

impl Created {
    /// Opens the gate. When this returns, the command is executing.
    pub fn start(self) -> Result<Running, Error> {
        let opened = self.gate.open();
        self.began(opened)
    }

    /// Waits until another process opens the gate, as a monitor does. When this returns, the command is executing.
    pub fn follow(self) -> Result<Running, Error> {
        let opened = self.gate.follow();
        self.began(opened)
    }

    fn began(mut self, opened: Result<(), Errno>) -> Result<Running, Error> {
        opened.map_err(|errno| Error::Process { what: "start", source: errno.into() })?;
        self.running.stays = self.plan.life == Life::Beyond;
        self.running.began(&self.plan)
    }

    /// The sandbox, to be looked at, signalled or waited for.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }
}

impl Plan {
    /// Makes the process and executes the command in it.
    pub fn start(mut self) -> Result<Running, Error> {
        self.make(self.memory(), self.life == Life::Beyond)?.began(&self)
    }

    /// Makes the process, which waits before its command.
    pub fn create(mut self, gate: &Gate) -> Result<Created, Error> {
        self.gate = Some(gate::Closed::new(gate)?);
        // held by the caller it ends with the handle: nobody else could open it
        let stays = self.life == Life::Beyond && *gate != Gate::Held;
        // of its own, since its caller goes on
        let running = self.make(Memory::Copied, stays)?;
        let Some(gate) = self.gate.take().map(gate::Closed::keep) else { return Err(no_gate(Errno::BADF)) };
        if gate.is_ready().map_err(no_gate)? {
            return Ok(Created { running, plan: self, gate });
        }
        // before its gate it can only have failed, or have been killed
        Err(running.began(&self).err().unwrap_or_else(|| no_gate(Errno::SRCH)))
    }

    fn make(&mut self, memory: Memory, stays: bool) -> Result<Running, Error> {
        let undumpable = undumpable::hold();
        let started = Birth::new(self, memory).and_then(|birth| Parent::start(birth, self.life));
        drop(undumpable);
        let (parent, pidfd) = started.map_err(|errno| Error::Clone { source: errno.into() })?;
        Ok(Running {
            pid: pid_of(&pidfd),
            pidfd,
            terminal: self.terminal.take().map(|terminal| terminal.master),
            made: Vec::new(),
            exit: None,
            parent,
            stays,
            group: self.group.take(),
            keeper: None,
        })
    }

    /// Ids never change in memory that is shared: the kernel marks the memory of a process that does so, by a setting of
    /// the machine's (`fs.suid_dumpable`), and what it marks would be ours.
    fn memory(&self) -> Memory {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let stays = self.process.own_ids.is_none();
        if stays && (self.process.uid, self.process.gid) == (uid, gid) {
            Memory::Shared
        } else {
            Memory::Copied
        }
    }
}

fn no_gate(errno: Errno) -> Error {
    Error::Process { what: "hold", source: errno.into() }
}

impl Running {
    /// What is left to do when the command executes or the process has failed.
    fn began(mut self, plan: &Plan) -> Result<Running, Error> {
        self.made = plan.made();
        match plan.failure() {
            None => {
                self.keep_owners(plan)?;
                Ok(self)
            }
            Some(error) => {
                self.wait()?;
                Err(error)
            }
        }
    }

    /// Starts answering changes of owner, where the plan leaves them to us.
    fn keep_owners(&mut self, plan: &Plan) -> Result<(), Error> {
        if let (Some(channel), Some(pid)) = (&plan.process.owners, self.pid) {
            match owners::keep(channel, pid, self.pidfd.as_fd()) {
                Ok(keeper) => self.keeper = Some(keeper),
                // it has ended before, and nobody waits for an answer
                Err(Errno::NOENT | Errno::SRCH) => {}
                Err(errno) => return Err(Error::Process { what: "keep owners of", source: errno.into() }),
            }
        }
        Ok(())
    }

    /// The first process's pidfd, to poll: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The first process's id as the caller sees it; `None` for one that ended at once.
    pub fn pid(&self) -> Option<Pid> {
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
        let exit = self.parent.wait(self.pidfd.as_fd());
        let exit = exit.map_err(|errno| Error::Process { what: "wait for", source: errno.into() })?;
        self.exit = Some(exit);
        self.group = None;
        self.keeper = None;
        Ok(exit)
    }

    /// Waits for the end of the container; kills all of it as soon as `cancel` is readable (or closed at its far end).
    pub fn wait_or_cancel(&mut self, cancel: BorrowedFd<'_>) -> Result<Exit, Error> {
        if self.exit.is_none() && self.poll_end(Some(cancel))? {
            self.kill();
        }
        self.wait()
    }

    /// Whether somebody of this process answers the container, so that it cannot do without.
    pub fn needs_this_process(&self) -> bool {
        self.keeper.is_some()
    }

    /// What the container has used, once it was waited for; `None` where its life is beyond the caller's.
    pub fn used(&self) -> Option<Used> {
        self.exit.and_then(|_| self.parent.used())
    }

    /// What the first process is found again by; `None` for one that ended at once.
    pub fn identity(&self) -> Option<ProcessId> {
        ProcessId::read(self.pid?)
    }

    /// A way to the first process for another thread.
    pub fn handle(&self) -> Result<Handle, Error> {
        let pidfd = self.pidfd.try_clone();
        let pidfd = pidfd.map_err(|source| Error::Process { what: "signal", source })?;
        Ok(Handle::new(self.pid, pidfd))
    }

    /// Sends a signal to the first process. One that has ended already is no error.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        send(self.pidfd.as_fd(), signal)
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

/// The id of a pidfd's process in this process's pid namespace (pidfd_open(2), "fdinfo"); `None` once it was reaped.
fn pid_of(pidfd: &OwnedFd) -> Option<Pid> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    Pid::from_raw(
        text.lines()
            .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
            .filter(|pid| *pid > 0)?,
    )
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_none() && self.stays {
            self.group.take().into_iter().for_each(Group::leave);
            self.keeper.take().into_iter().for_each(Keeper::leave);
        } else if self.exit.is_none() {
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
