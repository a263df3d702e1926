//! Executing a program, and the last calls before it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::raw::c_char;
use std::ptr;

use rustix::io::Errno;

use super::{check, raw};

/// Strings as execve(2) takes them: an array of pointers that ends with a null.
pub(crate) struct StringArray {
    /// Owns what `pointers` point to; a moved `CString` keeps its buffer.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    /// Takes the strings.
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        StringArray { _strings: strings, pointers }
    }
}

/// execve(2); returns only when it fails.
pub(crate) fn execve(path: &CStr, args: &StringArray, env: &StringArray) -> Errno {
    let arguments =
        [path.as_ptr() as usize, args.pointers.as_ptr() as usize, env.pointers.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the path ends with a zero byte; both arrays end with a null pointer and point to strings that
    // their owners hold.
    check(unsafe { raw::call(libc::SYS_execve, arguments) }).err().unwrap_or(Errno::INVAL)
}

/// execveat(2) of an open file; returns only when it fails.
pub(crate) fn execute_file(file: BorrowedFd<'_>, args: &StringArray, env: &StringArray) -> Errno {
    let arguments = [
        file.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        args.pointers.as_ptr() as usize,
        env.pointers.as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    // SAFETY: the path is an empty C string; both arrays end with a null pointer and point to strings that their
    // owners hold.
    check(unsafe { raw::call(libc::SYS_execveat, arguments) }).err().unwrap_or(Errno::INVAL)
}

/// Closes every descriptor from `first` on in a process whose descriptor table is its own.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only for a child in shared memory, whose table is a copy of its own: the objects that own the
    // parent's descriptors are never dropped in it.
    check(unsafe { raw::call(libc::SYS_close_range, [first as usize, u32::MAX as usize, 0, 0, 0, 0]) })
        .map(drop)
}

/// Ends this process at once (exit_group(2)).
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: the call takes no pointer and does not return.
        unsafe { raw::call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Moves descriptor `number` to 0 in a process whose descriptor table is its own, and owns it.
pub(crate) fn adopt_as_first(number: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: only for a companion, in whose table no object owns descriptor 0.
    check(unsafe { raw::call(libc::SYS_dup3, [number as usize, 0, libc::O_CLOEXEC as usize, 0, 0, 0]) })?;
    // SAFETY: the call above made descriptor 0, and nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(0) })
}

/// Makes standard stream `number` a duplicate of a descriptor above 2; it stays open at an exec.
pub(crate) fn place(fd: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    // SAFETY: only for a child about to execute; the standard streams are no object's own.
    check(unsafe { raw::call(libc::SYS_dup3, [fd.as_raw_fd() as usize, number as usize, 0, 0, 0, 0]) })
        .map(drop)
}
