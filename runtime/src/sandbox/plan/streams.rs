//! The three standard streams.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown, fstatfs};
use rustix::io::Errno;

use super::PlannedProcess;
use crate::error::Error;
use crate::sandbox::console::Terminal;
use crate::sandbox::devices::Devices;
use crate::sandbox::spec::{Stdio, Stream};

/// `PIPEFS_MAGIC` and `SOCKFS_MAGIC` (linux/magic.h): what has no name in any file system.
const NAMELESS: [i64; 2] = [0x5049_5045, 0x534F_434B];

/// The descriptors that become 0, 1 and 2. They are above 2, so placing one cannot destroy another.
pub(super) fn streams(
    stdio: &Stdio,
    terminal: Option<&Terminal>,
    process: &PlannedProcess,
    devices: &Devices,
) -> Result<[OwnedFd; 3], Error> {
    match (stdio, terminal) {
        (Stdio::Streams { stdin, stdout, stderr }, _) => {
            let open = |stream: &Stream| match stream {
                Stream::Null => duplicate(&devices.open_null().map_err(prepare)?),
                Stream::Fd(fd) => given(fd, process),
            };
            Ok([open(stdin)?, open(stdout)?, open(stderr)?])
        }
        (Stdio::Terminal { .. }, Some(terminal)) => {
            // where there is one id it is the owner's already
            if process.uid != 0 && process.own_ids.is_none() {
                let owner = Some(Uid::from_raw(process.uid));
                fchown(&terminal.slave, owner, None).map_err(prepare)?;
            }
            let side = || duplicate(&terminal.slave);
            Ok([side()?, side()?, side()?])
        }
        (Stdio::Terminal { .. }, None) => Err(prepare(Errno::NOTTY)),
    }
}

fn prepare(errno: Errno) -> Error {
    Error::Prepare { what: "standard streams".to_owned(), source: errno.into() }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(prepare)
}

/// A pipe or socket that the process's user can open again by `/dev/stdout` and its like (runc's fixStdioPermissions).
fn given(fd: &OwnedFd, process: &PlannedProcess) -> Result<OwnedFd, Error> {
    if !NAMELESS.contains(&fstatfs(fd).map_err(prepare)?.f_type) {
        let reason = "must be a pipe or socket: through a file or terminal of the host its mode, owner and input are reached";
        return Err(Error::Invalid { what: "standard stream".to_owned(), reason });
    }
    let fd = duplicate(fd)?;
    if process.uid != 0 {
        let (owner, group) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
        if fchown(&fd, Some(owner), Some(group)).is_err() {
            // Pipes belong to the first user namespace, which lets its own ids alone give them away. A mode for all does
            // as well: the way to it leads through /proc, to those who may look at the process.
            let _ = fchmod(&fd, Mode::from_raw_mode(0o666));
        }
    }
    Ok(fd)
}
