//! After `kill -9` of slipway no container process survives: a companion process sees to it.
//!
//! `PR_SET_PDEATHSIG` is not up to this: it fires when the *thread* that cloned ends, it is lost when the process
//! executes a set-user-id program or changes its user, and the process itself may switch it off. Instead the first
//! [`enroll`] starts one companion. It shares this process's memory but not its descriptors, belongs to a session of
//! its own, blocks every signal, and sleeps until this process's pidfd reports its end. Then it kills every process
//! whose id is in [`SLOTS`] and exits. The kernel itself writes a new container's id to its slot (CLONE_PARENT_SETTID)
//! before the container's first instruction, so there is no moment at which it is not covered.
//!
//! A slot is emptied before its process is reaped. An id in a slot is thus one of a child not yet reaped; should it have
//! been reaped by init and used again in the instant after this process's death, the newcomer is spared unless it, too, is
//! the first process of a pid namespace.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, chdir, pidfd_open, pidfd_send_signal, setsid};

use crate::error::Error;
use crate::sandbox::sys;

/// The most containers that one process can run at once.
const MAX_CONTAINERS: usize = 4096;
/// A slot that is taken and has no process yet. Ids end far below (`PID_MAX_LIMIT` is 2^22).
const RESERVED: u32 = u32::MAX;

/// The ids of the first processes of all running containers; 0 is free.
static SLOTS: [AtomicU32; MAX_CONTAINERS] = [const { AtomicU32::new(0) }; MAX_CONTAINERS];

/// The running companion's pidfd.
static COMPANION: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// A slot, freed when dropped.
#[derive(Debug)]
pub(crate) struct Enrolled(&'static AtomicU32);

impl Enrolled {
    /// Where the kernel writes the id.
    pub(crate) fn slot(&self) -> &'static AtomicU32 {
        self.0
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

/// Takes a slot, and starts the companion if none is alive.
pub(crate) fn enroll() -> Result<Enrolled, Error> {
    ensure_companion().map_err(|errno| Error::Clone { source: errno.into() })?;
    let free =
        |slot: &&AtomicU32| slot.compare_exchange(0, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    SLOTS.iter().find(free).map(Enrolled).ok_or(Error::TooMany(MAX_CONTAINERS))
}

fn ensure_companion() -> Result<(), Errno> {
    let mut companion = COMPANION.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if companion.as_ref().is_some_and(is_running) {
        return Ok(());
    }
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    static OWN_PIDFD: AtomicU32 = AtomicU32::new(0);
    OWN_PIDFD.store(own.as_raw_fd() as u32, Ordering::Release);
    // It is born with every signal blocked: Ctrl-C goes to the whole foreground group before it has left it.
    let mask = sys::signal::set_mask(u64::MAX)?;
    let started = sys::clone::companion(watch, &OWN_PIDFD);
    sys::signal::set_mask(mask)?;
    *companion = Some(started?);
    // The descriptor's number must stay this process's pidfd until the companion has copied it, which clone did.
    drop(own);
    Ok(())
}

fn is_running(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(0))
}

/// The companion's life: system calls only, in memory that is shared with the watched process.
fn watch(own_pidfd: &AtomicU32) -> ! {
    // A session of its own: signals to slipway's process group are not for it.
    let _ = setsid();
    let _ = chdir(c"/");
    let _ = rustix::thread::set_name(c"slipway-guard");
    if let Some(pidfd) = only_pidfd(own_pidfd.load(Ordering::Acquire)) {
        wait_for_end(&pidfd);
        SLOTS.iter().for_each(kill);
    }
    sys::exec::exit(0)
}

/// Closes everything but the watched process's pidfd, so that no pipe or lock of it outlives it.
fn only_pidfd(number: u32) -> Option<OwnedFd> {
    let pidfd = sys::exec::adopt_as_first(number).ok()?;
    sys::exec::close_from(1).ok()?;
    Some(pidfd)
}

fn wait_for_end(pidfd: &OwnedFd) {
    loop {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) | Ok(0) => {}
            _ => return,
        }
    }
}

fn kill(slot: &AtomicU32) {
    let id = slot.load(Ordering::Acquire);
    if id == 0 || id == RESERVED {
        return;
    }
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if may_be_container(id) {
        let _ = pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
    }
}

/// Whether the process is the first of a pid namespace other than ours: its last `NSpid` is 1. If that cannot be read,
/// it counts as a container.
fn may_be_container(id: u32) -> bool {
    let mut path = [0u8; 32];
    let length = status_path(id, &mut path);
    let mut buffer = [0u8; 4096];
    let Some(path) = path.get(..length) else { return true };
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let Some(text) =
        file.and_then(|file| rustix::io::read(file, &mut buffer)).ok().and_then(|n| buffer.get(..n))
    else {
        return true;
    };
    match text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"NSpid:")) {
        Some(line) => line.ends_with(b"\t1"),
        None => true,
    }
}

/// Writes `/proc/<id>/status` without allocating; gives its length.
fn status_path(id: u32, path: &mut [u8; 32]) -> usize {
    let mut digits = [0u8; 10];
    let (mut rest, mut count) = (id, 0);
    for digit in &mut digits {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    let number = digits.iter().take(count).rev();
    let bytes = b"/proc/".iter().chain(number).chain(b"/status");
    let mut length = 0;
    for (place, byte) in path.iter_mut().zip(bytes) {
        *place = *byte;
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_paths_are_spelled_without_allocation() {
        for id in [1, 10, 4_194_304, u32::MAX - 1] {
            let mut path = [0; 32];
            let length = status_path(id, &mut path);
            assert_eq!(std::str::from_utf8(&path[..length]).unwrap(), format!("/proc/{id}/status"));
        }
    }

    #[test]
    fn ordinary_processes_are_spared() {
        assert_eq!(may_be_container(std::process::id()), std::process::id() == 1);
    }
}
