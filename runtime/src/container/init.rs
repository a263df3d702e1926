//! A first process for programs that are none: it passes signals on and reaps (`docker run --init`).
//!
//! The kernel drops signals to the first process of a pid namespace that it has no handler for (pid_namespaces(7)), and
//! orphans are that process's to wait for. Most programs count on neither. So this program executes itself inside the
//! container, by descriptor, as [`NAME`]; that process has the command as its child, and its own end is the child's:
//!
//! ```text
//! child of clone3 ── execveat(own file) ──> slipway-init -- COMMAND ── fork, exec ──> COMMAND
//! ```
//!
//! It holds nothing of its maker's: the exec has emptied its memory, and its descriptors are the three streams.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getpid, setpgid, wait};

use crate::error::Error;
use crate::own_file;
use crate::sandbox::sys;

/// What the process is called.
pub const NAME: &str = "slipway-init";

/// If this process was executed to be the first of a container, is that until its command ends, and answers with the
/// command's exit status as a shell tells it, or why it could not be executed. `None` for every other process.
///
/// Call it at the very start of the program: it needs a process with one thread.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<u8, Error>> {
    let mut arguments = arguments.into_iter();
    (arguments.next()? == NAME && arguments.next()? == "--")
        .then(|| supervise(&arguments.collect::<Vec<_>>()))
}

fn supervise(command: &[OsString]) -> Result<u8, Error> {
    // A program that is executed by descriptor was called by its number before Linux 6.14; best effort.
    let _ = rustix::thread::set_name(c"slipway-init");
    let failed = |errno: Errno| Error::Clone { source: errno.into() };
    // Before the fork: no signal is lost between, and the child may take the terminal (SIGTTOU, tcsetpgrp(3)).
    sys::signal::set_mask(u64::MAX).map_err(failed)?;
    match sys::process::fork().map_err(failed)? {
        None => Err(execute(command)),
        Some(child) => attend(child),
    }
}

/// In the child: a process group of its own, in front on the terminal, so that the keys' signals come once and to it.
fn execute(command: &[OsString]) -> Error {
    let own = getpid();
    // Neither can fail for a fresh child, but for a terminal that is just going away.
    let _ = setpgid(None, Some(own));
    if io::stdin().is_terminal() {
        let _ = rustix::termios::tcsetpgrp(io::stdin(), own);
    }
    let Some((program, arguments)) = command.split_first() else {
        return Error::Invalid { what: "command".to_owned(), reason: "is empty" };
    };
    if let Err(errno) = sys::signal::make_default() {
        return Error::Process { what: "signal", source: errno.into() };
    }
    let source = Command::new(program).args(arguments).exec();
    let command = program.clone();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::CommandNotFound { command, source },
        _ => Error::NotExecutable { command, source },
    }
}

/// Passes every signal on and reaps every child until `child` has ended.
fn attend(child: i32) -> Result<u8, Error> {
    loop {
        match sys::signal::wait(u64::MAX) {
            Ok(libc::SIGCHLD) => {
                if let Some(status) = reap(child) {
                    return Ok(status);
                }
            }
            // One that has taken another user may not be signalled, and one that just ended need not be.
            Ok(signal) => drop(sys::signal::kill(child, signal)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(Error::Process { what: "wait for", source: errno.into() }),
        }
    }
}

/// Takes all that have ended; the command's status if it was among them.
fn reap(command: i32) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == Pid::from_raw(command) {
            let number = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
            ended = number.map(|number| u8::try_from(number).unwrap_or(u8::MAX));
        }
    }
    ended
}

/// This program's file to execute in a container as any user, if it can run there.
pub(crate) fn program() -> Result<File, Error> {
    let failed = |source| Error::Prepare { what: "the init process".to_owned(), source };
    let own = own_file::open().map_err(failed)?;
    if needs_interpreter(&own).map_err(failed)? {
        let words =
            "this build of slipway is not static, so that it cannot run in a container: leave --init out";
        return Err(failed(io::Error::new(io::ErrorKind::Unsupported, words)));
    }
    // whoever the container's user is
    match own.metadata().map_err(failed)?.permissions().mode() & 0o001 {
        0 => own_file::sealed_copy(&own).map(File::from).map_err(failed),
        _ => Ok(own),
    }
}

/// Whether a program needs a dynamic linker: it has a `PT_INTERP` header (elf(5), 64 bit, little endian).
fn needs_interpreter(program: &File) -> io::Result<bool> {
    const PT_INTERP: u32 = 3;
    let mut header = [0; 64];
    program.read_exact_at(&mut header, 0)?;
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let place = u64::from_le_bytes(header[32..40].try_into().map_err(io::Error::other)?);
    let (size, count) = (u64::from(half(54)), u64::from(half(56)));
    for number in 0..count {
        let mut kind = [0; 4];
        program.read_exact_at(&mut kind, place + number * size)?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_executed_as_init_is() {
        for words in
            [&[][..], &["slipway"], &["slipway", "--", "true"], &["slipway-init"], &["slipway-init", "x"]]
        {
            assert!(run(words.iter().map(OsString::from)).is_none(), "{words:?}");
        }
    }

    #[test]
    fn a_linked_program_is_told_from_a_static_one() {
        let own = File::open("/proc/self/exe").expect("own file");
        assert_eq!(needs_interpreter(&own).expect("read"), !cfg!(target_feature = "crt-static"));
    }
}
