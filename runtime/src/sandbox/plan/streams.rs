//! The three standard streams.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Gid, Uid};
use rustix::io::Errno;

use super::PlannedProcess;
use crate::error::Error;
use crate::sandbox::console::Terminal;
use crate::sandbox::devices::Devices;
use crate::sandbox::spec::{Stdio, Stream};

/// The descriptors that become 0, 1 and 2; `None` leaves the caller's. They are above 2, so placing one cannot destroy
/// another.
pub(super) fn streams(
    stdio: &Stdio,
    terminal: Option<&Terminal>,
    process: &PlannedProcess,
    devices: &Devices,
) -> Result<[Option<OwnedFd>; 3], Error> {
    let prepare = |errno: Errno| Error::Prepare { what: "standard streams".to_owned(), source: errno.into() };
    let duplicate = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(prepare);
    let (owner, group) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    match (stdio, terminal) {
        (Stdio::Streams { stdin, stdout, stderr }, _) => {
            let open = |stream: &Stream| match stream {
                Stream::Inherit => Ok(None),
                Stream::Null => duplicate(&devices.open_null().map_err(prepare)?).map(Some),
                Stream::Fd(fd) => {
                    let fd = duplicate(fd)?;
                    let kind = rustix::fs::fstat(&fd).map(|found| FileType::from_raw_mode(found.st_mode));
                    if process.uid != 0 && matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
                        // As runc's fixStdioPermissions; what has no owner of its own refuses, harmlessly.
                        let _ = rustix::fs::fchown(&fd, Some(owner), Some(group));
                    }
                    Ok(Some(fd))
                }
            };
            Ok([open(stdin)?, open(stdout)?, open(stderr)?])
        }
        (Stdio::Terminal { .. }, Some(terminal)) => {
            if process.uid != 0 {
                rustix::fs::fchown(&terminal.slave, Some(owner), None).map_err(prepare)?;
            }
            let side = || duplicate(&terminal.slave).map(Some);
            Ok([side()?, side()?, side()?])
        }
        (Stdio::Terminal { .. }, None) => Err(prepare(Errno::NOTTY)),
    }
}
