//! Becoming root in a user namespace, without a process in between (user_namespaces(7), subuid(5), newuidmap(1)).
//!
//! [`enter`] is called at the very start of a single-threaded program. It makes a user and a mount namespace for the
//! calling process itself, has a short-lived helper outside write the id maps, and returns as uid 0 of the namespace:
//!
//! ```text
//! slipway ── fork ──> helper (old namespace) ── newuidmap, newgidmap for the parent's pid ── exits with the outcome
//!    └── unshare(USER | NS), "go" through a pipe ────┘            └── wait, setresgid 0, setresuid 0, private mounts
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::process::Command;
use std::sync::OnceLock;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde::Serialize;

use crate::bare;
use crate::host;
use crate::sandbox::sys;

/// How strong a sandbox the process gets (DESIGN §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Root with mounts: everything.
    Root,
    /// Root of a user namespace with subordinate ids.
    SubordinateIds,
    /// Root of a user namespace with one user and one group; changes of owner are answered, not done.
    SingleId,
    /// No namespaces and no mounts: steps run on a copied root that they enter by chroot(2) ([`crate::bare`]).
    Bare,
}

impl Tier {
    /// The name that `slipway info` prints.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Root => "root",
            Tier::SubordinateIds => "user namespace with subordinate ids",
            Tier::SingleId => "user namespace with a single id",
            Tier::Bare => "copied root, without namespaces",
        }
    }
}

/// The outcome of [`enter`].
#[derive(Debug)]
pub struct Entered {
    /// What was reached.
    pub tier: Tier,
    /// Whether owners have to be kept beside files, since there is one id, or no right to change them.
    pub single_id: bool,
    /// Why it was not the better one, in words for the user.
    pub note: Option<String>,
}

/// What sandbox is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest that there is.
    #[default]
    Strongest,
    /// A copied root and chroot(2), which works where nothing else does.
    Chroot,
}

/// Why no user namespace could be entered.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// `user.max_user_namespaces` is 0 or used up.
    #[error("this machine allows no further user namespaces (sysctl `user.max_user_namespaces` is {max})")]
    Exhausted {
        /// The limit.
        max: u64,
    },
    /// AppArmor forbids it to programs without a profile, as on Ubuntu 24.04.
    #[error(
        "AppArmor forbids user namespaces to this program (sysctl `kernel.apparmor_restrict_unprivileged_userns` is 1)"
    )]
    AppArmor,
    /// The kernel or a system call filter forbids it.
    #[error("cannot create a user namespace")]
    Refused(#[source] io::Error),
    /// A step after the namespace was made failed.
    #[error("cannot {step} in the new user namespace")]
    Setup {
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl UsernsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            UsernsError::Exhausted { .. } => Some("as root: `sysctl user.max_user_namespaces=15000`"),
            UsernsError::AppArmor => Some(
                "give slipway an AppArmor profile with `userns,`, or as root: \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
            ),
            UsernsError::Refused(_) => Some(
                "inside a container run slipway as its root, with CAP_SYS_CHROOT, which docker, podman and Kubernetes give \
                 where nobody takes it away: then builds work without namespaces. Or let the container's runtime allow \
                 `unshare` (docker: `--security-opt seccomp=unconfined`)",
            ),
            UsernsError::Setup { .. } => None,
        }
    }
}

/// A range of ids that a user may map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id outside.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// The most ids that are mapped beside 0: what images use.
const WANTED_IDS: u32 = 65_535;
/// The fewest subordinate ids worth having; with less, even `nobody` is out of reach, but many images still run.
const FEWEST_IDS: u32 = 1;
/// The most lines of the kernel's map that newuidmap writes from our ranges (`UID_GID_MAP_MAX_EXTENTS` is 340).
const MAX_RANGES: usize = 64;

/// Whether this process must enter a user namespace to make mounts: it lacks `CAP_SYS_ADMIN`.
pub fn needed() -> bool {
    !sys::process::permitted_capabilities().is_ok_and(|set| set & 1 << 21 != 0)
}

/// The tier that [`enter_as`] has reached.
static REACHED: OnceLock<Tier> = OnceLock::new();

/// The tier that the process has reached, or that [`enter`] is expected to reach; nothing is tried.
pub fn expected() -> Tier {
    if let Some(tier) = REACHED.get() {
        return *tier;
    }
    if needed() {
        let several = subordinates().is_some() || own_ranges().is_some();
        return if several { Tier::SubordinateIds } else { Tier::SingleId };
    }
    if !host::in_user_namespace() {
        return Tier::Root;
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let ids: u64 = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum();
    if ids > 1 { Tier::SubordinateIds } else { Tier::SingleId }
}

/// Enters a user namespace as its uid 0 if this process needs one. Call it before any thread is started.
///
/// With subordinate ids in `/etc/subuid` and `/etc/subgid` and the newuidmap programs, 0 is the caller and 1 to 65535 are
/// subordinate ids. Who may take any id here (`CAP_SETUID`, `CAP_SETGID` and `CAP_SETFCAP`, as root in a container of docker)
/// needs neither: the ids of the namespace it is in are mapped without newuidmap. Otherwise only the caller itself is
/// mapped, as 0, and the note says what is missing.
pub fn enter() -> Result<Entered, UsernsError> {
    enter_as(Isolation::Strongest)
}

/// The same for the sandbox that is asked for. Where this machine gives no namespaces, and the process may enter another root,
/// it gets what works without: [`Tier::Bare`].
pub fn enter_as(isolation: Isolation) -> Result<Entered, UsernsError> {
    let bare = |note| Ok(Entered { tier: Tier::Bare, single_id: !bare::may_chown(), note });
    let entered = match (isolation, bare::may_chroot()) {
        (Isolation::Chroot, true) => bare(None),
        (_, may_chroot) => match enter_namespaces() {
            // inside it may
            Ok(entered) if isolation == Isolation::Chroot => Ok(Entered { tier: Tier::Bare, ..entered }),
            Err(error) if may_chroot && !matches!(error, UsernsError::Setup { .. }) => {
                let why = slipway_oci::error::chain(&error);
                bare(Some(format!(
                    "{why}: steps run on a copied root that they enter by chroot, which keeps no hostile recipe from what \
                     is around it; the network, processes and host name are this machine's"
                )))
            }
            other => other,
        },
    }?;
    // the first is the process's own
    let _ = REACHED.set(entered.tier);
    Ok(entered)
}

fn enter_namespaces() -> Result<Entered, UsernsError> {
    let reached = |tier, note| Entered { tier, single_id: tier == Tier::SingleId, note };
    if !needed() {
        return Ok(reached(expected(), None));
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let direct = own_ranges();
    let is_direct = direct.is_some();
    let (outcome, note) = match direct.or_else(subordinates) {
        Some((uids, gids)) => match mapped_by_helper((uid, gid), &uids, &gids, is_direct)? {
            None => (Tier::SubordinateIds, None),
            Some(problem) => (Tier::SingleId, Some(problem)),
        },
        None => {
            unshare()?;
            (Tier::SingleId, Some(missing_ids(user_name(uid).as_deref(), uid)))
        }
    };
    if outcome == Tier::SingleId {
        map_self(uid, gid)?;
    }
    become_root(outcome)?;
    Ok(reached(outcome, note))
}

fn unshare() -> Result<(), UsernsError> {
    sys::process::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|errno| {
        let number =
            |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let max = number("/proc/sys/user/max_user_namespaces").unwrap_or(0);
        if errno == rustix::io::Errno::NOSPC || max == 0 {
            return UsernsError::Exhausted { max };
        }
        apparmor_or(UsernsError::Refused(errno.into()))
    })
}

fn apparmor_or(error: UsernsError) -> UsernsError {
    let text =
        fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or_default();
    if text.trim() == "1" { UsernsError::AppArmor } else { error }
}

/// Maps 0 to the caller, by ourselves. Groups must be given up first, or a group could deny what others may (CVE-2014-8989).
fn map_self(uid: u32, gid: u32) -> Result<(), UsernsError> {
    let write = |step, path: &str, text: String| {
        // AppArmor lets the namespace be made and then refuses everything in it.
        fs::write(path, text).map_err(|source| apparmor_or(UsernsError::Setup { step, source }))
    };
    write("give up supplementary groups", "/proc/self/setgroups", "deny".to_owned())?;
    write("map the user id", "/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("map the group id", "/proc/self/gid_map", format!("0 {gid} 1"))
}

fn become_root(tier: Tier) -> Result<(), UsernsError> {
    let step = |step: &'static str| {
        move |errno: rustix::io::Errno| apparmor_or(UsernsError::Setup { step, source: errno.into() })
    };
    if tier == Tier::SubordinateIds {
        sys::process::set_group(0).map_err(step("become group 0"))?;
        sys::process::set_user(0).map_err(step("become user 0"))?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("make the mounts private"))
}

/// Unshares and has the helper map; `Some` says why the helper could not. The namespace is made in either case.
fn mapped_by_helper(
    (uid, gid): (u32, u32),
    uids: &[IdRange],
    gids: &[IdRange],
    direct: bool,
) -> Result<Option<String>, UsernsError> {
    let setup = |source| UsernsError::Setup { step: "start the id map helper", source };
    let (mut go_read, go_write) = io::pipe().map_err(setup)?;
    let (mut said_read, said_write) = io::pipe().map_err(setup)?;
    let parent = std::process::id();
    let Some(helper) = sys::process::fork().map_err(|errno| setup(errno.into()))? else {
        drop((go_write, said_read));
        // End of file instead of the byte: the parent could not unshare.
        if go_read.read_exact(&mut [0]).is_ok() {
            let said = match direct {
                true => write_map("uid_map", parent, uid, uids)
                    .or_else(|| write_map("gid_map", parent, gid, gids)),
                false => run_map("newuidmap", parent, uid, uids)
                    .or_else(|| run_map("newgidmap", parent, gid, gids)),
            };
            let mut said_write = said_write;
            // The parent waits for it; if it is gone there is nobody to tell.
            let _ = said_write.write_all(said.unwrap_or_default().as_bytes());
        }
        sys::exec::exit(0);
    };
    drop((go_read, said_write));
    let unshared = unshare();
    let mut go_write = go_write;
    if unshared.is_ok() {
        go_write.write_all(b"g").map_err(setup)?;
    }
    drop(go_write);
    let mut said = String::new();
    let read = said_read.read_to_string(&mut said);
    // The helper exits by itself; the pipe told everything.
    let _ = waitpid(Pid::from_raw(helper), WaitOptions::empty());
    unshared?;
    read.map_err(setup)?;
    Ok(if said.is_empty() { None } else { Some(said) })
}

/// Writes a process's map with our own capabilities; `Some` is what went wrong.
fn write_map(file: &str, pid: u32, own: u32, ranges: &[IdRange]) -> Option<String> {
    let lines: Vec<String> = map_arguments(own, ranges).chunks(3).map(|line| line.join(" ")).collect();
    let written = fs::write(format!("/proc/{pid}/{file}"), lines.join("\n"));
    written.err().map(|error| format!("cannot write the {file} of the new user namespace: {error}"))
}

/// Runs newuidmap or newgidmap for a process; `Some` is what went wrong.
fn run_map(program: &str, pid: u32, own: u32, ranges: &[IdRange]) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(map_arguments(own, ranges));
    match command.output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("`{program}` is not installed (Debian package uidmap)"))
        }
        Err(error) => Some(format!("`{program}` could not be run: {error}")),
    }
}

/// Triples of inside id, outside id and count: 0 is the caller, 1.. the ranges one after the other.
fn map_arguments(own: u32, ranges: &[IdRange]) -> Vec<String> {
    let mut triples = vec![0, own, 1];
    let mut next = 1;
    for range in ranges {
        let count = range.count.min(WANTED_IDS + 1 - next);
        if count > 0 {
            triples.extend([next, range.start, count]);
            next += count;
        }
    }
    triples.iter().map(u32::to_string).collect()
}

/// The caller's subordinate user and group ids, if it has both.
fn subordinates() -> Option<(Vec<IdRange>, Vec<IdRange>)> {
    let uid = rustix::process::getuid().as_raw();
    let name = user_name(uid);
    let read = |path: &str| ranges(&fs::read_to_string(path).unwrap_or_default(), name.as_deref(), uid);
    let (uids, gids) = (read("/etc/subuid"), read("/etc/subgid"));
    let enough = |ranges: &[IdRange]| {
        ranges.iter().map(|range| u64::from(range.count)).sum::<u64>() >= FEWEST_IDS.into()
    };
    (enough(&uids) && enough(&gids)).then_some((uids, gids))
}

/// The user and group ids of the namespace that the caller is in, less its own, if it may map any of them and there are
/// more than its own.
fn own_ranges() -> Option<(Vec<IdRange>, Vec<IdRange>)> {
    // CAP_SETGID, CAP_SETUID, CAP_SETFCAP (linux/capability.h); the last to map 0
    const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 31;
    if sys::process::permitted_capabilities().ok()? & NEEDED != NEEDED {
        return None;
    }
    let read = |file: &str, own: u32| inside(&fs::read_to_string(file).unwrap_or_default(), own);
    let uids = read("/proc/self/uid_map", rustix::process::getuid().as_raw());
    let gids = read("/proc/self/gid_map", rustix::process::getgid().as_raw());
    (!uids.is_empty() && !gids.is_empty()).then_some((uids, gids))
}

/// The first ids that a map has inside, without `own` and without 0: who is another than root leaves root to itself.
fn inside(map: &str, own: u32) -> Vec<IdRange> {
    let mut ranges = Vec::new();
    for line in map.lines().take(MAX_RANGES) {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(start)), _, Some(Ok(count))) = (numbers.next(), numbers.next(), numbers.next()) else {
            continue;
        };
        let end = start.saturating_add(count);
        let mut from = start.max(1);
        for stop in [own, end] {
            let stop = stop.clamp(from.min(end), end);
            if stop > from {
                ranges.push(IdRange { start: from, count: stop - from });
            }
            if stop == own {
                from = from.max(own.saturating_add(1));
            }
        }
    }
    ranges
}

/// The lines of subuid(5) that are this user's, by name or by number.
pub fn ranges(file: &str, name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let mine = |owner: &str| Some(owner) == name || owner.parse() == Ok(uid);
    let own = lines(file).filter(|(owner, _)| mine(owner)).map(|(_, range)| range);
    own.take(MAX_RANGES).collect()
}

/// All lines of subuid(5) that mean something: who has which ids.
fn lines(file: &str) -> impl Iterator<Item = (&str, IdRange)> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = IdRange { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        let whole =
            range.count > 0 && range.start.checked_add(range.count).is_some() && fields.next().is_none();
        whole.then_some((owner, range))
    })
}

/// What to do about subordinate ids that are missing.
pub(crate) fn missing_ids(name: Option<&str>, uid: u32) -> String {
    let user = name.map_or_else(|| uid.to_string(), str::to_owned);
    let files =
        ["/etc/subuid", "/etc/subgid"].map(|path| (path, fs::read_to_string(path).unwrap_or_default()));
    let lacking = files.iter().filter(|(_, text)| ranges(text, name, uid).is_empty()).map(|(path, _)| *path);
    let start = free_ids(files.iter().map(|(_, text)| text.as_str()));
    let line = format!("{user}:{start}:{}", WANTED_IDS + 1);
    format!("no subordinate ids: add the line `{line}` to {}", lacking.collect::<Vec<_>>().join(" and "))
}

/// Where a range starts that no line of any of the files reaches into: as useradd(8) gives them, from `SUB_UID_MIN` on.
fn free_ids<'a>(files: impl Iterator<Item = &'a str>) -> u64 {
    const FIRST: u64 = 100_000;
    let mut taken: Vec<(u64, u64)> = files
        .flat_map(lines)
        .map(|(_, range)| (range.start.into(), u64::from(range.start) + u64::from(range.count)))
        .collect();
    taken.sort_unstable();
    taken.iter().fold(FIRST, |start, (from, to)| {
        let end = start + u64::from(WANTED_IDS) + 1;
        if *from < end && start < *to { *to } else { start }
    })
}

/// The caller's name in the host's passwd(5). A static program must not use the C library's lookup, which loads plugins.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\nother:1:2\nme:100000:65536\n1000:300000:10\nme:bad:1\nme:4294967295:2\nme:5:0\n\
                        me:7:1:x\n";

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let found = ranges(FILE, Some("me"), 1000);
        let expected = [IdRange { start: 100_000, count: 65_536 }, IdRange { start: 300_000, count: 10 }];
        assert_eq!(found, expected);
        assert_eq!(ranges(FILE, None, 77), []);
    }

    #[test]
    fn the_ids_that_are_proposed_are_nobodys() {
        let cases: [(&[&str], u64); 7] = [
            (&["", ""], 100_000),
            (&["a:100000:65536\n", ""], 165_536),
            (&["", "a:100000:65536\n"], 165_536),
            // in any order, of different sizes, in either file
            (&["b:165536:65536\na:100000:65536\n", "c:231072:10\n"], 231_082),
            // a gap that is wide enough, and one that is not
            (&["a:100000:1\nb:200000:65536\n"], 100_001),
            (&["a:100000:1\nb:150000:65536\n"], 215_536),
            (&["low:1:99999\nbad\nalso:bad:1\n"], 100_000),
        ];
        for (files, start) in cases {
            assert_eq!(free_ids(files.iter().copied()), start, "{files:?}");
        }
    }

    #[test]
    fn a_namespaces_own_ids_are_those_inside_but_the_callers() {
        let range = |start, count| IdRange { start, count };
        assert_eq!(inside("         0          0 4294967295\n", 0), [range(1, u32::MAX - 1)]);
        assert_eq!(inside("0 100000 65536\n", 1000), [range(1, 999), range(1001, 64535)]);
        assert_eq!(inside("0 1000 1\n1 100000 10\n", 0), [range(1, 10)]);
        assert_eq!(inside("0 1000 1\n", 0), []);
        assert_eq!(inside("1000 1000 1\n", 1000), []);
        assert_eq!(inside("nonsense\n5 6\n", 0), []);
    }

    #[test]
    fn maps_put_the_caller_first_and_stop_at_65535() {
        let wide = [IdRange { start: 100_000, count: 65_536 }, IdRange { start: 900_000, count: 5 }];
        assert_eq!(map_arguments(1000, &wide), ["0", "1000", "1", "1", "100000", "65535"]);
        let split = [IdRange { start: 10, count: 3 }, IdRange { start: 50, count: 2 }];
        assert_eq!(map_arguments(7, &split), ["0", "7", "1", "1", "10", "3", "4", "50", "2"]);
    }

    #[test]
    fn every_error_but_a_setup_has_a_hint() {
        assert!(UsernsError::AppArmor.hint().is_some());
        assert!(UsernsError::Exhausted { max: 0 }.hint().is_some());
    }
}
