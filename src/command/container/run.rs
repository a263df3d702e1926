//! `slipway run`: a new container from an image, in the foreground or not.
//!
//! The exit status is the command's; 125 where the container could not be made, 126 where the command cannot be
//! executed, 127 where it is not there, 128 + n where signal n ended it (as docker), also where it is a signal that the
//! kernel keeps from first processes. A detached one's is that of making it.
//!
//! In the foreground this process is the container's monitor: the container ends with it.

mod attend;
mod streams;
mod terminal;

use super::{create, flags::Flags, kept::Kept, launch, monitor, spec::Image, wanted};
use crate::{
    app::{App, Global},
    error::{Failure, NOT_STARTED, USAGE},
    show,
};
use slipway_runtime::{
    Life, SandboxSpec, Stdio,
    container::{config::Config, log::LogWriter, stop::StopPolicy},
};
use std::{fs::File, io::IsTerminal};

/// Run a command in a new container.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Leave it running, and print its id
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Carries the command out.
pub(crate) fn run(global: &Global, arguments: Arguments) -> Result<u8, Failure> {
    container(global, &arguments).map_err(not_started)
}

/// The exit status of a container that could not be made, for a failure that has none of its own.
pub(super) fn not_started(failure: Failure) -> Failure {
    match failure.status() {
        1 | USAGE => failure.with_status(NOT_STARTED),
        _ => failure,
    }
}

fn container(global: &Global, arguments: &Arguments) -> Result<u8, Failure> {
    let flags = &arguments.flags;
    if !arguments.detach && flags.tty && flags.interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a terminal")
            .with_hint("leave -t out, or run from a terminal"));
    }
    wanted::check(flags)?;
    let app = App::open_for_containers(global)?;
    let (mut kept, lock, config, image) = create::create(&app, global, flags, true)?;
    if arguments.detach {
        let started = monitor::start(&app, &mut kept, lock);
        if started.is_err() && flags.rm {
            // nothing was made but its folder
            app.store.remove_container(&kept.row.id, None)?;
        }
        started?;
        show::say(&kept.row.id)?;
        return Ok(0);
    }
    let ended = foreground(&app, &mut kept, &config, image);
    let (code, words) = match &ended {
        Ok(code) => (*code, String::new()),
        Err(failure) => (i32::from(failure.status()), failure.words()),
    };
    let removed: Option<File> = if flags.rm { Some(lock) } else { None };
    let written = kept.end(&app, code, words, removed);
    let code = ended?;
    written?;
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Runs a container in this process's care; gives its exit status as a shell tells it.
fn foreground(app: &App, kept: &mut Kept, config: &Config, image: Image) -> Result<i32, Failure> {
    let mut sides = None;
    let streams = |spec: &mut SandboxSpec| {
        sides = stdio(spec, config)?;
        Ok(())
    };
    let received = attend::receive()?;
    let running = launch::launch(app, kept, config, image, Life::WithCaller, streams)?;
    let log = LogWriter::open(&kept.folder(app), config.log);
    let streams =
        attend::Streams { sides, interactive: config.interactive, log: (!config.auto_remove).then_some(log) };
    attend::attend(running, received, config.stop, streams)
}

/// The command's streams; our sides of them where it has no terminal.
fn stdio(spec: &mut SandboxSpec, config: &Config) -> Result<Option<streams::Sides>, Failure> {
    if config.terminal {
        spec.stdio = Stdio::Terminal { size: terminal::size() };
        return Ok(None);
    }
    let (stdio, sides) = streams::pipes(config.interactive)?;
    spec.stdio = stdio;
    Ok(Some(sides))
}

/// Runs what `spec` says with the caller's terminal, or its streams, until it ends; answers its status.
pub(in crate::command) fn attached(spec: &mut SandboxSpec, tty: bool) -> Result<u8, Failure> {
    let received = attend::receive()?;
    let sides = match tty {
        true => {
            spec.stdio = Stdio::Terminal { size: terminal::size() };
            None
        }
        false => {
            let (stdio, sides) = streams::pipes(true)?;
            spec.stdio = stdio;
            Some(sides)
        }
    };
    let running = slipway_runtime::spawn(spec)?;
    // our ends of the pipes must close, or reading them would not end with the command
    spec.stdio = Stdio::null();
    let policy = StopPolicy { prompts: true, ..Default::default() };
    attend::attend(running, received, policy, attend::Streams { sides, interactive: true, log: None })
        .map(|code| u8::try_from(code).unwrap_or(u8::MAX))
}
