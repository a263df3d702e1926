//! Of all replicas one asks an upstream for something, and the others wait until it is here. One that dies on the way is followed when
//! its lease is over.

use crate::{
    limits,
    server::{
        call::{Shared, blocking},
        storage::{Errand, Storage, StorageError, Turn},
        trouble::Trouble,
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time::sleep};

/// What became of a wish.
pub(super) enum Sent {
    /// This replica asks.
    Mine(Mine),
    /// Another one has brought it, or asked a moment ago.
    Here,
}

/// The turn at asking, until this is dropped; `None` where there are no other replicas.
pub(super) struct Mine(Option<Turn>);

impl Mine {
    /// It is over, and who comes next may ask, or needs not before it is due where it was `done`.
    pub(super) async fn end(mut self, done: bool) {
        if let Some(turn) = self.0.take() {
            let ended = spawn_blocking(move || if done { turn.finish() } else { drop(turn) });
            // where it cannot be given back it is over soon
            let _ = ended.await;
        }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        // giving it back asks the database, which a thread that serves connections must not wait for
        if let Some(turn) = self.0.take() {
            drop(spawn_blocking(move || drop(turn)));
        }
    }
}

async fn ask<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Storage) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Trouble> {
    let storage = Arc::clone(&shared.storage);
    blocking(move || work(&storage)).await.map_err(Trouble::from)
}

/// Takes the errand of bringing something, or waits until `is_here` says that another replica did.
pub(super) async fn bring(
    shared: &Arc<Shared>,
    what: &str,
    is_here: impl Fn(&Storage) -> Result<bool, StorageError> + Clone + Send + 'static,
) -> Result<Sent, Trouble> {
    if !shared.storage.is_shared() {
        return Ok(Sent::Mine(Mine(None)));
    }
    let begun = Instant::now();
    while begun.elapsed() < limits::MIRROR_WAIT {
        let (name, is_here) = (format!("{}{what}", limits::MIRROR_ERRAND), is_here.clone());
        let sent = ask(shared, move |storage| {
            let errand = storage.errand(&name, Duration::ZERO)?;
            // whoever had the turn before may have brought it
            if is_here(storage)? {
                return Ok(Some(Sent::Here));
            }
            Ok(if let Errand::Mine(turn) = errand { Some(Sent::Mine(Mine(Some(turn)))) } else { None })
        });
        match sent.await? {
            Some(sent) => return Ok(sent),
            None => sleep(limits::MIRROR_LOOK).await,
        }
    }
    Err(Trouble::Busy)
}

/// Takes the errand of asking whether something that is here is still the same, which one replica does `every` so often. `age` is told how
/// long ago another one did.
pub(super) async fn check(
    shared: &Arc<Shared>,
    what: &str,
    every: Duration,
    age: impl FnOnce(Duration),
) -> Result<Sent, Trouble> {
    if !shared.storage.is_shared() {
        return Ok(Sent::Mine(Mine(None)));
    }
    let name = format!("{}{what}", limits::MIRROR_ERRAND);
    Ok(match ask(shared, move |storage| storage.errand(&name, every)).await? {
        Errand::Mine(turn) => Sent::Mine(Mine(Some(turn))),
        // what is here is served meanwhile
        Errand::Elsewhere => Sent::Here,
        Errand::Done(time) => {
            age(time);
            Sent::Here
        }
    })
}
