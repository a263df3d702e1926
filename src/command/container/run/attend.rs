//! Waiting for a container: signals and the terminal go to it, and it can always be stopped
//! ([`slipway_runtime::container::stop`] has the rules).

use super::{streams, terminal};
use crate::{error::Failure, show, signals};
use rustix::process::Signal;
use slipway_runtime::{
    Exit, Handle, Running,
    container::{
        log::LogWriter,
        state::Moment,
        stop::{self, Action, Reception, StopPolicy, Stopper},
    },
};
use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

/// How long a program may block a signal before it counts as one that takes it by itself.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// What the container gets of what its caller gets.
pub(super) struct Keeper {
    handle: Handle,
    policy: StopPolicy,
    stopper: Mutex<Stopper>,
    /// The signal that the container was killed in the name of: the first one that it was; 0 until then.
    ended_by: AtomicI32,
}

impl Keeper {
    fn new(handle: Handle, policy: StopPolicy) -> Arc<Keeper> {
        let stopper = Mutex::new(Stopper::new(policy));
        Arc::new(Keeper { handle, policy, stopper, ended_by: AtomicI32::new(0) })
    }

    fn decide(&self, signal: i32) -> Action {
        let mut stopper = self.stopper.lock().unwrap_or_else(PoisonError::into_inner);
        stopper.on(signal, |signal| self.handle.reception(signal), Instant::now())
    }

    /// A signal of the caller's.
    fn signal(self: &Arc<Self>, signal: i32) {
        self.act(self.decide(signal));
    }

    /// A signal that the container's terminal has sent already, because of a key, to the group of the first process.
    pub(super) fn typed(self: &Arc<Self>, signal: i32) {
        match self.decide(signal) {
            Action::Pass(signal) => self.look_again(signal, self.handle.reception(signal)),
            action => self.act(action),
        }
    }

    /// Whether the keys of the container's terminal are for its first process.
    pub(super) fn is_in_front(&self, terminal: std::os::fd::BorrowedFd<'_>) -> bool {
        self.handle.leads(terminal)
    }

    fn act(self: &Arc<Self>, action: Action) {
        match action {
            Action::Pass(signal) => self.pass(signal),
            Action::End(signal) => self.kill(signal),
            Action::Begin(signal) => {
                self.pass(signal);
                self.kill_after_grace();
            }
            Action::Kill => self.kill(Signal::KILL.as_raw()),
        }
    }

    /// Kills it in a signal's name. One that is dying has no handlers any more, and is not killed in another name for that.
    fn kill(&self, signal: i32) {
        let _ = self.ended_by.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
        self.send(Signal::KILL.as_raw());
    }

    fn pass(self: &Arc<Self>, signal: i32) {
        let reception = self.handle.reception(signal);
        self.send(signal);
        self.look_again(signal, reception);
    }

    /// A signal that was blocked was perhaps so for a moment only, as shells do around their children; the kernel drops it
    /// then when the moment is over.
    fn look_again(self: &Arc<Self>, signal: i32, reception: Reception) {
        if reception != Reception::Blocked || !stop::ends_if_dropped(signal) {
            return;
        }
        let keeper = Arc::clone(self);
        let look = move || {
            for _ in 0..LOOKS {
                std::thread::sleep(LOOK_PAUSE);
                match keeper.handle.reception(signal) {
                    Reception::Blocked => {}
                    Reception::Dropped => return keeper.act(Action::End(signal)),
                    _ => return,
                }
            }
        };
        // without a thread to look it is as if the program took it
        let _ = std::thread::Builder::new().name("look again".into()).spawn(look);
    }

    /// One that has just ended takes no signal, and any other failure is the kernel's to explain.
    fn send(&self, signal: i32) {
        if let Err(error) = self.handle.signal(signal) {
            show::note(format_args!("warning: {error}"));
        }
    }

    fn kill_after_grace(self: &Arc<Self>) {
        let Some(grace) = self.policy.grace else { return };
        let keeper = Arc::clone(self);
        let timer = std::thread::Builder::new().name("grace".into()).spawn(move || {
            std::thread::sleep(grace);
            if keeper.handle.is_alive() {
                let seconds = grace.as_secs();
                show::note(format_args!("note: the program did not end within {seconds} s and is killed"));
                keeper.act(Action::Kill);
            }
        });
        if timer.is_err() {
            // without a thread to wait there is no grace
            self.act(Action::Kill);
        }
    }

    /// The exit status as a shell tells it.
    fn status(&self, exit: Exit) -> i32 {
        match (exit, self.ended_by.load(Ordering::Relaxed)) {
            (Exit::Signal(libc::SIGKILL), signal @ 1..) => Exit::Signal(signal).status(),
            _ => exit.status(),
        }
    }
}

/// The caller's signals from now on, kept until there is a container.
pub(super) struct Received(Receiver<i32>);

/// Catches the signals that a container gets. To be called before it is made: none ends slipway in between.
pub(super) fn receive() -> Result<Received, Failure> {
    let (sender, receiver) = std::sync::mpsc::channel();
    signals::on(&signals::FORWARDED, move |signal| {
        // nobody takes them any more once the container has ended
        let _ = sender.send(signal);
    })?;
    Ok(Received(receiver))
}

/// Where the container's streams lead.
pub(super) struct Streams {
    /// Our sides of them; none with a terminal.
    pub(super) sides: Option<streams::Sides>,
    /// Whether the caller's input goes along.
    pub(super) interactive: bool,
    /// Where they are written down.
    pub(super) log: Option<LogWriter>,
}

/// Waits for the container, passing signals, streams and the terminal on; gives its exit status as a shell tells it.
pub(super) fn attend(
    mut running: Running,
    received: Received,
    policy: StopPolicy,
    streams: Streams,
) -> Result<i32, Failure> {
    let log = streams.log.map(|log| Arc::new(Mutex::new(log)));
    let copying = streams.sides.map(|sides| sides.copy(&running, log.as_ref())).transpose()?;
    let keeper = Keeper::new(running.handle()?, policy);
    let master = running.terminal();
    let resized = master.as_ref().map(|master| master.try_clone()).transpose()?;
    let passing = Arc::clone(&keeper);
    let pass = move || {
        for signal in received.0 {
            match &resized {
                Some(master) if signal == signal_hook::consts::SIGWINCH => {
                    terminal::copy_size(master.as_fd())
                }
                _ => passing.signal(signal),
            }
        }
    };
    std::thread::Builder::new().name("pass signals".into()).spawn(pass)?;
    let exit = match master {
        Some(master) => {
            terminal::attend(&mut running, &master, streams.interactive.then_some(&keeper), log.as_ref())?
        }
        None => running.wait()?,
    };
    let copied = copying.map(streams::Copying::finish);
    if let Some(log) = log {
        log.lock().unwrap_or_else(PoisonError::into_inner).finish(Moment::now());
    }
    copied.transpose()?;
    Ok(keeper.status(exit))
}
