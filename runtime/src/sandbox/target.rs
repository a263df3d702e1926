//! A place in the container, prepared by the parent and found, or made, by the child.
//!
//! Resolution is openat2's with `RESOLVE_IN_ROOT`: links lead where they would lead inside the container, never out of
//! it, and links of /proc's kind nowhere. The descriptor that comes out is what is mounted on; there is no second
//! lookup that a container sharing a volume could race (CVE-2021-30465).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2};
use rustix::io::Errno;

use crate::error::Error;

/// The most components a target may have; also the bits of the record of what was made.
const MAX_DEPTH: usize = 32;

/// A container path as the child needs it.
pub(crate) struct Target {
    /// As the caller wrote it, for messages.
    pub(crate) path: PathBuf,
    /// Every prefix relative to the root, the whole path last, each with its own name.
    steps: Vec<(CString, CString)>,
    /// A folder or an empty file is what is made.
    pub(crate) folder: bool,
    /// Whether what is missing is made.
    pub(crate) create: bool,
}

impl Target {
    /// Checks an absolute container path.
    pub(crate) fn new(path: &Path, folder: bool, create: bool) -> Result<Self, Error> {
        let invalid = |reason| Error::Invalid { what: format!("container path {path:?}"), reason };
        if !path.is_absolute() {
            return Err(invalid("must be absolute"));
        }
        let mut names: Vec<&[u8]> = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.as_bytes()),
                Component::ParentDir => drop(names.pop()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if names.is_empty() {
            return Err(invalid("is the root itself"));
        }
        if names.len() > MAX_DEPTH {
            return Err(invalid("has more than 32 components"));
        }
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| invalid("holds a zero byte"));
        let steps = (0..names.len())
            .map(|last| Ok((text(names[..=last].join(&b'/'))?, text(names[last].to_vec())?)))
            .collect::<Result<_, Error>>()?;
        Ok(Target { path: path.to_owned(), steps, folder, create })
    }

    /// The whole path relative to the root.
    fn whole(&self) -> &CString {
        // `new` admits no empty path.
        &self.steps[self.steps.len() - 1].0
    }

    /// Opens the place, making it if that was asked; sets bit n of `made` if step n of the path was made. Runs in the
    /// child: system calls only.
    pub(crate) fn open(&self, root: BorrowedFd<'_>, made: &AtomicU32) -> Result<OwnedFd, Errno> {
        match resolve(root, self.whole()) {
            Err(Errno::NOENT) if self.create => self.make(root, made),
            result => result,
        }
    }

    fn make(&self, root: BorrowedFd<'_>, made: &AtomicU32) -> Result<OwnedFd, Errno> {
        let mut parent: Option<OwnedFd> = None;
        for (place, (prefix, name)) in self.steps.iter().enumerate() {
            let next = match resolve(root, prefix) {
                Err(Errno::NOENT) => {
                    let above = parent.as_ref().map_or(root, |fd| fd.as_fd());
                    let last = place + 1 == self.steps.len();
                    if last && !self.folder {
                        mknodat(above, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
                    } else {
                        mkdirat(above, name, Mode::from_raw_mode(0o755))?;
                    }
                    made.fetch_or(1 << place, Ordering::Relaxed);
                    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                    openat2(
                        above,
                        name,
                        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
                        Mode::empty(),
                        strict,
                    )?
                }
                result => result?,
            };
            parent = Some(next);
        }
        parent.ok_or(Errno::NOENT)
    }

    /// What the child made in the container for this mount, by the bits it left, outermost first.
    pub(crate) fn made(&self, made: u32) -> impl Iterator<Item = PathBuf> {
        let steps = self.steps.iter().enumerate().filter(move |(place, _)| made & 1 << place != 0);
        steps.map(|(_, (prefix, _))| Path::new("/").join(std::ffi::OsStr::from_bytes(prefix.as_bytes())))
    }
}

/// Resolves as the container would, following links, the last one too.
fn resolve(root: BorrowedFd<'_>, path: &CString) -> Result<OwnedFd, Errno> {
    let resolution = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename or mount elsewhere raced a `..` (openat2(2)); the kernel asks to try again.
    let mut result = Err(Errno::AGAIN);
    for _ in 0..slipway_oci::limits::RESOLUTION_ATTEMPTS {
        result = openat2(root, path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolution);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn paths_are_cleaned_and_checked() {
        let target = Target::new(Path::new("/a/./b/../c//d"), true, false).unwrap();
        assert_eq!(target.whole().to_str().unwrap(), "a/c/d");
        for bad in ["relative", "/", "/..", "/a/.."] {
            assert!(Target::new(Path::new(bad), true, false).is_err(), "{bad}");
        }
        let deep = format!("/{}", "a/".repeat(33));
        assert!(Target::new(Path::new(&deep), true, false).is_err());
    }

    #[test]
    fn missing_places_are_made_inside_the_root_only() {
        let scratch = tempfile::tempdir().unwrap();
        let (inside, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
        std::fs::create_dir_all(inside.join("etc")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../outside", inside.join("etc/relative")).unwrap();
        symlink("/etc", inside.join("config")).unwrap();
        let fd = root(&inside);

        let target = Target::new(Path::new("/config/x/file"), false, true).unwrap();
        let made = AtomicU32::new(0);
        target.open(fd.as_fd(), &made).unwrap();
        let made = made.into_inner();
        assert!(inside.join("etc/x/file").is_file());
        assert_eq!(
            target.made(made).collect::<Vec<_>>(),
            [Path::new("/config/x"), Path::new("/config/x/file")]
        );

        for link in ["/absolute/new", "/etc/relative/new"] {
            let target = Target::new(Path::new(link), true, true).unwrap();
            assert!(target.open(fd.as_fd(), &AtomicU32::new(0)).is_err(), "{link}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_made_unless_asked() {
        let scratch = tempfile::tempdir().unwrap();
        let target = Target::new(Path::new("/missing"), true, false).unwrap();
        assert_eq!(target.open(root(scratch.path()).as_fd(), &AtomicU32::new(0)).err(), Some(Errno::NOENT));
    }

    #[test]
    fn magic_links_are_not_followed() {
        let target = Target::new(Path::new("/self/fd/0"), false, true).unwrap();
        let errno = target.open(root(Path::new("/proc")).as_fd(), &AtomicU32::new(0)).err();
        assert!(matches!(errno, Some(Errno::LOOP | Errno::XDEV)), "{errno:?}");
    }
}
