//! Everything that the sources of one instruction stand for, and the part of its key that comes of them.

use super::{Digests, Node, Pick, Selector, SourceTree, archive, is_git_url, is_remote_url, remote, shown};
use crate::{
    Cancel, Environment, StepError,
    context::ContextTree,
    key::{Fields, StepDescription},
    scratch::Scratch,
};
use slipway_oci::{
    Digest,
    digest::{CONTENT, HashingReader},
    layer::{Entry, Kind, LayerError},
};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What one source argument gave, and the tree that it is of.
pub(crate) struct Gathered {
    /// The paths.
    pub(crate) pick: Pick,
    /// Which of the instruction's trees.
    pub(crate) tree: usize,
    /// What is taken are the files in the archive that was found; this is what it is called.
    pub(crate) archive: Option<String>,
}

/// Finds the sources of one instruction that come from a folder or from afar.
pub(crate) struct Gatherer<'e> {
    pub(crate) environment: &'e Environment<'e>,
    /// A folder for this build alone.
    pub(crate) scratch: &'e Scratch<'e>,
    pub(crate) selector: Selector,
    /// ADD fetches and unpacks.
    pub(crate) is_add: bool,
    /// `--unpack`.
    pub(crate) unpack: Option<bool>,
    /// `--keep-git-dir`.
    pub(crate) keep_git_dir: bool,
    /// `--checksum`, expanded.
    pub(crate) checksum: Option<String>,
}

impl<'e> Gatherer<'e> {
    /// Finds what `paths` stand for; adds the trees that they are of to `trees`, the folder first.
    pub(crate) fn gather<'t>(
        &self,
        paths: &[String],
        folder: Option<Arc<ContextTree>>,
        trees: &mut Vec<Box<dyn SourceTree + 't>>,
    ) -> Result<Vec<Gathered>, StepError>
    where
        'e: 't,
    {
        let mut gathered = Vec::new();
        if let Some(folder) = &folder {
            trees.push(Box::new(folder.clone()));
        }
        for path in paths {
            if self.is_add && is_git_url(path) {
                gathered.push(remote::git(self, path, trees)?);
                continue;
            }
            if self.is_add && is_remote_url(path) {
                gathered.push(remote::url(self, path, trees)?);
                continue;
            }
            let folder = folder.as_ref().ok_or(StepError::NoContext)?;
            for pick in self.selector.select(folder, path)? {
                let single = pick.folder.is_none() && pick.nodes.len() == 1;
                let unpack = self.is_add && single && self.unpack != Some(false);
                let archive = match pick.nodes.first().filter(|_| unpack) {
                    Some((_, node))
                        if node.entry.kind == Kind::File && archive::is_archive(folder.open(node)?) =>
                    {
                        Some(shown(&node.entry.path))
                    }
                    _ => None,
                };
                gathered.push(Gathered { pick, tree: 0, archive });
            }
        }
        Ok(gathered)
    }
}

/// Whether so many bytes have no known digest that writing the layer at once, which digests them on the way, is
/// cheaper than reading everything for the key and again for the archive, even if the layer is then thrown away.
pub(crate) fn mostly_unknown(gathered: &[Gathered]) -> bool {
    // an archive is not what the layer holds
    if gathered.iter().any(|one| one.archive.is_some()) {
        return false;
    }
    let (mut unknown, mut all) = (0, 0);
    for (_, node) in gathered.iter().flat_map(|gathered| &gathered.pick.nodes) {
        all += node.entry.size_bytes;
        unknown += if needs_digest(node) { node.entry.size_bytes } else { 0 };
    }
    unknown > 1 << 20 && unknown * 2 > all
}

fn needs_digest(node: &Node) -> bool {
    node.entry.kind == Kind::File && node.entry.content.is_none() && !node.ghost
}

/// Reads the files whose digest is not known, on all cores.
pub(crate) fn digest_unknown(
    gathered: &mut [Gathered],
    trees: &[Box<dyn SourceTree + '_>],
    cancel: &Cancel,
) -> Result<(), StepError> {
    let mut unknown: Vec<(usize, &mut Node)> = Vec::new();
    for one in gathered {
        let tree = one.tree;
        unknown.extend(
            one.pick.nodes.iter_mut().map(|(_, node)| (tree, node)).filter(|(_, node)| needs_digest(node)),
        );
    }
    let cores =
        std::thread::available_parallelism().map_or(1, usize::from).min(unknown.len().div_ceil(16).max(1));
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Digest)>, StepError> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((tree, node)) = unknown.get(index) else { return Ok(done) };
            if cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            done.push((index, digest_file(&*trees[*tree], node)?));
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = helpers.into_iter().map(|helper| helper.join().expect("digesting does not panic"));
        std::iter::once(own).chain(joined).collect()
    });
    for result in results {
        for (index, digest) in result? {
            unknown[index].1.entry.content = Some(digest);
        }
    }
    Ok(())
}

fn digest_file(tree: &dyn SourceTree, node: &Node) -> Result<Digest, StepError> {
    let mut reader = HashingReader::new(tree.open(node)?, CONTENT);
    io::copy(&mut reader, &mut io::sink()).map_err(StepError::io("read", node.entry.to_path()))?;
    let (_, digest, size_bytes) = reader.finish();
    if size_bytes != node.entry.size_bytes {
        return Err(LayerError::Changed(node.entry.to_path()).into());
    }
    tree.learn(node, digest.clone());
    Ok(digest)
}

/// Fills digests in that writing the layer has found.
pub(crate) fn fill(gathered: &mut [Gathered], found: &Digests) {
    for one in gathered {
        let tree = one.tree;
        for (_, node) in one.pick.nodes.iter_mut().filter(|(_, node)| needs_digest(node)) {
            node.entry.content = found.get(&(tree, node.entry.path.clone())).cloned();
        }
    }
}

/// A digest of what was selected: names relative to the sources, never where they lie; modification times only where
/// they reach the layer (`times`).
pub(crate) fn selection(gathered: &[Gathered], times: bool) -> Digest {
    let mut key = Fields::new();
    for one in gathered {
        if one.archive.is_some() {
            for digest in one.pick.nodes.iter().filter_map(|(_, node)| node.entry.content.as_ref()) {
                key.field("archive", digest.to_string());
            }
            continue;
        }
        key.field("source", &one.pick.name).field("folder", [u8::from(one.pick.folder.is_some())]);
        if one.pick.itself {
            key.field("itself", "");
        }
        if let Some(folder) = &one.pick.folder {
            describe(&mut key, b"", &folder.entry, times);
        }
        let mut inodes: HashMap<(u64, u64), usize> = HashMap::new();
        for (rel, node) in &one.pick.nodes {
            describe(&mut key, rel, &node.entry, times);
            if node.passed {
                key.field("passed", "");
            }
            if let Some(inode) = node.inode {
                let next = inodes.len();
                key.field("same file", inodes.entry(inode).or_insert(next).to_le_bytes());
            }
        }
    }
    key.finish()
}

/// What was selected, for people: a line a path with kind, mode, owner and group, content and path, parted by tabs. It ends
/// with the path at which it is longer than `most_bytes`.
pub(crate) fn listing(gathered: &[Gathered], most_bytes: usize) -> String {
    let mut lines = String::new();
    for (_, node) in gathered.iter().flat_map(|one| &one.pick.nodes).filter(|(_, node)| !node.ghost) {
        let entry = &node.entry;
        let (kind, content) = match (&entry.content, entry.kind) {
            (Some(digest), _) => ("file", digest.to_string()),
            (None, Kind::Symlink) => ("link", line_of(&entry.link)),
            (None, Kind::Directory) => ("folder", String::new()),
            (None, _) => ("other", format!("{}:{}", entry.device.0, entry.device.1)),
        };
        let (mode, uid, gid, path) = (entry.mode & 0o7777, entry.uid, entry.gid, line_of(&entry.path));
        lines.push_str(&format!("{kind}\t{mode:o}\t{uid}:{gid}\t{content}\t{path}\n"));
        if lines.len() > most_bytes {
            break;
        }
    }
    lines
}

/// A path as text without ends of lines and tabs, which names may have.
fn line_of(path: &[u8]) -> String {
    StepDescription::text(path).replace('\n', "\\n").replace('\t', "\\t")
}

/// Adds to a key what a path is and holds.
pub(crate) fn describe(key: &mut Fields, path: &[u8], entry: &Entry, times: bool) {
    key.field("path", path).field("kind", [entry.kind as u8]).field("link", &entry.link);
    for number in [entry.mode, entry.uid, entry.gid, entry.device.0, entry.device.1] {
        key.field("number", number.to_le_bytes());
    }
    if times {
        key.field("mtime", entry.mtime.to_le_bytes());
    }
    if entry.opaque {
        key.field("opaque", "");
    }
    for (name, value) in &entry.xattrs {
        key.field("attribute", name).field("value", value);
    }
    if let Some(digest) = &entry.content {
        key.field("content", digest.to_string());
    }
}
