//! How a container is stopped: what signals of the caller's do, so that it always can be.
//!
//! The first process of a pid namespace is not ended by a signal that it has no handler for; the kernel drops it
//! (pid_namespaces(7)). So passing a signal on is not enough. The rules, in the order in which they are looked at:
//!
//! | the caller gets | the program | what happens |
//! |---|---|---|
//! | INT, HUP, QUIT, TERM | has no handler, and neither blocks nor ignores it | it is ended, as every other process would be |
//! | TERM | handles or ignores it | it gets the stop signal, and KILL when the grace is over |
//! | INT | ignores it | the second one begins what TERM does |
//! | INT | handles it | it is passed on; the second within ten seconds begins what TERM does |
//! | INT | handles it, and may be at a prompt | it is passed on; the third within two seconds begins what TERM does |
//! | INT | is being stopped | KILL |
//! | anything else | | it is passed on |
//!
//! [`Stopper`] decides and does nothing itself.

use std::time::{Duration, Instant};

/// The grace that docker gives (`docker stop --timeout`).
pub const GRACE: Duration = Duration::from_secs(10);

/// How many interrupts, and how close together, mean that the program is to stop: one that takes no input, and one that may
/// be at a prompt, where an interrupt is a key like any other.
const IMPATIENCE: (usize, Duration) = (2, GRACE);
const IMPATIENCE_AT_A_PROMPT: (usize, Duration) = (3, Duration::from_secs(2));
/// How many where the program ignores them.
const IGNORED_INTERRUPTS: usize = 2;

/// What a signal does to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It has a handler.
    Handled,
    /// It blocks it, for a moment, or to take it in its own time (sigwait(3), signalfd(2)).
    Blocked,
    /// It chose to ignore it.
    Ignored,
    /// It never chose: the default, which a first process does not get.
    Dropped,
    /// It cannot be seen.
    Unknown,
}

impl Reception {
    /// Reads the masks of `/proc/PID/status` (proc_pid_status(5)).
    pub(crate) fn read(status: &str, signal: i32) -> Reception {
        let mask = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(text.trim(), 16).ok()
        };
        let (Some(blocked), Some(ignored), Some(caught)) =
            (mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:"))
        else {
            return Reception::Unknown;
        };
        let bit = u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0);
        if ignored & bit != 0 {
            Reception::Ignored
        } else if caught & bit != 0 {
            Reception::Handled
        } else if blocked & bit != 0 {
            Reception::Blocked
        } else {
            Reception::Dropped
        }
    }
}

/// Whether a line of `/proc/PID/task/TID/syscall` is of a thread in sigwait(3). What that waits for is not blocked
/// meanwhile (`do_sigtimedwait`, kernel/signal.c), and no list of the kernel's names it.
pub(crate) fn is_waiting_for_signals(call: &str) -> bool {
    call.split(' ').next().and_then(|number| number.parse().ok()) == Some(libc::SYS_rt_sigtimedwait)
}

/// How a container wants to be stopped: `--stop-signal` or the image's STOPSIGNAL, and `--stop-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StopPolicy {
    /// What it is asked with.
    pub signal: i32,
    /// How long it has then; `None` for ever.
    pub grace: Option<Duration>,
    /// Whether it gets the caller's input, so that it may be at a prompt.
    pub prompts: bool,
}

impl Default for StopPolicy {
    fn default() -> Self {
        StopPolicy { signal: libc::SIGTERM, grace: Some(GRACE), prompts: false }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send this signal.
    Pass(i32),
    /// Kill the container in this signal's name: that is what the signal means, and the container ended by it.
    End(i32),
    /// Send this signal, and kill the container when the grace is over.
    Begin(i32),
    /// Kill the container.
    Kill,
}

/// Decides what the caller's signals do to one container.
#[derive(Debug)]
pub struct Stopper {
    policy: StopPolicy,
    interrupts: Vec<Instant>,
    stopping: bool,
}

impl Stopper {
    /// For a container that wants to be stopped so.
    pub fn new(policy: StopPolicy) -> Stopper {
        Stopper { policy, interrupts: Vec::new(), stopping: false }
    }

    /// A signal came; `reception` says what one does to the first process.
    pub fn on(&mut self, signal: i32, reception: impl Fn(i32) -> Reception, now: Instant) -> Action {
        match signal {
            libc::SIGINT if self.stopping => Action::Kill,
            libc::SIGTERM => self.stop(reception),
            _ if ends_if_dropped(signal) && reception(signal) == Reception::Dropped => Action::End(signal),
            libc::SIGINT if self.is_meant(reception(signal), now) => self.stop(reception),
            _ => Action::Pass(signal),
        }
    }

    fn stop(&mut self, reception: impl Fn(i32) -> Reception) -> Action {
        let signal = self.policy.signal;
        if ends_by_default(signal) && reception(signal) == Reception::Dropped {
            return Action::End(signal);
        }
        // asked once more, it gets the signal once more, and no more time
        if std::mem::replace(&mut self.stopping, true) { Action::Pass(signal) } else { Action::Begin(signal) }
    }

    /// Whether this interrupt, after those before it, means that the container is to stop.
    fn is_meant(&mut self, reception: Reception, now: Instant) -> bool {
        if reception == Reception::Ignored {
            self.interrupts.push(now);
            return self.interrupts.len() >= IGNORED_INTERRUPTS;
        }
        let (count, within) = if self.policy.prompts { IMPATIENCE_AT_A_PROMPT } else { IMPATIENCE };
        self.interrupts.retain(|then| now.duration_since(*then) < within);
        self.interrupts.push(now);
        self.interrupts.len() >= count
    }
}

/// Whether a container is ended in the name of a signal of the caller's that its first process does not get.
pub fn ends_if_dropped(signal: i32) -> bool {
    [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM].contains(&signal)
}

/// Whether a signal's default is to end a process (signal(7), "Standard signals").
fn ends_by_default(signal: i32) -> bool {
    use libc::{SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
    ![SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH].contains(&signal)
}

/// The signals by name, in the order of their numbers from 1 (asm-generic/signal.h; the same on every machine we run on).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Second names.
const ALIASES: [(&str, i32); 5] = [
    ("IOT", libc::SIGABRT),
    ("CLD", libc::SIGCHLD),
    ("POLL", libc::SIGIO),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];
/// The real-time signals that programs have (the C library keeps two for itself).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal in docker's spellings: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(place) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(place + 1).ok();
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(*number);
    }
    let offset = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i32>().ok()).flatten()
    };
    let number = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(text), _) => RTMIN.checked_add(offset(text)?)?,
        (_, Some(text)) => RTMAX - offset(text)?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGWINCH};

    #[test]
    fn what_a_signal_does_is_read_from_the_masks() {
        let status = "Name:\tx\nSigQ:\t0/1\nSigPnd:\t0000000000000000\nSigBlk:\t0000000000000200\n\
                      SigIgn:\t0000000000000002\nSigCgt:\t0000000000004000\n";
        let cases = [
            (SIGINT, Reception::Ignored),
            (SIGUSR1, Reception::Blocked),
            (SIGTERM, Reception::Handled),
            (SIGHUP, Reception::Dropped),
            (64, Reception::Dropped),
        ];
        for (signal, expected) in cases {
            assert_eq!(Reception::read(status, signal), expected, "{signal}");
        }
        assert_eq!(Reception::read("Name:\tx\n", SIGINT), Reception::Unknown);
    }

    /// Signals, seconds after the first, to a program that takes all of them in one way.
    fn actions(policy: StopPolicy, reception: Reception, signals: &[(i32, u64)]) -> Vec<Action> {
        let start = Instant::now();
        let mut stopper = Stopper::new(policy);
        let at = |seconds: &u64| start + Duration::from_secs(*seconds);
        signals.iter().map(|(signal, seconds)| stopper.on(*signal, |_| reception, at(seconds))).collect()
    }

    #[test]
    fn every_program_can_be_stopped() {
        use Action::{Begin, End, Kill, Pass};
        use Reception::{Dropped, Handled, Ignored, Unknown};
        type Case<'a> = (&'a str, Reception, &'a [(i32, u64)], &'a [Action]);
        let cases: [Case<'_>; 12] = [
            ("no handler", Dropped, &[(SIGINT, 0)], &[End(SIGINT)]),
            ("no handler", Dropped, &[(SIGHUP, 0)], &[End(SIGHUP)]),
            ("no handler", Dropped, &[(SIGQUIT, 0)], &[End(SIGQUIT)]),
            ("no handler", Dropped, &[(SIGTERM, 0)], &[End(SIGTERM)]),
            (
                "others stay dropped",
                Dropped,
                &[(SIGUSR1, 0), (SIGWINCH, 0)],
                &[Pass(SIGUSR1), Pass(SIGWINCH)],
            ),
            ("asked to end", Handled, &[(SIGTERM, 0), (SIGTERM, 1)], &[Begin(SIGTERM), Pass(SIGTERM)]),
            ("asked, then impatient", Ignored, &[(SIGTERM, 0), (SIGINT, 1)], &[Begin(SIGTERM), Kill]),
            (
                "ignores interrupts",
                Ignored,
                &[(SIGINT, 0), (SIGINT, 60), (SIGINT, 61)],
                &[Pass(SIGINT), Begin(SIGTERM), Kill],
            ),
            ("takes its time", Handled, &[(SIGINT, 0), (SIGINT, 11), (SIGINT, 22)], &[Pass(SIGINT); 3]),
            (
                "an impatient person",
                Handled,
                &[(SIGINT, 0), (SIGINT, 9), (SIGINT, 9)],
                &[Pass(SIGINT), Begin(SIGTERM), Kill],
            ),
            ("cannot be seen", Unknown, &[(SIGINT, 0), (SIGTERM, 0)], &[Pass(SIGINT), Begin(SIGTERM)]),
            ("reloads", Handled, &[(SIGHUP, 0), (SIGHUP, 0), (SIGHUP, 0)], &[Pass(SIGHUP); 3]),
        ];
        for (name, reception, signals, expected) in cases {
            assert_eq!(actions(StopPolicy::default(), reception, signals), expected, "{name}: {signals:?}");
        }
    }

    #[test]
    fn a_prompt_lives_with_interrupts() {
        use Action::{Begin, Kill, Pass};
        let policy = StopPolicy { prompts: true, ..StopPolicy::default() };
        let at = |seconds: &[u64]| {
            let signals: Vec<_> = seconds.iter().map(|seconds| (SIGINT, *seconds)).collect();
            actions(policy, Reception::Handled, &signals)
        };
        assert_eq!(at(&[0, 1, 3, 6]), [Pass(SIGINT); 4]);
        assert_eq!(at(&[9, 10, 10, 10]), [Pass(SIGINT), Pass(SIGINT), Begin(SIGTERM), Kill]);
    }

    #[test]
    fn the_images_stop_signal_takes_the_place_of_term() {
        let policy = |signal| StopPolicy { signal, grace: None, prompts: false };
        assert_eq!(actions(policy(SIGQUIT), Reception::Handled, &[(SIGTERM, 0)]), [Action::Begin(SIGQUIT)]);
        assert_eq!(actions(policy(37), Reception::Dropped, &[(SIGTERM, 0)]), [Action::End(37)]);
        // a stop signal that ends nobody is sent, and the grace does the rest
        assert_eq!(actions(policy(SIGWINCH), Reception::Dropped, &[(SIGTERM, 0)]), [Action::Begin(SIGWINCH)]);
    }

    #[test]
    fn signals_are_read_in_dockers_spellings() {
        let cases = [
            ("SIGTERM", Some(SIGTERM)),
            ("term", Some(SIGTERM)),
            ("15", Some(SIGTERM)),
            ("SigKill", Some(SIGKILL)),
            ("WINCH", Some(SIGWINCH)),
            ("SIGSYS", Some(libc::SIGSYS)),
            ("SIGRTMIN+3", Some(37)),
            ("rtmin", Some(34)),
            ("RTMAX-1", Some(63)),
            ("RTMIN+30", Some(64)),
            ("RTMIN+31", None),
            ("RTMIN+-1", None),
            ("RTMAX-31", None),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("TERM ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_signal(text), expected, "{text:?}");
        }
    }
}
