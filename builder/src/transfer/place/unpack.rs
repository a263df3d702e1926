//! The files of an archive at a destination: entry after entry, as tar at work in that folder.
//!
//! BuildKit unpacks with docker's `chrootarchive.Untar`, whose rules these are. The destination is the root: `..` stops
//! there, absolute links begin there. An entry takes the place of what is there unless both are folders. Folders that
//! an entry only implies are left alone where they are, and root's with 0755 where they are not. An entry without a
//! name is passed over. Links that lie there already, the archive's own among them, are followed in parents.
//!
//! Two things are refused by name: a parent that leads nowhere or to a file, and names that begin with `.wh.`: BuildKit
//! writes them, and whoever pulls the image loses a file.

use super::{Destination, Placement, SET_GROUP_ID, Source};
use crate::{
    StepError,
    transfer::{Node, SourceTree, clean, join, name_of, parent_of, shown},
};
use slipway_oci::{
    layer::{ArchiveError, Entry, FileArchive, Kind},
    limits,
};

/// The longest name of one file (Linux `NAME_MAX`).
const NAME_BYTES: usize = 255;

/// Where a walk along a path is.
struct Step {
    name: Vec<u8>,
    /// It is part of what a link says.
    of_link: bool,
}

impl Destination<'_> {
    /// Places the files of an archive, whose tree is number `number`.
    pub(super) fn add_archive(
        &mut self,
        name: &str,
        files: &FileArchive,
        tree: &dyn SourceTree,
        number: usize,
    ) -> Result<(), StepError> {
        if self.existing.as_ref().is_some_and(|entry| !entry.is_directory()) {
            return Err(
                self.refuse(name, "an archive is unpacked into a folder, and the destination is a file")
            );
        }
        // --chmod reaches neither the files nor the folder
        let chmod = self.ownership.chmod.take();
        self.place_folder(None);
        let mut entries = files.entries().iter().enumerate();
        let result = entries.try_for_each(|(index, entry)| self.unpack(index, entry, tree, number));
        self.ownership.chmod = chmod;
        result.map_err(|source| StepError::Archive { archive: name.to_owned(), source })
    }

    fn unpack(
        &mut self,
        index: usize,
        entry: &Entry,
        tree: &dyn SourceTree,
        number: usize,
    ) -> Result<(), ArchiveError> {
        let bad = |reason: String| ArchiveError::entry(&entry.path, reason);
        let name = name_in(&entry.path).map_err(bad)?;
        if name.is_empty() {
            return Ok(());
        }
        let parent = self.parent(parent_of(&name).unwrap_or_default()).map_err(bad)?;
        let path = join(&parent, name_of(&name));
        self.place_parents(&path);
        let stays = self.here(&path).is_some_and(|before| before.is_directory() && entry.is_directory());
        if !stays {
            self.remove(&path);
        }
        let mut placed = match entry.kind {
            Kind::Hardlink => self.linked(entry).map_err(bad)?,
            _ => {
                // all but folders are told apart by their number, so that another name of one is known as such
                let inode = (!entry.is_directory()).then_some((0, index as u64));
                let node = Node { inode, ..Node::new(entry.clone()) };
                let mut entry = entry.clone();
                entry.mtime = tree.mtime(&entry, &self.epoch);
                self.ownership.apply(&mut entry);
                Placement { entry, source: Source::Tree(number, Box::new(node)) }
            }
        };
        // what was below another folder of that name does not show through
        let beneath =
            || self.beneath.and_then(|tree| tree.get(&path)).is_some_and(|f| f.entry.is_directory());
        placed.entry.opaque = placed.entry.is_directory() && self.removed.contains(&path) && beneath();
        placed.entry.path.clone_from(&path);
        self.placed.insert(path, placed);
        Ok(())
    }

    /// Another name of a file that the instruction has placed.
    fn linked(&self, entry: &Entry) -> Result<Placement, String> {
        let target = name_in(&entry.link)?;
        let missing =
            || format!("a hard link to `{}`, which is not in the archive before it", shown(&entry.link));
        // through what is there only: making folders for a target makes no file
        let parent = self.lookup(parent_of(&target).unwrap_or_default()).ok_or_else(missing)?;
        let found = self.placed.get(&join(&parent, name_of(&target))).ok_or_else(missing)?;
        if found.entry.is_directory() {
            return Err(format!("a hard link to `{}`, which is a folder", shown(&entry.link)));
        }
        Ok(found.clone())
    }

    fn lookup(&self, path: &[u8]) -> Option<Vec<u8>> {
        match self.walk(path) {
            Ok((found, missing)) if missing.is_empty() => Some(found),
            _ => None,
        }
    }

    /// The folder that `path` leads to; what is missing is made.
    fn parent(&mut self, path: &[u8]) -> Result<Vec<u8>, String> {
        let (mut here, missing) = self.walk(path)?;
        for step in missing {
            if step.of_link {
                return Err(format!("its folder `{}` is a link to what is not there", shown(path)));
            }
            if step.name == b".." {
                here.truncate(parent_of(&here).map_or(0, <[u8]>::len));
                continue;
            }
            here = join(&here, &step.name);
            self.place_parents(&here);
            // mkdir(2) hands the set-group-id bit on; owner and group are root's all the same
            let above = parent_of(&here).and_then(|above| self.here(above));
            let bit = above.map_or(0, |above| above.mode & SET_GROUP_ID);
            let mut folder = Entry::new(here.clone(), Kind::Directory, 0o755 | bit);
            folder.mtime = self.now();
            self.placed.insert(here.clone(), Placement { entry: folder, source: Source::None });
        }
        Ok(here)
    }

    /// Follows `path` from the destination as far as there is something: where that is, and what is missing.
    fn walk(&self, path: &[u8]) -> Result<(Vec<u8>, Vec<Step>), String> {
        let steps = |path: &[u8], of_link: bool| -> Vec<Step> {
            let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
            parts.rev().map(|part| Step { name: part.to_vec(), of_link }).collect()
        };
        let mut pending = steps(path, false);
        let (mut here, mut links) = (self.path.clone(), 0);
        while let Some(step) = pending.pop() {
            if step.name == b".." {
                // never above the destination
                if here.len() > self.path.len() {
                    here.truncate(parent_of(&here).map_or(0, <[u8]>::len));
                }
                continue;
            }
            let next = join(&here, &step.name);
            match self.here(&next) {
                Some(found) if found.is_directory() => here = next,
                Some(found) if found.kind == Kind::Symlink => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(format!("its folder `{}` leads through too many links", shown(path)));
                    }
                    if found.link.starts_with(b"/") {
                        here.clone_from(&self.path);
                    }
                    pending.extend(steps(&found.link, true));
                }
                Some(_) => return Err(format!("its folder `{}` is a file", shown(&next))),
                None => {
                    pending.push(step);
                    pending.reverse();
                    return Ok((here, pending));
                }
            }
        }
        Ok((here, Vec::new()))
    }

    /// Takes away what is at a path, placed or beneath, and all below it.
    fn remove(&mut self, path: &[u8]) {
        if self.here(path).is_none() {
            return;
        }
        let below = [path, b"/"].concat();
        let inner: Vec<Vec<u8>> = self
            .placed
            .range(below.clone()..)
            .take_while(|(placed, _)| placed.starts_with(&below))
            .map(|(placed, _)| placed.clone())
            .collect();
        for placed in inner {
            self.placed.remove(&placed);
        }
        self.placed.remove(path);
        self.removed.insert(path.to_vec());
    }
}

/// What an archive's name means below the destination.
fn name_in(written: &[u8]) -> Result<Vec<u8>, String> {
    let name = clean(written);
    let parts = || name.split(|byte| *byte == b'/');
    if name.len() > limits::PATH_BYTES || parts().count() > limits::TREE_DEPTH {
        return Err("its name is too long or too deep".to_owned());
    }
    if name.contains(&0) || parts().any(|part| part.len() > NAME_BYTES) {
        return Err("its name is none that a file can have".to_owned());
    }
    if parts().any(|part| part.starts_with(b".wh.")) {
        return Err(
            "names that begin with `.wh.` mean in layers that a file is deleted, so no layer can hold it"
                .to_owned(),
        );
    }
    Ok(name)
}
