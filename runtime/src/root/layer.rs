//! Layers beneath an overlay: folders, and files that are mounted for it.
//!
//! A layer's file (`slipway_oci::erofs`) becomes a detached mount: it has no path, nobody else sees it, and it is gone with
//! the last overlay and descriptor that hold it, whoever is killed. Two ways lead there: the kernel reads the file itself
//! (Linux 6.12, `CONFIG_EROFS_FS_BACKED_BY_FILE`), or through a loop device that lets go of the file by itself.
//!
//! Only files that this program wrote into its own store come here: a file system's parser is no place for what somebody
//! else wrote.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use slipway_oci::store::{Runnable, Shape};

use super::overlay::kernel_log;
use crate::error::Error;
use crate::sandbox::{detached, sys};

/// How often a loop device is looked for that others were first to take.
const LOOP_ATTEMPTS: usize = 64;
/// The block size of layers' files.
const BLOCK_BYTES: u32 = 4096;

/// How the kernel reads a layer's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The file itself.
    File,
    /// A loop device.
    Loop,
}

/// One read-only layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lower {
    /// A folder in overlayfs form.
    Folder(PathBuf),
    /// A file that is mounted.
    Image {
        /// The file.
        path: PathBuf,
        /// The files that it has contents in besides, in its order.
        devices: Vec<PathBuf>,
        /// How it is mounted.
        via: Via,
    },
}

impl From<PathBuf> for Lower {
    fn from(folder: PathBuf) -> Lower {
        Lower::Folder(folder)
    }
}

impl From<Runnable> for Lower {
    fn from(layer: Runnable) -> Lower {
        match layer {
            Runnable::Folder(path) => Lower::Folder(path),
            Runnable::Image { path, devices, looped } => {
                Lower::Image { path, devices, via: if looped { Via::Loop } else { Via::File } }
            }
        }
    }
}

impl Lower {
    /// Where it is on the host.
    pub fn path(&self) -> &Path {
        match self {
            Lower::Folder(path) | Lower::Image { path, .. } => path,
        }
    }
}

/// Why a way of mounting is not there.
#[derive(Debug)]
struct Refused {
    log: String,
    source: Errno,
}

/// Mounts a layer's file, without a place; `devices` are the files that it has contents in besides.
///
/// # Errors
/// When one of the files cannot be opened or the kernel refuses them.
pub fn mount(path: &Path, devices: &[PathBuf], via: Via) -> Result<OwnedFd, Error> {
    let file = open(path)?;
    let devices: Vec<File> = devices.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let mounted = match via {
        Via::File => mount_source(&file, &devices),
        Via::Loop => {
            let device = |file: &File| {
                let log = "no loop device could be had".to_owned();
                looped(file).map_err(|source| Refused { log, source })
            };
            let devices = devices.iter().map(device).collect::<Result<Vec<_>, _>>();
            devices.and_then(|devices| mount_source(&device(&file)?, &devices))
        }
    };
    mounted.map_err(|Refused { log, source }| Error::Layer {
        path: path.to_owned(),
        log,
        source: source.into(),
    })
}

fn open(path: &Path) -> Result<File, Error> {
    let opened = |source: io::Error| Error::Open { path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| opened(errno.into()))?);
    if !file.metadata().map_err(opened)?.is_file() {
        return Err(Error::Invalid { what: format!("layer {path:?}"), reason: "is no regular file" });
    }
    Ok(file)
}

/// Mounts an open file or block device, with further devices (Documentation/filesystems/erofs.rst, "device=").
fn mount_source<S: AsRawFd>(source: &S, devices: &[S]) -> Result<OwnedFd, Refused> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|source| Refused { log: "the kernel has no EROFS".to_owned(), source })?;
    let refused = |source: Errno| Refused { log: kernel_log(&context), source };
    // what was opened is what is mounted, wherever its name leads by now
    let path = |file: &S| format!("/proc/self/fd/{}", file.as_raw_fd());
    fsconfig_set_string(&context, "source", path(source)).map_err(refused)?;
    for device in devices {
        fsconfig_set_string(&context, "device", path(device)).map_err(refused)?;
    }
    fsconfig_set_flag(&context, "ro").map_err(refused)?;
    fsconfig_create(&context).map_err(refused)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused)
}

/// A loop device that shows `file` while it is held or mounted.
fn looped(file: &File) -> Result<OwnedFd, Errno> {
    let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut last = Errno::BUSY;
    for _ in 0..LOOP_ATTEMPTS {
        let number = sys::loop_device::free(control.as_fd())?;
        let path = format!("/dev/loop{number}");
        let device = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        match sys::loop_device::configure(device.as_fd(), file.as_fd(), BLOCK_BYTES) {
            Ok(()) => return Ok(device),
            // somebody else was first
            Err(errno @ (Errno::BUSY | Errno::NXIO)) => last = errno,
            Err(errno) => return Err(errno),
        }
    }
    Err(last)
}

/// Whether what a mount without a place shows can be mounted in a sandbox (Linux 6.15).
pub fn can_be_cloned(mount: &OwnedFd) -> bool {
    detached::clone_of(mount.as_fd(), false).is_ok()
}

/// Tries to mount `sample`, a layer's file where the others are; where it cannot be, says why in words for `slipway info`.
///
/// # Errors
/// Those words.
pub fn try_mount(sample: &Path, shape: Shape) -> Result<(), String> {
    let via = match shape {
        Shape::Unpacked => return Ok(()),
        Shape::Mounted => Via::File,
        Shape::Looped => Via::Loop,
    };
    match mount(sample, &[], via) {
        Ok(_) => Ok(()),
        Err(Error::Layer { source, log, .. }) => {
            let words = match (via, Errno::from_io_error(&source)) {
                (_, Some(Errno::PERM | Errno::ACCESS)) => "this process may not mount EROFS".to_owned(),
                (_, Some(Errno::NODEV)) => "the kernel has no EROFS".to_owned(),
                (Via::File, Some(Errno::NOTBLK)) => {
                    "the kernel mounts no EROFS from a file of this file system (Linux 6.12 does, \
                     CONFIG_EROFS_FS_BACKED_BY_FILE, but not on tmpfs or overlayfs)"
                        .to_owned()
                }
                _ if log.is_empty() => source.to_string(),
                _ => format!("{source}: {log}"),
            };
            Err(words)
        }
        Err(error) => Err(error.to_string()),
    }
}
