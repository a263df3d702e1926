//! Signals as data: a thread that waits for them and calls back.

use crate::error::Failure;
use signal_hook::{consts, iterator::Signals};

/// Signals that ask a program to end.
pub(crate) const ENDING: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
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

/// Calls `handle` for each of `signals`, on a thread of its own, until the process ends.
///
/// SIGHUP stays ignored where it was: the caller said `nohup`, and the terminal's end is not to reach the program.
pub(crate) fn on(signals: &[i32], mut handle: impl FnMut(i32) + Send + 'static) -> Result<(), Failure> {
    let kept = |signal: &&i32| **signal != consts::SIGHUP || !is_ignored(**signal);
    let mut signals = Signals::new(signals.iter().filter(kept))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            handle(signal);
        }
    })?;
    Ok(())
}

/// Whether this process was started with a signal ignored (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
