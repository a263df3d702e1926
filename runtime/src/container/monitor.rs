//! A kept container's monitor: the process that outlives its caller, has the container's first process as its child, writes down
//! what it writes, and knows what it ends with.
//!
//! It is this program, three times in one process, each of which executes the next; the container's lock, its streams and its
//! first process go along:
//!
//! ```text
//! slipway start ── spawns ──> slipway-monitor begin   reads the image, makes the container      (as large as a command)
//!                             slipway-monitor watch   copies its output into its log            (a page or two, for hours)
//!                             slipway-monitor ended   writes its end down, starts it again or not
//! ```
//!
//! The middle one has nothing but descriptors and this file's loop. A TERM to it stops the container as `slipway stop` does.
//! Whatever kills it leaves a container whose lock nobody holds: the next command that sees it ends it.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::container::log::{LogLimits, LogWriter, Source};
use crate::container::state::Moment;
use crate::container::stop::StopPolicy;
use crate::own_file;
use crate::sandbox::launch::{Exit, Running};
use crate::sandbox::{handle, sys};

/// What the process is called.
pub const NAME: &str = "slipway-monitor";

/// The words for what it is to do, its second argument.
const BEGIN: &str = "begin";
const WATCH: &str = "watch";
const ENDED: &str = "ended";

/// Which container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Which {
    /// The store's folder.
    pub root: PathBuf,
    /// The container's id.
    pub id: String,
}

/// A container that runs, to be watched.
#[derive(Debug)]
pub struct Watched {
    /// Which.
    pub which: Which,
    /// Its folder.
    pub folder: PathBuf,
    /// Its lock, held.
    pub lock: OwnedFd,
    /// Its first process's pidfd, a child of this process.
    pub pidfd: OwnedFd,
    /// Our sides of its outputs.
    pub outputs: Vec<(OwnedFd, Source)>,
    /// Our side of its input, kept open.
    pub input: Option<OwnedFd>,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// How much of its log is kept.
    pub log: LogLimits,
}

/// The same in an argument.
#[derive(Serialize, Deserialize)]
struct Numbers {
    which: Which,
    folder: PathBuf,
    lock: i32,
    pidfd: i32,
    outputs: Vec<(i32, Source)>,
    input: Option<i32>,
    stop: StopPolicy,
    log: LogLimits,
}

/// A container that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub which: Which,
    /// Its lock, held.
    pub lock: OwnedFd,
    /// What it ended with, as a shell tells it.
    pub exit_code: i32,
}

/// What a process called [`NAME`] has to do that is not done here.
#[derive(Debug)]
pub enum Task {
    /// Make and start the container, whose lock is held; who asked waits on standard output.
    Begin(Which, OwnedFd),
    /// Write its end down.
    End(Ended),
}

/// The line of a monitor that is to begin with a container, whose lock it inherits.
pub fn line(which: &Which, lock: &impl AsFd) -> io::Result<[OsString; 3]> {
    fcntl_setfd(lock, FdFlags::empty())?;
    let orders = serde_json::to_string(&(which, lock.as_fd().as_raw_fd()))?;
    Ok([NAME.into(), BEGIN.into(), orders.into()])
}

/// If this process is a monitor, what it has to do; one that watches does not return before the end of its container.
/// `None` for every other process.
///
/// Call it at the very start of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<io::Result<Task>> {
    let mut arguments = arguments.into_iter();
    if arguments.next()? != NAME {
        return None;
    }
    let words = [arguments.next()?, arguments.next()?];
    let [word, orders] = words.map(|word| word.into_string().unwrap_or_default());
    match word.as_str() {
        BEGIN => Some(read(&orders).and_then(|(which, lock)| {
            // what the caller's caller has open would stay open for as long as the container lives, and whoever waits for its
            // end would wait for that
            sys::exec::keep_from_exec(3)?;
            Ok(Task::Begin(which, owned(lock)?))
        })),
        WATCH => Some(read(&orders).and_then(adopt).and_then(Watched::end_of).map(Task::End)),
        ENDED => Some(read(&orders).and_then(|(which, lock, exit_code)| {
            Ok(Task::End(Ended { which, lock: owned(lock)?, exit_code }))
        })),
        _ => None,
    }
}

fn read<T: DeserializeOwned>(orders: &str) -> io::Result<T> {
    Ok(serde_json::from_str(orders)?)
}

/// Takes a descriptor that was handed on, and keeps it from whatever is executed next. The three streams are nobody's to take,
/// and neither is a number that stands for nothing.
fn owned(number: i32) -> io::Result<OwnedFd> {
    if number <= 2 || std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
        return Err(Errno::BADF.into());
    }
    let fd = sys::exec::adopt(number);
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

fn adopt(numbers: Numbers) -> io::Result<Watched> {
    let mut all = vec![numbers.lock, numbers.pidfd];
    all.extend(numbers.outputs.iter().map(|(number, _)| *number).chain(numbers.input));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    if all.len() != count {
        return Err(Errno::BADF.into());
    }
    let output = |(number, source)| Ok((owned(number)?, source));
    Ok(Watched {
        which: numbers.which,
        folder: numbers.folder,
        lock: owned(numbers.lock)?,
        pidfd: owned(numbers.pidfd)?,
        outputs: numbers.outputs.into_iter().map(output).collect::<io::Result<_>>()?,
        input: numbers.input.map(owned).transpose()?,
        stop: numbers.stop,
        log: numbers.log,
    })
}

/// Becomes the monitor that watches. Returns only where that cannot be.
pub fn watch(watched: Watched, running: &Running) -> io::Error {
    // somebody of this process answers the container
    if running.needs_this_process() {
        return match watched.end_of() {
            Ok(_) => io::Error::other("a monitor did not go on"),
            Err(error) => error,
        };
    }
    let number = |fd: &OwnedFd| fd.as_raw_fd();
    let orders = Numbers {
        which: watched.which.clone(),
        folder: watched.folder.clone(),
        lock: number(&watched.lock),
        pidfd: number(&watched.pidfd),
        outputs: watched.outputs.iter().map(|(fd, source)| (number(fd), *source)).collect(),
        input: watched.input.as_ref().map(number),
        stop: watched.stop,
        log: watched.log,
    };
    let kept = [&watched.lock, &watched.pidfd].into_iter().chain(&watched.input);
    let kept = kept.chain(watched.outputs.iter().map(|(fd, _)| fd));
    become_next(WATCH, &orders, kept)
}

/// Executes this program's own file once more, with these descriptors.
fn become_next<'a>(
    word: &str,
    orders: &impl Serialize,
    kept: impl IntoIterator<Item = &'a OwnedFd>,
) -> io::Error {
    let execute = || -> io::Result<Errno> {
        let own = own_file::open()?;
        for fd in kept {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        let string = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::other);
        let arguments = [NAME.into(), word.into(), serde_json::to_string(orders)?.into()].map(string);
        let arguments = sys::exec::StringArray::new(arguments.into_iter().collect::<io::Result<_>>()?);
        let environment = std::env::vars_os().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            string(name)
        });
        let environment = sys::exec::StringArray::new(environment.collect::<io::Result<_>>()?);
        Ok(sys::exec::execute_file(own.as_fd(), &arguments, &environment))
    };
    execute().map_or_else(|error| error, io::Error::from)
}

impl Watched {
    /// Watches until the end, and becomes the monitor that writes it down.
    fn end_of(mut self) -> io::Result<Ended> {
        let exit_code = self.attend()?;
        let orders = (&self.which, self.lock.as_raw_fd(), exit_code);
        Err(become_next(ENDED, &orders, [&self.lock]))
    }

    /// Copies the container's output until its end; gives its exit status.
    fn attend(&mut self) -> io::Result<i32> {
        let _ = rustix::thread::set_name(c"slipway-monitor");
        sys::signal::set_mask(u64::MAX)?;
        let signals = sys::signal::descriptor(u64::MAX)?;
        let mut log = LogWriter::open(&self.folder, self.log);
        let mut buffer = vec![0u8; PIECE_BYTES];
        let mut deadline: Option<Instant> = None;
        for (output, _) in &self.outputs {
            rustix::io::ioctl_fionbio(output, true)?;
        }
        loop {
            let (has_ended, is_signalled, ready) = self.wait(&signals, deadline)?;
            for at in ready.into_iter().rev() {
                if !self.copy(at, &mut log, &mut buffer) {
                    self.outputs.remove(at);
                }
            }
            if has_ended {
                break;
            }
            if is_signalled && sys::signal::take(signals.as_fd())? == libc::SIGTERM {
                handle::send(self.pidfd.as_fd(), self.stop.signal).map_err(io::Error::other)?;
                deadline = self.stop.grace.map(|grace| Instant::now() + grace);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                handle::send(self.pidfd.as_fd(), libc::SIGKILL).map_err(io::Error::other)?;
                deadline = None;
            }
        }
        // what is still in the pipes is taken, but nothing more is waited for
        for at in 0..self.outputs.len() {
            while self.copy(at, &mut log, &mut buffer) && self.is_readable(at) {}
        }
        log.finish(Moment::now());
        let ended = sys::process::wait_used(self.pidfd.as_fd());
        Ok(match ended {
            Ok(((libc::CLD_EXITED, code), _)) => Exit::Code(code).status(),
            Ok(((_, signal), _)) => Exit::Signal(signal).status(),
            // somebody has reaped it
            Err(_) => Exit::Signal(libc::SIGKILL).status(),
        })
    }

    /// Sleeps until something happens: whether the container has ended, whether there is a signal, which outputs have something.
    fn wait(&self, signals: &OwnedFd, deadline: Option<Instant>) -> io::Result<(bool, bool, Vec<usize>)> {
        let mut events = vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        events.extend(self.outputs.iter().map(|(output, _)| PollFd::new(output, PollFlags::IN)));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        rustix::io::retry_on_intr(|| poll(&mut events, left.as_ref()))?;
        let is_ready = |at: usize| !events[at].revents().is_empty();
        Ok((
            is_ready(0),
            is_ready(1),
            (2..events.len()).filter(|at| is_ready(*at)).map(|at| at - 2).collect(),
        ))
    }

    /// Copies a piece of an output; whether there can be more.
    fn copy(&self, at: usize, log: &mut LogWriter, buffer: &mut [u8]) -> bool {
        let (output, source) = &self.outputs[at];
        match rustix::io::read(output, &mut *buffer) {
            // EIO: the last process has let go of the terminal
            Ok(0) | Err(Errno::IO) => false,
            Ok(count) => {
                log.write(*source, &buffer[..count], Moment::now());
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    fn is_readable(&self, at: usize) -> bool {
        let mut events = [PollFd::new(&self.outputs[at].0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut events, Some(&now)), Ok(1..))
    }
}

/// What is copied at a time.
const PIECE_BYTES: usize = 64 << 10;
