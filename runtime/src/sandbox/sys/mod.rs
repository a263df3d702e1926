//! The system calls that rustix lacks: the only unsafe code of the house, one call per function.
//!
//! They are issued by hand and not through libc, because most run in a child that shares the parent's memory and
//! thread-local storage: libc would write the parent's `errno`, and its wrappers of `set*id` and `fork` take locks.

pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod landlock;
pub(crate) mod loop_device;
pub(crate) mod mount;
pub(crate) mod process;
mod raw;
pub(crate) mod seccomp;
pub(crate) mod shared;
pub(crate) mod signal;

use rustix::io::Errno;

/// Turns the kernel's return convention into a result.
fn check(value: isize) -> Result<usize, Errno> {
    match value {
        -4095..=-1 => Err(Errno::from_raw_os_error(-(value as i32))),
        value => Ok(value as usize),
    }
}
