//! Signals as data: a thread that waits for them and calls back.

use crate::{error::Failure, show::live};
use signal_hook::{consts, iterator::Signals};
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that ask a program to end.
pub(crate) const ENDING: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
/// The one that tells daemons of other settings.
pub(crate) const HANGUP: i32 = consts::SIGHUP;
/// Signals that `run` passes on to the container, as docker's `--sig-proxy` does.
pub(crate) const FORWARDED: [i32; 8] = [
    consts::SIGINT,
    consts::SIGTERM,
    consts::SIGHUP,
    consts::SIGQUIT,
    consts::SIGUSR1,
    consts::SIGUSR2,
    consts::SIGCONT,
    consts::SIGWINCH,
];

/// Whether somebody handles signals for a purpose of their own.
static HANDLED: AtomicBool = AtomicBool::new(false);

/// While nobody else handles them, signals that end the program end what is drawn first: no bars are left on a screen.
///
/// # Errors
/// When signals cannot be waited for.
pub(crate) fn end_screen() -> Result<(), Failure> {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if HANDLED.load(Ordering::Acquire) || ONCE.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    wait(&ENDING, |signal| {
        if !HANDLED.load(Ordering::Acquire) {
            live::abandon(" CANCELED");
            // as it would have ended without us: its parent sees the signal
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    })
}

/// Calls `handle` for each of `signals`, on a thread of its own, until the process ends.
///
/// SIGHUP stays ignored where it was: the caller said `nohup`, and the terminal's end is not to reach the program.
pub(crate) fn on(signals: &[i32], handle: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    HANDLED.store(true, Ordering::Release);
    wait(signals, handle)
}

fn wait(signals: &[i32], mut handle: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let kept = |signal: &&i32| **signal != consts::SIGHUP || !slipway_runtime::signals::is_ignored(**signal);
    let mut signals = Signals::new(signals.iter().filter(kept))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            handle(signal);
        }
    })?;
    Ok(())
}
