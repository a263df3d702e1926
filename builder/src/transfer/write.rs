//! One pass over placed files: the layer, and the content key that leads to it.

use super::{
    Node, SourceTree,
    ahead::{self, Ahead, Job},
    describe,
};
use crate::{
    Cancel, StepError,
    key::{Fields, Operation, StepDescription},
};
use slipway_oci::{
    Digest,
    compression::Compression,
    layer::{Entry, Kind, Layer, LayerWriter},
    store::{Adopted, LayerForm, NewFile, NewLayer, Store},
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
    Tree(usize, Box<Node>),
    /// The recipe.
    Bytes(Vec<u8>),
}

/// Digests by tree and source path.
pub(crate) type Digests = HashMap<(usize, Vec<u8>), Digest>;
/// One of them.
type Found = ((usize, Vec<u8>), Digest);
/// A layer to be: path to placement.
pub(crate) type Placements = BTreeMap<Vec<u8>, Placement>;

/// The content key: everything that the layer will say and nothing else. `None` where a digest is not known.
pub(crate) fn content_key(placements: &Placements) -> Option<StepDescription> {
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
    Some(StepDescription::new(None, Operation::Files { listing: key.finish() }))
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

/// How a layer is written.
pub(crate) struct Writing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) compression: Compression,
    pub(crate) cancel: &'a Cancel,
    /// The file that is mounted is written with it: something will run on the layer.
    pub(crate) image: bool,
    /// What there is for it in the store, where somebody has looked already.
    pub(crate) new: Option<NewLayer>,
}

/// A layer that was written.
pub(crate) struct WrittenLayer {
    pub(crate) layer: Layer,
    /// The file that is mounted.
    file: Option<NewFile>,
    /// The digests of the files that were not known before.
    pub(crate) digests: Digests,
    // names of earlier layers' files, until the new one has its own
    _new: NewLayer,
}

impl WrittenLayer {
    /// Keeps the layer.
    pub(crate) fn adopt(&self, store: &Store) -> Result<LayerForm, StepError> {
        let run_from = self.file.as_ref().map_or(Adopted::Nothing, Adopted::File);
        Ok(store.adopt_layer(&self.layer, run_from)?)
    }
}

/// Writes the layer from one reading of the files.
pub(crate) fn write_layer(
    placements: &Placements,
    trees: &[Box<dyn SourceTree + '_>],
    writing: Writing<'_>,
) -> Result<WrittenLayer, StepError> {
    let links = hard_links(placements);
    let new = writing.new.unwrap_or_else(|| {
        let known = placements.values().filter_map(|placement| {
            let entry = &placement.entry;
            entry.content.as_ref().map(|digest| (digest, entry.size_bytes))
        });
        writing.store.new_layer(known, Some(writing.compression))
    });
    let blobs = writing.store.blobs();
    let mut writer = LayerWriter::on_known(blobs, writing.compression, new.pieces.clone())?;
    let mut file = None;
    if writing.image {
        let (path, image) = writing.store.new_image(&new)?;
        (file, writer) = (Some(path), writer.with_image(image));
    }
    let jobs: Vec<Job<'_>> = placements
        .iter()
        .filter(|(path, _)| !links.contains_key(path.as_slice()))
        .filter_map(|(_, placement)| Job::of(placement))
        .collect();
    let mut digests = ahead::read(&jobs, trees, &new.contents, |mut ahead| {
        let mut found = HashMap::new();
        for (path, placement) in placements {
            if writing.cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            match links.get(path.as_slice()) {
                Some(first) => {
                    let mut entry = placement.entry.clone();
                    (entry.kind, entry.link, entry.size_bytes, entry.content) =
                        (Kind::Hardlink, first.to_vec(), 0, None);
                    writer.append(entry)?;
                }
                None => found.extend(append(placement, trees, &mut ahead, &mut writer)?),
            }
        }
        Ok(found)
    })?;
    // hard links share their first name's bytes and therefore its digest
    for (path, first) in &links {
        if let (Source::Tree(tree, node), Source::Tree(_, other)) =
            (&placements[*path].source, &placements[*first].source)
            && let Some(digest) = digests.get(&(*tree, other.entry.path.clone())).cloned()
        {
            digests.insert((*tree, node.entry.path.clone()), digest);
        }
    }
    Ok(WrittenLayer { layer: writer.finish()?, file, digests, _new: new })
}

/// Adds what was placed; answers a file's digest where it was not known before.
fn append(
    placement: &Placement,
    trees: &[Box<dyn SourceTree + '_>],
    ahead: &mut Ahead<'_>,
    writer: &mut LayerWriter,
) -> Result<Option<Found>, StepError> {
    let mut entry = placement.entry.clone();
    match &placement.source {
        Source::Tree(tree, node) if entry.kind == Kind::File => {
            let is_known = entry.content.is_some();
            let digest = if Job::of(placement).is_some() {
                let (bytes, digest) = ahead.next()?;
                entry.content = Some(digest.clone());
                let digest = digest.clone();
                writer.append_bytes(entry, bytes)?;
                digest
            } else {
                writer.append_file(entry, &mut trees[*tree].open(node)?)?.expect("a file has a digest")
            };
            if is_known {
                return Ok(None);
            }
            trees[*tree].learn(node, digest.clone());
            return Ok(Some(((*tree, node.entry.path.clone()), digest)));
        }
        Source::Bytes(bytes) => drop(writer.append_file(entry, &mut bytes.as_slice())?),
        _ => writer.append(entry)?,
    }
    Ok(None)
}
