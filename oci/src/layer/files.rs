//! An archive of files that is no layer, such as ADD unpacks: nothing in it means a deletion, its order counts, and what
//! its names mean is the unpacker's to say.
//!
//! It is read once, as hostile as any. The files' bytes go one after the other into a nameless file; nothing is made
//! under a name that the archive chose.

use super::{
    LayerError,
    archive::Archive,
    describe::describe_at,
    entry::{Entry, Kind},
};
use crate::{
    Algorithm, Digest,
    digest::{CONTENT, HashingReader},
    limits,
    unpacking::TooMuch,
};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::PathBuf,
};

/// An archive that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("it cannot be read{}", after.as_ref().map(|path| format!(" after its entry `{}`", path.display())).unwrap_or_default())]
    Read {
        /// The last entry that was read.
        after: Option<PathBuf>,
        /// Why not.
        source: io::Error,
    },
    /// An entry is refused.
    #[error("its entry `{}`: {reason}", path.display())]
    Entry {
        /// The entry's name as written.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A bomb or an accident.
    #[error("it has more {what} than the {most} that are taken")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The cap.
        most: u64,
    },
    /// A bomb, or more than was expected.
    #[error("it is too large")]
    TooMuch(#[source] TooMuch),
    /// The place for the files' bytes failed.
    #[error("its files cannot be kept")]
    Keep(#[source] io::Error),
}

/// The files of an archive, in its order.
#[derive(Debug)]
pub struct FileArchive {
    data: File,
    entries: Vec<Entry>,
    /// Where an entry's bytes begin.
    starts: Vec<u64>,
    digest: Digest,
}

impl FileArchive {
    /// Reads the archive `source`, uncompressed, whose bytes on the way to here had the digest that `digest` answers at
    /// the end; the files' bytes go to the empty file `data`.
    pub fn read(source: impl Read, data: File) -> Result<FileArchive, ArchiveError> {
        let mut hashing = HashingReader::new(source, Algorithm::Sha256);
        let mut archive = Archive::new(&mut hashing);
        let (mut entries, mut starts) = (Vec::<Entry>::new(), Vec::new());
        let mut keep = Keep { data, at: 0 };
        loop {
            let last = entries.last().map(Entry::to_path);
            let read = |source| ArchiveError::Read { after: last.clone(), source };
            let Some(item) = archive.next_item().map_err(read)? else { break };
            if entries.len() as u64 >= limits::LAYER_ENTRIES {
                return Err(ArchiveError::Limit { what: "entries", most: limits::LAYER_ENTRIES });
            }
            let mut entry = describe_at(&item, item.path.clone()).map_err(|error| match error {
                LayerError::Entry { path, reason } => ArchiveError::Entry { path, reason: reason.to_owned() },
                LayerError::Archive(source) => ArchiveError::Read { after: last.clone(), source },
                other => ArchiveError::Read { after: last.clone(), source: io::Error::other(other) },
            })?;
            starts.push(keep.at);
            if entry.kind == Kind::File {
                let most = crate::unpacking::most_bytes();
                if entry.size_bytes > most.saturating_sub(keep.at) {
                    return Err(ArchiveError::TooMuch(TooMuch::Bytes { most }));
                }
                let mut content = HashingReader::new(&mut archive, CONTENT);
                keep.take(&mut content, |source| ArchiveError::Read {
                    after: Some(entry.to_path()),
                    source,
                })?;
                let (_, digest, size_bytes) = content.finish();
                if size_bytes != entry.size_bytes {
                    let source = io::ErrorKind::UnexpectedEof.into();
                    return Err(ArchiveError::Read { after: Some(entry.to_path()), source });
                }
                entry.content = Some(digest);
            }
            entries.push(entry);
        }
        // what follows the end mark belongs to the archive's bytes
        let rest = io::copy(&mut hashing, &mut io::sink());
        rest.map_err(|source| ArchiveError::Read { after: entries.last().map(Entry::to_path), source })?;
        keep.data.set_len(keep.at).map_err(ArchiveError::Keep)?;
        let digest = hashing.finish().1;
        Ok(FileArchive { data: keep.data, entries, starts, digest })
    }

    /// The entries in order; paths and link targets as written, contents digested.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Digest of the uncompressed archive.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads the bytes of the file that is entry number `index`.
    pub fn open(&self, index: usize) -> impl Read + Send + '_ {
        let end = self.starts[index] + self.entries[index].size_bytes;
        Part { data: &self.data, at: self.starts[index], end }
    }
}

/// The file that bytes are kept in; what is all zeros is left out of it.
struct Keep {
    data: File,
    at: u64,
}

impl Keep {
    fn take(
        &mut self,
        source: &mut impl Read,
        failed: impl Fn(io::Error) -> ArchiveError,
    ) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            let piece = &buffer[..count];
            self.at += count as u64;
            let kept = match piece.iter().all(|byte| *byte == 0) {
                true => self.data.seek_relative(count as i64),
                false => self.data.write_all(piece),
            };
            kept.map_err(ArchiveError::Keep)?;
        }
    }
}

struct Part<'a> {
    data: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.data.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl ArchiveError {
    /// An entry that is refused, by its name as written.
    pub fn entry(path: &[u8], reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Entry { path: PathBuf::from(OsStr::from_bytes(path)), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn read(bytes: &[u8]) -> Result<FileArchive, ArchiveError> {
        FileArchive::read(bytes, tempfile::tempfile().expect("file"))
    }

    fn content(archive: &FileArchive, index: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        archive.open(index).read_to_end(&mut bytes).expect("content");
        bytes
    }

    fn tar(entries: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, data) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(data.len() as u64);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(data);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    #[test]
    fn names_stay_as_written_and_in_order() {
        use tar::EntryType::{Directory, Regular};
        let zeros = [0; 3000];
        let entries: [(&[u8], tar::EntryType, &[u8]); 6] = [
            (b"../a", Regular, b"one"),
            (b"", Directory, b""),
            (b"z", Regular, &zeros),
            (b".wh.z", Regular, b""),
            (b"z", Regular, b"three"),
            (b"/d//", Directory, b""),
        ];
        let bytes = tar(&entries);
        let archive = read(&bytes).expect("archive");
        let names: Vec<&[u8]> = archive.entries().iter().map(|entry| entry.path.as_slice()).collect();
        assert_eq!(names, entries.map(|(name, ..)| name));
        for (index, (_, _, data)) in entries.iter().enumerate() {
            assert_eq!(content(&archive, index), *data);
        }
        assert_eq!(*archive.digest(), Digest::sha256(&bytes));
        for cut in 1..bytes.len() / 512 - 2 {
            let error = read(&bytes[..cut * 512 + 100]).expect_err("cut");
            assert!(matches!(error, ArchiveError::Read { .. }), "{error}");
        }
    }

    /// All forms that GNU tar writes, with data at the ends, in the middle, and none at all.
    #[test]
    fn sparse_files_are_whole() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, size: u64, pieces: &[(u64, &[u8])]| {
            let file = File::create(folder.path().join(name)).expect("create");
            file.set_len(size).expect("length");
            for (at, bytes) in pieces {
                file.write_all_at(bytes, *at).expect("write");
            }
        };
        let block = [b'x'; 4096];
        write("empty", 1 << 20, &[]);
        write("middle", 1 << 20, &[(100_000, b"middle")]);
        write("ends", (1 << 20) + 5, &[(0, b"start"), (1 << 20, b"final")]);
        let far: Vec<(u64, &[u8])> = (0..60).map(|at| (at * 65536, &block[..])).collect();
        write("many", 60 * 65536, &far);
        write("plain", 4, &[(0, b"text")]);
        let names = ["empty", "middle", "ends", "many", "plain"];
        for words in [
            &["--format=gnu"][..],
            &["--format=pax", "--sparse-version=0.0"],
            &["--format=pax", "--sparse-version=0.1"],
            &["--format=pax", "--sparse-version=1.0"],
        ] {
            let mut command = Command::new("tar");
            command.args(["--sparse", "-cf", "-"]).args(words).args(names).current_dir(folder.path());
            let Ok(output) = command.stderr(Stdio::inherit()).output() else { return };
            assert!(output.status.success() && output.stdout.len() < 1 << 20, "tar made no holes");
            let archive = read(&output.stdout).expect("archive");
            for (index, name) in names.iter().enumerate() {
                assert_eq!(archive.entries()[index].path, name.as_bytes(), "{words:?}");
                let whole = std::fs::read(folder.path().join(name)).expect("read");
                assert_eq!(content(&archive, index), whole, "{words:?} {name}");
                assert_eq!(archive.entries()[index].content, Some(Digest::content(&whole)));
            }
            for cut in (0..output.stdout.len() - 12_000).step_by(1531) {
                assert!(read(&output.stdout[..cut + 1]).is_err(), "{words:?} cut at {cut}");
            }
        }
    }
}
