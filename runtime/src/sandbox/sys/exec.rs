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

// SAFETY: the pointers are to the strings that the value owns, and nobody writes to either.
unsafe impl Send for StringArray {}
// SAFETY: as above.
unsafe impl Sync for StringArray {}

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

/// execveat(2) of the file at descriptor `number`, which [`hold`] put there; returns only when it fails.
pub(crate) fn execute_kept(number: u32, args: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: only for a child about to execute, in which no object owns or closes the descriptor.
    execute_file(unsafe { BorrowedFd::borrow_raw(number as i32) }, args, env)
}

/// Closes every descriptor from `first` on in a process whose descriptor table is its own.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only for a child in shared memory, whose table is a copy of its own: the objects that own the
    // parent's descriptors are never dropped in it.
    check(unsafe { raw::call(libc::SYS_close_range, [first as usize, u32::MAX as usize, 0, 0, 0, 0]) })
        .map(drop)
}

/// Keeps every descriptor from `first` on from whatever is executed next (close_range(2), Linux 5.11).
pub(crate) fn keep_from_exec(first: u32) -> Result<(), Errno> {
    let arguments = [first as usize, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: the call takes numbers only, and closes nothing.
    check(unsafe { raw::call(libc::SYS_close_range, arguments) }).map(drop)
}

/// Ends this process at once (exit_group(2)).
pub(crate) fn exit(status: i32) -> ! {
    loop {
        // SAFETY: the call takes no pointer and does not return.
        unsafe { raw::call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Gives a companion, which shares its maker's descriptor table until here, a table of its own with two descriptors only,
/// and tells its maker through `event`. The three numbers must be above 2.
pub(crate) fn own_table(kept: [i32; 2], event: i32) -> Result<[BorrowedFd<'static>; 2], Errno> {
    // SAFETY: the table becomes a copy; the objects that own its descriptors are never dropped in this process.
    check(unsafe { raw::call(libc::SYS_unshare, [libc::CLONE_FILES as usize, 0, 0, 0, 0, 0]) })?;
    for (from, to) in [kept[0], kept[1], event].into_iter().zip(0..) {
        let arguments = [from as usize, to, libc::O_CLOEXEC as usize, 0, 0, 0];
        // SAFETY: as above; the standard streams are no object's own.
        check(unsafe { raw::call(libc::SYS_dup3, arguments) })?;
    }
    close_from(3)?;
    // SAFETY: the loop above made them, and nothing in this process closes the first two.
    let [first, second, event] = unsafe { [0, 1, 2].map(|number| BorrowedFd::borrow_raw(number)) };
    rustix::io::write(event, &1u64.to_ne_bytes())?;
    close_from(2)?;
    Ok([first, second])
}

/// Owns a descriptor that this process or a child with the same table made.
pub(crate) fn adopt(number: i32) -> OwnedFd {
    // SAFETY: only for the number that the kernel gave for a first process's pidfd, to its guard or to the caller, once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Makes `number` a duplicate of a descriptor above it, which closes at an exec.
pub(crate) fn hold(fd: BorrowedFd<'_>, number: u32) -> Result<BorrowedFd<'static>, Errno> {
    let arguments = [fd.as_raw_fd() as usize, number as usize, libc::O_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: only for a child about to execute, whose table is a copy of its own: what owns `number` is the parent's.
    check(unsafe { raw::call(libc::SYS_dup3, arguments) })?;
    // SAFETY: the call above made it, and the child closes it by its exec only.
    Ok(unsafe { BorrowedFd::borrow_raw(number as i32) })
}

/// Makes standard stream `number` a duplicate of a descriptor above 2; it stays open at an exec.
pub(crate) fn place(fd: BorrowedFd<'_>, number: u32) -> Result<(), Errno> {
    // SAFETY: only for a child about to execute; the standard streams are no object's own.
    check(unsafe { raw::call(libc::SYS_dup3, [fd.as_raw_fd() as usize, number as usize, 0, 0, 0, 0]) })
        .map(drop)
}
