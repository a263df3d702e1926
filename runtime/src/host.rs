//! What this machine allows, probed once: for `slipway info`, and for the choices that depend on it.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::statfs;
use serde::Serialize;

use crate::cgroup;
use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::sys;

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// The facts that planning needs.
pub(crate) struct Facts {
    /// Whether this process is in a user namespace other than the first.
    pub(crate) in_user_namespace: bool,
    /// The permitted capabilities.
    pub(crate) capabilities: u64,
    /// The highest capability the kernel has.
    pub(crate) last_capability: u32,
    /// Whether `/sys/fs/cgroup` is the one cgroup2 hierarchy.
    pub(crate) cgroup2_only: bool,
    /// Whether abstract unix sockets of a shared network can be hidden.
    pub(crate) hides_abstract_sockets: bool,
}

/// The facts, gathered at the first call: after [`levels::enter`](crate::levels::enter), which changes some.
pub(crate) fn facts() -> &'static Facts {
    static FACTS: OnceLock<Facts> = OnceLock::new();
    FACTS.get_or_init(|| Facts {
        in_user_namespace: in_user_namespace(),
        capabilities: sys::process::permitted_capabilities().unwrap_or(0),
        last_capability: number("/proc/sys/kernel/cap_last_cap").unwrap_or(40) as u32,
        cgroup2_only: is_cgroup2(Path::new("/sys/fs/cgroup")),
        hides_abstract_sockets: hides_abstract_sockets(),
    })
}

/// Scopes came with version 6 of Landlock's interface (Linux 6.12).
fn hides_abstract_sockets() -> bool {
    sys::landlock::version() >= 6
}

/// The capabilities that containers can have here: the calling process's own.
pub fn capabilities() -> CapabilitySet {
    CapabilitySet::from_bits(facts().capabilities)
}

/// Whether the calling process is in a user namespace other than the first, which alone maps every id to itself
/// (user_namespaces(7)).
pub fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type as u64 == CGROUP2_MAGIC)
}

/// What the machine allows, in the words of `slipway info`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// The namespaces that the kernel has (`/proc/self/ns`).
    pub namespaces: Vec<String>,
    /// Whether overlayfs is there.
    pub overlay: bool,
    /// The most user namespaces that may be made here; 0 is none.
    pub max_user_namespaces: u64,
    /// Whether Ubuntu's AppArmor rule keeps unconfined programs from user namespaces.
    pub apparmor_restricts_user_namespaces: bool,
    /// Whether system call filters are there.
    pub seccomp: bool,
    /// The limits that version 1 control groups can set.
    pub cgroup1_controllers: Vec<String>,
    /// The limits that version 2 control groups can set.
    pub cgroup2_controllers: Vec<String>,
    /// Whether this process is in a user namespace.
    pub in_user_namespace: bool,
    /// Whether overlays must keep their marks in `user.*` attributes.
    pub userxattr: bool,
    /// What steps and containers have for a network where they ask for nothing, and what of it they reach.
    pub network: NetworkReport,
    /// How strong a sandbox the process gets, as [`levels::Tier`](crate::levels::Tier) names it; the namespaces that it
    /// would enter are not tried.
    pub tier: crate::levels::Tier,
}

/// The network of steps and containers that ask for nothing, in the words of `slipway info`.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkReport {
    /// It is the host's: there is no other with a way out yet.
    pub default: &'static str,
    /// Whether services that listen on the host's loopback are reached.
    pub host_loopback: bool,
    /// Whether raw sockets can be made, with which others' traffic is read and forged.
    pub raw_sockets: bool,
    /// Whether the host's abstract unix sockets are reached: where the kernel cannot hide them.
    pub host_abstract_sockets: bool,
}

/// Looks at the machine. Makes nothing and needs no privilege.
pub fn probe() -> Report {
    let mut namespaces: Vec<String> = fs::read_dir("/proc/self/ns")
        .map(|entries| {
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    namespaces.retain(|name| !name.ends_with("_for_children"));
    namespaces.sort();
    let (cgroup1_controllers, cgroup2_controllers) = cgroup::controllers();
    Report {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        overlay: fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\toverlay\n")),
        max_user_namespaces: number("/proc/sys/user/max_user_namespaces").unwrap_or(0),
        apparmor_restricts_user_namespaces: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
            == Some(1),
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        cgroup1_controllers,
        cgroup2_controllers,
        in_user_namespace: in_user_namespace(),
        userxattr: in_user_namespace(),
        network: NetworkReport {
            default: "host",
            host_loopback: true,
            raw_sockets: false,
            host_abstract_sockets: !hides_abstract_sockets(),
        },
        tier: crate::levels::expected(),
        namespaces,
    }
}

/// Whether a `privileged_` test can run; says so where it cannot.
#[cfg(test)]
pub(crate) fn tests_may_mount() -> bool {
    let able =
        slipway_skip::is_root() && sys::process::permitted_capabilities().is_ok_and(|set| set & 1 << 21 != 0);
    if !able {
        slipway_skip::skip("it needs root with CAP_SYS_ADMIN");
    }
    able
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_sees_the_kernel() {
        let report = probe();
        assert!(report.namespaces.iter().any(|name| name == "mnt"), "{report:?}");
        assert!(!report.kernel.is_empty());
    }
}
