//! Loop devices (drivers/block/loop.c, linux/loop.h), which rustix lacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{check, raw};

/// `LOOP_CTL_GET_FREE`
const GET_FREE: usize = 0x4C82;
/// `LOOP_CONFIGURE` (Linux 5.8): file, flags and limits at once, so that no half-made device is ever there.
const CONFIGURE: usize = 0x4C0A;
/// `LO_FLAGS_READ_ONLY`
const READ_ONLY: u32 = 1;
/// `LO_FLAGS_AUTOCLEAR`: the file is let go with the last user, however that ends.
const AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// The number of a loop device that nobody uses, made if need be; somebody else may be first to take it.
pub(crate) fn free(control: BorrowedFd<'_>) -> Result<usize, Errno> {
    let arguments = [control.as_raw_fd() as usize, GET_FREE, 0, 0, 0, 0];
    // SAFETY: the request takes no argument.
    check(unsafe { raw::call(libc::SYS_ioctl, arguments) })
}

/// Gives the open loop device a file, read-only, until its last user is gone.
pub(crate) fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, block_bytes: u32) -> Result<(), Errno> {
    let config = Config {
        fd: file.as_raw_fd() as u32,
        block_size: block_bytes,
        info: Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: READ_ONLY | AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    let arguments = [device.as_raw_fd() as usize, CONFIGURE, std::ptr::from_ref(&config) as usize, 0, 0, 0];
    // SAFETY: `config` is a whole `loop_config`, laid out as in linux/loop.h, and lives until the call returns.
    check(unsafe { raw::call(libc::SYS_ioctl, arguments) }).map(drop)
}
