//! A detached container's monitor, as far as it needs the store ([`slipway_runtime::container::monitor`] has its life).

use super::{kept::Kept, launch, spec::Image};
use crate::{
    app::{App, Global},
    error::{Failure, NOT_STARTED},
    images::Images,
};
use rustix::process::{chdir, setsid};
use slipway_runtime::{
    Life, Running, Stdio,
    container::{
        config::{Config, LONG_LIFE},
        log::Source,
        monitor::{self, Ended, Task, Watched, Which},
        state::Status,
    },
};
use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio as Streams},
    time::{Duration, Instant},
};

/// What a monitor writes when its container runs.
const RUNS: &[u8] = b"runs\n";

/// Starts a container, whose lock is held, in the care of a monitor, which lives on. When this returns, its command is executing.
pub(super) fn start(app: &App, kept: &mut Kept, lock: File) -> Result<(), Failure> {
    kept.change(app, |state| state.starting = true)?;
    let started = spawn(app, kept, &lock);
    if started.is_err() {
        // where its monitor could not even say so
        kept.change(app, |state| state.starting = false)?;
    }
    started
}

fn spawn(app: &App, kept: &Kept, lock: &File) -> Result<(), Failure> {
    let which = Which { root: app.store.root().to_owned(), id: kept.row.id.clone() };
    let [name, arguments @ ..] = monitor::line(&which, lock)?;
    // this program's own file, which no container can write
    let mut command = Command::new("/proc/self/exe");
    let (variable, word) = app.variable();
    command.arg0(name).args(arguments).env(variable, word).stdin(Streams::null()).stdout(Streams::piped());
    let mut child = command.spawn()?;
    let mut said = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut said)?;
    }
    if said == RUNS {
        return Ok(());
    }
    let status = child.wait()?;
    // it has said why itself
    let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED);
    Err(Failure::new("").with_status(status))
}

/// Does what a process called [`monitor::NAME`] has to do.
pub(crate) fn run(task: Task) -> Result<u8, Failure> {
    match task {
        Task::Begin(which, lock) => begin(&which, lock.into()),
        Task::End(ended) => end(ended),
    }
}

/// Makes the container and watches it. Who asked learns that it runs, or why not.
fn begin(which: &Which, lock: File) -> Result<u8, Failure> {
    // the caller's terminal and folder are not ours to hold; a fresh child can always do so
    let _ = setsid();
    let _ = chdir(c"/");
    let app = App::open_again(&which.root)?;
    let mut kept = Kept::of(app.store.container(&which.id)?);
    kept.change(&app, |state| (state.stop_wanted, state.restarts) = (false, 0))?;
    let attended = attempt(&app, &mut kept)?;
    // from here on it runs, and is attended to whatever happens to who asked for it: nothing below may fail
    let _ = std::io::stdout().write_all(RUNS).and_then(|()| std::io::stdout().flush());
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    Err(watch(&app, attended, lock))
}

/// A container that runs, and what its monitor goes on with.
struct Attended {
    running: Running,
    pipes: launch::Pipes,
    kept: Which,
    config: Config,
}

/// Starts the container; one that cannot be started has ended with that.
fn attempt(app: &App, kept: &mut Kept) -> Result<Attended, Failure> {
    started(app, kept).inspect_err(|failure| {
        // what it came to is told by the failure as well
        let _ = kept.end(app, i32::from(failure.status()), failure.words(), None);
    })
}

fn started(app: &App, kept: &mut Kept) -> Result<Attended, Failure> {
    let config = kept.config(app)?;
    let record = app.store.read_image(&kept.row.manifest)?;
    let global = Global::of_store(app.store.root());
    let (layers, tree) = Images::new(&app.store, &global)?.runnable(&record)?;
    let image = Image { layers, tree };
    let mut pipes = None;
    let streams = |spec: &mut slipway_runtime::SandboxSpec| {
        if config.terminal {
            spec.stdio = Stdio::Terminal { size: None };
            return Ok(());
        }
        pipes = Some(launch::pipes(spec, config.interactive)?);
        Ok(())
    };
    let mut running = launch::launch(app, kept, &config, image, Life::Beyond, streams)?;
    let mut terminal = || running.terminal().into_iter().collect();
    let pipes = match pipes {
        Some(pipes) => pipes,
        None => launch::Pipes { outputs: terminal(), input: None },
    };
    let which = Which { root: app.store.root().to_owned(), id: kept.row.id.clone() };
    Ok(Attended { running, pipes, kept: which, config })
}

/// Becomes what watches the container.
fn watch(app: &App, attended: Attended, lock: File) -> Failure {
    let Attended { running, pipes, kept, config } = attended;
    let sources = [Source::Stdout, Source::Stderr];
    let pidfd = match running.pidfd().try_clone_to_owned() {
        Ok(pidfd) => pidfd,
        Err(error) => return error.into(),
    };
    let watched = Watched {
        folder: app.store.container_folder(&kept.id),
        which: kept,
        lock: lock.into(),
        pidfd,
        outputs: pipes.outputs.into_iter().zip(sources).collect(),
        input: pipes.input,
        stop: config.stop,
        log: config.log,
    };
    monitor::watch(watched, &running).into()
}

/// Writes the end of a container down, and starts it again where that was asked for.
fn end(ended: Ended) -> Result<u8, Failure> {
    let app = App::open_again(&ended.which.root)?;
    let lock = File::from(ended.lock);
    let mut exit_code = ended.exit_code;
    // removes its group; what it ended with is written down all the same
    let _ = slipway_runtime::sweep();
    loop {
        let mut kept = Kept::of(app.store.container(&ended.which.id)?);
        let Ok(config) = kept.config(&app) else {
            // damaged meanwhile: it cannot start again
            kept.end(&app, exit_code, String::new(), None)?;
            return Ok(0);
        };
        let lived = kept.state.started.map_or(0, |started| {
            slipway_runtime::container::state::Moment::now().0.saturating_sub(started.0)
        });
        let begins_anew = u64::try_from(lived).is_ok_and(|lived| Duration::from_nanos(lived) > LONG_LIFE);
        let restarts = if begins_anew { 0 } else { kept.state.restarts };
        let pause = config.restart.pause(exit_code, restarts).filter(|_| !kept.state.stop_wanted);
        let Some(pause) = pause else {
            let error = kept.state.error.clone();
            // held until that is written, unless it goes: who finds the lock free before would take its monitor for killed
            let removed = if config.auto_remove { Some(lock) } else { None };
            kept.end(&app, exit_code, error, removed)?;
            return Ok(0);
        };
        kept.change(&app, |state| {
            state.end(exit_code, String::new());
            (state.status, state.restarts) = (Status::Restarting, restarts + 1);
            state.monitor = slipway_runtime::ProcessId::own();
        })?;
        if !is_left_alone(&app, &mut kept, pause)? {
            continue;
        }
        match attempt(&app, &mut kept) {
            Ok(attended) => return Err(watch(&app, attended, lock)),
            Err(failure) => exit_code = i32::from(failure.status()),
        }
    }
}

/// Waits before a restart; whether nobody wants the container to stop meanwhile.
fn is_left_alone(app: &App, kept: &mut Kept, pause: Duration) -> Result<bool, Failure> {
    /// How soon a command that stops it is heard.
    const LOOK: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    while begun.elapsed() < pause {
        std::thread::sleep(LOOK.min(pause.saturating_sub(begun.elapsed())));
        if !kept.read_again(app)? || kept.state.stop_wanted {
            return Ok(false);
        }
    }
    Ok(true)
}
