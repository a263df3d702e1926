//! Limits: control groups, version 2 where the machine's controllers are there, version 1 where they are there
//! (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Hybrid machines have some of each.
//!
//! A container has a group only for limits that were asked for. It lies in `slipway/` at the top of its hierarchy and
//! is named `<owner's pid>.<owner's start time>.<name>`, so that [`sweep`] can tell whose owner is dead.

mod mountinfo;
mod placement;
mod v1;
mod v2;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::Error;
pub(crate) use placement::controllers;
pub use placement::sweep;
use placement::{make_folder, owner_prefix, remove};

/// The longest name of a group, prefix not counted.
const MAX_NAME_BYTES: usize = 128;
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
        if let Some(hierarchy) = v1::hierarchy(limit.controller) {
            return v1::apply(self, hierarchy, limit, name);
        }
        v2::apply(self, limit, name)
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
}
