//! Caches that are read.

use super::{layout_source, mounts};
use crate::{
    error::Failure,
    images::Images,
    request::cache::{From, Place},
};
use slipway_builder::{
    CACHE_CONFIG_TYPE, CACHE_TYPE, CacheSource, CacheTable, Event, FoundResult, SourceError,
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference, Root,
    artifact::{EMPTY, EMPTY_TYPE},
    carried::Carried,
    file,
    layout::ANNOTATION_REF_NAME,
    limits,
    spec::{Index, Manifest, Parsed},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Most bytes of a table's configuration that are fetched.
const TABLE_BYTES: u64 = 64 << 20;
/// Most tables attached to one image that are read.
const ATTACHED: usize = 8;
/// Tables of up to so many layers are asked about at once: later hits need no question then.
const ASKED_AT_ONCE: usize = 64;
/// What BuildKit's cache manifests have for a configuration.
const BUILDKIT_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";

/// One `--cache-from`.
pub(super) struct Source<'a> {
    images: &'a Images<'a>,
    from: From,
    platform: Platform,
    /// Whether nothing is said of a cache that is not there: it is about to be written.
    is_quiet: bool,
    /// Read when somebody asks first; nothing where there is no cache that can be used.
    tables: OnceLock<Vec<Table>>,
}

/// A table, and where its layers are.
pub(super) struct Table {
    results: CacheTable,
    /// Caches of RUN, where it has any that are wanted.
    pub(super) mounts: Option<Carried>,
    /// In the store's words.
    pub(super) place: String,
    /// Set where a registry can be asked whether it has a layer.
    repository: Option<Reference>,
    /// What it said.
    has: Mutex<BTreeMap<Digest, bool>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(images: &'a Images<'a>, from: From, platform: Platform) -> Source<'a> {
        Source { images, from, platform, is_quiet: false, tables: OnceLock::new() }
    }

    /// What there is at a place that is about to be written.
    pub(super) fn quiet(images: &'a Images<'a>, place: Place) -> Source<'a> {
        let from = From { place, digest: None, mounts: true };
        Source { is_quiet: true, ..Source::new(images, from, Platform::host()) }
    }

    pub(super) fn images(&self) -> &'a Images<'a> {
        self.images
    }

    /// The tables of results that a place has whole, and where their layers are, to be written there again: for those that it has
    /// lost it would be sent what this store has under their digests, which was never its ([`Source::kept_mounts`]).
    pub(super) fn results(&self) -> Vec<(&CacheTable, &str)> {
        let layers = |table: &Table| -> Vec<Descriptor> {
            table.results.layers().into_iter().map(|layer| layer.descriptor.clone()).collect()
        };
        let whole = self.tables().iter().filter(|table| self.has_all(table, &layers(table)));
        whole.map(|table| (&table.results, table.place.as_str())).collect()
    }

    /// Verified blobs of its caches, open.
    pub(super) fn open_blobs(&self, blobs: &[Descriptor]) -> Result<HashMap<Digest, File>, Failure> {
        let mut opened = HashMap::new();
        if let Place::Registry(reference) = &self.from.place {
            let name = self.tables().iter().find_map(|table| table.repository.clone());
            self.images.cache_blobs(name.as_ref().unwrap_or(reference), blobs)?;
        }
        for blob in blobs {
            let file = match &self.from.place {
                // chunks are held against their digests
                Place::Local(folder, _) => {
                    open_within(folder, &blob_name(&blob.digest)).map_err(|error| {
                        Failure::new(format!("`{}` is missing: {error}", blob.digest.short()))
                    })?
                }
                _ => self.images.store.blobs().open_blob(&blob.digest)?,
            };
            opened.insert(blob.digest.clone(), file);
        }
        Ok(opened)
    }

    /// A manifest's caches of RUN; a table that cannot be used is said, and none.
    fn carried(
        &self,
        manifest: &Manifest,
        read: impl Fn(&Descriptor) -> Result<Vec<u8>, Failure>,
    ) -> Option<Carried> {
        let table = mounts::table_of(manifest).filter(|_| self.from.mounts)?;
        let carried =
            read(table).and_then(|bytes| Carried::from_bytes(&bytes).map_err(|error| Failure::of(&error)));
        carried
            .inspect_err(|failure| {
                self.say(format_args!(" has caches that are not taken: {}", failure.words()))
            })
            .ok()
    }

    /// Whether it is asked by builds for a platform.
    pub(super) fn is_for(&self, platform: &Platform) -> bool {
        self.platform == *platform
    }

    fn name(&self) -> String {
        match &self.from.place {
            Place::Registry(reference) => reference.familiar(),
            Place::Local(folder, tag) => format!("{}:{tag}", folder.display()),
            Place::Inline => String::new(),
        }
    }

    pub(super) fn say(&self, words: std::fmt::Arguments<'_>) {
        if self.is_quiet {
            return;
        }
        let message = format!("the cache `{}`{words}", self.name());
        self.images.show().event(Event::Warning { message: &message });
    }

    /// The tables that were read, if anybody asked.
    pub(super) fn read(&self) -> impl Iterator<Item = &CacheTable> {
        self.tables.get().into_iter().flatten().map(|table| &table.results)
    }

    pub(super) fn tables(&self) -> &[Table] {
        self.tables.get_or_init(|| {
            let read = match &self.from.place {
                Place::Registry(reference) => self.read_registry(reference),
                Place::Local(folder, tag) => self.read_layout(folder, tag),
                Place::Inline => Ok(Vec::new()),
            };
            read.unwrap_or_else(|failure| {
                self.say(format_args!(" cannot be used: {}", failure.words()));
                Vec::new()
            })
        })
    }

    fn read_registry(&self, reference: &Reference) -> Result<Vec<Table>, Failure> {
        let Some((name, descriptor, parsed)) = self.images.cache_manifest(reference, &self.platform)? else {
            self.say(format_args!(" is not there yet"));
            return Ok(Vec::new());
        };
        if parsed.config.media_type == CACHE_CONFIG_TYPE {
            return Ok(vec![self.fetch(&name, &parsed)?]);
        }
        if parsed.config.media_type == BUILDKIT_TYPE {
            self.say(format_args!(" is BuildKit's, whose keys are others: it is passed over"));
            return Ok(Vec::new());
        }
        let attached = self.images.referrers(&name.with_digest(descriptor.digest), CACHE_TYPE)?;
        let mut tables = Vec::new();
        for one in attached.iter().rev().take(ATTACHED) {
            let (_, parsed) = self.images.fetch_manifest(&name.with_digest(one.digest.clone()), &name)?;
            match parsed {
                Parsed::Manifest(manifest) if manifest.config.media_type == CACHE_CONFIG_TYPE => {
                    tables.push(self.fetch(&name, &manifest)?);
                }
                _ => {}
            }
        }
        if tables.is_empty() {
            self.say(format_args!(" is an image without a cache: `--cache-to type=inline` attaches one"));
        }
        Ok(tables)
    }

    fn fetch(&self, name: &Reference, manifest: &Manifest) -> Result<Table, Failure> {
        let config = self.images.cache_config(name, &manifest.config, TABLE_BYTES)?;
        let results = unpack(manifest, &config)?;
        let mounts = self.carried(manifest, |table| self.images.cache_config(name, table, TABLE_BYTES));
        let (place, repository) = (name.name(), Some(name.clone()));
        Ok(Table { results, mounts, place, repository, has: Mutex::default() })
    }

    fn read_layout(&self, folder: &Path, tag: &str) -> Result<Vec<Table>, Failure> {
        let shown = folder.display();
        let Some(index) = read_within(folder, "index.json", limits::MANIFEST_BYTES)? else {
            self.say(format_args!(" is not there yet"));
            return Ok(Vec::new());
        };
        let index: Index = serde_json::from_slice(&index)
            .map_err(|error| Failure::new(format!("`{shown}/index.json` is not valid: {error}")))?;
        let named = |entry: &&Descriptor| match &self.from.digest {
            Some(digest) => entry.digest == *digest,
            None => entry.annotations.get(ANNOTATION_REF_NAME).is_some_and(|name| name == tag),
        };
        let Some(entry) = index.manifests.iter().find(named) else {
            self.say(format_args!(" is not there yet"));
            return Ok(Vec::new());
        };
        let manifest = blob(folder, &entry.digest, limits::MANIFEST_BYTES)?;
        let parsed = Parsed::from_bytes(&manifest, None).map_err(|error| Failure::of(&error))?;
        let Parsed::Manifest(manifest) = parsed else {
            return Err(Failure::new(format!("`{}` is no cache of slipway's", entry.digest.short())));
        };
        if manifest.config.media_type != CACHE_CONFIG_TYPE {
            let kind = &manifest.config.media_type;
            return Err(Failure::new(format!(
                "`{}` is no cache of slipway's but `{kind}`",
                entry.digest.short()
            )));
        }
        let config = blob(folder, &manifest.config.digest, TABLE_BYTES)?;
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let results = unpack(&manifest, &config)?;
        let mounts = self.carried(&manifest, |table| blob(&folder, &table.digest, TABLE_BYTES));
        let place = layout_source(&folder);
        Ok(vec![Table { results, mounts, place, repository: None, has: Mutex::default() }])
    }

    /// Whether a place has all of these blobs, as it says itself.
    pub(super) fn has_all(&self, table: &Table, blobs: &[Descriptor]) -> bool {
        match &table.repository {
            Some(repository) => {
                self.images.lacking(repository, blobs).is_ok_and(|lacking| lacking.is_empty())
            }
            None => blobs.iter().all(|blob| self.has(table, blob)),
        }
    }

    /// Whether a layer can be had: what a registry has forgotten since is no result.
    fn has(&self, table: &Table, layer: &Descriptor) -> bool {
        if let Some(path) = layout_folder(&table.place) {
            let path = blob_path(&path, &layer.digest);
            return path.metadata().is_ok_and(|metadata| metadata.len() == layer.size_bytes);
        }
        let Some(repository) = &table.repository else { return true };
        let mut has = table.has.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = has.get(&layer.digest) {
            return *known;
        }
        let all = table.results.layers();
        let asked: Vec<Descriptor> = match all.len() <= ASKED_AT_ONCE {
            true => all.into_iter().map(|layer| layer.descriptor.clone()).collect(),
            false => vec![layer.clone()],
        };
        // whoever cannot be asked will not be there when the layer is fetched either, which is said then
        let Ok(lacking) = self.images.lacking(repository, &asked) else { return true };
        has.extend(asked.into_iter().map(|one| {
            let is_there = !lacking.iter().any(|gone| gone.digest == one.digest);
            (one.digest, is_there)
        }));
        has.get(&layer.digest).copied().unwrap_or(false)
    }
}

impl CacheSource for Source<'_> {
    fn find(&self, key: &Digest) -> Result<Option<FoundResult>, SourceError> {
        for table in self.tables() {
            let Some(result) = table.results.get(key) else { continue };
            let layer = result.layer.clone();
            if layer.as_ref().is_none_or(|layer| self.has(table, &layer.descriptor)) {
                return Ok(Some(FoundResult { layer, repositories: vec![table.place.clone()] }));
            }
        }
        Ok(None)
    }

    fn fill_cache(&self, cache: &str, folder: &Path) -> Option<Vec<u8>> {
        Source::fill_cache(self, cache, folder)
    }
}

/// Takes caches of RUN from a place into the store, over those that are there.
///
/// # Errors
/// When the place cannot be read, or something of it is not what it says.
pub(crate) fn import_caches(
    images: &Images<'_>,
    from: From,
    words: &[String],
) -> Result<Vec<mounts::Imported>, Failure> {
    let source = Source::new(images, From { mounts: true, ..from }, Platform::host());
    source.import_caches(|cache| mounts::is_named(words, &cache.name, &cache.about))
}

fn unpack(manifest: &Manifest, config: &[u8]) -> Result<CacheTable, Failure> {
    let mut results = manifest.clone();
    results.layers.retain(|layer| !mounts::is_ours(layer));
    if results.layers.is_empty() {
        results.layers.push(Descriptor::of(EMPTY_TYPE, EMPTY));
    }
    CacheTable::unpack(&results, config).map_err(|error| Failure::of(&error))
}

fn layout_folder(place: &str) -> Option<PathBuf> {
    place.strip_prefix(super::LAYOUT).map(PathBuf::from)
}

fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// A file of a layout, whatever links lie there.
pub(super) fn open_within(folder: &Path, path: &str) -> io::Result<File> {
    Root::open(folder).map_err(io::Error::other)?.open_regular(Path::new(path)).map_err(io::Error::other)
}

fn read_within(folder: &Path, path: &str, most_bytes: u64) -> Result<Option<Vec<u8>>, Failure> {
    let shown = folder.join(path);
    if !shown.exists() {
        return Ok(None);
    }
    let read = open_within(folder, path).and_then(|file| file::read_capped_from(file, most_bytes));
    read.map(Some).map_err(|error| Failure::new(format!("cannot read `{}`: {error}", shown.display())))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A verified blob of a layout.
fn blob(folder: &Path, digest: &Digest, most_bytes: u64) -> Result<Vec<u8>, Failure> {
    let path = blob_name(digest);
    let bytes = read_within(folder, &path, most_bytes)?
        .ok_or_else(|| Failure::new(format!("`{}/{path}` is missing", folder.display())))?;
    if Digest::of(digest.algorithm(), &bytes) != *digest {
        return Err(Failure::new(format!("`{}/{path}` is damaged: it has another digest", folder.display())));
    }
    Ok(bytes)
}
