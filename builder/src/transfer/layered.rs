//! The file system of a stage or image as a source of files.

use super::{Bytes, Node, SourceTree, join};
use crate::{StepError, epoch::StageEpoch};
use slipway_oci::{
    Digest,
    layer::{Entry, Found, Kind, Tree},
    store::{LayerFiles, Store},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// Layers, the base first, as a source. What is listed comes from tables of contents; only a file that is read needs
/// its layer on disk.
pub(crate) struct LayeredTree<'a> {
    store: &'a Store,
    tree: Tree,
    diff_ids: Vec<Digest>,
    place: String,
    /// Files with several names, by layer and first name.
    linked: HashMap<(usize, Vec<u8>), u64>,
    /// Layers that are open.
    open: Mutex<HashMap<usize, Arc<LayerFiles>>>,
}

impl<'a> LayeredTree<'a> {
    /// The tree of `diff_ids`, whose tables `tree` holds and whose blobs are in the store.
    pub(crate) fn new(store: &'a Store, tree: Tree, diff_ids: Vec<Digest>, place: String) -> LayeredTree<'a> {
        let mut linked = HashMap::new();
        for (layer, toc) in tree.layers().iter().enumerate() {
            for entry in toc.entries().iter().filter(|entry| entry.kind == Kind::Hardlink) {
                let next = linked.len() as u64;
                linked.entry((layer, entry.link.clone())).or_insert(next);
            }
        }
        LayeredTree { store, tree, diff_ids, place, linked, open: Mutex::default() }
    }

    fn describe(&self, path: &[u8], found: Found<'_>) -> Node {
        let mut entry = found.entry.clone();
        let mut first = entry.path.clone();
        if entry.kind == Kind::Hardlink {
            first = entry.link.clone();
            if let Some(target) = self.tree.layers()[found.layer].get(&first) {
                entry = target.clone();
            }
        }
        let id = self.linked.get(&(found.layer, first.clone()));
        entry.path = path.to_vec();
        entry.opaque = false;
        entry.implicit = false;
        Node { inode: id.map(|id| (found.layer as u64, *id)), ..Node::new(entry) }
    }

    fn files(&self, layer: usize) -> Result<Arc<LayerFiles>, StepError> {
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(files) = open.get(&layer) {
            return Ok(files.clone());
        }
        let below = Tree::new(self.tree.layers()[..layer].to_vec());
        let files = Arc::new(self.store.layer_files(&self.diff_ids[layer], &below)?);
        open.insert(layer, files.clone());
        Ok(files)
    }
}

impl SourceTree for LayeredTree<'_> {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn node(&self, path: &[u8]) -> Result<Option<Node>, StepError> {
        if path.is_empty() {
            let root = self.tree.get(b"").map(|found| found.entry.clone());
            let entry = root.unwrap_or_else(|| Entry::new("", Kind::Directory, 0o755));
            return Ok(Some(Node::new(entry)));
        }
        Ok(self.tree.get(path).map(|found| self.describe(path, found)))
    }

    fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
        let children = self.tree.children(path).into_iter();
        Ok(children.map(|(name, found)| (name.clone(), self.describe(&join(path, &name), found))).collect())
    }

    fn open(&self, node: &Node) -> Result<Bytes<'_>, StepError> {
        let path = &node.entry.path;
        let found = self.tree.get(path).ok_or_else(|| StepError::NotFound {
            path: super::shown(path),
            place: self.place.clone(),
            hint: None,
        })?;
        let file = self.files(found.layer)?.open(found.entry.as_path());
        file.map_err(StepError::io("open", node.entry.to_path()))
    }

    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64 {
        epoch.clamp.apply(entry.mtime)
    }
}
