//! What an archive's headers say of an entry.

use super::{
    LayerError,
    archive::Item,
    entry::{Entry, Kind},
    unpack::{bad, clean},
    xattr,
};
use crate::limits;
use std::{collections::BTreeMap, io};

/// What a layer's entry says of its path.
pub(crate) fn describe(item: &Item) -> Result<Entry, LayerError> {
    let raw = &item.path;
    let path = clean(raw).ok_or_else(|| bad(raw, "a path with `..`, or too long or deep"))?;
    let entry = describe_at(item, path)?;
    if entry.path.is_empty() && !entry.is_directory() {
        return Err(bad(raw, "the root of the layer is no folder"));
    }
    Ok(entry)
}

/// What an archive's entry says of the path that its name was found to mean.
pub(super) fn describe_at(item: &Item, path: Vec<u8>) -> Result<Entry, LayerError> {
    let (raw, header) = (&item.path, &item.header);
    let kind = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => Kind::File,
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink,
        tar::EntryType::Link => Kind::Hardlink,
        tar::EntryType::Char => Kind::CharDevice,
        tar::EntryType::Block => Kind::BlockDevice,
        tar::EntryType::Fifo => Kind::Fifo,
        _ => return Err(bad(raw, "an entry of a type that is not known")),
    };
    // old tars mark a folder by the slash alone
    let kind = if kind == Kind::File && raw.ends_with(b"/") { Kind::Directory } else { kind };
    let fields = header.as_old();
    // a field that was left empty is 0 to every tar
    let is_empty = |field: &[u8]| field.iter().all(|byte| matches!(byte, 0 | b' '));
    let id = |value: io::Result<u64>, field: &[u8]| {
        let value = value.or_else(|error| if is_empty(field) { Ok(0) } else { Err(error) });
        let value = value.map_err(|_| bad(raw, "an owner that is no number"))?;
        u32::try_from(value).map_err(|_| bad(raw, "an owner that does not fit 32 bits"))
    };
    let record =
        |key: &[u8]| item.pax.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_slice());
    let mode = if is_empty(&fields.mode) { 0 } else { header.mode().map_err(LayerError::Archive)? };
    let mut entry = Entry::new(path, kind, mode & 0o7777);
    let own = |value: io::Result<u64>, field: &[u8], key: &[u8]| match record(key) {
        Some(value) => parse_number(raw, value),
        None => id(value, field),
    };
    entry.uid = own(header.uid(), &fields.uid, b"uid")?;
    entry.gid = own(header.gid(), &fields.gid, b"gid")?;
    entry.mtime = match record(b"mtime") {
        Some(value) => parse_number(raw, value.split(|byte| *byte == b'.').next().unwrap_or_default())?,
        None if is_empty(&fields.mtime) => 0,
        None => header.mtime().map_err(LayerError::Archive)? as i64,
    };
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        let device = |value: io::Result<Option<u32>>| {
            value.map(Option::unwrap_or_default).map_err(LayerError::Archive)
        };
        entry.device = (device(header.device_major())?, device(header.device_minor())?);
    }
    if kind == Kind::File {
        entry.size_bytes = item.size_bytes;
    }
    if matches!(kind, Kind::Symlink | Kind::Hardlink) {
        entry.link = item.link.clone();
        if entry.link.is_empty() || entry.link.len() > limits::PATH_BYTES || entry.link.contains(&0) {
            return Err(bad(raw, "a link with no target or too long a one"));
        }
    }
    let attributes =
        item.pax.iter().filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?, value)));
    let kept =
        attributes.filter(|(name, value)| xattr::is_portable(name) && value.len() <= limits::XATTR_BYTES);
    // of two records of one name the later counts (POSIX pax, "pax Extended Header")
    let attributes: BTreeMap<Vec<u8>, Vec<u8>> =
        kept.map(|(name, value)| (name.to_vec(), value.clone())).collect();
    entry.xattrs = attributes.into_iter().collect();
    Ok(entry)
}

fn parse_number<N: std::str::FromStr>(path: &[u8], value: &[u8]) -> Result<N, LayerError> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| bad(path, "an extended header that holds no number where one belongs"))
}
