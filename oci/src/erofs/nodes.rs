//! Inodes to be: what they say, where they lie, and how folders, links and they are written behind the contents.

use super::{
    attributes::Placed,
    folder::{self, Name},
    format::{
        BLOCK, CHUNK_INDEX_BYTES, INODE_BYTES, NO_BLOCK, Place, ROOT_NID, RawInode, SLOT, chunk_format,
        chunk_index, entry_type,
    },
    pages::Pages,
    write::{address, failed},
};
use crate::{
    Hasher,
    layer::{Entry, Kind, LayerError},
};
use std::{
    borrow::Cow,
    io::{self, Write},
};

/// Where a node's bytes are.
pub(super) enum Body {
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
pub(super) struct Node<'t> {
    pub(super) entry: &'t Entry,
    pub(super) mode: u16,
    pub(super) xattrs: Placed,
    pub(super) body: Body,
    /// Names, sorted, each with the number of its node.
    pub(super) children: Vec<(&'t [u8], u32)>,
    pub(super) links: u32,
    pub(super) parent: u32,
    pub(super) nid: u64,
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
pub(super) fn lay_out(nodes: &mut [Node<'_>]) -> u64 {
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
pub(super) fn used_devices(nodes: &[Node<'_>], count: usize) -> Vec<bool> {
    let mut used = vec![false; count];
    for node in nodes {
        if let Body::Earlier(device, _) = node.body {
            used[device] = true;
        }
    }
    used
}

/// Writes folders and links that do not lie behind their inodes.
pub(super) fn write_blocks(nodes: &mut [Node<'_>], tables: &mut Tables<'_>) -> Result<(), LayerError> {
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

pub(super) fn write_inodes(
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
pub(super) struct Tables<'p> {
    pub(super) hasher: Hasher,
    pub(super) pages: &'p mut Pages,
}

impl Tables<'_> {
    /// Fills the block up; answers the number of the next.
    pub(super) fn align(&mut self) -> io::Result<u64> {
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
