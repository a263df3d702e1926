//! Whole builds inside this process: recipes without RUN need no privilege, no network and no other program.

mod caches;
mod copies;
mod graphs;
mod seams;
mod values;

use crate::{
    BuildError, BuildOutput, BuildRequest, Cancel, Environment, Event, Exporter, Fetched, ImageExporter,
    ImageShape, ImageSource, LayerFormat, LayerShape, NetworkMode, Progress, SourceError, epoch::Epoch,
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    compression::Compression,
    layer::{Kind, OverlayXattrs},
    store::{LayerForm, Shape, Store, Wanted},
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Mutex,
};

/// A store, a context and what a build needs else.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    images: Nobody,
    notes: Notes,
    cancel: Cancel,
}

/// A source that has nothing, and says what it was asked for.
#[derive(Default)]
struct Nobody(Mutex<Vec<String>>);

impl Nobody {
    fn lacks<T>(&self, what: String) -> Result<T, SourceError> {
        self.0.lock().expect("asked").push(what.clone());
        Err(SourceError::new(format!("nobody has {what}")))
    }
}

impl ImageSource for Nobody {
    fn resolve(&self, reference: &Reference, _: &Platform, _: bool) -> Result<Digest, SourceError> {
        self.lacks(reference.familiar())
    }
    fn allow(&self, _: &Reference, _: &Digest, _: &Digest) -> Result<(), SourceError> {
        Ok(())
    }

    fn fetch(&self, blob: &Descriptor, _: &[String]) -> Result<(), SourceError> {
        self.lacks(blob.digest.to_string())
    }
    fn fetch_layers(&self, _: &[LayerForm], missing: &[LayerForm]) -> Result<(), SourceError> {
        missing.iter().try_for_each(|layer| self.lacks(layer.descriptor.digest.to_string()))
    }
    fn fetch_url(&self, url: &str, _: Option<&Digest>) -> Result<Fetched, SourceError> {
        self.lacks(url.to_owned())
    }
    fn checkout(&self, url: &str, _: bool, _: &Path) -> Result<String, SourceError> {
        self.lacks(url.to_owned())
    }
    fn layout(&self, folder: &Path, _: Option<&str>, _: &Platform) -> Result<Digest, SourceError> {
        self.lacks(folder.display().to_string())
    }
}

/// Writes down how steps ended.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Progress for Notes {
    fn event(&self, event: Event<'_>) {
        if let Event::Finished { step, outcome, .. } = event {
            self.0.lock().expect("notes").push(format!("{step} {outcome:?}"));
        }
    }
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("context")).expect("context");
        let mut store = Store::open(&folder.path().join("store"), OverlayXattrs::Trusted).expect("store");
        // nothing is mounted here: layers are read
        let named = |word: &str| Shape::ALL.into_iter().find(|shape| shape.name() == word).expect("a shape");
        let shape = slipway_skip::shape().as_deref().map(named);
        store.shape_layers(Wanted { shape: shape.or(Some(Shape::Unpacked)), try_mount: |_, _| Ok(()) });
        let cancel = Cancel::new().expect("switch");
        Bench { store, images: Nobody::default(), notes: Notes::default(), cancel, folder }
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    /// Puts files into the context: `path`, `path=content`, `path/`, `path -> target`, each perhaps after a mode.
    fn with(self, files: &[&str]) -> Bench {
        for line in files {
            let (mode, what) = match line.split_once(' ') {
                Some((mode, rest)) if mode.len() == 4 && !rest.starts_with("->") => {
                    (Some(u32::from_str_radix(mode, 8).expect("mode")), rest)
                }
                _ => (None, *line),
            };
            let at = |path: &str| {
                let path = self.context().join(path);
                fs::create_dir_all(path.parent().expect("parent")).expect("parents");
                path
            };
            let path = match what.split_once(" -> ") {
                Some((path, target)) => {
                    symlink(target, at(path)).expect("link");
                    continue;
                }
                None if what.ends_with('/') => {
                    fs::create_dir_all(at(what)).expect("folder");
                    at(what.trim_end_matches('/'))
                }
                None => {
                    let (path, content) = what.split_once('=').unwrap_or((what, what));
                    fs::write(at(path), content).expect("file");
                    at(path)
                }
            };
            let usual = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode.unwrap_or(usual))).expect("mode");
        }
        self
    }

    fn request(&self, recipe: &str) -> BuildRequest {
        BuildRequest { context: Some(self.context()), ..request(recipe) }
    }

    fn environment(&self) -> Environment<'_> {
        Environment {
            debugger: None,
            record: None,
            cache_sources: &[],
            cache_sinks: &[],
            store: &self.store,
            images: &self.images,
            progress: &self.notes,
            cancel: &self.cancel,
            single_id: false,
            bare: false,
        }
    }

    fn build_to(&self, request: &BuildRequest, exporter: &dyn Exporter) -> Result<BuildOutput, BuildError> {
        crate::build(request, &self.environment(), exporter)
    }

    fn build_as(&self, request: &BuildRequest, names: &[&str]) -> Result<BuildOutput, BuildError> {
        let names = names.iter().map(|name| name.parse::<Reference>().expect("name").or_latest()).collect();
        let layers = LayerShape { format: LayerFormat::Plain(request.compression), ..LayerShape::default() };
        let shape = ImageShape { layers, ..ImageShape::default() };
        self.build_to(request, &ImageExporter { names, shape, registers: true })
    }

    fn build(&self, recipe: &str) -> Result<BuildOutput, BuildError> {
        self.build_as(&self.request(recipe), &[])
    }

    /// The words of the failure that a build ends with.
    fn fails(&self, recipe: &str) -> String {
        words(&self.build(recipe).expect_err(recipe))
    }

    /// The file system of a built image, a line a path: `path kind mode uid:gid`, and a link's target.
    fn listing(&self, built: &BuildOutput) -> Vec<String> {
        let mut lines = Vec::new();
        let tree = self.store.tree(&built.config.rootfs.diff_ids).expect("tree");
        tree.walk(b"", &mut |path, found| {
            let entry = found.entry;
            let (path, mode) = (String::from_utf8_lossy(path), entry.mode & 0o7777);
            lines.push(match entry.kind {
                Kind::Symlink => format!("{path} -> {}", String::from_utf8_lossy(&entry.link)),
                Kind::Directory => format!("{path}/ {mode:o} {}:{}", entry.uid, entry.gid),
                _ => format!("{path} {mode:o} {}:{}", entry.uid, entry.gid),
            });
            true
        });
        lines.retain(|line| !line.starts_with("/ "));
        lines.sort();
        lines
    }
}

/// A failure as people read it.
fn words(error: &BuildError) -> String {
    match error {
        BuildError::Step(at) => slipway_oci::error::chain(&at.error),
        BuildError::Recipe(mistakes) => mistakes.iter().map(|mistake| mistake.message.clone()).collect(),
        other => slipway_oci::error::chain(other),
    }
}

/// What is asked for of a recipe without a context.
pub(crate) fn request(recipe: &str) -> BuildRequest {
    BuildRequest {
        line: Default::default(),
        advice: Vec::new(),
        is_forgotten: false,
        recipe_name: "Dockerfile".to_owned(),
        recipe: recipe.to_owned(),
        context: None,
        context_name: Some("the context".to_owned()),
        ignore: None,
        contexts: BTreeMap::new(),
        build_args: BTreeMap::new(),
        target: None,
        platform: "linux/amd64".parse().expect("platform"),
        no_cache: false,
        no_cache_stages: Vec::new(),
        explain: false,
        refresh: false,
        labels: BTreeMap::new(),
        compression: Compression::default(),
        jobs: None,
        epoch: Epoch::Given(1_000_000_000),
        network: NetworkMode::default(),
        allow_host_network: false,
        allow_insecure: false,
        allow_devices: false,
        device_folders: Vec::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        hosts: Vec::new(),
    }
}
