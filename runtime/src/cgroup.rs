//! Limits: control groups, version 2 where the machine's controllers are there, version 1 where they are there
//! (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Hybrid machines have some of each.
//!
//! A container has a group only for limits that were asked for. It lies in `slipway/` at the top of its hierarchy and
//! is named `<owner's pid>.<owner's start time>.<name>`, so that [`sweep`] can tell whose owner is dead.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::mountinfo::{self, MountEntry};

/// Our folder at the top of each hierarchy.
const PARENT: &str = "slipway";
/// The longest name of a group, prefix not counted.
const MAX_NAME_BYTES: usize = 128;
/// How often and how long removal waits: v1 hierarchies let a group go a moment after its last process was reaped.
const REMOVAL_ATTEMPTS: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);

/// A group's name and limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupSpec {
    /// The container's or step's id: letters, digits, `_`, `-`, `.`, not first.
    pub name: String,
    /// The most memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most processes and threads.
    pub pids_max: Option<u64>,
    /// The most processor time.
    pub cpu_quota: Option<CpuQuota>,
    /// The processors it may run on, in the kernel's list form (`0-3,8`).
    pub cpuset_cpus: Option<String>,
}

/// Processor time per period: `--cpus 1.5` is 150000 of 100000 microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// Microseconds of processor time in each period.
    pub quota_us: u64,
    /// Microseconds of each period.
    pub period_us: u64,
}

/// A group that exists, removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
    /// The v2 folder, to clone into.
    v2: Option<OwnedFd>,
    /// The v1 groups' process lists, which the child writes itself into.
    v1: Vec<OwnedFd>,
}

/// Where hierarchies are mounted.
struct Hierarchies {
    v1: Vec<MountEntry>,
    v2: Option<PathBuf>,
}

/// One limit in the words of both versions.
struct Limit<'a> {
    controller: &'static str,
    v1: Vec<(&'a str, String)>,
    v2: Vec<(&'a str, String)>,
}

impl CgroupSpec {
    fn limits(&self) -> Vec<Limit<'_>> {
        let mut limits = Vec::new();
        if let Some(bytes) = self.memory_bytes {
            let value = bytes.to_string();
            let v1 = vec![("memory.limit_in_bytes", value.clone())];
            limits.push(Limit { controller: "memory", v1, v2: vec![("memory.max", value)] });
        }
        if let Some(count) = self.pids_max {
            let files = || vec![("pids.max", count.to_string())];
            limits.push(Limit { controller: "pids", v1: files(), v2: files() });
        }
        if let Some(CpuQuota { quota_us, period_us }) = self.cpu_quota {
            let v1 = vec![
                ("cpu.cfs_period_us", period_us.to_string()),
                ("cpu.cfs_quota_us", quota_us.to_string()),
            ];
            limits.push(Limit {
                controller: "cpu",
                v1,
                v2: vec![("cpu.max", format!("{quota_us} {period_us}"))],
            });
        }
        if let Some(cpus) = &self.cpuset_cpus {
            let v2 = vec![("cpuset.cpus", cpus.clone())];
            limits.push(Limit { controller: "cpuset", v1: v2.clone(), v2 });
        }
        limits
    }

    fn check(&self) -> Result<(), Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let fine = (1..=MAX_NAME_BYTES).contains(&self.name.len())
            && self.name.bytes().all(allowed)
            && !self.name.starts_with('.');
        if fine {
            return Ok(());
        }
        let reason = "must be 1 to 128 letters, digits, `_`, `-` and `.`, not starting with `.`";
        Err(Error::Invalid { what: format!("control group name {:?}", self.name), reason })
    }
}

impl Group {
    /// Makes the group and writes its limits; `None` when no limit was asked for.
    pub(crate) fn create(spec: &CgroupSpec) -> Result<Option<Group>, Error> {
        spec.check()?;
        let limits = spec.limits();
        if limits.is_empty() {
            return Ok(None);
        }
        let name = format!("{}.{}", owner_prefix(), spec.name);
        let mut group = Group { folders: Vec::new(), v2: None, v1: Vec::new() };
        for limit in &limits {
            group.apply(limit, &name)?;
        }
        Ok(Some(group))
    }

    fn apply(&mut self, limit: &Limit<'_>, name: &str) -> Result<(), Error> {
        let hierarchies = hierarchies();
        let owns = |entry: &&MountEntry| entry.options.iter().any(|option| option == limit.controller);
        if let Some(entry) = hierarchies.v1.iter().find(owns) {
            let folder = entry.target.join(PARENT).join(name);
            if limit.controller == "cpuset" {
                make_cpuset(&entry.target, &folder)?;
            }
            let is_new = self.make(&folder)?;
            write_all(&folder, &limit.v1)?;
            if is_new {
                self.v1.push(open(&folder.join("cgroup.procs"), OFlags::WRONLY)?);
            }
            return Ok(());
        }
        let Some(top) = hierarchies.v2.as_deref().filter(|top| offers(top, limit.controller)) else {
            let reason = "this machine's control groups have no such controller for this user";
            return Err(Error::Limit { limit: limit.controller, reason });
        };
        let parent = top.join(PARENT);
        make_folder(&parent)?;
        let enable = [("cgroup.subtree_control", format!("+{}", limit.controller))];
        write_all(top, &enable)?;
        write_all(&parent, &enable)?;
        let folder = parent.join(name);
        if self.make(&folder)? {
            self.v2 = Some(open(&folder, OFlags::RDONLY | OFlags::DIRECTORY)?);
        }
        write_all(&folder, &limit.v2)
    }

    /// Makes a folder once; two v1 controllers may share a hierarchy.
    fn make(&mut self, folder: &Path) -> Result<bool, Error> {
        if self.folders.iter().any(|made| made == folder) {
            return Ok(false);
        }
        make_folder(folder)?;
        self.folders.push(folder.to_owned());
        Ok(true)
    }

    /// The v2 folder for `CLONE_INTO_CGROUP`.
    pub(crate) fn folder(&self) -> Option<i32> {
        self.v2.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Moves the calling process into the v1 groups. Runs in the child: system calls only.
    pub(crate) fn join(&self) -> Result<(), Errno> {
        for list in &self.v1 {
            rustix::io::write(list, b"0")?;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What stays is found by the next sweep.
        self.folders.iter().for_each(|folder| drop(remove(folder)));
    }
}

/// Removes the groups of owners that died without doing so, and kills what still runs in them. Gives how many it removed.
pub fn sweep() -> Result<usize, Error> {
    let hierarchies = hierarchies();
    let tops = hierarchies.v1.iter().map(|entry| &entry.target).chain(&hierarchies.v2);
    let mut removed = 0;
    for parent in tops.map(|top| top.join(PARENT)) {
        let entries = match fs::read_dir(&parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
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

fn owner_prefix() -> String {
    let pid = std::process::id();
    format!("{pid}.{}", start_time(pid).unwrap_or(0))
}

/// When a process started, in clock ticks since boot (proc_pid_stat(5), field 22): with its id, its identity.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows its last parenthesis starts with field 3.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn hierarchies() -> &'static Hierarchies {
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

fn offers(top: &Path, controller: &str) -> bool {
    let text = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().any(|name| name == controller)
}

/// A cpuset group is unusable until both its lists are filled (cgroup-v1/cpusets.rst): take them from the parent.
fn make_cpuset(top: &Path, folder: &Path) -> Result<(), Error> {
    let parent = top.join(PARENT);
    for (from, to) in [(top, parent.as_path()), (&parent, folder)] {
        make_folder(to)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let text = |path: &Path| fs::read_to_string(path).map_err(|source| failed(path, source));
            if text(&to.join(file))?.trim().is_empty() {
                write_all(to, &[(file, text(&from.join(file))?.trim().to_owned())])?;
            }
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| failed(folder, source))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed(path, errno.into()))
}

fn write_all(folder: &Path, files: &[(&str, String)]) -> Result<(), Error> {
    for (file, value) in files {
        let path = folder.join(file);
        fs::write(&path, value).map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Cgroup { path: path.to_owned(), source }
}

fn remove(folder: &Path) -> io::Result<()> {
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
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", "..", "../x", "a/b", "a\nb", ".hidden", &"x".repeat(300)] {
            assert!(CgroupSpec { name: name.into(), ..CgroupSpec::default() }.check().is_err(), "{name:?}");
        }
        assert!(CgroupSpec { name: "step-3.run_1".into(), ..CgroupSpec::default() }.check().is_ok());
    }

    #[test]
    fn no_limit_means_no_group() {
        let spec = CgroupSpec { name: "x".into(), ..CgroupSpec::default() };
        assert!(Group::create(&spec).unwrap().is_none());
    }

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
            eprintln!("skipped: no version 1 pids controller");
            return;
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
