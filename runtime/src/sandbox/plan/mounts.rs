//! Mounts: what was asked for, what every sandbox has, what is hidden.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, statat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::c_string;
use crate::error::Error;
use crate::host;
use crate::ids;
use crate::sandbox::detached::{self, ATTR_NODEV, ATTR_RDONLY};
use crate::sandbox::spec::{BindSource, Device, Mount, SandboxSpec, Security};
use crate::sandbox::target::Target;

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
    /// Not the source itself is mounted but the one file in it ([`detached::file`]).
    pub(crate) is_file_inside: bool,
}

/// Masked and read-only paths, relative to the root.
pub(crate) struct Hidden {
    /// An empty read-only file system; one for all masked folders, as each superblock costs its tear-down.
    pub(crate) empty: Option<OwnedFd>,
    pub(crate) masked: Vec<CString>,
    pub(crate) readonly: Vec<CString>,
}

impl Hidden {
    pub(super) fn new(security: &Security) -> Result<Self, Error> {
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
        let empty = (!masked.is_empty()).then(|| detached::tmpfs(Some(0), 0o755, attributes)).transpose();
        let empty = empty
            .map_err(|errno| Error::Prepare { what: "masked paths".to_owned(), source: errno.into() })?;
        Ok(Hidden { empty, masked, readonly })
    }
}

impl PlannedMount {
    pub(super) fn new(mount: &Mount, nodev: bool, single_id: bool) -> Result<Self, Error> {
        match mount {
            Mount::Bind { source, target, readonly, recursive, create } => {
                let mut set = if *readonly { ATTR_RDONLY } else { 0 };
                set |= if nodev { ATTR_NODEV } else { 0 };
                Self::bind(source, target, set, *recursive, *create)
            }
            Mount::Tmpfs { target, size_bytes, mode, exec } => {
                let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !exec);
                let source = detached::tmpfs(*size_bytes, *mode & 0o7777, attributes).map_err(|errno| {
                    Error::Prepare { what: format!("tmpfs on {target:?}"), source: errno.into() }
                })?;
                Ok(PlannedMount { source, target: Target::new(target, true, true)?, is_file_inside: false })
            }
            Mount::File { content, target, mode, uid, gid } => {
                // the one id is everybody's
                let (uid, gid) = if single_id { (0, 0) } else { (*uid, *gid) };
                ids::check(|| format!("the owner of the file on {target:?}"), uid, gid)?;
                let source = detached::file(&content.0, *mode, uid, gid).map_err(|errno| Error::Prepare {
                    what: format!("the file of {uid}:{gid} on {target:?}"),
                    source: errno.into(),
                })?;
                Ok(PlannedMount { source, target: Target::new(target, false, true)?, is_file_inside: true })
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
        let tree = detached::clone_of(held, recursive).map_err(failed)?;
        detached::make_private(&tree, set).map_err(failed)?;
        let target = Target::new(target, kind == FileType::Directory, create)?;
        Ok(PlannedMount { source: tree, target, is_file_inside: false })
    }

    pub(super) fn device(device: &Device) -> Result<Self, Error> {
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
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let source = detached::lent(held.as_fd()).map_err(|errno| failed(errno.into()))?;
        Ok(PlannedMount {
            source,
            target: Target::new(&device.target, is_folder, true)?,
            is_file_inside: false,
        })
    }
}

impl SystemMounts {
    pub(super) fn new(spec: &SandboxSpec) -> Result<Self, Error> {
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
            detached::clone_of(held.as_fd(), true).map_err(failed)
        };
        let borrows_sys = facts.in_user_namespace && !spec.namespaces.network.is_new();
        Ok(SystemMounts {
            sys_writable: spec.security.sys_writable,
            host_sys: borrows_sys.then(|| clone("/sys")).transpose()?,
            host_proc: facts.in_user_namespace.then(|| clone("/proc")).transpose()?,
            cgroup2: facts.cgroup2_only,
        })
    }
}
