//! The caller's terminal, joined with the container's.

use super::{
    attend::Keeper,
    streams::{SharedLog, write_all, write_down},
};
use crate::error::Failure;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    termios::{self, OptionalActions, SpecialCodeIndex, Termios},
};
use slipway_runtime::{Exit, Running, container::log::Source};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

/// Rows and columns of the caller's terminal.
pub(super) fn size() -> Option<(u16, u16)> {
    let size =
        termios::tcgetwinsize(std::io::stdin()).or_else(|_| termios::tcgetwinsize(std::io::stdout())).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Gives the container's terminal the size of the caller's.
pub(super) fn copy_size(master: BorrowedFd<'_>) {
    if let Ok(size) = termios::tcgetwinsize(std::io::stdin()) {
        // a terminal that is just going away needs no size
        let _ = termios::tcsetwinsize(master, size);
    }
}

/// The caller's terminal in raw mode; as it was when this goes away.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Raw {
        let Ok(before) = termios::tcgetattr(std::io::stdin()) else { return Raw(None) };
        let mut raw = before.clone();
        raw.make_raw();
        match termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw) {
            Ok(()) => Raw(Some(before)),
            Err(_) => Raw(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Copies between the terminals until the container has ended and all of its output is out.
/// With a keeper the caller's input goes along.
pub(super) fn attend(
    running: &mut Running,
    master: &OwnedFd,
    keeper: Option<&Arc<Keeper>>,
    log: Option<&SharedLog>,
) -> Result<Exit, Failure> {
    let raw = keeper.map(|_| Raw::enter());
    let mut buffer = vec![0u8; 16 << 10];
    let mut input_open = keeper.is_some();
    let mut ended = false;
    loop {
        let stdin = std::io::stdin();
        let mut events = vec![PollFd::new(master, PollFlags::IN)];
        let pidfd = running.pidfd().try_clone_to_owned()?;
        if !ended {
            events.push(PollFd::new(&pidfd, PollFlags::IN));
        }
        if input_open && !ended {
            events.push(PollFd::new(&stdin, PollFlags::IN));
        }
        // once the container has ended, what is still in the terminal is taken, but nothing more is waited for
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut events, ended.then_some(&timeout)) {
            Ok(0) if ended => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        drop(events);
        if ready[0] {
            match rustix::io::read(master, &mut buffer) {
                // EIO: the last process has let go of the terminal
                Ok(0) | Err(Errno::IO) => break,
                Ok(count) => {
                    log.iter().for_each(|log| write_down(log, Source::Stdout, &buffer[..count]));
                    write_all(std::io::stdout().as_fd(), &buffer[..count]).map_err(std::io::Error::from)?;
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        if input_open && !ended && ready.get(2) == Some(&true) {
            match rustix::io::read(std::io::stdin(), &mut buffer) {
                Ok(0) => input_open = false,
                Ok(count) => {
                    write_all(master.as_fd(), &buffer[..count]).map_err(std::io::Error::from)?;
                    keeper.into_iter().for_each(|keeper| keys(keeper, master.as_fd(), &buffer[..count]));
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => input_open = false,
            }
        }
        ended |= ready.get(1) == Some(&true);
    }
    drop(raw);
    Ok(running.wait()?)
}

/// Ctrl-C and Ctrl-\\: the container's terminal makes signals of them, which its first process may not get.
fn keys(keeper: &Arc<Keeper>, master: BorrowedFd<'_>, typed: &[u8]) {
    let Ok(settings) = termios::tcgetattr(master) else { return };
    if !settings.local_modes.contains(termios::LocalModes::ISIG) || !keeper.is_in_front(master) {
        return;
    }
    let key = |index| Some(settings.special_codes[index]).filter(|code| *code != 0);
    let (interrupt, quit) = (key(SpecialCodeIndex::VINTR), key(SpecialCodeIndex::VQUIT));
    for byte in typed {
        if Some(*byte) == interrupt {
            keeper.typed(signal_hook::consts::SIGINT);
        } else if Some(*byte) == quit {
            keeper.typed(signal_hook::consts::SIGQUIT);
        }
    }
}
