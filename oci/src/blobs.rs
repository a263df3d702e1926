//! Blobs: bytes at rest under their digest, `blobs/<algorithm>/<hex>` (image-spec `image-layout.md`).
//!
//! A [`BlobWriter`] digests what streams through it into a temporary file of the same file system; [`BlobWriter::commit`]
//! checks digest and size, syncs and renames. A blob that is there is therefore whole, and writing one that is there
//! already is harmless: the bytes are the same by definition.

mod follow;

pub use follow::{Follower, Outcome};

use crate::{
    Algorithm, Descriptor, Digest, Hasher,
    file::{self, CopyError},
    lease::LeaseError,
    limits,
    store::{Holder, Kind},
};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A failure around one blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The blob is not there.
    #[error("blob `{0}` is not in the store")]
    Missing(Digest),
    /// The bytes are not what their name says.
    #[error("content is corrupt: expected `{expected}`, the bytes have `{actual}`")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// The size is not what the descriptor says.
    #[error("`{digest}` has {actual} bytes where its descriptor says {expected}")]
    SizeMismatch {
        /// The digest asked for.
        digest: Digest,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The size of the content, in bytes.
        actual: u64,
    },
    /// More bytes than the reader's cap.
    #[error("blob `{digest}` has {size_bytes} bytes, more than the {most_bytes} that are read")]
    Large {
        /// Which blob.
        digest: Digest,
        /// Its size in bytes.
        size_bytes: u64,
        /// The cap in bytes.
        most_bytes: u64,
    },
    /// It cannot be noted that the blob is relied on.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The file system refused.
    #[error("cannot {operation} `{path}`")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { operation, path, source }
}

/// A full disk says where it is: who writes through a compressor knows no path.
pub(crate) fn in_place(source: io::Error, path: &Path) -> io::Error {
    match file::is_full(&source) {
        true => io::Error::new(source.kind(), io_error("write", path)(source)),
        false => source,
    }
}

/// Where a transfer puts blobs: into their folder ([`Blobs`]), or there and on into what is made of them
/// ([`crate::store::Intake`]).
pub trait BlobSink: Sync {
    /// The size in bytes of a blob that is there already.
    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;

    /// A writer for the blob, which is checked on commit.
    fn writer(&self, digest: &Digest) -> Result<BlobWriter, BlobError>;
}

impl BlobSink for Blobs {
    fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        Blobs::size(self, digest)
    }

    fn writer(&self, digest: &Digest) -> Result<BlobWriter, BlobError> {
        Blobs::writer(self, digest.algorithm())
    }
}

/// A folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
    temporary: PathBuf,
    /// Who relies on what is looked at, where there is a collector.
    holder: Option<Arc<Holder>>,
}

impl Blobs {
    /// Opens the blob folder of a layout or store, making it where it is missing. `temporary` must be on the same
    /// file system, or renames fail.
    pub fn open(folder: &Path, temporary: &Path) -> Result<Blobs, BlobError> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let path = folder.join(algorithm.name());
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        fs::create_dir_all(temporary).map_err(io_error("create", temporary))?;
        Ok(Blobs { folder: folder.to_owned(), temporary: temporary.to_owned(), holder: None })
    }

    /// The same folder, from which nothing is collected that was looked at here.
    pub(crate) fn held(self, holder: Arc<Holder>) -> Blobs {
        Blobs { holder: Some(holder), ..self }
    }

    /// From now on the blob is not collected, if it is there.
    fn rely(&self, digest: &Digest) -> Result<(), LeaseError> {
        match &self.holder {
            Some(holder) => holder.rely(Kind::Blob, digest),
            None => Ok(()),
        }
    }

    /// Where a blob lies, whether or not it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.algorithm().name()).join(digest.hex())
    }

    /// The size in bytes of a blob that is there, and stays there while this process lives.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        if self.stat(digest)?.is_none() {
            return Ok(None);
        }
        self.rely(digest)?;
        self.stat(digest)
    }

    fn stat(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Whether a blob is there.
    pub fn contains(&self, digest: &Digest) -> Result<bool, BlobError> {
        self.size(digest).map(|size| size.is_some())
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, BlobError> {
        self.rely(digest)?;
        self.open_file(digest)
    }

    fn open_file(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(digest.clone()),
            _ => io_error("open", &path)(error),
        })
    }

    /// Reads a whole blob of at most `most_bytes` and verifies its digest.
    pub fn read(&self, digest: &Digest, most_bytes: u64) -> Result<Vec<u8>, BlobError> {
        self.rely(digest)?;
        self.read_file(digest, most_bytes)
    }

    /// The same for who has noted it already, or relies on nothing but the bytes that are answered.
    pub(crate) fn read_file(&self, digest: &Digest, most_bytes: u64) -> Result<Vec<u8>, BlobError> {
        let file = self.open_file(digest)?;
        let path = self.path(digest);
        let size_bytes = file.metadata().map_err(io_error("read", &path))?.len();
        if size_bytes > most_bytes {
            return Err(BlobError::Large { digest: digest.clone(), size_bytes, most_bytes });
        }
        let bytes = file::read_capped_from(file, most_bytes).map_err(io_error("read", &path))?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(BlobError::DigestMismatch { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Reads a manifest-sized blob ([`limits::MANIFEST_BYTES`]).
    pub fn read_manifest(&self, digest: &Digest) -> Result<Vec<u8>, BlobError> {
        self.read(digest, limits::MANIFEST_BYTES)
    }

    /// A writer for bytes whose digest is not known yet, or known and to be checked on commit.
    pub fn writer(&self, algorithm: Algorithm) -> Result<BlobWriter, BlobError> {
        let name = match &self.holder {
            Some(holder) => holder.lease()?.temporary_name("blob"),
            None => file::temporary_name("blob"),
        };
        let path = self.temporary.join(name);
        let file = File::create_new(&path).map_err(io_error("create", &path))?;
        Ok(BlobWriter {
            blobs: self.clone(),
            file: Some(file),
            path,
            hasher: Hasher::new(algorithm),
            size_bytes: 0,
            growth: None,
            behind: None,
        })
    }

    /// Stores `bytes` and answers their digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::sha256(bytes);
        // read, not only looked for: damage must not stay because it has the right length
        if self.read(&digest, bytes.len() as u64).is_ok() {
            return Ok(digest);
        }
        let mut writer = self.writer(Algorithm::Sha256)?;
        writer.write_all(bytes).map_err(io_error("write", &writer.path))?;
        let (stored, _) = writer.commit(None)?;
        assert_eq!(stored, digest);
        Ok(digest)
    }

    /// Copies a verified blob from `source`, which is read to its end.
    pub fn copy_from(&self, mut source: impl Read, descriptor: &Descriptor) -> Result<(), BlobError> {
        let mut writer = self.writer(descriptor.digest.algorithm())?;
        // one byte more than promised shows that the source is too long without reading all of it
        let mut bounded = source.by_ref().take(descriptor.size_bytes.saturating_add(1));
        file::copy(&mut bounded, &mut writer).map_err(|error| match error {
            // the source's own words say what it is
            CopyError::Read(source) => io_error("copy into", &writer.path)(source),
            CopyError::Write(source) => io_error("write", &writer.path)(source),
        })?;
        writer.commit(Some((&descriptor.digest, descriptor.size_bytes))).map(|_| ())
    }

    /// Takes the file at `path`, which this program wrote into the store and nobody changes any more, in as the blob that it is
    /// verified to be. It gets a second name where the file system has such; otherwise it is copied.
    pub fn keep(&self, path: &Path, descriptor: &Descriptor) -> Result<(), BlobError> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        let mut writer = self.writer(descriptor.digest.algorithm())?;
        if fs::remove_file(&writer.path).and_then(|()| fs::hard_link(path, &writer.path)).is_err() {
            return self.copy_from(file, descriptor);
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(io_error("read", path))? {
                0 => break,
                count => writer.hasher.update(&buffer[..count]),
            }
        }
        (writer.size_bytes, writer.file) =
            (file.metadata().map_err(io_error("read", path))?.len(), Some(file));
        writer.commit(Some((&descriptor.digest, descriptor.size_bytes))).map(|_| ())
    }

    /// Removes a blob; one that is not there is fine.
    pub fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The digests of all blobs, in no order. Foreign files in the folder are passed over.
    pub fn list(&self) -> Result<Vec<Digest>, BlobError> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.folder.join(algorithm.name());
            for entry in fs::read_dir(&folder).map_err(io_error("list", &folder))? {
                let entry = entry.map_err(io_error("list", &folder))?;
                let name = entry.file_name();
                if let Some(Ok(digest)) =
                    name.to_str().map(|hex| format!("{}:{hex}", algorithm.name()).parse())
                {
                    digests.push(digest);
                }
            }
        }
        Ok(digests)
    }
}

/// Takes in one blob; dropping it without [`BlobWriter::commit`] leaves nothing behind.
pub struct BlobWriter {
    blobs: Blobs,
    file: Option<File>,
    path: PathBuf,
    hasher: Hasher,
    size_bytes: u64,
    /// Told how far this is, where somebody follows.
    growth: Option<Arc<follow::Growth>>,
    /// What is not durable yet, in bytes, where the disk is to work meanwhile.
    behind: Option<u64>,
}

/// So many bytes are made durable while the others still come.
const BEHIND_BYTES: u64 = 16 << 20;

impl BlobWriter {
    /// Makes what comes durable while it comes: for who brings it slower than the disk takes it, and would wait at the end.
    pub(crate) fn durable_meanwhile(mut self) -> BlobWriter {
        self.behind = Some(0);
        self
    }

    /// How many bytes were written.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Checks digest and size where given, makes the bytes durable and gives them their name.
    pub fn commit(mut self, expected: Option<(&Digest, u64)>) -> Result<(Digest, u64), BlobError> {
        let file = self.file.take().expect("commit consumes the writer");
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(Algorithm::Sha256));
        let actual = hasher.finish();
        if let Some((digest, size_bytes)) = expected {
            if self.size_bytes != size_bytes {
                let digest = digest.clone();
                return Err(BlobError::SizeMismatch {
                    digest,
                    expected: size_bytes,
                    actual: self.size_bytes,
                });
            }
            if actual != *digest {
                return Err(BlobError::DigestMismatch { expected: digest.clone(), actual });
            }
        }
        let target = self.blobs.path(&actual);
        if let Some(growth) = &self.growth {
            growth.checked(self.size_bytes);
        }
        file.sync_data().map_err(io_error("sync", &self.path))?;
        self.blobs.rely(&actual)?;
        fs::rename(&self.path, &target).map_err(io_error("rename", &target))?;
        let folder = target.parent().expect("a blob lies in its algorithm's folder");
        file::sync_folder(folder).map_err(io_error("sync", folder))?;
        if let Some(growth) = &self.growth {
            growth.kept(self.size_bytes);
        }
        Ok((actual, self.size_bytes))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().expect("the file is open until commit");
        if let Some(room) = self.blobs.holder.as_ref().and_then(|holder| holder.room()) {
            room.take(bytes.len() as u64).map_err(|source| in_place(source, &self.path))?;
        }
        let count = file.write(bytes).map_err(|source| in_place(source, &self.path))?;
        self.hasher.update(&bytes[..count]);
        self.size_bytes += count as u64;
        if let Some(growth) = &self.growth {
            growth.grown(self.size_bytes);
        }
        if let Some(behind) = &mut self.behind {
            *behind += count as u64;
            if *behind >= BEHIND_BYTES {
                *behind = 0;
                file.sync_data().map_err(|source| in_place(source, &self.path))?;
            }
        }
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(growth) = &self.growth {
            growth.ended();
        }
        // after a commit the path is gone already; what a failed removal leaves is swept after this process
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("blobs"), &folder.path().join("tmp")).expect("blobs");
        (folder, blobs)
    }

    #[test]
    fn a_wrong_digest_or_size_stores_nothing() {
        let (folder, blobs) = blobs();
        let mut descriptor = Descriptor::of("x", b"good");
        assert!(matches!(blobs.copy_from(&b"evil"[..], &descriptor), Err(BlobError::DigestMismatch { .. })));
        assert!(matches!(blobs.copy_from(&b"good!"[..], &descriptor), Err(BlobError::SizeMismatch { .. })));
        descriptor.size_bytes = 3;
        assert!(matches!(blobs.copy_from(&b"good"[..], &descriptor), Err(BlobError::SizeMismatch { .. })));
        assert!(blobs.list().expect("list").is_empty());
        assert_eq!(fs::read_dir(folder.path().join("tmp")).expect("tmp").count(), 0);
    }

    #[test]
    fn a_file_is_kept_without_a_copy_once_it_is_right() {
        use std::os::unix::fs::MetadataExt;
        let (folder, blobs) = blobs();
        let file = folder.path().join("tmp/spooled");
        fs::write(&file, b"good").expect("write");
        let mut descriptor = Descriptor::of("x", b"evil");
        assert!(matches!(blobs.keep(&file, &descriptor), Err(BlobError::DigestMismatch { .. })));
        descriptor = Descriptor::of("x", b"good");
        descriptor.size_bytes = 3;
        assert!(matches!(blobs.keep(&file, &descriptor), Err(BlobError::SizeMismatch { .. })));
        assert!(blobs.list().expect("list").is_empty());
        assert_eq!(fs::read_dir(folder.path().join("tmp")).expect("tmp").count(), 1, "the file itself");
        descriptor.size_bytes = 4;
        for _ in 0..2 {
            blobs.keep(&file, &descriptor).expect("kept");
        }
        let inode = |path: &Path| fs::metadata(path).expect("file").ino();
        assert_eq!(inode(&blobs.path(&descriptor.digest)), inode(&file));
        fs::remove_file(&file).expect("remove");
        assert_eq!(blobs.read(&descriptor.digest, 100).expect("read"), b"good");
    }

    #[test]
    fn corrupt_bytes_are_seen_on_reading() {
        let (_folder, blobs) = blobs();
        let digest = blobs.put(b"content").expect("put");
        assert_eq!(blobs.read(&digest, 100).expect("read"), b"content");
        assert!(matches!(blobs.read(&digest, 3), Err(BlobError::Large { .. })));
        fs::write(blobs.path(&digest), b"c0ntent").expect("damage");
        assert!(matches!(blobs.read(&digest, 100), Err(BlobError::DigestMismatch { .. })));
        blobs.put(b"content").expect("put again");
        assert_eq!(blobs.read(&digest, 100).expect("mended"), b"content");
    }
}
