//! An image's layers and an upper folder as one detached overlay (Documentation/filesystems/overlayfs.rst).
//!
//! Layers that are files ([`super::layer`]) are detached mounts, and overlayfs takes them by their descriptors: a
//! descriptor as a lower layer since Linux 6.13, one of a mount without a place since 6.15. On older kernels they get a
//! place in a mount namespace that only one thread is in, for as long as the overlay is made. On kernels before 6.5, whose
//! configuration values are cut at 255 bytes, the overlay still goes through mount(2).

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, mount_change, move_mount, open_tree,
};

use super::layer::{self, Lower};
use super::mapped::IdMap;
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

/// The layers of `lower`, the topmost first, without those that occur further up already: overlayfs takes no folder
/// twice (`ovl_setup_trap` answers ELOOP), and images repeat layers.
///
/// A lower occurrence never shows. Take a path that the folder has. A file, link, deletion or opaque folder there ends
/// the kernel's descent at the upper occurrence. A plain folder goes on downwards, but its mode, owner and time are those
/// of the upper occurrence, and every name below it is one that the upper occurrence has too, so the same holds for
/// each of them in turn. What lies between the two can only end the descent earlier. So the upper occurrence alone gives
/// the same tree, whatever deletes, replaces or hides what is beneath.
fn distinct(lower: &[Lower]) -> Result<Vec<&Lower>, Error> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(lower.len());
    for layer in lower {
        // the kernel compares inodes, not names
        let path = layer.path();
        let found = rustix::fs::stat(path)
            .map_err(|errno| Error::Open { path: path.to_owned(), source: errno.into() })?;
        if seen.insert((found.st_dev, found.st_ino)) {
            kept.push(layer);
        }
    }
    if kept.len() > MAX_LAYERS {
        return Err(Error::Invalid { what: "overlay layers".to_owned(), reason: "are more than 500" });
    }
    Ok(kept)
}

/// A layer that an overlay can take.
pub(super) enum Prepared {
    Folder(PathBuf),
    Mount(OwnedFd),
}

/// Mounts the files among the layers; with `ids` the folders too, and shows all in them.
pub(super) fn prepared(lower: &[Lower], ids: Option<&IdMap>) -> Result<Vec<Prepared>, Error> {
    let prepare = |lower: &Lower| match (lower, ids) {
        (Lower::Folder(path), None) => Ok(Prepared::Folder(path.clone())),
        (Lower::Folder(path), Some(ids)) => ids.folder(path).map(Prepared::Mount),
        (Lower::Image { path, devices, via }, ids) => {
            let tree = layer::mount(path, devices, *via)?;
            ids.map_or(Ok(()), |ids| ids.apply(&tree, path))?;
            Ok(Prepared::Mount(tree))
        }
    };
    distinct(lower)?.into_iter().map(prepare).collect()
}

/// An overlay's parts.
pub(super) struct Layers<'a> {
    pub(super) lower: Vec<Prepared>,
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    pub(super) volatile: bool,
    pub(super) userxattr: bool,
}

impl Layers<'_> {
    /// Whether a file system of its own is among the layers.
    fn has_mounts(&self) -> bool {
        self.lower.iter().any(|layer| matches!(layer, Prepared::Mount(_)))
    }
}

/// Whether the running kernel has `lowerdir+` (6.5).
fn appends_layers() -> bool {
    let release = rustix::system::uname();
    let text = release.release().to_string_lossy();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 5)
}

/// The overlay, by the first way that the running kernel takes.
pub(super) fn mounted(layers: &Layers<'_>, nodev: bool) -> Result<OwnedFd, Error> {
    let is_old = |error: &Error| matches!(error, Error::Root { source, .. } if source.raw_os_error() == Some(libc::EINVAL));
    match by_descriptors(layers, nodev) {
        Err(error) if is_old(&error) && (layers.has_mounts() || !appends_layers()) => {
            let call = if appends_layers() { Call::Fsconfig } else { Call::Mount };
            placed(layers, nodev, call)
        }
        result => result,
    }
}

/// The overlay through fsconfig(2) alone.
fn by_descriptors(layers: &Layers<'_>, nodev: bool) -> Result<OwnedFd, Error> {
    let lower = layers.lower.iter().map(|layer| match layer {
        Prepared::Folder(path) => Value::Path(path),
        Prepared::Mount(tree) => Value::Tree(tree),
    });
    configured(layers, lower.collect(), Value::Path(layers.upper), nodev)
}

/// What fsconfig(2) is told of a layer.
enum Value<'v> {
    Path(&'v Path),
    Tree(&'v OwnedFd),
}

fn configured(
    layers: &Layers<'_>,
    lower: Vec<Value<'_>>,
    upper: Value<'_>,
    nodev: bool,
) -> Result<OwnedFd, Error> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Error::Root { log: String::new(), source: errno.into() })?;
    let failed = |errno: Errno| Error::Root { log: kernel_log(&context), source: errno.into() };
    // Descriptors that stand in for paths which the option cannot carry; needed until the superblock is made.
    let mut held = Vec::new();
    fsconfig_set_string(&context, "source", "overlay").map_err(failed)?;
    let places = lower.into_iter().map(|layer| ("lowerdir+", layer));
    for (key, value) in places.chain([("upperdir", upper), ("workdir", Value::Path(layers.work))]) {
        match value {
            Value::Path(path) => {
                fsconfig_set_string(&context, key, &path_value(path, &mut held)?).map_err(failed)?;
            }
            Value::Tree(tree) => fsconfig_set_fd(&context, key, tree).map_err(failed)?,
        }
    }
    for (key, value) in fixed_options(layers) {
        fsconfig_set_string(&context, key, value).map_err(failed)?;
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
///
/// With layers on several file systems, `xino` keeps all files on one device to whoever asks, where the kernel can say so in
/// 32 bits of inode numbers: else `tar --one-file-system` in a step would leave out what another layer holds. `auto`, for
/// with `on` every new folder would be marked opaque (`ovl_create_upper`, `ovl_allow_offline_changes`): another layer than
/// on folders, and mount points beneath it would not show.
fn fixed_options(layers: &Layers<'_>) -> Vec<(&'static str, &'static str)> {
    let mut options = vec![("index", "off")];
    if !layers.userxattr {
        options.extend([("redirect_dir", "nofollow"), ("metacopy", "off")]);
    }
    if layers.has_mounts() {
        options.push(("xino", "auto"));
    }
    options
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
pub(super) fn kernel_log(context: &OwnedFd) -> String {
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

/// Which call makes an overlay of layers that have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// fsconfig(2) with `lowerdir+`, from 6.5 on.
    Fsconfig,
    /// mount(2), before.
    Mount,
}

/// The same overlay for older kernels: a thread with a mount namespace and working folder of its own gives each mount among
/// the layers a place, makes the overlay, and hands it back detached.
///
/// With mount(2) all options share one page, so the layers go by short names: links in a file system in memory that only the
/// thread stands in. They have no place in any tree and hold nothing that the options' syntax would need escaped.
fn placed(layers: &Layers<'_>, nodev: bool, call: Call) -> Result<OwnedFd, Error> {
    let done = std::thread::scope(|scope| scope.spawn(|| placed_here(layers, nodev, call)).join());
    match done {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn placed_here(layers: &Layers<'_>, nodev: bool, call: Call) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::Root { log: String::new(), source: errno.into() };
    sys::process::unshare(libc::CLONE_FS | libc::CLONE_NEWNS).map_err(failed)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(failed)?;
    // opened in the new namespace, and before it is covered: overlayfs takes no mounts of another one
    let upper =
        rustix::fs::open(layers.upper, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::Open { path: layers.upper.to_owned(), source: errno.into() })?;
    let upper_path = PathBuf::from(format!("/proc/self/fd/{}", upper.as_raw_fd()));
    let names = tmpfs(None, 0o700, MountAttrFlags::empty()).map_err(failed)?;
    let attach = |tree: &OwnedFd, place: &Path| {
        move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)
    };
    // any folder would do; this one is ours alone
    attach(&names, layers.upper)?;
    rustix::process::fchdir(&names).map_err(failed)?;
    let mut lower = Vec::with_capacity(layers.lower.len());
    for (number, layer) in layers.lower.iter().enumerate() {
        lower.push(match layer {
            Prepared::Folder(path) => path.clone(),
            Prepared::Mount(tree) => {
                let place = layers.upper.join(format!("m{number}"));
                rustix::fs::mkdirat(&names, format!("m{number}"), Mode::RWXU).map_err(failed)?;
                attach(tree, &place)?;
                place
            }
        });
    }
    if call == Call::Fsconfig {
        let lower = lower.iter().map(|path| Value::Path(path)).collect();
        return configured(layers, lower, Value::Path(&upper_path), nodev);
    }
    let options = option_string(layers, &lower, &upper_path, &names)?;
    let target = Path::new("target");
    rustix::fs::mkdirat(&names, target, Mode::RWXU).map_err(failed)?;
    let flags = if nodev { MountFlags::NODEV } else { MountFlags::empty() };
    mount("overlay", target, "overlay", flags, options.as_c_str()).map_err(failed)?;
    open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(failed)
}

/// The option string, its paths as links in the folder `names`.
fn option_string(
    layers: &Layers<'_>,
    lower: &[PathBuf],
    upper: &Path,
    names: &OwnedFd,
) -> Result<CString, Error> {
    let link = |name: &str, path: &Path| {
        let absolute =
            std::path::absolute(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        rustix::fs::symlinkat(&absolute, names, name)
            .map_err(|errno| Error::Open { path: absolute, source: errno.into() })
    };
    let mut options = String::from("lowerdir=");
    for (number, path) in lower.iter().enumerate() {
        link(&number.to_string(), path)?;
        options.push_str(if number == 0 { "" } else { ":" });
        options.push_str(&number.to_string());
    }
    for (key, name, path) in [("upperdir", "u", upper), ("workdir", "w", layers.work)] {
        link(name, path)?;
        options.push_str(&format!(",{key}={name}"));
    }
    for (key, value) in fixed_options(layers) {
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
    use super::super::layer::Via;
    use super::*;
    use slipway_oci::store::Shape;

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

    /// Mounts by every call.
    fn every_way(layers: &Layers<'_>) -> [OwnedFd; 3] {
        [
            placed(layers, true, Call::Mount).unwrap(),
            placed(layers, true, Call::Fsconfig).unwrap(),
            by_descriptors(layers, true).unwrap(),
        ]
    }

    fn lowers(paths: &[PathBuf]) -> Vec<Lower> {
        paths.iter().cloned().map(Lower::from).collect()
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
            let given = lowers(&given);
            let found: Vec<&Path> = distinct(&given).unwrap().into_iter().map(Lower::path).collect();
            assert_eq!(found, kept, "{given:?}");
        }
        assert!(matches!(distinct(&lowers(&[a, scratch.path().join("gone")])), Err(Error::Open { .. })));
    }

    #[test]
    fn too_many_layers_are_refused_in_words() {
        let scratch = tempfile::tempdir().unwrap();
        let made = folders(scratch.path(), (0..=MAX_LAYERS).map(|number| number.to_string()));
        let made = lowers(&made);
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
        let count = lower.len();
        let lower = prepared(&lowers(&lower), None).unwrap();
        let layers = Layers { lower, upper: &others[0], work: &others[1], volatile: false, userxattr: false };
        for tree in every_way(&layers) {
            assert_eq!(names_in(&tree, ".").len(), count + 1);
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
            let given = lowers(&given);
            assert_eq!(distinct(&given).unwrap().len(), 3);
            let copied = lowers(&[path("repeated"), middle, path("copy"), path("base")]);
            let seen: Vec<Vec<String>> = [&given, &copied]
                .into_iter()
                .flat_map(|lower| {
                    let (upper, work) = (&others[0], &others[1]);
                    let lower = prepared(lower, None).unwrap();
                    every_way(&Layers { lower, upper, work, volatile: false, userxattr: false })
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
                let text = std::io::read_to_string(std::fs::File::from(file)).unwrap();
                all.push(format!("{path} {:o} {text}", found.st_mode));
            }
        }
        all
    }

    /// A layer's file at `path`.
    fn write_layer(path: &Path, entries: &[slipway_oci::layer::Entry]) {
        use slipway_oci::{blobs::Blobs, compression::Compression, layer};
        let scratch = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&scratch.path().join("b"), &scratch.path().join("t")).unwrap();
        let mut writer = layer::LayerWriter::new(&blobs, Compression::None).unwrap();
        for entry in entries {
            let text = format!("{}", path.file_name().unwrap().display());
            let mut entry = entry.clone();
            entry.size_bytes =
                if entry.kind == slipway_oci::layer::Kind::File { text.len() as u64 } else { 0 };
            writer.append_file(entry, &mut text.as_bytes()).unwrap();
        }
        let made = writer.finish().unwrap();
        let archive = blobs.open_blob(&made.descriptor.digest).unwrap();
        layer::write_image(archive, std::fs::File::create_new(path).unwrap(), None).unwrap();
    }

    /// Loop devices that show a file below `folder`.
    fn loops_of(folder: &Path) -> usize {
        let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
        let shown = devices.filter(|device| {
            let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            file.starts_with(folder.to_str().unwrap())
        });
        shown.count()
    }

    #[test]
    fn privileged_files_are_layers_by_every_way() {
        use slipway_oci::layer::{Entry, Kind};
        if !crate::host::tests_may_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let entry = |path: &str, kind: Kind| Entry::new(path, kind, 0o755);
        write_layer(
            &path("low"),
            &["gone", "kept", "hidden/old", "plain/low"].map(|path| entry(path, Kind::File)),
        );
        let mut hidden = entry("hidden", Kind::Directory);
        hidden.opaque = true;
        let top = [
            entry("gone", Kind::Whiteout),
            hidden,
            entry("hidden/new", Kind::File),
            entry("plain/top", Kind::File),
        ];
        write_layer(&path("top"), &top);
        let between = folders(scratch.path(), ["between".to_owned()]);
        let mut count = 0;
        for via in [Via::File, Via::Loop] {
            if let Err(error) = layer::mount(&path("low"), &[], via) {
                slipway_skip::skip(&error.to_string());
                continue;
            }
            let image = |name: &str| Lower::Image { path: path(name), devices: Vec::new(), via };
            // one of them twice
            let lower = [image("top"), between[0].clone().into(), image("low"), image("top")];
            for way in [Some(Call::Mount), Some(Call::Fsconfig), None] {
                count += 1;
                let others = folders(scratch.path(), ["u", "w"].map(|name| format!("{name}{count}")));
                std::fs::remove_file(others[1].join(format!("w{count}"))).unwrap();
                std::fs::remove_file(others[0].join(format!("u{count}"))).unwrap();
                let lower = prepared(&lower, None).unwrap();
                assert_eq!(lower.len(), 3);
                let layers =
                    Layers { lower, upper: &others[0], work: &others[1], volatile: true, userxattr: false };
                let tree = match way {
                    Some(call) => placed(&layers, true, call),
                    None => by_descriptors(&layers, true),
                };
                let tree = tree.unwrap_or_else(|error| panic!("{via:?} {way:?}: {error:?}"));
                // the overlay alone holds the layers now
                drop(layers);
                let expected = [
                    "./between 100644 ",
                    "./hidden 40755",
                    "./hidden/new 100755 top",
                    "./kept 100755 low",
                    "./plain 40755",
                    "./plain/low 100755 low",
                    "./plain/top 100755 top",
                ];
                let found: Vec<String> = listing(&tree, ".");
                let between = found.iter().find(|line| line.starts_with("./between")).cloned();
                assert!(between.is_some(), "{found:?}");
                let rest: Vec<&String> = found.iter().filter(|line| !line.starts_with("./between")).collect();
                assert_eq!(rest, expected[1..].iter().collect::<Vec<_>>(), "{via:?} {way:?}");
                // to whoever asks all of it is one file system
                let device = |path: &str| {
                    rustix::fs::statat(&tree, path, rustix::fs::AtFlags::empty()).unwrap().st_dev
                };
                assert!(
                    ["kept", "plain/top", "between", "hidden/new"]
                        .iter()
                        .all(|path| device(path) == device("."))
                );
                let file = rustix::fs::openat(&tree, "kept", OFlags::WRONLY | OFlags::APPEND, Mode::empty());
                rustix::io::write(file.unwrap(), b"!").unwrap();
                assert_eq!(std::fs::read_to_string(others[0].join("kept")).unwrap(), "low!");
                assert_eq!(loops_of(scratch.path()), if via == Via::Loop { 2 } else { 0 });
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(" - erofs "), "none of it has a place: {mounts}");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while loops_of(scratch.path()) > 0 && std::time::Instant::now() < until {
            // an overlay goes when the kernel gets to it
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(loops_of(scratch.path()), 0, "no loop device is left");
    }

    /// With files in turn mounted by themselves and through loop devices, and folders among them; each of them twice.
    #[test]
    fn privileged_a_stack_of_127_layers_mounts_by_every_way() {
        use slipway_oci::layer::Entry;
        if !crate::host::tests_may_mount() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = |number: usize| scratch.path().join(format!("{number:03}{}", "x".repeat(61)));
        type Shaped = fn(usize) -> Option<Via>;
        let kinds: [(&str, Shaped); 4] = [
            ("files", |_| Some(Via::File)),
            ("loop devices", |_| Some(Via::Loop)),
            ("folders", |_| None),
            ("all kinds", |number| [Some(Via::File), Some(Via::Loop), None][number % 3]),
        ];
        for number in 0..127 {
            let file = Entry::new(format!("f{number}"), slipway_oci::layer::Kind::File, 0o644);
            write_layer(&path(number), &[file]);
            let folder = path(number).with_extension("folder");
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(format!("f{number}")), "").unwrap();
        }
        for (round, (name, kind)) in kinds.iter().enumerate() {
            let lower: Vec<Lower> = (0..127)
                .map(|number| match kind(number) {
                    Some(via) => Lower::Image { path: path(number), devices: Vec::new(), via },
                    None => path(number).with_extension("folder").into(),
                })
                .collect();
            if let Some(Lower::Image { path, via, .. }) = lower.first()
                && let Err(error) = layer::mount(path, &[], *via)
            {
                slipway_skip::skip(&format!("{name}: {error}"));
                continue;
            }
            let others = folders(scratch.path(), ["upper", "work"].map(|name| format!("{name}{round}")));
            std::fs::remove_file(others[1].join(format!("work{round}"))).unwrap();
            let twice: Vec<Lower> = lower.iter().chain(&lower).cloned().collect();
            for way in [Some(Call::Mount), Some(Call::Fsconfig), None] {
                let lower = prepared(&twice, None).unwrap();
                assert_eq!(lower.len(), 127);
                let layers =
                    Layers { lower, upper: &others[0], work: &others[1], volatile: false, userxattr: false };
                let tree = match way {
                    Some(call) => placed(&layers, true, call),
                    None => by_descriptors(&layers, true),
                };
                assert_eq!(names_in(&tree.unwrap(), ".").len(), 128, "{name} {way:?}");
            }
        }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while loops_of(scratch.path()) > 0 && std::time::Instant::now() < until {
            // an overlay goes when the kernel gets to it
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(loops_of(scratch.path()), 0, "no loop device is left");
    }

    #[test]
    fn what_is_no_layer_is_refused_in_words() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        std::fs::write(&file, vec![0; 8192]).unwrap();
        assert!(matches!(layer::mount(scratch.path(), &[], Via::File), Err(Error::Invalid { .. })));
        assert!(matches!(
            layer::mount(&scratch.path().join("gone"), &[], Via::File),
            Err(Error::Open { .. })
        ));
        for (via, shape) in [(Via::File, Shape::Mounted), (Via::Loop, Shape::Looped)] {
            let error = layer::mount(&file, &[], via).unwrap_err();
            assert!(matches!(error, Error::Layer { .. }), "{error:?}");
            assert!(!layer::try_mount(&file, shape).unwrap_err().is_empty());
        }
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
            lower: prepared(&lowers(&paths[..2]), None).unwrap(),
            upper: &paths[2],
            work: &paths[3],
            volatile: false,
            userxattr: false,
        };
        for tree in every_way(&layers) {
            let read = |name: &str| {
                let file = rustix::fs::openat(&tree, name, OFlags::RDONLY, Mode::empty()).unwrap();
                std::io::read_to_string(std::fs::File::from(file)).unwrap()
            };
            assert_eq!((read("file").as_str(), read("other").as_str()), ("top", "bottom"));
        }
    }
}
