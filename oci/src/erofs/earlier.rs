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
use crate::{Digest, layer::Kind, layer::Toc};
use std::{collections::HashMap, fs::File, io, os::unix::fs::FileExt, path::PathBuf};

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
type Place = (usize, u32);

/// Contents of earlier files.
#[derive(Debug, Default)]
pub struct Earlier {
    devices: Vec<Device>,
    contents: HashMap<Digest, Place>,
}

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
        let mut found: Vec<Vec<(Digest, u32, u64)>> = devices.iter().map(|_| Vec::new()).collect();
        let mut next = 0;
        image.files(&mut |path, inode| {
            let entry = toc.get_in_order(path, &mut next).filter(|entry| entry.kind == Kind::File);
            let Some(digest) = entry.and_then(|entry| entry.content.as_ref()) else { return Ok(()) };
            if !self.contents.contains_key(digest)
                && wanted(digest)
                && let Some((device, block)) = image.blocks_of(inode)?
                && let Some(found) = found.get_mut(device)
            {
                found.push((digest.clone(), block, inode.size_bytes()));
            }
            Ok(())
        })?;
        for (device, found) in devices.into_iter().zip(found) {
            let bytes: u64 = found.iter().map(|(_, _, bytes)| bytes).sum();
            if bytes < least(u64::from(device.blocks) * BLOCK).max(1) || self.devices.len() == MOST_DEVICES {
                continue;
            }
            let number = match self.devices.iter().position(|known| known.tag == device.tag) {
                Some(known) => known,
                None => {
                    self.devices.push(device);
                    self.devices.len() - 1
                }
            };
            self.contents.extend(found.into_iter().map(|(digest, block, _)| (digest, (number, block))));
        }
        Ok(())
    }

    /// Where the content is.
    pub(super) fn find(&self, digest: &Digest) -> Option<Place> {
        self.contents.get(digest).copied()
    }

    /// Reads the content, which fills `bytes`; `false` where it is not here. Whether it is still what it was is for the caller
    /// to find out.
    pub fn read(&self, digest: &Digest, bytes: &mut [u8]) -> io::Result<bool> {
        let Some((device, block)) = self.find(digest) else { return Ok(false) };
        self.devices[device].file.read_exact_at(bytes, u64::from(block) * BLOCK)?;
        Ok(true)
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
    pub(super) fn count(&self) -> usize {
        self.devices.len()
    }
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
