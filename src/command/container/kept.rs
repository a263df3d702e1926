//! A container that is kept: its row, its folder, and who works on it.

use super::{flags::Flags, name, stopping};
use crate::{app::App, error::Failure};
use slipway_oci::{
    Digest,
    store::{KeptContainer, Store, StoreError},
};
use slipway_runtime::container::{
    config::Config,
    state::{Moment, State, Status, boot_id},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// A container that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) row: KeptContainer,
    pub(super) state: State,
}

/// What a container ended with whose monitor is gone: it was killed too.
const KILLED: i32 = 137;

/// How long a monitor may take from its container's end until that is written down, before a command that waits for it says so.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often that is looked at.
const PAUSE: Duration = Duration::from_millis(2);

impl Kept {
    /// Makes a new container from an image that is here; its lock is held by the caller, who says whether it is about to start it.
    pub(super) fn new(
        app: &App,
        flags: &Flags,
        image: &Digest,
        config: &Config,
        starting: bool,
    ) -> Result<(Kept, File), Failure> {
        let given = flags.name.as_deref().map(name::check).transpose()?;
        let id = name::id()?;
        let (folder, lock) = app.store.new_container_folder(&id)?;
        let state = State { starting, ..State::default() };
        let mut row = KeptContainer {
            id,
            name: String::new(),
            manifest: image.clone(),
            state: state.text(),
            created: Moment::now().seconds(),
        };
        let added = write_config(&folder, config).and_then(|()| add(&app.store, &mut row, given));
        match added {
            Ok(()) => Ok((Kept { row, state }, lock)),
            Err(failure) => {
                // swept later where it stays
                let _ = slipway_oci::file::remove_tree(&folder);
                Err(failure)
            }
        }
    }

    /// The container that a caller names.
    pub(super) fn find(app: &App, text: &str) -> Result<Kept, Failure> {
        let row = app.store.container(text)?;
        let missing = || Failure::from(StoreError::NoContainer(text.to_owned()));
        Kept::looked_at(app, row)?.ok_or_else(missing)
    }

    /// What a row says, for who holds the container's lock.
    pub(super) fn of(row: KeptContainer) -> Kept {
        Kept { state: state_of(&row), row }
    }

    /// All containers, the youngest first.
    pub(super) fn all(app: &App) -> Result<Vec<Kept>, Failure> {
        let rows = app.store.containers()?;
        rows.into_iter().filter_map(|row| Kept::looked_at(app, row).transpose()).collect()
    }

    /// Clears what monitors that were killed have left: their containers are ended, and those that were to go away are gone.
    pub(super) fn clear(app: &App) -> Result<(), Failure> {
        app.store.containers_up()?.into_iter().try_for_each(|row| Kept::looked_at(app, row).map(drop))
    }

    /// What a row says, once what a monitor that was killed has left is cleared; `None` where the container is gone with that.
    fn looked_at(app: &App, row: KeptContainer) -> Result<Option<Kept>, Failure> {
        let mut kept = Kept::of(row);
        if !kept.state.is_attended() {
            return Ok(Some(kept));
        }
        let Ok(Some(lock)) = app.store.lock_container(&kept.row.id) else { return Ok(Some(kept)) };
        // it may have ended since the row was read
        if !kept.read_again(app)? {
            return Ok(None);
        }
        if !kept.state.is_attended() {
            return Ok(Some(kept));
        }
        if let Some(process) = kept.state.find_process() {
            process.signal(signal_hook::consts::SIGKILL)?;
            stopping::ends_within(&process, Some(PATIENCE))?;
        }
        if Config::read(&kept.folder(app)).is_ok_and(|config| config.auto_remove) {
            kept.end(app, KILLED, String::new(), Some(lock))?;
            return Ok(None);
        }
        match kept.state.status.is_up() {
            true => kept.end(app, KILLED, "its monitor was killed".to_owned(), None)?,
            // nothing of it has been executed
            false => drop(kept.change(app, |state| state.starting = false)?),
        }
        Ok(Some(kept))
    }

    /// Its folder.
    pub(super) fn folder(&self, app: &App) -> PathBuf {
        app.store.container_folder(&self.row.id)
    }

    /// What it is made from.
    pub(super) fn config(&self, app: &App) -> Result<Config, Failure> {
        Config::read(&self.folder(app)).map_err(|error| {
            Failure::from(error)
                .about(format!("container `{}` is damaged", self.row.name))
                .with_hint(format!("take it away with `slipway rm {}`", self.row.name))
        })
    }

    /// Its lock; `None` where somebody works on it.
    pub(super) fn lock(&self, app: &App) -> Result<Option<File>, Failure> {
        Ok(app.store.lock_container(&self.row.id)?)
    }

    /// Changes what it came to, with nobody in between; whether it is still there.
    pub(super) fn change(&mut self, app: &App, change: impl FnOnce(&mut State)) -> Result<bool, Failure> {
        let row = app.store.change_container(&self.row.id, |row| {
            let mut state = state_of(row);
            change(&mut state);
            state.text()
        })?;
        let Some(row) = row else { return Ok(false) };
        *self = Kept::of(row);
        Ok(true)
    }

    /// It runs, in this process's care.
    pub(super) fn begin(&mut self, app: &App, running: &slipway_runtime::Running) -> Result<(), Failure> {
        let (process, monitor) = (running.identity(), slipway_runtime::ProcessId::own());
        let begin = |state: &mut State| {
            *state = State {
                status: Status::Running,
                process,
                monitor,
                boot: boot_id(),
                started: Some(Moment::now()),
                finished: None,
                exit_code: 0,
                error: String::new(),
                starting: false,
                ..std::mem::take(state)
            };
        };
        self.change(app, begin).map(drop)
    }

    /// It has ended: it goes away, whose lock is given, or its end is written down.
    pub(super) fn end(
        &mut self,
        app: &App,
        exit_code: i32,
        error: String,
        removed: Option<File>,
    ) -> Result<(), Failure> {
        if removed.is_some() {
            return Ok(app.store.remove_container(&self.row.id, removed)?);
        }
        self.change(app, |state| state.end(exit_code, error)).map(drop)
    }

    /// Reads again what it came to; whether it is still there.
    pub(super) fn read_again(&mut self, app: &App) -> Result<bool, Failure> {
        match app.store.container(&self.row.id) {
            Ok(row) => *self = Kept::of(row),
            Err(StoreError::NoContainer(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Notes that somebody wants it to stop, so that nobody starts it again.
    pub(super) fn want_stop(&mut self, app: &App) -> Result<(), Failure> {
        self.change(app, |state| state.stop_wanted = true).map(drop)
    }

    /// Waits until whoever attends to it has written its end down.
    pub(super) fn wait_for_monitor(&mut self, app: &App) -> Result<(), Failure> {
        let begun = std::time::Instant::now();
        loop {
            let free = match app.store.lock_container(&self.row.id) {
                Ok(lock) => lock.is_some(),
                // it has been removed
                Err(_) if !self.folder(app).exists() => true,
                Err(error) => return Err(error.into()),
            };
            if free {
                self.read_again(app)?;
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let words = format!("container `{}` has not ended", self.row.name);
                return Err(Failure::new(words).with_hint("a process of it may be stuck in the kernel"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn write_config(folder: &Path, config: &Config) -> Result<(), Failure> {
    Ok(config.write(folder)?)
}

/// What a row says. One that cannot be read, of a later version or damaged, has ended as far as we know: it is listed and can be
/// removed, unless somebody holds its lock.
fn state_of(row: &KeptContainer) -> State {
    State::parse(&row.state).unwrap_or_else(|error| State {
        status: Status::Exited,
        error: format!("its state cannot be read: {error}"),
        ..State::default()
    })
}

/// Writes the row, with a name of ours where none is given.
fn add(store: &Store, row: &mut KeptContainer, given: Option<String>) -> Result<(), Failure> {
    if let Some(name) = given {
        row.name = name;
        return store.add_container(row).map_err(|error| {
            let is_taken = matches!(error, StoreError::NameTaken { .. });
            let failure = Failure::from(error);
            if !is_taken {
                return failure;
            }
            failure.with_hint(format!("remove that with `slipway rm {}`, or choose another name", row.name))
        });
    }
    for attempt in 0.. {
        row.name = name::random(attempt)?;
        match store.add_container(row) {
            Err(StoreError::NameTaken { .. }) if attempt < name::ATTEMPTS => {}
            other => return Ok(other?),
        }
    }
    Ok(())
}
