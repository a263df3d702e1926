//! From a specification to what the kernel takes.
//!
//! Everything that can fail for a reason worth words, allocates or looks at the host happens here, in the caller's
//! thread: strings become C strings, host objects are opened, file systems are made as detached mounts, limits are
//! written. What is left for the child is a straight line of system calls over this structure.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, statat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::cgroup::Group;
use crate::child::Failure;
use crate::console::{self, Terminal};
use crate::devices::{self, Devices};
use crate::error::{Error, Step};
use crate::host;
use crate::rootfs::{self, ATTR_NODEV, ATTR_RDONLY};
use crate::seccomp;
use crate::spec::{BindSource, DEFAULT_PATH, Mount, Network, Process, SandboxSpec, Security, Stdio, Stream};
use crate::sys::exec::StringArray;
use crate::sys::seccomp::Instruction;
use crate::target::Target;

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
    pub(crate) own_network: bool,
    pub(crate) system: SystemMounts,
    pub(crate) mounts: Vec<PlannedMount>,
    pub(crate) hidden: Hidden,
    pub(crate) streams: [Option<OwnedFd>; 3],
    pub(crate) hostname: Option<CString>,
    pub(crate) group: Option<Group>,
    pub(crate) process: PlannedProcess,
    pub(crate) report: Report,
    /// Bit n: the child had to make [`STANDARD`] place n.
    pub(crate) standard_made: AtomicU32,
}

/// How `/proc` and `/sys` come about.
pub(crate) struct SystemMounts {
    pub(crate) sys_writable: bool,
    /// The host's `/sys`, for a user namespace that shares the host's network and so may not mount its own.
    pub(crate) host_sys: Option<OwnedFd>,
    /// The caller's `/proc`, for a user namespace whose `/proc` has masked parts, where the kernel refuses a fresh one.
    pub(crate) host_proc: Option<OwnedFd>,
    /// Whether `/sys/fs/cgroup` shows the cgroup2 hierarchy.
    pub(crate) cgroup2: bool,
}

/// A detached mount and its place.
pub(crate) struct PlannedMount {
    pub(crate) source: OwnedFd,
    pub(crate) target: Target,
}

/// Masked and read-only paths, relative to the root.
pub(crate) struct Hidden {
    /// An empty read-only file system; one for all masked folders, as each superblock costs its tear-down.
    pub(crate) empty: Option<OwnedFd>,
    pub(crate) masked: Vec<CString>,
    pub(crate) readonly: Vec<CString>,
}

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
    pub(crate) umask: u32,
    pub(crate) no_new_privileges: bool,
    /// What remains in the bounding set.
    pub(crate) bounding: u64,
    /// What becomes permitted and effective.
    pub(crate) permitted: u64,
    pub(crate) last_capability: u32,
    /// Resource, soft and hard limit.
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) filter: Option<Arc<[Instruction]>>,
    command: OsString,
    working_folder: PathBuf,
}

/// What the child leaves for its parent in shared memory when it fails.
#[derive(Default)]
pub(crate) struct Report {
    failed: AtomicU32,
    step: AtomicU32,
    place: AtomicU32,
    errno: AtomicI32,
}

impl Report {
    /// Written by the child.
    pub(crate) fn set(&self, failure: &Failure) {
        self.step.store(failure.step as u32, Ordering::Relaxed);
        self.place.store(failure.place, Ordering::Relaxed);
        self.errno.store(failure.errno.raw_os_error(), Ordering::Relaxed);
        self.failed.store(1, Ordering::Release);
    }

    /// Read by the parent once the child is gone.
    fn get(&self) -> Option<(Step, usize, Errno)> {
        if self.failed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let step = Step::from_number(self.step.load(Ordering::Relaxed))?;
        let errno = Errno::from_raw_os_error(self.errno.load(Ordering::Relaxed));
        Some((step, self.place.load(Ordering::Relaxed) as usize, errno))
    }
}

impl Plan {
    /// Checks the specification and prepares all of it.
    pub fn new(spec: &SandboxSpec) -> Result<Plan, Error> {
        let process = PlannedProcess::new(spec)?;
        let hostname = spec.hostname.as_deref().map(hostname).transpose()?;
        let hidden = Hidden::new(&spec.security)?;
        let nodev = !spec.security.device_nodes;
        let root = rootfs::detached(&spec.root, nodev)?;
        let mounts = spec
            .mounts
            .iter()
            .map(|mount| PlannedMount::new(mount, nodev))
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
        let streams = streams(&spec.stdio, terminal.as_ref(), &process)?;
        Ok(Plan {
            devices: devices::prepare(spec.security.device_nodes, terminal.is_some())?,
            root,
            root_readonly: spec.root_readonly,
            pts,
            terminal,
            own_network: spec.network == Network::None,
            system: SystemMounts::new(spec)?,
            mounts,
            hidden,
            streams,
            hostname,
            group: spec.cgroup.as_ref().map(Group::create).transpose()?.flatten(),
            process,
            report: Report::default(),
            standard_made: AtomicU32::new(0),
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

    /// What the child made in the root for mounts, outermost first.
    pub(crate) fn made(&self) -> Vec<PathBuf> {
        let made = self.standard_made.load(Ordering::Relaxed);
        let standard = STANDARD.iter().enumerate().filter(|(place, _)| made & 1 << place != 0);
        let standard = standard.map(|(_, name)| absolute(name));
        standard.chain(self.mounts.iter().flat_map(|mount| mount.target.made())).collect()
    }
}

fn absolute(name: &CStr) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(name.to_bytes()))
}

impl PlannedProcess {
    fn new(spec: &SandboxSpec) -> Result<Self, Error> {
        let process = &spec.process;
        let Some(command) = process.args.first().filter(|command| !command.is_empty()) else {
            return Err(Error::Invalid { what: "command".to_owned(), reason: "is empty" });
        };
        if !process.cwd.is_absolute() {
            let what = format!("working directory {:?}", process.cwd);
            return Err(Error::Invalid { what, reason: "must be absolute" });
        }
        // With one mapped id there is no other to switch to; the filter answers those who try later.
        let (uid, gid, groups) = if spec.single_id {
            (0, 0, Vec::new())
        } else {
            (process.user.uid, process.user.gid, process.user.groups.clone())
        };
        let bounding = process.capabilities.bits();
        // As docker, and as execve would: a user other than 0 keeps the bounding set only.
        let permitted = if uid == 0 { bounding & host::facts().capabilities } else { 0 };
        Ok(PlannedProcess {
            candidates: candidates(command, &process.env)?,
            args: strings(&process.args, "argument")?,
            env: strings(&process.env, "environment variable")?,
            cwd: c_string(process.cwd.as_os_str(), "working directory")?,
            uid,
            gid,
            groups,
            umask: process.umask & 0o777,
            no_new_privileges: process.no_new_privileges,
            bounding,
            permitted,
            last_capability: host::facts().last_capability,
            rlimits: rlimits(process)?,
            filter: seccomp::filter(spec.seccomp, process.capabilities, spec.single_id),
            command: command.clone(),
            working_folder: process.cwd.clone(),
        })
    }
}

fn rlimits(process: &Process) -> Result<Vec<(u32, u64, u64)>, Error> {
    let limit = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let triple = |rlimit: &crate::spec::Rlimit| (rlimit.resource, limit(rlimit.soft), limit(rlimit.hard));
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

fn c_string(text: &OsStr, what: &str) -> Result<CString, Error> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::Invalid { what: format!("{what} {text:?}"), reason: "holds a zero byte" })
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

impl Hidden {
    fn new(security: &Security) -> Result<Self, Error> {
        let relative = |path: &PathBuf| {
            let stripped = path.strip_prefix("/").map_err(|_| Error::Invalid {
                what: format!("masked or read-only path {path:?}"),
                reason: "must be absolute",
            })?;
            c_string(stripped.as_os_str(), "path")
        };
        let masked: Vec<_> = security.masked.iter().map(relative).collect::<Result<_, _>>()?;
        let readonly = security.readonly.iter().map(relative).collect::<Result<_, _>>()?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let empty = (!masked.is_empty()).then(|| rootfs::tmpfs(Some(0), 0o755, attributes)).transpose();
        let empty = empty
            .map_err(|errno| Error::Prepare { what: "masked paths".to_owned(), source: errno.into() })?;
        Ok(Hidden { empty, masked, readonly })
    }
}

impl PlannedMount {
    fn new(mount: &Mount, nodev: bool) -> Result<Self, Error> {
        match mount {
            Mount::Bind { source, target, readonly, recursive, create } => {
                let mut set = if *readonly { ATTR_RDONLY } else { 0 };
                set |= if nodev { ATTR_NODEV } else { 0 };
                Self::bind(source, target, set, *recursive, *create)
            }
            Mount::Tmpfs { target, size_bytes, mode, exec } => {
                let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !exec);
                let source = rootfs::tmpfs(*size_bytes, *mode & 0o7777, attributes).map_err(|errno| {
                    Error::Prepare { what: format!("tmpfs on {target:?}"), source: errno.into() }
                })?;
                Ok(PlannedMount { source, target: Target::new(target, true, true)? })
            }
        }
    }

    fn bind(
        source: &BindSource,
        target: &Path,
        set: u64,
        recursive: bool,
        create: bool,
    ) -> Result<Self, Error> {
        let (path, opened);
        let held = match source {
            BindSource::Fd(fd) => {
                path = PathBuf::from(format!("descriptor {}", fd.as_raw_fd()));
                fd.as_fd()
            }
            BindSource::Path(host) => {
                path = host.clone();
                opened = rustix::fs::open(host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| Error::Open { path: path.clone(), source: errno.into() })?;
                opened.as_fd()
            }
        };
        let failed = |errno: Errno| Error::Open { path: path.clone(), source: errno.into() };
        let kind = FileType::from_raw_mode(statat(held, "", AtFlags::EMPTY_PATH).map_err(failed)?.st_mode);
        let tree = rootfs::clone_of(held, recursive).map_err(failed)?;
        rootfs::make_private(&tree, set).map_err(failed)?;
        Ok(PlannedMount { source: tree, target: Target::new(target, kind == FileType::Directory, create)? })
    }

    fn device(device: &crate::spec::Device) -> Result<Self, Error> {
        let failed = |source: std::io::Error| Error::Open { path: device.source.clone(), source };
        let held = rustix::fs::open(&device.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        let found = statat(&held, "", AtFlags::EMPTY_PATH).map_err(|errno| failed(errno.into()))?;
        if !matches!(
            FileType::from_raw_mode(found.st_mode),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Directory
        ) {
            return Err(failed(std::io::Error::other("it is not a device")));
        }
        let set = if device.readonly { ATTR_RDONLY } else { 0 };
        Self::bind(&BindSource::Fd(held), &device.target, set, true, true)
    }
}

impl SystemMounts {
    fn new(spec: &SandboxSpec) -> Result<Self, Error> {
        let facts = host::facts();
        let clone = |path: &str| -> Result<OwnedFd, Error> {
            let failed = |errno: Errno| Error::Open { path: path.into(), source: errno.into() };
            let held = rustix::fs::openat(
                CWD,
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(failed)?;
            rootfs::clone_of(held.as_fd(), true).map_err(failed)
        };
        let borrows_sys = facts.in_user_namespace && spec.network == Network::Host;
        Ok(SystemMounts {
            sys_writable: spec.security.sys_writable,
            host_sys: borrows_sys.then(|| clone("/sys")).transpose()?,
            host_proc: facts.in_user_namespace.then(|| clone("/proc")).transpose()?,
            cgroup2: facts.cgroup2_only,
        })
    }
}

/// The descriptors that become 0, 1 and 2; `None` leaves the caller's. They are above 2, so placing one cannot destroy
/// another.
fn streams(
    stdio: &Stdio,
    terminal: Option<&Terminal>,
    process: &PlannedProcess,
) -> Result<[Option<OwnedFd>; 3], Error> {
    let prepare = |errno: Errno| Error::Prepare { what: "standard streams".to_owned(), source: errno.into() };
    let duplicate = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(prepare);
    let (owner, group) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    match (stdio, terminal) {
        (Stdio::Streams { stdin, stdout, stderr }, _) => {
            let open = |stream: &Stream| match stream {
                Stream::Inherit => Ok(None),
                Stream::Null => {
                    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
                    duplicate(&null.map_err(prepare)?).map(Some)
                }
                Stream::Fd(fd) => {
                    let fd = duplicate(fd)?;
                    let kind = rustix::fs::fstat(&fd).map(|found| FileType::from_raw_mode(found.st_mode));
                    if process.uid != 0 && matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
                        // As runc's fixStdioPermissions; what has no owner of its own refuses, harmlessly.
                        let _ = rustix::fs::fchown(&fd, Some(owner), Some(group));
                    }
                    Ok(Some(fd))
                }
            };
            Ok([open(stdin)?, open(stdout)?, open(stderr)?])
        }
        (Stdio::Terminal { .. }, Some(terminal)) => {
            if process.uid != 0 {
                rustix::fs::fchown(&terminal.slave, Some(owner), None).map_err(prepare)?;
            }
            let side = || duplicate(&terminal.slave).map(Some);
            Ok([side()?, side()?, side()?])
        }
        (Stdio::Terminal { .. }, None) => Err(prepare(Errno::NOTTY)),
    }
}

impl Plan {
    /// The checked null device, which also covers masked files.
    pub(crate) fn hidden_node(&self) -> Option<&OwnedFd> {
        self.devices.nodes.first()
    }
}
