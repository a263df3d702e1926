//! Files that the caller names for results. Every command that writes one comes here.
//!
//! An output may be anything that a shell can redirect to. The rules:
//!
//! - `-` is standard output, and `/dev/stdout`, `/dev/stderr` and `/dev/fd/1` are the streams themselves, so that what
//!   was written to them before stays.
//! - A link is followed.
//! - What exists and is no regular file (a device, a FIFO, a terminal) is opened and written, never replaced: a rename
//!   would take the device's place.
//! - A regular file is replaced in one step where owner, mode, links and attributes can be kept; else it is written in
//!   place. Readers of a replaced file see the old or the new one.
//! - A new file appears whole or not at all.
//!
//! [`Output::prepare`] finds out what is there and opens it, with the caller's rights, before the work; what cannot be
//! written is an error then. [`Output::finish`] puts the result in its place. An output that is dropped instead leaves
//! what was there.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use slipway_oci::file::temporary_name;
use std::{
    fs::{self, File, Metadata},
    io::{self, BufWriter, Read, Seek, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// Most links from an output's name to its file, as the kernel's `MAXSYMLINKS`.
const MOST_LINKS: usize = 40;

/// Why an output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: cannot write `{}`: {source}", path.display())]
pub(crate) struct OutputError {
    flag: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl OutputError {
    /// The name that the caller gave.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// An output that is open and takes bytes.
pub(crate) struct Output {
    flag: &'static str,
    /// The name that the caller gave.
    name: PathBuf,
    writer: BufWriter<File>,
    place: Place,
    /// Whether the reader at the other end went away.
    abandoned: bool,
}

/// Where the bytes go in the end.
enum Place {
    /// Where they are written.
    There,
    /// Into a regular file that is to be written in place; they are beside nobody's file until then.
    Within(File),
    /// Over the regular file `target`, which was `old` when it was looked at.
    Over { target: PathBuf, old: Metadata, file: File, temporary: Temporary },
    /// At `target`, where nothing was.
    New { target: PathBuf, temporary: Temporary },
}

/// A temporary file's name; none where the file system makes files without one.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // the error that counts came before
            let _ = fs::remove_file(path);
        }
    }
}

impl Output {
    /// Opens `name`, which came with `flag`, for writing.
    pub(crate) fn prepare(flag: &'static str, name: &Path) -> Result<Output, OutputError> {
        let wrong = |source| OutputError { flag, path: name.to_owned(), source };
        let (file, place) = open(name).map_err(wrong)?;
        Ok(Output {
            flag,
            name: name.to_owned(),
            writer: BufWriter::with_capacity(BUFFER_BYTES, file),
            place,
            abandoned: false,
        })
    }

    /// A file that is new is its owner's alone, whatever the umask.
    pub(crate) fn for_its_owner(self) -> Result<Output, OutputError> {
        if let Place::New { .. } = &self.place {
            let mode = fs::Permissions::from_mode(0o600);
            let changed = self.writer.get_ref().set_permissions(mode);
            changed.map_err(|source| OutputError { flag: self.flag, path: self.name.clone(), source })?;
        }
        Ok(self)
    }

    /// Whether a write failed since the reader went away: it has had what it wanted.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Puts what was written in its place.
    pub(crate) fn finish(mut self) -> Result<(), OutputError> {
        let wrong = |source| OutputError { flag: self.flag, path: self.name.clone(), source };
        match self.writer.flush() {
            // a reader that went away has had what it wanted
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(wrong)?,
        }
        let file = self.writer.get_mut();
        match &mut self.place {
            Place::There => Ok(()),
            Place::Within(target) => copy(file, target),
            Place::Over { target, old, file: there, temporary } => {
                file.sync_data().map_err(wrong)?;
                match replace(file, target, old, temporary) {
                    // a file that is mounted, or whose folder went read-only meanwhile
                    Err(_) => copy(file, there),
                    Ok(()) => Ok(()),
                }
            }
            Place::New { target, temporary } => {
                file.sync_data().map_err(wrong)?;
                name_it(file, target, temporary)
            }
        }
        .map_err(wrong)
    }

    /// Writes `bytes` as the whole of the output.
    pub(crate) fn finish_with(mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let (flag, path) = (self.flag, self.name.clone());
        match self.writer.write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(source) => Err(OutputError { flag, path, source }),
            Ok(()) => self.finish(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes);
        self.abandoned |= written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        // who writes through layers of others must still learn that it is this place that is full
        written.map_err(|source| match slipway_oci::file::is_full(&source) {
            true => {
                let kind = source.kind();
                io::Error::new(kind, OutputError { flag: self.flag, path: self.name.clone(), source })
            }
            false => source,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.writer.flush();
        self.abandoned |= flushed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        flushed
    }
}

/// Opens and writes `bytes` at `name` at once.
pub(crate) fn write(flag: &'static str, name: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    Output::prepare(flag, name)?.finish_with(bytes)
}

/// The file that takes the bytes, and where they go from there.
fn open(name: &Path) -> io::Result<(File, Place)> {
    if let Some(stream) = stream(name) {
        return Ok((stream?, Place::There));
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::open(name, flags, Mode::empty()) {
        Ok(file) => existing(name, File::from(file)),
        Err(rustix::io::Errno::NOENT) => {
            let target = end_of_links(name)?;
            let (file, temporary) = beside(&target)?;
            // what a shell's redirection makes: the caller's umask decides
            Ok((file, Place::New { target, temporary }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The caller's own stream that `name` means.
fn stream(name: &Path) -> Option<io::Result<File>> {
    let dup =
        |stream: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(stream, 3).map(File::from).map_err(Into::into);
    match name.to_str()? {
        "-" | "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(dup(&io::stdout())),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(dup(&io::stderr())),
        _ => None,
    }
}

/// What is to be done with a file that is there.
fn existing(name: &Path, file: File) -> io::Result<(File, Place)> {
    let old = file.metadata()?;
    let kind = old.file_type();
    if !kind.is_file() {
        if kind.is_block_device() || kind.is_char_device() || kind.is_fifo() {
            return Ok((file, Place::There));
        }
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a device nor a pipe",
        ));
    }
    // a descriptor of the caller by its name in /proc may have no name of its own any more
    let target = match fs::canonicalize(name) {
        Ok(target) if same(&fs::symlink_metadata(&target)?, &old) => target,
        _ => return in_place(file),
    };
    // another name, an access list, a label: a new file would not have them
    if old.nlink() != 1 || has_attributes(&file) {
        return in_place(file);
    }
    let Ok((new, temporary)) = beside(&target) else { return in_place(file) };
    match keep(&new, &old) {
        Ok(()) => Ok((new, Place::Over { target, old, file, temporary })),
        Err(_) => in_place(file),
    }
}

/// The bytes are kept in memory's or the disk's temporary folder until they are whole, then written over the file.
fn in_place(file: File) -> io::Result<(File, Place)> {
    let folder = std::env::temp_dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(spool) => Ok((File::from(spool), Place::Within(file))),
        Err(_) => {
            // no place to keep them: they go where they belong at once
            file.set_len(0)?;
            Ok((file, Place::There))
        }
    }
}

fn has_attributes(file: &File) -> bool {
    rustix::fs::flistxattr_query(file).is_ok_and(|bytes| bytes > 0)
}

/// Gives a new file owner and mode of the old one.
fn keep(new: &File, old: &Metadata) -> io::Result<()> {
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Where a name leads that has no file at its end.
fn end_of_links(name: &Path) -> io::Result<PathBuf> {
    let mut here = name.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&here) {
            Ok(next) => here = folder_of(&here).join(next),
            // nothing there: the name itself; anything else shows when the file is made
            Err(_) => return Ok(here),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// The folder that a name stands in; a bare name's is the working folder.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// A new file in the folder of `target`, without a name where the file system can: nothing is left of it by a kill.
fn beside(target: &Path) -> io::Result<(File, Temporary)> {
    let folder = folder_of(target);
    // a name that ends in a slash, or in `..`, is a folder's
    let slash = target.as_os_str().as_encoded_bytes().ends_with(b"/");
    if slash || target.file_name().is_none() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    let mode = Mode::from_bits_truncate(0o666);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, mode) {
        Ok(file) => Ok((File::from(file), Temporary(None))),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            let temporary = folder.join(temporary_name(".slipway-output"));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::open(&temporary, flags, mode)?;
            Ok((File::from(file), Temporary(Some(temporary))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a file that has no name one, in the folder of `target`.
fn link(file: &File, name: &Path) -> io::Result<()> {
    let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    rustix::fs::linkat(CWD, magic, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(Into::into)
}

/// Puts a new file at `target`; what came there meanwhile is replaced if it is a regular file.
fn name_it(file: &File, target: &Path, temporary: &mut Temporary) -> io::Result<()> {
    if temporary.0.is_none() {
        match link(file, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let name = folder_of(target).join(temporary_name(".slipway-output"));
        link(file, &name)?;
        temporary.0 = Some(name);
    }
    let Some(name) = &temporary.0 else { return Ok(()) };
    if fs::symlink_metadata(target).is_ok_and(|now| !now.file_type().is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something else came to this name meanwhile",
        ));
    }
    fs::rename(name, target)?;
    temporary.0 = None;
    Ok(())
}

/// Puts a new file over `target`, if that is still the file that was looked at.
fn replace(file: &File, target: &Path, old: &Metadata, temporary: &mut Temporary) -> io::Result<()> {
    if !same(&fs::symlink_metadata(target)?, old) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file came to this name meanwhile"));
    }
    if temporary.0.is_none() {
        let name = folder_of(target).join(temporary_name(".slipway-output"));
        link(file, &name)?;
        temporary.0 = Some(name);
    }
    let Some(name) = &temporary.0 else { return Ok(()) };
    fs::rename(name, target)?;
    temporary.0 = None;
    Ok(())
}

/// Writes the whole of one file over another.
fn copy(from: &mut File, to: &mut File) -> io::Result<()> {
    from.rewind()?;
    to.set_len(0)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.sync_data(),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const OLD: &[u8] = b"an old text that is longer";

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn new_files_appear_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new");
        let mut output = Output::prepare("-o", &target).unwrap();
        output.write_all(b"half").unwrap();
        assert_eq!(names(folder.path()), Vec::<String>::new(), "no name before the end");
        drop(output);
        assert_eq!(names(folder.path()), Vec::<String>::new());
        write("-o", &target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["new"]);
    }

    #[test]
    fn a_replaced_file_keeps_owner_mode_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&target, OLD).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        let before = fs::metadata(&target).unwrap();
        write("-o", &link, b"new").unwrap();
        let after = fs::metadata(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(after.mode(), before.mode());
        assert_ne!(after.ino(), before.ino(), "in one step");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("file"));
        assert_eq!(names(folder.path()), ["file", "link"]);
        let mut output = Output::prepare("-o", &link).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(fs::read(&target).unwrap(), b"new", "what is given up leaves the old file");
    }

    #[test]
    fn a_file_with_two_names_is_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, OLD).unwrap();
        fs::hard_link(&one, &two).unwrap();
        let mut output = Output::prepare("-o", &one).unwrap();
        output.write_all(b"new").unwrap();
        assert_eq!(fs::read(&two).unwrap(), OLD, "untouched until the end");
        output.finish().unwrap();
        assert_eq!((fs::read(&one).unwrap(), fs::read(&two).unwrap()), (b"new".to_vec(), b"new".to_vec()));
    }

    #[test]
    fn links_to_nothing_and_loops() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("deep"), folder.path().join("link"));
        fs::create_dir(folder.path().join("sub")).unwrap();
        symlink("sub/../sub/new", &link).unwrap();
        write("-o", &link, b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("sub/new")).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        symlink(&target, folder.path().join("other")).unwrap();
        symlink("other", &target).unwrap();
        assert!(Output::prepare("-o", &target).is_err());
    }

    #[test]
    fn pipes_are_written_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let read = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write("-o", &pipe, b"through").unwrap();
        assert_eq!(read.join().unwrap(), b"through");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[test]
    fn terminals_are_written_and_stay() {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(name.to_str().unwrap(), &link).unwrap();
        let output = Output::prepare("-o", &link).unwrap();
        output.finish_with(b"seen").unwrap();
        let mut bytes = [0; 4];
        rustix::io::read(&master, &mut bytes).unwrap();
        assert_eq!(&bytes, b"seen");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_cannot_be_written_is_named_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), OLD).unwrap();
        for (name, part) in [
            ("", "directory"),
            ("missing/x", "No such file"),
            ("missing/", "directory"),
            ("file/x", "Not a directory"),
            ("..", "directory"),
        ] {
            let path = folder.path().join(name);
            let Err(error) = Output::prepare("--iidfile", &path) else { panic!("{name}") };
            let words = format!("{error}");
            assert!(words.starts_with("--iidfile: cannot write `"), "{words}");
            assert!(words.contains(&*path.to_string_lossy()) && words.contains(part), "{words}");
        }
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn bare_names_stand_in_the_working_folder() {
        for (name, folder) in [("x", "."), ("./x", "."), ("a/x", "a"), ("/x", "/"), ("/", "/"), ("..", ".")] {
            assert_eq!(folder_of(Path::new(name)), Path::new(folder), "{name}");
        }
    }
}
