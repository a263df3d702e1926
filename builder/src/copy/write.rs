//! One pass over placed files: the layer, and the keys that lead to it.

use super::{Node, Pick, SourceTree};
use crate::{Cancel, StepError, key::KeyBuilder};
use slipway_oci::{
    Digest,
    blobs::Blobs,
    compression::Compression,
    digest::HashingReader,
    layer::{Entry, Kind, Layer, LayerError, LayerWriter},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

/// What one source argument gave, and the tree that it is of.
pub(crate) struct Gathered {
    /// The paths.
    pub(crate) pick: Pick,
    /// Which of the instruction's trees.
    pub(crate) tree: usize,
    /// The modes are an archive's own: --chmod leaves them.
    pub(crate) keeps_modes: bool,
}

/// A path of the new layer and where its bytes come from.
#[derive(Debug)]
pub(crate) struct Placement {
    /// What the layer says of the path.
    pub(crate) entry: Entry,
    /// Its bytes.
    pub(crate) source: Source,
}

/// Where bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// There are none.
    None,
    /// A path of one of the source trees.
    Tree(usize, Node),
    /// The recipe.
    Bytes(Vec<u8>),
}

/// Digests by tree and source path.
pub(crate) type Digests = HashMap<(usize, Vec<u8>), Digest>;
/// A layer to be: path to placement.
pub(crate) type Placements = BTreeMap<Vec<u8>, Placement>;

/// Whether so many bytes have no known digest that writing the layer at once, which digests them on the way, is
/// cheaper than reading everything for the key and again for the archive, even if the layer is then thrown away.
pub(crate) fn mostly_unknown(gathered: &[Gathered]) -> bool {
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
    let mut reader = HashingReader::new(tree.open(node)?, slipway_oci::Algorithm::Sha256);
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

/// Adds what was selected to a key: names relative to the sources, never where they lie; modification times only where
/// they reach the layer (`times`).
pub(crate) fn selection(key: &mut KeyBuilder, gathered: &[Gathered], times: bool) {
    for one in gathered {
        key.field("source", &one.pick.name).field("folder", [u8::from(one.pick.folder.is_some())]);
        if let Some(folder) = &one.pick.folder {
            describe(key, b"", &folder.entry, times);
        }
        let mut inodes: HashMap<(u64, u64), usize> = HashMap::new();
        for (rel, node) in &one.pick.nodes {
            describe(key, rel, &node.entry, times);
            if let Some(inode) = node.inode {
                let next = inodes.len();
                key.field("same file", inodes.entry(inode).or_insert(next).to_le_bytes());
            }
        }
    }
}

fn describe(key: &mut KeyBuilder, path: &[u8], entry: &Entry, times: bool) {
    key.field("path", path).field("kind", [entry.kind as u8]).field("link", &entry.link);
    for number in [entry.mode, entry.uid, entry.gid, entry.device.0, entry.device.1] {
        key.field("number", number.to_le_bytes());
    }
    if times {
        key.field("mtime", entry.mtime.to_le_bytes());
    }
    for (name, value) in &entry.xattrs {
        key.field("attribute", name).field("value", value);
    }
    if let Some(digest) = &entry.content {
        key.field("content", digest.to_string());
    }
}

/// The content key: everything that the layer will say and nothing else. `None` where a digest is not known.
pub(crate) fn content_key(placements: &Placements) -> Option<Digest> {
    let links = hard_links(placements);
    let mut key = KeyBuilder::new("layer", "");
    for (path, placement) in placements {
        let known = placement.entry.kind != Kind::File || placement.entry.content.is_some();
        if !known {
            return None;
        }
        describe(&mut key, path, &placement.entry, true);
        key.field("same file", links.get(path.as_slice()).copied().unwrap_or_default());
    }
    Some(key.finish())
}

/// Names of files that were placed before under another name: the layer makes them hard links.
fn hard_links(placements: &Placements) -> HashMap<&[u8], &[u8]> {
    let mut first: HashMap<(usize, (u64, u64)), &[u8]> = HashMap::new();
    let mut links = HashMap::new();
    for (path, placement) in placements {
        let Source::Tree(tree, node) = &placement.source else { continue };
        let Some(inode) = node.inode.filter(|_| placement.entry.kind == Kind::File) else { continue };
        match first.get(&(*tree, inode)) {
            Some(earlier) => {
                links.insert(path.as_slice(), *earlier);
            }
            None => {
                first.insert((*tree, inode), path);
            }
        }
    }
    links
}

/// Writes the layer; answers also the digests of the files that it read, by tree and source path.
pub(crate) fn write_layer(
    placements: &Placements,
    trees: &[Box<dyn SourceTree + '_>],
    blobs: &Blobs,
    compression: Compression,
    cancel: &Cancel,
) -> Result<(Layer, Digests), StepError> {
    let links = hard_links(placements);
    let mut found = HashMap::new();
    let mut writer = LayerWriter::new(blobs, compression)?;
    for (path, placement) in placements {
        if cancel.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        let mut entry = placement.entry.clone();
        if let Some(first) = links.get(path.as_slice()) {
            (entry.kind, entry.link, entry.size_bytes, entry.content) =
                (Kind::Hardlink, first.to_vec(), 0, None);
            writer.append(entry)?;
            continue;
        }
        match &placement.source {
            Source::Tree(tree, node) if entry.kind == Kind::File => {
                let known = entry.content.take();
                let mut file = trees[*tree].open(node)?;
                let digest = writer.append_file(entry, &mut file)?.expect("a file has a digest");
                if known.as_ref().is_some_and(|known| *known != digest) {
                    return Err(LayerError::Changed(node.entry.to_path()).into());
                }
                if known.is_none() {
                    trees[*tree].learn(node, digest.clone());
                    found.insert((*tree, node.entry.path.clone()), digest);
                }
            }
            Source::Bytes(bytes) => {
                writer.append_file(entry, &mut bytes.as_slice())?;
            }
            _ => writer.append(entry)?,
        }
    }
    // hard links share their first name's bytes and therefore its digest
    for (path, first) in &links {
        if let (Source::Tree(tree, node), Source::Tree(_, other)) =
            (&placements[*path].source, &placements[*first].source)
            && let Some(digest) = found.get(&(*tree, other.entry.path.clone())).cloned()
        {
            found.insert((*tree, node.entry.path.clone()), digest);
        }
    }
    Ok((writer.finish()?, found))
}
