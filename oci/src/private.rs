//! Folders that are their owner's alone, whatever the umask.
//!
//! What lies below such a folder needs no modes of its own: nobody else gets through the top, so a set-user-id file of
//! an image, a `0777` cache or a socket in it is out of other users' reach. Everything that Slipway keeps on a host
//! begins with a folder made by [`folder`].
//!
//! The folder is judged and tightened through one descriptor, so nothing can be put in its place between the look and
//! the change. A symbolic link as the last component is followed only where it is the caller's own or root's: another
//! user's link in a shared folder (`/tmp/x -> /home/you`) leads nowhere. On the way there the kernel's own rule holds
//! (`fs.protected_symlinks`), also where that is switched off: in a folder that others may write, a link counts only
//! if it is the caller's or the folder's owner's.
//!
//! What cannot be mended from here is a parent that others may write without the sticky bit: they can put another
//! folder in the place of ours at any time. [`open_parents`] names those, so that the caller can be told.

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

/// Most links that stand in for the folder, one behind the other (Linux `MAXSYMLINKS`).
const LINKS: usize = crate::limits::SYMLINKS;

/// Why a folder cannot be one's own.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// It belongs to somebody else, who could read and change what is put there.
    #[error(
        "`{path}` belongs to user {owner}, not to user {user}: choose a folder of your own, or one that is not there yet"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Another user's link stands in its place.
    #[error(
        "`{path}` is a symbolic link that belongs to user {owner}: it is not followed; name its target instead"
    )]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It cannot be closed to others: the file system has one mode for all, as FAT has.
    #[error(
        "`{path}` stays open to other users (mode {mode:o}), for its file system keeps no modes: choose a folder on another \
         one, or mount that one for its owner alone (`umask=077`)"
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// The mode that it has and keeps.
        mode: u32,
    },
    /// Something else has the name.
    #[error("`{path}` is not a folder")]
    NotFolder {
        /// The path.
        path: PathBuf,
    },
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

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> PrivateError {
    let path = path.to_owned();
    move |errno| PrivateError::Io { operation, path, source: errno.into() }
}

/// Makes `path` as a folder of the caller alone, or checks that it is one and closes it to others (mode 0700). Answers
/// a descriptor of the folder (`O_PATH`) that was checked.
///
/// Missing parents are made as `mkdir -p` makes them, but never open to other users' writing.
pub fn folder(path: &Path) -> Result<OwnedFd, PrivateError> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        check_way(&path)?;
        let found = open_or_make(&path)?;
        let status = fs::fstat(&found).map_err(failed("read", &path))?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => {
                close_to_others(&found, &status, &path)?;
                return Ok(found);
            }
            FileType::Symlink => path = follow(&found, &status, &path)?,
            _ => return Err(PrivateError::NotFolder { path }),
        }
    }
    Err(failed("open", &path)(Errno::LOOP))
}

/// The folders above `path`, which is there, that others may write and have no sticky bit.
pub fn open_parents(path: &Path) -> io::Result<Vec<PathBuf>> {
    let real = path.canonicalize()?;
    let own_group = rustix::process::getegid().as_raw();
    let mut open = Vec::new();
    for parent in real.ancestors().skip(1) {
        let status = fs::stat(parent)?;
        // a group of one's own is the caller alone as a rule (umask 002 goes with it), and group 0 is root's
        let group = status.st_mode & 0o020 != 0 && status.st_gid != own_group && status.st_gid != 0;
        if (group || status.st_mode & 0o002 != 0) && status.st_mode & 0o1000 == 0 {
            open.push(parent.to_owned());
        }
    }
    Ok(open)
}

/// Refuses links of others in folders that others may write, on the way to the last component of `path`.
fn check_way(path: &Path) -> Result<(), PrivateError> {
    let user = rustix::process::geteuid().as_raw();
    let mut left: Vec<OsString> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let (mut at, mut links) = (PathBuf::new(), 0);
    // the last one is judged by `folder`
    while left.len() > 1 {
        let next = at.join(left.pop().unwrap_or_default());
        let status = match fs::lstat(&next) {
            // what is not there is made, or fails, where it is needed
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.map_err(failed("read", &next))?,
        };
        if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(failed("open", path)(Errno::LOOP));
        }
        let here = if at.as_os_str().is_empty() { Path::new(".") } else { &at };
        let holder = fs::stat(here).map_err(failed("read", here))?;
        if holder.st_mode & 0o022 != 0 && status.st_uid != user && status.st_uid != holder.st_uid {
            return Err(PrivateError::ForeignLink { path: next, owner: status.st_uid });
        }
        let target = fs::readlink(&next, Vec::new()).map_err(failed("read", &next))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        left.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
    }
    Ok(())
}

/// Opens what has the name, no link followed, or makes a folder of it.
fn open_or_make(path: &Path) -> Result<OwnedFd, PrivateError> {
    let open = || fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        other => return other.map_err(failed("open", path)),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // 0755 less the umask: with a umask of 0 others could otherwise rename what is made below
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.map_err(|source| PrivateError::Io { operation: "create", path: parent.to_owned(), source })?;
    }
    match fs::mkdir(path, Mode::RWXU) {
        // another process may have been first: what it made is judged like any other
        Ok(()) | Err(Errno::EXIST) => open().map_err(failed("open", path)),
        Err(errno) => Err(failed("create", path)(errno)),
    }
}

fn close_to_others(folder: &OwnedFd, status: &fs::Stat, path: &Path) -> Result<(), PrivateError> {
    let user = rustix::process::geteuid().as_raw();
    if status.st_uid != user {
        return Err(PrivateError::Foreign { path: path.to_owned(), owner: status.st_uid, user });
    }
    if Mode::from_raw_mode(status.st_mode) & Mode::from_raw_mode(0o777) == Mode::RWXU {
        return Ok(());
    }
    tighten(folder, status, path)?;
    // FAT and its like answer that it is done
    let mode = fs::fstat(folder).map_err(failed("read", path))?.st_mode & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(PrivateError::Open { path: path.to_owned(), mode }),
    }
}

fn tighten(folder: &OwnedFd, status: &fs::Stat, path: &Path) -> Result<(), PrivateError> {
    // a descriptor made by O_PATH takes no fchmod(2) (open(2)); its entry in /proc leads to the same inode
    let entry = format!("/proc/self/fd/{}", folder.as_raw_fd());
    match fs::chmod(entry, Mode::RWXU) {
        Err(Errno::NOENT | Errno::NOTDIR) => {
            // no /proc: by its name, and proven to be the same folder
            let again = fs::open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(failed("open", path))?;
            let now = fs::fstat(&again).map_err(failed("read", path))?;
            if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino) {
                return Err(failed("open", path)(Errno::AGAIN));
            }
            fs::fchmod(&again, Mode::RWXU).map_err(failed("close to others", path))
        }
        other => other.map_err(failed("close to others", path)),
    }
}

/// Where a link leads that the caller may trust.
fn follow(link: &OwnedFd, status: &fs::Stat, path: &Path) -> Result<PathBuf, PrivateError> {
    if status.st_uid != rustix::process::geteuid().as_raw() && status.st_uid != 0 {
        return Err(PrivateError::ForeignLink { path: path.to_owned(), owner: status.st_uid });
    }
    // the empty name reads the link that the descriptor stands for (readlinkat(2), since Linux 2.6.39)
    let target = fs::readlinkat(link, "", Vec::new()).map_err(failed("read", path))?;
    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
    Ok(path.parent().unwrap_or(Path::new("")).join(target))
}

/// Makes a new, empty folder of the caller alone inside `parent`, whatever the umask; a name that is taken is an error.
pub fn new_folder(path: &Path) -> io::Result<()> {
    fs::mkdir(path, Mode::RWXU)?;
    // the umask may have taken bits of the owner, and a default access list may have given some to others
    let status = fs::statat(fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if Mode::from_raw_mode(status.st_mode) & Mode::from_raw_mode(0o777) != Mode::RWXU {
        fs::chmodat(fs::CWD, path, Mode::RWXU, AtFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::Permissions,
        os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    };

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("metadata").mode() & 0o7777
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("folder")
    }

    #[test]
    fn a_folder_that_is_made_is_closed_and_an_open_one_becomes_so() {
        let top = scratch();
        let made = top.path().join("a/b/made");
        folder(&made).expect("made");
        assert_eq!(mode(&made), 0o700);
        for before in [0o755, 0o777, 0o1777, 0o750, 0o701, 0o711, 0o400, 0o000] {
            let path = top.path().join(format!("was-{before:o}"));
            std::fs::create_dir(&path).expect("folder");
            std::fs::set_permissions(&path, Permissions::from_mode(before)).expect("mode");
            folder(&path).expect("closed");
            assert_eq!(mode(&path) & 0o777, 0o700, "{before:o}");
            folder(&path).expect("again");
        }
    }

    #[test]
    fn the_descriptor_is_that_of_the_folder() {
        let top = scratch();
        let path = top.path().join("x");
        let held = folder(&path).expect("made");
        let status = fs::fstat(&held).expect("status");
        assert_eq!(status.st_ino, std::fs::metadata(&path).expect("metadata").ino());
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        let top = scratch();
        let file = top.path().join("file");
        std::fs::write(&file, "").expect("file");
        assert!(matches!(folder(&file), Err(PrivateError::NotFolder { .. })));
        assert!(folder(&file.join("below")).is_err());
        let turning = top.path().join("turning");
        symlink("turning", &turning).expect("link");
        assert!(matches!(folder(&turning), Err(PrivateError::Io { .. })));
    }

    #[test]
    fn own_links_lead_to_a_folder_that_is_closed_too() {
        let top = scratch();
        symlink("real", top.path().join("one")).expect("link");
        symlink(top.path().join("one"), top.path().join("two")).expect("link");
        folder(&top.path().join("two")).expect("made at the end");
        assert_eq!(mode(&top.path().join("real")), 0o700);
        assert!(top.path().join("two").is_symlink());
    }

    #[test]
    fn parents_that_others_may_write_are_named() {
        let top = scratch();
        let real = top.path().canonicalize().expect("real");
        let path = real.join("parent/below/store");
        folder(&path).expect("made");
        let parent = real.join("parent");
        let own = rustix::process::getegid().as_raw();
        for (mode, open) in [
            (0o755, false),
            (0o777, true),
            (0o1777, false),
            (0o757, true),
            (0o702, true),
            (0o1703, false),
            // of the caller's own group
            (0o775, false),
        ] {
            std::fs::set_permissions(&parent, Permissions::from_mode(mode)).expect("mode");
            let found: Vec<PathBuf> = open_parents(&path).expect("looked");
            assert_eq!(found.contains(&parent), open, "{mode:o}, group {own}: {found:?}");
        }
    }

    #[test]
    fn privileged_links_on_the_way_are_taken_by_the_kernels_rule() {
        slipway_skip::need_root!();
        let top = scratch();
        let shared = top.path().join("shared");
        std::fs::create_dir(&shared).expect("folder");
        std::fs::create_dir(top.path().join("target")).expect("folder");
        let link = shared.join("link");
        symlink(top.path().join("target"), &link).expect("link");
        std::os::unix::fs::lchown(&link, Some(54_329), None).expect("owner");
        for (mode, owner, taken) in [
            (0o1777, 0, false),
            (0o777, 0, false),
            (0o775, 0, false),
            // nobody but root and the owner of the folder can have made it
            (0o755, 0, true),
            (0o1777, 54_329, true),
        ] {
            chown(&shared, Some(owner), None).expect("owner");
            std::fs::set_permissions(&shared, Permissions::from_mode(mode)).expect("mode");
            let made = folder(&link.join("below/store"));
            assert_eq!(made.is_ok(), taken, "{mode:o} of {owner}: {made:?}");
            let refused = matches!(made, Err(PrivateError::ForeignLink { owner: 54_329, .. }));
            assert_eq!(refused, !taken, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn a_new_folder_is_new_and_closed() {
        let top = scratch();
        let path = top.path().join("new");
        new_folder(&path).expect("made");
        assert_eq!(mode(&path), 0o700);
        assert_eq!(new_folder(&path).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn privileged_another_users_folder_and_link_are_refused() {
        let top = scratch();
        if chown(top.path(), Some(54_329), None).is_err() {
            return;
        }
        let theirs = top.path().join("theirs");
        std::fs::create_dir(&theirs).expect("folder");
        std::fs::set_permissions(&theirs, Permissions::from_mode(0o755)).expect("mode");
        chown(&theirs, Some(54_329), None).expect("owner");
        let error = folder(&theirs).expect_err("refused");
        assert!(matches!(error, PrivateError::Foreign { owner: 54_329, .. }), "{error}");
        assert_eq!(mode(&theirs), 0o755, "what is somebody else's is left as it is");
        let own = scratch();
        let link = top.path().join("link");
        symlink(own.path(), &link).expect("link");
        std::os::unix::fs::lchown(&link, Some(54_329), None).expect("owner");
        assert!(matches!(folder(&link), Err(PrivateError::ForeignLink { owner: 54_329, .. })));
    }
}
