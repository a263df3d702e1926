//! From a specification to what the kernel takes.
//!
//! Everything that can fail for a reason worth words, allocates or looks at the host happens here, in the caller's
//! thread: strings become C strings, host objects are opened, file systems are made as detached mounts, limits are
//! written. What is left for the child is a straight line of system calls over this structure.

mod mounts;
mod namespaces;
mod process;
mod report;
mod streams;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;

use crate::cgroup::Group;
use crate::error::{Error, Step};
use crate::host;
use crate::root;
use crate::sandbox::console::{self, Terminal};
use crate::sandbox::devices::{self, Devices};
use crate::sandbox::gate;
use crate::sandbox::seccomp::ALL_INSTRUCTIONS;
use crate::sandbox::spec::{Life, SandboxSpec, Stdio};
pub(crate) use mounts::{Hidden, PlannedMount, SystemMounts};
pub(crate) use namespaces::PlannedNamespaces;
use process::c_string;
pub(crate) use process::{OwnIds, PlannedProcess};
pub(crate) use report::Report;
use streams::streams;

/// The longest host name (`__NEW_UTS_LEN`, linux/utsname.h).
const MAX_HOSTNAME_BYTES: usize = 64;

/// A checked sandbox, ready to be cloned into. Holds descriptors and, with limits, a control group; dropping it
/// leaves nothing behind.
pub struct Plan {
    pub(crate) root: OwnedFd,
    pub(crate) root_readonly: bool,
    pub(crate) devices: Devices,
    pub(crate) pts: OwnedFd,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) namespaces: PlannedNamespaces,
    /// Whether abstract unix sockets of the shared network are to be hidden.
    pub(crate) hides_sockets: bool,
    pub(crate) system: SystemMounts,
    pub(crate) mounts: Vec<PlannedMount>,
    pub(crate) hidden: Hidden,
    pub(crate) streams: [OwnedFd; 3],
    pub(crate) hostname: Option<CString>,
    pub(crate) group: Option<Group>,
    pub(crate) process: PlannedProcess,
    pub(crate) report: Report,
    /// Where the process waits before its command.
    pub(crate) gate: Option<gate::Closed>,
    pub(crate) life: Life,
}

impl Plan {
    /// Checks the specification and prepares all of it.
    pub fn new(spec: &SandboxSpec) -> Result<Plan, Error> {
        let process = PlannedProcess::new(spec)?;
        let hostname = spec.hostname.as_deref().map(hostname).transpose()?;
        let namespaces = PlannedNamespaces::new(spec)?;
        let hidden = Hidden::new(&spec.security)?;
        let nodev = !spec.security.device_nodes;
        let root = root::detached(&spec.root, nodev)?;
        let mounts: Vec<PlannedMount> = spec
            .mounts
            .iter()
            .map(|mount| PlannedMount::new(mount, nodev, spec.single_id))
            .chain(spec.devices.iter().map(PlannedMount::device))
            .collect::<Result<_, _>>()?;
        let prepare = |what: &str| {
            let what = what.to_owned();
            move |errno: Errno| Error::Prepare { what, source: errno.into() }
        };
        let pts = console::devpts().map_err(prepare("/dev/pts"))?;
        let terminal = match &spec.stdio {
            Stdio::Terminal { size } => Some(console::open(&pts, *size).map_err(prepare("a terminal"))?),
            Stdio::Streams { .. } => None,
        };
        let devices =
            devices::prepare(spec.security.device_nodes, terminal.is_some(), spec.namespaces.ipc.is_host())?;
        let streams = streams(&spec.stdio, terminal.as_ref(), &process, &devices)?;
        Ok(Plan {
            devices,
            root,
            root_readonly: spec.root_readonly,
            pts,
            terminal,
            namespaces,
            hides_sockets: hides_sockets(spec),
            system: SystemMounts::new(spec)?,
            report: Report::new(mounts.len()).map_err(prepare("memory for the child's report"))?,
            mounts,
            hidden,
            streams,
            hostname,
            group: spec.cgroup.as_ref().map(|group| Group::create(group, spec.life)).transpose()?.flatten(),
            process,
            gate: None,
            life: spec.life,
        })
    }

    /// What went wrong in the child, in words.
    pub(crate) fn failure(&self) -> Option<Error> {
        let (step, place, errno) = self.report.get()?;
        let source: std::io::Error = errno.into();
        let target = self.place(place);
        let command = self.process.command.clone();
        Some(match step {
            Step::MountPoint => Error::MountPoint { target, source },
            Step::Mount => Error::Mount { target, source },
            Step::InsideProc => Error::InsideProc { target },
            Step::Cwd => Error::Cwd { path: self.process.working_folder.clone(), source },
            Step::Exec if matches!(errno, Errno::NOENT | Errno::NOTDIR) => {
                Error::CommandNotFound { command, source }
            }
            Step::Exec => Error::NotExecutable { command, source },
            // with those of whoever started slipway they are more than a process may have
            Step::Seccomp if errno == Errno::NOMEM && self.process.profile.is_some() => {
                let instructions = self.process.filter.iter().map(|program| program.len()).sum();
                process::too_long(self.process.profile.as_deref(), instructions, ALL_INSTRUCTIONS)
            }
            Step::Join => Error::Join { namespace: self.joined(place), source },
            step => Error::Setup { step, source },
        })
    }
}

/// Numbers of places from here on are [`STANDARD`] ones and not the specification's mounts.
pub(crate) const STANDARD_PLACE: usize = 1 << 16;

/// The folders of the root that every sandbox mounts on.
pub(crate) const STANDARD: [&CStr; 3] = [c"proc", c"sys", c"dev"];

impl Plan {
    /// The container path that the child numbered.
    fn place(&self, place: usize) -> PathBuf {
        match place.checked_sub(STANDARD_PLACE) {
            Some(standard) => STANDARD.get(standard).map_or_else(PathBuf::new, |name| absolute(name)),
            None => self.mounts.get(place).map_or_else(PathBuf::new, |mount| mount.target.path.clone()),
        }
    }

    /// The kind of the namespace that the child numbered.
    fn joined(&self, place: usize) -> &'static str {
        match self.namespaces.joined.get(place).map(|(_, kind)| *kind) {
            Some(LinkNameSpaceType::Network) => "network",
            Some(LinkNameSpaceType::InterProcessCommunication) => "IPC",
            Some(LinkNameSpaceType::HostNameAndNISDomainName) => "UTS",
            _ => "control group",
        }
    }

    /// What the child made in the root for mounts, outermost first.
    pub(crate) fn made(&self) -> Vec<PathBuf> {
        let load = |word: Option<&AtomicU32>| word.map_or(0, |word| word.load(Ordering::Relaxed));
        let made = load(self.report.standard_made());
        let standard = STANDARD.iter().enumerate().filter(|(place, _)| made & 1 << place != 0);
        let standard = standard.map(|(_, name)| absolute(name));
        let of_mount = |(place, mount): (usize, &PlannedMount)| {
            mount.target.made(load(self.report.mount_made(place))).collect::<Vec<_>>()
        };
        standard.chain(self.mounts.iter().enumerate().flat_map(of_mount)).collect()
    }
}

/// An own network has abstract sockets of its own.
fn hides_sockets(spec: &SandboxSpec) -> bool {
    let shared = !spec.namespaces.network.is_new();
    shared && !spec.security.abstract_sockets && host::facts().hides_abstract_sockets
}

fn absolute(name: &CStr) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(name.to_bytes()))
}

fn hostname(name: &str) -> Result<CString, Error> {
    if name.is_empty() || name.len() > MAX_HOSTNAME_BYTES {
        return Err(Error::Invalid {
            what: format!("host name `{name}`"),
            reason: "must have 1 to 64 bytes",
        });
    }
    c_string(OsStr::new(name), "host name")
}

impl Plan {
    /// The checked null device, which also covers masked files.
    pub(crate) fn hidden_node(&self) -> Option<&OwnedFd> {
        self.devices.null()
    }
}
