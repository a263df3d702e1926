//! The command's streams without a terminal of its own: pipes, copied from and to the caller's.
//!
//! The command never holds what the caller has open. A terminal can be read through its output side and takes its settings
//! from whoever holds it; a file of the host changes its mode and owner through any descriptor of it (`fchmod`). A pipe of
//! ours gives nothing but bytes, and `/dev/stdout` can be opened on it by whatever user the command runs as.

use crate::error::Failure;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::fstat,
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use slipway_runtime::{
    Running, Stdio, Stream,
    container::{
        log::{LogWriter, Source},
        state::Moment,
    },
};
use std::{
    io::{self, stderr, stdin, stdout},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

/// What is copied at a time: as much as a pipe holds.
const PIECE_BYTES: usize = 64 << 10;

/// Our sides of the command's pipes.
pub(super) struct Sides {
    /// Where the caller's input goes.
    input: Option<OwnedFd>,
    /// Where the command's output comes from, and which of the caller's streams takes it.
    outputs: Vec<(OwnedFd, Output)>,
}

/// One of the caller's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Stdout,
    Stderr,
}

/// Pipes for the command, and our sides of them. Without `interactive` its input is empty.
pub(super) fn pipes(interactive: bool) -> Result<(Stdio, Sides), Failure> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
    let (input, stdin) = match interactive {
        true => {
            let (theirs, ours) = pipe()?;
            (Some(ours), Stream::Fd(theirs))
        }
        false => (None, Stream::Null),
    };
    let (out, stdout) = pipe()?;
    let mut outputs = vec![(out, Output::Stdout)];
    // one pipe for what is one file, or what was written first could come last
    let stderr = match is_one_file() {
        true => stdout.try_clone()?,
        false => {
            let (err, stderr) = pipe()?;
            outputs.push((err, Output::Stderr));
            stderr
        }
    };
    let stdio = Stdio::Streams { stdin, stdout: Stream::Fd(stdout), stderr: Stream::Fd(stderr) };
    Ok((stdio, Sides { input, outputs }))
}

/// Whether the caller's standard output and error lead to the same place.
fn is_one_file() -> bool {
    let same = |one: rustix::fs::Stat, other: rustix::fs::Stat| {
        (one.st_dev, one.st_ino, one.st_rdev) == (other.st_dev, other.st_ino, other.st_rdev)
    };
    matches!((fstat(stdout()), fstat(stderr())), (Ok(one), Ok(other)) if same(one, other))
}

/// The log of a container that several threads write to.
pub(super) type SharedLog = Arc<Mutex<LogWriter>>;

/// Writes down what a stream has written now.
pub(super) fn write_down(log: &SharedLog, source: Source, bytes: &[u8]) {
    log.lock().unwrap_or_else(PoisonError::into_inner).write(source, bytes, Moment::now());
}

/// Threads that copy until the container has ended and all of its output is out.
pub(super) struct Copying(Vec<JoinHandle<Result<(), Errno>>>);

impl Sides {
    /// Starts copying for a container, into its log too where there is one.
    pub(super) fn copy(self, running: &Running, log: Option<&SharedLog>) -> Result<Copying, Failure> {
        if let Some(pipe) = self.input {
            // not waited for: it may sleep in a read of the caller's input
            thread("input", move || copy_input(&pipe))?;
        }
        let mut threads = Vec::new();
        for (pipe, output) in self.outputs {
            let ended = running.pidfd().try_clone_to_owned()?;
            let log = log.cloned();
            threads.push(thread("output", move || {
                let (target, source) = match output {
                    Output::Stdout => (stdout().as_fd().try_clone_to_owned(), Source::Stdout),
                    Output::Stderr => (stderr().as_fd().try_clone_to_owned(), Source::Stderr),
                };
                let target = target.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                copy_output(&pipe, target.as_fd(), ended.as_fd(), |bytes| {
                    log.iter().for_each(|log| write_down(log, source, bytes));
                })
            })?);
        }
        Ok(Copying(threads))
    }
}

fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(work)?)
}

impl Copying {
    /// Waits until all output is out.
    pub(super) fn finish(self) -> Result<(), Failure> {
        for thread in self.0 {
            thread.join().unwrap_or(Ok(())).map_err(|errno| {
                Failure::new(format!("cannot pass the command's output on: {}", io::Error::from(errno)))
            })?;
        }
        Ok(())
    }
}

/// Copies the caller's input until either side has ended; the command then finds the end of its input.
fn copy_input(pipe: &OwnedFd) {
    let mut buffer = vec![0u8; PIECE_BYTES];
    loop {
        match rustix::io::read(stdin(), &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if !matches!(write_all(pipe.as_fd(), &buffer[..count]), Ok(true)) {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            // the caller shares it with somebody who does not want to sleep
            Err(Errno::AGAIN) => wait_for(stdin().as_fd(), PollFlags::IN),
            Err(_) => return,
        }
    }
}

/// Copies one output. The end of the container is an end too: a process of another container may have been handed the
/// pipe. Where the caller's reader is gone the pipe goes with this function, and the command learns it as it would
/// without us.
fn copy_output(
    pipe: &OwnedFd,
    target: BorrowedFd<'_>,
    ended: BorrowedFd<'_>,
    note: impl Fn(&[u8]),
) -> Result<(), Errno> {
    let mut buffer = vec![0u8; PIECE_BYTES];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut over = false;
    loop {
        let mut events =
            vec![PollFd::new(pipe, PollFlags::IN), PollFd::from_borrowed_fd(ended, PollFlags::IN)];
        events.truncate(if over { 1 } else { 2 });
        match poll(&mut events, over.then_some(&now)) {
            Ok(0) if over => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        }
        if events[0].revents().is_empty() {
            over = true;
            continue;
        }
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                note(&buffer[..count]);
                if !write_all(target, &buffer[..count])? {
                    return Ok(());
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes all of it; `false` where nobody reads any more.
pub(super) fn write_all(target: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<bool, Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(target, PollFlags::OUT),
            Err(Errno::PIPE | Errno::IO) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) {
    // whatever comes of it shows in the call that is tried again
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None);
}
