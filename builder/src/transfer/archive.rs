//! ADD of an archive: its files are taken, not the file.

use super::{Gathered, LayeredTree, Node, Pick, SourceTree, descend};
use crate::{Environment, StepError, base, context::ContextTree};
use slipway_oci::{
    Algorithm, Descriptor, Digest,
    compression::{self, Format},
    layer::{self, Kind, LayerError},
    store::LayerForm,
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

/// An archive of the context as a layer of its own; `None` where the file is none.
pub(super) fn of_file(
    environment: &Environment<'_>,
    folder: &ContextTree,
    node: &Node,
) -> Result<Option<LayerForm>, StepError> {
    if node.entry.kind != Kind::File || !is_archive(folder.open(node)?) {
        return Ok(None);
    }
    let failed = |error| StepError::io("read", node.entry.to_path())(error);
    let mut writer = environment.store.blobs().writer(Algorithm::Sha256).map_err(LayerError::from)?;
    io::copy(&mut folder.open(node)?, &mut writer).map_err(failed)?;
    let (digest, size_bytes) = writer.commit(None).map_err(LayerError::from)?;
    of_blob(environment, &digest, size_bytes).map(Some)
}

/// Registers an archive blob under its diff id, so that it is unpacked and indexed as layers are.
pub(super) fn of_blob(
    environment: &Environment<'_>,
    digest: &Digest,
    size_bytes: u64,
) -> Result<LayerForm, StepError> {
    let store = environment.store;
    let file = store.blobs().open_blob(digest).map_err(LayerError::from)?;
    let reader = compression::decoder(BufReader::with_capacity(1 << 18, file));
    let reader = reader.map_err(StepError::io("read", digest.to_string()))?;
    let indexed = layer::index(reader, None)?;
    let descriptor = Descriptor::new("application/x-tar", digest.clone(), size_bytes);
    let form = LayerForm { diff_id: indexed.diff_id, descriptor };
    store.put_form(&form, indexed.archive_bytes)?;
    Ok(form)
}

/// All files of an archive.
pub(super) fn gathered<'e: 't, 't>(
    environment: &'e Environment<'e>,
    form: LayerForm,
    trees: &mut Vec<Box<dyn SourceTree + 't>>,
) -> Result<Gathered, StepError> {
    let tables = base::tree(environment, std::slice::from_ref(&form))?;
    let tree = LayeredTree::new(environment.store, tables, vec![form.diff_id], "the archive".to_owned());
    let pick = Pick { name: Vec::new(), folder: tree.node(b"")?, nodes: descend(&tree, b"", None)? };
    trees.push(Box::new(tree));
    Ok(Gathered { pick, tree: trees.len() - 1, keeps_modes: true })
}

/// Whether a stream begins with a tar header, compressed or not: what it is called does not count.
pub(crate) fn is_archive(file: File) -> bool {
    let mut reader = BufReader::new(file);
    let Ok(start) = reader.fill_buf() else { return false };
    let plain = compression::sniff(start) == Format::Plain;
    let Ok(mut decoder) = compression::decoder(reader) else { return false };
    let mut block = [0u8; layer::SNIFF_BYTES as usize];
    if decoder.read_exact(&mut block).is_err() {
        return false;
    }
    // zeros that nobody compressed are a file of zeros
    layer::is_header(&block) && !(plain && block.iter().all(|byte| *byte == 0))
}
