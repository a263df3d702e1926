//! The writer: content while the archive streams by, everything else at the end.

use super::{
    attributes::{self, Shared},
    earlier::{Earlier, Spot},
    format::{BLOCK, NO_BLOCK, Superblock, encode_device},
    nodes::{Body, Node, Tables, lay_out, used_devices, write_blocks, write_inodes},
    pages::Pages,
};
use crate::{
    Algorithm, Digest, Hasher,
    digest::CONTENT,
    layer::{Entry, Kind, LayerError, Sink, Toc, components, copy_digested, io_at, name_of, parent_of},
};
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What was written: enough to know the file again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Length of the file in bytes.
    pub length_bytes: u64,
    /// Where that begins which the kernel parses, beside the first block.
    pub tables: u64,
    /// Digest of everything from there on, and then of the first block.
    pub digest: Digest,
    /// The files that it has contents in besides, in its order ([`Earlier`]).
    pub devices: Vec<PathBuf>,
}

impl Written {
    /// Whether `file` is still what was written, as far as the kernel parses it. Contents of files are not read: a kernel
    /// takes any bytes for them.
    pub fn is_whole(&self, file: &File) -> io::Result<bool> {
        if file.metadata()?.len() != self.length_bytes || self.tables > self.length_bytes {
            return Ok(false);
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 1 << 18];
        for (mut at, end) in [(self.tables, self.length_bytes), (0, BLOCK.min(self.length_bytes))] {
            while at < end {
                let most = buffer.len().min((end - at) as usize);
                let count = file.read_at(&mut buffer[..most], at)?;
                if count == 0 {
                    return Ok(false);
                }
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
        }
        Ok(hasher.finish() == self.digest)
    }
}

/// Writes one layer. As a [`Sink`] it takes what an archive holds; [`Writer::finish`] then makes of the archive's table of
/// contents what the file shows. So what was replaced within the archive never shows.
pub(crate) struct Writer {
    pages: Pages,
    /// What is here, or was found whole in an earlier file.
    contents: HashMap<Digest, Address>,
    earlier: Arc<Earlier>,
    /// For what is compared.
    buffer: Vec<u8>,
}

/// Where a content begins.
#[derive(Clone, Copy)]
enum Address {
    /// At this block of the file itself.
    Own(u32),
    /// At this place of an earlier one.
    Earlier(Spot),
}

/// A file's bytes that were begun.
pub(crate) struct Begun {
    /// Where they begin, if they are written.
    block: u64,
    /// What they may turn out to be.
    likely: Option<Likely>,
}

/// A content of an earlier file whose bytes are those that came so far: nothing of them is written.
struct Likely {
    digest: Digest,
    spot: Spot,
    bytes: u64,
}

/// The longest name (`EROFS_NAME_LEN`), as of all file systems.
const NAME_BYTES: usize = 255;
/// How much is compared or copied at a time, in bytes.
const COMPARED_BYTES: usize = 256 << 10;

pub(super) fn failed(error: io::Error) -> LayerError {
    io_at("write", Path::new(""))(error)
}

impl Writer {
    /// Writes into the empty `file` what `earlier` has not.
    pub(crate) fn new(file: File, earlier: Arc<Earlier>) -> Writer {
        Writer { pages: Pages::new(file), contents: HashMap::new(), earlier, buffer: Vec::new() }
    }

    /// Adds a file's bytes, if no file had the same before; `source` gives as many as `entry` says.
    pub(crate) fn content(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Digest, LayerError> {
        let expected = self.earlier.likely(entry).cloned();
        let mut begun = self.begin(expected.as_ref());
        let digest = copy_digested(source, &mut Beginning { writer: self, begun: &mut begun }, entry)?;
        self.end(begun, &digest).map_err(io_at("write", entry.as_path()))?;
        Ok(digest)
    }

    /// Adds a file's bytes that are in memory.
    pub(crate) fn bytes(&mut self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
        if self.has(digest) {
            return Ok(());
        }
        let mut begun = self.begin(Some(digest));
        self.write(&mut begun, bytes)?;
        self.end(begun, digest)
    }

    /// Whether the bytes of this digest are here, or known to be whole where they are, and need not be added.
    pub(crate) fn has(&mut self, digest: &Digest) -> bool {
        if self.contents.contains_key(digest) {
            return true;
        }
        let found = self.earlier.find_whole(digest);
        if let Some(spot) = found {
            self.contents.insert(digest.clone(), Address::Earlier(spot));
        }
        found.is_some()
    }

    /// Whether the bytes of this digest were written here.
    pub(super) fn is_own(&self, digest: &Digest) -> bool {
        matches!(self.contents.get(digest), Some(Address::Own(_)))
    }

    /// The earlier files' contents, where nobody else looks at them.
    pub(super) fn earlier_mut(&mut self) -> Option<&mut Earlier> {
        Arc::get_mut(&mut self.earlier)
    }

    /// Begins a file's bytes, which are then written with [`Writer::write`]; they are compared while they come with those of
    /// an earlier file that are `expected`.
    pub(crate) fn begin(&mut self, expected: Option<&Digest>) -> Begun {
        let likely = |digest: &Digest| {
            Some(Likely { digest: digest.clone(), spot: self.earlier.find(digest)?, bytes: 0 })
        };
        let likely = expected.and_then(likely);
        Begun { block: self.pages.align(), likely }
    }

    /// Adds to the bytes that were begun.
    pub(crate) fn write(&mut self, begun: &mut Begun, bytes: &[u8]) -> io::Result<()> {
        if let Some(likely) = &mut begun.likely {
            if self.earlier.holds(likely.spot, likely.bytes, bytes, &mut self.buffer) {
                likely.bytes += bytes.len() as u64;
                return Ok(());
            }
            self.take_over(begun)?;
        }
        self.pages.write_all(bytes)
    }

    /// Writes what was the same in an earlier file until now.
    fn take_over(&mut self, begun: &mut Begun) -> io::Result<()> {
        match begun.likely.take() {
            Some(likely) => self.copy(likely.spot, likely.bytes),
            None => Ok(()),
        }
    }

    /// Writes so many bytes of an earlier file.
    fn copy(&mut self, spot: Spot, bytes: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes {
            let most = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(COMPARED_BYTES);
            self.buffer.resize(most, 0);
            self.earlier.read_at(spot, done, &mut self.buffer)?;
            self.pages.write_all(&self.buffer)?;
            done += most as u64;
        }
        Ok(())
    }

    /// Ends a file's bytes, whose digest is known by now.
    pub(crate) fn end(&mut self, mut begun: Begun, digest: &Digest) -> io::Result<()> {
        match &begun.likely {
            Some(likely) if likely.bytes > 0 && likely.digest == *digest => {
                self.contents.entry(likely.digest.clone()).or_insert(Address::Earlier(likely.spot));
                return Ok(());
            }
            // the beginning of another one
            _ => self.take_over(&mut begun)?,
        }
        let begin = begun.block * BLOCK;
        if self.pages.at() == begin {
            return Ok(());
        }
        if self.has(digest) || self.has_compared(digest, begin)? {
            return self.pages.rewind(begin);
        }
        let full = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        self.contents.insert(digest.clone(), Address::Own(address(begun.block).map_err(full)?));
        Ok(())
    }

    /// Whether an earlier file has what was written from `begin` on, byte for byte: what its table says of it may be true no
    /// more.
    fn has_compared(&mut self, digest: &Digest, begin: u64) -> io::Result<bool> {
        let Some(spot) = self.earlier.find(digest) else { return Ok(false) };
        let (earlier, buffer, mut at) = (&self.earlier, &mut self.buffer, 0);
        let is_same = self.pages.all_from(begin, &mut |bytes| {
            at += bytes.len() as u64;
            earlier.holds(spot, at - bytes.len() as u64, bytes, buffer)
        })?;
        if is_same {
            self.contents.insert(digest.clone(), Address::Earlier(spot));
        }
        Ok(is_same)
    }

    /// Writes what `toc` shows of those earlier files that are not worth a device after all: with fewer bytes of use than
    /// `least` says for their length in bytes.
    pub(super) fn settle(&mut self, toc: &Toc, least: &dyn Fn(u64) -> u64) -> io::Result<()> {
        let mut used: Vec<BTreeMap<u32, (&Digest, u64)>> = vec![BTreeMap::new(); self.earlier.count()];
        for entry in toc.entries().iter().filter(|entry| entry.kind == Kind::File) {
            if let Some(digest) = &entry.content
                && let Some(Address::Earlier(spot)) = self.contents.get(digest)
            {
                used[spot.device].insert(spot.block, (digest, entry.size_bytes));
            }
        }
        for (device, contents) in used.into_iter().enumerate() {
            let bytes: u64 = contents.values().map(|(_, bytes)| bytes).sum();
            if bytes >= least(self.earlier.length(device)) {
                continue;
            }
            for (block, (digest, bytes)) in contents {
                let begun = self.begin(None);
                self.copy(Spot { device, block }, bytes)?;
                self.contents.remove(digest);
                let full = |_| io::Error::from(io::ErrorKind::FileTooLarge);
                let own = address(begun.block).map_err(full)?;
                self.contents.insert(digest.clone(), Address::Own(own));
            }
        }
        Ok(())
    }

    /// Writes what `toc` says, whose contents were all added, and ends the file.
    pub(crate) fn finish(mut self, toc: &Toc) -> Result<Written, LayerError> {
        let root = toc.get(b"").map_or_else(|| Entry::new("", Kind::Directory, 0o755), Entry::clone);
        let mut shared = Shared::default();
        let mut nodes = self.nodes(toc, &root, &mut shared)?;
        let meta_bytes = lay_out(&mut nodes);
        let first = self.pages.align();
        let slots = self.earlier.slots(&used_devices(&nodes, self.earlier.count()));
        let mut tables = Tables { hasher: Hasher::new(Algorithm::Sha256), pages: &mut self.pages };
        write_blocks(&mut nodes, &mut tables)?;
        let xattr_block = address(tables.align().map_err(failed)?)?;
        tables.write_all(&shared.bytes).map_err(failed)?;
        let meta_block = address(tables.align().map_err(failed)?)?;
        write_inodes(&nodes, &slots.numbers, meta_bytes, &mut tables)?;
        let blocks = address(tables.align().map_err(failed)?)?;
        let mut hasher = tables.hasher;
        let uuid = uuid(hasher.clone().finish(), toc);
        let inodes = nodes.len() as u64;
        let superblock = Superblock { inodes, blocks, meta_block, xattr_block, uuid, devices: slots.slots };
        let block = superblock.encode();
        hasher.update(&block);
        let length_bytes = self.pages.finish(&block).map_err(failed)?;
        Ok(Written { length_bytes, tables: first * BLOCK, digest: hasher.finish(), devices: slots.paths })
    }

    /// The layer's inodes, the root first, folders with their names in order.
    fn nodes<'t>(
        &self,
        toc: &'t Toc,
        root: &'t Entry,
        shared: &mut Shared,
    ) -> Result<Vec<Node<'t>>, LayerError> {
        let mut nodes = vec![self.node(root, shared)?];
        // the node of each entry; names of one file share theirs
        let mut numbers = vec![0; toc.entries().len()];
        let mut folders: HashMap<&[u8], u32> = HashMap::from([(&b""[..], 0)]);
        let own = |entry: &&Entry| entry.kind != Kind::Hardlink && !entry.path.is_empty();
        for (at, entry) in toc.entries().iter().enumerate().filter(|(_, entry)| own(entry)) {
            numbers[at] = nodes.len() as u32;
            if entry.is_directory() {
                folders.insert(&entry.path, nodes.len() as u32);
            }
            nodes.push(self.node(entry, shared)?);
        }
        let bad = |entry: &Entry, reason| LayerError::Entry { path: entry.to_path(), reason };
        for (at, entry) in toc.entries().iter().enumerate().filter(|(_, entry)| !entry.path.is_empty()) {
            if entry.kind == Kind::Hardlink {
                let first = toc.position(&entry.link).filter(|at| {
                    let first = &toc.entries()[*at];
                    first.kind != Kind::Hardlink && !first.is_directory() && first.kind != Kind::Whiteout
                });
                numbers[at] =
                    numbers[first.ok_or_else(|| bad(entry, "a link to what is not in the layer"))?];
            }
            let parent = folders.get(parent_of(&entry.path).unwrap_or_default());
            let parent = *parent.ok_or_else(|| bad(entry, "its folder is not in the layer"))?;
            nodes[parent as usize].children.push((name_of(&entry.path), numbers[at]));
            let child = &mut nodes[numbers[at] as usize];
            child.links += 1;
            child.parent = parent;
            if entry.is_directory() {
                // a folder's own `.`, and its `..` in the parent
                child.links += 1;
                nodes[parent as usize].links += 1;
            }
        }
        nodes[0].links += 2;
        Ok(nodes)
    }

    fn node<'t>(&self, entry: &'t Entry, shared: &mut Shared) -> Result<Node<'t>, LayerError> {
        let found = attributes::of(entry)?;
        let body = match entry.kind {
            Kind::File if entry.size_bytes > 0 => {
                let found = entry.content.as_ref().and_then(|digest| self.contents.get(digest));
                let missing =
                    || LayerError::Entry { path: entry.to_path(), reason: "its content was not read" };
                match *found.ok_or_else(missing)? {
                    Address::Own(block) => Body::Blocks(block),
                    Address::Earlier(spot) => Body::Earlier(spot.device, spot.block),
                }
            }
            Kind::Directory | Kind::Symlink => Body::Unplaced,
            Kind::CharDevice | Kind::BlockDevice => Body::Device(device(entry)?),
            _ => Body::Device(0),
        };
        let (mode, xattrs) = (found.mode, shared.place(&found.values)?);
        Ok(Node { entry, mode, xattrs, body, children: Vec::new(), links: 0, parent: 0, nid: 0 })
    }
}

/// Bytes that were begun, as a target.
struct Beginning<'w> {
    writer: &'w mut Writer,
    begun: &'w mut Begun,
}

impl Write for Beginning<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(self.begun, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Writer {
    fn create(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Option<Digest>, LayerError> {
        check(entry)?;
        match entry.kind {
            Kind::File => self.content(entry, source).map(Some),
            _ => Ok(None),
        }
    }
}

/// Refuses what no file system would take, where it is met.
pub(crate) fn check(entry: &Entry) -> Result<(), LayerError> {
    attributes::of(entry)?;
    let failed = |errno: Errno| io_at("create", entry.as_path())(errno.into());
    // parents that the archive leaves out are made too, and a link may have led there
    if components(&entry.path).any(|name| name.len() > NAME_BYTES) {
        return Err(failed(Errno::NAMETOOLONG));
    }
    match entry.kind {
        // symlink(2): one page with its zero byte
        Kind::Symlink if entry.link.len() >= BLOCK as usize => Err(failed(Errno::NAMETOOLONG)),
        Kind::CharDevice | Kind::BlockDevice => device(entry).map(drop),
        _ => Ok(()),
    }
}

fn device(entry: &Entry) -> Result<u32, LayerError> {
    let refused = || io_at("create", entry.as_path())(Errno::INVAL.into());
    // would be a deletion to overlayfs
    let is_deletion = entry.kind == Kind::CharDevice && entry.device == (0, 0);
    encode_device(entry.device).filter(|_| !is_deletion).ok_or_else(refused)
}

/// What the file system is known by: overlayfs asks that no two of a stack have the same.
fn uuid(tables: Digest, toc: &Toc) -> [u8; 16] {
    let mut hasher = Hasher::new(CONTENT);
    hasher.update(tables.as_bytes());
    toc.entries()
        .iter()
        .filter_map(|entry| entry.content.as_ref())
        .for_each(|digest| hasher.update(digest.as_bytes()));
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hasher.finish().as_bytes()[..16]);
    uuid
}

/// A block's address has 32 bits.
pub(super) fn address(block: u64) -> Result<u32, LayerError> {
    let most = u64::from(NO_BLOCK);
    u32::try_from(block)
        .ok()
        .filter(|block| *block != NO_BLOCK)
        .ok_or(LayerError::Limit { what: "blocks", most })
}
