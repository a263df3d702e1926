//! The build context: a folder of the host, seen through its ignore file, never outside itself.

use crate::{
    StepError, ValueError,
    epoch::StageEpoch,
    statcache::{Fingerprint, Remembered, StatCache},
    transfer::{Bytes, Node, SourceTree},
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, readlinkat, statat},
    io::Errno,
};
use slipway_dockerfile::ignore::IgnoreFile;
use slipway_oci::{
    Root, file,
    layer::{self, Attributes, Clamp, Entry, Kind},
    limits,
};
use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// Names of ignore files in a context's root, the first one that is there counts. `.containerignore` is podman's.
pub const IGNORE_FILES: [&str; 2] = [".containerignore", ".dockerignore"];

/// Finds the ignore file of a build from the caller's own folder: `<recipe>.dockerignore` beside the recipe, else one of
/// [`IGNORE_FILES`] in the context. Answers its path and text. Links lead where they lead for the caller; only a
/// regular file is opened.
pub fn read_ignore_file(
    recipe: Option<&Path>,
    context: &Path,
) -> Result<Option<(PathBuf, String)>, StepError> {
    let names = IGNORE_FILES.iter().map(|name| context.join(name));
    first_ignore_file(recipe.map(beside).into_iter().chain(names), |path| {
        file::read_capped(path, limits::IGNORE_FILE_BYTES)
    })
}

/// The same for a context that came from elsewhere: all paths are inside `root`, and so is where links lead.
pub fn read_ignore_file_in(
    recipe: Option<&Path>,
    root: &Root,
) -> Result<Option<(PathBuf, String)>, StepError> {
    let names = IGNORE_FILES.iter().map(PathBuf::from);
    first_ignore_file(recipe.map(beside).into_iter().chain(names), |path| {
        root.read(path, limits::IGNORE_FILE_BYTES).map_err(|error| match root.metadata(path) {
            // passing over it would let in what it was to keep out
            Ok(_) if is_missing(&error) => io::Error::other("it is a link to what is not in the context"),
            _ => error,
        })
    })
}

fn beside(recipe: &Path) -> PathBuf {
    let mut name = recipe.as_os_str().to_owned();
    name.push(".dockerignore");
    PathBuf::from(name)
}

fn first_ignore_file(
    paths: impl Iterator<Item = PathBuf>,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Option<(PathBuf, String)>, StepError> {
    for path in paths {
        match read(&path) {
            Ok(bytes) => return Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned()))),
            // beside a recipe that is a descriptor of the caller there is no folder
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(StepError::io("read the ignore file", path)(error)),
        }
    }
    Ok(None)
}

/// The paths that a build of `folder` could see, sorted, folders included.
pub fn context_paths(folder: &Path, ignore: Option<&str>) -> Result<Vec<String>, StepError> {
    let tree = ContextTree::open(folder, ignore, None, "the build context".to_owned())?;
    let mut paths = Vec::new();
    for (rel, _) in crate::transfer::descend(&tree, b"", b"", None)? {
        paths.push(String::from_utf8_lossy(&rel).into_owned());
    }
    paths.sort();
    Ok(paths)
}

/// A context's folder.
pub(crate) struct ContextTree {
    root: Root,
    ignore: Option<IgnoreFile>,
    cache: Option<StatCache>,
    place: String,
}

impl ContextTree {
    /// Opens `folder`; `caches` is where stat caches lie.
    pub(crate) fn open(
        folder: &Path,
        ignore: Option<&str>,
        caches: Option<&Path>,
        place: String,
    ) -> Result<ContextTree, StepError> {
        let path = folder.canonicalize().map_err(StepError::io("open", folder))?;
        let root = Root::open(&path).map_err(StepError::io("open", folder))?;
        let ignore = match ignore {
            Some(text) => Some(IgnoreFile::parse(text).map_err(ValueError::from)?),
            None => None,
        };
        let cache = caches.map(|caches| StatCache::open(caches, &path));
        Ok(ContextTree { root, ignore, cache, place })
    }

    /// Saves what was learnt about the files.
    pub(crate) fn finish(self) {
        if let Some(cache) = self.cache {
            let root = &self.root;
            cache.save(|path| root.metadata(Path::new(OsStr::from_bytes(path))).is_ok());
        }
    }

    /// Notes the digest of a file that was read.
    pub(crate) fn learn(&self, node: &Node, digest: slipway_oci::Digest) {
        if let (Some(cache), Some(fingerprint)) = (&self.cache, node.fingerprint) {
            let attributes = node.entry.xattrs.clone();
            cache.put(&node.entry.path, fingerprint, Remembered { digest, attributes });
        }
    }

    fn describe(
        &self,
        folder: &impl std::os::fd::AsFd,
        name: &OsStr,
        path: Vec<u8>,
        stat: &Stat,
    ) -> Result<Option<Node>, StepError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            // a socket belongs to the program that listens on it
            _ => return Ok(None),
        };
        let mut entry = Entry::new(path, kind, stat.st_mode & 0o7777);
        entry.mtime = stat.st_mtime;
        let mut node = Node::new(entry);
        node.inode = (stat.st_nlink > 1 && kind != Kind::Directory).then_some((stat.st_dev, stat.st_ino));
        match kind {
            Kind::Symlink => {
                let target = readlinkat(folder, name, Vec::new())
                    .map_err(|error| StepError::io("read", node.entry.to_path())(error.into()))?;
                node.entry.link = target.into_bytes();
            }
            Kind::File => {
                let fingerprint = Fingerprint::of(stat);
                node.entry.size_bytes = fingerprint.size_bytes;
                node.fingerprint = Some(fingerprint);
            }
            Kind::CharDevice | Kind::BlockDevice => {
                node.entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            }
            _ => {}
        }
        let Some(mut node) = self.admit(node) else { return Ok(None) };
        let cache = self.cache.as_ref();
        let known = node
            .fingerprint
            .and_then(|fingerprint| cache.and_then(|cache| cache.get(&node.entry.path, &fingerprint)));
        match known {
            Some(Remembered { digest, attributes }) => {
                (node.entry.content, node.entry.xattrs) = (Some(digest), attributes);
            }
            // what is left out need not be readable
            None if !node.ghost && matches!(kind, Kind::File | Kind::Directory) => {
                node.entry.xattrs = attributes(folder, name)
                    .map_err(StepError::io("read the attributes of", node.entry.to_path()))?;
            }
            None => {}
        }
        Ok(Some(node))
    }

    /// Applies the ignore file: an excluded folder that may hold re-included paths stays as a ghost.
    fn admit(&self, mut node: Node) -> Option<Node> {
        let Some(ignore) = &self.ignore else { return Some(node) };
        let path = String::from_utf8_lossy(&node.entry.path);
        if path.is_empty() || !ignore.matches(&path, node.entry.is_directory()) {
            return Some(node);
        }
        node.ghost = true;
        (node.entry.is_directory() && ignore.may_reinclude_below(&path)).then_some(node)
    }
}

impl SourceTree for ContextTree {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn node(&self, path: &[u8]) -> Result<Option<Node>, StepError> {
        let shown = Path::new(OsStr::from_bytes(path));
        if path.is_empty() {
            let root =
                rustix::fs::fstat(&self.root).map_err(|error| StepError::io("read", shown)(error.into()))?;
            return self.describe(&self.root, OsStr::new("."), Vec::new(), &root);
        }
        let (parent, name) = match self.root.parent(shown) {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(StepError::io("open", shown)(error)),
        };
        match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.describe(&parent, &name, path.to_vec(), &stat),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(StepError::io("read", shown)(error.into())),
        }
    }

    fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
        let shown = Path::new(OsStr::from_bytes(path));
        let failed = |error: Errno| StepError::io("list", shown)(error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = self.root.open_at(shown, flags, Mode::empty()).map_err(StepError::io("open", shown))?;
        let mut children = Vec::new();
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let stat = match statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // gone since it was listed
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let below = crate::transfer::join(path, name);
            if let Some(node) = self.describe(&folder, OsStr::from_bytes(name), below, &stat)? {
                children.push((name.to_vec(), node));
            }
        }
        children.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(children)
    }

    fn open(&self, node: &Node) -> Result<Bytes<'_>, StepError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let descriptor = self.root.open_at(node.entry.as_path(), flags, Mode::empty());
        let descriptor = descriptor.map_err(StepError::io("open", node.entry.to_path()))?;
        Ok(Box::new(File::from(descriptor)))
    }

    /// Files of the context get the clamp itself: see [`crate::epoch`].
    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64 {
        match epoch.clamp {
            Clamp::Keep => entry.mtime,
            Clamp::Latest(latest) => latest,
        }
    }

    fn learn(&self, node: &Node, digest: slipway_oci::Digest) {
        ContextTree::learn(self, node, digest);
    }
}

/// The attributes of a file or folder that are part of it: the capabilities of a program, and what its owner wrote
/// (`user.`, xattr(7)); not where it was downloaded from (`user.xdg.`, freedesktop.org's "Common Extended Attributes"),
/// which is nobody else's business and differs from machine to machine.
fn attributes(folder: &impl std::os::fd::AsFd, name: &OsStr) -> io::Result<Attributes> {
    let wanted = |name: &[u8]| {
        name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.xdg."))
    };
    let path = Path::new("/proc/self/fd").join(folder.as_fd().as_raw_fd().to_string()).join(name);
    match layer::read_at(&path, wanted) {
        // an unreadable file fails, in better words, when it is taken; one that is gone, when it is looked for
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {
            Ok(Attributes::new())
        }
        read => read,
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
