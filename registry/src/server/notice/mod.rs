//! Webhooks: whoever the configuration names is told of changes, in the form that consumers of distribution's notifications or of
//! Harbor's webhooks read.
//!
//! A notice is in the [`queue`] before the request that made the change is answered, and stays there until its receiver has taken
//! it (status 2xx): what a client was told of is told on, if need be after a restart, once or more often. Each hook gets its notices
//! in order, one at a time ([`send`]). Of replicas any sends what any has put there.
//! Only addresses of the configuration are dialled; redirects are not followed.

mod body;
mod hook;
mod queue;
mod send;

pub use hook::{Form, Hook, HookError, What};

use body::Notice;
pub(super) use send::Sender;

use super::{
    event::Change,
    storage::{
        ManifestKey, Storage,
        pointers::{Outbox, OutboxError},
    },
};
use crate::{
    client::{Authorities, Proxies},
    limits,
};
pub(super) use queue::Queue;
use std::{path::Path, sync::Arc, time::Duration};

/// Who is told, and how they are reached.
#[derive(Clone)]
pub struct Hooks {
    /// In the order of the configuration.
    pub hooks: Vec<Hook>,
    /// Authorities to trust in the place of the system's.
    pub authorities: Option<Authorities>,
    /// Proxies that lead to them.
    pub proxies: Proxies,
    /// Pause after a notice was not taken the first time; each further one is twice as long.
    pub pause: Duration,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            hooks: Vec::new(),
            authorities: None,
            proxies: Proxies::default(),
            pause: limits::NOTICE_PAUSE,
        }
    }
}

/// The hooks of a server, and what waits for them.
pub(super) struct Notices {
    hooks: Vec<Hook>,
    queue: Arc<dyn Outbox>,
    /// Wakes those that send.
    news: tokio::sync::watch::Sender<u64>,
}

impl Notices {
    /// Opens the queue that replicas share, or that of a storage folder; nothing is made where there are no hooks.
    pub(super) fn open(
        folder: &Path,
        storage: &Storage,
        hooks: &Hooks,
    ) -> Result<Option<Notices>, OutboxError> {
        if hooks.hooks.is_empty() {
            return Ok(None);
        }
        let queue = match storage.outbox() {
            Some(shared) => shared,
            None => Arc::new(Queue::open(&folder.join("notices.db"))?),
        };
        let news = tokio::sync::watch::Sender::new(0);
        Ok(Some(Notices { hooks: hooks.hooks.clone(), queue, news }))
    }

    /// Notices that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.count().unwrap_or(0)
    }

    /// The notice of a change by `method` of a registry that its client calls `home`, where anybody wants to hear of it.
    pub(super) fn of(&self, change: &Change<'_>, method: &str, home: Option<String>) -> Option<Notice> {
        let what = what(change.action)?;
        let is_wanted = self.hooks.iter().any(|hook| hook.wants(what, change.repository));
        is_wanted.then(|| Notice::new(what, change, method, home))
    }

    /// Puts a notice into the queue of everybody who wants it. Blocks.
    pub(super) fn add(&self, mut notice: Notice, storage: &Storage) -> Result<(), OutboxError> {
        // what was deleted has neither type nor size any more
        if let Some(digest) = notice.digest.as_deref().and_then(|digest| digest.parse().ok())
            && let Ok(record) = storage.manifest(&notice.repository, &ManifestKey::Digest(digest))
        {
            (notice.media_type, notice.size) = (Some(record.media_type), Some(record.size_bytes));
        }
        let wanted = self.hooks.iter().filter(|hook| hook.wants(notice.what, &notice.repository));
        let all: Vec<(&str, String)> = wanted
            .flat_map(|hook| notice.bodies(hook.form).into_iter().map(|body| (hook.name.as_str(), body)))
            .collect();
        self.queue.add(&all)?;
        self.news.send_modify(|news| *news += 1);
        Ok(())
    }
}

/// What an action is to hooks; blobs are told to nobody: they say nothing without their manifests.
fn what(action: &str) -> Option<What> {
    match action {
        "push" => Some(What::Push),
        "delete" => Some(What::Delete),
        "pull" => Some(What::Pull),
        _ => None,
    }
}
