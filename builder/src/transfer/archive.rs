//! ADD of an archive: its files are taken, not the file.
//!
//! What a step's key holds is the archive's own digest, so a cached step opens nothing. Where the step is carried out
//! the archive is read once ([`FileArchive`]), and its entries are placed in their order (`place/unpack.rs`).

use super::{Bytes, Gathered, Node, SourceTree};
use crate::{StepError, epoch::StageEpoch, scratch::Scratch};
use slipway_oci::{
    Digest,
    compression::{self, Format},
    digest::{CONTENT, HashingReader},
    file,
    layer::{self, ArchiveError, Entry, FileArchive, LayerError},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// The files of an archive.
struct ArchiveTree {
    files: FileArchive,
    name: String,
}

/// Reads the archives among what was gathered; their files become trees of their own.
pub(crate) fn open_archives(
    gathered: &mut [Gathered],
    trees: &mut Vec<Box<dyn SourceTree + '_>>,
    scratch: &Scratch<'_>,
) -> Result<(), StepError> {
    for one in gathered {
        let (Some(name), Some((_, node))) = (&one.archive, one.pick.nodes.first()) else { continue };
        let files = read(name, trees[one.tree].open(node)?, node, scratch)?;
        trees.push(Box::new(ArchiveTree { files, name: name.clone() }));
        one.tree = trees.len() - 1;
    }
    Ok(())
}

fn read(name: &str, bytes: Bytes<'_>, node: &Node, scratch: &Scratch<'_>) -> Result<FileArchive, StepError> {
    let failed = |source| StepError::Archive { archive: name.to_owned(), source };
    let unreadable = |source| failed(ArchiveError::Read { after: None, source });
    let known = node.entry.content.as_ref();
    let hashing = HashingReader::new(bytes, known.map_or(CONTENT, Digest::algorithm));
    let mut packed = BufReader::with_capacity(1 << 18, hashing);
    let files = {
        let plain = compression::decoder(&mut packed).map_err(unreadable)?;
        FileArchive::read(plain, nameless(scratch.path()?)?).map_err(failed)?
    };
    io::copy(&mut packed, &mut io::sink()).map_err(unreadable)?;
    // the key says which bytes these are
    let digest = packed.into_inner().finish().1;
    match known {
        Some(known) if *known != digest => Err(LayerError::Changed(PathBuf::from(name)).into()),
        _ => Ok(files),
    }
}

/// A file that goes away with its descriptor.
fn nameless(folder: &Path) -> Result<File, StepError> {
    let path = folder.join(file::temporary_name("archive"));
    let mut options = File::options();
    let made = options.read(true).write(true).create_new(true).open(&path);
    let made = made.map_err(StepError::io("create", &path))?;
    std::fs::remove_file(&path).map_err(StepError::io("remove", &path))?;
    Ok(made)
}

impl SourceTree for ArchiveTree {
    fn place(&self) -> String {
        format!("the archive `{}`", self.name)
    }
    fn node(&self, _: &[u8]) -> Result<Option<Node>, StepError> {
        Ok(None)
    }
    fn children(&self, _: &[u8]) -> Result<Vec<(Vec<u8>, Node)>, StepError> {
        Ok(Vec::new())
    }
    /// The node's number is that of the entry whose bytes it has.
    fn open(&self, node: &Node) -> Result<Bytes<'_>, StepError> {
        let (_, index) = node.inode.expect("files of archives are numbered");
        Ok(Box::new(self.files.open(index as usize)))
    }
    fn mtime(&self, entry: &Entry, epoch: &StageEpoch) -> i64 {
        epoch.clamp.apply(entry.mtime)
    }
    fn archive(&self) -> Option<&FileArchive> {
        Some(&self.files)
    }
}

/// Whether a stream begins with a tar header, compressed or not: what it is called does not count.
pub(crate) fn is_archive(bytes: impl Read + Send) -> bool {
    let mut reader = BufReader::new(bytes);
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
