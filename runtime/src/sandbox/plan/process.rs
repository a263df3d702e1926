//! The command and its credentials.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::container::init;
use crate::error::Error;
use crate::host;
use crate::ids;
use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::child::KEPT;
use crate::sandbox::owners;
use crate::sandbox::seccomp;
use crate::sandbox::spec::{DEFAULT_PATH, Process, Rlimit, SandboxSpec, Seccomp};
use crate::sandbox::sys::exec::StringArray;
use crate::sandbox::sys::seccomp::Instruction;

/// The command and its credentials in the kernel's terms.
pub(crate) struct PlannedProcess {
    /// Where the command may be, in the order of `PATH`.
    pub(crate) candidates: Vec<CString>,
    pub(crate) args: StringArray,
    pub(crate) env: StringArray,
    pub(crate) cwd: CString,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Where these are the only ids and not 0: the maps of the user namespace in which they are.
    pub(crate) own_ids: Option<OwnIds>,
    pub(crate) umask: u32,
    pub(crate) no_new_privileges: bool,
    /// What remains in the bounding set.
    pub(crate) bounding: u64,
    /// What becomes permitted and effective.
    pub(crate) permitted: u64,
    pub(crate) last_capability: u32,
    /// Resource, soft and hard limit.
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    /// The programs of the system call filter, in the order in which they are installed.
    pub(crate) filter: Vec<Arc<[Instruction]>>,
    /// What the caller calls the filter, if it is its own.
    pub(super) profile: Option<String>,
    /// What is executed in the command's place to be the first process, and its arguments.
    pub(crate) init: Option<(OwnedFd, StringArray)>,
    /// Where the filter leaves changes of owner to us: the way on which its listener comes.
    pub(crate) owners: Option<owners::Channel>,
    pub(super) command: OsString,
    pub(super) working_folder: PathBuf,
}

/// What is written to the files in `/proc/self` of a process that makes 0 of its user namespace another id in a new one.
pub(crate) struct OwnIds {
    pub(crate) uid_map: String,
    pub(crate) gid_map: String,
}

impl OwnIds {
    fn new(uid: u32, gid: u32) -> Self {
        OwnIds { uid_map: format!("{uid} 0 1"), gid_map: format!("{gid} 0 1") }
    }
}

impl PlannedProcess {
    pub(crate) fn new(spec: &SandboxSpec) -> Result<Self, Error> {
        let process = &spec.process;
        let Some(command) = process.args.first().filter(|command| !command.is_empty()) else {
            return Err(Error::Invalid { what: "command".to_owned(), reason: "is empty" });
        };
        if !process.cwd.is_absolute() {
            let what = format!("working directory {:?}", process.cwd);
            return Err(Error::Invalid { what, reason: "must be absolute" });
        }
        let (uid, gid) = (process.user.uid, process.user.gid);
        if !spec.single_id {
            let all = std::iter::once(gid).chain(process.user.groups.iter().copied());
            all.into_iter().try_for_each(|gid| ids::check(|| "the container's user".to_owned(), uid, gid))?;
        }
        let own_ids = (spec.single_id && (uid, gid) != (0, 0)).then(|| OwnIds::new(uid, gid));
        // Groups could deny what others may, so who has one id may not set any (CVE-2014-8989).
        let groups = if spec.single_id { Vec::new() } else { process.user.groups.clone() };
        // who may not change owners has the kernel's refusal
        let may_chown = process.capabilities.intersects(CapabilitySet::CHOWN);
        let keeps_owners = spec.single_id && own_ids.is_none() && may_chown;
        let owners = keeps_owners.then(owners::Channel::new).transpose().map_err(|errno| Error::Prepare {
            what: "a listener for changes of owner".to_owned(),
            source: errno.into(),
        })?;
        let bounding = process.capabilities.bits();
        // As docker, and as execve would: a user other than 0 keeps the bounding set only.
        let permitted = if uid == 0 { bounding & host::facts().capabilities } else { 0 };
        let profile = match &spec.seccomp {
            Seccomp::Profile(profile) => Some(profile.name().to_owned()),
            Seccomp::Default | Seccomp::Unconfined => None,
        };
        let filter = seccomp::filter(&spec.seccomp, process.capabilities, keeps_owners);
        let filter = filter.map_err(|long| too_long(profile.as_deref(), long.instructions, long.most))?;
        Ok(PlannedProcess {
            candidates: candidates(command, &process.env)?,
            args: strings(&process.args, "argument")?,
            env: strings(&process.env, "environment variable")?,
            cwd: c_string(process.cwd.as_os_str(), "working directory")?,
            uid,
            gid,
            groups,
            own_ids,
            umask: process.umask & 0o777,
            no_new_privileges: process.no_new_privileges,
            bounding,
            permitted,
            last_capability: host::facts().last_capability,
            rlimits: rlimits(process)?,
            filter,
            profile,
            init: process.init.then(|| init(&process.args)).transpose()?,
            owners,
            command: command.clone(),
            working_folder: process.cwd.clone(),
        })
    }
}

/// A filter that the kernel takes in no form.
pub(super) fn too_long(profile: Option<&str>, instructions: usize, most: usize) -> Error {
    Error::Profile { name: profile.unwrap_or("default").to_owned(), instructions, most }
}

/// The init process: this program's file above the places where the child puts descriptors, and how it is called.
fn init(command: &[OsString]) -> Result<(OwnedFd, StringArray), Error> {
    let prepare = |errno: Errno| Error::Prepare { what: "the init process".to_owned(), source: errno.into() };
    let file = rustix::io::fcntl_dupfd_cloexec(init::program()?, KEPT).map_err(prepare)?;
    let words: Vec<OsString> =
        [init::NAME, "--"].map(OsString::from).into_iter().chain(command.iter().cloned()).collect();
    Ok((file, strings(&words, "argument")?))
}

fn rlimits(process: &Process) -> Result<Vec<(u32, u64, u64)>, Error> {
    let limit = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let triple = |rlimit: &Rlimit| (rlimit.resource, limit(rlimit.soft), limit(rlimit.hard));
    let limits: Vec<_> = process.rlimits.iter().map(triple).collect();
    match limits.iter().find(|(_, soft, hard)| soft > hard) {
        Some((resource, ..)) => Err(Error::Invalid {
            what: format!("resource limit {resource}"),
            reason: "has a soft limit above its hard limit",
        }),
        None => Ok(limits),
    }
}

/// Where the command is looked for: itself if it has a slash, else each folder of `PATH`. Empty entries, which mean the
/// working folder to a shell, are passed over, as docker does.
fn candidates(command: &OsStr, env: &[OsString]) -> Result<Vec<CString>, Error> {
    if command.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(command, "command")?]);
    }
    let path = env.iter().rev().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let folders = path.unwrap_or(DEFAULT_PATH.as_bytes()).split(|byte| *byte == b':');
    folders
        .filter(|folder| !folder.is_empty())
        .map(|folder| c_string(Path::new(OsStr::from_bytes(folder)).join(command).as_os_str(), "command"))
        .collect()
}

fn strings(texts: &[OsString], what: &str) -> Result<StringArray, Error> {
    Ok(StringArray::new(texts.iter().map(|text| c_string(text, what)).collect::<Result<_, _>>()?))
}

pub(super) fn c_string(text: &OsStr, what: &str) -> Result<CString, Error> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::Invalid { what: format!("{what} {text:?}"), reason: "holds a zero byte" })
}
