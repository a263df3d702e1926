//! Files that appear whole or not at all: temporary file beside the place, sync, rename.

use rustix::fs::{FileType, Mode, OFlags};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that no other process or thread uses: `<kind>-<count>.<16 random characters>`.
///
/// It says nothing of its owner: whoever makes it removes it, or it lies where somebody removes all of it. What goes into
/// a store's `tmp/` is named by a lease ([`crate::lease::Lease::temporary_name`]).
pub fn temporary_name(kind: &str) -> String {
    static OURS: OnceLock<String> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        // without random bytes, which no kernel of today refuses, the clock and the id tell processes apart
        crate::lease::random_id().unwrap_or_else(|_| {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let nanos = since.map_or(0, |elapsed| elapsed.as_nanos() as u64);
            format!("{:016x}", nanos ^ u64::from(std::process::id()) << 40)
        })
    });
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{kind}-{count:x}.{ours}")
}

/// Whether `error` says, itself or by its causes, that the disk or the caller's share of it is full.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
                || error.get_ref().is_some_and(|inner| is_full(inner))
        });
        if io || error.downcast_ref::<rusqlite::Error>().is_some_and(crate::database::is_full) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What file systems keep for themselves when they answer that nothing is left: ext4 a fiftieth, of large ones 16 MiB
/// (`s_resv_clusters`, fs/ext4/super.c), all of them a little of what is on its way to the disk.
const KEPT_BYTES: u64 = 16 << 20;
const ON_ITS_WAY_BYTES: u64 = 1 << 20;

/// Whether the disk that holds `path` is full by its own account. `is_user` asks whether it is so for who is not root, for
/// whom less of it may be used.
pub fn has_no_room(path: &Path, is_user: bool) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| {
        let blocks = if is_user { found.f_bavail } else { found.f_bfree };
        // btrfs counts no inodes
        let no_inodes = found.f_files > 0 && found.f_ffree == 0;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let kept = (bytes(found.f_blocks) / 50).min(KEPT_BYTES);
        no_inodes || bytes(blocks) < kept + ON_ITS_WAY_BYTES
    })
}

/// Which side of a [`copy`] failed: a source that cannot be read is the other's fault, a target our own place's.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source.
    #[error("cannot read")]
    Read(#[source] io::Error),
    /// The target.
    #[error("cannot write")]
    Write(#[source] io::Error),
}

/// Copies until the source ends, and tells who failed: `std::io::copy` does not, and a full disk is then called a
/// damaged source.
pub fn copy(
    source: &mut (impl io::Read + ?Sized),
    target: &mut (impl Write + ?Sized),
) -> Result<u64, CopyError> {
    let mut target = Target { inner: target, failed: false };
    io::copy(source, &mut target).map_err(|error| match target.failed {
        true => CopyError::Write(error),
        false => CopyError::Read(error),
    })
}

struct Target<'a, W: ?Sized> {
    inner: &'a mut W,
    failed: bool,
}

impl<W: Write + ?Sized> Write for Target<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // an interrupted write is repeated by who copies
        self.inner.write(bytes).inspect_err(|error| self.failed |= error.kind() != io::ErrorKind::Interrupted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().inspect_err(|_| self.failed = true)
    }
}

/// A reader that writes what passes into a copy; the copy's failure is kept apart from the source's.
pub(crate) struct Tee<R, W> {
    pub(crate) source: R,
    pub(crate) copy: W,
    /// Why the copy could not be written.
    pub(crate) unwritten: Option<io::Error>,
}

impl<R, W> Tee<R, W> {
    pub(crate) fn new(source: R, copy: W) -> Tee<R, W> {
        Tee { source, copy, unwritten: None }
    }
}

impl<R: io::Read, W: Write> io::Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..count]).map_err(|error| {
            let kind = error.kind();
            self.unwritten = Some(error);
            io::Error::from(kind)
        })?;
        Ok(count)
    }
}

/// Puts `bytes` at `path` atomically and durably; readers see the old file or the new one.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(temporary_name(".tmp"));
    let result = (|| {
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(folder)
    })();
    if result.is_err() {
        // the error that matters is the first one; a left-over is swept later
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Puts `bytes` at `path` by way of `temporary`; readers see the old file or the new one. For what can always be made again:
/// it is not synced. Nothing is left at `temporary` where it fails.
pub fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let result = fs::write(temporary, bytes).and_then(|()| fs::rename(temporary, path));
    if result.is_err() {
        // the error that matters is the first one
        let _ = fs::remove_file(temporary);
    }
    result
}

/// Makes `path` and the folders above it that are missing, each with `mode`, whatever the umask. One that is there stays as
/// it is.
pub fn make_folders(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make_folders(parent, mode)?;
                make_folders(path, mode)
            }
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Makes the file `path` of `bytes` with `mode`, whatever the umask; one that is there is an error.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Makes the names in `folder` durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads a file of at most `most_bytes`; a larger one, or one that is no regular file, is an error. A pipe or device
/// in its place is not opened, so it cannot make us wait.
pub fn read_capped(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    check_regular(&rustix::fs::stat(path)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    read_capped_from(File::from(rustix::fs::open(path, flags, Mode::empty())?), most_bytes)
}

/// An error that says what stands in a regular file's place.
pub(crate) fn check_regular(found: &rustix::fs::Stat) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::Symlink => "a link",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "of an unknown kind",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file")))
}

/// Reads an open regular file of at most `most_bytes`.
pub fn read_capped_from(file: File, most_bytes: u64) -> io::Result<Vec<u8>> {
    use io::Read;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if metadata.len() > most_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} bytes, more than the {most_bytes} that are read", metadata.len()),
        ));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // the file may grow while it is read: the cap holds on what is read, not on what was promised
    file.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most_bytes} bytes")));
    }
    Ok(bytes)
}

/// Removes a tree that Slipway made, folders without write permission included.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_permissions(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Bytes of disk that a tree takes, each file once however many names it has there.
pub fn disk_bytes(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::HashSet::new();
    let mut pending: Vec<PathBuf> = vec![path.to_owned()];
    let mut bytes = 0;
    while let Some(path) = pending.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        } else if metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        bytes += metadata.blocks() * 512;
    }
    Ok(bytes)
}

fn open_permissions(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut pending: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(folder) = pending.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn a_full_disk_is_found_however_deep() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let blob = crate::blobs::BlobError::Io { operation: "write", path: "x".into(), source: full() };
        let layer = crate::layer::LayerError::Archive(io::Error::other(blob));
        for error in [&full() as &(dyn Error + 'static), &layer, &io::Error::from_raw_os_error(libc::EDQUOT)]
        {
            assert!(is_full(error), "{error}");
        }
        assert!(!is_full(&io::Error::from_raw_os_error(libc::EIO)));
    }

    /// Fails as it is told to.
    struct Broken(i32);

    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0))
        }
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(self.0))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_copy_tells_which_side_failed() {
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EIO] {
            let written = copy(&mut &b"bytes"[..], &mut Broken(errno)).expect_err("target");
            assert!(matches!(written, CopyError::Write(_)), "{written}");
            assert_eq!(is_full(&written), errno != libc::EIO);
            let read = copy(&mut Broken(errno), &mut Vec::new()).expect_err("source");
            assert!(matches!(read, CopyError::Read(_)), "{read}");
            let mut tee = Tee::new(&b"bytes"[..], Broken(errno));
            io::copy(&mut tee, &mut io::sink()).expect_err("copy");
            assert_eq!(tee.unwritten.and_then(|error| error.raw_os_error()), Some(errno));
            let mut tee = Tee::new(Broken(errno), Vec::new());
            io::copy(&mut tee, &mut io::sink()).expect_err("source");
            assert!(tee.unwritten.is_none());
        }
    }
}
