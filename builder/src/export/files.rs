//! A finished target's files, one by one: for a folder of the host or an archive of them.

use super::Finished;
use crate::{
    Environment, StepError, base,
    transfer::{LayeredTree, Node, SourceTree, join},
};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};
use slipway_oci::{
    Digest, Root,
    layer::{Entry, Kind, Tree},
    store::LayerForm,
};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Takes a path and what is there.
type TakeNode<'a> = &'a mut dyn FnMut(&[u8], Node) -> Result<(), StepError>;

/// Every path of a tree, sorted, parents first.
pub(super) struct Flat<'a, 'b>(&'a LayeredTree<'b>);

impl<'a, 'b> Flat<'a, 'b> {
    pub(super) fn of(tree: &'a LayeredTree<'b>) -> Flat<'a, 'b> {
        Flat(tree)
    }

    /// Hands the root and all below it to `take`.
    pub(super) fn each(&self, take: TakeNode<'_>) -> Result<(), StepError> {
        let mut pending: Vec<(Vec<u8>, Node)> = Vec::new();
        pending.extend(self.0.node(b"")?.map(|node| (Vec::new(), node)));
        while let Some((path, node)) = pending.pop() {
            let is_directory = node.entry.is_directory();
            take(&path, node)?;
            if is_directory {
                let below = self.0.children(&path)?;
                pending.extend(below.into_iter().map(|(name, node)| (join(&path, &name), node)).rev());
            }
        }
        Ok(())
    }
}

/// The file system of a row of layers, with what is needed to read its files here.
pub(super) fn opened<'a>(
    environment: &Environment<'a>,
    layers: &[LayerForm],
) -> Result<LayeredTree<'a>, StepError> {
    let tree = base::tree(environment, layers)?;
    let diff_ids: Vec<Digest> = layers.iter().map(|form| form.diff_id.clone()).collect();
    for (at, form) in layers.iter().enumerate() {
        let below = Tree::new(tree.layers()[..at].to_vec());
        if !environment.store.has_files(&form.diff_id, &below)? {
            base::fetch_layer(environment.store, environment.images, form)?;
        }
    }
    Ok(LayeredTree::new(environment.store, tree, diff_ids, "the image".to_owned()))
}

/// Hands every path of the target to `take`, sorted, parents first, with a file's bytes. A further name of a file comes as a hard
/// link to the first one.
///
/// # Errors
/// When a layer cannot be had or read, and whatever `take` says.
pub fn files(
    environment: &Environment<'_>,
    finished: &Finished<'_>,
    take: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let tree = opened(environment, finished.layers)?;
    let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    Flat::of(&tree).each(&mut |path, node| {
        if environment.cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let mut entry = node.entry.clone();
        if let Some(inode) = node.inode.filter(|_| !entry.is_directory()) {
            match first.get(&inode) {
                Some(name) => {
                    (entry.kind, entry.link) = (Kind::Hardlink, name.clone());
                    (entry.size_bytes, entry.content) = (0, None);
                }
                None => drop(first.insert(inode, path.to_vec())),
            }
        }
        match entry.kind {
            Kind::File => take(entry, &mut *tree.open(&node)?),
            _ => take(entry, &mut std::io::empty()),
        }
    })
}

/// Writes the target's files into a folder of the host, which is made; what else is there stays. They belong to whoever builds,
/// with the image's modes and times. Devices are left out: they are none of a folder that is taken elsewhere.
///
/// # Errors
/// When a layer cannot be had or read, or the folder not be written.
pub fn write_folder(
    environment: &Environment<'_>,
    finished: &Finished<'_>,
    folder: &Path,
) -> Result<(), StepError> {
    std::fs::create_dir_all(folder).map_err(StepError::io("create", folder))?;
    let root = Root::open(folder).map_err(StepError::io("open", folder))?;
    // a folder gets its mode and time when all that is in it is there
    let mut folders: Vec<Entry> = Vec::new();
    files(environment, finished, &mut |entry, content| {
        let failed = |error: std::io::Error| StepError::io("write", folder.join(entry.as_path()))(error);
        if entry.path.is_empty() {
            return Ok(());
        }
        let (parent, name) = root.parent(entry.as_path()).map_err(failed)?;
        place(&root, &parent, &name, &entry, content).map_err(failed)?;
        if entry.is_directory() {
            folders.push(entry);
        }
        Ok(())
    })?;
    for entry in folders.iter().rev() {
        let failed = StepError::io("write", folder.join(entry.as_path()));
        let opened = root.open_folder(entry.as_path()).and_then(|opened| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = opened.open_at(Path::new("."), flags, Mode::empty())?;
            fs::fchmod(&opened, Mode::from_raw_mode(entry.mode & MODE))?;
            Ok(fs::futimens(&opened, &times(entry))?)
        });
        opened.map_err(failed)?;
    }
    Ok(())
}

/// What a file keeps of its mode. It is the caller's now: with the bits that lend a user or a group, an image that somebody else
/// wrote would have made a program that runs as the caller, or as root (chown(2) takes them away for the same reason).
const MODE: u32 = 0o1777;

fn place(
    root: &Root,
    parent: &OwnedFd,
    name: &OsStr,
    entry: &Entry,
    content: &mut dyn Read,
) -> std::io::Result<()> {
    // left out, and nothing goes for it
    if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice | Kind::Whiteout) {
        return Ok(());
    }
    let found = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let is_folder =
        found.as_ref().is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory);
    if found.is_ok() && !(is_folder && entry.is_directory()) {
        // a folder that is in a file's way stays, with all that is in it
        fs::unlinkat(parent, name, AtFlags::empty())?;
    }
    match entry.kind {
        Kind::Directory if is_folder => return Ok(()),
        // its owner must be able to write into it until it is whole
        Kind::Directory => return Ok(fs::mkdirat(parent, name, Mode::RWXU)?),
        Kind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mut file = File::from(fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            std::io::copy(content, &mut file)?;
            fs::fchmod(&file, Mode::from_raw_mode(entry.mode & MODE))?;
            return Ok(fs::futimens(&file, &times(entry))?);
        }
        Kind::Symlink => fs::symlinkat(&*entry.link, parent, name)?,
        Kind::Hardlink => {
            let (folder, first) = root.parent(Path::new(OsStr::from_bytes(&entry.link)))?;
            match fs::linkat(&folder, &first, parent, name, AtFlags::empty()) {
                // the first name was a device
                Err(Errno::NOENT) => return Ok(()),
                linked => return Ok(linked?),
            }
        }
        Kind::Fifo => fs::mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(entry.mode & MODE), 0)?,
        Kind::CharDevice | Kind::BlockDevice | Kind::Whiteout => return Ok(()),
    }
    Ok(fs::utimensat(parent.as_fd(), name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(entry: &Entry) -> Timestamps {
    let at = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}
