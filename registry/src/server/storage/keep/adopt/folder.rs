//! A folder that somebody else wrote, walked by descriptors: no link in it is ever followed, so no path leads out of it.

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

/// A folder that is held open.
pub(super) struct Folder(OwnedFd);

/// Why a name is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// A symbolic link.
    #[error("it is a symbolic link, which is not followed")]
    Link,
    /// A folder, a pipe, a device, where a file should be; or no folder where one should be.
    #[error("it is no {0}")]
    Kind(&'static str),
    /// The system says no.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// What opening a name came to.
type Opened<T> = Result<Option<T>, Odd>;

fn odd(error: Errno, wanted: &'static str) -> Odd {
    match error {
        Errno::LOOP => Odd::Link,
        Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => Odd::Kind(wanted),
        other => Odd::Unreadable(io::Error::from(other).to_string()),
    }
}

impl Folder {
    /// Holds what the caller named, links on the way followed: it is theirs.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// A folder in it; `None` where there is none of that name.
    pub(super) fn folder(&self, name: &str) -> Opened<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.0, name, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Folder(folder))),
            Err(Errno::NOENT) => Ok(None),
            // a link is no folder to the kernel, which looks at that first
            Err(Errno::NOTDIR) if self.is_link(name) => Err(Odd::Link),
            Err(error) => Err(odd(error, "folder")),
        }
    }

    fn is_link(&self, name: &str) -> bool {
        let found = rustix::fs::statat(&self.0, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
    }

    /// A folder further down.
    pub(super) fn below(&self, names: &[&str]) -> Opened<Folder> {
        let mut names = names.iter();
        let Some(first) = names.next() else { return Ok(None) };
        let mut found = self.folder(first)?;
        for name in names {
            found = match found {
                Some(folder) => folder.folder(name)?,
                None => return Ok(None),
            };
        }
        Ok(found)
    }

    /// A regular file in it; `None` where there is nothing of that name.
    pub(super) fn file(&self, name: &str) -> Opened<File> {
        // a pipe in the place of a file must not hang us
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(odd(error, "file")),
        };
        let found = fstat(&file).map_err(|error| odd(error, "file"))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => Ok(Some(File::from(file))),
            _ => Err(Odd::Kind("file")),
        }
    }

    /// The text of a small file and when it was written, in seconds since 1970.
    pub(super) fn text(&self, name: &str, most_bytes: u64) -> Opened<(String, i64)> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let unreadable = |error: io::Error| Odd::Unreadable(error.to_string());
        let written = file.metadata().map_err(unreadable)?.modified().map_err(unreadable)?;
        let mut text = String::new();
        match file.take(most_bytes).read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => text.clear(),
            Err(error) => return Err(unreadable(error)),
        }
        Ok(Some((text, crate::server::storage::seconds(written))))
    }

    /// Moves a file of it to `path`, which is the caller's.
    pub(super) fn rename_out(&self, name: &str, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, name, rustix::fs::CWD, path)?)
    }

    /// Names in it, sorted; those that are no text are shown as far as they are.
    pub(super) fn names(&self) -> Result<Vec<String>, Odd> {
        let unreadable = |error: Errno| Odd::Unreadable(io::Error::from(error).to_string());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}
