//! Files that the caller names for reading. Every flag that takes one comes here.
//!
//! What the caller names is opened once, with the caller's rights and without a check of its kind: a pipe, a FIFO,
//! `/dev/stdin` and the shell's `<(...)` are as good as a file. It is read to its end below a named cap; a signal ends
//! the wait as it ends any other. What a context, a repository or a recipe names is not the caller's: that goes through
//! `oci::Root`, regular files only.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

/// Why a file of the caller cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// It cannot be opened or read.
    #[error("{flag}: cannot read `{}`: {source}", path.display())]
    Read {
        /// Where the name came from.
        flag: &'static str,
        /// The name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is more of it than may be.
    #[error("{flag}: `{}` has more than the {most_bytes} bytes that are read", path.display())]
    TooLarge {
        /// Where the name came from.
        flag: &'static str,
        /// The name.
        path: PathBuf,
        /// The cap.
        most_bytes: u64,
    },
}

/// Whether a name means standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Opens what the caller names; `-` is standard input.
pub(crate) fn open(flag: &'static str, path: &Path) -> Result<File, InputError> {
    let opened = match path.to_str() {
        // the stream itself: one that is a socket cannot be opened by its name
        Some("-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0") => {
            rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3).map(File::from).map_err(io::Error::from)
        }
        _ => File::open(path),
    };
    opened.map_err(|source| InputError::Read { flag, path: path.to_owned(), source })
}

/// Reads what the caller names, to its end and at most `most_bytes`.
pub(crate) fn read(flag: &'static str, path: &Path, most_bytes: u64) -> Result<Vec<u8>, InputError> {
    let file = open(flag, path)?;
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(|source| InputError::Read {
        flag,
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > most_bytes {
        return Err(InputError::TooLarge { flag, path: path.to_owned(), most_bytes });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn pipes_by_every_name_and_the_cap() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let written = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::write(fifo, "through")
        });
        assert_eq!(read("-f", &fifo, 100).unwrap(), b"through");
        written.join().unwrap().unwrap();
        let (ours, theirs) = io::pipe().unwrap();
        io::Write::write_all(&mut { theirs }, b"substituted").unwrap();
        let name = PathBuf::from(format!("/dev/fd/{}", ours.as_raw_fd()));
        assert_eq!(read("-f", &name, 11).unwrap(), b"substituted");
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "123456").unwrap();
        let words = read("--env-file", &plain, 5).unwrap_err().to_string();
        assert!(words.contains("--env-file") && words.contains("plain") && words.contains('5'), "{words}");
        for name in ["missing", ""] {
            let path = folder.path().join(name);
            let words = read("-f", &path, 5).unwrap_err().to_string();
            assert!(words.contains(&*path.to_string_lossy()), "{words}");
        }
        assert!(read("-f", Path::new("/dev/zero"), 1000).is_err(), "no end is no reason to go on");
    }
}
