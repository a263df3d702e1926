//! The registry client: pull, push, tags, delete, and fetching of plain addresses; synchronous for its callers.
//!
//! Built on `reqwest`, beside `oci-distribution` (upstream's new name: `oci-client`). From `oci-distribution` come the
//! specification's error bodies and token replies (`body`, `auth`), and in the tests its whole client, as a stranger
//! who talks to our server. Its client does not serve here because it reads manifests, tags and tokens without a cap,
//! sends credentials to whatever realm an answer names (CVE-2026-33540), has neither refresh tokens nor mount scopes,
//! takes up no broken download, and lets reqwest follow redirects unseen.
//!
//! What is promised:
//! - Every byte is verified: blobs for size and digest while they stream, manifests before they are looked at.
//! - Credentials go to the registry's own origin only; to a token service only as `realm` allows; never along a
//!   redirect.
//! - https, except to this machine and to hosts that the user called insecure.
//! - Every reply has a cap; every loop has a bound; whatever may pass is tried again with growing pauses.
//!
//! ```no_run
//! use slipway_registry::client::{Client, ClientConfig};
//! let client = Client::new(ClientConfig::default())?;
//! let reference = "debian:12".parse().expect("a reference");
//! let descriptor = client.resolve(&reference)?;
//! # Ok::<(), slipway_registry::client::ClientError>(())
//! ```

mod auth;
mod beside;
mod body;
mod bounds;
mod credential;
mod device;
mod dns;
mod error;
mod fetch;
mod keep;
mod login;
mod manifest;
mod outgoing;
mod place;
mod progress;
mod proxy;
mod push;
mod realm;
mod referrers;
mod retry;
mod routes;
mod sink;
mod tags;
mod transport;
mod trust;
mod upload;
mod upstream;
mod url;
mod warning;

#[cfg(test)]
mod tests;

pub use credential::{Credential, CredentialError, Credentials, DockerConfig};
pub use device::DevicePrompt;
pub use error::ClientError;
pub use keep::{Kept, forget_credential, keep_credential};
pub use manifest::{Condition, ManifestBytes};
pub use progress::{Event, Progress};
pub use proxy::Proxies;
pub use push::{BlobReader, BlobSource, Push, Pushed};
pub use routes::{Mirror, Pulls, RegistriesConf, RegistriesConfError, Route, Routes};
pub use trust::Authorities;
pub use url::{Fetched, UrlContent, UrlOptions};
pub use warning::Warned;

// the server asks issuers of identity tokens the same way
pub(crate) use beside::beside;
pub(crate) use body::retry_after;
pub(crate) use dns::Resolver;
// and its mirrors their upstreams
pub(crate) use bounds::{Bounds, Whither};
pub(crate) use transport::install_provider;
pub(crate) use transport::is_loopback;
pub(crate) use trust::tls_of;
pub(crate) use upstream::{Asked, Part, Upstream, UpstreamConfig};

use retry::Policy;
use slipway_oci::{
    Descriptor, Digest, Reference,
    blobs::{BlobSink, Blobs},
};
use std::{collections::HashMap, path::PathBuf, sync::Mutex, time::Duration};
use transport::Transport;

/// What a client needs to know.
#[derive(Clone)]
pub struct ClientConfig {
    /// Hosts (`host` or `host:port`) whose certificate is not checked and that may be spoken to over plain http.
    pub insecure: Vec<String>,
    /// Answers the credential of a registry; [`DockerConfig::into_credentials`] makes one.
    pub credentials: Option<Credentials>,
    /// Token services that the person confirmed, each for one registry.
    pub token_services: Vec<TokenService>,
    /// Certificate authorities to trust beside the system's.
    pub authorities: Option<Authorities>,
    /// Folders of certificates with a folder `HOST[:PORT]` for each registry, as docker's and podman's `certs.d`.
    pub certificate_folders: Vec<PathBuf>,
    /// Other places, mirrors, and what is blocked.
    pub routes: Routes,
    /// Proxies that lead out.
    pub proxies: Proxies,
    /// Fetch layers that live elsewhere from the addresses that their descriptors name.
    pub foreign_layers: bool,
    /// Is told what registries warn of.
    pub warned: Option<Warned>,
    /// What requests say they come from.
    pub user_agent: String,
    /// Attempts after a first failure that may pass.
    pub retries: u32,
    /// Pause before the second attempt; each further one is twice as long.
    pub backoff: Duration,
    /// Transfers at the same time.
    pub parallel: usize,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            insecure: Vec::new(),
            credentials: None,
            token_services: Vec::new(),
            authorities: None,
            certificate_folders: Vec::new(),
            routes: Routes::default(),
            proxies: Proxies::default(),
            foreign_layers: false,
            warned: None,
            user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")).to_owned(),
            retries: 5,
            backoff: Duration::from_millis(300),
            parallel: 5,
        }
    }
}

/// A token service that a person confirmed for a registry: `REGISTRY=HOST`, both with a port where they mean one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenService {
    /// The registry's host.
    pub registry: String,
    /// The service's host.
    pub service: String,
}

impl std::str::FromStr for TokenService {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenService, String> {
        let host = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
            !text.is_empty() && text.chars().all(allowed)
        };
        match text.split_once('=') {
            Some((registry, service)) if host(registry) && host(service) => Ok(TokenService {
                registry: registry.to_ascii_lowercase(),
                service: service.to_ascii_lowercase(),
            }),
            _ => Err(format!(
                "`{text}` is not REGISTRY=HOST, for example `registry.example.com=login.example.org`"
            )),
        }
    }
}

/// A client with its own threads. Keep it: tokens and connections are reused.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    inner: Inner,
}

struct Inner {
    transport: Transport,
    routes: Routes,
    /// By repository, the place that answered last: its blobs are where its manifest was.
    settled: Mutex<HashMap<String, routes::Place>>,
    policy: Policy,
    /// For mirrors: another place is at hand.
    impatient: Policy,
    parallel: usize,
    foreign_layers: bool,
}

impl Client {
    /// Starts the client's threads. Nothing is read or asked before it is needed.
    pub fn new(config: ClientConfig) -> Result<Client, ClientError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, |count| count.get().clamp(1, 4)))
            .enable_all()
            .build()
            .map_err(ClientError::Runtime)?;
        let policy = Policy::new(config.retries, config.backoff);
        let inner = Inner {
            transport: Transport::new(&config),
            routes: config.routes,
            settled: Mutex::default(),
            impatient: Policy::new(0, config.backoff),
            policy,
            parallel: config.parallel.max(1),
            foreign_layers: config.foreign_layers,
        };
        Ok(Client { runtime, inner })
    }

    /// What a reference stands for, by HEAD where the registry allows.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor, ClientError> {
        self.runtime.block_on(self.inner.resolve(reference, &()))
    }

    /// Fetches a manifest or index, verified and at most [`slipway_oci::limits::MANIFEST_BYTES`] large.
    pub fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Vec<u8>), ClientError> {
        self.manifest_shown(reference, &())
    }

    /// The same, heard of.
    pub fn manifest_shown(
        &self,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<(Descriptor, Vec<u8>), ClientError> {
        self.runtime.block_on(self.inner.manifest(reference, progress))
    }

    /// Fetches one blob of a repository, unless it is there.
    pub fn fetch_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(self.inner.fetch_blob(repository, descriptor, into, progress))
    }

    /// Fetches those blobs that are not there, several at a time.
    pub fn fetch_blobs(
        &self,
        repository: &Reference,
        descriptors: &[Descriptor],
        into: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(self.inner.fetch_blobs(repository, descriptors, into, progress))
    }

    /// Pushes an image or an index: what is there is skipped, blobs go in parallel, manifests after all they name.
    pub fn push(
        &self,
        target: &Reference,
        push: &Push<'_>,
        source: &dyn BlobSource,
        progress: &dyn Progress,
    ) -> Result<Pushed, ClientError> {
        self.runtime.block_on(self.inner.push(target, push, source, progress))
    }

    /// Whether the configured credential of a registry opens it; answers one to keep in its place, where it ends soon.
    pub fn log_in(&self, registry: &str) -> Result<Option<Credential>, ClientError> {
        self.runtime.block_on(self.inner.log_in(registry))
    }

    /// Logs in by a code that a person types at the registry's page; `prompt` shows it. Blocks until they did, or the code is over.
    /// Answers what is to be kept.
    pub fn device_log_in(
        &self,
        registry: &str,
        prompt: &(dyn Fn(&DevicePrompt) + Sync),
    ) -> Result<Credential, ClientError> {
        self.runtime.block_on(self.inner.device_log_in(registry, prompt))
    }

    /// All tags of a repository.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<String>, ClientError> {
        self.runtime.block_on(self.inner.tags(repository, &()))
    }

    /// What is attached to a manifest: the descriptors of manifests that have it as their subject, of one type or of all. What
    /// the reference names is asked for first where it has no digest.
    pub fn referrers(
        &self,
        subject: &Reference,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, ClientError> {
        self.runtime.block_on(async {
            let resolved = match subject.digest() {
                Some(_) => subject.clone(),
                None => subject.with_digest(self.inner.resolve(subject, &()).await?.digest),
            };
            self.inner.referrers(&resolved, artifact_type, &()).await
        })
    }

    /// Puts a manifest under a tag, or under its digest alone where the reference has no tag. What it names has to be there. Its
    /// subject's registry learns of it, if need be by the tag that stands in for a list of referrers.
    pub fn put_manifest(
        &self,
        target: &Reference,
        manifest: ManifestBytes<'_>,
        only_if: Option<&Condition>,
    ) -> Result<(), ClientError> {
        let name = target.tag().map_or_else(|| manifest.descriptor.digest.to_string(), str::to_owned);
        self.runtime.block_on(self.inner.put_manifest_if(target, &name, manifest, only_if, &()))
    }

    /// Those of `blobs` that a repository lacks.
    pub fn lacking(&self, target: &Reference, blobs: &[Descriptor]) -> Result<Vec<Descriptor>, ClientError> {
        self.runtime.block_on(self.inner.lacking(target, blobs))
    }

    /// Deletes what the reference names: its digest's manifest with all its tags, else its tag alone.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<(), ClientError> {
        let path = format!("manifests/{}", reference.manifest_reference());
        self.runtime.block_on(self.inner.delete(reference, &path, &()))
    }

    /// Deletes a blob of a repository.
    pub fn delete_blob(&self, repository: &Reference, digest: &Digest) -> Result<(), ClientError> {
        self.runtime.block_on(self.inner.delete(repository, &format!("blobs/{digest}"), &()))
    }

    /// Fetches a plain http or https address into a blob folder.
    pub fn fetch_url(
        &self,
        address: &str,
        into: &Blobs,
        options: &UrlOptions,
        progress: &dyn Progress,
    ) -> Result<Fetched, ClientError> {
        self.runtime.block_on(self.inner.fetch_url(address, into, options, progress))
    }
}
