//! One request on its way to an endpoint, and what every request sees.

use super::{
    access::{Access, Action, Keys, Visitor},
    connection::Budgets,
    descriptors::Fetches,
    devices::Devices,
    direct::Outbox,
    error::ApiError,
    event::{Event, Observer},
    kept::Kept,
    memory::Memory,
    metrics::Metrics,
    notice::Notices,
    policy::Policy,
    probe::Probes,
    pulls::PullCounts,
    query::Query,
    quick::Quick,
    redirect::Redirect,
    storage::{Author, Sight, Storage, StorageError},
    throttle::Throttle,
    tls::CurrentTls,
    traces::Tracer,
    upstreams::Mirrors,
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, header},
};
use std::{
    net::IpAddr,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Semaphore;

/// What every request sees.
pub(super) struct Shared {
    pub(super) storage: Arc<Storage>,
    pub(super) policy: Current<Policy>,
    pub(super) access: Current<Access>,
    pub(super) mirrors: Current<Mirrors>,
    pub(super) tls: CurrentTls,
    pub(super) keys: Keys,
    pub(super) throttle: Arc<Throttle>,
    pub(super) budgets: Budgets,
    pub(super) memory: Memory,
    /// Files that replies may keep open.
    pub(super) files: Arc<Semaphore>,
    /// Turns to ask other registries.
    pub(super) fetches: Fetches,
    /// Devices that wait to be let in.
    pub(super) devices: Arc<Devices>,
    /// Files that are opened before their reply begins.
    pub(super) early: Arc<Semaphore>,
    pub(super) quick: Quick,
    /// Pulls that were not written down yet.
    pub(super) pulls: PullCounts,
    pub(super) metrics: Metrics,
    /// Webhooks, where there are any.
    pub(super) notices: Option<Arc<Notices>>,
    /// Traces, where they go anywhere.
    pub(super) traces: Option<Arc<Tracer>>,
    /// Who fetches blobs from the store.
    pub(super) redirect: Redirect,
    /// Turns at asking what it depends on.
    pub(super) probes: Probes,
    /// What the web page keeps of what it read.
    pub(super) pages: Kept,
    /// Whether the server is stopping.
    pub(super) draining: AtomicBool,
    pub(super) observer: Option<Observer>,
}

impl Shared {
    /// Whether the server is stopping.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

/// The rules of now: another configuration takes their place while requests go on by the former.
pub(super) struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    pub(super) fn new(rules: Arc<T>) -> Current<T> {
        Current(RwLock::new(rules))
    }

    pub(super) fn current(&self) -> Arc<T> {
        Arc::clone(&self.0.read().expect("no panic happens while the rules are held"))
    }

    pub(super) fn replace(&self, rules: Arc<T>) {
        *self.0.write().expect("no panic happens while the rules are held") = rules;
    }
}

/// One request, taken apart.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    /// Who sends it.
    pub(super) visitor: Visitor,
    /// From where, unless it comes by a socket in the file system.
    pub(super) client: Option<IpAddr>,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    pub(super) body: Body,
    /// Where its reply may put ranges of files that the kernel sends.
    pub(super) outbox: Option<Arc<Outbox>>,
}

impl Call {
    /// Who changes something by this request, for what remembers it.
    pub(super) fn author(&self) -> Author {
        Author { who: self.visitor.name().clone(), origin: self.client.map(|client| client.to_string()) }
    }

    /// What the caller may know of what is there.
    pub(super) fn sight(&self, repository: &str) -> Sight {
        let repository = self.visitor.may(Action::Pull, repository);
        Sight { repository, everything: self.visitor.sees_all() }
    }

    /// A header's text; one that is no text counts as missing.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The announced length of the body. hyper has refused a wrong one already.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok())
    }
}

/// Runs blocking storage work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}
