//! Readers of blobs that are still being written.
//!
//! A [`Follower`] reads the file that a [`super::BlobWriter`] fills, through a descriptor of its own, as far as it is
//! filled, and waits for more. Nothing is held in memory between the two, and a slow reader stops no transfer: what it has not
//! read lies in the file. Its stream ends only after size and digest of the whole were found right; where the writer is
//! dropped before that, it is an error. So whoever has read a follower to its end has read a blob that is what its name says.

use super::{BlobError, BlobWriter, io_error};
use std::{
    fs::File,
    io::{self, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// How far the writer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many bytes can be read.
    Growing(u64),
    /// All of them are there and right.
    Checked(u64),
    /// The blob has its name, and is on the disk.
    Kept(u64),
    /// There will be no such blob.
    GivenUp,
}

/// What a writer tells those who follow it.
#[derive(Debug)]
pub(super) struct Growth {
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Growth {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, stage: Stage) {
        *self.stage() = stage;
        self.changed.notify_all();
    }

    /// So many bytes were written.
    pub(super) fn grown(&self, bytes: u64) {
        self.tell(Stage::Growing(bytes));
    }

    /// So many bytes were found right.
    pub(super) fn checked(&self, bytes: u64) {
        self.tell(Stage::Checked(bytes));
    }

    /// They have their name.
    pub(super) fn kept(&self, bytes: u64) {
        self.tell(Stage::Kept(bytes));
    }

    /// The writer is gone; what has a name keeps it.
    pub(super) fn ended(&self) {
        if !matches!(*self.stage(), Stage::Kept(_)) {
            self.tell(Stage::GivenUp);
        }
    }

    /// Waits until `enough`.
    fn wait(&self, enough: impl Fn(Stage) -> bool) -> Stage {
        let mut stage = self.stage();
        while !enough(*stage) {
            stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        *stage
    }
}

/// The bytes of a blob that is being written.
#[derive(Debug)]
pub struct Follower {
    file: File,
    at: u64,
    growth: Arc<Growth>,
}

/// Says what became of a blob that was followed.
#[derive(Clone, Debug)]
pub struct Outcome(Arc<Growth>);

impl Outcome {
    /// Waits for the writer's end; whether the blob is in its place, on the disk.
    pub fn is_kept(&self) -> bool {
        matches!(self.0.wait(|stage| matches!(stage, Stage::Kept(_) | Stage::GivenUp)), Stage::Kept(_))
    }
}

impl BlobWriter {
    /// A reader of what is written, from the first byte on.
    pub fn follow(&mut self) -> Result<Follower, BlobError> {
        let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        let new = || Arc::new(Growth { stage: Mutex::new(Stage::Growing(0)), changed: Condvar::new() });
        let growth = self.growth.get_or_insert_with(new).clone();
        growth.grown(self.size_bytes);
        Ok(Follower { file, at: 0, growth })
    }
}

impl Follower {
    /// What becomes of the blob.
    pub fn outcome(&self) -> Outcome {
        Outcome(self.growth.clone())
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.at;
        let stage = self.growth.wait(|stage| !matches!(stage, Stage::Growing(bytes) if bytes <= at));
        let (Stage::Growing(bytes) | Stage::Checked(bytes) | Stage::Kept(bytes)) = stage else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its transfer was given up"));
        };
        let most = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blobs;
    use crate::{Algorithm, Digest};
    use std::io::{Read, Write};

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().expect("folder");
        let blobs = Blobs::open(&folder.path().join("blobs"), &folder.path().join("tmp")).expect("blobs");
        (folder, blobs)
    }

    #[test]
    fn a_follower_ends_with_a_blob_that_is_right_and_no_other() {
        let right = Digest::sha256(b"first second");
        let wrong = Digest::sha256(b"another");
        for (expected, size, is_committed) in
            [(&right, 12, true), (&wrong, 12, true), (&right, 13, true), (&right, 12, false)]
        {
            let (_folder, blobs) = blobs();
            let mut writer = blobs.writer(Algorithm::Sha256).expect("writer");
            writer.write_all(b"first ").expect("write");
            let mut follower = writer.follow().expect("follower");
            let outcome = follower.outcome();
            let reader = std::thread::spawn(move || {
                let mut text = String::new();
                follower.read_to_string(&mut text).map(|_| text)
            });
            writer.write_all(b"second").expect("write");
            match is_committed {
                true => drop(writer.commit(Some((expected, size)))),
                false => drop(writer),
            }
            let is_whole = is_committed && *expected == right && size == 12;
            let read = reader.join().expect("thread");
            assert_eq!(read.ok(), is_whole.then(|| "first second".to_owned()), "{expected} {size}");
            assert_eq!(outcome.is_kept(), is_whole);
            assert_eq!(blobs.contains(&right).expect("looked"), is_whole);
        }
    }

    #[test]
    fn bytes_are_there_before_the_end_is_and_none_after_it() {
        let (_folder, blobs) = blobs();
        let mut writer = blobs.writer(Algorithm::Sha256).expect("writer");
        let mut follower = writer.follow().expect("follower");
        let mut buffer = [0; 3];
        for part in [b"abc", b"def"] {
            writer.write_all(part).expect("write");
            follower.read_exact(&mut buffer).expect("read");
            assert_eq!(&buffer, part);
        }
        let (digest, _) = writer.commit(None).expect("commit");
        assert_eq!(follower.read(&mut buffer).expect("end"), 0);
        assert_eq!(digest, Digest::sha256(b"abcdef"));
        assert_eq!(
            blobs
                .writer(Algorithm::Sha256)
                .and_then(|mut writer| {
                    let mut follower = writer.follow()?;
                    writer.commit(None)?;
                    Ok(follower.read(&mut buffer).expect("an empty blob"))
                })
                .expect("empty"),
            0
        );
    }
}
