//! The system call instruction (syscall(2), "Architecture calling conventions").

use std::arch::asm;

/// Issues system call `number`. Unused arguments are zero.
///
/// # Safety
/// The caller answers for what the call does with its arguments: pointers must be valid for it.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(number: libc::c_long, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the x86-64 convention; rcx and r11 are what the instruction destroys, and
    // memory is taken as changed. What the call itself does is the caller's to answer for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Issues system call `number`. Unused arguments are zero.
///
/// # Safety
/// The caller answers for what the call does with its arguments: pointers must be valid for it.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call(number: libc::c_long, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the arm64 convention; memory is taken as changed. What the call itself does
    // is the caller's to answer for.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}
