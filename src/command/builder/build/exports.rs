//! Results of a build: what is made while it runs, and what when all of it is there, names and registries last.

use super::{Parsed, attest::Attached};
use crate::{
    app::App,
    error::Failure,
    images::Images,
    remote,
    request::{
        annotation::{Annotations, Level},
        output::{Kind, Output},
    },
    service,
};
use slipway_builder::{
    BuiltImage, Environment, Exporter, Finished, ImageExporter, ImageShape, Squash, StepError, files,
    write_folder,
};
use slipway_oci::{
    Descriptor, Digest, Platform, Reference,
    layer::{Entry, Kind as PathKind, LayerWriter},
    layout::{self, LayoutImage},
    spec::{Index, media_type, to_json},
};
use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The results that were asked for.
pub(super) struct Exports {
    outputs: Vec<Output>,
    annotations: Annotations,
    squash: Squash,
    platforms: Vec<Platform>,
    tags: Vec<Reference>,
    /// Archives of files that are being written, by output.
    tars: Mutex<BTreeMap<usize, LayerWriter<service::output::Output>>>,
    /// Archives of images that will be, by output.
    archives: Mutex<BTreeMap<usize, service::output::Output>>,
}

/// The build for one platform and its results.
pub(super) struct PlatformExports<'a> {
    all: &'a Exports,
    platform: &'a Platform,
    made: Mutex<BTreeMap<usize, BuiltImage>>,
}

/// The images for one platform, by output.
pub(super) struct Made {
    pub(super) platform: Platform,
    pub(super) images: BTreeMap<usize, BuiltImage>,
}

/// What came of all of them.
pub(crate) struct Results {
    /// The image, or the index of several.
    pub(super) target: Descriptor,
    /// The configuration, where there is one.
    pub(super) config: Option<Digest>,
    /// What the image is called.
    pub(super) names: Vec<Reference>,
    /// Where it was sent.
    pub(super) pushed: Vec<Reference>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exports {
    /// Opens what is written to: a place that cannot be is found before the build.
    pub(super) fn prepare(parsed: &Parsed, tags: &[Reference]) -> Result<Exports, Failure> {
        let (mut tars, mut archives) = (BTreeMap::new(), BTreeMap::new());
        for (at, output) in parsed.outputs.iter().enumerate() {
            match &output.kind {
                Kind::Tar(dest) => drop(tars.insert(at, LayerWriter::to(open(dest)?))),
                Kind::Archive { dest, .. } => drop(archives.insert(at, open(dest)?)),
                Kind::Layout(dest) | Kind::Folder { dest, .. } => check_folder(dest)?,
                Kind::Image { .. } | Kind::Nothing => {}
            }
        }
        Ok(Exports {
            outputs: parsed.outputs.clone(),
            annotations: parsed.annotations.clone(),
            squash: parsed.squash,
            platforms: parsed.platforms.clone(),
            tags: tags.to_vec(),
            tars: Mutex::new(tars),
            archives: Mutex::new(archives),
        })
    }

    pub(super) fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    pub(super) fn of_platform<'b>(&'b self, platform: &'b Platform) -> PlatformExports<'b> {
        PlatformExports { all: self, platform, made: Mutex::default() }
    }

    /// What all images are called.
    pub(super) fn all_names(&self) -> Vec<Reference> {
        let mut all: Vec<Reference> = Vec::new();
        for name in self.outputs.iter().flat_map(|output| self.names(output)) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    fn names(&self, output: &Output) -> Vec<Reference> {
        let names = if output.names.is_empty() { &self.tags } else { &output.names };
        names.iter().cloned().map(Reference::or_latest).collect()
    }

    /// The folder of a platform in a result that has one for each; empty where there is none.
    fn split(&self, said: Option<bool>, platform: &Platform) -> PathBuf {
        match said.unwrap_or(self.platforms.len() > 1) {
            true => PathBuf::from(platform.to_string().replace('/', "_")),
            false => PathBuf::new(),
        }
    }

    fn annotations_of(&self, output: &Output, level: Level, platform: &Platform) -> BTreeMap<String, String> {
        self.annotations.with(&output.annotations).at(level, platform)
    }

    /// Writes what needs all of it, then names, then sends.
    pub(super) fn finish(
        self,
        app: &App,
        images: &Images<'_>,
        made: &[Made],
        attached: &Attached,
    ) -> Result<Results, Failure> {
        for (_, tar) in std::mem::take(&mut *locked(&self.tars)) {
            tar.end_archive().map_err(|error| Failure::of(&error))?.finish()?;
        }
        let mut results: Option<Results> = None;
        let mut pushed = Vec::new();
        // files alone: the image is in no list, but has a digest
        let outputs = self.outputs.iter().enumerate();
        let outputs = outputs.filter(|(at, _)| made.iter().all(|made| made.images.contains_key(at)));
        for (at, output) in outputs {
            let target = self.target(app, at, output, made)?;
            let names = self.names(output);
            match &output.kind {
                Kind::Image { push, by_digest } => {
                    app.store.name_manifest(&target.digest, if *by_digest { &[] } else { &names })?;
                    if *push {
                        pushed.extend(self.push(images, &names, &target, *by_digest)?);
                    }
                }
                Kind::Archive { .. } | Kind::Layout(_) => {
                    let attached = attached.of(made.iter().filter_map(|made| made.images.get(&at)));
                    self.write_image(app, images, (at, output), &target, (names.clone(), attached))?;
                }
                Kind::Nothing | Kind::Tar(_) | Kind::Folder { .. } => {}
            }
            let config = match made {
                [one] => Some(one.images[&at].config.clone()),
                _ => None,
            };
            let known =
                results.get_or_insert(Results { target, config, names: Vec::new(), pushed: Vec::new() });
            if output.kind.is_image() {
                let new = names.into_iter().filter(|name| !known.names.contains(name)).collect::<Vec<_>>();
                known.names.extend(new);
            }
        }
        let results = results.expect("each build makes an image at least");
        Ok(Results { pushed, ..results })
    }

    /// The image of an output, or the index of its images.
    fn target(&self, app: &App, at: usize, output: &Output, made: &[Made]) -> Result<Descriptor, Failure> {
        if let [one] = made {
            return Ok(one.images[&at].manifest.clone());
        }
        let entry = |made: &Made| Descriptor {
            platform: Some(made.platform.clone()),
            annotations: self.annotations_of(output, Level::ManifestDescriptor, &made.platform),
            ..made.images[&at].manifest.clone()
        };
        let media = if output.docker_types { media_type::DOCKER_LIST } else { media_type::OCI_INDEX };
        let index = Index {
            schema_version: 2,
            media_type: Some(media.to_owned()),
            artifact_type: None,
            manifests: made.iter().map(entry).collect(),
            subject: None,
            annotations: self.annotations_of(output, Level::Index, &made[0].platform),
        };
        let bytes = to_json(&index);
        let digest = app.store.blobs().put(&bytes)?;
        if matches!(output.kind, Kind::Image { .. }) {
            app.store.put_index(&digest, &[])?;
        }
        Ok(Descriptor::of(media, &bytes))
    }

    fn push(
        &self,
        images: &Images<'_>,
        names: &[Reference],
        target: &Descriptor,
        by_digest: bool,
    ) -> Result<Vec<Reference>, Failure> {
        for name in names {
            match by_digest {
                true => images.push(&remote::by_digest(name, &target.digest), &target.digest, None)?,
                false => images.push(name, &target.digest, None)?,
            };
        }
        Ok(names.to_vec())
    }

    fn write_image(
        &self,
        app: &App,
        images: &Images<'_>,
        (at, output): (usize, &Output),
        target: &Descriptor,
        (names, attached): (Vec<Reference>, Vec<Digest>),
    ) -> Result<(), Failure> {
        match app.store.read_index(&target.digest)? {
            Some(index) => index.manifests.iter().try_for_each(|entry| images.complete(&entry.digest))?,
            None => images.complete(&target.digest)?,
        }
        let level = if self.platforms.len() > 1 { Level::IndexDescriptor } else { Level::ManifestDescriptor };
        let annotations = self.annotations_of(output, level, &self.platforms[0]);
        let written = [LayoutImage { target: target.digest.clone(), names, annotations, attached }];
        match &output.kind {
            Kind::Layout(folder) => Ok(layout::write_oci_folder(&app.store, &written, folder)?),
            Kind::Archive { docker, .. } => {
                let mut file = locked(&self.archives).remove(&at).expect("it was opened");
                // docker's own form has layers as they are; compressed ones go in the form that its newer versions write
                let is_plain = output.layers == Default::default();
                let wrote = match *docker && is_plain && self.platforms.len() == 1 {
                    true => layout::write_docker_archive(&app.store, &written, &mut file),
                    false => layout::write_oci_archive(&app.store, &written, &mut file),
                };
                match wrote {
                    Err(_) if file.is_abandoned() => Ok(()),
                    wrote => {
                        wrote?;
                        Ok(file.finish()?)
                    }
                }
            }
            Kind::Image { .. } | Kind::Nothing | Kind::Tar(_) | Kind::Folder { .. } => Ok(()),
        }
    }
}

fn open(dest: &Path) -> Result<service::output::Output, Failure> {
    use std::io::IsTerminal;
    if dest.as_os_str() == "-" && std::io::stdout().is_terminal() {
        let words = "--output: an archive is not written to a terminal";
        return Err(Failure::usage(words).with_hint("redirect it, or give dest=FILE"));
    }
    if dest.is_dir() {
        let words = format!("--output: cannot write `{}`: it is a folder", dest.display());
        return Err(Failure::new(words)
            .with_hint("type=local writes files into a folder, type=oci,tar=false a layout"));
    }
    Ok(service::output::Output::prepare("--output", dest)?)
}

/// A folder need not be there yet, but nothing else may.
fn check_folder(dest: &Path) -> Result<(), Failure> {
    match std::fs::metadata(dest) {
        Ok(found) if !found.is_dir() => {
            Err(Failure::new(format!("--output: cannot write into `{}`: it is no folder", dest.display())))
        }
        _ => Ok(()),
    }
}

impl PlatformExports<'_> {
    /// The images that were made.
    pub(super) fn made(self) -> Made {
        let images = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        Made { platform: self.platform.clone(), images }
    }

    fn shape(&self, output: &Output) -> ImageShape {
        ImageShape {
            layers: output.layers,
            squash: self.all.squash,
            annotations: self.all.annotations_of(output, Level::Manifest, self.platform),
            docker_types: output.docker_types,
        }
    }

    /// Adds the target's files to an archive that is being written.
    fn write_tar(
        &self,
        at: usize,
        environment: &Environment<'_>,
        finished: &Finished<'_>,
    ) -> Result<(), StepError> {
        let within = self.all.split(None, self.platform);
        let within = |path: &[u8]| {
            let path = within.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
            std::os::unix::ffi::OsStringExt::into_vec(path.into_os_string())
        };
        let mut tars = locked(&self.all.tars);
        let tar = tars.get_mut(&at).expect("it was opened");
        files(environment, finished, &mut |mut entry: Entry, content: &mut dyn Read| {
            if entry.path.is_empty() && self.all.platforms.len() == 1 {
                return Ok(());
            }
            entry.path = within(&entry.path);
            while entry.path.ends_with(b"/") {
                entry.path.pop();
            }
            if entry.kind == PathKind::Hardlink {
                entry.link = within(&entry.link);
            }
            tar.append_file(entry, content)?;
            Ok(())
        })
    }
}

impl Exporter for PlatformExports<'_> {
    fn names(&self) -> Vec<String> {
        let outputs = self.all.outputs.iter().filter(|output| output.kind.is_image());
        let mut names: Vec<String> =
            outputs.flat_map(|output| self.all.names(output)).map(|name| name.familiar()).collect();
        names.dedup();
        names
    }

    fn export(
        &self,
        environment: &Environment<'_>,
        finished: &Finished<'_>,
    ) -> Result<BuiltImage, StepError> {
        let mut images: Vec<(ImageExporter, BuiltImage)> = Vec::new();
        let mut made = BTreeMap::new();
        let has_image = self.all.outputs.iter().any(|output| output.kind.is_image());
        for (at, output) in self.all.outputs.iter().enumerate() {
            match &output.kind {
                Kind::Tar(_) => self.write_tar(at, environment, finished)?,
                Kind::Folder { dest, split } => {
                    write_folder(environment, finished, &dest.join(self.all.split(*split, self.platform)))?;
                }
                Kind::Image { .. } | Kind::Nothing | Kind::Archive { .. } | Kind::Layout(_) => {}
            }
            if has_image && !output.kind.is_image() {
                continue;
            }
            let registers = matches!(output.kind, Kind::Image { .. });
            let exporter = ImageExporter { names: Vec::new(), shape: self.shape(output), registers };
            let same = |(known, _): &&(ImageExporter, BuiltImage)| {
                known.shape == exporter.shape && known.registers >= registers
            };
            let image = match images.iter().find(same) {
                Some((_, image)) => image.clone(),
                None => {
                    let image = exporter.export(environment, finished)?;
                    images.push((exporter, image.clone()));
                    image
                }
            };
            made.insert(at, image);
        }
        let first = made.values().next().cloned().expect("there is an output");
        *locked(&self.made) = made;
        Ok(first)
    }
}
