//! Entries in, layer out: archive, diff id, compressed blob and table of contents in one pass.
//!
//! The archive is ustar with PAX records only where ustar cannot say it (long or non-portable names, large numbers,
//! extended attributes), so that equal entries give equal bytes on any machine: no user names, no access times, no
//! device or inode numbers of the host, times in whole seconds.

use super::{
    LayerError,
    entry::{Entry, Kind, join, name_of, parent_of},
    io_at,
    toc::Toc,
    unpack::Unpacked,
};
use crate::{
    Algorithm, Descriptor, Digest, Hasher,
    blobs::{BlobWriter, Blobs, in_place},
    compression::{Compressed, Compression, Compressor, PIECE_BYTES},
    digest::CONTENT,
    erofs::{self, Earlier, Search, Writer, Written},
    pieces::{Known, Piece},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};

const BLOCK: usize = 512;
/// Largest number that seven octal digits hold: owner and group fields of ustar.
const USTAR_ID: u32 = 0o7_777_777;
/// Largest number that eleven octal digits hold: size and time fields of ustar.
const USTAR_SIZE: u64 = 0o77_777_777_777;

/// One name in so many is a place to cut.
const CUT_AT_ONE_IN: u64 = 128;
/// From so many entries on, the tables of a file are worth a thread.
const MANY_ENTRIES: usize = 1000;
/// Pieces that names cut are at least so long, in bytes.
const LEAST_PIECE_BYTES: usize = 1 << 20;

/// A finished layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The compressed archive in the blob store.
    pub descriptor: Descriptor,
    /// Size of the uncompressed archive in bytes.
    pub archive_bytes: u64,
    /// The pieces of the blob, where it was written here and compressed.
    pub pieces: Vec<Piece>,
    /// What the layer holds.
    pub toc: Toc,
    /// The file that the kernel mounts, where one was written and the layer can be held in one.
    pub image: Option<Written>,
}

/// A file that the kernel mounts, to be written in one pass with the archive ([`LayerWriter::with_image`]).
pub struct NewImage<'s> {
    path: PathBuf,
    writer: Writer,
    search: Option<Box<dyn Search + 's>>,
}

impl<'s> NewImage<'s> {
    /// Writes into the empty `file` what `earlier` has not; failures call it `path`.
    pub fn new(file: File, path: PathBuf, earlier: Arc<Earlier>) -> NewImage<'s> {
        NewImage { path, writer: Writer::new(file, earlier), search: None }
    }

    /// Looks for earlier layers while an archive is read into it.
    pub(crate) fn seeking(self, search: Box<dyn Search + 's>) -> NewImage<'s> {
        NewImage { search: Some(search), ..self }
    }

    /// Writes what the uncompressed archive `source` holds, as [`super::write_image`] does on no footing.
    pub(super) fn of_archive(self, source: impl Read) -> Result<(Unpacked, Written), LayerError> {
        let NewImage { path: place, writer, mut search } = self;
        let search = search.as_mut().map(|search| &mut **search as &mut dyn Search);
        super::unpack::write_plain(source, writer, search).map_err(|error| match error {
            LayerError::Io { operation, path, source } => {
                LayerError::Io { operation, path, source: in_place(source, &place) }
            }
            other => other,
        })
    }
}

/// Writes one layer. Entries come parents first, in an order that the caller makes deterministic.
pub struct LayerWriter<W: Write + Send + 'static = BlobWriter> {
    output: Compressor<W>,
    compression: Compression,
    entries: Vec<Entry>,
    buffer: Vec<u8>,
    image: Option<Writer>,
    /// What failures to write the image call it.
    image_path: PathBuf,
}

impl LayerWriter {
    /// Starts a layer whose blob goes to `blobs`.
    pub fn new(blobs: &Blobs, compression: Compression) -> Result<LayerWriter, LayerError> {
        LayerWriter::on_known(blobs, compression, Arc::default())
    }

    /// The same, with pieces of earlier layers' blobs that need not be compressed again.
    pub fn on_known(
        blobs: &Blobs,
        compression: Compression,
        known: Arc<Known>,
    ) -> Result<LayerWriter, LayerError> {
        Ok(LayerWriter {
            output: Compressor::new(blobs.writer(Algorithm::Sha256)?.durable_meanwhile(), compression)
                .describing(known),
            compression,
            entries: Vec::new(),
            buffer: vec![0; 1 << 18],
            image: None,
            image_path: PathBuf::new(),
        })
    }

    /// Writes `image` as well, from the same reading of the files.
    pub fn with_image(mut self, NewImage { path, writer, .. }: NewImage<'_>) -> LayerWriter {
        assert!(self.is_empty(), "the image has all entries");
        (self.image, self.image_path) = (Some(writer), path);
        self
    }

    /// Ends the archive and stores it.
    pub fn finish(mut self) -> Result<Layer, LayerError> {
        let at_end = || io_at("write", std::path::Path::new(""));
        self.write_all(&[0; 2 * BLOCK]).map_err(at_end())?;
        let toc = Toc::new(self.entries);
        let (image, output) = (self.image, self.output);
        let store = || {
            let Compressed { output, plain_digest, plain_bytes, pieces, .. } =
                output.finish_described().map_err(at_end())?;
            let (digest, size_bytes) = output.commit(None)?;
            Ok::<_, LayerError>((digest, size_bytes, plain_digest, plain_bytes, pieces))
        };
        // the blob waits for the disk meanwhile
        let (image, stored) = match image {
            Some(image) if toc.entries().len() >= MANY_ENTRIES => std::thread::scope(|scope| {
                let image = scope.spawn(|| image.finish(&toc));
                let stored = store();
                (Some(image.join().expect("writing a file does not panic")), stored)
            }),
            image => (image.map(|image| image.finish(&toc)), store()),
        };
        let (digest, size_bytes, plain_digest, archive_bytes, pieces) = stored?;
        let image = match image {
            Some(Err(LayerError::Io { operation, path, source })) => {
                let source = in_place(source, &self.image_path);
                return Err(LayerError::Io { operation, path, source });
            }
            Some(written) => written.ok(),
            None => None,
        };
        Ok(Layer {
            diff_id: plain_digest.expect("it was asked for"),
            descriptor: Descriptor::new(self.compression.layer_media_type(), digest, size_bytes),
            archive_bytes,
            pieces,
            toc,
            image,
        })
    }
}

impl<W: Write + Send + 'static> LayerWriter<W> {
    /// Starts an archive that goes to `output` as it is: nothing keeps it as a layer.
    pub fn to(output: W) -> LayerWriter<W> {
        LayerWriter {
            output: Compressor::new(output, Compression::None),
            compression: Compression::None,
            entries: Vec::new(),
            buffer: vec![0; 1 << 18],
            image: None,
            image_path: PathBuf::new(),
        }
    }

    /// Ends an archive, and hands back where it went.
    pub fn end_archive(mut self) -> Result<W, LayerError> {
        let at_end = || io_at("write", std::path::Path::new(""));
        self.write_all(&[0; 2 * BLOCK]).map_err(at_end())?;
        self.output.finish().map_err(at_end())
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a path that has no bytes of its own.
    pub fn append(&mut self, entry: Entry) -> Result<(), LayerError> {
        assert!(entry.kind != Kind::File || entry.size_bytes == 0, "files bring their bytes");
        self.append_file(entry, &mut io::empty()).map(|_| ())
    }

    /// Adds a path; `content` must give exactly [`Entry::size_bytes`] bytes, whose digest is noted and answered. Where the
    /// entry has a digest already, they must have that one.
    pub fn append_file(
        &mut self,
        mut entry: Entry,
        content: &mut dyn Read,
    ) -> Result<Option<Digest>, LayerError> {
        self.begin(&entry)?;
        if entry.kind == Kind::File {
            entry.content = Some(self.write_content(&entry, content)?);
        }
        let digest = entry.content.clone();
        self.end(entry)?;
        Ok(digest)
    }

    /// Adds a file whose `bytes` are read already and have the digest that the entry says.
    pub fn append_bytes(&mut self, entry: Entry, bytes: &[u8]) -> Result<(), LayerError> {
        let digest = entry.content.as_ref().filter(|_| entry.size_bytes == bytes.len() as u64);
        let digest = digest.expect("bytes come with their length and digest").clone();
        self.begin(&entry)?;
        let failed = || io_at("write", entry.as_path());
        self.output.write_known(bytes, &digest).map_err(failed())?;
        self.pad(&entry)?;
        if let Some(image) = &mut self.image {
            let written = image.bytes(bytes, &digest);
            written.map_err(|source| in_place(source, &self.image_path)).map_err(failed())?;
        }
        self.end(entry)
    }

    fn begin(&mut self, entry: &Entry) -> Result<(), LayerError> {
        // in the archive it would delete the file of the name that follows
        if entry.kind != Kind::Whiteout && name_of(&entry.path).starts_with(b".wh.") {
            return Err(LayerError::WhiteoutName(entry.to_path()));
        }
        // what no file system takes can travel all the same, and fails where somebody wants to run it
        if self.image.is_some() && erofs::check(entry).is_err() {
            self.image = None;
        }
        self.cut(entry).map_err(io_at("write", entry.as_path()))?;
        self.write_header(entry).map_err(io_at("write", entry.as_path()))
    }

    /// Cuts the archive before the entry, where that is a place to cut: at names that are chosen by their sound alone, so
    /// that a change elsewhere moves no cut, and on both sides of a file that fills pieces of its own.
    fn cut(&mut self, entry: &Entry) -> io::Result<()> {
        let is_large = |entry: &Entry| entry.size_bytes >= PIECE_BYTES as u64;
        if is_large(entry) || self.entries.last().is_some_and(is_large) {
            return self.output.cut(1);
        }
        // FNV-1a, mixed once more: any hash does, and this one is pinned because digests of images depend on it
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = entry.path.iter().fold(0xcbf2_9ce4_8422_2325, step);
        let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        if mixed.is_multiple_of(CUT_AT_ONE_IN) { self.output.cut(LEAST_PIECE_BYTES) } else { Ok(()) }
    }

    fn end(&mut self, entry: Entry) -> Result<(), LayerError> {
        if entry.opaque {
            let mut mark = Entry::new(join(&entry.path, b".wh..wh..opq"), Kind::File, 0);
            mark.mtime = entry.mtime;
            self.write_header(&mark).map_err(io_at("write", entry.as_path()))?;
        }
        self.entries.push(entry);
        Ok(())
    }

    fn write_content(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<Digest, LayerError> {
        let failed = || io_at("write", entry.as_path());
        let mut hasher = Hasher::new(CONTENT);
        // what was fetched is known by what its blob is called
        let known = entry.content.as_ref();
        let mut other = known.map(Digest::algorithm).filter(|known| *known != CONTENT).map(Hasher::new);
        let mut left = entry.size_bytes;
        let mut buffer = std::mem::take(&mut self.buffer);
        let is_new = |image: &mut Writer| !entry.content.as_ref().is_some_and(|known| image.has(known));
        let mut image = self.image.take().map(|mut image| (is_new(&mut image), image));
        let mut begun = image.as_mut().filter(|(is_new, _)| *is_new).map(|(_, image)| image.begin(known));
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = content.read(&mut buffer[..most]).map_err(io_at("read", entry.as_path()))?;
            if count == 0 {
                return Err(LayerError::Changed(entry.to_path()));
            }
            hasher.update(&buffer[..count]);
            if let Some(other) = &mut other {
                other.update(&buffer[..count]);
            }
            self.write_all(&buffer[..count]).map_err(failed())?;
            if let (Some((_, image)), Some(begun)) = (&mut image, &mut begun) {
                let written = image.write(begun, &buffer[..count]);
                written.map_err(|source| in_place(source, &self.image_path)).map_err(failed())?;
            }
            left -= count as u64;
        }
        self.buffer = buffer;
        let digest = hasher.finish();
        if known.is_some_and(|known| *known != other.map_or_else(|| digest.clone(), Hasher::finish)) {
            return Err(LayerError::Changed(entry.to_path()));
        }
        self.image = image.map(|(_, image)| image);
        if let (Some(image), Some(begun)) = (&mut self.image, begun) {
            let ended = image.end(begun, &digest);
            ended.map_err(|source| in_place(source, &self.image_path)).map_err(failed())?;
        }
        self.pad(entry)?;
        Ok(digest)
    }

    /// Fills the last block of a file's bytes up.
    fn pad(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let padding = (BLOCK as u64 - entry.size_bytes % BLOCK as u64) % BLOCK as u64;
        self.write_all(&[0; BLOCK][..padding as usize]).map_err(io_at("write", entry.as_path()))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    fn write_header(&mut self, entry: &Entry) -> io::Result<()> {
        let name = archive_name(entry);
        let mut records = Vec::new();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(entry_type(entry.kind));
        header.set_mode(entry.mode & 0o7777);
        put_name(&mut header, &name, &mut records);
        put_link(&mut header, &entry.link, &mut records);
        for (key, id, set) in [
            ("uid", entry.uid, tar::Header::set_uid as fn(&mut tar::Header, u64)),
            ("gid", entry.gid, tar::Header::set_gid),
        ] {
            if id > USTAR_ID {
                records.push((key.as_bytes().to_vec(), id.to_string().into_bytes()));
            }
            set(&mut header, if id > USTAR_ID { 0 } else { u64::from(id) });
        }
        let negative = entry.mtime < 0 || entry.mtime as u64 > USTAR_SIZE;
        if negative {
            records.push((b"mtime".to_vec(), entry.mtime.to_string().into_bytes()));
        }
        header.set_mtime(if negative { 0 } else { entry.mtime as u64 });
        let size_bytes = if entry.kind == Kind::File { entry.size_bytes } else { 0 };
        if size_bytes > USTAR_SIZE {
            records.push((b"size".to_vec(), size_bytes.to_string().into_bytes()));
        }
        header.set_size(if size_bytes > USTAR_SIZE { 0 } else { size_bytes });
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            header.set_device_major(entry.device.0)?;
            header.set_device_minor(entry.device.1)?;
        }
        for (name, value) in &entry.xattrs {
            records.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
        }
        if !records.is_empty() {
            self.write_pax(records)?;
        }
        header.set_cksum();
        self.write_all(header.as_bytes())
    }

    /// One PAX header in front of an entry (POSIX.1-2001 pax, "extended header").
    fn write_pax(&mut self, mut records: Vec<(Vec<u8>, Vec<u8>)>) -> io::Result<()> {
        records.sort();
        let mut body = Vec::new();
        for (key, value) in records {
            // the length counts its own digits
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} ").as_bytes());
            body.extend_from_slice(&key);
            body.push(b'=');
            body.extend_from_slice(&value);
            body.push(b'\n');
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_path("PaxHeaders.0/entry")?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        self.write_all(header.as_bytes())?;
        self.write_all(&body)?;
        let padding = (BLOCK - body.len() % BLOCK) % BLOCK;
        self.write_all(&[0; BLOCK][..padding])
    }
}

fn entry_type(kind: Kind) -> tar::EntryType {
    match kind {
        Kind::File | Kind::Whiteout => tar::EntryType::Regular,
        Kind::Directory => tar::EntryType::Directory,
        Kind::Symlink => tar::EntryType::Symlink,
        Kind::Hardlink => tar::EntryType::Link,
        Kind::CharDevice => tar::EntryType::Char,
        Kind::BlockDevice => tar::EntryType::Block,
        Kind::Fifo => tar::EntryType::Fifo,
    }
}

fn archive_name(entry: &Entry) -> Vec<u8> {
    match entry.kind {
        Kind::Whiteout => {
            let name = [b".wh.", name_of(&entry.path)].concat();
            join(parent_of(&entry.path).unwrap_or_default(), &name)
        }
        Kind::Directory if entry.path.is_empty() => b"./".to_vec(),
        Kind::Directory => [entry.path.as_slice(), b"/"].concat(),
        _ => entry.path.clone(),
    }
}

/// Puts a name into the header, or into a PAX record where ustar's 100 + 155 bytes of ASCII do not hold it.
fn put_name(header: &mut tar::Header, name: &[u8], records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let ustar = header.as_ustar_mut().expect("made as ustar");
    let fits = name.is_ascii().then(|| split_name(name)).flatten();
    let (prefix, rest) = match fits {
        Some(parts) => parts,
        None => {
            records.push((b"path".to_vec(), name.to_vec()));
            (&name[..0], &name[..name.len().min(100)])
        }
    };
    ustar.prefix[..prefix.len()].copy_from_slice(prefix);
    ustar.name[..rest.len()].copy_from_slice(rest);
}

fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((&name[..0], name));
    }
    // the last slash that leaves at most 100 bytes after it and 155 before; a folder's own slash does not count
    let from = name.len() - 101;
    let slash = from + name[from..name.len() - 1].iter().position(|byte| *byte == b'/')?;
    (slash <= 155 && slash > 0).then(|| (&name[..slash], &name[slash + 1..]))
}

fn put_link(header: &mut tar::Header, link: &[u8], records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let ustar = header.as_ustar_mut().expect("made as ustar");
    if link.len() > 100 || !link.is_ascii() {
        records.push((b"linkpath".to_vec(), link.to_vec()));
    }
    let short = &link[..link.len().min(100)];
    ustar.linkname[..short.len()].copy_from_slice(short);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tar_crate_reads_what_is_written() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("t")).expect("blobs");
        let mut writer = LayerWriter::new(&blobs, Compression::None).expect("writer");
        let long = format!("{}/file", vec!["folder-with-a-name"; 20].join("/"));
        let middle = format!("{}/name", "d".repeat(120));
        let mut entries = Vec::new();
        for path in ["plain", "naïve", long.as_str(), middle.as_str()] {
            let mut entry = Entry::new(path, Kind::File, 0o4755);
            (entry.uid, entry.gid, entry.mtime, entry.size_bytes) = (3_000_000, 7, -5, 4);
            entry.xattrs = vec![(b"user.key".to_vec(), b"value\n=".to_vec())];
            writer.append_file(entry.clone(), &mut &b"data"[..]).expect("append");
            entries.push(entry);
        }
        let mut link = Entry::new("link", Kind::Symlink, 0o777);
        link.link = long.clone().into_bytes();
        writer.append(link).expect("append");
        writer.append(Entry::new("d/gone", Kind::Whiteout, 0)).expect("append");
        let layer = writer.finish().expect("finish");
        assert_eq!(layer.diff_id, layer.descriptor.digest, "uncompressed");
        let file = blobs.open_blob(&layer.descriptor.digest).expect("blob");
        let names: Vec<String> = tar::Archive::new(file)
            .entries()
            .expect("entries")
            .map(|entry| String::from_utf8(entry.expect("entry").path_bytes().into_owned()).expect("utf-8"))
            .collect();
        assert_eq!(names, ["plain", "naïve", &long, &middle, "link", "d/.wh.gone"]);
        let read = crate::layer::index(blobs.open_blob(&layer.descriptor.digest).expect("blob"), None)
            .expect("index");
        assert_eq!(read.diff_id, layer.diff_id);
        let mut expected: Vec<Entry> = entries;
        expected.iter_mut().for_each(|entry| entry.content = Some(crate::Digest::content(b"data")));
        for entry in expected {
            assert_eq!(read.toc.get(&entry.path), Some(&entry));
        }
    }

    #[test]
    fn a_name_that_means_a_deletion_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("t")).expect("blobs");
        let mut writer = LayerWriter::new(&blobs, Compression::None).expect("writer");
        for path in [".wh.a", "d/.wh.a", "d/.wh..wh..opq"] {
            let error = writer.append(Entry::new(path, Kind::File, 0o644)).expect_err(path);
            assert!(matches!(error, LayerError::WhiteoutName(_)), "{path}");
        }
        assert!(writer.is_empty());
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("b"), &folder.path().join("t")).expect("blobs");
        let mut writer = LayerWriter::new(&blobs, Compression::Zstd).expect("writer");
        let mut entry = Entry::new("f", Kind::File, 0o644);
        entry.size_bytes = 5;
        assert!(matches!(writer.append_file(entry, &mut &b"1234"[..]), Err(LayerError::Changed(_))));
    }
}
