//! Keeps this program's own file out of containers' reach (CVE-2019-5736).
//!
//! A container whose command is `/proc/self/exe`, or a script or program that names it as its interpreter, makes the
//! kernel execute the file of the process that was about to become the container: ours. That runs us once more, inside,
//! with nothing gained; but the container then holds a way to our file, and as root could write it. So before any
//! container is made the process executes itself once more through a detached, read-only clone of its own file's mount:
//! whoever reaches the file through `/proc/…/exe` reaches it read-only, whatever it may do. That costs one exec and
//! no copy. Where the mount cannot be cloned, a sealed copy in memory serves.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    MemfdFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatvfs, memfd_create,
};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::sandbox::sys;

const OWN_FILE: &str = "/proc/self/exe";

/// Sees to it that this process runs from a file that nobody can write through it. Answers at once where that is so;
/// else the process begins again with `arguments` and `environment`, and this does not return.
///
/// Call it before any thread is started, and after [`enter`](crate::levels::enter).
///
/// # Errors
/// When the program can neither be cloned nor copied; no container should be made then.
pub fn protect(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> io::Result<()> {
    let own = open()?;
    if is_protected(&own)? {
        // before Linux 6.14 a program executed by descriptor is called by the descriptor's number
        let _ = rustix::thread::set_name(c"slipway");
        return Ok(());
    }
    let safe = match read_only_clone(&own) {
        Ok(clone) => clone,
        Err(_) => sealed_copy(&own)?,
    };
    let string = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::other);
    let arguments = arguments.into_iter().map(string).collect::<Result<Vec<_>, _>>()?;
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        string(name)
    };
    let environment = environment.into_iter().map(variable).collect::<Result<Vec<_>, _>>()?;
    let arguments = sys::exec::StringArray::new(arguments);
    let environment = sys::exec::StringArray::new(environment);
    Err(sys::exec::execute_file(safe.as_fd(), &arguments, &environment).into())
}

/// This program's file, which is executable through the descriptor wherever the process is.
pub(crate) fn open() -> io::Result<File> {
    File::open(OWN_FILE)
}

fn is_protected(own: &File) -> io::Result<bool> {
    if fstatvfs(own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // files that cannot be sealed say EINVAL
    Ok(fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// The program's file through a mount of its own that nothing can be written through.
fn read_only_clone(own: &File) -> io::Result<OwnedFd> {
    // by its path: the link itself leads into the mount namespace that the program was started in
    let path = fs::read_link(OWN_FILE)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(rustix::fs::CWD, &path, flags)?;
    let (ours, found) = (fstat(own)?, fstat(&clone)?);
    if (ours.st_dev, ours.st_ino) != (found.st_dev, found.st_ino) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another file has taken the program's place"));
    }
    let attributes = sys::mount::MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
    sys::mount::set_attributes(clone.as_fd(), false, &attributes)?;
    Ok(clone)
}

/// The program's file as a copy in memory that nobody can write.
pub(crate) fn sealed_copy(own: &File) -> io::Result<OwnedFd> {
    let copy = memfd_create(c"slipway", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut writer = File::from(copy);
    io::copy(&mut &*own, &mut writer)?;
    fcntl_add_seals(&writer, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // a file that is open for writing cannot be executed
    let readable =
        File::open(Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&writer).to_string()))?;
    drop(writer);
    Ok(readable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_is_the_program_and_cannot_be_written() {
        let own = File::open(OWN_FILE).expect("own file");
        assert!(!is_protected(&own).expect("looked at"));
        let copy = File::from(sealed_copy(&own).expect("copy"));
        assert_eq!(copy.metadata().expect("copy").len(), own.metadata().expect("own").len());
        assert!(is_protected(&copy).expect("looked at"));
    }

    #[test]
    fn privileged_a_clone_is_read_only() {
        slipway_skip::need_root!();
        let own = File::open(OWN_FILE).expect("own file");
        let clone = File::from(read_only_clone(&own).expect("clone"));
        assert!(is_protected(&clone).expect("looked at"));
    }
}
