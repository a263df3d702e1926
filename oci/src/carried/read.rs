//! From packs and what is here to a cache's folder.

use super::{Carried, CarriedCache, CarriedError, write::cut_of};
use crate::{
    Digest,
    layer::{self, Kind, OverlayXattrs},
    limits,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
};

impl Carried {
    /// Unpacks a cache into the empty folder `target`, and answers the builder's record. `packs` are those that are
    /// [needed](Carried::needed), verified and open.
    ///
    /// # Errors
    /// When anything is not what the table says, or nothing that a cache may hold; what is in `target` then is to be removed.
    pub fn unpack(
        &self,
        cache: &CarriedCache,
        (packs, have): (&HashMap<Digest, File>, &Local),
        target: &Path,
        xattrs: OverlayXattrs,
    ) -> Result<Vec<u8>, CarriedError> {
        let reader =
            |chunks| Reader { carried: self, packs, have, chunks, now: Vec::new(), at: 0, failed: None };
        let mut source = reader(&cache.chunks);
        let unpacked = layer::unpack(&mut source, target, xattrs, None);
        if let Some(error) = source.failed {
            return Err(error);
        }
        let unpacked = unpacked?;
        if unpacked.diff_id != cache.archive {
            return Err(CarriedError::Archive(unpacked.diff_id));
        }
        for entry in unpacked.toc.entries() {
            let kind = match entry.kind {
                Kind::CharDevice | Kind::BlockDevice => "a device",
                Kind::Whiteout => "a whiteout",
                _ if entry.opaque => "a whiteout",
                _ => continue,
            };
            return Err(CarriedError::Entry(kind, entry.as_path().display().to_string()));
        }
        let (mut source, mut seen) = (reader(&cache.seen), Vec::new());
        let read = (&mut source).take(limits::CACHE_SEEN_BYTES).read_to_end(&mut seen);
        if let Some(error) = source.failed {
            return Err(error);
        }
        read?;
        Ok(seen)
    }
}

/// Chunks that are here already, in an archive of the cache as it is here.
#[derive(Default)]
pub struct Local {
    archive: Option<File>,
    places: HashMap<String, (u64, usize)>,
    /// Chunks of its record, by digest.
    seen: HashMap<String, Vec<u8>>,
}

impl Local {
    /// The chunks of an archive, and of the record beside it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(mut archive: File, record: &[u8]) -> io::Result<Local> {
        archive.seek(SeekFrom::Start(0))?;
        let (mut places, mut at) = (HashMap::new(), 0);
        for (of, size) in cut_of(&mut archive)?.0 {
            places.insert(of, (at, size));
            at += size as u64;
        }
        let (mut seen, mut rest) = (HashMap::new(), record);
        for (of, size) in cut_of(record)?.0 {
            let (chunk, after) = rest.split_at(size);
            seen.insert(of, chunk.to_vec());
            rest = after;
        }
        Ok(Local { archive: Some(archive), places, seen })
    }

    /// Whether a chunk is here.
    pub(super) fn has(&self, of: &str) -> bool {
        self.places.contains_key(of) || self.seen.contains_key(of)
    }

    fn read(&self, of: &str) -> io::Result<Option<Vec<u8>>> {
        match (self.places.get(of), &self.archive) {
            (Some((at, size)), Some(archive)) => {
                let mut bytes = vec![0; *size];
                archive.read_exact_at(&mut bytes, *at)?;
                Ok(Some(bytes))
            }
            _ => Ok(self.seen.get(of).cloned()),
        }
    }
}

/// A stream of chunks, each checked before a byte of it is given.
struct Reader<'a> {
    carried: &'a Carried,
    packs: &'a HashMap<Digest, File>,
    have: &'a Local,
    chunks: &'a [u32],
    now: Vec<u8>,
    at: usize,
    /// What was wrong; the reader's error cannot say it.
    failed: Option<CarriedError>,
}

impl Reader<'_> {
    fn chunk(&self, number: u32) -> Result<Vec<u8>, CarriedError> {
        let damaged = || CarriedError::Chunk(number as usize);
        let place = &self.carried.chunks[number as usize];
        let bytes = match self.have.read(&place.of)? {
            Some(bytes) => bytes,
            None => {
                let pack =
                    self.packs.get(&self.carried.packs[place.pack as usize].digest).ok_or_else(damaged)?;
                let mut stored = vec![0; place.stored as usize];
                pack.read_exact_at(&mut stored, place.at).map_err(|_| damaged())?;
                // no more than the table says is made of it, whatever the frame says
                zstd::bulk::decompress(&stored, place.size as usize).map_err(|_| damaged())?
            }
        };
        let is_right = bytes.len() == place.size as usize && Digest::sha256(&bytes).hex() == place.of;
        if is_right { Ok(bytes) } else { Err(damaged()) }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.now.len() {
            let Some((next, rest)) = self.chunks.split_first() else { return Ok(0) };
            self.chunks = rest;
            match self.chunk(*next) {
                Ok(bytes) => (self.now, self.at) = (bytes, 0),
                Err(error) => {
                    self.failed = Some(error);
                    return Err(io::Error::other("a chunk is damaged"));
                }
            }
        }
        let count = buffer.len().min(self.now.len() - self.at);
        buffer[..count].copy_from_slice(&self.now[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
