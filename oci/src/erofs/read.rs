//! Reads what [`super::write`] wrote, without a mount: what a COPY takes out of a layer, and what tests compare.
//!
//! Nothing in the file is believed: each place is looked at within the file, and each count is bounded.

use super::{
    attributes::{self, Attribute},
    folder,
    format::{
        BLOCK, CHUNK_INDEX_BYTES, INODE_BYTES, Place, ROOT_NID, RawInode, SLOT, Superblock,
        XATTR_HEADER_BYTES, chunk_format, decode_chunk_index, u32_at,
    },
};
use crate::{layer::components, limits};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::OnceLock,
};

/// A layer's file, open.
#[derive(Debug)]
pub struct Image {
    file: File,
    length: u64,
    superblock: Superblock,
    /// The files that it has blocks in besides, in its order.
    devices: Vec<File>,
    /// All inodes, once somebody went through them.
    inodes: OnceLock<Vec<u8>>,
}

/// Inodes are held in memory up to so many bytes.
const MOST_HELD_BYTES: u64 = 64 << 20;

/// One inode of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number, which `stat` shows.
    pub nid: u64,
    raw: RawInode,
}

impl Inode {
    /// Type and mode, as stat(2) has them.
    pub fn mode(&self) -> u32 {
        self.raw.mode.into()
    }

    /// Owner and group.
    pub fn owner(&self) -> (u32, u32) {
        (self.raw.uid, self.raw.gid)
    }

    /// Modification time in seconds since 1970.
    pub fn mtime(&self) -> i64 {
        self.raw.mtime
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.raw.size
    }

    /// How many names it has; of a folder, as other file systems count.
    pub fn links(&self) -> u32 {
        self.raw.links
    }

    /// A device's number as the kernel keeps it.
    pub fn device(&self) -> u32 {
        self.raw.block_or_device
    }

    fn is(&self, kind: u32) -> bool {
        self.mode() & libc::S_IFMT == kind
    }

    /// Whether it is a folder.
    pub fn is_directory(&self) -> bool {
        self.is(libc::S_IFDIR)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the layer's file is damaged")
}

impl Image {
    /// Opens a layer's file, and the files that it has contents in besides.
    pub fn open(file: File, devices: Vec<File>) -> io::Result<Image> {
        let mut block = [0; BLOCK as usize];
        file.read_exact_at(&mut block, 0)?;
        let superblock = Superblock::decode(&block).ok_or_else(damaged)?;
        let length = file.metadata()?.len();
        if u64::from(superblock.blocks) * BLOCK != length || devices.len() != superblock.devices.len() {
            return Err(damaged());
        }
        for (device, slot) in devices.iter().zip(&superblock.devices) {
            if device.metadata()?.len() != u64::from(slot.blocks) * BLOCK {
                return Err(damaged());
            }
        }
        Ok(Image { file, length, superblock, devices, inodes: OnceLock::new() })
    }

    /// The tag of a further device ([`super::Device::open`]).
    pub fn device_tag(&self, number: usize) -> Option<&str> {
        let tag = &self.superblock.devices.get(number)?.tag;
        std::str::from_utf8(tag).ok().map(|tag| tag.trim_end_matches('\0'))
    }

    /// The top folder.
    pub fn root(&self) -> io::Result<Inode> {
        self.inode(ROOT_NID)
    }

    /// The inode of this number.
    pub fn inode(&self, nid: u64) -> io::Result<Inode> {
        let mut bytes = [0; INODE_BYTES as usize];
        self.read_inodes(&mut bytes, self.place(nid)?)?;
        Ok(Inode { nid, raw: RawInode::decode(&bytes).ok_or_else(damaged)? })
    }

    /// Where the inode of this number begins.
    fn place(&self, nid: u64) -> io::Result<u64> {
        let at = nid
            .checked_mul(SLOT)
            .and_then(|at| at.checked_add(u64::from(self.superblock.meta_block) * BLOCK));
        at.filter(|at| *at < self.length).ok_or_else(damaged)
    }

    /// Reads what is among the inodes.
    fn read_inodes(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let Some(held) = self.inodes.get() else { return self.file.read_exact_at(bytes, at) };
        let begin =
            at.checked_sub(u64::from(self.superblock.meta_block) * BLOCK).ok_or_else(damaged)? as usize;
        let found = held.get(begin..).and_then(|rest| rest.get(..bytes.len())).ok_or_else(damaged)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    /// Holds all inodes in memory, where they are not too many.
    fn hold_inodes(&self) -> io::Result<()> {
        let begin = u64::from(self.superblock.meta_block) * BLOCK;
        let bytes = self.length.checked_sub(begin).ok_or_else(damaged)?;
        if bytes <= MOST_HELD_BYTES && self.inodes.get().is_none() {
            let mut held = vec![0; bytes as usize];
            self.file.read_exact_at(&mut held, begin)?;
            self.inodes.get_or_init(|| held);
        }
        Ok(())
    }

    /// Where the inode's bytes begin, and in which file.
    fn body(&self, inode: &Inode) -> io::Result<(&File, u64)> {
        let (file, length, begin) = match inode.raw.place {
            Place::Inline => {
                let begin = self.place(inode.nid)? + INODE_BYTES + inode.raw.xattr_bytes;
                (&self.file, self.length, begin)
            }
            Place::Blocks => (&self.file, self.length, u64::from(inode.raw.block_or_device) * BLOCK),
            Place::Chunk => {
                let (device, block) = self.chunk(inode)?;
                let slot = &self.superblock.devices[device];
                (&self.devices[device], u64::from(slot.blocks) * BLOCK, u64::from(block) * BLOCK)
            }
        };
        let end = begin.checked_add(inode.raw.size).ok_or_else(damaged)?;
        if inode.raw.size > 0 && end > length { Err(damaged()) } else { Ok((file, begin)) }
    }

    /// Which further device has the inode's bytes, and from which block on.
    fn chunk(&self, inode: &Inode) -> io::Result<(usize, u32)> {
        let behind = self.place(inode.nid)? + INODE_BYTES + inode.raw.xattr_bytes;
        let mut bytes = [0; CHUNK_INDEX_BYTES as usize];
        self.read_inodes(&mut bytes, behind.next_multiple_of(CHUNK_INDEX_BYTES))?;
        let (device, block) = decode_chunk_index(&bytes).ok_or_else(damaged)?;
        match usize::from(device).checked_sub(1).filter(|device| *device < self.devices.len()) {
            Some(device) if inode.raw.block_or_device == chunk_format(inode.raw.size) => Ok((device, block)),
            _ => Err(damaged()),
        }
    }

    /// Where a regular file's bytes begin: the device, counted from the file itself as 0, and the block there. `None` of
    /// what has no blocks.
    pub(super) fn blocks_of(&self, inode: &Inode) -> io::Result<Option<(usize, u32)>> {
        if !inode.is(libc::S_IFREG) || inode.raw.size == 0 {
            return Ok(None);
        }
        Ok(match inode.raw.place {
            Place::Blocks => Some((0, inode.raw.block_or_device)),
            Place::Chunk => self.chunk(inode).map(|(device, block)| Some((device + 1, block)))?,
            Place::Inline => None,
        })
    }

    /// Goes through all regular files, with their paths.
    pub(super) fn files(&self, see: &mut dyn FnMut(&[u8], &Inode) -> io::Result<()>) -> io::Result<()> {
        self.hold_inodes()?;
        let mut folders = vec![(Vec::new(), self.root()?)];
        let mut seen = 0;
        while let Some((path, folder)) = folders.pop() {
            for (name, nid) in self.list(&folder)? {
                seen += 1;
                if seen > limits::LAYER_ENTRIES {
                    return Err(damaged());
                }
                let path = crate::layer::join(&path, &name);
                match self.inode(nid)? {
                    inode if inode.is_directory() => folders.push((path, inode)),
                    inode if inode.is(libc::S_IFREG) => see(&path, &inode)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What is at `path`, where links are not followed; `None` where nothing is.
    pub fn find(&self, path: &[u8]) -> io::Result<Option<Inode>> {
        let mut here = self.root()?;
        for name in components(path) {
            if !here.is_directory() {
                return Ok(None);
            }
            match self.child(&here, name)? {
                Some(nid) => here = self.inode(nid)?,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn child(&self, folder: &Inode, name: &[u8]) -> io::Result<Option<u64>> {
        let (mut from, mut to) = (0, folder.raw.size.div_ceil(BLOCK));
        while from < to {
            let middle = from + (to - from) / 2;
            let block = self.block(folder, middle)?;
            let names = folder::decode(&block).ok_or_else(damaged)?;
            let (Some(first), Some(last)) = (names.first(), names.last()) else { return Err(damaged()) };
            if name < first.name {
                to = middle;
            } else if name > last.name {
                from = middle + 1;
            } else {
                let found = names.binary_search_by(|entry| entry.name.cmp(name)).ok();
                return Ok(found.map(|at| names[at].nid));
            }
        }
        Ok(None)
    }

    fn block(&self, folder: &Inode, number: u64) -> io::Result<Vec<u8>> {
        let (file, begin) = self.body(folder)?;
        let mut block = vec![0; BLOCK.min(folder.raw.size - number * BLOCK) as usize];
        file.read_exact_at(&mut block, begin + number * BLOCK)?;
        Ok(block)
    }

    /// The names of a folder in order, without its own and its parent's, each with its inode's number.
    pub fn list(&self, folder: &Inode) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let mut all = Vec::new();
        if !folder.is_directory() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        for number in 0..folder.raw.size.div_ceil(BLOCK) {
            let block = self.block(folder, number)?;
            let names = folder::decode(&block).ok_or_else(damaged)?;
            let names = names.iter().filter(|name| !matches!(name.name, b"." | b".."));
            all.extend(names.map(|name| (name.name.to_vec(), name.nid)));
            if all.len() as u64 > limits::LAYER_ENTRIES {
                return Err(damaged());
            }
        }
        Ok(all)
    }

    /// Reads a regular file, or the text of a link.
    pub fn read(&self, inode: &Inode) -> io::Result<Content> {
        if !inode.is(libc::S_IFREG) && !inode.is(libc::S_IFLNK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let (file, at) = self.body(inode)?;
        Ok(Content { file: file.try_clone()?, at, left: inode.raw.size })
    }

    /// All extended attributes, sorted by name.
    pub fn attributes(&self, inode: &Inode) -> io::Result<Vec<Attribute>> {
        let mut bytes = vec![0; inode.raw.xattr_bytes as usize];
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        self.file.read_exact_at(&mut bytes, self.place(inode.nid)? + INODE_BYTES)?;
        let count = usize::from(bytes[4]);
        let mut found = Vec::new();
        let mut rest = bytes.get(XATTR_HEADER_BYTES as usize + 4 * count..).ok_or_else(damaged)?;
        while !rest.is_empty() {
            let (attribute, length) = attributes::decode(rest).ok_or_else(damaged)?;
            found.push(attribute);
            rest = rest.get(length..).ok_or_else(damaged)?;
        }
        for number in 0..count {
            let id = u32_at(&bytes, XATTR_HEADER_BYTES as usize + 4 * number).ok_or_else(damaged)?;
            let at = u64::from(self.superblock.xattr_block) * BLOCK + u64::from(id) * 4;
            let most = self.length.saturating_sub(at).min(4 + 255 + limits::XATTR_BYTES as u64);
            let mut bytes = vec![0; most as usize];
            self.file.read_exact_at(&mut bytes, at)?;
            found.push(attributes::decode(&bytes).ok_or_else(damaged)?.0);
        }
        found.sort();
        Ok(found)
    }
}

/// The bytes of one file.
#[derive(Debug)]
pub struct Content {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
