//! Owners where only one id exists ([`OverlayXattrs::UserOneId`]): beside the file, in an attribute of it.
//!
//! The kernel refuses an owner that is not mapped, and an image is full of them. The owner that was meant then goes to
//! [`ATTRIBUTE`], which overlayfs copies with the file that a container changes, and from there to the next layer. Only
//! files and folders can have it: a link's owner is in the layer's table alone, which is enough for all but links that
//! are moved.

use super::{OverlayXattrs, xattr};
use rustix::{
    fs::{self, AtFlags, CWD, Gid, Uid, XattrFlags},
    io::Errno,
};
use std::{io, os::fd::AsFd, path::Path};

/// Holds the owner that is meant, as `uid:gid` in decimal. It never travels in an archive.
pub const ATTRIBUTE: &str = "user.slipway.owner";

/// Overlayfs's mark on what it copied up from a lower layer.
const ORIGIN: &str = "user.overlay.origin";

/// The longest value: two numbers of ten digits and a colon.
const VALUE_BYTES: usize = 21;

/// Gives `path`, which is not followed if it is a link, an owner: on disk, or beside where that cannot be.
///
/// # Errors
/// When the file system refuses.
pub fn give(path: &Path, uid: u32, gid: u32, xattrs: OverlayXattrs) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    match fs::chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW) {
        // EPERM: who may change no owner, though all ids are there
        Err(Errno::INVAL | Errno::PERM) if xattrs == OverlayXattrs::UserOneId => {
            xattr::set(path, ATTRIBUTE.as_bytes(), format!("{uid}:{gid}").as_bytes())
        }
        other => Ok(other?),
    }
}

/// The owner beside an open file or folder.
///
/// # Errors
/// When the file system refuses.
pub fn read(file: impl AsFd) -> io::Result<Option<(u32, u32)>> {
    let mut value = [0u8; VALUE_BYTES];
    match fs::fgetxattr(file, ATTRIBUTE, &mut value[..]) {
        Ok(length) => Ok(parse(&value[..length])),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Puts the owner beside an open file or folder.
///
/// # Errors
/// When the file system refuses.
pub fn write(file: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    Ok(fs::fsetxattr(file, ATTRIBUTE, format!("{uid}:{gid}").as_bytes(), XattrFlags::empty())?)
}

/// The owner of a file or folder in an upper folder: the one beside it, root where it was copied up without one, else
/// the `creator`, as whom everything ran. That one is put beside it, as the upper folder becomes the layer's.
pub(super) fn of_upper(file: impl AsFd, creator: (u32, u32)) -> io::Result<(u32, u32)> {
    if let Some(owner) = read(&file)? {
        return Ok(owner);
    }
    match fs::fgetxattr(&file, ORIGIN, &mut [0u8; 0][..]) {
        Ok(_) | Err(Errno::RANGE) => Ok((0, 0)),
        Err(Errno::NODATA) if creator == (0, 0) => Ok(creator),
        Err(Errno::NODATA) => write(&file, creator.0, creator.1).map(|()| creator),
        Err(Errno::OPNOTSUPP) => Ok(creator),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_as_they_were_written() {
        for (value, owner) in [
            ("0:42", Some((0, 42))),
            ("4294967294:4294967294", Some((u32::MAX - 1, u32::MAX - 1))),
            ("1000", None),
            ("1:2:3", None),
            ("-1:0", None),
            ("", None),
        ] {
            assert_eq!(parse(value.as_bytes()), owner, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_on_disk_is_beside_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "").expect("file");
        let file = std::fs::File::open(&path).expect("open");
        assert_eq!(read(&file).expect("read"), None);
        write(&file, 7, 8).expect("written");
        assert_eq!(read(&file).expect("read"), Some((7, 8)));
        assert_eq!(of_upper(&file, (5, 5)).expect("owner"), (7, 8));
        let folder = std::fs::File::open(folder.path()).expect("open");
        assert_eq!(of_upper(&folder, (0, 0)).expect("owner"), (0, 0));
        assert_eq!(read(&folder).expect("read"), None);
        assert_eq!(of_upper(&folder, (5, 6)).expect("owner"), (5, 6));
        assert_eq!(of_upper(&folder, (7, 7)).expect("owner"), (5, 6), "it stays");
    }
}
