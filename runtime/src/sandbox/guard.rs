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
//!
//! A container that lives beyond its caller ([`Life::Beyond`](crate::Life)) has no guard: its first process is slipway's own
//! child, and when slipway is gone that of whoever takes orphans in.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, chdir, getpid, pidfd_open, setsid, waitid,
};

use crate::cgroup::Group;
use crate::sandbox::child;
use crate::sandbox::launch::Exit;
use crate::sandbox::plan::Plan;
use crate::sandbox::spec::Life;
use crate::sandbox::sys;
use crate::sandbox::sys::clone::{Companion, Memory, Request, Stack};

/// Whose child a container's first process is.
#[derive(Debug)]
pub(crate) enum Parent {
    /// A guard's: it ends with slipway.
    Guard(Guard),
    /// Slipway's own: it goes on without.
    Slipway,
}

impl Parent {
    /// Makes the process; gives its pidfd.
    pub(crate) fn start(mut birth: Birth<'_>, life: Life) -> Result<(Parent, OwnedFd), Errno> {
        if life == Life::WithCaller {
            return Guard::start(birth).map(|(guard, pidfd)| (Parent::Guard(guard), pidfd));
        }
        let mask = sys::signal::set_mask(u64::MAX)?;
        let made = birth.make();
        sys::signal::set_mask(mask)?;
        Ok((Parent::Slipway, sys::exec::adopt(made?)))
    }

    /// Waits for the end of the first process, and reaps.
    pub(crate) fn wait(&self, pidfd: BorrowedFd<'_>) -> Result<Exit, Errno> {
        match self {
            Parent::Guard(guard) => guard.wait(),
            Parent::Slipway => {
                let ended = || waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED);
                let status = rustix::io::retry_on_intr(ended)?;
                Ok(exit(status.map_or(RUNS, |status| number(&status))))
            }
        }
    }
}

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
    /// What the first process and those that it waited for have used, once there is an exit: microseconds of its own and of
    /// the kernel's time, KiB of the largest.
    used: [AtomicU64; 3],
}

/// What a container has used, as the kernel tells of its first process and all that were waited for (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time of the programs.
    pub user: Duration,
    /// Processor time of the kernel for them.
    pub system: Duration,
    /// The most memory that one process had at a time, in bytes. What this program has counts too, in whose memory the first
    /// process begins: a figure that is no larger says nothing.
    pub largest_bytes: u64,
}

/// No exit yet.
const RUNS: i32 = i32::MIN;

/// What is needed to make the first process.
pub(crate) struct Birth<'a> {
    plan: &'a Plan,
    request: Request,
    stack: Stack,
}

impl<'a> Birth<'a> {
    pub(crate) fn new(plan: &'a Plan, memory: Memory) -> Result<Birth<'a>, Errno> {
        let cgroup = plan.group.as_ref().and_then(Group::folder);
        let request = Request { memory, flags: plan.namespaces.made, cgroup };
        Ok(Birth { plan, request, stack: Stack::new()? })
    }

    /// Makes the process; gives its pidfd's number, which nobody owns yet. It executes its command or has ended by then,
    /// unless it waits at a gate. The caller must block every signal, which its child then does too.
    pub(crate) fn make(&mut self) -> Result<i32, Errno> {
        let make = if self.plan.gate.is_some() { sys::clone::fork } else { sys::clone::vfork };
        make(&self.request, &mut self.stack, child::run, self.plan)
    }
}

impl Guard {
    /// Starts a guard and under its eyes the process. When this returns, that executes its command, waits at its gate, or
    /// has ended.
    pub(crate) fn start(mut birth: Birth<'_>) -> Result<(Guard, OwnedFd), Errno> {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let told = Told {
            slipway: own.as_raw_fd(),
            child: AtomicI32::new(-libc::ESRCH),
            exit: AtomicI32::new(RUNS),
            used: Default::default(),
        };
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
        Ok(exit(self.0.kept().exit.load(Ordering::Acquire)))
    }
}

/// The most memory that this program had at a time, in bytes (proc_pid_status(5), `VmHWM`); 0 where that is not told.
pub fn own_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

impl Parent {
    /// What the container has used, where a guard has seen it end.
    pub(crate) fn used(&self) -> Option<Used> {
        let Parent::Guard(guard) = self else { return None };
        let told = guard.0.kept();
        if told.exit.load(Ordering::Acquire) == RUNS {
            return None;
        }
        let [user, system, largest] = [0, 1, 2].map(|at| told.used[at].load(Ordering::Acquire));
        let (user, system) = (Duration::from_micros(user), Duration::from_micros(system));
        Some(Used { user, system, largest_bytes: largest << 10 })
    }
}

/// The guard's first deed; gives the descriptors that it goes on with, slipway's and the child's, if there is a child.
fn begin(birth: &mut Birth<'_>, told: &Told) -> Option<[i32; 2]> {
    // A session of its own: signals to slipway's process group are not for it. Nothing here fails for a fresh process.
    let _ = setsid();
    let _ = chdir(c"/");
    let _ = rustix::thread::set_name(c"slipway-guard");
    match birth.make() {
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
            if let Ok((ended, used)) = sys::process::wait_used(child) {
                let micros = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
                let all = [micros(used.ru_utime), micros(used.ru_stime), used.ru_maxrss as u64];
                told.used.iter().zip(all).for_each(|(at, value)| at.store(value, Ordering::Release));
                let exit = if ended.0 == libc::CLD_EXITED { ended.1 } else { -ended.1 };
                told.exit.store(exit, Ordering::Release);
            }
            break;
        }
        if slipway_ended {
            break;
        }
    }
    sys::exec::exit(0)
}

/// A status as [`Told`] has it, as others have it.
fn exit(number: i32) -> Exit {
    match number {
        // The guard was killed, and its namespaces with it.
        RUNS => Exit::Signal(libc::SIGKILL),
        code @ 0.. => Exit::Code(code),
        signal => Exit::Signal(-signal),
    }
}

/// A status as [`Told`] has it.
fn number(status: &WaitIdStatus) -> i32 {
    let signal = || status.terminating_signal().map(|signal| -signal);
    status.exit_status().or_else(signal).unwrap_or(RUNS)
}
