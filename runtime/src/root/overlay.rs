//! An image's layers and an upper folder as one detached overlay (Documentation/filesystems/overlayfs.rst).
//!
//! On kernels before 6.5, whose configuration values are cut at 255 bytes, it still goes through mount(2).

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_change, open_tree,
};

use crate::error::Error;
use crate::sandbox::detached::tmpfs;
use crate::sandbox::sys;

/// The longest value that fsconfig(2) takes as a string, zero byte not counted.
const MAX_VALUE_BYTES: usize = 255;
/// The most lower folders of one overlay (`OVL_MAX_STACK`, fs/overlayfs/params.h).
const MAX_LAYERS: usize = 500;
/// The longest option string that mount(2) takes: one page with its zero byte.
const MAX_OPTIONS_BYTES: usize = 4095;
/// The most that is read of the kernel's explanation.
const MAX_LOG_BYTES: usize = 4096;

/// The folders of `lower`, the topmost first, without those that occur further up already: overlayfs takes no folder
/// twice (`ovl_setup_trap` answers ELOOP), and images repeat layers.
///
/// A lower occurrence never shows. Take a path that the folder has. A file, link, deletion or opaque folder there ends
/// the kernel's descent at the upper occurrence. A plain folder goes on downwards, but its mode, owner and time are those
/// of the upper occurrence, and every name below it is one that the upper occurrence has too, so the same holds for
/// each of them in turn. What lies between the two can only end the descent earlier. So the upper occurrence alone gives
/// the same tree, whatever deletes, replaces or hides what is beneath.
pub(super) fn distinct(lower: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(lower.len());
    for path in lower {
        // the kernel compares inodes, not names
        let found = rustix::fs::stat(path)
            .map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })?;
        if seen.insert((found.st_dev, found.st_ino)) {
            kept.push(path.to_owned());
        }
    }
    if kept.len() > MAX_LAYERS {
        return Err(Error::Invalid { what: "overlay layers".to_owned(), reason: "are more than 500" });
    }
    Ok(kept)
}

/// An overlay's parts.
pub(super) struct Layers<'a> {
    pub(super) lower: &'a [PathBuf],
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    pub(super) volatile: bool,
    pub(super) userxattr: bool,
}

impl Layers<'_> {
    pub(super) fn may_need_old_call(&self, error: &io::Error) -> bool {
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

pub(super) fn overlay(layers: &Layers<'_>, nodev: bool) -> Result<OwnedFd, Error> {
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
///
/// All options share one page, so the layers go by short names: links in a file system in memory that only the thread
/// stands in. They have no place in any tree and hold nothing that the options' syntax would need escaped.
pub(super) fn overlay_by_options(layers: &Layers<'_>, nodev: bool) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Root { log: String::new(), source: errno.into() };
    let names = tmpfs(None, 0o700, MountAttrFlags::empty()).map_err(failed)?;
    let options = option_string(layers, &names)?;
    let target = layers.lower.first().map(PathBuf::as_path).unwrap_or(layers.upper);
    let work = || -> Result<OwnedFd, Errno> {
        sys::process::unshare(libc::CLONE_FS | libc::CLONE_NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        rustix::process::fchdir(&names)?;
        let flags = if nodev { MountFlags::NODEV } else { MountFlags::empty() };
        mount("overlay", target, "overlay", flags, options.as_c_str())?;
        open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
    };
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    match done {
        Ok(result) => result.map_err(failed),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The option string, its paths as links in the folder `names`.
fn option_string(layers: &Layers<'_>, names: &OwnedFd) -> Result<CString, Error> {
    let link = |name: &str, path: &Path| {
        let absolute =
            std::path::absolute(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        rustix::fs::symlinkat(&absolute, names, name)
            .map_err(|errno| Error::Open { path: absolute, source: errno.into() })
    };
    let mut options = String::from("lowerdir=");
    for (number, path) in layers.lower.iter().enumerate() {
        link(&number.to_string(), path)?;
        options.push_str(if number == 0 { "" } else { ":" });
        options.push_str(&number.to_string());
    }
    for (key, name, path) in [("upperdir", "u", layers.upper), ("workdir", "w", layers.work)] {
        link(name, path)?;
        options.push_str(&format!(",{key}={name}"));
    }
    for (key, value) in fixed_options(layers.userxattr) {
        options.push_str(&format!(",{key}={value}"));
    }
    for (key, wanted) in [(",volatile", layers.volatile), (",userxattr", layers.userxattr)] {
        options.push_str(if wanted { key } else { "" });
    }
    let invalid = |reason| Error::Invalid { what: "overlay layers".to_owned(), reason };
    if options.len() > MAX_OPTIONS_BYTES {
        return Err(invalid("do not fit the one page that kernels before 6.5 take"));
    }
    CString::new(options).map_err(|_| invalid("have a name with a zero byte"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders made in `scratch`, each with a file of its own name.
    fn folders(scratch: &Path, names: impl IntoIterator<Item = String>) -> Vec<PathBuf> {
        let make = |name: String| {
            let path = scratch.join(&name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(name.replace(',', "")), "").unwrap();
            path
        };
        names.into_iter().map(make).collect()
    }

    fn names_in(tree: &OwnedFd, path: &str) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = rustix::fs::openat(tree, path, flags, Mode::empty()).unwrap();
        let entries = rustix::fs::Dir::read_from(&folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }

    /// Mounts by either call.
    fn mounted(layers: &Layers<'_>) -> [OwnedFd; 2] {
        [overlay_by_options(layers, true).unwrap(), overlay(layers, true).unwrap()]
    }

    #[test]
    fn of_equal_folders_the_topmost_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let made = folders(scratch.path(), ["a", "b", "c"].map(str::to_owned));
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&made[0], &link).unwrap();
        let [a, b, c] = [&made[0], &made[1], &made[2]].map(PathBuf::clone);
        for (given, kept) in [
            (vec![&a, &b, &a], vec![&a, &b]),
            (vec![&b, &a, &a, &a], vec![&b, &a]),
            (vec![&a, &b, &c], vec![&a, &b, &c]),
            (vec![&link, &b, &a], vec![&link, &b]),
            (vec![], vec![]),
        ] {
            let given: Vec<PathBuf> = given.into_iter().cloned().collect();
            assert_eq!(distinct(&given).unwrap().iter().collect::<Vec<_>>(), kept, "{given:?}");
        }
        assert!(matches!(distinct(&[a, scratch.path().join("gone")]), Err(Error::Open { .. })));
    }

    #[test]
    fn too_many_layers_are_refused_in_words() {
        let scratch = tempfile::tempdir().unwrap();
        let made = folders(scratch.path(), (0..=MAX_LAYERS).map(|number| number.to_string()));
        assert!(matches!(distinct(&made), Err(Error::Invalid { .. })));
        assert_eq!(distinct(&made[1..]).unwrap().len(), MAX_LAYERS);
    }

    /// As many layers as images may have, with long names, by the call that has one page for all of them.
    #[test]
    fn privileged_the_most_layers_of_an_image_fit_either_call() {
        if !crate::host::tests_may_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let name = |number| format!("{number:03}{}", "x".repeat(61));
        let lower = folders(scratch.path(), (0..=slipway_oci::limits::LAYERS).map(name));
        let others = folders(scratch.path(), ["upper", "work"].map(str::to_owned));
        std::fs::remove_file(others[1].join("work")).unwrap();
        let layers =
            Layers { lower: &lower, upper: &others[0], work: &others[1], volatile: false, userxattr: false };
        for tree in mounted(&layers) {
            assert_eq!(names_in(&tree, ".").len(), lower.len() + 1);
        }
    }

    /// What [`distinct`] claims, by the kernel's own word: the stack with a repeated folder left out looks as one in
    /// which the lower occurrence is a copy of it.
    #[test]
    fn privileged_a_lower_occurrence_never_shows() {
        if !crate::host::tests_may_mount() {
            return;
        }
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let delete = |path: PathBuf| {
            let node = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, path, node, Mode::empty(), 0).unwrap();
        };
        let make_opaque = |path: PathBuf| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", flags).unwrap();
        };
        // the repeated layer: a file, a deletion, a plain and an opaque folder with another mode than beneath
        let repeated = |root: &Path| {
            std::fs::create_dir_all(root.join("plain/below")).unwrap();
            std::fs::create_dir_all(root.join("opaque")).unwrap();
            for file in ["file", "plain/file", "plain/below/file", "opaque/file"] {
                std::fs::write(root.join(file), "repeated").unwrap();
            }
            delete(root.join("gone"));
            make_opaque(root.join("opaque"));
            std::fs::set_permissions(root.join("plain"), PermissionsExt::from_mode(0o700)).unwrap();
        };
        repeated(&path("repeated"));
        repeated(&path("copy"));
        for file in ["base/plain/base", "base/opaque/base", "base/plain/below/base", "base/gone", "base/kept"]
        {
            std::fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            std::fs::write(path(file), "base").unwrap();
        }
        // what may lie between: deletions, opaque folders, a file for a folder, a folder for a file, other modes
        let between: [&dyn Fn(&Path); 6] = [
            &|_| {},
            &|root| delete(root.join("plain")),
            &|root| std::fs::write(root.join("plain"), "between").unwrap(),
            &|root| std::fs::create_dir_all(root.join("file/folder")).unwrap(),
            &|root| {
                std::fs::create_dir(root.join("plain")).unwrap();
                std::fs::write(root.join("plain/between"), "between").unwrap();
                make_opaque(root.join("plain"));
            },
            &|root| {
                std::fs::write(root.join("gone"), "between").unwrap();
                std::fs::create_dir_all(root.join("opaque/between")).unwrap();
                delete(root.join("file"));
            },
        ];
        for (number, make) in between.iter().enumerate() {
            let middle = path(&format!("between{number}"));
            std::fs::create_dir(&middle).unwrap();
            make(&middle);
            let others = folders(scratch.path(), ["u", "w"].map(|name| format!("{name}{number}")));
            std::fs::remove_file(others[1].join(format!("w{number}"))).unwrap();
            let given = [path("repeated"), middle.clone(), path("repeated"), path("base")];
            let kept = distinct(&given).unwrap();
            assert_eq!(kept.len(), 3);
            let copied = [path("repeated"), middle, path("copy"), path("base")];
            let seen: Vec<Vec<String>> = [&kept[..], &copied]
                .into_iter()
                .flat_map(|lower| {
                    let (upper, work) = (&others[0], &others[1]);
                    mounted(&Layers { lower, upper, work, volatile: false, userxattr: false })
                })
                .map(|tree| listing(&tree, "."))
                .collect();
            assert!(seen[0].len() >= 6, "{seen:?}");
            assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "between {number}: {seen:#?}");
        }
    }

    /// Every path with its mode and a file's text.
    fn listing(tree: &OwnedFd, folder: &str) -> Vec<String> {
        let mut all = Vec::new();
        for name in names_in(tree, folder) {
            let path = format!("{folder}/{name}");
            let found = rustix::fs::statat(tree, &path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
            if rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
                all.push(format!("{path} {:o}", found.st_mode));
                all.extend(listing(tree, &path));
            } else {
                let file = rustix::fs::openat(tree, &path, OFlags::RDONLY, Mode::empty()).unwrap();
                let text = io::read_to_string(std::fs::File::from(file)).unwrap();
                all.push(format!("{path} {:o} {text}", found.st_mode));
            }
        }
        all
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
        for tree in mounted(&layers) {
            let read = |name: &str| {
                let file = rustix::fs::openat(&tree, name, OFlags::RDONLY, Mode::empty()).unwrap();
                std::io::read_to_string(std::fs::File::from(file)).unwrap()
            };
            assert_eq!((read("file").as_str(), read("other").as_str()), ("top", "bottom"));
        }
    }
}
