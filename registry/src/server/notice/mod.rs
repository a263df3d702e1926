//! Webhooks: whoever the configuration names is told of changes, in the form that consumers of distribution's notifications or of
//! Harbor's webhooks read.
//!
//! A notice is in the [`queue`] before the request that made the change is answered, and stays there until its receiver has taken
//! it (status 2xx): what a client was told of is told on, if need be after a restart, once or more often. Each hook gets its notices
//! in order, one at a time ([`send`]). Only addresses of the configuration are dialled; redirects are not followed.

mod body;
mod hook;
mod queue;
mod send;

pub use hook::{Form, Hook, HookError, What};

pub(super) use body::Notice;
pub(super) use send::Sender;

use super::{call::Shared, change::Changed, event::Event, follow::Followed, storage::ManifestKey};
use crate::{
    client::{Authorities, Proxies},
    limits,
};
use queue::{Queue, QueueError};
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
    queue: Arc<Queue>,
    /// Wakes those that send.
    news: tokio::sync::watch::Sender<u64>,
}

impl Notices {
    /// Opens the queue in a storage folder; nothing is made where there are no hooks.
    pub(super) fn open(folder: &Path, hooks: &Hooks) -> Result<Option<Notices>, QueueError> {
        if hooks.hooks.is_empty() {
            return Ok(None);
        }
        let queue = Arc::new(Queue::open(&folder.join("notices.db"))?);
        let news = tokio::sync::watch::Sender::new(0);
        Ok(Some(Notices { hooks: hooks.hooks.clone(), queue, news }))
    }

    /// Notices that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.count().unwrap_or(0)
    }

    /// Whether anybody wants to hear of it.
    fn wanted(&self, what: What, repository: &str) -> bool {
        self.hooks.iter().any(|hook| hook.wants(what, repository))
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

/// Puts notices of a change into the queue of everybody who wants them, before it is answered.
pub(super) async fn enqueue(shared: &Arc<Shared>, changed: &Changed, by: &Followed, home: Option<String>) {
    let Some(notices) = &shared.notices else { return };
    let Some(what) = what(changed.action).filter(|what| notices.wanted(*what, &changed.repository)) else {
        return;
    };
    let mut notice = Notice::new(what, changed, by, home);
    let shared = Arc::clone(shared);
    let added = tokio::task::spawn_blocking(move || {
        // what was deleted has neither type nor size any more
        if let Some(digest) = notice.digest.as_deref().and_then(|digest| digest.parse().ok())
            && let Ok(record) = shared.storage.manifest(&notice.repository, &ManifestKey::Digest(digest))
        {
            (notice.media_type, notice.size) = (Some(record.media_type), Some(record.size_bytes));
        }
        let notices = shared.notices.as_ref().expect("looked at above");
        let wanted = notices.hooks.iter().filter(|hook| hook.wants(what, &notice.repository));
        let all: Vec<(&str, String)> = wanted
            .flat_map(|hook| notice.bodies(hook.form).into_iter().map(|body| (hook.name.as_str(), body)))
            .collect();
        if let Err(error) = notices.queue.add(&all) {
            shared.tell(&Event::Failure { operation: "queue a notice", error: &error });
            shared.metrics.fail();
        }
        notices.news.send_modify(|news| *news += 1);
    });
    // a panic there was reported by itself
    let _ = added.await;
}
