//! The structures on disk (fs/erofs/erofs_fs.h), encoded and decoded by hand: every field has its place in bytes.

use crate::layer::Kind;

/// Bytes of a block. Every kernel takes 4096; larger ones need larger pages.
pub(super) const BLOCK: u64 = 4096;
/// Bytes of an inode slot: nodes are numbered by them.
pub(super) const SLOT: u64 = 32;
/// Bytes of the extended inode.
pub(super) const INODE_BYTES: u64 = 64;
/// Where the superblock is (`EROFS_SUPER_OFFSET`).
pub(super) const SUPER_OFFSET: u64 = 1024;
/// Bytes of the superblock.
pub(super) const SUPER_BYTES: usize = 128;
/// The slot of the root: 0 means none in places.
pub(super) const ROOT_NID: u64 = 1;
/// Bytes of a further device's slot (`EROFS_DEVT_SLOT_SIZE`).
const SLOT_OF_DEVICE: usize = 128;
/// Bytes of a slot that say which device is meant.
pub(super) const TAG_BYTES: usize = 64;
/// Where the table of further devices begins, in slots: behind the superblock, in its block.
const DEVICE_TABLE: usize = (SUPER_OFFSET as usize + SUPER_BYTES) / SLOT_OF_DEVICE;
/// Most further devices of one file: what is left of the first block has room for more.
pub(super) const MOST_DEVICES: usize = 8;
/// A block address that is none (`EROFS_NULL_ADDR`).
pub(super) const NO_BLOCK: u32 = u32::MAX;
/// Bytes of a folder's entry, its name not counted.
pub(super) const DIRENT_BYTES: usize = 12;

/// `EROFS_SUPER_MAGIC_V1` (linux/magic.h).
const MAGIC: u32 = 0xE0F5_E1E2;
const BLOCK_BITS: u8 = 12;
/// `EROFS_FEATURE_COMPAT_MTIME`: times are those of modification.
const COMPAT_MTIME: u32 = 2;
/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE` and `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`: there are further devices, and files in
/// them (Linux 5.16).
const INCOMPAT_DEVICES: u32 = 4 | 8;
/// `EROFS_CHUNK_FORMAT_INDEXES`: a chunk's place names its device.
const CHUNK_INDEXES: u32 = 0x20;
/// Bytes of a chunk's place (`struct erofs_inode_chunk_index`), and what it is aligned to.
pub(super) const CHUNK_INDEX_BYTES: u64 = 8;
/// `EROFS_INODE_LAYOUT_EXTENDED`.
const EXTENDED: u16 = 1;

/// Where an inode's bytes are (`i_format`, bits 1 to 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In blocks of their own (`EROFS_INODE_FLAT_PLAIN`).
    Blocks,
    /// Behind the inode (`EROFS_INODE_FLAT_INLINE`).
    Inline,
    /// In one chunk, whose place is behind the inode (`EROFS_INODE_CHUNK_BASED`).
    Chunk,
}

/// The format of a file's chunks (`struct erofs_inode_chunk_info`), so long that one holds `size` bytes.
pub(super) fn chunk_format(size: u64) -> u32 {
    let blocks = size.div_ceil(BLOCK).max(1);
    CHUNK_INDEXES | blocks.next_power_of_two().trailing_zeros().min(31)
}

/// Where a chunk is: at this block of a further device, which are numbered from 1.
pub(super) fn chunk_index(device: u16, block: u32) -> [u8; CHUNK_INDEX_BYTES as usize] {
    let mut out = [0; CHUNK_INDEX_BYTES as usize];
    put(&mut out, 2, &device.to_le_bytes());
    put(&mut out, 4, &block.to_le_bytes());
    out
}

/// Reads what [`chunk_index`] wrote.
pub(super) fn decode_chunk_index(bytes: &[u8; CHUNK_INDEX_BYTES as usize]) -> Option<(u16, u32)> {
    Some((u16_at(bytes, 2)?, u32_at(bytes, 4)?))
}

/// A further device: another file (`struct erofs_deviceslot`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceSlot {
    /// Says which file is meant; the kernel does not look at it.
    pub(super) tag: [u8; TAG_BYTES],
    pub(super) blocks: u32,
}

/// What the first block says: superblock and further devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) xattr_block: u32,
    pub(super) uuid: [u8; 16],
    pub(super) devices: Vec<DeviceSlot>,
}

impl Superblock {
    /// The first block.
    pub(super) fn encode(&self) -> [u8; BLOCK as usize] {
        assert!(self.devices.len() <= MOST_DEVICES, "{} further devices", self.devices.len());
        let mut block = [0; BLOCK as usize];
        let out = &mut block[SUPER_OFFSET as usize..];
        put(out, 0, &MAGIC.to_le_bytes());
        put(out, 8, &COMPAT_MTIME.to_le_bytes());
        out[12] = BLOCK_BITS;
        put(out, 14, &(ROOT_NID as u16).to_le_bytes());
        put(out, 16, &self.inodes.to_le_bytes());
        put(out, 36, &self.blocks.to_le_bytes());
        put(out, 40, &self.meta_block.to_le_bytes());
        put(out, 44, &self.xattr_block.to_le_bytes());
        put(out, 48, &self.uuid);
        if !self.devices.is_empty() {
            put(out, 80, &INCOMPAT_DEVICES.to_le_bytes());
            put(out, 86, &(self.devices.len() as u16).to_le_bytes());
            put(out, 88, &(DEVICE_TABLE as u16).to_le_bytes());
        }
        for (number, device) in self.devices.iter().enumerate() {
            let slot = &mut block[(DEVICE_TABLE + number) * SLOT_OF_DEVICE..][..SLOT_OF_DEVICE];
            put(slot, 0, &device.tag);
            put(slot, 64, &device.blocks.to_le_bytes());
        }
        block
    }

    /// `None` where it is not one of ours.
    pub(super) fn decode(block: &[u8; BLOCK as usize]) -> Option<Superblock> {
        let bytes = &block[SUPER_OFFSET as usize..];
        // no other feature that a reader must know
        let count = match u32_at(bytes, 80)? {
            0 => 0,
            INCOMPAT_DEVICES if usize::from(u16_at(bytes, 88)?) == DEVICE_TABLE => u16_at(bytes, 86)?.into(),
            _ => return None,
        };
        let ours = u32_at(bytes, 0)? == MAGIC
            && bytes[12] == BLOCK_BITS
            && u64::from(u16_at(bytes, 14)?) == ROOT_NID
            && count <= MOST_DEVICES;
        let slot = |number: usize| {
            let slot = &block[(DEVICE_TABLE + number) * SLOT_OF_DEVICE..][..SLOT_OF_DEVICE];
            let tag = slot[..TAG_BYTES].try_into().ok()?;
            Some(DeviceSlot { tag, blocks: u32_at(slot, 64)? })
        };
        ours.then_some(Superblock {
            inodes: u64_at(bytes, 16)?,
            blocks: u32_at(bytes, 36)?,
            meta_block: u32_at(bytes, 40)?,
            xattr_block: u32_at(bytes, 44)?,
            uuid: bytes[48..64].try_into().ok()?,
            devices: (0..count).map(slot).collect::<Option<_>>()?,
        })
    }
}

/// What an inode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawInode {
    pub(super) place: Place,
    /// Bytes of attributes behind it, header included; a multiple of four.
    pub(super) xattr_bytes: u64,
    /// With the bits of the type.
    pub(super) mode: u16,
    pub(super) size: u64,
    /// The first block, the number of a device, or the format of chunks.
    pub(super) block_or_device: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) links: u32,
}

impl RawInode {
    pub(super) fn encode(&self) -> [u8; INODE_BYTES as usize] {
        let mut out = [0; INODE_BYTES as usize];
        let place = match self.place {
            Place::Blocks => 0,
            Place::Inline => 2,
            Place::Chunk => 4,
        };
        put(&mut out, 0, &(EXTENDED | place << 1).to_le_bytes());
        put(&mut out, 2, &xattr_count(self.xattr_bytes).to_le_bytes());
        put(&mut out, 4, &self.mode.to_le_bytes());
        put(&mut out, 8, &self.size.to_le_bytes());
        put(&mut out, 16, &self.block_or_device.to_le_bytes());
        put(&mut out, 20, &self.number.to_le_bytes());
        put(&mut out, 24, &self.uid.to_le_bytes());
        put(&mut out, 28, &self.gid.to_le_bytes());
        put(&mut out, 32, &self.mtime.to_le_bytes());
        put(&mut out, 44, &self.links.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; INODE_BYTES as usize]) -> Option<RawInode> {
        let place = match u16_at(bytes, 0)? {
            format if format == EXTENDED => Place::Blocks,
            format if format == EXTENDED | 2 << 1 => Place::Inline,
            format if format == EXTENDED | 4 << 1 => Place::Chunk,
            _ => return None,
        };
        let count = u64::from(u16_at(bytes, 2)?);
        Some(RawInode {
            place,
            xattr_bytes: if count == 0 { 0 } else { XATTR_HEADER_BYTES + 4 * (count - 1) },
            mode: u16_at(bytes, 4)?,
            size: u64_at(bytes, 8)?,
            block_or_device: u32_at(bytes, 16)?,
            number: u32_at(bytes, 20)?,
            uid: u32_at(bytes, 24)?,
            gid: u32_at(bytes, 28)?,
            mtime: u64_at(bytes, 32)? as i64,
            links: u32_at(bytes, 44)?,
        })
    }
}

/// Bytes of the header in front of an inode's attributes (`struct erofs_xattr_ibody_header`).
pub(super) const XATTR_HEADER_BYTES: u64 = 12;
/// Most bytes of attributes behind one inode: `i_xattr_icount` has 16 bits.
pub(super) const MOST_XATTR_BYTES: u64 = XATTR_HEADER_BYTES + 4 * (u16::MAX as u64 - 1);

/// `i_xattr_icount` for so many bytes.
fn xattr_count(bytes: u64) -> u16 {
    if bytes == 0 {
        return 0;
    }
    assert!(
        (XATTR_HEADER_BYTES..=MOST_XATTR_BYTES).contains(&bytes) && bytes.is_multiple_of(4),
        "{bytes} of attributes"
    );
    ((bytes - XATTR_HEADER_BYTES) / 4 + 1) as u16
}

/// The type bits of a mode (stat(2)).
pub(super) fn type_bits(kind: Kind) -> u16 {
    let bits = match kind {
        Kind::File | Kind::Hardlink => libc::S_IFREG,
        Kind::Directory => libc::S_IFDIR,
        Kind::Symlink => libc::S_IFLNK,
        Kind::CharDevice | Kind::Whiteout => libc::S_IFCHR,
        Kind::BlockDevice => libc::S_IFBLK,
        Kind::Fifo => libc::S_IFIFO,
    };
    bits as u16
}

/// The type in a folder's entry (`FT_*`, linux/fs_types.h).
pub(super) fn entry_type(mode: u16) -> u8 {
    match u32::from(mode) & libc::S_IFMT {
        libc::S_IFREG => 1,
        libc::S_IFDIR => 2,
        libc::S_IFCHR => 3,
        libc::S_IFBLK => 4,
        libc::S_IFIFO => 5,
        libc::S_IFSOCK => 6,
        libc::S_IFLNK => 7,
        _ => 0,
    }
}

/// A device's number as inodes have it (`new_encode_dev`, linux/kdev_t.h); `None` where it does not fit.
pub(super) fn encode_device((major, minor): (u32, u32)) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
