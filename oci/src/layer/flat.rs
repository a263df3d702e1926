//! Layers as one plain folder, where nothing can be mounted.
//!
//! What is visible of the layers, which the tables of contents say, is copied from the layers' folders, each path from the
//! layer that it comes from. A folder that some of the layers are laid out in already gets the others.

use super::{
    LayerError, OverlayXattrs, Tree,
    disk::Disk,
    entry::{Entry, Kind},
    io_at,
    sink::Sink,
    tree::Found,
};
use crate::Root;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

/// Lays `tree` out in `target`, which holds its first `done` layers already (an empty folder none). `folders` are the
/// unpacked layers, the base first.
///
/// # Errors
/// When a layer's folder is not what its table says, or the file system refuses.
pub fn lay_out(
    tree: &Tree,
    done: usize,
    folders: &[PathBuf],
    target: &Path,
    xattrs: OverlayXattrs,
) -> Result<(), LayerError> {
    let open = |path: &PathBuf| Root::open(path).map_err(io_at("open", path));
    let sources = folders.iter().map(open).collect::<Result<_, _>>()?;
    let disk = Disk::open(target, xattrs)?;
    let mut work = Laying { tree, sources, disk, folders: BTreeMap::new(), links: Vec::new() };
    match done {
        0 => work.everything()?,
        _ => work.layers_from(done)?,
    }
    work.finish()
}

struct Laying<'a> {
    tree: &'a Tree,
    sources: Vec<Root>,
    disk: Disk,
    /// Folders that get their attributes when nothing more is made in them.
    folders: BTreeMap<Vec<u8>, &'a Entry>,
    /// Further names of files, which come after the files.
    links: Vec<(Vec<u8>, Found<'a>)>,
}

impl<'a> Laying<'a> {
    fn everything(&mut self) -> Result<(), LayerError> {
        let mut found = Vec::new();
        self.tree.walk(b"", &mut |path, one| {
            found.push((path.to_vec(), one));
            true
        });
        found.into_iter().try_for_each(|(path, one)| self.make(&path, one))?;
        self.note(b"");
        Ok(())
    }

    /// Brings every path up to date that one of the later layers speaks of.
    fn layers_from(&mut self, done: usize) -> Result<(), LayerError> {
        let tree = self.tree;
        let mut hidden = BTreeSet::new();
        for toc in &tree.layers()[done..] {
            hidden.extend(toc.entries().iter().filter(|entry| entry.opaque).map(|entry| entry.path.clone()));
        }
        for path in &hidden {
            if !path.is_empty() && tree.get(path).is_some() {
                self.disk.remove(path)?;
            }
        }
        let paths: BTreeSet<&[u8]> = tree.layers()[done..]
            .iter()
            .flat_map(|toc| toc.entries())
            .map(|entry| entry.path.as_slice())
            .collect();
        for path in paths {
            self.note_above(path);
            match tree.get(path) {
                None => self.disk.remove(path)?,
                // of an earlier layer, beneath what a later one only names
                Some(found) if found.layer < done && !found.entry.is_directory() => {}
                Some(found) => {
                    if !found.entry.is_directory() {
                        self.disk.remove(path)?;
                    }
                    self.make(path, found)?;
                }
            }
        }
        Ok(())
    }

    fn make(&mut self, path: &[u8], found: Found<'a>) -> Result<(), LayerError> {
        let entry = Entry { opaque: false, ..found.entry.clone() };
        match entry.kind {
            Kind::Hardlink => {
                self.links.push((path.to_vec(), found));
                return Ok(());
            }
            Kind::File => self.copy(&entry, found.layer, path)?,
            _ => drop(self.disk.create(&entry, &mut io::empty())?),
        }
        if entry.is_directory() {
            self.folders.insert(path.to_vec(), found.entry);
        }
        Ok(())
    }

    fn copy(&mut self, entry: &Entry, layer: usize, path: &[u8]) -> Result<(), LayerError> {
        let from = Entry::new(path, Kind::File, 0);
        let source = self
            .sources
            .get(layer)
            .ok_or_else(|| io_at("find the folder of", from.as_path())(io::ErrorKind::NotFound.into()))?;
        let mut file = source.open_regular(from.as_path()).map_err(io_at("open", from.as_path()))?;
        self.disk.create(entry, &mut file).map(drop)
    }

    /// Folders above a path change with it.
    fn note_above(&mut self, path: &[u8]) {
        let mut above = super::entry::parent_of(path);
        while let Some(folder) = above {
            self.note(folder);
            above = super::entry::parent_of(folder);
        }
    }

    fn note(&mut self, folder: &[u8]) {
        if let Some(found) = self.tree.get(folder).filter(|found| found.entry.is_directory()) {
            self.folders.insert(folder.to_vec(), found.entry);
        }
    }

    fn finish(mut self) -> Result<(), LayerError> {
        for (path, found) in std::mem::take(&mut self.links) {
            let first = self.tree.get(&found.entry.link).filter(|first| first.layer == found.layer);
            if first.is_some() {
                self.disk.create(found.entry, &mut io::empty())?;
            } else {
                // the first name is hidden by a later layer: this one is a file of its own
                let entry = Entry { path: path.clone(), ..self.tree.linked(found).clone() };
                self.copy(&entry, found.layer, &path)?;
            }
        }
        for (path, entry) in self.folders.iter().rev() {
            self.disk.finish_folder(&Entry { path: path.clone(), ..(*entry).clone() })?;
        }
        Ok(())
    }
}
