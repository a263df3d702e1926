//! What a command has left running: killed, until there is none.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{WaitOptions, getpid, wait};
use rustix::thread::{Timespec, nanosleep};

use crate::sandbox::sys;

/// How often processes are looked for before those that were found are killed: each round finds what the last one's have
/// made before they were stopped.
const ROUNDS: usize = 16;

/// Kills everything that descends from this process, and waits until all of it has ended. `proc` is `/proc`.
///
/// Orphans become this process's children, so that nothing gets away by having its parent end.
pub(super) fn end(proc: &OwnedFd) -> Result<(), Errno> {
    loop {
        let mut stopped = BTreeSet::new();
        for _ in 0..ROUNDS {
            let found = descendants(proc)?;
            let new: Vec<i32> = found.difference(&stopped).copied().collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                // one that has ended meanwhile is none
                let _ = sys::signal::kill(pid, libc::SIGSTOP);
                stopped.insert(pid);
            }
        }
        for pid in &stopped {
            let _ = sys::signal::kill(*pid, libc::SIGKILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        let _ = nanosleep(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
    }
}

/// All processes below this one.
fn descendants(proc: &OwnedFd) -> Result<BTreeSet<i32>, Errno> {
    let mut parents = Vec::new();
    for entry in Dir::read_from(proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(proc, pid) {
            parents.push((pid, parent));
        }
    }
    let mut found = BTreeSet::new();
    let mut above = BTreeSet::from([getpid().as_raw_nonzero().get()]);
    loop {
        let below: BTreeSet<i32> = parents
            .iter()
            .filter(|(pid, parent)| above.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if below.is_empty() {
            return Ok(found);
        }
        found.extend(&below);
        above = below;
    }
}

/// The parent that `/proc/PID/stat` names (proc_pid_stat(5)); the name before it may hold anything but ends with `)`.
fn parent_of(proc: &OwnedFd, pid: i32) -> Option<i32> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(proc, format!("{pid}/stat"), flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}
