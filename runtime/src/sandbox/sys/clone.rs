//! A process that shares the caller's memory and runs on a stack of its own (clone(2), clone3).
//!
//! The caller's stack cannot be shared as vfork does: the compiler may reuse the slots of the frame that called it
//! while the child still runs. So the child gets a mapping of its own, and a function that never returns.

use std::arch::asm;
use std::ffi::c_void;
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::{check, exec};

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
#[derive(Debug)]
pub(crate) struct Stack {
    base: *mut c_void,
}

// SAFETY: the mapping belongs to the value alone, which gives no access to it but by `&mut`.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

impl Stack {
    /// Maps a stack with a guard below it.
    pub(crate) fn new() -> Result<Self, Errno> {
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
        // the only one that did has left this memory (`vfork`) or ended (`Companion`), or was never made.
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
pub(crate) struct Request {
    /// What it has of the parent's memory.
    pub(crate) memory: Memory,
    /// `CLONE_*` beside those that this module adds.
    pub(crate) flags: u64,
    /// A cgroup2 folder to start in.
    pub(crate) cgroup: Option<i32>,
}

/// Makes a child that runs `body(data)` in the caller's memory, or a copy of it, while the caller sleeps, until the child
/// executes or ends; gives its pidfd's number, which nobody owns yet. It makes system calls only.
///
/// `body` may only make system calls: it has the thread-local storage of the calling thread, and a lock that another
/// thread holds is never released in it.
pub(crate) fn vfork<T>(
    request: &Request,
    stack: &mut Stack,
    body: fn(&T) -> !,
    data: &T,
) -> Result<i32, Errno> {
    start(request, libc::CLONE_VFORK as u64, stack, Start { body, data })
}

/// Makes a child that runs `body(data)` in a copy of the caller's memory, beside the caller; gives its pidfd's number, which
/// nobody owns yet. The rules of [`vfork`] hold for `body`, since the copy may hold locks of threads that it has not.
pub(crate) fn fork<T>(
    request: &Request,
    stack: &mut Stack,
    body: fn(&T) -> !,
    data: &T,
) -> Result<i32, Errno> {
    // what it runs on goes away with the caller's frame
    if request.memory != Memory::Copied {
        return Err(Errno::INVAL);
    }
    start(request, 0, stack, Start { body, data })
}

/// A process that runs in this process's memory beside it. What it runs on is kept as long as the value is.
#[derive(Debug)]
pub(crate) struct Companion<K> {
    pidfd: OwnedFd,
    /// Never unmapped if the process may still run on it.
    memory: ManuallyDrop<(Stack, Box<K>)>,
}

impl<K> Companion<K> {
    /// The process's pidfd.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What it shares with this process for as long as it lives.
    pub(crate) fn kept(&self) -> &K {
        &self.memory.1
    }
}

impl<K> Drop for Companion<K> {
    fn drop(&mut self) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if matches!(poll(&mut fds, Some(&now)), Ok(1..)) {
            // SAFETY: the value is not used after this, its owner being dropped.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

/// What a companion starts with.
struct Beginning<B, K> {
    begin: fn(&mut B, &K) -> Option<[i32; 2]>,
    stay: fn(&K, [BorrowedFd<'_>; 2]) -> !,
    birth: *mut B,
    kept: *const K,
    begun: i32,
}

/// Makes a child of the namespaces `flags` that runs in the caller's memory beside it: first `begin`, with the caller's
/// descriptor table, while the calling thread sleeps; then `stay`, with a table of its own that has the two descriptors
/// which `begin` gave and no other, until it exits. The rules of [`vfork`] hold for both.
pub(crate) fn companion<B, K: Sync>(
    flags: u64,
    begin: fn(&mut B, &K) -> Option<[i32; 2]>,
    stay: fn(&K, [BorrowedFd<'_>; 2]) -> !,
    birth: &mut B,
    kept: Box<K>,
) -> Result<Companion<K>, Errno> {
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut stack = Stack::new()?;
    let begun = event.as_raw_fd();
    let beginning = Beginning { begin, stay, birth: &raw mut *birth, kept: &raw const *kept, begun };
    let request = Request { memory: Memory::Shared, flags: flags | libc::CLONE_FILES as u64, cgroup: None };
    let number =
        start(&request, 0, &mut stack, Start { body: companion_life::<B, K>, data: &raw const beginning })?;
    // SAFETY: a successful call has stored a fresh descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
    let companion = Companion { pidfd, memory: ManuallyDrop::new((stack, kept)) };
    // Until here `birth` and `beginning` are the companion's: it has begun, or it has ended.
    loop {
        let mut fds = [PollFd::new(&event, PollFlags::IN), PollFd::new(&companion.pidfd, PollFlags::IN)];
        if let Ok(1..) = poll(&mut fds, None) {
            return Ok(companion);
        }
    }
}

/// A companion's life.
fn companion_life<B, K>(beginning: &Beginning<B, K>) -> ! {
    // SAFETY: `companion` made the pointers from a reference and a box, and does not return or touch what they point to
    // before the event below or this process's end.
    let (birth, kept) = unsafe { (&mut *beginning.birth, &*beginning.kept) };
    let (begin, stay, begun) = (beginning.begin, beginning.stay, beginning.begun);
    let Some(descriptors) = begin(birth, kept) else { exec::exit(0) };
    let Ok(descriptors) = exec::own_table(descriptors, begun) else { exec::exit(0) };
    // From here on `birth` and `beginning` are the caller's again; `kept` stays until this process has ended.
    stay(kept, descriptors)
}

fn start<T>(request: &Request, more_flags: u64, stack: &mut Stack, start: Start<T>) -> Result<i32, Errno> {
    let mut pidfd: i32 = -1;
    let (place, stack_size) = stack.place(start);
    let mut args = CloneArgs {
        flags: request.flags | more_flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.base as u64 + GUARD_BYTES as u64,
        stack_size,
        ..CloneArgs::default()
    };
    if request.memory == Memory::Shared {
        args.flags |= libc::CLONE_VM as u64;
    }
    if let Some(cgroup) = request.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup as u64;
    }
    // SAFETY: `args` is a full `clone_args` whose pointers are to live memory of the right types; the stack is mapped
    // and unused; `enter::<T>` gets the `Start<T>` that it expects, which lives on that stack. The stack and the
    // data outlive the child: it has copies of its own, as after `fork`, or `vfork` returns only when the child has left
    // this memory, or, for `companion`, they are kept as long as it uses them.
    check(unsafe { clone3(&args, enter::<T>, place) })?;
    // With CLONE_PIDFD a successful call has stored a fresh descriptor there.
    Ok(pidfd)
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
