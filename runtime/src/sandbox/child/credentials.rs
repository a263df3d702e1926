//! Who the process is: limits, filter, ids, capabilities, and the exec.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::Errno;
use rustix::process::chdir;
use rustix::thread::Timespec;

use super::{At, Failure};
use crate::error::Step;
use crate::sandbox::owners;
use crate::sandbox::plan::{OwnIds, PlannedProcess};
use crate::sandbox::sys;

/// The longest working folder that is checked (`PATH_MAX`, linux/limits.h).
const MAX_PATH_BYTES: usize = 4096;

/// How often a busy file is tried, 2 ms apart.
const BUSY_ATTEMPTS: u32 = 50;

/// Whether the working folder could be entered so far.
pub(super) struct Entered(Result<(), Errno>);

/// What needs no change of credentials, or to come before it.
pub(super) fn limit(process: &PlannedProcess) -> Result<Entered, Failure> {
    // The caller's keys are not the container's. Best effort: kernels without keyrings have none to leave.
    let _ = sys::process::new_session_keyring();
    for (place, (resource, soft, hard)) in process.rlimits.iter().enumerate() {
        sys::process::set_limit(*resource, *soft, *hard).at_place(Step::Rlimit, place)?;
    }
    // As root first, as runc does: the folder may be one that only root can reach.
    Ok(Entered(enter_working_folder(process)))
}

/// Gives up what the specification does not grant, but what [`filter`] needs. The order matters: emptying the bounding set
/// needs `CAP_SETPCAP`, changing ids needs `CAP_SETUID`, and the ids' change takes capabilities away; the filter comes last,
/// so that it need not allow what we do, and needs `CAP_SYS_ADMIN`, which goes after it.
pub(super) fn assume(process: &PlannedProcess, early: Entered) -> Result<(), Failure> {
    if process.no_new_privileges {
        sys::process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).at(Step::Capabilities)?;
    }
    if let Some(ids) = &process.own_ids {
        enter_own_ids(ids).at(Step::User)?;
    }
    drop_bounding(process).at(Step::Capabilities)?;
    sys::process::set_groups(&process.groups).or_else(|errno| ungrouped(process, errno)).at(Step::User)?;
    sys::process::set_group(process.gid).at(Step::User)?;
    // Where `fs.suid_dumpable` is 1 the change makes this copy of our caller's memory dumpable. Until that is undone the
    // capabilities that are kept hold the new user off: who has fewer may not look (ptrace(2), "access mode checking").
    sys::process::prctl(libc::PR_SET_KEEPCAPS, 1).at(Step::User)?;
    sys::process::set_user(process.uid).at(Step::User)?;
    sys::process::prctl(libc::PR_SET_DUMPABLE, 0).at(Step::User)?;
    sys::process::clear_ambient().at(Step::Capabilities)?;
    let needs_right = !process.filter.is_empty() && !process.no_new_privileges;
    let for_filter = if needs_right { SYS_ADMIN } else { 0 };
    sys::process::set_capabilities(process.permitted | for_filter).at(Step::Capabilities)?;
    match early.0 {
        // A file system that does not trust root, such as NFS: try again as the user.
        Err(Errno::ACCESS | Errno::PERM) => enter_working_folder(process).at(Step::Cwd)?,
        result => result.at(Step::Cwd)?,
    }
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    Ok(())
}

/// The last steps: signals as a program expects them, and the filter with what it needs.
pub(super) fn filter(process: &PlannedProcess, channel: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    // before the filter, which need not allow it
    sys::signal::make_default().at(Step::Exec)?;
    install_filter(process, channel)?;
    // The one call that a filter has to allow beside execve, as with runc.
    sys::process::set_capabilities(process.permitted).at(Step::Capabilities)
}

/// Looks for the command without executing it, so that what is missing is told before the gate.
pub(super) fn find(process: &PlannedProcess) -> Result<(), Failure> {
    let mut outcome = Err(Errno::NOENT);
    for candidate in &process.candidates {
        match accessat(CWD, &**candidate, Access::EXEC_OK, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => outcome = Err(errno),
        }
    }
    outcome.at(Step::Exec)
}

/// `CAP_SYS_ADMIN`, which a filter needs where new privileges are allowed (linux/capability.h).
const SYS_ADMIN: u64 = 1 << 21;

fn install_filter(process: &PlannedProcess, channel: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let mut programs = process.filter.iter();
    if let (Some(channel), Some(first)) = (channel, programs.as_slice().first()) {
        let listener = sys::seccomp::install_with_listener(first).at(Step::Seccomp)?;
        match owners::send(channel, &listener) {
            // who would answer has gone, and the calls fail as where nobody listens
            Err(Errno::PIPE | Errno::CONNRESET) => {}
            result => result.at(Step::Seccomp)?,
        }
        programs.next();
    }
    programs.try_for_each(|program| sys::seccomp::install(program)).at(Step::Seccomp)
}

/// Makes the only id another one, in a user namespace of the process's own: without capabilities over the one that the
/// mounts and namespaces belong to. Setgroups is denied there as it is here, which the map of groups needs.
fn enter_own_ids(ids: &OwnIds) -> Result<(), Errno> {
    sys::process::unshare(libc::CLONE_NEWUSER)?;
    // What cannot be dumped has files in /proc that are root's. This copy is the caller's own, and its user is none
    // but the caller: nobody sees it for this while who could not before.
    sys::process::prctl(libc::PR_SET_DUMPABLE, 1)?;
    for (path, map) in [(c"/proc/self/uid_map", &ids.uid_map), (c"/proc/self/gid_map", &ids.gid_map)] {
        let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, map.as_bytes())?;
    }
    sys::process::prctl(libc::PR_SET_DUMPABLE, 0).map(drop)
}

/// A user namespace that denies setgroups(2) (one mapped id) cannot set groups; the primary one alone, which every process
/// has, is none missing.
fn ungrouped(process: &PlannedProcess, errno: Errno) -> Result<(), Errno> {
    let beside = process.groups.iter().any(|group| *group != process.gid);
    if errno == Errno::PERM && !beside { Ok(()) } else { Err(errno) }
}

fn drop_bounding(process: &PlannedProcess) -> Result<(), Errno> {
    for capability in 0..=process.last_capability {
        if process.bounding & 1u64.wrapping_shl(capability) == 0 {
            match sys::process::prctl(libc::PR_CAPBSET_DROP, capability as usize) {
                // who may drop none need not, where it is gone
                Err(Errno::PERM)
                    if sys::process::prctl(libc::PR_CAPBSET_READ, capability as usize) == Ok(0) => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

/// Enters the working folder and makes sure that it is inside the root: a descriptor that leaked from the host, reached
/// as /proc/self/fd/N, is not (CVE-2024-21626), and the kernel then answers with "(unreachable)" and no slash.
fn enter_working_folder(process: &PlannedProcess) -> Result<(), Errno> {
    chdir(&*process.cwd)?;
    let mut buffer = [0u8; MAX_PATH_BYTES];
    match sys::process::working_folder(&mut buffer) {
        Ok(_) if buffer.first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(Errno::XDEV),
        // Deeper than PATH_MAX, and hence inside: what is outside has a short "(unreachable)" answer or this, too;
        // no way to tell, so no.
        Err(errno) => Err(errno),
    }
}

/// Executes the first candidate that can be; comes back only with a failure.
pub(super) fn execute(process: &PlannedProcess) -> Failure {
    let fail = |errno| Failure { step: Step::Exec, place: 0, errno };
    if let Some((_, args)) = &process.init {
        let errno = sys::exec::execute_kept(super::INIT_PROGRAM, args, &process.env);
        return Failure { step: Step::Init, place: 0, errno };
    }
    let mut outcome = Errno::NOENT;
    for candidate in &process.candidates {
        match execute_one(process, candidate) {
            Errno::NOENT | Errno::NOTDIR => {}
            // As execvp(3): go on searching, but remember that something was there.
            Errno::ACCESS => outcome = Errno::ACCESS,
            errno => return fail(errno),
        }
    }
    fail(outcome)
}

/// Executes one candidate. `ETXTBSY` is tried again for a while: a file that was just written counts as open for writing
/// as long as another child, cloned at that moment by another thread, has not yet closed its copy of the descriptor.
fn execute_one(process: &PlannedProcess, path: &CStr) -> Errno {
    let pause = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    let mut outcome = Errno::TXTBSY;
    for _ in 0..BUSY_ATTEMPTS {
        outcome = sys::exec::execve(path, &process.args, &process.env);
        if outcome != Errno::TXTBSY {
            break;
        }
        let _ = rustix::thread::nanosleep(&pause);
    }
    outcome
}
