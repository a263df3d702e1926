//! What is to be built, and with what.

use crate::{
    CacheSink, CacheSource, Cancel, Debugger, ImageSource, Progress,
    cache::Caches,
    epoch::Epoch,
    history::{Advice, BuildRecord},
};
use slipway_oci::{Platform, Reference, compression::Compression, store::Store};
use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Mutex};

/// The network of RUN steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// A way out and as little else as can be: the builder's network, as there is no other yet, without raw sockets, and
    /// without the abstract unix sockets of others where the kernel can hide those.
    #[default]
    Default,
    /// The network that the builder itself has, with everything on it.
    Host,
    /// Loopback alone.
    None,
}

/// What stands behind a name of `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder of the host.
    Folder(PathBuf),
    /// An image.
    Image(Reference),
    /// An OCI layout folder, and a tag or digest in it.
    Layout(PathBuf, Option<String>),
    /// A git URL.
    Git(String),
    /// A URL of a file or archive.
    Url(String),
}

/// Where a secret's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of the host.
    File(PathBuf),
    /// A value, taken from the environment by the caller.
    Value(Vec<u8>),
}

/// One build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// What the recipe is called in messages.
    pub recipe_name: String,
    /// The recipe.
    pub recipe: String,
    /// The build context's folder; `None` where there is none.
    pub context: Option<PathBuf>,
    /// What the context is called in the history: a folder's absolute path, or a URL without a user's name.
    pub context_name: Option<String>,
    /// The text of the ignore file that filters the context.
    pub ignore: Option<String>,
    /// Named contexts.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--build-arg` values.
    pub build_args: BTreeMap<String, String>,
    /// The stage to build; the last one if `None`.
    pub target: Option<String>,
    /// What the image runs on.
    pub platform: Platform,
    /// Whether cached results of all steps are passed over.
    pub no_cache: bool,
    /// Stages whose cached results are passed over.
    pub no_cache_stages: Vec<String>,
    /// Whether it is told of each step that is carried out what differs from the nearest earlier result.
    pub explain: bool,
    /// Whether registries are asked even for images that the store has.
    pub refresh: bool,
    /// Labels beyond the recipe's.
    pub labels: BTreeMap<String, String>,
    /// How new layers are compressed.
    pub compression: Compression,
    /// How many stages are made at a time; `None` where only their needs bound it.
    pub jobs: Option<NonZeroUsize>,
    /// The build's time.
    pub epoch: Epoch,
    /// Network of RUN steps that do not say themselves; [`NetworkMode::Host`] also allows `RUN --network=host`.
    pub network: NetworkMode,
    /// Whether `RUN --network=host` is allowed where the default is not the host's.
    pub allow_host_network: bool,
    /// Whether `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// Whether `RUN --device` may show devices of the host.
    pub allow_devices: bool,
    /// Folders with CDI specifications, later ones winning.
    pub device_folders: Vec<PathBuf>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of ssh agents by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// Lines for `/etc/hosts` of RUN steps: name and address.
    pub hosts: Vec<(String, String)>,
    /// Whether nothing of it is kept in the history: it looks into a build that is there.
    pub is_forgotten: bool,
    /// What a check says of the recipe, for the history.
    pub advice: Vec<Advice>,
    /// The command line that asked for it and the folder in which it was given, for the history; empty where there is none.
    pub line: (Vec<String>, String),
}

/// What a build works with.
pub struct Environment<'a> {
    /// The store.
    pub store: &'a Store,
    /// Base images and remote content.
    pub images: &'a dyn ImageSource,
    /// Who is asked for results that the store has not, in this order.
    pub cache_sources: &'a [&'a dyn CacheSource],
    /// Who hears of the build's results.
    pub cache_sinks: &'a [&'a dyn CacheSink],
    /// Takes the events.
    pub progress: &'a dyn Progress,
    /// Stops the build.
    pub cancel: &'a Cancel,
    /// Looks into steps, if anybody does.
    pub debugger: Option<&'a dyn Debugger>,
    /// Where the build's record goes when it ends, be it kept or not.
    pub record: Option<&'a Mutex<Option<BuildRecord>>>,
    /// Only one user id is mapped: see `runtime::SandboxSpec::single_id`.
    pub single_id: bool,
    /// Nothing is mounted and no namespace made for steps: see `runtime::bare`.
    pub bare: bool,
}

impl<'a> Environment<'a> {
    pub(crate) fn caches(&self) -> Caches<'a> {
        Caches { store: self.store, sources: self.cache_sources, sinks: self.cache_sinks }
    }
}
