//! Images from registries into the store and back: what joins the store, the registry client and the builder.

mod allowed;
mod attached;
mod cache;
mod send;

use crate::progress::{self, Quiet, Show, Transfers, Waits, ended};
use crate::{
    app::Global,
    error::Failure,
    git,
    indexes::{chosen, too_deep},
    nearby,
    registries::{self, Registries},
    trust::{guard, policy::Policy},
};
use send::StoreBlobs;
use slipway_builder::{Fetched, ImageSource, SourceError};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    blobs::{BlobError, BlobSink},
    layer::Tree,
    layout,
    limits::{self, CONFIG_BYTES},
    spec::{Manifest, Parsed},
    store::{ImageRecord, LayerForm, Runnable, Store},
};
use slipway_registry::client::{self, Client, UrlContent, UrlOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::Path,
    sync::OnceLock,
};

/// What a reference was found to mean.
struct Found {
    /// The name under which it was found.
    name: Reference,
    /// What that names: the image, or an index.
    target: Digest,
    /// The image.
    digest: Digest,
    record: ImageRecord,
}

/// What a pull fetches of an index.
pub(crate) enum Wanted<'a> {
    /// The image for one platform.
    One(&'a Platform),
    /// All that it names.
    All,
}

/// The store's way to registries. The client, its threads and its credentials come to life with the first request.
pub(crate) struct Images<'a> {
    pub(crate) store: &'a Store,
    global: Global,
    show: &'a dyn Show,
    registries: OnceLock<Result<Registries, String>>,
    client: OnceLock<Result<Client, String>>,
    policy: OnceLock<Result<Option<Policy>, String>>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(store: &'a Store, global: &Global) -> Result<Images<'a>, Failure> {
        // a file of the caller's is read before anything is asked of anybody
        global.signature_policy.as_deref().map(guard::given).transpose()?;
        Ok(Images {
            store,
            global: global.clone(),
            show: &Quiet,
            registries: OnceLock::new(),
            client: OnceLock::new(),
            policy: OnceLock::new(),
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
            let config = registries.client_config(&self.global)?;
            Client::new(config).map_err(|error| crate::error::chain(&error))
        });
        made.as_ref().map_err(|words| Failure::new(words.clone()))
    }

    /// The same for what a name stands for on this machine; gives the name under which it was found.
    fn find(&self, reference: &Reference, platform: &Platform) -> Result<Found, Failure> {
        let meant = self.registries()?.meant(reference);
        let mut first = None;
        for name in &meant {
            match self.fetch_metadata(name, platform) {
                Ok(found) => {
                    self.allow(name, &found.target, &found.digest)?;
                    if name != reference {
                        crate::show::note(format_args!(
                            "`{}` means `{name}` here (registries.conf)",
                            reference.familiar()
                        ));
                    }
                    return Ok(found);
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
        match self.local_name(text)? {
            Some(name) => Ok(self.store.find_image(&name)?),
            None => Ok(None),
        }
    }

    /// The words under which the store has what a caller calls so: its own, or what a short name stands for on this machine.
    pub(crate) fn named(&self, text: &str) -> Result<String, Failure> {
        self.local_name(text)?.map_or_else(|| Err(self.missing(text)), Ok)
    }

    /// An image that the store lacks, with what its name was understood as.
    pub(crate) fn missing(&self, text: &str) -> Failure {
        let reference = text.parse::<Reference>().map(Reference::or_latest);
        let meant = reference.ok().and_then(|name| self.registries().ok().map(|own| own.meant(&name)));
        nearby::missing(self.store, text, &meant.unwrap_or_default())
    }

    fn local_name(&self, text: &str) -> Result<Option<String>, Failure> {
        if self.store.find_image(text)?.is_some() {
            return Ok(Some(text.to_owned()));
        }
        let Ok(reference) = text.parse::<Reference>() else { return Ok(None) };
        for name in self.registries()?.meant(&reference.or_latest()) {
            if self.store.find_reference(&name)?.is_some() {
                return Ok(Some(name.to_string()));
            }
        }
        Ok(None)
    }

    /// Puts manifest and configuration of an image into the store, without names and layers; notes where its layers
    /// can be had. An index on the way is kept as it came, so that its digest needs nobody's word later.
    fn fetch_metadata(&self, reference: &Reference, platform: &Platform) -> Result<Found, Failure> {
        // what is asked for by digest and is here needs nobody's word
        if let Some(digest) = reference.digest()
            && let Ok(Some(image)) = self.store.image_of(digest, platform)
            && let Ok(record) = self.store.read_image(&image)
        {
            return Ok(Found { name: reference.clone(), target: digest.clone(), digest: image, record });
        }
        let (mut here, mut target) = (reference.clone(), None);
        for _ in 0..=limits::INDEX_DEPTH {
            let (descriptor, parsed) = self.fetch_manifest(&here, reference)?;
            let target = target.get_or_insert_with(|| descriptor.digest.clone()).clone();
            match parsed {
                Parsed::Index(index) => {
                    here = reference.with_digest(chosen(&index, reference, platform)?.digest.clone());
                }
                Parsed::Manifest(manifest) => {
                    self.fetch_config(&here, &manifest)?;
                    let record = self.store.read_image(&descriptor.digest)?;
                    return Ok(Found { name: reference.clone(), target, digest: descriptor.digest, record });
                }
            }
        }
        Err(too_deep(reference))
    }

    /// Puts a manifest or index into the store, as it came. `asked` is what the caller named.
    pub(crate) fn fetch_manifest(
        &self,
        here: &Reference,
        asked: &Reference,
    ) -> Result<(Descriptor, Parsed), Failure> {
        if let Some(digest) = here.digest()
            && let Ok(bytes) = self.store.blobs().read_manifest(digest)
            && let Ok(parsed) = Parsed::from_bytes(&bytes, None)
        {
            let media = parsed.media_type().to_owned();
            return Ok((Descriptor::new(media, digest.clone(), bytes.len() as u64), parsed));
        }
        let waits = Waits::new(self.show);
        let (descriptor, bytes) = self
            .client()?
            .manifest_shown(here, &waits)
            .map_err(|error| waits.named(nearby::unfound(self.store, asked, &error)))?;
        let parsed =
            Parsed::from_bytes(&bytes, Some(&descriptor.media_type)).map_err(|error| Failure::of(&error))?;
        self.store.blobs().copy_from(&bytes[..], &descriptor)?;
        Ok((descriptor, parsed))
    }

    /// Puts the configuration of a manifest into the store, and notes where its layers can be had.
    pub(crate) fn fetch_config(&self, here: &Reference, manifest: &Manifest) -> Result<(), Failure> {
        let (blobs, config) = (self.store.blobs(), &manifest.config.digest);
        // damage that has the right length would be taken for what is wanted
        if let Err(BlobError::DigestMismatch { .. }) = blobs.read(config, CONFIG_BYTES) {
            blobs.remove(config)?;
        }
        self.client()?
            .fetch_blobs(here, std::slice::from_ref(&manifest.config), blobs, &Waits::new(self.show))
            .map_err(|error| Failure::of(&error))?;
        for layer in &manifest.layers {
            self.store.put_source(&layer.digest, &here.name())?;
        }
        Ok(())
    }

    /// Fetches an image whole, or all images of a name, and gives it its name; answers that and what it stands for.
    pub(crate) fn pull(
        &self,
        reference: &Reference,
        wanted: &Wanted<'_>,
    ) -> Result<(Reference, Digest), Failure> {
        self.show.asking(&format!("Pulling {}", reference.familiar()));
        let found = match wanted {
            Wanted::One(platform) => self
                .find(reference, platform)
                .map(|found| (found.name, found.target, vec![found.digest], found.record.manifest.layers)),
            Wanted::All => self
                .fetch_all_metadata(reference)
                .and_then(|all| self.allow_all(reference, &all.target, &all.members).map(|()| all))
                .map(|all| (reference.clone(), all.target, all.members, all.layers)),
        };
        let (name, target, members, layers) =
            found.inspect_err(|_| self.show.end(progress::Ending::Failed))?;
        self.show.begin(&format!("Pulling {}", name.familiar()), distinct(&layers));
        let (client, progress) = (self.client()?, self.transfers("pulling"));
        let (fetched, made) = self.store.take_in(&self.store.rows_for_this_machine(&members), |intake| {
            client.fetch_blobs(&name, &layers, intake, &progress)
        });
        ended(self.show, fetched.map_err(|error| Failure::of(&error)).and_then(|()| Ok(made?)))?;
        // what an index names first, then the index, then its name
        for member in &members {
            self.store.put_member(member)?;
        }
        self.put_inner_indexes(&target, limits::INDEX_DEPTH)?;
        let names = if name.digest().is_some() { Vec::new() } else { vec![name.clone()] };
        self.store.name_manifest(&target, &names)?;
        // signatures are kept beside what is registered
        self.allow_all(&name, &target, &members)?;
        Ok((name, target))
    }

    /// Sees to it that every blob of an image is in the store.
    pub(crate) fn complete_image(&self, digest: &Digest) -> Result<ImageRecord, Failure> {
        let record = self.store.read_image(digest)?;
        self.complete(digest)?;
        Ok(record)
    }

    /// Fetches a blob where it is not here.
    pub(crate) fn fetched(&self, blob: &Descriptor) -> Result<(), Failure> {
        if !self.store.blobs().contains(&blob.digest)? {
            self.fetch(blob, &self.store.sources(&blob.digest)?)?;
        }
        Ok(())
    }

    /// The same for any manifest; an index has nothing but its bytes.
    pub(crate) fn complete(&self, digest: &Digest) -> Result<(), Failure> {
        let Parsed::Manifest(manifest) = self.read_manifest(digest)?.1 else { return Ok(()) };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.fetched(blob)?;
        }
        Ok(())
    }

    /// A manifest or index of the store: its bytes and what they say.
    fn read_manifest(&self, digest: &Digest) -> Result<(Vec<u8>, Parsed), Failure> {
        let bytes = self.store.blobs().read_manifest(digest)?;
        let parsed = Parsed::from_bytes(&bytes, None).map_err(|error| Failure::of(&error))?;
        Ok((bytes, parsed))
    }

    /// The layers of an image to run on, the base first, and the file system that they make.
    pub(crate) fn runnable(&self, record: &ImageRecord) -> Result<(Vec<Runnable>, Tree), Failure> {
        let row: Vec<LayerForm> = record.forms().collect();
        let from = self.store.runnable_below(&row)?;
        if from < row.len() {
            let mut missing = row[from..].to_vec();
            missing.retain(|form| !self.store.blobs().contains(&form.descriptor.digest).unwrap_or(false));
            self.fetch_layers(&row, &missing)?;
        }
        let mut layers = Vec::new();
        let mut below = Tree::default();
        for (diff_id, layer) in record.config.rootfs.diff_ids.iter().zip(&record.manifest.layers) {
            if !self.store.is_runnable(diff_id, &below)? && !self.store.blobs().contains(&layer.digest)? {
                let sources = self.store.sources(&layer.digest)?;
                self.fetch(layer, &sources)?;
            }
            layers.push(self.store.runnable(diff_id, &below)?);
            below = below.with(self.store.toc(diff_id, &below)?);
        }
        Ok((layers, below))
    }

    /// Fetches blobs that are known to be in the same repositories: all at once from the first, and what that has not
    /// from any.
    fn fetch_together(
        &self,
        into: &dyn BlobSink,
        blobs: &[Descriptor],
        repositories: &[String],
    ) -> Result<(), SourceError> {
        if let Some(reference) = repositories.first().and_then(|name| name.parse::<Reference>().ok()) {
            let client = self.client().map_err(SourceError::new)?;
            if client.fetch_blobs(&reference, blobs, into, &self.transfers("pulling")).is_ok() {
                return Ok(());
            }
        }
        blobs.iter().try_for_each(|blob| self.fetch_into(into, blob, repositories))
    }

    fn fetch_into(
        &self,
        into: &dyn BlobSink,
        blob: &Descriptor,
        repositories: &[String],
    ) -> Result<(), SourceError> {
        let mut last = SourceError::new(format!("no registry is known to have `{}`", blob.digest));
        for repository in repositories {
            if let Some(opened) = crate::cache::open_in_layout(repository, &blob.digest) {
                match opened.map_err(SourceError::new).and_then(|file| take(into, blob, file)) {
                    Ok(()) => return Ok(()),
                    Err(error) => last = error,
                }
                continue;
            }
            let Ok(reference) = repository.parse::<Reference>() else { continue };
            let client = self.client().map_err(SourceError::new)?;
            let progress = self.transfers("pulling");
            match client.fetch_blobs(&reference, std::slice::from_ref(blob), into, &progress) {
                Ok(()) => return Ok(()),
                Err(error) => last = SourceError::new(error),
            }
        }
        Err(last)
    }
}

/// Takes a blob in from a file, verified.
fn take(into: &dyn BlobSink, blob: &Descriptor, file: std::fs::File) -> Result<(), SourceError> {
    if into.size(&blob.digest).map_err(SourceError::new)? == Some(blob.size_bytes) {
        return Ok(());
    }
    let mut writer = into.writer(&blob.digest).map_err(SourceError::new)?;
    // one byte more than promised shows that the file is too long without reading all of it
    let mut bounded = file.take(blob.size_bytes.saturating_add(1));
    std::io::copy(&mut bounded, &mut writer).map_err(SourceError::new)?;
    writer.commit(Some((&blob.digest, blob.size_bytes))).map(drop).map_err(SourceError::new)
}

/// How many blobs a row of descriptors names.
fn distinct(descriptors: &[Descriptor]) -> usize {
    descriptors.iter().map(|descriptor| &descriptor.digest).collect::<BTreeSet<_>>().len()
}

impl ImageSource for Images<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform, _: bool) -> Result<Digest, SourceError> {
        Ok(self.find(reference, platform).map_err(SourceError::new)?.digest)
    }

    fn allow(&self, reference: &Reference, target: &Digest, image: &Digest) -> Result<(), SourceError> {
        self.allow_here(Some(reference), target, image).map_err(SourceError::new)
    }

    fn fetch(&self, blob: &Descriptor, repositories: &[String]) -> Result<(), SourceError> {
        self.fetch_into(self.store.blobs(), blob, repositories)
    }

    fn fetch_layers(&self, row: &[LayerForm], missing: &[LayerForm]) -> Result<(), SourceError> {
        let mut by_place: BTreeMap<Vec<String>, Vec<Descriptor>> = BTreeMap::new();
        for LayerForm { descriptor, .. } in missing {
            let sources = self.store.sources(&descriptor.digest).map_err(SourceError::new)?;
            by_place.entry(sources).or_default().push(descriptor.clone());
        }
        let (fetched, made) = self.store.take_in(&[row.to_vec()], |intake| {
            // those that are here are made runnable beside the transfers
            row.iter()
                .try_for_each(|form| intake.size(&form.descriptor.digest).map(drop))
                .map_err(SourceError::new)?;
            by_place.iter().try_for_each(|(sources, blobs)| self.fetch_together(intake, blobs, sources))
        });
        fetched?;
        made.map_err(SourceError::new)
    }

    fn fetch_url(&self, url: &str, checksum: Option<&Digest>) -> Result<Fetched, SourceError> {
        let client = self.client().map_err(SourceError::new)?;
        let options = UrlOptions { checksum: checksum.cloned(), ..UrlOptions::default() };
        let fetched = client.fetch_url(url, self.store.blobs(), &options, &Waits::new(self.show));
        let client::Fetched::Content(content) = fetched.map_err(SourceError::new)? else {
            return Err(SourceError::new(format!("`{url}` answered that nothing changed")));
        };
        let UrlContent { digest, size_bytes, last_modified, .. } = content;
        let since_1970 = last_modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Fetched { digest, size_bytes, modified: since_1970.map(|time| time.as_secs() as i64) })
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
        self.allow_layout(folder).map_err(SourceError::new)?;
        let loaded = layout::load_folder(self.store, folder, reference, platform);
        let loaded = loaded.map_err(SourceError::new)?;
        loaded
            .into_iter()
            .next()
            .map(|image| image.digest)
            .ok_or_else(|| SourceError::new(format!("the layout `{}` has no image", folder.display())))
    }
}
