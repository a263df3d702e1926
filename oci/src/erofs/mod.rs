//! Layers as files that the kernel mounts: EROFS images, written in one pass and never taken from anybody else.
//!
//! An unpacked layer costs an inode of the host's file system for each of its paths, and again when it goes. The same
//! layer as one file costs one inode; the kernel mounts it in a fraction of a millisecond, from the file itself (Linux
//! 6.12) or through a loop device, and overlayfs takes the mount as a lower layer.
//!
//! # What is written
//!
//! The kernel's uncompressed core format (Documentation/filesystems/erofs.rst; structures in fs/erofs/erofs_fs.h), blocks
//! of 4096 bytes, all numbers little-endian:
//!
//! ```text
//! block 0    nothing but the superblock at byte 1024; written last
//! blocks     content of files, each on a block of its own beginning, in the order of the archive, each content once;
//!            blocks of zeros are holes of the file
//! `tables`   blocks of folders and of links that do not fit behind their inodes
//! blocks     attributes that are large or that several paths have (`xattr_blkaddr`)
//! blocks     inodes in slots of 32 bytes (`meta_blkaddr`), the root in slot 1: 64 bytes each (the extended form), then
//!            attributes, then a small folder's or link's own bytes
//! ```
//!
//! So content needs no memory and is written once, while the archive streams by; what is held until the end is the
//! layer's table of contents, out of which everything from `tables` on is made ([`write`]). Equal tables and contents in
//! equal order make equal files where no earlier file has any of them.
//!
//! - An inode that has its bytes behind it lies in one block with them: the kernel looks no further for a link's text
//!   (fs/erofs/inode.c, `erofs_fill_symlink`).
//! - A folder's entries are sorted by the bytes of their names, `.` and `..` among them: the kernel looks for a block by
//!   halving, and then in the block (fs/erofs/namei.c).
//! - Deletions are character devices 0:0 and `trusted.overlay.opaque` marks folders, as in an unpacked layer.
//! - Attributes and modes are what the kernel would have made of the same calls on a folder ([`attributes`]): an access
//!   list that says no more than the mode becomes the mode, and one that says nonsense fails the layer.
//! - The UUID is drawn from the table of contents: overlayfs tells lower layers apart by it.
//! - Contents that an earlier layer's file has already are not written again: that file becomes a further device
//!   ([`Earlier`]). Where nobody knows beforehand what comes, earlier layers are looked for on the way ([`Seeking`]).
//!
//! # What cannot be held
//!
//! An attribute of exactly 64 KiB (a value's length has 16 bits), more than 256 KiB of attributes that are not shared on one
//! path, device numbers beyond 12 and 20 bits, a link of 4096 bytes or more. No file system that layers are unpacked on takes
//! any of these. Times are 64 bits of seconds, so years before 1901 and after 2446, which ext4 clamps, are kept.
//! Folders report their own sizes (bytes of entries), and files `st_blocks` as if they had no holes.
//!
//! # What is trusted
//!
//! Only files that this program wrote, in a store that is its owner's alone, are mounted or read. The store's row has the
//! length of the file and the digest of all that the kernel parses: superblock and everything from `tables` on
//! ([`Written::is_whole`]).

mod attributes;
mod earlier;
mod folder;
mod format;
mod nodes;
mod pages;
mod read;
mod seek;
#[cfg(test)]
mod tests;
mod write;

pub use earlier::{Device, Earlier};
pub use read::{Content, Image, Inode};
pub(crate) use seek::{Search, Seeking};
pub use write::Written;
pub(crate) use write::{Writer, check};
