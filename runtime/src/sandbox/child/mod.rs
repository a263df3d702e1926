//! What the new process does between clone and exec.
//!
//! It runs in the parent's memory while the parent's thread sleeps. Every function here and below makes system calls
//! on what [`Plan`] prepared and nothing else: no allocation, no lock, no formatting, no operation that can panic.
//! Its descriptor table is a copy, and closed but for the three streams before the command's working folder is entered.

mod credentials;
mod mounts;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::setsid;
use rustix::thread::move_into_link_name_space;

use crate::error::Step;
use crate::network;
use crate::sandbox::gate;
use crate::sandbox::plan::{Plan, PlannedProcess};
use crate::sandbox::sys;

/// A failed step.
pub(crate) struct Failure {
    /// Which.
    pub(crate) step: Step,
    /// Which of several mounts or paths.
    pub(crate) place: u32,
    /// Why.
    pub(crate) errno: Errno,
}

/// Names the step of a failed call.
trait At<T> {
    fn at(self, step: Step) -> Result<T, Failure>;
    fn at_place(self, step: Step, place: usize) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Failure> {
        self.at_place(step, 0)
    }

    fn at_place(self, step: Step, place: usize) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step, place: place as u32, errno })
    }
}

/// The descriptor of the program that becomes the first process, where that is not the command.
const INIT_PROGRAM: u32 = 3;

/// Above the descriptors that [`close_others`] puts in their places, all of which come from numbers from here on.
pub(crate) const KEPT: i32 = 7;

/// What is kept open beside the streams until the exec.
#[derive(Default)]
struct Kept {
    /// The way on which a listener for changes of owner is sent.
    channel: Option<BorrowedFd<'static>>,
    /// The two sides of a gate.
    gate: [Option<BorrowedFd<'static>>; 2],
}

/// The status of a child that failed before its command ran; the parent reads the report and not this.
const SETUP_FAILED: i32 = 125;

/// The child's whole life.
pub(crate) fn run(plan: &Plan) -> ! {
    match enter(plan) {
        Ok(never) => match never {},
        Err(failure) => {
            plan.report.set(&failure);
            sys::exec::exit(SETUP_FAILED)
        }
    }
}

fn enter(plan: &Plan) -> Result<Infallible, Failure> {
    if let Some(group) = &plan.group {
        group.join().at(Step::JoinCgroup)?;
    }
    for (place, (file, kind)) in plan.namespaces.joined.iter().enumerate() {
        move_into_link_name_space(file.as_fd(), Some(*kind)).at_place(Step::Join, place)?;
    }
    if plan.namespaces.own_cgroup {
        // After joining the group: it begins at the one that the process is in now.
        sys::process::unshare_cgroup_namespace().at(Step::CgroupNamespace)?;
    }
    mounts::build(plan)?;
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).at(Step::Hostname)?;
    }
    if plan.namespaces.own_network {
        network::loopback().at(Step::Loopback)?;
    }
    streams(plan)?;
    // Nothing that the caller or we have open is there for what follows: not for a working folder of
    // /proc/self/fd/N, through which even our own descriptors would lead below a mask, and not for the command.
    if plan.hides_sockets {
        sys::landlock::abstract_sockets().and_then(|rules| sys::landlock::obey(&rules)).at(Step::Sockets)?;
    }
    let kept = close_others(plan).at(Step::Streams)?;
    let gate = match kept.gate {
        [Some(socket), fifo] => Some(gate::Waiting::new(socket, fifo).at(Step::Gate)?),
        _ => None,
    };
    let early = credentials::limit(&plan.process)?;
    credentials::assume(&plan.process, early)?;
    if let Some(gate) = gate {
        credentials::find(&plan.process)?;
        gate.wait().at(Step::Gate)?;
    }
    credentials::filter(&plan.process, kept.channel)?;
    Err(credentials::execute(&plan.process))
}

/// The life of a child in a root that it enters by chroot(2), in memory of its own ([`crate::bare`]).
pub(crate) fn bare(
    process: &PlannedProcess,
    root: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
) -> Result<Infallible, Failure> {
    setsid().at(Step::Streams)?;
    sys::exec::place(null, 0).at(Step::Streams)?;
    rustix::process::fchdir(root).and_then(|()| rustix::process::chroot(c".")).at(Step::Root)?;
    let early = credentials::limit(process)?;
    credentials::assume(process, early)?;
    // whatever ends the process above us
    sys::process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize).at(Step::Streams)?;
    let channel = process.owners.as_ref().map(|owners| owners.theirs());
    credentials::filter(process, channel)?;
    Err(credentials::execute(process))
}

/// Closes all but the streams, the program that becomes the first process, in its own place, and after it what is kept.
fn close_others(plan: &Plan) -> Result<Kept, Errno> {
    let (mut kept, mut next) = (Kept::default(), INIT_PROGRAM);
    let mut hold = |fd: BorrowedFd<'_>| {
        let held = sys::exec::hold(fd, next);
        next += 1;
        held
    };
    if let Some((program, _)) = &plan.process.init {
        hold(program.as_fd())?;
    }
    if let Some(owners) = &plan.process.owners {
        kept.channel = Some(hold(owners.theirs())?);
    }
    if let Some(gate) = &plan.gate {
        for (place, fd) in kept.gate.iter_mut().zip(gate.theirs()) {
            *place = fd.map(&mut hold).transpose()?;
        }
    }
    sys::exec::close_from(next)?;
    Ok(kept)
}

/// Places the streams. A session of its own in any case: without one, the caller's terminal would be the container's
/// controlling terminal, into which TIOCSTI writes.
fn streams(plan: &Plan) -> Result<(), Failure> {
    setsid().at(Step::Streams)?;
    for (number, stream) in plan.streams.iter().enumerate() {
        sys::exec::place(stream.as_fd(), number as u32).at(Step::Streams)?;
    }
    if let Some(terminal) = &plan.terminal {
        rustix::process::ioctl_tiocsctty(&terminal.slave).at(Step::Terminal)?;
    }
    Ok(())
}
