//! Where groups lie, how they come and go, and the sweep that removes what the dead left.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::delegation;
use super::mountinfo::{self, MountEntry};
use super::v2::offers;
use crate::error::Error;

/// Our folder at the top of each hierarchy.
pub(super) const PARENT: &str = "slipway";
/// What begins the name of a group whose container lives beyond its owner; no name of a caller's has it.
pub(super) const BEYOND: &str = "~";
/// How often and how long removal waits: v1 hierarchies let a group go a moment after its last process was reaped.
const REMOVAL_ATTEMPTS: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);
/// How often a new group is made again because a sweeper took it in the moment before it was locked.
const MAKE_ATTEMPTS: u32 = 100;

/// Where hierarchies are mounted.
pub(super) struct Hierarchies {
    pub(super) v1: Vec<MountEntry>,
    pub(super) v2: Option<PathBuf>,
}

/// Removes the groups of owners that died without doing so, and kills what still runs in them. Gives how many it removed.
pub fn sweep() -> Result<usize, Error> {
    let hierarchies = hierarchies();
    let delegated = delegation::base().filter(|base| Some(*base) != hierarchies.v2.as_deref());
    let tops =
        hierarchies.v1.iter().map(|entry| &*entry.target).chain(hierarchies.v2.as_deref()).chain(delegated);
    let mut removed = 0;
    for parent in tops.map(|top| top.join(PARENT)) {
        let entries = match fs::read_dir(&parent) {
            Ok(entries) => entries,
            // another user's that we may not even read is not ours to sweep
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                continue;
            }
            Err(source) => return Err(Error::Cgroup { path: parent, source }),
        };
        for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name().to_string_lossy())) {
            // held until the end: two sweepers never work on one group
            let Some(_held) = lock_of_the_dead(&entry.path()) else { continue };
            let gone = if is_beyond(&entry.file_name().to_string_lossy()) {
                // the kernel refuses as long as anything runs in it
                fs::remove_dir(entry.path())
            } else {
                kill_all(&entry.path());
                remove(&entry.path())
            };
            removed += usize::from(gone.is_ok());
        }
    }
    Ok(removed)
}

/// Whether a group's name is one that [`super::Group`] gives.
fn is_ours(name: &str) -> bool {
    name.split_once('.').is_some_and(|(id, _)| slipway_oci::lease::is_id(id))
}

/// Whether a group's container lives beyond its owner.
fn is_beyond(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, name)| name.starts_with(BEYOND))
}

/// The group's lock, if nobody held it.
fn lock_of_the_dead(folder: &Path) -> Option<OwnedFd> {
    let held = open(folder, OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
    flock(&held, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(held)
}

fn kill_all(folder: &Path) {
    // kills all at once, also what this pid namespace does not see (cgroup-v2.rst, since Linux 5.14)
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        // One that is gone already is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// The hierarchies, looked for once.
pub(super) fn hierarchies() -> &'static Hierarchies {
    static FOUND: OnceLock<Hierarchies> = OnceLock::new();
    FOUND.get_or_init(|| {
        let entries = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let v2 = entries.iter().find(|entry| entry.kind == "cgroup2").map(|entry| entry.target.clone());
        let v1 = entries.into_iter().filter(|entry| entry.kind == "cgroup").collect();
        Hierarchies { v1, v2 }
    })
}

/// The controllers of each version, for the probe.
pub(crate) fn controllers() -> (Vec<String>, Vec<String>) {
    const KNOWN: [&str; 4] = ["memory", "pids", "cpu", "cpuset"];
    let found = hierarchies();
    let has_v1 =
        |name: &&str| found.v1.iter().any(|entry| entry.options.iter().any(|option| option == *name));
    let v1 = KNOWN.into_iter().filter(has_v1).map(str::to_owned).collect();
    let v2 = KNOWN.into_iter().filter(|name| found.v2.as_deref().is_some_and(|top| offers(top, name)));
    (v1, v2.map(str::to_owned).collect())
}

/// Makes our folder at the top of a hierarchy, closed to other users.
pub(super) fn make_parent(folder: &Path) -> Result<(), Error> {
    slipway_oci::private::folder(folder).map(drop).map_err(|error| failed(folder, io::Error::other(error)))
}

/// Makes a group's folder and holds its lock, which says that its owner lives.
pub(super) fn make_held(folder: &Path) -> Result<OwnedFd, Error> {
    for _ in 0..MAKE_ATTEMPTS {
        fs::create_dir(folder).map_err(|source| failed(folder, source))?;
        // the mode that the kernel gives groups, whatever the umask; a sweeper may have taken it by now
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
        let held = match open(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(_) if !folder.exists() => continue,
            other => other?,
        };
        // waits for a sweeper only, and that one is about to remove the folder
        rustix::io::retry_on_intr(|| flock(&held, FlockOperation::LockExclusive))
            .map_err(|errno| failed(folder, errno.into()))?;
        let made = rustix::fs::fstat(&held).map_err(|errno| failed(folder, errno.into()))?;
        match rustix::fs::stat(folder) {
            Ok(there) if there.st_ino == made.st_ino => return Ok(held),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(folder, errno.into())),
        }
    }
    Err(failed(folder, io::ErrorKind::ResourceBusy.into()))
}

/// Opens a group's file or folder.
pub(super) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed(path, errno.into()))
}

/// Writes a group's files in this order.
pub(super) fn write_all(folder: &Path, files: &[(&str, String)]) -> Result<(), Error> {
    for (file, value) in files {
        let path = folder.join(file);
        fs::write(&path, value).map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

/// The error for a path of a group.
pub(super) fn failed(path: &Path, source: io::Error) -> Error {
    Error::Cgroup { path: path.to_owned(), source }
}

/// Removes an empty group.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..REMOVAL_ATTEMPTS {
        result = fs::remove_dir(folder);
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(REMOVAL_PAUSE),
            _ => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_looked_at() {
        assert!(is_ours("00000000000000aa.build"));
        for name in ["somebody-elses", "12.34.build", "00000000000000aa", "", ".", "..", "00000000000000AA.x"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }

    /// Our folder in the hierarchy of version 1 that counts processes.
    fn pids() -> Option<PathBuf> {
        let has = |entry: &&MountEntry| entry.options.iter().any(|name| name == "pids");
        let parent = hierarchies().v1.iter().find(has)?.target.join(PARENT);
        make_parent(&parent).unwrap();
        Some(parent)
    }

    fn sleeper_in(folder: &Path) -> std::process::Child {
        let sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(folder.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        sleeper
    }

    #[test]
    fn privileged_sweeping_kills_and_removes_what_the_dead_left() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let Some(parent) = pids() else { return slipway_skip::skip("there is no version 1 pids controller") };
        let folder = parent.join("00000000000000d1.left-over");
        let held = make_held(&folder).unwrap();
        let mut sleeper = sleeper_in(&folder);
        sweep().unwrap();
        assert!(folder.exists() && sleeper.try_wait().unwrap().is_none(), "its owner lives");
        drop(held);
        // As init would: reap it, so that the group becomes empty.
        let reaper = thread::spawn(move || sleeper.wait().unwrap());
        // another test's sweep may be first
        sweep().unwrap();
        assert!(!reaper.join().unwrap().success());
        for _ in 0..100 {
            if !folder.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the group stays");
    }

    /// An owner that this pid namespace does not see.
    #[test]
    fn privileged_sweeping_spares_an_owner_in_another_pid_namespace() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let Some(parent) = pids() else { return slipway_skip::skip("there is no version 1 pids controller") };
        let folder = parent.join("00000000000000d2.elsewhere");
        let script = format!("exec 9<{0}; flock -x 9; echo ready; exec sleep 1000", folder.display());
        // another test's sweep may take the folder before its owner holds it
        let holds = || {
            fs::create_dir(&folder).unwrap();
            let mut owner = std::process::Command::new("unshare")
                .args(["--pid", "--fork", "--kill-child", "sh", "-c", &script])
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let out = owner.stdout.take().unwrap();
            io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).unwrap();
            if line == "ready\n" && folder.exists() {
                return Some(owner);
            }
            let _ = owner.kill();
            owner.wait().unwrap();
            let _ = fs::remove_dir(&folder);
            None
        };
        let mut owner = (0..200).find_map(|_| holds()).expect("an owner in another pid namespace");
        sweep().unwrap();
        let spared = folder.exists();
        owner.kill().unwrap();
        owner.wait().unwrap();
        assert!(spared);
        for _ in 0..500 {
            sweep().unwrap();
            if !folder.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the group of a killed namespace is never swept");
    }

    #[test]
    fn privileged_makers_and_sweepers_do_not_meet() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let Some(parent) = pids() else { return slipway_skip::skip("there is no version 1 pids controller") };
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep().unwrap();
                }
            });
            for number in 0..200 {
                let folder = parent.join(format!("00000000000000d3.{number}"));
                let held = make_held(&folder).unwrap();
                assert!(folder.exists());
                remove(&folder).unwrap();
                drop(held);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
