//! Where copied paths end up. Worked out from the tables of contents beneath; nothing is mounted.

mod unpack;

use super::{
    Gathered, Node, Placement, Placements, Source, SourceTree, clean, is_within, join, parent_of, shown,
};
use crate::{StepError, epoch::StageEpoch};
use slipway_dockerfile::chmod::Chmod;
use slipway_oci::layer::{Clamp, Entry, Kind, Tree};
use std::collections::BTreeSet;

/// What --chown and --chmod say, names looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ownership {
    /// Owner and group of everything that is copied.
    pub(crate) chown: Option<(u32, u32)>,
    /// Change of modes.
    pub(crate) chmod: Option<Chmod>,
}

impl Ownership {
    fn apply(&self, entry: &mut Entry) {
        if let Some((uid, gid)) = self.chown {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(change) = self.chmod.as_ref().filter(|_| entry.kind != Kind::Symlink) {
            entry.mode = change.apply(entry.mode, entry.is_directory());
        }
    }

    /// A folder that had to be made in `above`: 0755, or an octal --chmod itself (what BuildKit does).
    fn new_folder(&self, path: &[u8], above: Option<&Entry>, mtime: i64) -> Entry {
        // mkdir(2) takes the permission bits alone
        let mode = self.chmod.as_ref().and_then(Chmod::octal).map_or(0o755, |mode| mode & 0o777);
        new_folder(path, mode, self.chown, above, mtime)
    }
}

/// A folder as mkdir(2) makes it in the folder `above`, and chown(2) after it where an owner was asked for: below one with
/// the set-group-id bit it has the bit and, without an owner of its own, the group (fsutil mkdir.go `MkdirAll`).
pub(crate) fn new_folder(
    path: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    above: Option<&Entry>,
    mtime: i64,
) -> Entry {
    let inherited = above.filter(|above| above.mode & SET_GROUP_ID != 0);
    let bit = inherited.map_or(0, |_| SET_GROUP_ID);
    let mut entry = Entry::new(path, Kind::Directory, mode | bit);
    (entry.uid, entry.gid) = owner.unwrap_or((0, inherited.map_or(0, |above| above.gid)));
    entry.mtime = mtime;
    entry
}

/// `S_ISGID` (inode(7)).
const SET_GROUP_ID: u32 = 0o2000;

/// The destination of one instruction, and all that was placed there so far.
pub(crate) struct Destination<'a> {
    beneath: Option<&'a Tree>,
    /// As written, for messages.
    text: String,
    /// Free of links.
    path: Vec<u8>,
    /// A folder, because it was written so or several sources go there.
    as_folder: bool,
    existing: Option<Entry>,
    /// Nothing beneath says anything of what is below `path`.
    is_bare: bool,
    ownership: Ownership,
    epoch: StageEpoch,
    placed: Placements,
    /// Paths beneath that something of another kind has taken the place of.
    removed: BTreeSet<Vec<u8>>,
}

impl<'a> Destination<'a> {
    /// The destination `text`, relative to `workdir`, on the file system `beneath` (`None` for --link, which knows
    /// nothing of it). `many`: several files go there, so that it is a folder.
    pub(crate) fn new(
        beneath: Option<&'a Tree>,
        workdir: &str,
        text: &str,
        many: bool,
        ownership: Ownership,
        epoch: StageEpoch,
    ) -> Result<Destination<'a>, StepError> {
        let absolute = if text.starts_with('/') { text.to_owned() } else { format!("{workdir}/{text}") };
        let last = text.rsplit('/').next().unwrap_or_default();
        let written_as_folder = matches!(last, "" | "." | "..");
        let cleaned = clean(absolute.as_bytes());
        let path = match beneath {
            Some(tree) => tree.resolve(&cleaned, true)?.path,
            None => cleaned,
        };
        let existing = beneath.and_then(|tree| tree.get(&path)).map(|found| found.entry.clone());
        let is_bare = !path.is_empty() && beneath.is_some_and(|tree| !tree.has_below(&path));
        let is_folder = path.is_empty() || existing.as_ref().is_some_and(Entry::is_directory);
        Ok(Destination {
            beneath,
            text: text.to_owned(),
            path,
            as_folder: written_as_folder || is_folder || many,
            existing,
            is_bare,
            ownership,
            epoch,
            placed: Placements::new(),
            removed: BTreeSet::new(),
        })
    }

    fn refuse(&self, what: &str, reason: &'static str) -> StepError {
        StepError::Destination { what: format!("`{what}`"), destination: self.text.clone(), reason }
    }

    fn now(&self) -> i64 {
        if let Clamp::Latest(latest) = self.epoch.clamp { latest } else { self.epoch.created }
    }

    /// Places everything that one source argument stands for.
    pub(crate) fn add(&mut self, gathered: &Gathered, tree: &dyn SourceTree) -> Result<(), StepError> {
        let pick = &gathered.pick;
        if let (Some(name), Some(files)) = (&gathered.archive, tree.archive()) {
            return self.add_archive(name, files, tree, gathered.tree);
        }
        if let Some(folder) = &pick.folder {
            if self.existing.as_ref().is_some_and(|entry| !entry.is_directory()) {
                return Err(self.refuse(&shown(&pick.name), "a folder cannot take the place of a file"));
            }
            let mtime = tree.mtime(&folder.entry, &self.epoch);
            let is_new = self.existing.is_none() && !self.placed.contains_key(&self.path);
            self.place_folder(Some(mtime));
            if let Some(made) =
                self.placed.get_mut(&self.path).filter(|_| pick.itself && is_new && !self.as_folder)
            {
                (made.entry.mode, made.entry.uid, made.entry.gid) = (folder.entry.mode, 0, 0);
                self.ownership.apply(&mut made.entry);
            }
            for (rel, node) in &pick.nodes {
                let target = join(&self.path, rel);
                self.place(target, node.clone(), tree, gathered)?;
            }
            return Ok(());
        }
        for (_, node) in &pick.nodes {
            let target = self.file_target(&pick.name)?;
            self.place(target, node.clone(), tree, gathered)?;
        }
        Ok(())
    }

    /// Places a file whose bytes are in the recipe.
    pub(crate) fn add_bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), StepError> {
        let target = self.file_target(name.as_bytes())?;
        self.place_parents(&target);
        let mut entry = Entry::new(target.clone(), Kind::File, 0o644);
        entry.mtime = self.now();
        entry.size_bytes = bytes.len() as u64;
        entry.content = Some(slipway_oci::Digest::content(&bytes));
        self.ownership.apply(&mut entry);
        self.placed.insert(target, Placement { entry, source: Source::Bytes(bytes) });
        Ok(())
    }

    fn file_target(&mut self, name: &[u8]) -> Result<Vec<u8>, StepError> {
        if !self.as_folder {
            return Ok(self.path.clone());
        }
        if self.existing.as_ref().is_some_and(|entry| !entry.is_directory()) {
            return Err(self.refuse(&shown(name), "the destination is a file, not a folder"));
        }
        self.place_folder(None);
        Ok(join(&self.path, name))
    }

    /// The destination folder itself: one that was there keeps owner and mode.
    fn place_folder(&mut self, mtime: Option<i64>) {
        self.place_parents(&self.path.clone());
        if self.path.is_empty() {
            return;
        }
        let mut entry = match &self.existing {
            Some(existing) => {
                Entry { opaque: false, implicit: false, path: self.path.clone(), ..existing.clone() }
            }
            None => self.ownership.new_folder(&self.path, self.above(&self.path), self.now()),
        };
        entry.mtime = mtime.unwrap_or(entry.mtime);
        self.placed.insert(self.path.clone(), Placement { entry, source: Source::None });
    }

    /// The folders above a path: as they are beneath, or made.
    fn place_parents(&mut self, path: &[u8]) {
        let mut missing = Vec::new();
        let mut above = parent_of(path);
        while let Some(folder) = above.filter(|folder| !folder.is_empty()) {
            if self.placed.contains_key(folder) {
                break;
            }
            missing.push(folder);
            above = parent_of(folder);
        }
        // the outermost first: what is made takes after what it is made in
        for folder in missing.into_iter().rev() {
            let beneath = self.beneath.and_then(|tree| tree.get(folder)).map(|found| found.entry);
            let entry = match beneath {
                Some(entry) => {
                    Entry { opaque: false, implicit: false, path: folder.to_vec(), ..entry.clone() }
                }
                None => self.ownership.new_folder(folder, self.above(folder), self.now()),
            };
            self.placed.insert(folder.to_vec(), Placement { entry, source: Source::None });
        }
    }

    /// The folder that a path is in.
    fn above(&self, path: &[u8]) -> Option<&Entry> {
        self.here(parent_of(path).unwrap_or_default())
    }

    fn place(
        &mut self,
        target: Vec<u8>,
        node: Node,
        tree: &dyn SourceTree,
        gathered: &Gathered,
    ) -> Result<(), StepError> {
        self.place_parents(&target);
        let there = self.here(&target);
        if let Some(link) = there.filter(|entry| entry.kind == Kind::Symlink)
            && node.entry.is_directory()
        {
            return Err(StepError::FolderOverLink {
                path: shown(&target),
                link: shown(&link.link),
                destination: self.text.clone(),
            });
        }
        match (there.map(Entry::is_directory), node.entry.is_directory()) {
            (Some(true), false) => {
                return Err(self.refuse(&shown(&target), "a file cannot take the place of a folder"));
            }
            (Some(false), true) => {
                return Err(self.refuse(&shown(&target), "a folder cannot take the place of a file"));
            }
            _ => {}
        }
        let mut entry = node.entry.clone();
        match there.filter(|_| node.passed) {
            Some(there) => {
                entry = Entry { mode: entry.mode, opaque: false, implicit: false, ..there.clone() };
            }
            None => {
                entry.mtime = tree.mtime(&node.entry, &self.epoch);
                self.ownership.apply(&mut entry);
            }
        }
        entry.path.clone_from(&target);
        self.placed.insert(target, Placement { entry, source: Source::Tree(gathered.tree, Box::new(node)) });
        Ok(())
    }

    /// What is at a path whose parents are free of links: placed by this instruction, or beneath.
    fn here(&self, path: &[u8]) -> Option<&Entry> {
        if let Some(placed) = self.placed.get(path) {
            return Some(&placed.entry);
        }
        if self.is_bare && path != self.path && is_within(path, &self.path) {
            return None;
        }
        let mut above = Some(path);
        while let Some(folder) = above.filter(|_| !self.removed.is_empty()) {
            if self.removed.contains(folder) {
                return None;
            }
            above = parent_of(folder);
        }
        self.beneath.and_then(|tree| tree.get(path)).map(|found| found.entry)
    }

    /// Everything that was placed, sorted, parents first. `makes_folder`: the destination is a folder and is made even
    /// where nothing was placed.
    pub(crate) fn finish(mut self, makes_folder: bool) -> Placements {
        if makes_folder && self.placed.is_empty() && self.existing.is_none() {
            self.place_folder(None);
        }
        self.placed
    }
}
