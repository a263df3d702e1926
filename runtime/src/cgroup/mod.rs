//! Limits: control groups, version 2 where the machine's controllers are there, version 1 where they are there
//! (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Hybrid machines have some of each.
//!
//! A container has a group only for limits that were asked for. It lies in `slipway/` at the top of its hierarchy, is
//! named `<16 random characters>.<name>`, and its owner holds `flock(2)` on the folder as long as it lives: so [`sweep`]
//! can tell, in whatever pid namespace, whose owner is dead. One whose container lives beyond its owner has a mark before its
//! name, `~`, and is removed when it is empty, never killed. `slipway/` is closed to other users, who could hold locks too.

mod delegation;
mod mountinfo;
mod placement;
mod v1;
mod v2;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::Error;
use crate::sandbox::spec::Life;
pub(crate) use placement::controllers;
pub use placement::sweep;
use placement::{make_held, remove, write_all};

/// The longest name of a group, prefix not counted.
const MAX_NAME_BYTES: usize = 128;
/// A group's name and limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupSpec {
    /// The container's or step's id: letters, digits, `_`, `-`, `.`, not first.
    pub name: String,
    /// The most memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most swap beside a memory limit.
    pub swap: SwapLimit,
    /// The most processes and threads.
    pub pids_max: Option<u64>,
    /// The most processor time.
    pub cpu_quota: Option<CpuQuota>,
    /// The processors it may run on, in the kernel's list form (`0-3,8`).
    pub cpuset_cpus: Option<String>,
}

/// How much swap a container has beside its memory; without a limit of memory it means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapLimit {
    /// As much as memory, where the kernel counts swap (docker's default).
    #[default]
    AsMemory,
    /// This many bytes.
    Bytes(u64),
    /// All that the machine has.
    Unlimited,
}

/// Processor time per period: `--cpus 1.5` is 150000 of 100000 microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// The same folders, locked.
    held: Vec<OwnedFd>,
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
    /// Whether a kernel without these files is refused, or does without.
    required: bool,
}

impl<'a> Limit<'a> {
    fn new(controller: &'static str, v1: Vec<(&'a str, String)>, v2: Vec<(&'a str, String)>) -> Limit<'a> {
        Limit { controller, v1, v2, required: true }
    }

    /// Writes a version's files of this limit. Swap is counted only by kernels that were told to (`swapaccount=1`).
    fn write(&self, folder: &Path, files: &[(&str, String)]) -> Result<(), Error> {
        let lacks = files.iter().any(|(file, _)| self.controller == "memory" && !folder.join(file).exists());
        match (lacks, self.required) {
            (true, false) => Ok(()),
            (true, true) => {
                let reason = "this kernel does not count swap: run it without the limit, or start the machine with `swapaccount=1`";
                Err(Error::Limit { limit: "swap", reason: reason.to_owned() })
            }
            (false, _) => write_all(folder, files),
        }
    }
}

impl CgroupSpec {
    fn limits(&self) -> Vec<Limit<'_>> {
        let mut limits = Vec::new();
        if let Some(bytes) = self.memory_bytes {
            let value = bytes.to_string();
            limits.push(Limit::new(
                "memory",
                vec![("memory.limit_in_bytes", value.clone())],
                vec![("memory.max", value)],
            ));
            limits.extend(self.swap(bytes));
        }
        if let Some(count) = self.pids_max {
            let files = || vec![("pids.max", count.to_string())];
            limits.push(Limit::new("pids", files(), files()));
        }
        if let Some(CpuQuota { quota_us, period_us }) = self.cpu_quota {
            let v1 = vec![
                ("cpu.cfs_period_us", period_us.to_string()),
                ("cpu.cfs_quota_us", quota_us.to_string()),
            ];
            limits.push(Limit::new("cpu", v1, vec![("cpu.max", format!("{quota_us} {period_us}"))]));
        }
        if let Some(cpus) = &self.cpuset_cpus {
            let files = || vec![("cpuset.cpus", cpus.clone())];
            limits.push(Limit::new("cpuset", files(), files()));
        }
        limits
    }

    /// After the memory limit, which version 1 keeps from being above that of both.
    fn swap(&self, memory_bytes: u64) -> Option<Limit<'static>> {
        let (bytes, required) = match self.swap {
            SwapLimit::AsMemory => (memory_bytes, false),
            SwapLimit::Bytes(bytes) => (bytes, true),
            SwapLimit::Unlimited => return None,
        };
        let both = memory_bytes.saturating_add(bytes).to_string();
        let v1 = vec![("memory.memsw.limit_in_bytes", both)];
        Some(Limit { required, ..Limit::new("memory", v1, vec![("memory.swap.max", bytes.to_string())]) })
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
    pub(crate) fn create(spec: &CgroupSpec, life: Life) -> Result<Option<Group>, Error> {
        spec.check()?;
        let limits = spec.limits();
        if limits.is_empty() {
            return Ok(None);
        }
        let id = slipway_oci::lease::random_id()
            .map_err(|source| placement::failed(Path::new(&spec.name), source))?;
        let mark = if life == Life::Beyond { placement::BEYOND } else { "" };
        let name = format!("{id}.{mark}{}", spec.name);
        let mut group = Group { folders: Vec::new(), held: Vec::new(), v2: None, v1: Vec::new() };
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
        self.held.push(make_held(folder)?);
        self.folders.push(folder.to_owned());
        Ok(true)
    }

    /// The v2 folder for `CLONE_INTO_CGROUP`.
    pub(crate) fn folder(&self) -> Option<i32> {
        self.v2.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Leaves the group where it is, to be found by a sweep when it is empty.
    pub(crate) fn leave(mut self) {
        self.folders.clear();
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
    fn memory_limits_swap_as_docker_does() {
        let written = |swap| {
            let spec = CgroupSpec { memory_bytes: Some(100), swap, ..CgroupSpec::default() };
            let files = |limit: &Limit<'_>| {
                let words = |files: &[(&str, String)]| {
                    files.iter().map(|(file, value)| format!("{file}={value}")).collect::<String>()
                };
                format!("{} {} {}", words(&limit.v1), words(&limit.v2), limit.required)
            };
            spec.limits().iter().map(files).collect::<Vec<_>>()
        };
        let memory = "memory.limit_in_bytes=100 memory.max=100 true";
        let cases = [
            (SwapLimit::AsMemory, Some("memory.memsw.limit_in_bytes=200 memory.swap.max=100 false")),
            (SwapLimit::Bytes(50), Some("memory.memsw.limit_in_bytes=150 memory.swap.max=50 true")),
            (SwapLimit::Bytes(0), Some("memory.memsw.limit_in_bytes=100 memory.swap.max=0 true")),
            (SwapLimit::Unlimited, None),
        ];
        for (swap, more) in cases {
            assert_eq!(written(swap), [memory].into_iter().chain(more).collect::<Vec<_>>(), "{swap:?}");
        }
        let spec = CgroupSpec { swap: SwapLimit::Bytes(5), ..CgroupSpec::default() };
        assert!(spec.limits().is_empty(), "swap alone is no limit");
    }

    #[test]
    fn what_the_kernel_does_not_count_is_refused_if_it_was_asked_for() {
        let folder = tempfile::tempdir().expect("folder");
        let spec = |swap| CgroupSpec { memory_bytes: Some(100), swap, ..CgroupSpec::default() };
        let write =
            |swap| spec(swap).limits()[1].write(folder.path(), &[("memory.swap.max", "1".to_owned())]);
        assert!(write(SwapLimit::AsMemory).is_ok());
        assert!(matches!(write(SwapLimit::Bytes(1)), Err(Error::Limit { limit: "swap", .. })));
    }

    #[test]
    fn no_limit_means_no_group() {
        let spec = CgroupSpec { name: "x".into(), ..CgroupSpec::default() };
        assert!(Group::create(&spec, Life::WithCaller).unwrap().is_none());
    }
}
