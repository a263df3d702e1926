//! Landlock (landlock(7)), of which one part is used: a domain from which no abstract unix socket of others is reached.

use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null;

use rustix::io::Errno;

use super::{check, raw};

/// `struct landlock_ruleset_attr` of linux/landlock.h, as of version 6.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` (linux/landlock.h).
const ABSTRACT_UNIX_SOCKET: u64 = 1;
/// `LANDLOCK_CREATE_RULESET_VERSION` (linux/landlock.h).
const VERSION: usize = 1;

/// The version of the interface; 0 where the kernel has none or does not use it.
pub(crate) fn version() -> u32 {
    // SAFETY: with this flag the call takes no structure and makes nothing.
    let asked =
        unsafe { raw::call(libc::SYS_landlock_create_ruleset, [null::<()>() as usize, 0, VERSION, 0, 0, 0]) };
    check(asked).map_or(0, |version| version as u32)
}

/// A set of rules that keeps who obeys it to the abstract unix sockets of those who do, too.
pub(crate) fn abstract_sockets() -> Result<OwnedFd, Errno> {
    let rules = Ruleset { files: 0, network: 0, scoped: ABSTRACT_UNIX_SOCKET };
    let arguments = [&raw const rules as usize, size_of::<Ruleset>(), 0, 0, 0, 0];
    // SAFETY: the structure is the kernel's, of the size that the call is told.
    let number = check(unsafe { raw::call(libc::SYS_landlock_create_ruleset, arguments) })?;
    // SAFETY: the call made the descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Makes the calling thread obey a set of rules, for ever. Needs `CAP_SYS_ADMIN` or no_new_privs.
pub(crate) fn obey(rules: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and no pointer.
    check(unsafe { raw::call(libc::SYS_landlock_restrict_self, [rules.as_raw_fd() as usize, 0, 0, 0, 0, 0]) })
        .map(drop)
}
