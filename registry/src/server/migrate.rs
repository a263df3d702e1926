//! A registry that moves: everything that its storage has, and what webhooks are to be told yet.

use super::{
    notice::Queue,
    replica::Engines,
    storage::{
        StorageError,
        keep::{self, Moved, Moving, Side},
        pointers::{Outbox, OutboxError},
    },
};
use crate::limits;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a registry is, or is to be.
#[derive(Debug)]
pub enum Home {
    /// In a folder.
    Folder(PathBuf),
    /// In what replicas share.
    Shared(Box<Engines>),
}

impl Home {
    fn side(&self, within: &Path, is_target: bool) -> Result<Side, StorageError> {
        match self {
            Home::Folder(path) if is_target => Side::target_folder(path),
            Home::Folder(path) => Side::folder(path),
            Home::Shared(engines) => {
                let Engines { database, bucket, seals, .. } = &**engines;
                Side::shared(database, bucket, seals, within, is_target)
            }
        }
    }

    /// Where its notices wait; `None` where there were never any. `made`: where they are to wait.
    fn outbox(&self, side: &Side, made: bool) -> Result<Option<Arc<dyn Outbox>>, OutboxError> {
        match self {
            Home::Shared(_) => Ok(side.storage().outbox()),
            Home::Folder(path) => {
                let path = path.join("notices.db");
                match made || path.is_file() {
                    true => Ok(Some(Arc::new(Queue::open(&path)?))),
                    false => Ok(None),
                }
            }
        }
    }
}

/// Moves a registry while it is served; what was begun before is gone on with. `within` is a folder for what passes through.
pub fn migrate(from: &Home, to: &Home, within: &Path, moving: &Moving<'_>) -> Result<Moved, StorageError> {
    let (source, target) = (from.side(within, false)?, to.side(within, true)?);
    let hand_over = || -> Result<u64, OutboxError> {
        let Some(queue) = from.outbox(&source, false)? else { return Ok(0) };
        // those of pulls go on coming
        let (mut count, most) = (0, queue.count()?);
        while count < most {
            let waiting = queue.all(limits::NOTICES_PAGE)?;
            if waiting.is_empty() {
                break;
            }
            let there = to.outbox(&target, true)?.expect("a registry can have notices");
            for (id, hook, body) in waiting {
                // told twice rather than never, where this ends in between
                there.add(&[(hook.as_str(), body)])?;
                queue.remove(id)?;
                count += 1;
            }
        }
        Ok(count)
    };
    let hand_over = || hand_over().map_err(|error| StorageError::Notices(Box::new(error)));
    keep::migrate(&source, &target, moving, &hand_over)
}

/// Has a registry that was moved, or is about to be, take changes again.
pub fn stay(from: &Home, within: &Path) -> Result<(), StorageError> {
    from.side(within, false)?.give_back()
}
