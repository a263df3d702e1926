//! The process between slipway and a command: makes the command's process, waits, and lets nothing of it stay.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};

use super::{NAME, Said, Wire, far_end, may_administer, remains};
use crate::container::identity::Identity;
use crate::error::Error;
use crate::ids;
use crate::root::RootFs;
use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::child::{self, Failure};
use crate::sandbox::owners;
use crate::sandbox::plan::PlannedProcess;
use crate::sandbox::spec::{SandboxSpec, Seccomp};
use crate::sandbox::sys;

/// If this process was executed to attend to a command, does that until nothing of it is left; the answer is its exit status.
/// `None` for every other process.
///
/// Call it at the very start of the program: it needs a process with one thread.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<u8> {
    (arguments.into_iter().next()? == NAME).then(|| {
        let said =
            attend().unwrap_or_else(|error| Said::Refused { words: slipway_oci::error::chain(&error) });
        let mut line = serde_json::to_vec(&said).unwrap_or_default();
        line.push(b'\n');
        // who asked may be gone
        let _ = rustix::io::write(far_end(), &line);
        0
    })
}

/// What a failed step is called on the way out of the child: which, and why.
const FAILURE_BYTES: usize = 8;

fn attend() -> Result<Said, Error> {
    let _ = rustix::thread::set_name(c"slipway-step");
    let failed = |source: io::Error| Error::Clone { source };
    let system = |errno: Errno| failed(errno.into());
    let socket = File::from(far_end().try_clone_to_owned().map_err(failed)?);
    let mut line = String::new();
    // no more than the line comes, so that nothing of what follows is taken in
    BufReader::new(&socket).read_line(&mut line).map_err(failed)?;
    let wire: Wire = serde_json::from_str(&line).map_err(|error| failed(error.into()))?;
    // what is signalled is slipway, which tells us by going away
    setsid().map_err(system)?;
    sys::process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(system)?;
    sys::signal::set_mask(u64::MAX).map_err(system)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = openat(CWD, c"/proc", flags, Mode::empty()).map_err(system)?;
    let root = openat(CWD, OsStr::from_bytes(&wire.root), flags, Mode::empty()).map_err(system)?;
    let process = process(&wire)?;
    let (pid, mut report) = start(&process, &root)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(system)?;
    // as the command has it, so that its paths lead where they lead for it
    rustix::process::fchdir(&root).and_then(|()| rustix::process::chroot(c".")).map_err(system)?;
    let mut failure = [0; FAILURE_BYTES];
    let before = report.read_exact(&mut failure);
    let keeper = match (&process.owners, &before) {
        (Some(channel), Err(_)) => {
            let proc = proc.try_clone().map_err(failed)?;
            owners::keep_here(channel, pidfd.as_fd(), proc).map_err(system)?
        }
        _ => None,
    };
    await_end(&pidfd, &socket).map_err(system)?;
    // whatever is left is killed before the command counts as ended
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let ended = sys::process::wait_used(pidfd.as_fd());
    remains::end(&proc).map_err(system)?;
    drop(keeper);
    if before.is_ok() {
        let [a, b, c, d, e, f, g, h] = failure;
        let (step, errno) = (u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]));
        return Ok(Said::Failed { step, errno });
    }
    let ((code, status), used) = ended.map_err(system)?;
    let micros = |time: libc::timeval| (time.tv_sec as u64) * 1_000_000 + time.tv_usec as u64;
    let used = [micros(used.ru_utime), micros(used.ru_stime), used.ru_maxrss as u64];
    let exited = code == libc::CLD_EXITED;
    Ok(Said::Ended { code: exited.then_some(status), signal: status, used })
}

/// The command in the kernel's terms.
fn process(wire: &Wire) -> Result<PlannedProcess, Error> {
    let root = RootFs::Directory(PathBuf::from(OsStr::from_bytes(&wire.root)));
    let mut spec = SandboxSpec::new(root, wire.args.iter());
    spec.process.env = wire.env.iter().map(OsString::from).collect();
    spec.process.cwd = PathBuf::from(&wire.cwd);
    spec.process.user = Identity { uid: wire.uid, gid: wire.gid, groups: wire.groups.clone() };
    spec.process.capabilities = CapabilitySet::from_bits(wire.capabilities);
    spec.single_id = wire.single_id;
    // who may not install a filter as root has the one of the container around, which is docker's
    if wire.unconfined || !may_administer() {
        spec.seccomp = Seccomp::Unconfined;
    }
    let mut process = PlannedProcess::new(&spec)?;
    // one that may change no owner may take another id all the same
    if ids::are_mapped(wire.uid, wire.gid) && process.own_ids.take().is_some() {
        process.groups.clone_from(&wire.groups);
    }
    process.no_new_privileges |= !process.filter.is_empty() && !may_administer();
    Ok(process)
}

/// Makes the command's process; gives its id, and where it says what has failed before the command.
fn start(process: &PlannedProcess, root: &OwnedFd) -> Result<(Pid, PipeReader), Error> {
    let failed = |source: io::Error| Error::Clone { source };
    let (report, mut tell) = io::pipe().map_err(failed)?;
    let null = File::open("/dev/null").map_err(failed)?;
    let forked = sys::process::fork().map_err(|errno| failed(errno.into()))?;
    let Some(pid) = forked.and_then(Pid::from_raw) else {
        let Err(failure) = become_command(process, root, &null);
        told(&failure, &mut tell);
        sys::exec::exit(125);
    };
    Ok((pid, report))
}

fn told(failure: &Failure, tell: &mut PipeWriter) {
    let mut bytes = (failure.step as u32).to_ne_bytes().to_vec();
    bytes.extend(failure.errno.raw_os_error().to_ne_bytes());
    // the parent waits for it, or is gone
    let _ = tell.write_all(&bytes);
}

fn become_command(process: &PlannedProcess, root: &OwnedFd, null: &File) -> Result<Infallible, Failure> {
    child::bare(process, root.as_fd(), null.as_fd())
}

/// Sleeps until the command has ended or slipway has gone.
fn await_end(pidfd: &OwnedFd, socket: &File) -> Result<(), Errno> {
    loop {
        let mut ends = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        match poll(&mut ends, None) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(()),
        }
    }
}
