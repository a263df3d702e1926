//! Changes of owner where only one id is mapped: kept beside the files ([`slipway_oci::layer::owner`]).
//!
//! The kernel answers `EINVAL` to an owner that it cannot have, and to say "done" without doing it would lose what was
//! asked for. So the filter leaves these calls to a thread of ours, which is in the container's mount namespace while the
//! container lives:
//!
//! ```text
//! chown("/srv", 33, 33) ── waits ──> listener ── opens /srv as the container sees it ── attribute `33:33` ── "done"
//! ```
//!
//! The path is read from the caller's memory, and may change while it is read: whatever it leads to is in the
//! container's own tree, where its root may change every owner anyway. Nothing is followed through `/proc`.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, openat, openat2,
};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use slipway_oci::layer::owner;

use crate::sandbox::child::KEPT;
use crate::sandbox::seccomp::NATIVE_MACHINE;
use crate::sandbox::sys;
use crate::sandbox::sys::seccomp::Call;

/// The longest path that is read (`PATH_MAX`, linux/limits.h).
const MAX_PATH_BYTES: usize = 4096;
/// An owner that is not to be changed.
const SAME: u32 = u32::MAX;

/// The way on which the listener comes from the child.
pub(crate) struct Channel {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Channel {
    pub(crate) fn new() -> Result<Channel, Errno> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // above the numbers at which the child puts what it keeps
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, KEPT)?;
        Ok(Channel { ours, theirs })
    }

    /// The child's side.
    pub(crate) fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }
}

/// Sends the listener. Runs in the child: system calls only.
pub(crate) fn send(channel: BorrowedFd<'_>, listener: &OwnedFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(channel, &[IoSlice::new(b"l")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn receive(channel: &Channel) -> Result<OwnedFd, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8];
    // the child has sent it before its exec, or failed
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(&channel.ours, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or(Errno::BADMSG)
}

/// The number of the caller's own descriptor that a path names (proc_pid_fd(5)).
fn own_descriptor(path: &[u8]) -> Option<i32> {
    match path {
        b"/dev/stdin" => Some(0),
        b"/dev/stdout" => Some(1),
        b"/dev/stderr" => Some(2),
        _ => {
            let names = [&b"/dev/fd/"[..], b"/proc/self/fd/", b"/proc/thread-self/fd/"];
            let number = names.iter().find_map(|name| path.strip_prefix(*name))?;
            str::from_utf8(number).ok()?.parse().ok().filter(|number| *number >= 0)
        }
    }
}

/// The thread that answers, while the container lives. Waited for when dropped, so that it is there no more when the
/// container's mounts have to be gone.
#[derive(Debug)]
pub(crate) struct Keeper(Option<JoinHandle<()>>);

impl Keeper {
    /// Lets it answer as long as this process and the container live.
    pub(crate) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // a panic of it has been told already
            let _ = thread.join();
        }
    }
}

/// Starts answering for a container.
pub(crate) fn keep(channel: &Channel, pid: Pid, pidfd: BorrowedFd<'_>) -> Result<Keeper, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let answering = Answering {
        listener: receive(channel)?,
        ended: rustix::io::fcntl_dupfd_cloexec(pidfd, 3)?,
        proc: openat(CWD, c"/proc", flags, Mode::empty())?,
    };
    let name = format!("/proc/{}/ns/mnt", pid.as_raw_nonzero());
    let mounts = openat(CWD, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (said, heard) = std::sync::mpsc::sync_channel(1);
    let work = move || {
        // a working folder and root of the thread's own, and those of the container
        let entered = sys::process::unshare(libc::CLONE_FS)
            .and_then(|()| move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount)));
        drop(mounts);
        let is_in = entered.is_ok();
        // whoever started this thread waits for it
        let _ = said.send(entered);
        if is_in {
            answering.until_the_end();
        }
    };
    let thread = std::thread::Builder::new().name("owners".to_owned()).spawn(work);
    let keeper = Keeper(Some(thread.map_err(|_| Errno::AGAIN)?));
    heard.recv().unwrap_or(Err(Errno::SRCH))?;
    Ok(keeper)
}

/// The same in a process that sees paths as the container does; `proc` is its `/proc`. Nobody answers where the container
/// has ended before it left anything to us.
pub(crate) fn keep_here(
    channel: &Channel,
    pidfd: BorrowedFd<'_>,
    proc: OwnedFd,
) -> Result<Option<Keeper>, Errno> {
    let listener = match receive(channel) {
        Ok(listener) => listener,
        Err(Errno::AGAIN | Errno::BADMSG) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let answering = Answering { listener, ended: rustix::io::fcntl_dupfd_cloexec(pidfd, 3)?, proc };
    let thread = std::thread::Builder::new().name("owners".to_owned());
    let thread = thread.spawn(move || answering.until_the_end()).map_err(|_| Errno::AGAIN)?;
    Ok(Some(Keeper(Some(thread))))
}

struct Answering {
    listener: OwnedFd,
    /// The first process's pidfd: the others end before it.
    ended: OwnedFd,
    /// The caller's `/proc`, which the container's mount namespace has not.
    proc: OwnedFd,
}

impl Answering {
    fn until_the_end(&self) {
        loop {
            let mut events =
                [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
            match poll(&mut events, None) {
                Err(Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => {}
            }
            if events[0].revents().contains(PollFlags::IN) {
                // ENOENT: whoever called has been killed meanwhile
                if let Ok(call) = sys::seccomp::receive(self.listener.as_fd()) {
                    let result = self.change(&call);
                    let _ = sys::seccomp::answer(self.listener.as_fd(), &call, result);
                }
            } else if !events[1].revents().is_empty() || !events[0].revents().is_empty() {
                return;
            }
        }
    }

    /// Carries out what was called.
    fn change(&self, call: &Call) -> Result<(), Errno> {
        if call.machine != NATIVE_MACHINE {
            return Err(Errno::PERM);
        }
        let argument = |place: usize| call.arguments[place];
        let number = |place: usize| argument(place) as u32;
        let at = argument(0) as i32;
        let (file, place) = match i64::from(call.number) {
            libc::SYS_fchown => (self.descriptor(call, at)?, 1),
            libc::SYS_fchownat => (self.at(call, at, argument(1), number(4))?, 2),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => (self.at(call, libc::AT_FDCWD, argument(0), 0)?, 1),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => {
                (self.at(call, libc::AT_FDCWD, argument(0), libc::AT_SYMLINK_NOFOLLOW as u32)?, 1)
            }
            _ => return Err(Errno::NOSYS),
        };
        // the thread's id could have become another's, whose files these would be
        if !sys::seccomp::is_waiting(self.listener.as_fd(), call) {
            return Err(Errno::INTR);
        }
        self.give(&file, number(place), number(place + 1))
    }

    /// What the caller has open at a number.
    fn descriptor(&self, call: &Call, number: i32) -> Result<OwnedFd, Errno> {
        if number < 0 {
            return Err(Errno::BADF);
        }
        let name = format!("{}/fd/{number}", call.pid);
        match openat(&self.proc, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => Err(Errno::BADF),
            result => result,
        }
    }

    /// What a path of the caller leads to.
    fn at(&self, call: &Call, folder: i32, address: u64, flags: u32) -> Result<OwnedFd, Errno> {
        let path = self.path(call, address)?;
        let known = (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) as u32;
        if flags & !known != 0 {
            return Err(Errno::INVAL);
        }
        if path.is_empty() && folder != libc::AT_FDCWD && flags & libc::AT_EMPTY_PATH as u32 != 0 {
            return self.descriptor(call, folder);
        }
        let is_absolute = path.as_bytes().starts_with(b"/");
        let flags_of_base = OFlags::PATH | OFlags::CLOEXEC;
        let base = match (is_absolute, folder) {
            (true, _) => openat(&self.proc, format!("{}/root", call.pid), flags_of_base, Mode::empty())?,
            (_, libc::AT_FDCWD) => {
                openat(&self.proc, format!("{}/cwd", call.pid), flags_of_base, Mode::empty())?
            }
            _ => self.descriptor(call, folder)?,
        };
        let mut how = OFlags::PATH | OFlags::CLOEXEC;
        how.set(OFlags::NOFOLLOW, flags & libc::AT_SYMLINK_NOFOLLOW as u32 != 0);
        let mut resolution = ResolveFlags::NO_MAGICLINKS;
        // a relative path may lead up; this thread's root, where it ends, is the container's
        resolution.set(ResolveFlags::IN_ROOT, is_absolute);
        match openat2(&base, &*path, how, Mode::empty(), resolution) {
            // this thread is not who `self` is there
            Err(errno @ (Errno::NOENT | Errno::LOOP)) if !how.contains(OFlags::NOFOLLOW) => {
                own_descriptor(path.as_bytes()).map_or(Err(errno), |number| self.descriptor(call, number))
            }
            result => result,
        }
    }

    fn path(&self, call: &Call, address: u64) -> Result<CString, Errno> {
        let memory =
            openat(&self.proc, format!("{}/mem", call.pid), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut buffer = [0u8; MAX_PATH_BYTES];
        let mut length = 0;
        while length < buffer.len() {
            // up to the end of the page: the next one need not be there
            let place = address.checked_add(length as u64).ok_or(Errno::FAULT)?;
            let rest = (4096 - (place % 4096) as usize).min(buffer.len() - length);
            let count = rustix::io::pread(&memory, &mut buffer[length..length + rest], place)
                .map_err(|_| Errno::FAULT)?;
            if let Some(end) = buffer[length..length + count].iter().position(|byte| *byte == 0) {
                return CString::new(&buffer[..length + end]).map_err(|_| Errno::INVAL);
            }
            if count == 0 {
                return Err(Errno::FAULT);
            }
            length += count;
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Gives a file an owner, beside it.
    fn give(&self, file: &OwnedFd, uid: u32, gid: u32) -> Result<(), Errno> {
        // the kernel's part: whether it may be changed at all, copying it up, taking set-user-id bits away
        let (root, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
        chownat(file, c"", root, group, AtFlags::EMPTY_PATH)?;
        match FileType::from_raw_mode(fstat(file)?.st_mode) {
            FileType::RegularFile | FileType::Directory => {}
            // a link cannot have the attribute, and nobody asks for its owner
            FileType::Symlink => return Ok(()),
            _ if matches!((uid, gid), (0 | SAME, 0 | SAME)) => return Ok(()),
            _ => return Err(Errno::INVAL),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let link = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        let open = openat(&self.proc, link, flags, Mode::empty())?;
        let code = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let (old_uid, old_gid) = owner::read(&open).map_err(code)?.unwrap_or((0, 0));
        let new = |new: u32, old: u32| if new == SAME { old } else { new };
        let (uid, gid) = (new(uid, old_uid), new(gid, old_gid));
        match owner::write(&open, uid, gid).map_err(code) {
            // the file system has no attributes, so the kernel's answer is the true one
            Err(Errno::OPNOTSUPP) if (uid, gid) == (0, 0) => Ok(()),
            Err(Errno::OPNOTSUPP) => Err(Errno::INVAL),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_own_descriptors_are_known() {
        let cases: [(&str, Option<i32>); 9] = [
            ("/dev/stdout", Some(1)),
            ("/dev/fd/2", Some(2)),
            ("/proc/self/fd/17", Some(17)),
            ("/proc/thread-self/fd/3", Some(3)),
            ("/proc/1/fd/3", None),
            ("/proc/self/fd/-1", None),
            ("/proc/self/fd/1/x", None),
            ("/dev/stdout/", None),
            ("stdout", None),
        ];
        for (path, number) in cases {
            assert_eq!(own_descriptor(path.as_bytes()), number, "{path}");
        }
    }
}
