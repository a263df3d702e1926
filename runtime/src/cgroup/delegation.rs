//! Which groups the caller may divide, and the words for those that it may not.
//!
//! Root divides the top of each hierarchy. In version 2 a user may divide a group that was delegated to it
//! (cgroup-v2.rst, "Delegation"), as `systemd-run --user --scope -p Delegate=yes` does with the one that it starts a
//! program in. A group that is divided among children has no processes of its own, so those that are in it move to a child
//! beside ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::placement::{PARENT, failed, hierarchies, write_all};
use super::v2::offers;
use crate::error::Error;

/// Where the processes go that were in a delegated group.
const CALLERS: &str = "slipway-callers";
/// How often what was started meanwhile is moved too.
const MOVES: u32 = 20;

/// The group of version 2 that ours are made in: the top where that may be divided, else the caller's own.
pub(super) fn base() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let top = hierarchies().v2.as_deref()?;
        let own = own(top, &fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
        let delegated = own.filter(|own| may_divide(top).is_err() && may_divide(own).is_ok());
        Some(delegated.unwrap_or_else(|| top.to_owned()))
    };
    FOUND.get_or_init(find).as_deref()
}

/// The caller's group of version 2, by proc_pid_cgroup(5); if that is where we moved it, the one above.
fn own(top: &Path, text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let whole = if path.is_empty() { top.to_owned() } else { top.join(path) };
    let is_moved = whole.file_name().is_some_and(|name| name == CALLERS);
    Some(if is_moved { whole.parent()?.to_owned() } else { whole })
}

/// Whether groups of ours can be made in a group.
fn may_divide(group: &Path) -> Result<(), Errno> {
    let parent = group.join(PARENT);
    match access(&parent, Access::WRITE_OK | Access::EXEC_OK) {
        Err(Errno::NOENT) => access(group, Access::WRITE_OK | Access::EXEC_OK),
        result => result,
    }
}

/// Refuses a limit in words where its groups cannot be made. `group` is where ours would lie, `version` of which it is.
pub(super) fn check(controller: &'static str, group: &Path, version: u8) -> Result<(), Error> {
    let Err(errno) = may_divide(group) else { return Ok(()) };
    Err(Error::Limit { limit: controller, reason: refusal(controller, group, version, errno) })
}

/// The refusal of a controller that no hierarchy has for this caller.
pub(super) fn missing(controller: &'static str) -> Error {
    let has_it = hierarchies().v2.as_deref().is_some_and(|top| offers(top, controller));
    let reason = if has_it {
        not_delegated(controller)
    } else {
        format!("this machine has no `{controller}` control groups: run it without the limit")
    };
    Error::Limit { limit: controller, reason }
}

fn refusal(controller: &str, group: &Path, version: u8, errno: Errno) -> String {
    match (errno, version) {
        (Errno::ROFS, _) => format!(
            "`{}` is mounted read-only, as in a container: mount it writable there (docker: `--privileged`), or run it \
             without the limit",
            group.display()
        ),
        (_, 1) => format!(
            "this machine's `{controller}` control groups are of version 1, which only root divides: run slipway as root, \
             start the machine with version 2 (`systemd.unified_cgroup_hierarchy=1`), or run it without the limit"
        ),
        _ => not_delegated(controller),
    }
}

fn not_delegated(controller: &str) -> String {
    format!(
        "no control group with `{controller}` is delegated to this user: start slipway in one (`systemd-run --user --scope \
         -p Delegate=yes slipway ...`), run it as root, or run it without the limit"
    )
}

/// Lets a group's children have a controller.
pub(super) fn enable(group: &Path, controller: &str) -> Result<(), Error> {
    let word = [("cgroup.subtree_control", format!("+{controller}"))];
    match write_all(group, &word) {
        Err(Error::Cgroup { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
            make_room(group)?;
            write_all(group, &word)
        }
        result => result,
    }
}

/// Moves all processes of a group to a child of it.
fn make_room(group: &Path) -> Result<(), Error> {
    let folder = group.join(CALLERS);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&folder, error)),
        _ => {}
    }
    let (from, to) = (group.join("cgroup.procs"), folder.join("cgroup.procs"));
    for _ in 0..MOVES {
        let text = fs::read_to_string(&from).map_err(|source| failed(&from, source))?;
        if text.trim().is_empty() {
            break;
        }
        for pid in text.lines() {
            match fs::write(&to, pid) {
                // it has ended meanwhile
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                result => result.map_err(|source| failed(&to, source))?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_group_is_found() {
        let top = Path::new("/sys/fs/cgroup");
        let cases = [
            (
                "0::/user.slice/user-1000.slice/run-r1.scope\n",
                Some("user.slice/user-1000.slice/run-r1.scope"),
            ),
            ("4:memory:/x\n0::/a/slipway-callers\n", Some("a")),
            ("0::/\n", Some("")),
            ("4:memory:/x\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = own(top, text);
            let expected = expected.map(|path| if path.is_empty() { top.to_owned() } else { top.join(path) });
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (version, errno, words) in [
            (1, Errno::ACCESS, &["version 1", "as root", "without the limit"][..]),
            (2, Errno::ACCESS, &["Delegate=yes", "as root", "without the limit"]),
            (2, Errno::ROFS, &["`/top` is mounted read-only", "without the limit"]),
            (1, Errno::ROFS, &["`/top` is mounted read-only", "--privileged"]),
        ] {
            let reason = refusal("memory", Path::new("/top"), version, errno);
            assert!(words.iter().all(|word| reason.contains(word)), "{version} {errno}: {reason}");
        }
        assert!(missing("no-such").to_string().contains("has no `no-such` control groups"));
    }

    /// With the one controller that machines of this kind have in version 2.
    #[test]
    fn privileged_a_delegated_group_is_divided_although_it_has_processes() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let Some(top) = hierarchies().v2.as_deref() else {
            return slipway_skip::skip("there is no version 2");
        };
        let Some(controller) =
            ["hugetlb", "pids", "memory", "cpu"].into_iter().find(|name| offers(top, name))
        else {
            return slipway_skip::skip("version 2 has no controller");
        };
        if write_all(top, &[("cgroup.subtree_control", format!("+{controller}"))]).is_err() {
            return slipway_skip::skip("the top group may not be divided");
        }
        let group = top.join(format!("slipway-test-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let mut sleepers: Vec<_> =
            (0..3).map(|_| std::process::Command::new("sleep").arg("1000").spawn().unwrap()).collect();
        for sleeper in &sleepers {
            fs::write(group.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        }
        let enabled = enable(&group, controller);
        let again = enable(&group, controller);
        let given = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap();
        let moved = fs::read_to_string(group.join(CALLERS).join("cgroup.procs")).unwrap();
        for sleeper in &mut sleepers {
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        }
        super::super::placement::remove(&group.join(CALLERS)).unwrap();
        super::super::placement::remove(&group).unwrap();
        assert!(enabled.is_ok() && again.is_ok(), "{enabled:?} {again:?}");
        assert_eq!(given.trim(), controller);
        assert_eq!(moved.lines().count(), 3, "{moved}");
    }
}
