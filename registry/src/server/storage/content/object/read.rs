//! Reading objects: by range, and as one stream where reads follow each other.

use super::bucket::Bucket;
use crate::server::storage::{StorageError, content::Reader};
use bytes::Bytes;
use object_store::path::Path;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc::Receiver;

/// One object. What is deleted while it is read ends in an error, never in other bytes.
pub(super) struct ObjectReader {
    pub(super) bucket: Arc<Bucket>,
    pub(super) key: Path,
    pub(super) size: u64,
    pub(super) course: Mutex<Course>,
}

/// Where the last read ended, and what comes after it.
#[derive(Default)]
pub(super) struct Course {
    next: u64,
    left: Bytes,
    pieces: Option<Receiver<object_store::Result<Bytes>>>,
}

impl ObjectReader {
    pub(super) fn new(bucket: Arc<Bucket>, key: Path, size: u64) -> ObjectReader {
        ObjectReader { bucket, key, size, course: Mutex::default() }
    }

    /// Fills a buffer from the stream that goes on here.
    fn go_on(&self, course: &mut Course, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            if course.left.is_empty() {
                let pieces = course.pieces.as_mut().expect("a stream was begun");
                course.left = match take(pieces) {
                    Some(piece) => piece.map_err(io::Error::other)?,
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                };
                continue;
            }
            let count = course.left.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&course.left.split_to(count));
            filled += count;
        }
        Ok(())
    }
}

/// The next piece, waited for on whatever thread this is.
fn take<T>(pieces: &mut Receiver<T>) -> Option<T> {
    let (waiting, here) = (std::thread::current(), std::pin::pin!(pieces.recv()));
    struct Wake(std::thread::Thread);
    impl std::task::Wake for Wake {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Wake(waiting)).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut here = here;
    loop {
        match here.as_mut().poll(&mut context) {
            std::task::Poll::Ready(piece) => return piece,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

impl Reader for ObjectReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size);
        let Some(end) = end else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if buffer.is_empty() {
            return Ok(());
        }
        let mut course = self.course.lock().expect("no panic happens while it is held");
        let follows = offset > 0 && offset == course.next;
        if follows && course.pieces.is_none() && end < self.size {
            course.pieces = self.bucket.stream(&self.key, offset);
        }
        let read = match course.pieces.is_some() && follows {
            true => self.go_on(&mut course, buffer),
            false => {
                (course.left, course.pieces) = (Bytes::new(), None);
                let found = self.bucket.range(&self.key, offset..end).map_err(io::Error::other)?;
                let found = found.ok_or(io::ErrorKind::NotFound)?;
                if found.len() != buffer.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer.copy_from_slice(&found);
                Ok(())
            }
        };
        course.next = end;
        if read.is_err() {
            // what was lost on the way is asked for anew
            (course.left, course.pieces) = (Bytes::new(), None);
        }
        read
    }

    fn forget(&self) {
        *self.course.lock().expect("no panic happens while it is held") = Course::default();
    }
}

/// A small object in memory.
pub(super) struct Small(pub(super) Bytes);

impl Reader for Small {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(buffer.len()));
        let part = start.zip(end).and_then(|(start, end)| self.0.get(start..end));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What was staged: objects one after another, and what lies in the file of who writes.
pub(super) struct StagedReader {
    /// Readers with how many of their bytes count.
    pub(super) objects: Vec<(ObjectReader, u64)>,
    pub(super) spool: Arc<File>,
    /// Where the file's first byte stands.
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Reader for StagedReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut offset, mut rest, mut begins) = (offset, buffer, 0);
        for (object, length) in &self.objects {
            let ends = begins + length;
            if offset < ends && !rest.is_empty() {
                let count = (ends - offset).min(rest.len() as u64) as usize;
                let (part, after) = rest.split_at_mut(count);
                object.read_exact_at(part, offset - begins)?;
                (offset, rest) = (offset + count as u64, after);
            }
            begins = ends;
        }
        if rest.is_empty() { Ok(()) } else { self.spool.read_exact_at(rest, offset - self.start) }
    }
}

/// A file without a name.
pub(super) fn spool(folder: &std::path::Path) -> Result<File, StorageError> {
    let mut name = [0_u8; 8];
    getrandom::fill(&mut name)?;
    let path = folder.join(format!("{:016x}", u64::from_ne_bytes(name)));
    let failed = |error| crate::server::storage::error::io_error("create", &path)(error);
    let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}
