//! Whatever ends slipway, no container survives it: a guard stands between the two.
//!
//! A container's first process is not slipway's child but its guard's, and the guard is the first process of a pid
//! namespace around the container's own. The kernel ends a namespace and those within it together with its first process
//! (pid_namespaces(7)), so that nobody has to be alive to end the container:
//!
//! ```text
//! slipway ── clone3 (VM | FILES | NEWPID) ──> guard ── clone3 (VFORK | NEWPID | ...) ──> child ── execve
//!    ^  sleeps until the command executes        │  then: a descriptor table of its own
//!    └── its end, with the command's status ─────┘  ends when the command or slipway has ended
//! ```
//!
//! It makes no difference which of slipway and the guard dies, or whether both do at once, as of `pkill -9 slipway`.
//! `PR_SET_PDEATHSIG` is not up to this: it fires when the *thread* that cloned ends, it is lost when the process executes
//! a set-user-id program or changes its user, and the process may switch it off.
//!
//! The guard shares slipway's memory, has a session of its own, and blocks every signal. Waiting for the container is
//! waiting for the guard, so that none stays behind, also where process 1 reaps nobody.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, chdir, getpid, pidfd_open, setsid, waitid,
};

use crate::cgroup::Group;
use crate::sandbox::child;
use crate::sandbox::launch::Exit;
use crate::sandbox::plan::Plan;
use crate::sandbox::sys;
use crate::sandbox::sys::clone::{Companion, Memory, Request, Stack};

/// A guard, and through it its container. Dropped when it was waited for.
#[derive(Debug)]
pub(crate) struct Guard(Companion<Told>);

/// What the guard tells, in the memory that it shares with slipway.
#[derive(Debug)]
struct Told {
    /// The number of slipway's own pidfd, for the guard.
    slipway: i32,
    /// The number of the first process's pidfd in slipway's table, or why there is none, negated.
    child: AtomicI32,
    /// The first process's exit code, or the signal that ended it, negated; [`RUNS`] until then.
    exit: AtomicI32,
}

/// No exit yet.
const RUNS: i32 = i32::MIN;

/// What the guard needs to make the first process.
struct Birth<'a> {
    plan: &'a Plan,
    request: Request,
    stack: Stack,
}

impl Guard {
    /// Starts a guard and under its eyes the planned process. When this returns, that executes its command or has ended.
    pub(crate) fn start(plan: &Plan, memory: Memory, namespaces: u64) -> Result<(Guard, OwnedFd), Errno> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let told = Told {
            slipway: own.as_raw_fd(),
            child: AtomicI32::new(-libc::ESRCH),
            exit: AtomicI32::new(RUNS),
        };
        let cgroup = plan.group.as_ref().and_then(Group::folder);
        let request = Request { memory, flags: namespaces, cgroup };
        let mut birth = Birth { plan, request, stack: Stack::new()? };
        // It is born with every signal blocked: Ctrl-C goes to the whole foreground group before it has left it.
        let mask = sys::signal::set_mask(u64::MAX)?;
        let started =
            sys::clone::companion(libc::CLONE_NEWPID as u64, begin, watch, &mut birth, Box::new(told));
        sys::signal::set_mask(mask)?;
        let guard = Guard(started?);
        match guard.0.kept().child.load(Ordering::Acquire) {
            number @ 0.. => {
                let pidfd = sys::exec::adopt(number);
                Ok((guard, pidfd))
            }
            errno => {
                // It ends by itself, and there is no other way for it to end.
                let _ = guard.wait();
                Err(Errno::from_raw_os_error(-errno))
            }
        }
    }

    /// Waits for the end of the container, and reaps.
    pub(crate) fn wait(&self) -> Result<Exit, Errno> {
        let ended = || waitid(WaitId::PidFd(self.0.pidfd()), WaitIdOptions::EXITED);
        rustix::io::retry_on_intr(ended)?;
        Ok(match self.0.kept().exit.load(Ordering::Acquire) {
            // The guard was killed, and its namespaces with it.
            RUNS => Exit::Signal(libc::SIGKILL),
            code @ 0.. => Exit::Code(code),
            signal => Exit::Signal(-signal),
        })
    }
}

/// The guard's first deed; gives the descriptors that it goes on with, slipway's and the child's, if there is a child.
fn begin(birth: &mut Birth<'_>, told: &Told) -> Option<[i32; 2]> {
    // A session of its own: signals to slipway's process group are not for it. Nothing here fails for a fresh process.
    let _ = setsid();
    let _ = chdir(c"/");
    let _ = rustix::thread::set_name(c"slipway-guard");
    match sys::clone::vfork(&birth.request, &mut birth.stack, child::run, birth.plan) {
        Ok(pidfd) => {
            told.child.store(pidfd, Ordering::Release);
            Some([told.slipway, pidfd])
        }
        Err(errno) => {
            told.child.store(-errno.raw_os_error(), Ordering::Release);
            None
        }
    }
}

/// The guard's life: system calls only, in memory that is shared with slipway.
fn watch(told: &Told, [slipway, child]: [BorrowedFd<'_>; 2]) -> ! {
    loop {
        let mut ends = [child, slipway].map(|pidfd| PollFd::from_borrowed_fd(pidfd, PollFlags::IN));
        let _ = poll(&mut ends, None);
        let [child_ended, slipway_ended] = ends.map(|end| !end.revents().is_empty());
        if child_ended {
            if let Ok(Some(status)) = waitid(WaitId::PidFd(child), WaitIdOptions::EXITED) {
                told.exit.store(number(&status), Ordering::Release);
            }
            break;
        }
        if slipway_ended {
            break;
        }
    }
    sys::exec::exit(0)
}

/// A status as [`Told`] has it.
fn number(status: &WaitIdStatus) -> i32 {
    let signal = || status.terminating_signal().map(|signal| -signal);
    status.exit_status().or_else(signal).unwrap_or(RUNS)
}
