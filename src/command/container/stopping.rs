//! How a container is stopped: what it was made with, and doing so.

use super::{flags::Flags, kept::Kept};
use crate::{app::App, error::Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGKILL, SIGTERM};
use slipway_oci::spec::ContainerConfig;
use slipway_runtime::{
    Handle,
    container::{
        config::Config,
        stop::{self, Action, GRACE, StopPolicy, Stopper},
    },
};
use std::time::{Duration, Instant};

/// `--stop-signal` and `--stop-timeout`, else what the image says, else docker's defaults.
pub(super) fn policy(image: &ContainerConfig, flags: &Flags) -> Result<StopPolicy, Failure> {
    let default = StopPolicy::default();
    let parse = |text: &str| stop::parse_signal(text);
    let signal = match (&flags.stop_signal, image.stop_signal.as_deref().filter(|text| !text.is_empty())) {
        (Some(text), _) => parse(text).ok_or_else(|| {
            Failure::usage(format!("--stop-signal: `{text}` is no signal, such as SIGTERM or 15"))
        })?,
        (None, Some(text)) => parse(text).ok_or_else(|| {
            Failure::new(format!("the image's STOPSIGNAL `{text}` is no signal"))
                .with_hint("give another with --stop-signal")
        })?,
        (None, None) => default.signal,
    };
    // docker: -1 waits for ever
    let grace = flags
        .stop_timeout
        .map_or(Some(GRACE), |seconds| Some(Duration::from_secs(u64::try_from(seconds).ok()?)));
    Ok(StopPolicy { signal, grace, prompts: flags.interactive })
}

/// How the caller wants containers to be asked to end.
#[derive(clap::Args)]
pub(super) struct Asked {
    /// Seconds that they have to end; -1 for ever [default: the container's, or 10]
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// What they are asked with [default: the container's]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

impl Asked {
    /// The signal and the grace, where they are not left to the container.
    pub(super) fn read(&self) -> Result<(Option<i32>, Option<Option<Duration>>), Failure> {
        let signal = self.signal.as_deref().map(|text| signal("--signal", text)).transpose()?;
        Ok((signal, grace(self.timeout)))
    }
}

/// A number of seconds; less than nothing ends never.
pub(super) fn grace(seconds: Option<i64>) -> Option<Option<Duration>> {
    seconds.map(|seconds| u64::try_from(seconds).ok().map(Duration::from_secs))
}

/// Reads a signal of the caller's.
pub(super) fn signal(flag: &str, text: &str) -> Result<i32, Failure> {
    stop::parse_signal(text)
        .ok_or_else(|| Failure::usage(format!("{flag}: `{text}` is no signal, such as SIGTERM or 15")))
}

/// Ends a container that runs, as it wants to be ended unless the caller says otherwise, and waits until that is written down.
/// One that does not run stays as it is.
pub(super) fn stop(
    app: &App,
    kept: &mut Kept,
    given: Option<i32>,
    grace: Option<Option<Duration>>,
) -> Result<(), Failure> {
    if !kept.state.status.is_up() {
        return Ok(());
    }
    let config = Config::read(&kept.folder(app));
    let mut policy = config.map_or_else(|_| StopPolicy::default(), |config| config.stop);
    policy.signal = given.unwrap_or(policy.signal);
    policy.grace = grace.unwrap_or(policy.grace);
    kept.want_stop(app)?;
    if let Some(process) = kept.state.find_process() {
        end(&process, policy)?;
    }
    kept.wait_for_monitor(app)
}

/// Ends a container at once, and waits until that is written down.
pub(super) fn kill(app: &App, kept: &mut Kept) -> Result<(), Failure> {
    kept.want_stop(app)?;
    if let Some(process) = kept.state.find_process() {
        process.signal(SIGKILL)?;
    }
    kept.wait_for_monitor(app)
}

fn end(process: &Handle, policy: StopPolicy) -> Result<(), Failure> {
    let mut stopper = Stopper::new(policy);
    let action = stopper.on(SIGTERM, |signal| process.reception(signal), Instant::now());
    let begun = match action {
        Action::Begin(signal) | Action::Pass(signal) => process.signal(signal),
        // the kernel keeps the signal from it
        Action::End(_) | Action::Kill => process.signal(SIGKILL),
    };
    begun?;
    if !ends_within(process, policy.grace)? {
        process.signal(SIGKILL)?;
    }
    Ok(())
}

/// Waits for a process's end; whether it came in time.
pub(super) fn ends_within(process: &Handle, most: Option<Duration>) -> Result<bool, Failure> {
    let begun = Instant::now();
    loop {
        let left = most.map(|most| most.saturating_sub(begun.elapsed()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let pidfd = process.pidfd();
        let mut events = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match poll(&mut events, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
    }
}
