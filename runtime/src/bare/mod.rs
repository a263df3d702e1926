//! A command where nothing can be mounted and no namespace be made: in a container with docker's defaults, a stock CI pod.
//!
//! Its root is a plain folder that it enters by chroot(2). Between it and slipway stands this program once more, executed as
//! [`NAME`], which is what a pid namespace is elsewhere: everything that the command starts ends up as its child
//! (`PR_SET_CHILD_SUBREAPER`), and when the command or slipway has ended it kills what is left, until nothing is.
//!
//! ```text
//! slipway ── executes ──> slipway-step ── fork ──> chroot, credentials, execve ──> the command
//!    └── socket: the description ──>   <── how it ended    └── ... whatever it leaves is slipway-step's child, and killed
//! ```
//!
//! What this is not: a boundary. Root in a chroot finds ways out of it, sees the processes beside it and may kill them. It
//! keeps honest recipes apart; the container around it is what holds a hostile one.

mod attend;
mod remains;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::container::identity::Identity;
use crate::error::{Error, Step};
use crate::sandbox::capability::CapabilitySet;
use crate::sandbox::guard::Used;
use crate::sandbox::launch::Exit;

pub use attend::run;

/// What the process is called that stands between.
pub const NAME: &str = "slipway-step";

/// A command and the folder that is its root.
#[derive(Debug, Clone)]
pub struct BareSpec {
    /// The folder.
    pub root: PathBuf,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// The working folder, a path of the root.
    pub cwd: String,
    /// Who runs it.
    pub user: Identity,
    /// What it may, of what this process may.
    pub capabilities: CapabilitySet,
    /// Whether it goes without docker's system call filter, where this process may install one; the machine's stays.
    pub unconfined: bool,
    /// Owners are kept beside files: this process may change none.
    pub single_id: bool,
}

/// The same on its way to the process that attends to it.
#[derive(Serialize, Deserialize)]
struct Wire {
    root: Vec<u8>,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: u64,
    unconfined: bool,
    single_id: bool,
}

/// What that process says, once, at its end.
#[derive(Serialize, Deserialize)]
enum Said {
    /// A step before the command failed: which, and the kernel's answer.
    Failed { step: u32, errno: i32 },
    /// The command could not be described.
    Refused { words: String },
    /// The command ended: its status or its signal, and what it used: microseconds of its own and the kernel's, KiB.
    Ended { code: Option<i32>, signal: i32, used: [u64; 3] },
}

/// A command that runs. Dropping it ends it and all that it has started.
#[derive(Debug)]
pub struct BareRunning {
    attendant: Child,
    socket: UnixStream,
    used: Option<Used>,
    command: OsString,
    cwd: PathBuf,
}

/// Starts a command. `stdout` and `stderr` are where its output goes.
///
/// # Errors
/// When this program cannot be executed once more.
pub fn spawn(spec: &BareSpec, stdout: OwnedFd, stderr: OwnedFd) -> Result<BareRunning, Error> {
    let failed = |source| Error::Clone { source };
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).env_clear().current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    let attendant = command.spawn().map_err(failed)?;
    // the command holds our copies of the descriptors
    drop(command);
    let wire = Wire {
        root: spec.root.clone().into_os_string().into_vec(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.clone(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        groups: spec.user.groups.clone(),
        capabilities: spec.capabilities.bits(),
        unconfined: spec.unconfined,
        single_id: spec.single_id,
    };
    let mut line = serde_json::to_vec(&wire).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let running = BareRunning {
        attendant,
        socket: ours.try_clone().map_err(failed)?,
        used: None,
        command: spec.args.first().map(OsString::from).unwrap_or_default(),
        cwd: PathBuf::from(&spec.cwd),
    };
    // who has ended says why
    let _ = ours.write_all(&line);
    Ok(running)
}

impl BareRunning {
    /// Waits for the end of the command and of everything that it has started; ends all of it as soon as `cancel` is
    /// readable.
    ///
    /// # Errors
    /// When the command could not be executed, or the process that attends to it was killed.
    pub fn wait_or_cancel(&mut self, cancel: BorrowedFd<'_>) -> Result<Exit, Error> {
        let waited = |errno: Errno| Error::Process { what: "wait for", source: errno.into() };
        loop {
            let mut fds =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(cancel, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(waited(errno)),
                Ok(_) => {}
            }
            let [said, cancelled] = fds.map(|fd| !fd.revents().is_empty());
            if said {
                break;
            }
            if cancelled {
                self.end();
                break;
            }
        }
        let mut line = String::new();
        let read = BufReader::new(&self.socket).read_line(&mut line);
        read.map_err(|source| Error::Process { what: "wait for", source })?;
        self.reap()?;
        self.understood(&line)
    }

    /// Asks for the end: the far side of the socket sees that nothing more comes.
    fn end(&self) {
        // one that has ended already hears nothing
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    fn reap(&mut self) -> Result<(), Error> {
        self.attendant.wait().map(drop).map_err(|source| Error::Process { what: "wait for", source })
    }

    fn understood(&mut self, line: &str) -> Result<Exit, Error> {
        match serde_json::from_str(line) {
            Ok(Said::Ended { code, signal, used: [user, system, largest] }) => {
                let (user, system) = (Duration::from_micros(user), Duration::from_micros(system));
                self.used = Some(Used { user, system, largest_bytes: largest << 10 });
                Ok(code.map_or(Exit::Signal(signal), Exit::Code))
            }
            Ok(Said::Failed { step, errno }) => Err(self.failure(step, Errno::from_raw_os_error(errno))),
            Ok(Said::Refused { words }) => Err(Error::Prepare {
                what: "the step's process".to_owned(),
                source: std::io::Error::other(words),
            }),
            // it was killed, and what it attended to with it
            Err(_) => Ok(Exit::Signal(libc::SIGKILL)),
        }
    }

    fn failure(&self, step: u32, errno: Errno) -> Error {
        let source: std::io::Error = errno.into();
        let command = self.command.clone();
        match Step::from_number(step) {
            Some(Step::Cwd) => Error::Cwd { path: self.cwd.clone(), source },
            Some(Step::Exec) if matches!(errno, Errno::NOENT | Errno::NOTDIR) => {
                Error::CommandNotFound { command, source }
            }
            Some(Step::Exec) => Error::NotExecutable { command, source },
            Some(step) => Error::Setup { step, source },
            None => Error::Clone { source },
        }
    }

    /// What the command has used, once it was waited for.
    pub fn used(&self) -> Option<Used> {
        self.used
    }
}

impl Drop for BareRunning {
    fn drop(&mut self) {
        self.end();
        // it ends as soon as nothing of the command is left; nobody is there to tell
        let _ = self.attendant.wait();
    }
}

/// Whether this process may enter another root: it has `CAP_SYS_CHROOT`.
pub fn may_chroot() -> bool {
    crate::sandbox::sys::process::permitted_capabilities().is_ok_and(|set| set & 1 << 18 != 0)
}

/// Whether this process may give files other owners: it has `CAP_CHOWN`.
pub fn may_chown() -> bool {
    crate::sandbox::sys::process::permitted_capabilities().is_ok_and(|set| set & 1 != 0)
}

/// Whether this process has the rights to mount: it has `CAP_SYS_ADMIN`.
pub fn may_administer() -> bool {
    !crate::levels::needed()
}

/// Fills `dev`, an empty folder, with what every step finds in `/dev`.
///
/// # Errors
/// When this process may make no device nodes, or they do not work where the folder is.
pub fn fill_dev(dev: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    use std::os::unix::fs::{PermissionsExt, symlink};
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = dev.join(name);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, minor))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    }
    // a file system may be mounted so that they are only names
    std::fs::File::open(dev.join("null"))?;
    mknodat(CWD, dev.join("tty"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(5, 0))?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    std::fs::create_dir(dev.join("shm"))?;
    std::fs::set_permissions(dev.join("shm"), std::fs::Permissions::from_mode(0o1777))?;
    std::fs::set_permissions(dev, std::fs::Permissions::from_mode(0o755))
}

/// The descriptor of a socket's end as the process has it that attends.
fn far_end() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
