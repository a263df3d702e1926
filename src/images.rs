//! Images from registries into the store and back: what joins the store, the registry client and the builder.

use crate::{
    app::{Global, home},
    error::Failure,
    git,
};
use slipway_builder::{Fetched, ImageSource, SourceError};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference, layout,
    layer::Tree,
    spec::Parsed,
    store::{ImageRecord, Store},
};
use fake::{Client, ClientConfig, DockerConfig};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Most indexes within indexes that are followed to an image.
const INDEX_DEPTH: usize = 2;

/// The store's way to registries. The client, its threads and its credentials come to life with the first request.
pub(crate) struct Images<'a> {
    store: &'a Store,
    config_folder: Option<PathBuf>,
    insecure: Vec<String>,
    client: OnceLock<Result<Client, String>>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(store: &'a Store, global: &Global) -> Result<Images<'a>, Failure> {
        let config_folder = global.config.clone().or_else(|| home().map(|home| home.join(".docker")));
        Ok(Images { store, config_folder, insecure: global.insecure_registry.clone(), client: OnceLock::new() })
    }

    fn client(&self) -> Result<&Client, Failure> {
        let made = self.client.get_or_init(|| {
            let credentials = match &self.config_folder {
                Some(folder) => DockerConfig::load(&folder.join("config.json")).map_err(|error| crate::error::chain(&error))?,
                None => DockerConfig::default(),
            };
            let config = ClientConfig {
                insecure_hosts: self.insecure.clone(),
                credentials: credentials.into_credentials(),
                user_agent: format!("slipway/{}", env!("CARGO_PKG_VERSION")),
                ..ClientConfig::default()
            };
            Client::new(config).map_err(|error| crate::error::chain(&error))
        });
        made.as_ref().map_err(|words| Failure::new(words.clone()))
    }

    /// Puts manifest and configuration of an image into the store, without names and layers; notes where its layers
    /// can be had.
    fn fetch_metadata(&self, reference: &Reference, platform: &Platform) -> Result<(Digest, ImageRecord), Failure> {
        let client = self.client()?;
        let mut here = reference.clone();
        for _ in 0..=INDEX_DEPTH {
            let (descriptor, bytes) = client.manifest(&here).map_err(|error| Failure::of(&error))?;
            let parsed = Parsed::from_bytes(&bytes, Some(&descriptor.media_type)).map_err(|error| Failure::of(&error))?;
            match parsed {
                Parsed::Index(index) => {
                    let chosen = index.select(platform).ok_or_else(|| {
                        let all: Vec<String> = index.manifests.iter().filter_map(|entry| Some(entry.platform.as_ref()?.to_string())).collect();
                        Failure::new(format!("`{}` has no image for {platform}", reference.familiar()))
                            .with_hint(format!("it has: {}", all.join(", ")))
                    })?;
                    here = reference.with_digest(chosen.digest.clone());
                }
                Parsed::Manifest(manifest) => {
                    client.fetch_blobs(&here, std::slice::from_ref(&manifest.config), self.store.blobs(), &())
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
    pub(crate) fn pull(&self, reference: &Reference, platform: &Platform, quiet: bool) -> Result<Digest, Failure> {
        let (digest, record) = self.fetch_metadata(reference, platform)?;
        let progress = Transfers::new(quiet, "pulled");
        self.client()?
            .fetch_blobs(reference, &record.manifest.layers, self.store.blobs(), &progress)
            .map_err(|error| Failure::of(&error))?;
        let names = if reference.digest().is_some() { Vec::new() } else { vec![reference.clone()] };
        self.store.put_image(&digest, &names)?;
        Ok(digest)
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

    /// The unpacked layers of an image, the base first.
    pub(crate) fn unpacked(&self, record: &ImageRecord) -> Result<Vec<PathBuf>, Failure> {
        let mut folders = Vec::new();
        let mut below = Tree::default();
        for (diff_id, layer) in record.config.rootfs.diff_ids.iter().zip(&record.manifest.layers) {
            if !self.store.layer_folder(diff_id).is_dir() && !self.store.blobs().contains(&layer.digest)? {
                let sources = self.store.sources(&layer.digest)?;
                self.fetch(layer, &sources)?;
            }
            folders.push(self.store.unpacked(diff_id, &below)?);
            below = below.with(self.store.toc(diff_id)?);
        }
        Ok(folders)
    }

    /// Sends an image to the registry under `reference`.
    pub(crate) fn push(&self, reference: &Reference, digest: &Digest, quiet: bool) -> Result<(), Failure> {
        let record = self.complete(digest)?;
        let bytes = self.store.blobs().read_manifest(digest)?;
        let mut blobs = vec![record.manifest.config.clone()];
        blobs.extend(record.manifest.layers.iter().cloned());
        let progress = Transfers::new(quiet, "pushed");
        let source = StoreBlobs { store: self.store, registry: reference.registry().to_owned() };
        self.client()?
            .push(reference, &record.descriptor, &bytes, &blobs, &source, &progress)
            .map_err(|error| Failure::of(&error))?;
        for blob in &blobs {
            self.store.put_source(&blob.digest, &reference.name())?;
        }
        Ok(())
    }
}

/// The store as what a push takes its bytes from.
struct StoreBlobs<'a> {
    store: &'a Store,
    registry: String,
}

fn source_error(failure: Failure) -> SourceError {
    SourceError { message: failure.words(), source: None }
}

impl ImageSource for Images<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, _: bool) -> Result<Digest, SourceError> {
        let (digest, _) = self.fetch_metadata(reference, platform).map_err(source_error)?;
        Ok(digest)
    }

    fn fetch(&self, blob: &Descriptor, repositories: &[String]) -> Result<(), SourceError> {
        let mut last = SourceError { message: format!("no registry is known to have `{}`", blob.digest), source: None };
        for repository in repositories {
            let Ok(reference) = repository.parse::<Reference>() else { continue };
            let client = self.client().map_err(source_error)?;
            match client.fetch_blobs(&reference, std::slice::from_ref(blob), self.store.blobs(), &()) {
                Ok(()) => return Ok(()),
                Err(error) => last = source_error(Failure::of(&error)),
            }
        }
        Err(last)
    }

    fn fetch_url(&self, url: &str, checksum: Option<&Digest>) -> Result<Fetched, SourceError> {
        let client = self.client().map_err(source_error)?;
        let fetched = client
            .fetch_url(url, checksum, self.store.blobs(), &())
            .map_err(|error| source_error(Failure::of(&error)))?;
        Ok(Fetched {
            digest: fetched.digest,
            size_bytes: fetched.size_bytes,
            modified: fetched.modified,
            file_name: fetched.file_name,
        })
    }

    fn checkout(&self, url: &str, keep_git_dir: bool, into: &Path) -> Result<String, SourceError> {
        git::checkout(url, keep_git_dir, into).map_err(source_error)
    }

    fn layout(&self, folder: &Path, reference: Option<&str>, platform: &Platform) -> Result<Digest, SourceError> {
        let loaded = layout::load_folder(self.store, folder, reference, platform);
        let loaded = loaded.map_err(|error| source_error(Failure::of(&error)))?;
        loaded.into_iter().next().map(|image| image.digest).ok_or_else(|| SourceError {
            message: format!("the layout `{}` has no image", folder.display()),
            source: None,
        })
    }
}

mod fake {
    use super::*;
    pub struct Client;
    #[derive(Default)]
    pub struct ClientConfig { pub insecure_hosts: Vec<String>, pub credentials: (), pub user_agent: String, pub x: u8 }
    #[derive(Default)]
    pub struct DockerConfig;
    impl DockerConfig { pub fn load(_: &Path) -> Result<DockerConfig, std::io::Error> { Ok(DockerConfig) } pub fn into_credentials(self) {} }
    pub struct F { pub digest: Digest, pub size_bytes: u64, pub modified: Option<i64>, pub file_name: Option<String> }
    impl Client {
        pub fn new(_: ClientConfig) -> Result<Client, std::io::Error> { Err(std::io::Error::other("no registry client yet")) }
        pub fn manifest(&self, _: &Reference) -> Result<(Descriptor, Vec<u8>), std::io::Error> { Err(std::io::Error::other("x")) }
        pub fn fetch_blobs(&self, _: &Reference, _: &[Descriptor], _: &slipway_oci::blobs::Blobs, _: &dyn std::any::Any) -> Result<(), std::io::Error> { Err(std::io::Error::other("x")) }
        pub fn fetch_url(&self, _: &str, _: Option<&Digest>, _: &slipway_oci::blobs::Blobs, _: &()) -> Result<F, std::io::Error> { Err(std::io::Error::other("x")) }
        pub fn push(&self, _: &Reference, _: &Descriptor, _: &[u8], _: &[Descriptor], _: &StoreBlobs<'_>, _: &dyn std::any::Any) -> Result<(), std::io::Error> { Err(std::io::Error::other("x")) }
    }
}
struct Transfers;
impl Transfers { fn new(_: bool, _: &str) -> Transfers { Transfers } }
