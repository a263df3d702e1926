//! The bytes of one file on their way out of an archive.

use super::{LayerError, entry::Entry, io_at, unpack::bad};
use crate::{Digest, Hasher, digest::CONTENT};
use std::io::{self, Read, Write};

/// So much of a file is copied and digested together, in bytes: what BLAKE3 takes sixteen lanes for. Nothing is passed on in
/// parts, for a digest that was once begun out of step stays slow.
const COPIED_BYTES: usize = 16 << 10;

/// Copies a file's bytes and digests them; fewer than its header says are an error.
pub(crate) fn copy_digested(
    source: &mut (impl Read + ?Sized),
    target: &mut impl Write,
    entry: &Entry,
) -> Result<Digest, LayerError> {
    let (mut hasher, mut count) = (Hasher::new(CONTENT), 0);
    let mut buffer = [0; COPIED_BYTES];
    loop {
        let filled = fill(source, &mut buffer).map_err(LayerError::Archive)?;
        hasher.update(&buffer[..filled]);
        target.write_all(&buffer[..filled]).map_err(io_at("write", entry.as_path()))?;
        count += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    if count != entry.size_bytes {
        return Err(bad(&entry.path, "fewer bytes than its header says"));
    }
    Ok(hasher.finish())
}

/// Reads until `buffer` is full or the source ends; answers how much that is.
fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
