//! One pass over placed files: the layer, and the content key that leads to it.

use super::{Node, SourceTree, describe};
use crate::{
    Cancel, StepError,
    key::{Fields, Operation, StepDescription},
};
use slipway_oci::{
    Digest,
    blobs::Blobs,
    compression::Compression,
    layer::{Entry, Kind, Layer, LayerError, LayerWriter},
};
use std::collections::{BTreeMap, HashMap};

/// A path of the new layer and where its bytes come from.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// What the layer says of the path.
    pub(crate) entry: Entry,
    /// Its bytes.
    pub(crate) source: Source,
}

/// Where bytes come from.
#[derive(Clone, Debug)]
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

/// The content key: everything that the layer will say and nothing else. `None` where a digest is not known.
pub(crate) fn content_key(placements: &Placements) -> Option<Digest> {
    let links = hard_links(placements);
    let mut key = Fields::new();
    for (path, placement) in placements {
        let known = placement.entry.kind != Kind::File || placement.entry.content.is_some();
        if !known {
            return None;
        }
        describe(&mut key, path, &placement.entry, true);
        key.field("same file", links.get(path.as_slice()).copied().unwrap_or_default());
    }
    Some(StepDescription::new(None, Operation::Files { listing: key.finish() }).key())
}

/// Names of what was placed before under another name, links and devices included: the layer makes them hard links.
fn hard_links(placements: &Placements) -> HashMap<&[u8], &[u8]> {
    let mut first: HashMap<(usize, (u64, u64)), &[u8]> = HashMap::new();
    let mut links = HashMap::new();
    for (path, placement) in placements {
        let Source::Tree(tree, node) = &placement.source else { continue };
        let Some(inode) = node.inode.filter(|_| !placement.entry.is_directory()) else { continue };
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
