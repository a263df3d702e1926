//! A folder's blocks: entries at the front, their names behind them (`struct erofs_dirent`).

use super::format::{BLOCK, DIRENT_BYTES, u16_at, u64_at};

/// One name of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'n> {
    pub(super) name: &'n [u8],
    pub(super) nid: u64,
    pub(super) kind: u8,
}

/// How many of the names the first block takes, and its bytes: as many as fit.
fn first_block<'n>(names: impl Iterator<Item = &'n [u8]>) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for name in names {
        let more = DIRENT_BYTES + name.len();
        if bytes + more > BLOCK as usize {
            break;
        }
        (count, bytes) = (count + 1, bytes + more);
    }
    (count, bytes)
}

/// A folder's size: whole blocks, and of the last one what is used.
pub(super) fn size(names: &[Name<'_>]) -> u64 {
    let (mut rest, mut size) = (names, 0);
    loop {
        let (count, bytes) = first_block(rest.iter().map(|name| name.name));
        rest = &rest[count..];
        if rest.is_empty() {
            return size + bytes as u64;
        }
        size += BLOCK;
    }
}

/// The folder's bytes, as many as [`size`] says. The names are sorted.
pub(super) fn encode(names: &[Name<'_>]) -> Vec<u8> {
    let (mut rest, mut out) = (names, Vec::new());
    while !rest.is_empty() {
        let begin = out.len();
        let (count, _) = first_block(rest.iter().map(|name| name.name));
        assert!(count > 0, "a name has at most 255 bytes");
        let mut name_at = count * DIRENT_BYTES;
        for name in &rest[..count] {
            out.extend_from_slice(&name.nid.to_le_bytes());
            out.extend_from_slice(&(name_at as u16).to_le_bytes());
            out.extend_from_slice(&[name.kind, 0]);
            name_at += name.name.len();
        }
        rest[..count].iter().for_each(|name| out.extend_from_slice(name.name));
        rest = &rest[count..];
        if !rest.is_empty() {
            out.resize(begin + BLOCK as usize, 0);
        }
    }
    out
}

/// The names of one block, of which `bytes` are the folder's; `None` where it is damaged.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Name<'_>>> {
    // where the first name begins the entries end
    let first = usize::from(u16_at(bytes, 8)?);
    if first == 0 || first % DIRENT_BYTES != 0 {
        return None;
    }
    let count = first / DIRENT_BYTES;
    let name_at = |number: usize| Some(usize::from(u16_at(bytes, number * DIRENT_BYTES + 8)?));
    let mut names = Vec::with_capacity(count);
    for number in 0..count {
        let begin = name_at(number)?;
        let name = if number + 1 < count {
            bytes.get(begin..name_at(number + 1)?)?
        } else {
            // the last one ends with the block, or with a zero
            let rest = bytes.get(begin..)?;
            &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
        };
        let at = number * DIRENT_BYTES;
        names.push(Name { name, nid: u64_at(bytes, at)?, kind: *bytes.get(at + 10)? });
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_any_size_are_read_as_they_were_written() {
        for (count, length) in [(1, 1), (2, 255), (300, 9), (15, 255), (16, 255), (5000, 30)] {
            let names: Vec<Vec<u8>> =
                (0..count).map(|number| format!("{number:0length$}").into_bytes()).collect();
            let names: Vec<Name<'_>> =
                names.iter().map(|name| Name { name, nid: name.len() as u64, kind: 1 }).collect();
            let bytes = encode(&names);
            assert_eq!(bytes.len() as u64, size(&names), "{count} of {length}");
            let read: Vec<Name<'_>> =
                bytes.chunks(BLOCK as usize).flat_map(|block| decode(block).expect("a block")).collect();
            assert_eq!(read, names, "{count} of {length}");
        }
    }

    #[test]
    fn damage_is_no_folder() {
        for bytes in [&[][..], &[0; 12], &[1; 12], &[255; 40]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
