//! What becomes of a path's mode and extended attributes, and where they go.
//!
//! An unpacked layer has what the kernel made of the calls that set them; a layer in a file has no kernel in between, so
//! the kernel's rules are here: fs/xattr.c, fs/posix_acl.c, security/commoncap.c.

use super::format::{MOST_XATTR_BYTES, XATTR_HEADER_BYTES, type_bits, u16_at, u32_at};
use crate::layer::{Entry, Kind, LayerError, OverlayXattrs, io_at};
use rustix::io::Errno;
use std::collections::HashMap;

/// Name indexes (fs/erofs/erofs_fs.h): the beginning of a name that is not written out.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Longest name with its prefix (`XATTR_NAME_MAX`, linux/limits.h).
const NAME_BYTES: usize = 255;
/// Values beyond this are shared, so that inodes stay close to each other.
const INLINE_VALUE_BYTES: usize = 256;
/// Attributes of one path beyond this are shared.
const INLINE_BYTES: usize = 1024;
/// Most shared attributes of one path: their count has 8 bits.
const MOST_SHARED: usize = 255;

/// A path's mode with its type, and its attributes, each as the kernel keeps them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u16,
    /// Sorted by name.
    pub(super) values: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the kernel would have kept of `entry` on a file system that takes everything.
pub(super) fn of(entry: &Entry) -> Result<Attributes, LayerError> {
    let refused = |errno: Errno| io_at("set an attribute of", entry.as_path())(errno.into());
    // links have no mode of their own (symlink(7)); nobody reads a deletion's
    let mode = match entry.kind {
        Kind::Symlink => 0o777,
        Kind::Whiteout => 0,
        _ => (entry.mode & 0o7777) as u16,
    };
    let mut found = Attributes { mode: type_bits(entry.kind) | mode, values: Vec::new() };
    if entry.opaque && entry.is_directory() {
        found.values.push((OverlayXattrs::Trusted.opaque().into(), b"y".to_vec()));
    }
    for (name, value) in &entry.xattrs {
        if kept(entry.kind, &mut found.mode, name, value).map_err(refused)? {
            if value.len() > usize::from(u16::MAX) {
                return Err(LayerError::Limit { what: "bytes in one attribute", most: u16::MAX.into() });
            }
            found.values.push((name.clone(), value.clone()));
        }
    }
    found.values.sort();
    Ok(found)
}

/// Whether setxattr(2) by root would keep the attribute; `Ok(false)` is what the unpacker passes over, or what went into
/// `mode`.
fn kept(kind: Kind, mode: &mut u16, name: &[u8], value: &[u8]) -> Result<bool, Errno> {
    if name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if name.len() > NAME_BYTES {
        return Err(Errno::RANGE);
    }
    match name {
        b"security.capability" => match value.is_empty() || is_capability(value) {
            true => Ok(true),
            false => Err(Errno::INVAL),
        },
        // no links with access lists (`vfs_set_acl`)
        b"system.posix_acl_access" | b"system.posix_acl_default" if kind == Kind::Symlink => Ok(false),
        b"system.posix_acl_access" => access_list(value, mode),
        b"system.posix_acl_default" => match (parse_list(value)?, kind) {
            (None, _) => Ok(false),
            (Some(list), Kind::Directory) => check_list(&list).map(|()| true),
            (Some(_), _) => Err(Errno::ACCESS),
        },
        b"user." => Err(Errno::INVAL),
        // `xattr_permission`: files and folders only, which is passed over
        _ => Ok(matches!(kind, Kind::File | Kind::Directory)),
    }
}

/// `validheader` of security/commoncap.c: revisions 2 and 3 of `struct vfs_cap_data`.
fn is_capability(value: &[u8]) -> bool {
    const EFFECTIVE: u32 = 1;
    let revision = u32_at(value, 0).map(|magic| magic & !EFFECTIVE);
    matches!((value.len(), revision), (20, Some(0x0200_0000)) | (24, Some(0x0300_0000)))
}

/// An access list's entry (linux/posix_acl_xattr.h).
struct Right {
    tag: u16,
    permissions: u16,
    id: u32,
}

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// `posix_acl_from_xattr`; `None` where nothing is set.
fn parse_list(value: &[u8]) -> Result<Option<Vec<Right>>, Errno> {
    if value.is_empty() {
        return Ok(None);
    }
    let version = u32_at(value, 0).ok_or(Errno::INVAL)?;
    if version != 2 {
        // `EOPNOTSUPP`, which is passed over
        return Ok(None);
    }
    if !(value.len() - 4).is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    let right = |bytes: &[u8]| {
        Some(Right { tag: u16_at(bytes, 0)?, permissions: u16_at(bytes, 2)?, id: u32_at(bytes, 4)? })
    };
    let list: Vec<Right> = value[4..].chunks_exact(8).filter_map(right).collect();
    Ok((!list.is_empty()).then_some(list))
}

/// `posix_acl_valid`.
fn check_list(list: &[Right]) -> Result<(), Errno> {
    let (mut expected, mut needs_mask) = (USER_OBJ, false);
    for right in list {
        if right.permissions & !7 != 0 {
            return Err(Errno::INVAL);
        }
        expected = match (right.tag, expected) {
            (USER_OBJ, USER_OBJ) => USER,
            (USER, USER) | (GROUP, GROUP) if right.id != u32::MAX => {
                needs_mask = true;
                expected
            }
            (GROUP_OBJ, USER) => GROUP,
            (MASK, GROUP) => OTHER,
            (OTHER, OTHER) => 0,
            (OTHER, GROUP) if !needs_mask => 0,
            _ => return Err(Errno::INVAL),
        };
    }
    if expected == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

/// `posix_acl_update_mode`: the list says the mode; whether it says more, and is kept.
fn access_list(value: &[u8], mode: &mut u16) -> Result<bool, Errno> {
    let Some(list) = parse_list(value)? else { return Ok(false) };
    check_list(&list)?;
    let (mut bits, mut more) = (0, false);
    for right in &list {
        match right.tag {
            USER_OBJ => bits |= right.permissions << 6,
            GROUP_OBJ => bits |= right.permissions << 3,
            OTHER => bits |= right.permissions,
            MASK => {
                bits = bits & !0o070 | right.permissions << 3;
                more = true;
            }
            _ => more = true,
        }
    }
    *mode = *mode & !0o777 | bits;
    Ok(more)
}

/// What of a path's attributes lies where.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Ids of those that are shared.
    shared: Vec<u32>,
    /// Those behind the inode, as they are written.
    inline: Vec<u8>,
}

impl Placed {
    /// Bytes behind the inode.
    pub(super) fn bytes(&self) -> u64 {
        if self.shared.is_empty() && self.inline.is_empty() {
            return 0;
        }
        XATTR_HEADER_BYTES + 4 * self.shared.len() as u64 + self.inline.len() as u64
    }

    /// Adds what lies behind the inode to `out` (`struct erofs_xattr_ibody_header` and what follows).
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if self.bytes() == 0 {
            return;
        }
        let mut header = [0; XATTR_HEADER_BYTES as usize];
        header[4] = u8::try_from(self.shared.len()).expect("no more are shared");
        out.extend_from_slice(&header);
        self.shared.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        out.extend_from_slice(&self.inline);
    }
}

/// Attributes that several paths have, or that are large: each once, found by its place.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Shared {
    /// Places a path's attributes.
    pub(super) fn place(&mut self, values: &[(Vec<u8>, Vec<u8>)]) -> Result<Placed, LayerError> {
        let mut placed = Placed::default();
        for (name, value) in values {
            let encoded = encode(name, value);
            let is_small =
                value.len() <= INLINE_VALUE_BYTES && placed.inline.len() + encoded.len() <= INLINE_BYTES;
            if is_small || placed.shared.len() == MOST_SHARED {
                placed.inline.extend_from_slice(&encoded);
            } else {
                placed.shared.push(self.id(encoded)?);
            }
        }
        match placed.bytes() > MOST_XATTR_BYTES {
            true => {
                Err(LayerError::Limit { what: "bytes of attributes on one path", most: MOST_XATTR_BYTES })
            }
            false => Ok(placed),
        }
    }

    fn id(&mut self, encoded: Vec<u8>) -> Result<u32, LayerError> {
        if let Some(id) = self.known.get(&encoded) {
            return Ok(*id);
        }
        let id = u32::try_from(self.bytes.len() / 4);
        let id =
            id.map_err(|_| LayerError::Limit { what: "bytes of attributes", most: u64::from(u32::MAX) * 4 })?;
        self.bytes.extend_from_slice(&encoded);
        self.known.insert(encoded, id);
        Ok(id)
    }
}

/// `struct erofs_xattr_entry` with name and value, filled up to four bytes.
fn encode(name: &[u8], value: &[u8]) -> Vec<u8> {
    let known = PREFIXES.iter().find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)));
    let (index, rest) = known.expect("only attributes of these kinds are portable");
    let mut out = vec![rest.len() as u8, index];
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// An attribute's name and value.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// The attribute that begins `bytes`, and what it takes; `None` where it is cut off or of an unknown kind.
pub(super) fn decode(bytes: &[u8]) -> Option<(Attribute, usize)> {
    let (length, index) = (usize::from(*bytes.first()?), *bytes.get(1)?);
    let value_at = 4 + length;
    let end = value_at + usize::from(u16_at(bytes, 2)?);
    let prefix = PREFIXES.iter().find(|(known, _)| *known == index)?.1;
    let name = [prefix, bytes.get(4..value_at)?].concat();
    Some(((name, bytes.get(value_at..end)?.to_vec()), end.next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rights: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in rights {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&permissions.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    #[test]
    fn an_access_list_says_the_mode() {
        const NONE: u32 = u32::MAX;
        let plain = list(&[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 1, NONE)]);
        let named = list(&[
            (USER_OBJ, 6, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 4, NONE),
            (MASK, 2, NONE),
            (OTHER, 0, NONE),
        ]);
        let other = [b"\x03\0\0\0".to_vec(), vec![0; 8]].concat();
        for (value, expected, mode) in [
            (plain, Ok(false), 0o4751),
            (named, Ok(true), 0o4620),
            (list(&[]), Ok(false), 0o4644),
            (Vec::new(), Ok(false), 0o4644),
            (other, Ok(false), 0o4644),
            (list(&[(USER_OBJ, 7, NONE)]), Err(Errno::INVAL), 0o4644),
            (list(&[(USER_OBJ, 8, NONE), (GROUP_OBJ, 0, NONE), (OTHER, 0, NONE)]), Err(Errno::INVAL), 0o4644),
            (list(&[(GROUP_OBJ, 0, NONE), (USER_OBJ, 0, NONE), (OTHER, 0, NONE)]), Err(Errno::INVAL), 0o4644),
            (
                // a named user and no mask
                list(&[(USER_OBJ, 0, NONE), (USER, 0, 5), (GROUP_OBJ, 0, NONE), (OTHER, 0, NONE)]),
                Err(Errno::INVAL),
                0o4644,
            ),
            (list(&[(0x40, 0, NONE)]), Err(Errno::INVAL), 0o4644),
            (b"\x02\0\0\0\x01".to_vec(), Err(Errno::INVAL), 0o4644),
            (b"\x02\0".to_vec(), Err(Errno::INVAL), 0o4644),
        ] {
            let mut found = 0o4644;
            assert_eq!(access_list(&value, &mut found), expected, "{value:?}");
            assert_eq!(found, mode, "{value:?}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let capability = |magic: u32, length: usize| {
            let mut value = magic.to_le_bytes().to_vec();
            value.resize(length, 0);
            value
        };
        let access = b"system.posix_acl_default";
        let some = list(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 7, 0), (OTHER, 7, 0)]);
        for (kind, name, value, expected) in [
            (Kind::File, b"security.capability".to_vec(), capability(0x0200_0001, 20), Ok(true)),
            (Kind::File, b"security.capability".to_vec(), capability(0x0300_0000, 24), Ok(true)),
            (Kind::File, b"security.capability".to_vec(), capability(0x0300_0000, 20), Err(Errno::INVAL)),
            (Kind::File, b"security.capability".to_vec(), capability(0x0100_0000, 12), Err(Errno::INVAL)),
            (Kind::File, b"security.capability".to_vec(), vec![1], Err(Errno::INVAL)),
            (Kind::Directory, b"user.k".to_vec(), vec![], Ok(true)),
            (Kind::Symlink, b"user.k".to_vec(), vec![1], Ok(false)),
            (Kind::Fifo, b"user.k".to_vec(), vec![1], Ok(false)),
            (Kind::File, b"user.".to_vec(), vec![1], Err(Errno::INVAL)),
            (Kind::File, b"user.a\0b".to_vec(), vec![1], Err(Errno::INVAL)),
            (Kind::File, [&b"user."[..], &[b'n'; 250]].concat(), vec![1], Ok(true)),
            (Kind::File, [&b"user."[..], &[b'n'; 251]].concat(), vec![1], Err(Errno::RANGE)),
            (Kind::Directory, access.to_vec(), some.clone(), Ok(true)),
            (Kind::File, access.to_vec(), some.clone(), Err(Errno::ACCESS)),
            (Kind::Symlink, access.to_vec(), some, Ok(false)),
        ] {
            assert_eq!(kept(kind, &mut 0o644, &name, &value), expected, "{kind:?} {name:?} {value:?}");
        }
    }

    #[test]
    fn attributes_are_read_as_they_were_written() {
        for (name, length) in [("user.a", 0), ("trusted.overlay.opaque", 1), ("system.posix_acl_access", 28)]
        {
            let value = vec![9; length];
            let bytes = encode(name.as_bytes(), &value);
            assert_eq!(decode(&bytes), Some(((name.as_bytes().to_vec(), value), bytes.len())));
            for cut in 0..4 + length {
                assert_eq!(decode(&bytes[..cut]), None, "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn large_and_many_are_shared_and_kept_once() {
        let mut shared = Shared::default();
        let value = |name: &str, length: usize| (name.as_bytes().to_vec(), vec![1; length]);
        let small = shared.place(&[value("user.a", 3)]).expect("placed");
        assert_eq!((small.bytes(), shared.bytes.len()), (12 + 8, 0));
        let large = [value("user.a", 3), value("user.b", 60_000)];
        let first = shared.place(&large).expect("placed");
        let bytes = shared.bytes.len();
        assert_eq!(first.bytes(), 12 + 8 + 4);
        shared.place(&large).expect("placed");
        assert_eq!((bytes, shared.bytes.len()), (60_008, 60_008));
        let many: Vec<_> = (0..400).map(|number| value(&format!("user.{number}"), 40)).collect();
        assert!(shared.place(&many).expect("placed").bytes() > 12 + 4 * 255 + 1000);
        let too_many: Vec<_> = (0..10_000).map(|number| value(&format!("user.{number}"), 40)).collect();
        assert!(matches!(shared.place(&too_many), Err(LayerError::Limit { .. })));
    }
}
