//! A process that shares the caller's memory and runs on a stack of its own (clone(2), clone3).
//!
//! The caller's stack cannot be shared as vfork does: the compiler may reuse the slots of the frame that called it
//! while the child still runs. So the child gets a mapping of its own, and a function that never returns.

use std::arch::asm;
use std::ffi::c_void;
use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;

use super::check;

/// Room for the child's frames; debug builds need a fifth of it. Only touched pages cost memory.
const STACK_BYTES: usize = 256 * 1024;
/// Below the stack, so that an overflow faults and does not write into the neighbour.
const GUARD_BYTES: usize = 64 * 1024;

/// `CLONE_CLEAR_SIGHAND` and `CLONE_INTO_CGROUP` (linux/sched.h), which libc cuts to 32 bits.
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of linux/sched.h, version 2 (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A mapped stack, unmapped when dropped.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// Maps a stack with a guard below it.
    fn new() -> Result<Self, Errno> {
        let stack = Stack { base: map(GUARD_BYTES + STACK_BYTES)? };
        // SAFETY: the range is the lower part of the mapping made above, which nothing uses yet.
        match unsafe { libc::mprotect(stack.base, GUARD_BYTES, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(last_error()),
        }
    }

    /// Puts what the child starts with at the very top, where it lives as long as the stack does; gives its place
    /// and the bytes that are left below it.
    fn place<T>(&mut self, start: Start<T>) -> (*const c_void, u64) {
        let left = STACK_BYTES - size_of::<Start<T>>().next_multiple_of(64);
        let place = self.base.wrapping_byte_add(GUARD_BYTES + left).cast::<Start<T>>();
        // SAFETY: the place lies in the writable part of the mapping, with room for the value, and as the mapping is
        // page aligned and all sizes are multiples of 64 it is aligned for it.
        unsafe { place.write(start) };
        (place.cast(), left as u64)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: `base` and the length are those of the mapping made in `new`; no process runs on it any more, as
        // the only one that did was waited for with CLONE_VFORK or never made.
        let unmapped = unsafe { libc::munmap(self.base, GUARD_BYTES + STACK_BYTES) };
        debug_assert_eq!(unmapped, 0);
    }
}

/// Maps fresh memory.
fn map(bytes: usize) -> Result<*mut c_void, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
    let base =
        unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if base == libc::MAP_FAILED { Err(last_error()) } else { Ok(base) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::NOMEM)
}

/// What the child starts with.
struct Start<T> {
    body: fn(&T) -> !,
    data: *const T,
}

/// What a child has of its parent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The same memory (`CLONE_VM`): as fast from a large process as from a small one.
    Shared,
    /// A copy, page by page as either writes.
    Copied,
}

/// How the child differs from its parent.
pub(crate) struct Request<'a> {
    /// What it has of the parent's memory.
    pub(crate) memory: Memory,
    /// `CLONE_*` beside those that this module adds.
    pub(crate) flags: u64,
    /// Where the kernel writes the child's process id before the child runs.
    pub(crate) pid_slot: Option<&'a AtomicU32>,
    /// A cgroup2 folder to start in.
    pub(crate) cgroup: Option<i32>,
}

/// Makes a child that runs `body(data)` in the caller's memory, or a copy of it, while the calling thread sleeps, until
/// the child executes or ends; gives its pid and pidfd.
///
/// `body` may only make system calls: it has the thread-local storage of the calling thread, and a lock that another
/// thread holds is never released in it.
pub(crate) fn vfork<T>(request: &Request<'_>, body: fn(&T) -> !, data: &T) -> Result<(i32, OwnedFd), Errno> {
    let mut stack = Stack::new()?;
    start(request, libc::CLONE_VFORK as u64, libc::SIGCHLD, &mut stack, Start { body, data })
}

/// Makes a child that runs `body(data)` in the caller's memory beside it, for ever or until it exits. It sends no
/// signal at its end and plain waits do not see it. The rules of [`vfork`] hold for `body`.
pub(crate) fn companion<T>(body: fn(&T) -> !, data: &'static T) -> Result<OwnedFd, Errno> {
    let mut stack = Stack::new()?;
    let request = Request { memory: Memory::Shared, flags: 0, pid_slot: None, cgroup: None };
    let (_, pidfd) = start(&request, 0, 0, &mut stack, Start { body, data })?;
    // The companion runs on it as long as this process lives.
    std::mem::forget(stack);
    Ok(pidfd)
}

fn start<T>(
    request: &Request<'_>,
    more_flags: u64,
    exit_signal: i32,
    stack: &mut Stack,
    start: Start<T>,
) -> Result<(i32, OwnedFd), Errno> {
    let mut pidfd: i32 = -1;
    let (place, stack_size) = stack.place(start);
    let mut args = CloneArgs {
        flags: request.flags | more_flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: exit_signal as u64,
        stack: stack.base as u64 + GUARD_BYTES as u64,
        stack_size,
        ..CloneArgs::default()
    };
    if request.memory == Memory::Shared {
        args.flags |= libc::CLONE_VM as u64;
    }
    if let Some(slot) = request.pid_slot {
        args.flags |= libc::CLONE_PARENT_SETTID as u64;
        args.parent_tid = slot.as_ptr() as u64;
    }
    if let Some(cgroup) = request.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup as u64;
    }
    // SAFETY: `args` is a full `clone_args` whose pointers are to live memory of the right types; the stack is mapped
    // and unused; `enter::<T>` gets the `Start<T>` that it expects, which lives on that stack. The stack and the
    // data outlive the child: it has copies of its own, or `vfork` returns only when the child has left this memory,
    // or, for `companion`, the stack is kept for ever and the data are static.
    let pid = check(unsafe { clone3(&args, enter::<T>, place) })?;
    // SAFETY: with CLONE_PIDFD a successful call has stored a fresh descriptor there that nobody else owns.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The child's first function.
extern "C" fn enter<T>(start: *const c_void) -> ! {
    // SAFETY: `start` passes a pointer to a `Start<T>` with this very `T`, alive as it explains.
    let start = unsafe { &*start.cast::<Start<T>>() };
    // SAFETY: the pointer was made from a reference that outlives the child, as `start` explains.
    (start.body)(unsafe { &*start.data })
}

/// The call, and in the child the jump to `entry(data)` on the new stack.
///
/// # Safety
/// `args` must describe a valid request with a stack; `entry` must accept `data`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &CloneArgs, entry: extern "C" fn(*const c_void) -> !, data: *const c_void) -> isize {
    let result: isize;
    // SAFETY: the parent continues after label 2 with nothing changed but rax, rcx and r11. The child has a fresh
    // stack, whose top is page aligned; r12 and r13 are as the parent's, so it calls `entry(data)` with the alignment
    // that the System V convention asks and an empty frame pointer, and never comes back.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entry,
            in("r13") data,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// The call, and in the child the jump to `entry(data)` on the new stack.
///
/// # Safety
/// `args` must describe a valid request with a stack; `entry` must accept `data`.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: &CloneArgs, entry: extern "C" fn(*const c_void) -> !, data: *const c_void) -> isize {
    let result: isize;
    // SAFETY: the parent continues after label 2 with nothing changed but x0. The child has a fresh stack, whose top is
    // page aligned; x20 and x21 are as the parent's, so it calls `entry(data)` with an empty frame pointer, and never
    // comes back.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") ptr::from_ref(args) as isize => result,
            in("x1") size_of::<CloneArgs>(),
            in("x20") entry,
            in("x21") data,
        );
    }
    result
}
