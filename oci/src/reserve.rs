//! Room that is kept for deletes on a full disk.
//!
//! What frees room needs some itself: a database that forgets a row writes that into its log first. So a file of real
//! bytes is kept beside it, which nobody reads; when the disk is full it goes first, and comes back when there is room.

use rustix::{fs::FallocateFlags, io::Errno};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The reserve of one folder.
#[derive(Debug)]
pub struct Reserve {
    file: PathBuf,
    bytes: usize,
}

impl Reserve {
    /// A reserve of so many bytes in `folder`; [`Reserve::refill`] makes it.
    pub fn new(folder: &Path, bytes: usize) -> Reserve {
        Reserve { file: folder.join("reserve"), bytes }
    }

    /// Gives the room free; whether there was any.
    pub fn release(&self) -> io::Result<bool> {
        match fs::remove_file(&self.file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps the room again, where there is some. Where not, a later call tries again.
    pub fn refill(&self) {
        if self.file.exists() {
            return;
        }
        if self.take().is_err() {
            let _ = fs::remove_file(&self.file);
        }
    }

    /// Real room, since a hole reserves nothing.
    fn take(&self) -> io::Result<()> {
        let mut file = File::create(&self.file)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes as u64) {
            // a file system without it
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.write_all(&vec![0; self.bytes]),
            other => Ok(other?),
        }
    }

    /// Runs what frees room; where that fails because the disk is full, once more with the reserve given free.
    pub fn within<T, E>(
        &self,
        is_full: impl Fn(&E) -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let first = work();
        if !first.as_ref().is_err_and(is_full) {
            if first.is_ok() {
                self.refill();
            }
            return first;
        }
        if !self.release().is_ok_and(|there| there) {
            return first;
        }
        let second = work();
        self.refill();
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_given_for_what_finds_none_and_kept_again() {
        let folder = tempfile::tempdir().expect("folder");
        let (reserve, file) = (Reserve::new(folder.path(), 10), folder.path().join("reserve"));
        let is_full = |error: &&str| *error == "full";
        assert_eq!(reserve.within(is_full, || Err::<(), _>("full")), Err("full"), "there was no reserve");
        assert_eq!(reserve.within(is_full, || Ok(1)), Ok(1));
        assert_eq!(fs::read(&file).expect("kept"), [0; 10]);
        let mut seen = Vec::new();
        let outcome = reserve.within(is_full, || {
            seen.push(file.exists());
            if file.exists() { Err("full") } else { Ok(2) }
        });
        assert_eq!((outcome, seen), (Ok(2), vec![true, false]));
        assert!(file.exists());
        let mut calls = 0;
        let outcome = reserve.within(is_full, || {
            calls += 1;
            Err::<(), _>("other")
        });
        assert_eq!((outcome, calls, file.exists()), (Err("other"), 1, true));
    }
}
