//! Images from registries into the store and back: what joins the store, the registry client and the builder.

use crate::progress::{Quiet, Show, Transfers, ended};
use crate::{
    app::{Global, home},
    error::Failure,
    git, nearby,
    registries::{self, Registries, certificate_folders},
};
use slipway_builder::{Fetched, ImageSource, SourceError};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    blobs::BlobError,
    layer::Tree,
    layout,
    limits::CONFIG_BYTES,
    spec::Parsed,
    store::{ImageRecord, Store},
};
use slipway_registry::client::{
    self, BlobReader, BlobSource, Client, ClientConfig, DockerConfig, ManifestBytes, Proxies, Push,
    UrlContent, UrlOptions,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Most indexes within indexes that are followed to an image.
const INDEX_DEPTH: usize = 2;

/// The store's way to registries. The client, its threads and its credentials come to life with the first request.
pub(crate) struct Images<'a> {
    store: &'a Store,
    config_folder: Option<PathBuf>,
    global: Global,
    show: &'a dyn Show,
    registries: OnceLock<Result<Registries, String>>,
    client: OnceLock<Result<Client, String>>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(store: &'a Store, global: &Global) -> Result<Images<'a>, Failure> {
        let config_folder = global.config.clone().or_else(|| home().map(|home| home.join(".docker")));
        Ok(Images {
            store,
            config_folder,
            global: global.clone(),
            show: &Quiet,
            registries: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// Shows what moves.
    pub(crate) fn shown(self, show: &'a dyn Show) -> Images<'a> {
        Images { show, ..self }
    }

    fn transfers(&self, doing: &'static str) -> Transfers<'_> {
        Transfers { show: self.show, doing }
    }

    /// What this machine's files say, read when somebody is first asked.
    fn registries(&self) -> Result<&Registries, Failure> {
        let read =
            self.registries.get_or_init(|| Registries::read(&self.global).map_err(|failure| failure.words()));
        read.as_ref().map_err(|words| Failure::new(words.clone()).with_hint(registries::MEND))
    }

    fn client(&self) -> Result<&Client, Failure> {
        let registries = self.registries()?;
        let made = self.client.get_or_init(|| {
            let credentials = match &self.config_folder {
                Some(folder) => DockerConfig::load(&folder.join("config.json"))
                    .map_err(|error| crate::error::chain(&error))?,
                None => DockerConfig::default(),
            };
            let config = ClientConfig {
                insecure: registries.insecure(),
                routes: registries.routes(),
                credentials: Some(credentials.into_credentials()),
                authorities: self.global.tls_ca.clone(),
                certificate_folders: certificate_folders(),
                proxies: Proxies::from_environment(|name| std::env::var(name).ok()),
                token_services: self.global.token_service.clone(),
                user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")).to_owned(),
                ..ClientConfig::default()
            };
            Client::new(config).map_err(|error| crate::error::chain(&error))
        });
        made.as_ref().map_err(|words| Failure::new(words.clone()))
    }

    /// The same for what a name stands for on this machine; gives the name under which it was found.
    fn find(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Reference, Digest, ImageRecord), Failure> {
        let meant = self.registries()?.meant(reference);
        let mut first = None;
        for name in &meant {
            match self.fetch_metadata(name, platform) {
                Ok((digest, record)) => {
                    if name != reference {
                        crate::show::note(format_args!(
                            "`{}` means `{name}` here (registries.conf)",
                            reference.familiar()
                        ));
                    }
                    return Ok((name.clone(), digest, record));
                }
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        let failure = first.expect("a name stands for something");
        if meant == std::slice::from_ref(reference) {
            return Err(failure);
        }
        let names: Vec<String> = meant.iter().map(|name| format!("`{name}`")).collect();
        let familiar = reference.familiar();
        Err(failure.about(format!("`{familiar}` means {} here (registries.conf)", names.join(" or "))))
    }

    /// An image that is in the store under a name, or under what the name stands for on this machine.
    pub(crate) fn local(&self, text: &str) -> Result<Option<Digest>, Failure> {
        if let Some(digest) = self.store.find_image(text)? {
            return Ok(Some(digest));
        }
        let Ok(reference) = text.parse::<Reference>() else { return Ok(None) };
        for name in self.registries()?.meant(&reference.or_latest()) {
            if let Some(digest) = self.store.find_reference(&name)? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// Puts manifest and configuration of an image into the store, without names and layers; notes where its layers
    /// can be had.
    fn fetch_metadata(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Digest, ImageRecord), Failure> {
        // what is asked for by digest and is here needs nobody's word
        if let Some(digest) = reference.digest()
            && let Ok(record) = self.store.read_image(digest)
        {
            return Ok((digest.clone(), record));
        }
        let client = self.client()?;
        let (mut here, passed) = (reference.clone(), PassedOver::default());
        for _ in 0..=INDEX_DEPTH {
            let (descriptor, bytes) = client
                .manifest_shown(&here, &passed)
                .map_err(|error| passed.named(nearby::unfound(self.store, reference, &error)))?;
            let parsed = Parsed::from_bytes(&bytes, Some(&descriptor.media_type))
                .map_err(|error| Failure::of(&error))?;
            match parsed {
                Parsed::Index(index) => {
                    let chosen = index.select(platform).ok_or_else(|| {
                        let all: Vec<String> = index
                            .manifests
                            .iter()
                            .filter_map(|entry| Some(entry.platform.as_ref()?.to_string()))
                            .collect();
                        Failure::new(format!("`{}` has no image for {platform}", reference.familiar()))
                            .with_hint(format!("it has: {}", all.join(", ")))
                    })?;
                    here = reference.with_digest(chosen.digest.clone());
                }
                Parsed::Manifest(manifest) => {
                    let (blobs, config) = (self.store.blobs(), &manifest.config.digest);
                    // damage that has the right length would be taken for what is wanted
                    if let Err(BlobError::DigestMismatch { .. }) = blobs.read(config, CONFIG_BYTES) {
                        blobs.remove(config)?;
                    }
                    client
                        .fetch_blobs(&here, std::slice::from_ref(&manifest.config), self.store.blobs(), &())
                        .map_err(|error| Failure::of(&error))?;
                    self.store.blobs().copy_from(&bytes[..], &descriptor)?;
                    for layer in &manifest.layers {
                        self.store.put_source(&layer.digest, &reference.name())?;
                    }
                    let record = self.store.read_image(&descriptor.digest)?;
                    return Ok((descriptor.digest, record));
                }
            }
        }
        Err(Failure::new(format!("`{}` is an index of indexes of indexes", reference.familiar())))
    }

    /// Fetches an image whole and gives it its name.
    pub(crate) fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<(Reference, Digest), Failure> {
        let (reference, digest, record) = self.find(reference, platform)?;
        let layers = &record.manifest.layers;
        self.show.begin(&format!("Pulling {}", reference.familiar()), distinct(layers));
        let fetched =
            self.client()?.fetch_blobs(&reference, layers, self.store.blobs(), &self.transfers("pulling"));
        ended(self.show, fetched).map_err(|error| Failure::of(&error))?;
        let names = if reference.digest().is_some() { Vec::new() } else { vec![reference.clone()] };
        self.store.put_image(&digest, &names)?;
        Ok((reference, digest))
    }

    /// Sees to it that every blob of an image is in the store.
    pub(crate) fn complete(&self, digest: &Digest) -> Result<ImageRecord, Failure> {
        let record = self.store.read_image(digest)?;
        for layer in &record.manifest.layers {
            if !self.store.blobs().contains(&layer.digest)? {
                let sources = self.store.sources(&layer.digest)?;
                self.fetch(layer, &sources)?;
            }
        }
        Ok(record)
    }

    /// The unpacked layers of an image, the base first, and the file system that they make.
    pub(crate) fn unpacked(&self, record: &ImageRecord) -> Result<(Vec<PathBuf>, Tree), Failure> {
        let mut folders = Vec::new();
        let mut below = Tree::default();
        for (diff_id, layer) in record.config.rootfs.diff_ids.iter().zip(&record.manifest.layers) {
            if !self.store.has_unpacked(diff_id, &below)? && !self.store.blobs().contains(&layer.digest)? {
                let sources = self.store.sources(&layer.digest)?;
                self.fetch(layer, &sources)?;
            }
            folders.push(self.store.unpacked(diff_id, &below)?);
            below = below.with(self.store.toc(diff_id, &below)?);
        }
        Ok((folders, below))
    }

    /// Sends an image to the registry under `reference`.
    ///
    /// A layer whose bytes are not here is fetched first, unless the same registry is known to have it: then it is
    /// mounted, or there already, and no byte of it moves through this machine.
    pub(crate) fn push(&self, reference: &Reference, digest: &Digest) -> Result<(), Failure> {
        let record = self.store.read_image(digest)?;
        let source = StoreBlobs { store: self.store, missing: Mutex::default() };
        for layer in &record.manifest.layers {
            let mountable = source.known_in(reference.registry(), &layer.digest).is_some();
            if !mountable && !self.store.blobs().contains(&layer.digest)? {
                self.fetch(layer, &self.store.sources(&layer.digest)?)?;
            }
        }
        let bytes = self.store.blobs().read_manifest(digest)?;
        let mut blobs = vec![record.manifest.config.clone()];
        blobs.extend(record.manifest.layers.iter().cloned());
        let manifest = ManifestBytes { descriptor: &record.descriptor, bytes: &bytes };
        let push = Push { blobs: &blobs, children: &[], manifest };
        self.show.begin(&format!("Pushing {}", reference.familiar()), distinct(&blobs));
        let mut pushed = self.client()?.push(reference, &push, &source, &self.transfers("pushing"));
        // a registry that was to mount a layer may refuse: then it moves through this machine, once for each layer
        while pushed.is_err() && self.fetch_missing(&record, &source)? {
            pushed = self.client()?.push(reference, &push, &source, &self.transfers("pushing"));
        }
        ended(self.show, pushed).map_err(|error| Failure::of(&error))?;
        for blob in &blobs {
            self.store.put_source(&blob.digest, &reference.name())?;
        }
        Ok(())
    }

    /// Fetches the layers that a push asked for and that are not here; whether there were any.
    fn fetch_missing(&self, record: &ImageRecord, source: &StoreBlobs<'_>) -> Result<bool, Failure> {
        let missing = std::mem::take(&mut *source.missing.lock().unwrap_or_else(PoisonError::into_inner));
        let mut fetched = false;
        for layer in record.manifest.layers.iter().filter(|layer| missing.contains(&layer.digest)) {
            self.fetch(layer, &self.store.sources(&layer.digest)?)?;
            fetched = true;
        }
        Ok(fetched)
    }
}

/// Mirrors that had nothing, for the words of a failure.
#[derive(Default)]
struct PassedOver(Mutex<Vec<String>>);

impl client::Progress for PassedOver {
    fn event(&self, event: &client::Event<'_>) {
        if let client::Event::PassedOver { place, reason } = event {
            self.0.lock().expect("no panic while they are held").push(format!("`{place}`: {reason}"));
        }
    }
}

impl PassedOver {
    fn named(&self, failure: Failure) -> Failure {
        let all = self.0.lock().expect("no panic while they are held");
        match all.is_empty() {
            true => failure,
            false => failure.with_hint(format!("mirrors were asked first; {}", all.join("; "))),
        }
    }
}

/// How many blobs a row of descriptors names.
fn distinct(descriptors: &[Descriptor]) -> usize {
    descriptors.iter().map(|descriptor| &descriptor.digest).collect::<BTreeSet<_>>().len()
}

/// The store as what a push takes its bytes from.
struct StoreBlobs<'a> {
    store: &'a Store,
    /// What was asked for and is not here.
    missing: Mutex<BTreeSet<Digest>>,
}

impl BlobSource for StoreBlobs<'_> {
    fn open(&self, digest: &Digest) -> std::io::Result<Box<dyn BlobReader>> {
        if !self.store.blobs().contains(digest).map_err(std::io::Error::other)? {
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
        }
        Ok(Box::new(self.store.blobs().open_blob(digest).map_err(std::io::Error::other)?))
    }

    fn known_in(&self, registry: &str, digest: &Digest) -> Option<String> {
        let sources = self.store.sources(digest).ok()?;
        sources.iter().find_map(|source| Some(source.strip_prefix(registry)?.strip_prefix('/')?.to_owned()))
    }
}

impl ImageSource for Images<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, _: bool) -> Result<Digest, SourceError> {
        let (_, digest, _) = self.find(reference, platform).map_err(SourceError::new)?;
        Ok(digest)
    }

    fn fetch(&self, blob: &Descriptor, repositories: &[String]) -> Result<(), SourceError> {
        let mut last = SourceError::new(format!("no registry is known to have `{}`", blob.digest));
        for repository in repositories {
            let Ok(reference) = repository.parse::<Reference>() else { continue };
            let client = self.client().map_err(SourceError::new)?;
            let progress = self.transfers("pulling");
            match client.fetch_blobs(&reference, std::slice::from_ref(blob), self.store.blobs(), &progress) {
                Ok(()) => return Ok(()),
                Err(error) => last = SourceError::new(error),
            }
        }
        Err(last)
    }

    fn fetch_url(&self, url: &str, checksum: Option<&Digest>) -> Result<Fetched, SourceError> {
        let client = self.client().map_err(SourceError::new)?;
        let options = UrlOptions { checksum: checksum.cloned(), ..UrlOptions::default() };
        let fetched = client.fetch_url(url, self.store.blobs(), &options, &());
        let client::Fetched::Content(content) = fetched.map_err(SourceError::new)? else {
            return Err(SourceError::new(format!("`{url}` answered that nothing changed")));
        };
        let UrlContent { digest, size_bytes, last_modified, filename, .. } = content;
        let since_1970 = last_modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Fetched {
            digest,
            size_bytes,
            modified: since_1970.map(|time| time.as_secs() as i64),
            file_name: filename,
        })
    }

    fn checkout(&self, url: &str, keep_git_dir: bool, into: &Path) -> Result<String, SourceError> {
        git::checkout(url, keep_git_dir, into).map(|checkout| checkout.commit).map_err(SourceError::new)
    }

    fn layout(
        &self,
        folder: &Path,
        reference: Option<&str>,
        platform: &Platform,
    ) -> Result<Digest, SourceError> {
        let loaded = layout::load_folder(self.store, folder, reference, platform);
        let loaded = loaded.map_err(SourceError::new)?;
        loaded
            .into_iter()
            .next()
            .map(|image| image.digest)
            .ok_or_else(|| SourceError::new(format!("the layout `{}` has no image", folder.display())))
    }
}
