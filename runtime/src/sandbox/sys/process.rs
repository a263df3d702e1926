//! Credentials, namespaces and the rest that a starting process sets.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{check, raw};

/// Leaves the caller's control group namespace (unshare(2), `CLONE_NEWCGROUP`).
pub(crate) fn unshare_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: no memory, descriptor or thread is affected, only what /proc and cgroupfs show this process.
    check(unsafe { raw::call(libc::SYS_unshare, [libc::CLONE_NEWCGROUP as usize, 0, 0, 0, 0, 0]) }).map(drop)
}

/// Moves the calling thread to namespaces of its own (unshare(2)).
pub(crate) fn unshare(flags: i32) -> Result<(), Errno> {
    // SAFETY: callers pass CLONE_NEWUSER, CLONE_NEWNS or CLONE_FS, which leave memory and descriptors shared.
    check(unsafe { raw::call(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]) }).map(drop)
}

/// Waits for the end of a child, reaps it, and tells what it and those that it waited for have used (waitid(2), whose fifth
/// argument glibc leaves out). The first answer is as `si_code` and `si_status` have it.
pub(crate) fn wait_used(pidfd: BorrowedFd<'_>) -> Result<((i32, i32), libc::rusage), Errno> {
    // SAFETY: both are plain numbers, for which zero is a value.
    let (mut ended, mut used): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    let (ended_at, used_at) = (&raw mut ended as usize, &raw mut used as usize);
    let (kind, fd) = (libc::P_PIDFD as usize, pidfd.as_raw_fd() as usize);
    loop {
        let arguments = [kind, fd, ended_at, libc::WEXITED as usize, used_at, 0];
        // SAFETY: both pointers are to values of the kernel's types that outlive the call.
        match check(unsafe { raw::call(libc::SYS_waitid, arguments) }) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    // SAFETY: the kernel has filled in the fields of SIGCHLD.
    let status = unsafe { ended.si_status() };
    Ok(((ended.si_code, status), used))
}

/// Sets the calling thread's supplementary groups (setgroups(2)).
pub(crate) fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: pointer and count are those of the slice, whose element is the kernel's `gid_t`.
    check(unsafe { raw::call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0]) })
        .map(drop)
}

/// Sets the calling thread's three group ids (setresgid(2)).
pub(crate) fn set_group(gid: u32) -> Result<(), Errno> {
    let gid = gid as usize;
    // SAFETY: the call takes numbers only.
    check(unsafe { raw::call(libc::SYS_setresgid, [gid, gid, gid, 0, 0, 0]) }).map(drop)
}

/// Sets the calling thread's three user ids (setresuid(2)).
pub(crate) fn set_user(uid: u32) -> Result<(), Errno> {
    let uid = uid as usize;
    // SAFETY: the call takes numbers only.
    check(unsafe { raw::call(libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0]) }).map(drop)
}

/// Sets the calling thread's ids for files (setfsuid(2), setfsgid(2)), which drops its effective capabilities for files.
pub(crate) fn set_file_ids(uid: u32, gid: u32) -> Result<(), Errno> {
    for (call, id) in [(libc::SYS_setfsgid, gid), (libc::SYS_setfsuid, uid)] {
        // it answers the id before, whether or not it did anything: an id that nobody has asks for it
        for wanted in [id, u32::MAX] {
            // SAFETY: the call takes a number only.
            let before = check(unsafe { raw::call(call, [wanted as usize, 0, 0, 0, 0, 0]) })?;
            if wanted == u32::MAX && before != id as usize {
                return Err(Errno::PERM);
            }
        }
    }
    Ok(())
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, low and high half.
#[repr(C)]
#[derive(Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Makes `mask` the calling thread's effective and permitted set, and the inheritable set empty (capset(2)).
pub(crate) fn set_capabilities(mask: u64) -> Result<(), Errno> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let half = |bits: u32| CapabilityData { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(mask as u32), half((mask >> 32) as u32)];
    // SAFETY: version 3 takes a header and two data structures, which these are.
    check(unsafe {
        raw::call(libc::SYS_capset, [&raw const header as usize, &raw const data as usize, 0, 0, 0, 0])
    })
    .map(drop)
}

/// The calling thread's permitted set (capget(2)).
pub(crate) fn permitted_capabilities() -> Result<u64, Errno> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [CapabilityData::default(), CapabilityData::default()];
    // SAFETY: version 3 takes a header and fills two data structures, which these are.
    check(unsafe {
        raw::call(libc::SYS_capget, [&raw const header as usize, &raw mut data as usize, 0, 0, 0, 0])
    })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// prctl(2) with numbers only: `PR_CAPBSET_DROP`, `PR_SET_NO_NEW_PRIVS`,
/// `PR_SET_DUMPABLE`, `PR_GET_DUMPABLE`, `PR_CAPBSET_READ`,
/// `PR_SET_CHILD_SUBREAPER`, `PR_SET_PDEATHSIG`.
pub(crate) fn prctl(operation: i32, argument: usize) -> Result<usize, Errno> {
    // SAFETY: callers use the operations named above, which take no pointer.
    check(unsafe { raw::call(libc::SYS_prctl, [operation as usize, argument, 0, 0, 0, 0]) })
}

/// Empties the ambient capability set.
pub(crate) fn clear_ambient() -> Result<(), Errno> {
    let arguments = [libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0, 0, 0, 0];
    // SAFETY: the operation takes no pointer.
    check(unsafe { raw::call(libc::SYS_prctl, arguments) }).map(drop)
}

/// Leaves the caller's session keyring for a new, empty one (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { raw::call(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]) }).map(drop)
}

/// The working folder as the kernel sees it from the current root (getcwd(2)); gives the bytes used, zero included.
pub(crate) fn working_folder(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: pointer and length are those of the buffer.
    check(unsafe { raw::call(libc::SYS_getcwd, [buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0, 0]) })
}

/// `struct ifreq` with its flags member (netdevice(7)).
#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

/// Brings the loopback interface of the socket's network namespace up (netdevice(7), `SIOCSIFFLAGS`).
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut request = InterfaceFlags { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    request.flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    let arguments =
        [socket.as_raw_fd() as usize, libc::SIOCSIFFLAGS as usize, &raw const request as usize, 0, 0, 0];
    // SAFETY: `request` is a full `ifreq` of 40 bytes with a terminated name.
    check(unsafe { raw::call(libc::SYS_ioctl, arguments) }).map(drop)
}

/// Duplicates the calling process, which must have one thread (fork(2)); `None` in the child.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: with a single thread, which callers have made sure of, the child may do whatever the parent may.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(pid)),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
    }
}

/// Sets a resource limit of the calling process (prlimit(2)).
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    let arguments = [0, resource as usize, &raw const limit as usize, 0, 0, 0];
    // SAFETY: `limit` has the layout of `struct rlimit64`: two u64, soft first.
    check(unsafe { raw::call(libc::SYS_prlimit64, arguments) }).map(drop)
}
