//! What would be mounted, put in its place for one command and taken away again.
//!
//! What the image has there is put aside meanwhile, so that none of it is changed. The folder that holds a place is held open:
//! what was put there is taken from that folder, wherever the command has moved it and whatever is in its stead.

use super::refuse_mount;
use crate::StepError;
use rustix::{
    fs::{self as sys, AtFlags, CWD, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};
use slipway_oci::{
    Root, file,
    layer::{OverlayXattrs, Tree, owner},
    store::Store,
};
use slipway_runtime::{BindSource, Mount, bare};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// Everything that is in its place.
pub(super) struct Placed {
    places: Vec<Place>,
    paths: BTreeSet<Vec<u8>>,
}

/// One thing in its place.
struct Place {
    folder: OwnedFd,
    name: OsString,
    /// Where what the image has there is meanwhile.
    aside: Option<PathBuf>,
    /// Where it goes back to; without, it is removed.
    back: Option<PathBuf>,
    /// Folders that were made above it, outermost first: the folder that each is in, and its name.
    made: Vec<(OwnedFd, OsString)>,
}

/// What is put into a root.
struct Putting<'a> {
    store: &'a Store,
    root: Root,
    /// A folder for what is put aside.
    own: &'a Path,
    placed: Placed,
}

impl Placed {
    /// Puts the standard folders and `mounts` in their places of `root`, in which `tree` is laid out. `own` is a folder
    /// for this command alone.
    pub(super) fn new(
        store: &Store,
        tree: &Tree,
        root: &Path,
        own: &Path,
        mounts: Vec<Mount>,
    ) -> Result<Placed, StepError> {
        let placed = Placed { places: Vec::new(), paths: BTreeSet::new() };
        let root = Root::open(root).map_err(StepError::io("open", root))?;
        let mut putting = Putting { store, root, own, placed };
        let done = putting.all(tree, mounts);
        match done {
            Ok(()) => Ok(putting.placed),
            Err(error) => {
                putting.placed.take_away()?;
                Err(error)
            }
        }
    }

    /// The paths of the root that are not the image's.
    pub(super) fn paths(&self) -> &BTreeSet<Vec<u8>> {
        &self.paths
    }

    /// Takes everything away, and puts back what was there.
    pub(super) fn take_away(self) -> Result<(), StepError> {
        let mut outcome = Ok(());
        for place in self.places.into_iter().rev() {
            // the others are taken away all the same
            let taken = place.take_away();
            outcome = outcome.and(taken);
        }
        outcome
    }
}

impl Putting<'_> {
    fn all(&mut self, tree: &Tree, mounts: Vec<Mount>) -> Result<(), StepError> {
        for (name, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555)] {
            let folder = self.folder(name, mode)?;
            if name == "dev" {
                bare::fill_dev(&folder).map_err(|source| StepError::BareDevices { source })?;
            }
            self.put(name.as_bytes(), &folder, None)?;
        }
        for (number, mount) in mounts.into_iter().enumerate() {
            self.mount(tree, number, mount)?;
        }
        Ok(())
    }

    fn folder(&self, name: &str, mode: u32) -> Result<PathBuf, StepError> {
        let folder = self.own.join(name);
        fs::create_dir(&folder).map_err(StepError::io("create", &folder))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))
            .map_err(StepError::io("create", &folder))?;
        Ok(folder)
    }

    fn mount(&mut self, tree: &Tree, number: usize, mount: Mount) -> Result<(), StepError> {
        let target = match &mount {
            Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } | Mount::File { target, .. } => {
                tree.resolve(target.as_os_str().as_bytes(), true)?.path
            }
        };
        let own = self.own.join(format!("mount-{number}"));
        match mount {
            Mount::Bind { source: BindSource::Path(source), readonly, .. }
                if source.starts_with(self.store.root()) =>
            {
                let is_cache = source.starts_with(self.store.root().join("caches"));
                if is_cache && readonly {
                    // whatever the command does to it, it does to a copy
                    fs::create_dir(&own).map_err(StepError::io("create", &own))?;
                    let copy = own.join("copy");
                    crate::execute::copy_folder(&source, &copy, &own, self.store)?;
                    return self.put(&target, &copy, None);
                }
                self.put(&target, &source, is_cache.then_some(source.as_path()))
            }
            Mount::Tmpfs { size_bytes: None, mode, .. } => {
                let folder = self.folder(&format!("mount-{number}"), mode)?;
                self.put(&target, &folder, None)
            }
            Mount::File { content, mode, uid, gid, .. } => {
                file::write_new(&own, &content.0, mode).map_err(StepError::io("write", &own))?;
                // what belongs to nobody here is everybody's one id's
                if self.store.xattrs() != OverlayXattrs::UserOneId {
                    owner::give(&own, uid, gid, self.store.xattrs()).map_err(StepError::io("open", &own))?;
                }
                self.put(&target, &own, None)
            }
            other => Err(refuse_mount(&other)),
        }
    }

    /// Moves `thing` to `path`.
    fn put(&mut self, path: &[u8], thing: &Path, back: Option<&Path>) -> Result<(), StepError> {
        let shown = Path::new(OsStr::from_bytes(path)).to_owned();
        let failed = |errno: Errno| StepError::io("put something at", &shown)(errno.into());
        let made = self.folders_above(&shown)?;
        let (folder, name) = self.root.parent(&shown).map_err(StepError::io("open", &shown))?;
        let times = times_of(&folder).map_err(failed)?;
        let kept = self.own.join(format!("aside-{}", self.placed.places.len()));
        let aside = match sys::renameat(&folder, &name, CWD, &kept) {
            Ok(()) => Some(kept),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(errno)),
        };
        let moved = sys::renameat(CWD, thing, &folder, &name);
        set_times(&folder, &times).map_err(failed)?;
        let back = back.filter(|_| moved.is_ok()).map(Path::to_owned);
        self.placed.places.push(Place { folder, name, aside, back, made });
        self.placed.paths.insert(path.to_vec());
        moved.map_err(failed)
    }

    /// Makes the folders above a path that are not there.
    fn folders_above(&self, path: &Path) -> Result<Vec<(OwnedFd, OsString)>, StepError> {
        let mut made = Vec::new();
        let Some(above) = path.parent() else { return Ok(made) };
        let mut here = PathBuf::new();
        for part in above {
            here.push(part);
            let failed = |errno: Errno| StepError::io("create", &here)(errno.into());
            let (folder, name) = self.root.parent(&here).map_err(StepError::io("open", &here))?;
            let times = times_of(&folder).map_err(failed)?;
            match sys::mkdirat(&folder, &name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    sys::chmodat(&folder, &name, Mode::from_raw_mode(0o755), AtFlags::empty())
                        .map_err(failed)?;
                    set_times(&folder, &times).map_err(failed)?;
                    made.push((folder, name));
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(made)
    }
}

impl Place {
    fn take_away(self) -> Result<(), StepError> {
        let failed = |errno: Errno| StepError::io("take away", &self.name)(errno.into());
        let times = times_of(&self.folder).map_err(failed)?;
        let is_folder = sys::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| sys::FileType::from_raw_mode(found.st_mode).is_dir());
        let returned = match &self.back {
            Some(back) if is_folder => sys::renameat(&self.folder, &self.name, CWD, back).is_ok(),
            _ => false,
        };
        if !returned {
            remove_at(&self.folder, &self.name).map_err(StepError::io("remove", &self.name))?;
        }
        if let Some(aside) = &self.aside {
            sys::renameat(CWD, aside, &self.folder, &self.name).map_err(failed)?;
        }
        set_times(&self.folder, &times).map_err(failed)?;
        for (folder, name) in self.made.into_iter().rev() {
            let times = times_of(&folder).map_err(failed)?;
            match sys::unlinkat(&folder, &name, AtFlags::REMOVEDIR) {
                // what the command made in it is the layer's, and so is the folder
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            set_times(&folder, &times).map_err(failed)?;
        }
        Ok(())
    }
}

fn remove_at(folder: &OwnedFd, name: &OsStr) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    match sys::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            file::remove_tree(&Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
        }
        Err(errno) => Err(errno.into()),
    }
}

fn times_of(folder: &OwnedFd) -> Result<Timestamps, Errno> {
    let found = sys::fstat(folder)?;
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Ok(Timestamps {
        last_access: time(found.st_atime, found.st_atime_nsec as u64),
        last_modification: time(found.st_mtime, found.st_mtime_nsec as u64),
    })
}

fn set_times(folder: &OwnedFd, times: &Timestamps) -> Result<(), Errno> {
    sys::utimensat(folder, c".", times, AtFlags::empty())
}

/// Gives the files of `root` the times that those in `newer`, a layer of nothing but copies, have.
pub(super) fn make_as_new(newer: &Path, root: &Path) -> Result<(), StepError> {
    let held = Root::open(root).map_err(StepError::io("open", root))?;
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        let here = newer.join(&folder);
        for entry in fs::read_dir(&here).map_err(StepError::io("read", &here))? {
            let entry = entry.map_err(StepError::io("read", &here))?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(StepError::io("read", &path))?;
            if kind.is_dir() {
                pending.push(path);
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copy = sys::open(entry.path(), flags, Mode::empty());
            let times = copy.and_then(|copy| times_of(&copy));
            let times = times.map_err(|errno| StepError::io("read", &path)(errno.into()))?;
            let (parent, name) = held.parent(&path).map_err(StepError::io("open", &path))?;
            sys::utimensat(&parent, &name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| StepError::io("set the time of", &path)(errno.into()))?;
        }
    }
    Ok(())
}
