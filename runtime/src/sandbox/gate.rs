//! A gate before the command: the sandbox is whole, and its first process waits (runtime-spec, "Lifecycle": `create`, `start`).
//!
//! Everything is there before the gate: namespaces, mounts, control group, user, working folder, the streams, the terminal,
//! and a file to execute. Behind it come the system call filter, which need not allow the waiting, and `execve`.
//!
//! ```text
//! caller ── create ──> process ── mounts, ids, ... ── "ready" ──> waits ── a byte ──> "opened", filter ── execve
//!    └── a pair of sockets, of which the process's side ends with its exec ──┘  └── end of file: it ends
//! ```
//!
//! The waiting process has a copy of slipway's memory, which nobody may look into ([`undumpable`](super::undumpable)). To a
//! first process the kernel gives no signal that has no handler, so it takes those that would end another program from a
//! descriptor and ends with 128 and their number, as a shell tells it.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::epoll;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::error::Error;
use crate::sandbox::child::KEPT;
use crate::sandbox::sys;

/// What opens a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// The caller alone. It ends the sandbox when it drops the gate, or ends itself.
    Held,
    /// Whoever can write to this FIFO, which has to be there, by [`open_gate`]. The gate stays closed when the caller goes,
    /// which a sandbox survives whose life is [`Beyond`](crate::Life::Beyond) it.
    Fifo(PathBuf),
}

/// Opens the gate of a sandbox that waits at a FIFO, from whatever process. Whether the command could be executed shows in
/// what becomes of the process.
pub fn open_gate(fifo: &Path) -> Result<(), Error> {
    let failed = |errno: Errno| Error::Gate { path: fifo.to_owned(), source: errno.into() };
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // ENXIO: nobody waits
    let gate = open(fifo, flags, Mode::empty()).map_err(failed)?;
    is_fifo(&gate).and_then(|()| rustix::io::write(&gate, b"o")).map(drop).map_err(failed)
}

fn is_fifo(file: &OwnedFd) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(fstat(file)?.st_mode);
    if kind == FileType::Fifo { Ok(()) } else { Err(Errno::INVAL) }
}

/// A gate, closed.
pub(crate) struct Closed {
    ours: OwnedFd,
    theirs: OwnedFd,
    fifo: Option<OwnedFd>,
}

impl Closed {
    pub(crate) fn new(gate: &Gate) -> Result<Closed, Error> {
        let prepare = |errno: Errno| Error::Prepare { what: "the gate".to_owned(), source: errno.into() };
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.map_err(prepare)?;
        let fifo = match gate {
            Gate::Held => None,
            Gate::Fifo(path) => {
                let failed = |errno: Errno| Error::Gate { path: path.clone(), source: errno.into() };
                // for both, so that it never counts as left by its writers
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = open(path, flags, Mode::empty()).map_err(failed)?;
                is_fifo(&file).map_err(failed)?;
                Some(above(&file).map_err(prepare)?)
            }
        };
        Ok(Closed { ours, theirs: above(&theirs).map_err(prepare)?, fifo })
    }

    /// The process's descriptors.
    pub(crate) fn theirs(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.theirs.as_fd()), self.fifo.as_ref().map(AsFd::as_fd)]
    }

    /// Lets the process's side go, once that has been made.
    pub(crate) fn keep(self) -> Kept {
        Kept { ours: self.ours, fifo: self.fifo }
    }
}

/// Above the numbers at which the child puts what it keeps.
fn above(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, KEPT)
}

/// The caller's side.
#[derive(Debug)]
pub(crate) struct Kept {
    ours: OwnedFd,
    fifo: Option<OwnedFd>,
}

impl Kept {
    /// Waits until the process stands at the gate (`true`) or has failed (`false`).
    pub(crate) fn is_ready(&self) -> Result<bool, Errno> {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.ours, &mut [0u8; 1])).map(|count| count == 1)
    }

    /// Opens the gate and waits until the process has executed or failed. `ESRCH`: it has ended before.
    pub(crate) fn open(&self) -> Result<(), Errno> {
        // one that has ended meanwhile is found so by whoever waits for it
        let _ = match &self.fifo {
            Some(fifo) => rustix::io::write(fifo, b"o"),
            None => send(&self.ours, b"o", SendFlags::NOSIGNAL),
        };
        self.follow()
    }

    /// Waits until the gate is open, by whomever, and the process has executed or failed.
    pub(crate) fn follow(&self) -> Result<(), Errno> {
        let told = || rustix::io::retry_on_intr(|| rustix::io::read(&self.ours, &mut [0u8; 1]));
        match told() {
            Ok(1) => {}
            // it ended with a byte of ours unread
            Ok(_) | Err(Errno::CONNRESET) => return Err(Errno::SRCH),
            Err(errno) => return Err(errno),
        }
        // its side is closed by the exec or with the process
        told().map(drop)
    }
}

/// Signals that end no program by default (signal(7)).
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// What the process waits with. Made before its limits are set, which may leave it no further descriptor.
pub(crate) struct Waiting<'a> {
    socket: BorrowedFd<'a>,
    /// What is read when the gate is opened.
    way: BorrowedFd<'a>,
    signals: OwnedFd,
    both: OwnedFd,
}

impl<'a> Waiting<'a> {
    /// Runs in the child, which blocks every signal: system calls only.
    pub(crate) fn new(socket: BorrowedFd<'a>, fifo: Option<BorrowedFd<'a>>) -> Result<Self, Errno> {
        let way = fifo.unwrap_or(socket);
        let signals = sys::signal::descriptor(u64::MAX)?;
        // poll(2) refuses more descriptors than may be open
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (fd, place) in [(signals.as_fd(), SIGNALLED), (way, OPENED)] {
            epoll::add(&both, fd, epoll::EventData::new_u64(place), epoll::EventFlags::IN)?;
        }
        Ok(Waiting { socket, way, signals, both })
    }

    /// Waits until the gate is opened, or ends the process. Runs in the child: system calls only.
    pub(crate) fn wait(&self) -> Result<(), Errno> {
        // a caller that is gone shows below
        let _ = send(self.socket, b"r", SendFlags::NOSIGNAL);
        loop {
            let mut events = [MaybeUninit::uninit(); 1];
            let (found, _) = epoll::wait(&self.both, &mut events, None)?;
            match found.first().map(|event| event.data.u64()) {
                Some(SIGNALLED) => {
                    let signal = sys::signal::take(self.signals.as_fd())?;
                    if !HARMLESS.contains(&signal) {
                        sys::exec::exit(128 + signal);
                    }
                }
                Some(_) => match rustix::io::read(self.way, &mut [0u8; 1]) {
                    Ok(1) => {
                        let _ = send(self.socket, b"o", SendFlags::NOSIGNAL);
                        return Ok(());
                    }
                    // somebody else took the byte
                    Err(Errno::AGAIN) => {}
                    _ => sys::exec::exit(DROPPED),
                },
                None => {}
            }
        }
    }
}

/// What the events are told apart by.
const SIGNALLED: u64 = 0;
const OPENED: u64 = 1;

/// The status of a process whose gate was dropped; nobody is left to read it.
const DROPPED: i32 = 125;
