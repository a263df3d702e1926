//! Contents that earlier layers' files have already: a new file refers to them as blocks of further devices.
//!
//! A layer that differs from a known one in few files costs its table and those files. The kernel reads the others out of
//! the earlier file, which it is given as a device (`struct erofs_deviceslot`): an inode says in which device its one chunk
//! lies (`struct erofs_inode_chunk_index`). What the kernel parses is in the new file alone.
//!
//! Devices do not nest: what an earlier file has from a still earlier one is taken from there.

use super::{
    format::{BLOCK, DeviceSlot, MOST_DEVICES, TAG_BYTES},
    read::Image,
};
use crate::{
    Digest,
    layer::{Entry, Kind, Toc, name_of},
};
use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// An earlier file as a device.
#[derive(Debug)]
pub struct Device {
    /// A name of it that stays until the new file has its own.
    pub path: PathBuf,
    file: File,
    /// Its length in blocks.
    blocks: u32,
    /// The digest of its tables: says which file is meant.
    tag: [u8; TAG_BYTES],
}

impl Device {
    /// The file at `path`; `tag` is the hexadecimal digest of its tables.
    pub fn open(path: PathBuf, tag: &str) -> io::Result<Device> {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let blocks = u32::try_from(length / BLOCK).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut text = [0; TAG_BYTES];
        let most = tag.len().min(TAG_BYTES);
        text[..most].copy_from_slice(&tag.as_bytes()[..most]);
        Ok(Device { path, file, blocks, tag: text })
    }
}

/// Where a content begins: in which device, at which block of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) device: usize,
    pub(super) block: u32,
}

/// A content of an earlier file.
#[derive(Debug)]
struct Held {
    spot: Spot,
    /// Whether somebody read and digested it, and it was what it should be.
    is_whole: AtomicBool,
}

/// Contents of earlier files. None is believed to be what it was: whoever refers to one has compared it, or found it whole.
#[derive(Debug, Default)]
pub struct Earlier {
    devices: Vec<Device>,
    contents: HashMap<Digest, Held>,
    /// The large ones, by their files' names and sizes in bytes.
    large: HashMap<(Vec<u8>, u64), Digest>,
}

/// From this size on, in bytes, a file is compared with an earlier one of its name while it comes, so that it need not be
/// written to be known; smaller ones are in memory when they end.
const LARGE_BYTES: u64 = 1 << 20;

impl Earlier {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Adds the contents of one layer that are `wanted`: of its file, which is the first of `devices`, and of the devices
    /// that it has itself, which are the others in its order. A device with less of them than `least` says for its own length
    /// in bytes is not worth it: its contents are left out.
    pub fn add(
        &mut self,
        image: &Image,
        toc: &Toc,
        devices: Vec<Device>,
        wanted: &dyn Fn(&Digest) -> bool,
        least: &dyn Fn(u64) -> u64,
    ) -> io::Result<()> {
        let mut found: Vec<Vec<(&Entry, Digest, u32)>> = devices.iter().map(|_| Vec::new()).collect();
        let mut next = 0;
        image.files(&mut |path, inode| {
            let entry = toc.get_in_order(path, &mut next).filter(|entry| entry.kind == Kind::File);
            let Some((entry, digest)) = entry.and_then(|entry| Some((entry, entry.content.as_ref()?))) else {
                return Ok(());
            };
            if !self.contents.contains_key(digest)
                && wanted(digest)
                && let Some((device, block)) = image.blocks_of(inode)?
                && inode.size_bytes() == entry.size_bytes
                && let Some(found) = found.get_mut(device)
            {
                found.push((entry, digest.clone(), block));
            }
            Ok(())
        })?;
        for (device, found) in devices.into_iter().zip(found) {
            let bytes: u64 = found.iter().map(|(entry, ..)| entry.size_bytes).sum();
            if bytes < least(u64::from(device.blocks) * BLOCK).max(1) || self.devices.len() == MOST_DEVICES {
                continue;
            }
            let device = match self.devices.iter().position(|known| known.tag == device.tag) {
                Some(known) => known,
                None => {
                    self.devices.push(device);
                    self.devices.len() - 1
                }
            };
            for (entry, digest, block) in found {
                if entry.size_bytes >= LARGE_BYTES {
                    self.large.insert(key_of(entry), digest.clone());
                }
                let spot = Spot { device, block };
                self.contents.insert(digest, Held { spot, is_whole: AtomicBool::new(false) });
            }
        }
        Ok(())
    }

    /// Where the content is.
    pub(super) fn find(&self, digest: &Digest) -> Option<Spot> {
        self.contents.get(digest).map(|held| held.spot)
    }

    /// Where the content is, if it was found whole before.
    pub(super) fn find_whole(&self, digest: &Digest) -> Option<Spot> {
        self.contents.get(digest).filter(|held| held.is_whole.load(Ordering::Relaxed)).map(|held| held.spot)
    }

    /// The content that a large file most likely has: that of the one with its name and size.
    pub(super) fn likely(&self, entry: &Entry) -> Option<&Digest> {
        match self.large.is_empty() || entry.size_bytes < LARGE_BYTES {
            true => None,
            false => self.large.get(&key_of(entry)),
        }
    }

    /// Reads the content, which fills `bytes`, where it is here and still what it was.
    pub fn read(&self, digest: &Digest, bytes: &mut [u8]) -> bool {
        let Some(held) = self.contents.get(digest) else { return false };
        let is_whole = self.read_at(held.spot, 0, bytes).is_ok() && Digest::content(bytes) == *digest;
        held.is_whole.store(is_whole, Ordering::Relaxed);
        is_whole
    }

    /// Reads from `at` bytes after the place on.
    pub(super) fn read_at(&self, spot: Spot, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.devices[spot.device].file.read_exact_at(bytes, u64::from(spot.block) * BLOCK + at)
    }

    /// Whether `bytes` are there, from `at` bytes after the place on; what cannot be read is not.
    pub(super) fn holds(&self, spot: Spot, at: u64, bytes: &[u8], buffer: &mut Vec<u8>) -> bool {
        buffer.resize(bytes.len(), 0);
        self.read_at(spot, at, buffer).is_ok() && buffer == bytes
    }

    /// The length of a device in bytes.
    pub(super) fn length(&self, device: usize) -> u64 {
        u64::from(self.devices[device].blocks) * BLOCK
    }

    /// The slots of those devices that are `used`, and their names.
    pub(super) fn slots(&self, used: &[bool]) -> Slots {
        let mut slots = Slots { numbers: vec![0; self.devices.len()], slots: Vec::new(), paths: Vec::new() };
        for (at, device) in self.devices.iter().enumerate().filter(|(at, _)| used[*at]) {
            slots.slots.push(DeviceSlot { tag: device.tag, blocks: device.blocks });
            slots.paths.push(device.path.clone());
            slots.numbers[at] = slots.slots.len() as u16;
        }
        slots
    }

    /// How many devices there are, used or not.
    pub(crate) fn count(&self) -> usize {
        self.devices.len()
    }
}

/// What a large file is known by before it was read.
fn key_of(entry: &Entry) -> (Vec<u8>, u64) {
    (name_of(&entry.path).to_vec(), entry.size_bytes)
}

/// Devices as a file names them.
pub(super) struct Slots {
    /// The number that each of the earlier files has here, from 1; of one that is not used, nothing.
    pub(super) numbers: Vec<u16>,
    pub(super) slots: Vec<DeviceSlot>,
    /// The names, in the order of the slots.
    pub(super) paths: Vec<PathBuf>,
}

#[cfg(test)]
mod tests;
