//! The file systems that a sandbox is built from, as detached mounts: made by the parent, attached by the child.
//!
//! Everything goes through the mount calls of Linux 5.2 (fsopen, fsconfig, fsmount, open_tree), which give a descriptor
//! and no place in any tree, so nothing has to be cleaned up when a later step fails. Only overlays on kernels
//! before 6.5 still need mount(2): their configuration values are cut at 255 bytes there.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree,
};

use crate::error::Error;
use crate::spec::RootFs;
use crate::sys;
use crate::sys::mount::MountAttr;

/// `MOUNT_ATTR_RDONLY` (linux/mount.h).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NODEV` (linux/mount.h).
pub(crate) const ATTR_NODEV: u64 = 0x4;

/// The longest value that fsconfig(2) takes as a string, zero byte not counted.
const MAX_VALUE_BYTES: usize = 255;
/// The longest option string that mount(2) takes: one page with its zero byte.
const MAX_OPTIONS_BYTES: usize = 4095;
/// The most that is read of the kernel's explanation.
const MAX_LOG_BYTES: usize = 4096;

/// Makes the root as a detached mount. `nodev` keeps device nodes on it from being opened.
pub(crate) fn detached(root: &RootFs, nodev: bool) -> Result<OwnedFd, Error> {
    match root {
        RootFs::Directory(path) => folder(path, nodev),
        RootFs::Overlay { lower, upper, work, volatile, userxattr } => {
            let layers = Layers { lower, upper, work, volatile: *volatile, userxattr: *userxattr };
            match overlay(&layers, nodev) {
                // Kernels before 6.5 do not know `lowerdir+`.
                Err(Error::Root { source, .. }) if layers.may_need_old_call(&source) => {
                    overlay_by_options(&layers, nodev)
                }
                result => result,
            }
        }
    }
}

/// A clone of a host folder with all that is mounted below it.
fn folder(path: &Path, nodev: bool) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Open { path: path.to_owned(), source: errno.into() };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let tree = open_tree(held.map_err(failed)?, "", flags | OpenTreeFlags::AT_EMPTY_PATH).map_err(failed)?;
    let set = if nodev { ATTR_NODEV } else { 0 };
    make_private(&tree, set).map_err(failed)?;
    Ok(tree)
}

/// Sets attributes on a detached tree and cuts it from the host's propagation.
pub(crate) fn make_private(tree: &OwnedFd, set: u64) -> Result<(), Errno> {
    use std::os::fd::AsFd;
    let attributes = MountAttr { set, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    sys::mount::set_attributes(tree.as_fd(), true, &attributes)
}

/// An overlay's parts.
struct Layers<'a> {
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
    volatile: bool,
    userxattr: bool,
}

impl Layers<'_> {
    fn may_need_old_call(&self, error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::EINVAL) && !appends_layers()
    }
}

/// Whether the running kernel has `lowerdir+` (6.5).
fn appends_layers() -> bool {
    let release = rustix::system::uname();
    let text = release.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 5)
}

fn overlay(layers: &Layers<'_>, nodev: bool) -> Result<OwnedFd, Error> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Error::Root { log: String::new(), source: errno.into() })?;
    let failed = |errno: Errno| Error::Root { log: kernel_log(&context), source: errno.into() };
    // Descriptors that stand in for paths which the option cannot carry; needed until the superblock is made.
    let mut held = Vec::new();
    fsconfig_set_string(&context, "source", "overlay").map_err(failed)?;
    for path in layers.lower {
        let value = path_value(path, &mut held)?;
        fsconfig_set_string(&context, "lowerdir+", &value).map_err(failed)?;
    }
    for (key, path) in [("upperdir", layers.upper), ("workdir", layers.work)] {
        let value = path_value(path, &mut held)?;
        fsconfig_set_string(&context, key, &value).map_err(failed)?;
    }
    for (key, value) in fixed_options(layers.userxattr) {
        fsconfig_set_string(&context, *key, *value).map_err(failed)?;
    }
    for (key, wanted) in [("volatile", layers.volatile), ("userxattr", layers.userxattr)] {
        if wanted {
            fsconfig_set_flag(&context, key).map_err(failed)?;
        }
    }
    fsconfig_create(&context).map_err(failed)?;
    let attributes = if nodev { MountAttrFlags::MOUNT_ATTR_NODEV } else { MountAttrFlags::empty() };
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed)
}

/// A host's module parameters must not decide what an upper folder looks like: without redirects, metadata-only copies
/// and indexes it holds plain files, whiteouts and opaque marks, which is all that a layer can express. With `userxattr`
/// the kernel excludes the first two by itself and refuses to be told.
fn fixed_options(userxattr: bool) -> &'static [(&'static str, &'static str)] {
    if userxattr {
        &[("index", "off")]
    } else {
        &[("index", "off"), ("redirect_dir", "nofollow"), ("metacopy", "off")]
    }
}

/// The path itself, or, when it is too long or holds what the option's parser takes for itself, its descriptor's.
fn path_value(path: &Path, held: &mut Vec<OwnedFd>) -> Result<CString, Error> {
    let bytes = path.as_os_str().as_bytes();
    let plain =
        bytes.len() <= MAX_VALUE_BYTES && !bytes.iter().any(|byte| matches!(byte, b'\\' | b':' | b','));
    if plain {
        return c_string(path);
    }
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })?;
    let value = c_string(Path::new(&format!("/proc/self/fd/{}", opened.as_raw_fd())))?;
    held.push(opened);
    Ok(value)
}

fn c_string(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Invalid { what: format!("path {path:?}"), reason: "holds a zero byte" })
}

/// What the kernel wrote about a failed configuration (fsopen(2)): one message a read, after its class letter.
fn kernel_log(context: &OwnedFd) -> String {
    let mut log = String::new();
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = rustix::io::read(context, &mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..count]);
        // A letter for the class of the message and a blank come first.
        let message = message.trim_end().split_once(' ').map_or("", |(_, text)| text);
        if !log.is_empty() {
            log.push_str("; ");
        }
        log.push_str(message);
        if log.len() > MAX_LOG_BYTES {
            break;
        }
    }
    log
}

/// The same overlay through mount(2), for kernels before 6.5: a thread with a mount namespace and working folder of
/// its own mounts it over the topmost layer, and hands a detached clone back.
fn overlay_by_options(layers: &Layers<'_>, nodev: bool) -> Result<OwnedFd, Error> {
    let (base, options) = option_string(layers)?;
    let target = layers.lower.first().map(PathBuf::as_path).unwrap_or(layers.upper);
    let work = || -> Result<OwnedFd, Errno> {
        sys::process::unshare(libc::CLONE_FS | libc::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        rustix::process::chdir(&base)?;
        let flags = if nodev { MountFlags::NODEV } else { MountFlags::empty() };
        mount("overlay", target, "overlay", flags, options.as_c_str())?;
        open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
    };
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    match done {
        Ok(result) => result.map_err(|errno| Error::Root { log: String::new(), source: errno.into() }),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The option string with paths relative to their common folder, which is what makes many layers fit one page.
fn option_string(layers: &Layers<'_>) -> Result<(PathBuf, CString), Error> {
    let all: Vec<&Path> =
        layers.lower.iter().map(PathBuf::as_path).chain([layers.upper, layers.work]).collect();
    let base = common_folder(&all);
    let relative = |path: &Path| escape(path.strip_prefix(&base).unwrap_or(path).as_os_str());
    let mut options = b"lowerdir=".to_vec();
    options.extend(layers.lower.iter().map(|path| relative(path)).collect::<Vec<_>>().join(&b':'));
    for (key, path) in [(",upperdir=", layers.upper), (",workdir=", layers.work)] {
        options.extend_from_slice(key.as_bytes());
        options.extend(relative(path));
    }
    for (key, value) in fixed_options(layers.userxattr) {
        options.extend_from_slice(format!(",{key}={value}").as_bytes());
    }
    for (key, wanted) in [(",volatile", layers.volatile), (",userxattr", layers.userxattr)] {
        options.extend_from_slice(if wanted { key.as_bytes() } else { b"" });
    }
    let invalid = |reason| Error::Invalid { what: "overlay layers".to_owned(), reason };
    if options.len() > MAX_OPTIONS_BYTES {
        return Err(invalid("their paths exceed the one page that kernels before 6.5 take"));
    }
    Ok((base, CString::new(options).map_err(|_| invalid("a path holds a zero byte"))?))
}

fn common_folder(paths: &[&Path]) -> PathBuf {
    let mut base = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("/")).to_owned();
    while !paths.iter().all(|path| path.strip_prefix(&base).is_ok_and(|rest| !rest.as_os_str().is_empty())) {
        if !base.pop() {
            break;
        }
    }
    base
}

/// Overlayfs takes a backslash before what separates its options and layers.
fn escape(path: &OsStr) -> Vec<u8> {
    let special = |byte: &u8| matches!(byte, b'\\' | b':' | b',');
    path.as_bytes()
        .iter()
        .flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte]))
        .collect()
}

/// An empty file system in memory.
pub(crate) fn tmpfs(
    size_bytes: Option<u64>,
    mode: u32,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "tmpfs")?;
    fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    if let Some(bytes) = size_bytes {
        fsconfig_set_string(&context, "size", bytes.to_string())?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached clone of what a descriptor shows.
pub(crate) fn clone_of(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(source, "", flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers<'a>(lower: &'a [PathBuf]) -> Layers<'a> {
        Layers {
            lower,
            upper: Path::new("/s/up"),
            work: Path::new("/s/wo,rk"),
            volatile: true,
            userxattr: false,
        }
    }

    #[test]
    fn options_are_relative_and_escaped() {
        let lower = [PathBuf::from("/s/a:1"), PathBuf::from("/s/b\\2")];
        let (base, options) = option_string(&layers(&lower)).unwrap();
        assert_eq!(base, PathBuf::from("/s"));
        assert_eq!(
            options.to_str().unwrap(),
            "lowerdir=a\\:1:b\\\\2,upperdir=up,workdir=wo\\,rk,index=off,redirect_dir=nofollow,metacopy=off,volatile"
        );
    }

    #[test]
    fn too_many_layers_for_a_page_are_refused() {
        let lower: Vec<PathBuf> =
            (0..300).map(|n| PathBuf::from(format!("/s/a-long-layer-name-{n}"))).collect();
        assert!(matches!(option_string(&layers(&lower)), Err(Error::Invalid { .. })));
    }

    #[test]
    fn a_layer_is_never_the_base_itself() {
        let paths = [Path::new("/a/b"), Path::new("/a/b/c")];
        assert_eq!(common_folder(&paths), PathBuf::from("/a"));
        assert_eq!(common_folder(&[Path::new("/a/b"), Path::new("/c")]), PathBuf::from("/"));
    }

    #[test]
    fn privileged_old_option_string_mounts_the_same_tree() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            ["low,1", "low:2", "up", "work"].iter().map(|name| scratch.path().join(name)).collect();
        paths.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        std::fs::write(paths[0].join("file"), "top").unwrap();
        std::fs::write(paths[1].join("file"), "bottom").unwrap();
        std::fs::write(paths[1].join("other"), "bottom").unwrap();
        let layers = Layers {
            lower: &paths[..2],
            upper: &paths[2],
            work: &paths[3],
            volatile: false,
            userxattr: false,
        };
        for tree in [overlay_by_options(&layers, true), overlay(&layers, true)] {
            let tree = tree.unwrap();
            let read = |name: &str| {
                let file = rustix::fs::openat(&tree, name, OFlags::RDONLY, Mode::empty()).unwrap();
                std::io::read_to_string(std::fs::File::from(file)).unwrap()
            };
            assert_eq!((read("file").as_str(), read("other").as_str()), ("top", "bottom"));
        }
    }
}
