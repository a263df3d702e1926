//! Where groups lie, how they come and go, and the sweep that removes what the dead left.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::mountinfo::{self, MountEntry};
use super::v2::offers;
use crate::error::Error;

/// Our folder at the top of each hierarchy.
pub(super) const PARENT: &str = "slipway";
/// How often and how long removal waits: v1 hierarchies let a group go a moment after its last process was reaped.
const REMOVAL_ATTEMPTS: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);

/// Where hierarchies are mounted.
pub(super) struct Hierarchies {
    pub(super) v1: Vec<MountEntry>,
    pub(super) v2: Option<PathBuf>,
}

/// Removes the groups of owners that died without doing so, and kills what still runs in them. Gives how many it removed.
pub fn sweep() -> Result<usize, Error> {
    let hierarchies = hierarchies();
    let tops = hierarchies.v1.iter().map(|entry| &entry.target).chain(&hierarchies.v2);
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
        for entry in entries.flatten().filter(|entry| is_orphan(&entry.file_name().to_string_lossy())) {
            kill_all(&entry.path());
            removed += usize::from(remove(&entry.path()).is_ok());
        }
    }
    Ok(removed)
}

fn is_orphan(name: &str) -> bool {
    let mut parts = name.splitn(3, '.');
    let (Some(pid), Some(start), Some(_)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { return false };
    start_time(pid) != Some(start)
}

fn kill_all(folder: &Path) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        // One that is gone already is what was wanted.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// What the names of this process's groups start with.
pub(super) fn owner_prefix() -> String {
    let pid = std::process::id();
    format!("{pid}.{}", start_time(pid).unwrap_or(0))
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22): with its id, its identity.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows its last parenthesis starts with field 3.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
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

/// Makes a group's folder, which may be there, with the mode that the kernel gives groups, whatever the umask.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.exists()) {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|source| failed(folder, source))
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
    fn only_groups_of_the_dead_are_orphans() {
        assert!(!is_orphan(&format!("{}.build", owner_prefix())));
        assert!(is_orphan(&format!("{}.1.build", std::process::id())));
        assert!(is_orphan("4194999.77.build"));
        assert!(!is_orphan("somebody-elses"));
    }

    #[test]
    fn privileged_sweeping_kills_and_removes_what_the_dead_left() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let Some(entry) =
            hierarchies().v1.iter().find(|entry| entry.options.iter().any(|name| name == "pids"))
        else {
            return slipway_skip::skip("there is no version 1 pids controller");
        };
        let folder = entry.target.join(PARENT).join("4194999.77.left-over");
        make_folder(&folder).unwrap();
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(folder.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        // As init would: reap it, so that the group becomes empty.
        let reaper = thread::spawn(move || sleeper.wait().unwrap());
        assert!(sweep().unwrap() >= 1);
        assert!(!folder.exists());
        assert!(!reaper.join().unwrap().success());
    }
}
