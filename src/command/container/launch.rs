//! Making a container's sandbox, in whoever's care it is.

use super::{
    kept::Kept,
    spec::{self, Image},
};
use crate::{app::App, error::Failure};
use slipway_runtime::{Gate, Life, Running, SandboxSpec, Stdio, container::config::Config};
use std::os::fd::OwnedFd;

/// Starts a container whose lock the caller holds. `streams` gives it its streams.
pub(super) fn launch(
    app: &App,
    kept: &mut Kept,
    config: &Config,
    image: Image,
    life: Life,
    streams: impl FnOnce(&mut SandboxSpec) -> Result<(), Failure>,
) -> Result<Running, Failure> {
    let made = spec::of(app, &kept.row.id, config, &kept.folder(app), image)?;
    let mut sandbox = made.spec;
    sandbox.life = life;
    streams(&mut sandbox)?;
    // removes what killed containers have left, so that groups do not pile up; what cannot be removed keeps nothing from running
    let _ = slipway_runtime::sweep();
    if life == Life::WithCaller {
        let running = slipway_runtime::spawn(&sandbox)?;
        kept.begin(app, &running)?;
        return Ok(running);
    }
    // nothing ends it with its monitor: it is written down, and can be found, before any of it is executed
    let mut created = slipway_runtime::create(&sandbox, &Gate::Held)?;
    kept.begin(app, created.running())?;
    Ok(created.start()?)
}

/// Pipes for a container that nobody attends to but its monitor: our sides of its output and error, and of its input.
pub(super) struct Pipes {
    pub(super) outputs: Vec<OwnedFd>,
    pub(super) input: Option<OwnedFd>,
}

/// Gives a container streams of its monitor's.
pub(super) fn pipes(spec: &mut SandboxSpec, interactive: bool) -> Result<Pipes, Failure> {
    use rustix::pipe::{PipeFlags, pipe_with};
    use slipway_runtime::Stream;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(std::io::Error::from);
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    let (input, stdin) = match interactive {
        true => {
            let (theirs, ours) = pipe()?;
            (Some(ours), Stream::Fd(theirs))
        }
        false => (None, Stream::Null),
    };
    spec.stdio = Stdio::Streams { stdin, stdout: Stream::Fd(stdout), stderr: Stream::Fd(stderr) };
    Ok(Pipes { outputs: vec![out, err], input })
}
