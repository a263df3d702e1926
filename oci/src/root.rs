//! A folder that paths cannot lead out of.
//!
//! Image file systems, unpack targets and build contexts hold symbolic links that somebody else wrote. Every path in
//! them is resolved by the kernel relative to a held folder (`openat2(2)` with `RESOLVE_IN_ROOT`: absolute links and
//! `..` stay inside) and acted on through the descriptor that came out, so no second look-up can be raced. Kernels
//! and sandboxes without `openat2` get a walk component by component with the same meaning ([`walk`]). Magic links
//! (`/proc/self/fd/…`) are never followed.

use crate::{file, limits};
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// Set once `openat2` was seen to be missing; never cleared, the kernel does not change under a process.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// A folder held open, inside which paths are resolved.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
}

impl Root {
    /// Holds `path`, which is trusted itself.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root { folder: fs::open(path, flags, Mode::empty())? })
    }

    /// Opens what `path` names inside the root, following links within it.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = relative(path);
        let flags = flags | OFlags::CLOEXEC;
        if !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match again(|| fs::openat2(&self.folder, path, flags, mode, resolve)) {
                Ok(descriptor) => return Ok(descriptor),
                // the walk is in nobody's race
                Err(Errno::AGAIN) => {}
                // EPERM: seccomp filters that do not know the call
                Err(Errno::NOSYS | Errno::PERM) if self.lacks_openat2() => {}
                Err(error) => return Err(error.into()),
            }
        }
        walk(&self.folder, path, flags, mode)
    }

    fn lacks_openat2(&self) -> bool {
        let probe = fs::openat2(
            &self.folder,
            ".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        let lacks = matches!(probe, Err(Errno::NOSYS | Errno::PERM));
        if lacks {
            WITHOUT_OPENAT2.store(true, Ordering::Relaxed);
        }
        lacks
    }

    /// Opens a file for reading.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        // O_NONBLOCK: a FIFO in the place of a file must not hang us
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(File::from(self.open_at(path, flags, Mode::empty())?))
    }

    /// Opens a regular file for reading. What is anything else is looked at but never opened: opening a device or a
    /// pipe does things to it.
    pub fn open_regular(&self, path: &Path) -> io::Result<File> {
        let found = fs::fstat(self.open_at(path, OFlags::PATH, Mode::empty())?)?;
        file::check_regular(&found)?;
        let file = self.open_file(path)?;
        let opened = fs::fstat(&file)?;
        if (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino) {
            return Err(io::Error::other("it was replaced while it was opened"));
        }
        Ok(file)
    }

    /// Reads a regular file of at most `most_bytes`.
    pub fn read(&self, path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
        file::read_capped_from(self.open_regular(path)?, most_bytes)
    }

    /// Opens a folder as a root of its own.
    pub fn open_folder(&self, path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok(Root { folder: self.open_at(path, flags, Mode::empty())? })
    }

    /// Opens the folder that holds the last component of `path`, and that component. The component itself is not
    /// looked at; `..` and an empty path have none.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let path = relative(path);
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok((self.open_at(parent, flags, Mode::empty())?, name.to_owned()))
    }

    /// Makes `path` and its missing parents with `mode`. Links on the way are followed inside the root.
    pub fn create_folders(&self, path: &Path, mode: Mode) -> io::Result<Root> {
        let mut done = PathBuf::new();
        for component in relative(path).components() {
            done.push(component);
            match self.open_folder(&done) {
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let (parent, name) = self.parent(&done)?;
                    match fs::mkdirat(&parent, &name, mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.open_folder(&done)
    }

    /// Metadata of what `path` names, the last component not followed.
    pub fn metadata(&self, path: &Path) -> io::Result<fs::Stat> {
        if relative(path).file_name().is_none() {
            return Ok(fs::fstat(self.open_at(path, OFlags::PATH, Mode::empty())?)?);
        }
        let (parent, name) = self.parent(path)?;
        Ok(fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Where the link `path` points, as written.
    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let (parent, name) = self.parent(path)?;
        let target = fs::readlinkat(&parent, &name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// `path` without a leading slash; the empty path means the root itself.
fn relative(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    if start == bytes.len() { Path::new(".") } else { Path::new(OsStr::from_bytes(&bytes[start..])) }
}

/// What is still to be walked, the next component last.
fn push_components(pending: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<OsString> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    pending.append(&mut parts);
}

/// Resolves like `openat2` with `RESOLVE_IN_ROOT`, a component at a time and never following a link in the kernel.
///
/// The stack of opened parents answers `..`, so a renamed folder cannot lift the walk out of the root.
fn walk(root: &OwnedFd, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parents: Vec<OwnedFd> = vec![root.try_clone()?];
    let mut pending = Vec::new();
    let mut links = 0;
    push_components(&mut pending, path);
    while let Some(name) = pending.pop() {
        if name == ".." {
            if parents.len() > 1 {
                parents.pop();
            }
            continue;
        }
        let here = parents.last().expect("the root stays");
        let last = pending.is_empty();
        let found = match fs::openat(here, &name, step, Mode::empty()) {
            Err(Errno::NOENT) if last && flags.contains(OFlags::CREATE) => {
                let exclusive = flags | OFlags::EXCL | OFlags::NOFOLLOW;
                return Ok(fs::openat(here, &name, exclusive, mode)?);
            }
            other => other?,
        };
        let kind = fs::FileType::from_raw_mode(fs::fstat(&found)?.st_mode);
        if kind == fs::FileType::Symlink && !(last && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            if links > limits::SYMLINKS {
                return Err(Errno::LOOP.into());
            }
            let target = fs::readlinkat(here, &name, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                parents.truncate(1);
            }
            push_components(&mut pending, &target);
        } else if last {
            return reopen(here, &name, found, flags);
        } else {
            parents.push(found);
        }
    }
    let here = parents.pop().expect("the root stays");
    if flags.contains(OFlags::PATH) {
        return Ok(here);
    }
    Ok(fs::openat(&here, ".", flags - OFlags::NOFOLLOW, mode)?)
}

/// Repeats what a rename or mount somewhere on the machine raced with a `..` (openat2(2), `EAGAIN`), but not for ever:
/// somebody may rename all the time, and a file that is leased to another process answers so as well (open(2)).
fn again<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..limits::RESOLUTION_ATTEMPTS {
        result = rustix::io::retry_on_intr(&mut attempt);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

/// Opens the walked object with the flags that were asked for, and proves that it is the object that was walked.
fn reopen(parent: &OwnedFd, name: &OsStr, found: OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    if flags.contains(OFlags::CREATE | OFlags::EXCL) {
        return Err(Errno::EXIST.into());
    }
    let opened = fs::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let (before, after) = (fs::fstat(&found)?, fs::fstat(&opened)?);
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
        return Err(Errno::AGAIN.into());
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    #[test]
    fn races_are_repeated_but_not_for_ever() {
        let mut count = 0;
        let mut failing = |until: u32, other: Errno| {
            count = 0;
            let result = again(|| {
                count += 1;
                if count > until { Ok(()) } else { Err(other) }
            });
            (result, count)
        };
        assert_eq!(failing(0, Errno::AGAIN), (Ok(()), 1));
        assert_eq!(failing(5, Errno::AGAIN), (Ok(()), 6));
        assert_eq!(failing(u32::MAX, Errno::AGAIN), (Err(Errno::AGAIN), limits::RESOLUTION_ATTEMPTS));
        assert_eq!(failing(u32::MAX, Errno::NOENT), (Err(Errno::NOENT), 1));
        // a signal is no race
        assert_eq!(failing(1000, Errno::INTR), (Ok(()), 1001));
    }

    use super::*;
    use std::os::unix::fs::symlink;

    type Opener = fn(&Root, &Path) -> io::Result<File>;

    fn by_kernel(root: &Root, path: &Path) -> io::Result<File> {
        root.open_file(path)
    }

    fn by_walk(root: &Root, path: &Path) -> io::Result<File> {
        walk(&root.folder, relative(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from)
    }

    #[test]
    fn both_resolvers_stay_inside() {
        let outside = tempfile::tempdir().expect("folder");
        std::fs::write(outside.path().join("secret"), "outside").expect("write");
        let inside = outside.path().join("root");
        std::fs::create_dir_all(inside.join("a/b")).expect("folders");
        std::fs::write(inside.join("secret"), "inside").expect("write");
        symlink("../../../secret", inside.join("a/up")).expect("link");
        symlink("/secret", inside.join("a/absolute")).expect("link");
        symlink("../a/b/../../secret", inside.join("a/winding")).expect("link");
        symlink("loop", inside.join("loop")).expect("link");
        symlink("/proc/self/root/etc/passwd", inside.join("magic")).expect("link");
        let root = Root::open(&inside).expect("root");
        for (name, open) in [("openat2", by_kernel as Opener), ("walk", by_walk as Opener)] {
            for path in ["a/up", "a/absolute", "a/winding", "../secret", "/secret", "a/../../../secret"] {
                let file = open(&root, Path::new(path)).expect(path);
                let text = io::read_to_string(file).expect("text");
                assert_eq!(text, "inside", "{name} {path}");
            }
            assert!(open(&root, Path::new("loop")).is_err(), "{name}");
            assert!(open(&root, Path::new("magic")).is_err(), "{name}");
            assert!(open(&root, Path::new("missing")).is_err(), "{name}");
        }
    }

    #[test]
    fn creates_folders_through_links_inside() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("real")).expect("folder");
        symlink("/real", folder.path().join("link")).expect("link");
        let root = Root::open(folder.path()).expect("root");
        root.create_folders(Path::new("/link/x/y"), Mode::from_raw_mode(0o755)).expect("created");
        assert!(folder.path().join("real/x/y").is_dir());
    }
}
