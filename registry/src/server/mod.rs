//! The registry server: the distribution specification 1.1 over a [`storage`] folder.
//!
//! A request goes: accept loop (`listen`, with the budgets of `connection`) -> `route` (pure, from the path's end) ->
//! `entry` and `access` (once, for every request) -> one `endpoint` -> [`storage`], which blocks and therefore runs on tokio's blocking threads. Whatever goes wrong
//! becomes a status code in `error` alone.
//!
//! Without a configuration anyone may do everything, hence the default of listening on loopback only.

pub mod access;
mod acme;
mod arriving;
mod body;
mod call;
mod change;
mod collector;
mod connection;
mod counts;
mod descriptors;
mod devices;
mod direct;
mod dispatch;
mod endpoint;
mod entry;
mod error;
mod event;
mod follow;
mod forwarded;
mod host;
mod kept;
mod life;
mod listen;
mod memory;
mod metrics;
mod migrate;
mod mirror;
mod notice;
mod outside;
mod pace;
mod policy;
mod precondition;
mod probe;
mod pulls;
mod query;
mod quick;
mod quota;
mod range;
mod redirect;
mod replica;
mod reply;
mod retention;
mod route;
mod scrub;
mod send;
mod sockets;
pub mod storage;
mod throttle;
mod tls;
mod traces;
mod trouble;
mod upstreams;
mod web;

#[cfg(test)]
mod tests;

pub use acme::{Acme, AcmeError, External, is_host_name};
pub use connection::Budgets;
pub use event::{Change, Dropped, Event, Handled, Observer};
pub use forwarded::Trusted;
pub use life::{Collect, Trash, period};
pub use migrate::{Home, migrate, stay};
pub use notice::{Form, Hook, HookError, Hooks, What};
pub use pace::Scrub;
pub use policy::{Deprecation, DeprecationError, Policy};
pub use quota::{Quota, bound, bounds, filled, share};
pub use redirect::Redirect;
pub use replica::{ContentSetting, Engines};
pub use retention::{Retention, retire};
pub use sockets::{Listen, Place};
pub use throttle::{Limit, Limits, Rate, Share, bytes};
pub use tls::{Tls, TlsError};
pub use traces::{TraceSetting, Traces};
pub use upstreams::{MirrorError, MirrorSetting, Mirrors, NamedMirror, PasswordSource};

use crate::{client::ClientError, limits};
use access::{Access, Keys};
use acme::Keeper;
use call::{Current, Shared, blocking};
use descriptors::Division;
use devices::Devices;
use memory::Memory;
use metrics::Metrics;
use notice::{Notices, Sender};
use pulls::PullCounts;
use quick::Quick;
use sockets::Socket;
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};
use storage::{Storage, StorageError, Work};
use tls::{Certificates, CurrentTls};
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, watch},
};

/// What a server needs to know.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen, at least one place.
    pub listen: Vec<Listen>,
    /// Where numbers and the server's health are shown, without TLS and to everybody.
    pub metrics_listen: Vec<Listen>,
    /// The storage folder, made where it is missing.
    pub storage: PathBuf,
    /// What replicas share, in the place of a registry in the storage folder.
    pub engines: Option<Engines>,
    /// What is taken, and what is said about it, whoever asks.
    pub policy: Policy,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Repositories whose content is other registries'.
    pub mirrors: Arc<Mirrors>,
    /// Certificate and key, for TLS on every address; sockets in the file system have none.
    pub tls: Option<Tls>,
    /// A certificate that the server gets by itself, in the place of `tls`.
    pub acme: Option<Acme>,
    /// How long requests under way are waited for when it stops.
    pub drain: Duration,
    /// What connections may cost.
    pub budgets: Budgets,
    /// Who is told of changes by the network.
    pub hooks: Hooks,
    /// Where traces go.
    pub traces: Traces,
    /// Told of every request and failure.
    pub observer: Option<Observer>,
}

impl ServerConfig {
    /// Listens on 127.0.0.1:5000 and tells nobody anything.
    pub fn new(storage: PathBuf) -> ServerConfig {
        ServerConfig {
            listen: vec![Listen::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)))],
            metrics_listen: Vec::new(),
            storage,
            engines: None,
            policy: Policy::default(),
            access: Arc::new(Access::open()),
            mirrors: Arc::default(),
            tls: None,
            acme: None,
            drain: limits::STOP_TIME,
            budgets: Budgets::default(),
            hooks: Hooks::default(),
            traces: Traces::default(),
            observer: None,
        }
    }
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The storage folder cannot be used.
    #[error("cannot open the registry's storage `{path}`")]
    Storage {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: StorageError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The place.
        address: Listen,
        /// Why not.
        source: io::Error,
    },
    /// Traces cannot be sent.
    #[error("cannot set up the traces")]
    Traces(#[source] ClientError),
    /// Webhooks cannot be kept or reached.
    #[error("cannot set up the webhooks")]
    Hooks(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificates cannot be asked for.
    #[error("cannot set up the certificates")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No threads for the runtime.
    #[error("cannot start the server's threads")]
    Runtime(#[source] io::Error),
}

/// Asks a server to stop, from any thread, any number of times.
#[derive(Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// A switch that is not thrown.
    pub fn new() -> Shutdown {
        Shutdown(Arc::new(watch::Sender::new(false)))
    }

    /// Stops the server: no new connections; requests under way get [`ServerConfig::drain`] to finish.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&*self.0.borrow()).finish()
    }
}

/// Changes a server while it runs. Requests that are under way end by what held when they began.
#[derive(Clone)]
pub struct Control(Arc<Shared>, Arc<[Place]>);

impl Control {
    /// Where numbers and the server's health are shown.
    pub fn outside_places(&self) -> &[Place] {
        &self.1
    }

    /// Other rules and users take the place of the former ones.
    pub fn replace_access(&self, access: Arc<Access>) {
        self.0.access.replace(access);
    }

    /// Other mirrors take the place of the former ones; what these are fetching they fetch to its end.
    pub fn replace_mirrors(&self, mirrors: Arc<Mirrors>) {
        self.0.mirrors.replace(mirrors);
    }

    /// Another policy takes the place of the former one.
    pub fn replace_policy(&self, policy: Policy) {
        set_up(&self.0.storage, &policy);
        self.0.policy.replace(Arc::new(policy));
    }

    /// New connections get another certificate, if they get one at all.
    pub fn replace_tls(&self, tls: Tls) {
        self.0.tls.replace(tls);
    }
}

/// A server that has its storage and its address, but does not answer yet.
pub struct Server {
    runtime: Runtime,
    sockets: Vec<Socket>,
    places: Vec<Place>,
    outside: Vec<Socket>,
    outside_places: Vec<Place>,
    sender: Option<Sender>,
    tracing: Option<traces::Sender>,
    renewing: Option<Renewing>,
    shared: Arc<Shared>,
    drain: Duration,
}

/// What gets certificates, and answers challenges by plain HTTP.
struct Renewing {
    keeper: Keeper,
    certificates: Arc<Certificates>,
    sockets: Vec<Socket>,
}

fn open_all(
    runtime: &Runtime,
    listens: &[Listen],
    secure: bool,
) -> Result<(Vec<Socket>, Vec<Place>), ServeError> {
    let (mut sockets, mut places) = (Vec::new(), Vec::new());
    for listen in listens {
        let failed = |source| ServeError::Listen { address: listen.clone(), source };
        for socket in runtime.block_on(sockets::open(listen)).map_err(failed)? {
            places.push(match socket.place().map_err(failed)? {
                Place::Address(address) if secure => Place::Secure(address),
                other => other,
            });
            sockets.push(socket);
        }
    }
    Ok((sockets, places))
}

/// Prepares for a certificate that comes by itself, where the configuration asks for one.
fn renewing(
    runtime: &Runtime,
    storage: &Arc<Storage>,
    config: &mut ServerConfig,
) -> Result<Option<Renewing>, ServeError> {
    let Some(acme) = config.acme.take() else { return Ok(None) };
    let challenges = acme.http.clone();
    let prepared = Keeper::prepare(acme, storage, &config.storage).map_err(ServeError::Certificates)?;
    let (keeper, certificates, tls) = prepared;
    config.tls = Some(tls);
    let (sockets, _) = open_all(runtime, &challenges, false)?;
    Ok(Some(Renewing { keeper, certificates, sockets }))
}

impl Server {
    /// Opens the storage, sweeps it, and takes the address.
    pub fn bind(config: ServerConfig) -> Result<Server, ServeError> {
        let opened = match &config.engines {
            Some(engines) => engines.open(&config.storage),
            None => Storage::open(&config.storage),
        };
        let storage =
            opened.map_err(|source| ServeError::Storage { path: config.storage.clone(), source })?;
        Server::over(storage, config)
    }

    /// Takes the address, for a storage that is open.
    fn over(storage: Arc<Storage>, mut config: ServerConfig) -> Result<Server, ServeError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Runtime)?;
        let near = storage.is_near();
        let renewing = renewing(&runtime, &storage, &mut config)?;
        let (sockets, places) = open_all(&runtime, &config.listen, config.tls.is_some())?;
        let (outside, outside_places) = open_all(&runtime, &config.metrics_listen, false)?;
        let mut budgets = config.budgets;
        let Division { files, fetches } = descriptors::divide(&mut budgets);
        let notices = Notices::open(&config.storage, &storage, &config.hooks);
        let notices = notices.map_err(|error| ServeError::Hooks(error.into()))?.map(Arc::new);
        let sender = notices.is_some().then(|| Sender::new(&config.hooks)).transpose();
        let sender = sender.map_err(|error| ServeError::Hooks(error.into()))?;
        let throttle = counts::throttle(&storage)
            .map_err(|source| ServeError::Storage { path: config.storage.clone(), source })?;
        let tracing = traces::Sender::new(&config.traces).map_err(ServeError::Traces)?;
        let devices = Arc::new(Devices::new(&storage));
        let shared = Arc::new(Shared {
            storage,
            budgets,
            memory: Memory::new(),
            files,
            fetches,
            devices,
            early: Arc::new(Semaphore::new(limits::EARLY_FILES)),
            policy: Current::new(Arc::new(config.policy)),
            access: Current::new(config.access),
            mirrors: Current::new(config.mirrors),
            tls: CurrentTls::new(config.tls),
            keys: Keys::default(),
            throttle,
            quick: Quick::new(near),
            pulls: PullCounts::default(),
            metrics: Metrics::default(),
            notices,
            traces: tracing.as_ref().map(traces::Sender::tracer),
            probes: probe::Probes::default(),
            redirect: config.engines.map(|engines| engines.redirect).unwrap_or_default(),
            pages: kept::Kept::new(),
            draining: AtomicBool::new(false),
            observer: config.observer,
        });
        set_up(&shared.storage, &shared.policy.current());
        tell_of_damage(&shared);
        let drain = config.drain;
        Ok(Server {
            runtime,
            sockets,
            places,
            outside,
            outside_places,
            shared,
            sender,
            tracing,
            renewing,
            drain,
        })
    }

    /// Where it listens.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where it shows numbers.
    pub fn outside_places(&self) -> &[Place] {
        &self.outside_places
    }

    /// What changes it while it runs.
    pub fn control(&self) -> Control {
        Control(Arc::clone(&self.shared), self.outside_places.clone().into())
    }

    /// Answers requests until `shutdown` is triggered.
    pub fn run(self, shutdown: &Shutdown) {
        let stop = shutdown.0.subscribe();
        let (scrubbing, told) = std::sync::mpsc::channel::<()>();
        let scrubbed = Arc::clone(&self.shared);
        let scrubber = thread::spawn(move || scrub::run(&scrubbed, &told));
        let (collecting, told) = std::sync::mpsc::channel::<()>();
        let collected = Arc::clone(&self.shared);
        let collector = thread::spawn(move || collector::run(&collected, &told));
        let Server { runtime, sockets, outside, shared, sender, tracing, renewing, drain, .. } = self;
        runtime.block_on(async move {
            let sweeper = tokio::spawn(sweep(Arc::clone(&shared)));
            let over = watch::Sender::new(false);
            let told = Arc::clone(&shared);
            let report: Observer = Arc::new(move |event: &Event<'_>| {
                told.metrics.fail();
                told.tell(event);
            });
            let sending = sender.zip(shared.notices.clone()).map(|(sender, notices)| {
                tokio::spawn(sender.run(notices, Arc::clone(&report), over.subscribe()))
            });
            let tracing = tracing.map(|tracing| tokio::spawn(tracing.run(report, over.subscribe())));
            let beside = |sockets, router| {
                tokio::spawn(listen::run_beside(sockets, router, Arc::clone(&shared), over.subscribe()))
            };
            let telling = tokio::spawn(counts::tell(Arc::clone(&shared)));
            let mut others = vec![telling, beside(outside, outside::router(Arc::clone(&shared)))];
            if let Some(Renewing { keeper, certificates, sockets }) = renewing {
                others.push(beside(sockets, acme::router(certificates)));
                others.push(tokio::spawn(keeper.run(Arc::clone(&shared))));
            }
            listen::run(sockets, shared, stop, drain).await;
            over.send_replace(true);
            others.iter().for_each(tokio::task::JoinHandle::abort);
            // notices that wait are sent after the next start; spans are gone
            for (task, time) in [(sending, limits::NOTICE_STOP), (tracing, limits::TRACES_STOP)] {
                if let Some(mut task) = task
                    && tokio::time::timeout(time, &mut task).await.is_err()
                {
                    task.abort();
                }
            }
            sweeper.abort();
        });
        drop((scrubbing, collecting));
        // a panic there was reported by itself
        let _ = (scrubber.join(), collector.join());
        // blocking work that is under way ends by itself; it holds the storage until then
        runtime.shutdown_timeout(limits::STOP_TIME);
    }

    /// Runs on a thread of its own; for a server that listens on an address first of all.
    ///
    /// # Panics
    /// When it listens on none there.
    pub fn spawn(self) -> RunningServer {
        let Some(Place::Address(address) | Place::Secure(address)) = self.places.first().cloned() else {
            panic!("a server that is spawned listens on an address")
        };
        let shutdown = Shutdown::new();
        let (stop, control) = (shutdown.clone(), self.control());
        let thread = thread::spawn(move || self.run(&stop));
        RunningServer { address, shutdown, control, thread: Some(thread) }
    }
}

/// A server on a thread of its own, which stops when this is dropped.
pub struct RunningServer {
    address: SocketAddr,
    shutdown: Shutdown,
    control: Control,
    thread: Option<thread::JoinHandle<()>>,
}

impl RunningServer {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What changes it while it runs.
    pub fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            // a panic there was reported by itself
            let _ = thread.join();
        }
    }
}

/// Serves until `shutdown` is triggered; `on_ready` learns the places once requests are taken.
pub fn serve(
    config: ServerConfig,
    on_ready: impl FnOnce(&[Place], Control),
    shutdown: &Shutdown,
) -> Result<(), ServeError> {
    let server = Server::bind(config)?;
    on_ready(server.places(), server.control());
    server.run(shutdown);
    Ok(())
}

/// What of a policy holds inside the storage's transactions.
fn set_up(storage: &Storage, policy: &Policy) {
    storage.keep_trash(policy.trash.0);
    let quotas = policy.quotas.clone();
    storage.limit(Arc::new(move |repository| quota::bounds(&quotas, repository)));
}

/// What the storage finds damaged, in the background or while it serves, is counted and told.
fn tell_of_damage(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    shared.storage.watch(Arc::new(move |damage| {
        if let Some(shared) = weak.upgrade() {
            shared.metrics.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            shared.tell(&Event::Damaged(damage));
        }
    }));
}

/// Of a folder each process sweeps as it begins and then now and then; of replicas whoever has the turn does.
async fn sweep(shared: Arc<Shared>) {
    let every = if shared.storage.is_shared() { limits::LEASE_LOOK } else { limits::SWEEP_PERIOD };
    let mut ticks = tokio::time::interval(every);
    let mut began = true;
    loop {
        ticks.tick().await;
        let (storage, first) = (Arc::clone(&shared.storage), std::mem::take(&mut began));
        if let Err(error) = blocking(move || storage.write_down(first)).await {
            shared.tell(&Event::Failure { operation: "write the journal's snapshot", error: &error });
        }
        let storage = Arc::clone(&shared.storage);
        let swept = blocking(move || {
            let Some(turn) = storage.turn(Work::Sweep, limits::SWEEP_PERIOD)? else { return Ok(0) };
            let swept = storage.sweep_uploads(std::time::SystemTime::now());
            // what fails is not tried again at once
            turn.finish();
            swept
        });
        match swept.await {
            Ok(0) => {}
            Ok(uploads) => shared.tell(&Event::Swept { uploads }),
            Err(error) => shared.tell(&Event::Failure { operation: "sweep uploads", error: &error }),
        }
    }
}
