//! COPY and ADD: files straight into a layer, with no snapshot.
//!
//! 1. [`gather`]: what the sources stand for. Those in a folder by [`select`]'s rules (wildcards, links, excludes), those
//!    elsewhere by [`remote`]; an [`archive`] stands for the files in it.
//! 2. [`place`]: where each ends up, by the destination's rules, worked out from tables of contents alone.
//! 3. [`write`]: one pass over the files makes archive, diff id, compressed blob and content digests.
//!
//! Two keys lead to a result. The *fast key* holds the chain id beneath and the selected content; the *content key*
//! holds only the finished listing, so that a changed base does not cost a COPY whose layer comes out the same.

mod ahead;
mod archive;
mod gather;
mod layered;
mod place;
mod remote;
mod select;
mod walk;
mod write;

pub(crate) use archive::{is_archive, open_archives};
pub(crate) use gather::{
    Gathered, Gatherer, describe, digest_unknown, fill, listing, mostly_unknown, selection,
};
pub(crate) use layered::LayeredTree;
pub(crate) use place::{Destination, Ownership, new_folder};
pub use remote::is_git_url;
pub(crate) use remote::{is_remote, is_remote_url};
pub(crate) use select::{Pick, Selector, before_pivot, descend, has_wildcard};
pub(crate) use write::{
    Digests, Placement, Placements, Source, Writing, WrittenLayer, content_key, write_layer,
};

use crate::{StepError, epoch::StageEpoch, statcache::Fingerprint};
use slipway_oci::{
    Digest,
    layer::{Entry, FileArchive},
};
use std::io::Read;

/// One path of a source tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What it is; its path is that in the source tree, its content digest is there where it is known.
    pub(crate) entry: Entry,
    /// Equal for names of one file; `None` for a file with one name.
    pub(crate) inode: Option<(u64, u64)>,
    /// For files of a context.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// An excluded folder that is only walked for what is re-included below it.
    pub(crate) ghost: bool,
    /// A folder on the way to what was chosen, not chosen itself (`--parents`, `--exclude`). Where there is one already it
    /// keeps its owner (fsutil copy.go `createParentDirs`).
    pub(crate) passed: bool,
}

impl Node {
    /// A path with one name that was chosen.
    pub(crate) fn new(entry: Entry) -> Node {
        Node { entry, inode: None, fingerprint: None, ghost: false, passed: false }
    }
}

/// Where files are copied from: a folder of the host, or the file system of a stage or image.
pub(crate) trait SourceTree: Sync {
    /// What it is called in messages.
    fn place(&self) -> String;
    /// The path, its parents free of links, itself not followed.
    fn node(&self, path: &[u8]) -> Result<Option<Node>, StepError>;
    /// Names and nodes in a folder (free of links), sorted.
    fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError>;
    /// Opens a file.
    fn open(&self, node: &Node) -> Result<Bytes<'_>, StepError>;
    /// The modification time that the entry has in a layer.
    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64;
    /// Notes the digest of a file that was read.
    fn learn(&self, _node: &Node, _digest: Digest) {}
    /// The archive whose files these are, where they are one's.
    fn archive(&self) -> Option<&FileArchive> {
        None
    }
}

/// A file's bytes.
pub(crate) type Bytes<'a> = Box<dyn Read + Send + 'a>;

impl<T: SourceTree + Send + ?Sized> SourceTree for std::sync::Arc<T> {
    fn place(&self) -> String {
        (**self).place()
    }
    fn node(&self, path: &[u8]) -> Result<Option<Node>, StepError> {
        (**self).node(path)
    }
    fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
        (**self).children(path)
    }
    fn open(&self, node: &Node) -> Result<Bytes<'_>, StepError> {
        (**self).open(node)
    }
    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64 {
        (**self).mtime(entry, epoch)
    }
    fn learn(&self, node: &Node, digest: Digest) {
        (**self).learn(node, digest);
    }
}

/// A tree that somebody else owns.
pub(crate) struct Borrowed<'a>(pub(crate) &'a dyn SourceTree);

impl SourceTree for Borrowed<'_> {
    fn place(&self) -> String {
        self.0.place()
    }
    fn node(&self, path: &[u8]) -> Result<Option<Node>, StepError> {
        self.0.node(path)
    }
    fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
        self.0.children(path)
    }
    fn open(&self, node: &Node) -> Result<Bytes<'_>, StepError> {
        self.0.open(node)
    }
    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64 {
        self.0.mtime(entry, epoch)
    }
    fn learn(&self, node: &Node, digest: Digest) {
        self.0.learn(node, digest);
    }
}

/// `folder/name`, or `name` in the root.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder, name) {
        (b"", name) => name.to_vec(),
        (folder, b"") => folder.to_vec(),
        (folder, name) => [folder, b"/", name].concat(),
    }
}

/// Whether `path` is `top` or below it.
pub(crate) fn is_within(path: &[u8], top: &[u8]) -> bool {
    path.strip_prefix(top).is_some_and(|rest| top.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}

/// The folder part of a path; the root's is nothing.
pub(crate) fn parent_of(path: &[u8]) -> Option<&[u8]> {
    (!path.is_empty())
        .then(|| path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash]))
}

/// The last component of a path.
pub(crate) fn name_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// A path without `.`, empty components and `..` (which stops at the root), relative to the root.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// A path for messages.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_within_the_root() {
        for (path, cleaned) in [
            ("/", ""),
            (".", ""),
            ("a//b/./c", "a/b/c"),
            ("../../etc", "etc"),
            ("a/../../b/..", ""),
            ("/a/", "a"),
        ] {
            assert_eq!(shown(&clean(path.as_bytes())), cleaned, "{path}");
        }
    }
}
