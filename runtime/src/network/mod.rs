//! What a sandbox sees of networks.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sandbox::sys;

/// Brings loopback up in the calling process's namespace. Runs in the child: system calls only.
pub(crate) fn loopback() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::process::loopback_up(socket.as_fd())
}
