//! The writer: content while the archive streams by, everything else at the end.

use super::{
    attributes::{self, Placed, Shared},
    earlier::Earlier,
    folder::{self, Name},
    format::{
        BLOCK, CHUNK_INDEX_BYTES, INODE_BYTES, NO_BLOCK, Place, ROOT_NID, RawInode, SLOT, Superblock,
        chunk_format, chunk_index, encode_device, entry_type,
    },
    pages::Pages,
};
use crate::{
    Algorithm, Digest, Hasher,
    digest::CONTENT,
    layer::{Entry, Kind, LayerError, Sink, Toc, components, copy_digested, io_at, name_of, parent_of},
};
use rustix::io::Errno;
use std::{
    borrow::Cow,
    collections::HashMap,
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
    contents: HashMap<Digest, Address>,
    earlier: Arc<Earlier>,
}

/// Where a content begins.
#[derive(Clone, Copy)]
enum Address {
    /// At this block of the file itself.
    Own(u32),
    /// In this one of the earlier files, at this block of it.
    Earlier(usize, u32),
}

/// The longest name (`EROFS_NAME_LEN`), as of all file systems.
const NAME_BYTES: usize = 255;

fn failed(error: io::Error) -> LayerError {
    io_at("write", Path::new(""))(error)
}

impl Writer {
    /// Writes into the empty `file` what `earlier` has not.
    pub(crate) fn new(file: File, earlier: Arc<Earlier>) -> Writer {
        Writer { pages: Pages::new(file), contents: HashMap::new(), earlier }
    }

    /// Adds a file's bytes, if no file had the same before; `source` gives as many as `entry` says.
    pub(crate) fn content(&mut self, entry: &Entry, source: &mut dyn Read) -> Result<Digest, LayerError> {
        let begin = self.begin();
        let digest = copy_digested(source, &mut self.pages, entry)?;
        self.end(begin, &digest).map_err(io_at("write", entry.as_path()))?;
        Ok(digest)
    }

    /// Adds a file's bytes that are in memory.
    pub(crate) fn bytes(&mut self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
        if !self.has(digest) {
            let begin = self.begin();
            self.pages.write_all(bytes)?;
            self.end(begin, digest)?;
        }
        Ok(())
    }

    /// Whether the bytes of this digest need not be added.
    pub(crate) fn has(&mut self, digest: &Digest) -> bool {
        if self.contents.contains_key(digest) {
            return true;
        }
        let found = self.earlier.find(digest);
        if let Some((device, block)) = found {
            self.contents.insert(digest.clone(), Address::Earlier(device, block));
        }
        found.is_some()
    }

    /// Begins a file's bytes, which are then written with [`Writer::write`]; answers where they begin.
    pub(crate) fn begin(&mut self) -> Begun {
        Begun(self.pages.align())
    }

    /// Adds to the bytes that were begun.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pages.write_all(bytes)
    }

    /// Ends a file's bytes, whose digest is known by now.
    pub(crate) fn end(&mut self, Begun(block): Begun, digest: &Digest) -> io::Result<()> {
        if self.pages.at() == block * BLOCK {
            return Ok(());
        }
        if self.has(digest) {
            return self.pages.rewind(block * BLOCK);
        }
        let full = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        self.contents.insert(digest.clone(), Address::Own(address(block).map_err(full)?));
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
                    Address::Earlier(device, block) => Body::Earlier(device, block),
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

/// Where a file's bytes begin.
pub(crate) struct Begun(u64);

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
fn address(block: u64) -> Result<u32, LayerError> {
    let most = u64::from(NO_BLOCK);
    u32::try_from(block)
        .ok()
        .filter(|block| *block != NO_BLOCK)
        .ok_or(LayerError::Limit { what: "blocks", most })
}

/// Where a node's bytes are.
enum Body {
    /// Not decided.
    Unplaced,
    /// In blocks from this one on.
    Blocks(u32),
    /// In this one of the earlier files, from this block of it on.
    Earlier(usize, u32),
    /// Behind the inode.
    Inline,
    /// There are none; a device has this number.
    Device(u32),
}

/// An inode to be.
struct Node<'t> {
    entry: &'t Entry,
    mode: u16,
    xattrs: Placed,
    body: Body,
    /// Names, sorted, each with the number of its node.
    children: Vec<(&'t [u8], u32)>,
    links: u32,
    parent: u32,
    nid: u64,
}

impl Node<'_> {
    fn is_folder(&self) -> bool {
        self.entry.is_directory()
    }
}

/// A folder's names with those of itself and of its parent.
fn names_of<'t>(nodes: &[Node<'t>], node: &Node<'t>) -> Vec<Name<'t>> {
    let name = |name: &'t [u8], number: u32| {
        let node = &nodes[number as usize];
        Name { name, nid: node.nid, kind: entry_type(node.mode) }
    };
    let mut names: Vec<Name<'t>> = node.children.iter().map(|(text, number)| name(text, *number)).collect();
    let own = Name { name: &b"."[..], nid: node.nid, kind: entry_type(node.mode) };
    for special in [own, name(&b".."[..], node.parent)] {
        let place = names.partition_point(|name| name.name < special.name);
        names.insert(place, special);
    }
    names
}

/// The bytes of a folder or link.
fn body_of<'t>(nodes: &[Node<'t>], node: &Node<'t>) -> Cow<'t, [u8]> {
    match node.is_folder() {
        true => folder::encode(&names_of(nodes, node)).into(),
        false => node.entry.link.as_slice().into(),
    }
}

/// Gives each inode its place; answers how many bytes they take.
fn lay_out(nodes: &mut [Node<'_>]) -> u64 {
    let mut at = ROOT_NID * SLOT;
    for number in 0..nodes.len() {
        let node = &nodes[number];
        let own = INODE_BYTES + node.xattrs.bytes();
        let body = match node.body {
            Body::Unplaced if node.is_folder() => folder::size(&names_of(nodes, node)),
            Body::Unplaced => node.entry.link.len() as u64,
            Body::Earlier(..) => own.next_multiple_of(CHUNK_INDEX_BYTES) - own + CHUNK_INDEX_BYTES,
            _ => 0,
        };
        let node = &mut nodes[number];
        let is_inline = matches!(node.body, Body::Unplaced) && own + body <= BLOCK;
        let together = if is_inline { own + body } else { INODE_BYTES };
        if at % BLOCK + together > BLOCK {
            at = at.next_multiple_of(BLOCK);
        }
        if is_inline {
            node.body = Body::Inline;
        }
        let is_behind = is_inline || matches!(node.body, Body::Earlier(..));
        node.nid = at / SLOT;
        at = (at + own + if is_behind { body } else { 0 }).next_multiple_of(SLOT);
    }
    at
}

/// Which of the earlier files have contents of these.
fn used_devices(nodes: &[Node<'_>], count: usize) -> Vec<bool> {
    let mut used = vec![false; count];
    for node in nodes {
        if let Body::Earlier(device, _) = node.body {
            used[device] = true;
        }
    }
    used
}

/// Writes folders and links that do not lie behind their inodes.
fn write_blocks(nodes: &mut [Node<'_>], tables: &mut Tables<'_>) -> Result<(), LayerError> {
    for number in 0..nodes.len() {
        if matches!(nodes[number].body, Body::Unplaced) {
            let block = address(tables.align().map_err(failed)?)?;
            let bytes = body_of(nodes, &nodes[number]);
            tables.write_all(&bytes).map_err(failed)?;
            nodes[number].body = Body::Blocks(block);
        }
    }
    Ok(())
}

fn write_inodes(
    nodes: &[Node<'_>],
    devices: &[u16],
    meta_bytes: u64,
    tables: &mut Tables<'_>,
) -> Result<(), LayerError> {
    let (mut written, mut out) = (0, Vec::new());
    for (number, node) in nodes.iter().enumerate() {
        out.clear();
        out.resize((node.nid * SLOT - written) as usize, 0);
        let own = INODE_BYTES + node.xattrs.bytes();
        let body = match node.body {
            Body::Inline => body_of(nodes, node),
            Body::Earlier(device, block) => {
                let mut place = vec![0; (own.next_multiple_of(CHUNK_INDEX_BYTES) - own) as usize];
                place.extend_from_slice(&chunk_index(devices[device], block));
                place.into()
            }
            _ => Cow::default(),
        };
        let size = match (&node.body, node.entry.kind) {
            (Body::Blocks(_), Kind::Directory) => folder::size(&names_of(nodes, node)),
            (_, Kind::File) => node.entry.size_bytes,
            (Body::Blocks(_), _) => node.entry.link.len() as u64,
            _ => body.len() as u64,
        };
        let inode = RawInode {
            place: match node.body {
                Body::Inline => Place::Inline,
                Body::Earlier(..) => Place::Chunk,
                _ => Place::Blocks,
            },
            xattr_bytes: node.xattrs.bytes(),
            mode: node.mode,
            size,
            block_or_device: match node.body {
                Body::Blocks(block) => block,
                Body::Device(_) if node.entry.kind == Kind::File => NO_BLOCK,
                Body::Device(device) => device,
                Body::Earlier(..) => chunk_format(size),
                Body::Inline | Body::Unplaced => NO_BLOCK,
            },
            number: number as u32 + 1,
            uid: node.entry.uid,
            gid: node.entry.gid,
            mtime: node.entry.mtime,
            links: node.links,
        };
        out.extend_from_slice(&inode.encode());
        node.xattrs.encode(&mut out);
        out.extend_from_slice(&body);
        tables.write_all(&out).map_err(failed)?;
        written += out.len() as u64;
    }
    // the last slot is whole
    tables.write_all(&vec![0; (meta_bytes - written) as usize]).map_err(failed)
}

/// What the kernel parses, digested while it is written.
struct Tables<'p> {
    hasher: Hasher,
    pages: &'p mut Pages,
}

impl Tables<'_> {
    /// Fills the block up; answers the number of the next.
    fn align(&mut self) -> io::Result<u64> {
        let filled = (self.pages.at() % BLOCK) as usize;
        if filled > 0 {
            self.write_all(&[0; BLOCK as usize][filled..])?;
        }
        Ok(self.pages.at() / BLOCK)
    }
}

impl Write for Tables<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.pages.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
