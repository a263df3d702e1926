//! Installing a system call filter (seccomp(2)).

use rustix::io::Errno;

use super::{check, raw};

/// One instruction of classic BPF (`struct sock_filter`, linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How far to jump when the condition holds.
    pub jump_true: u8,
    /// How far to jump when it does not.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Puts the filter on the calling thread, for ever. Needs `CAP_SYS_ADMIN` or no_new_privs.
pub(crate) fn install(filter: &[Instruction]) -> Result<(), Errno> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    let length = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let program = Program { length, instructions: filter.as_ptr() };
    // SAFETY: the program's pointer and length are those of `filter`, which the kernel copies and checks.
    check(unsafe {
        raw::call(libc::SYS_seccomp, [SECCOMP_SET_MODE_FILTER, 0, &raw const program as usize, 0, 0, 0])
    })
    .map(drop)
}
