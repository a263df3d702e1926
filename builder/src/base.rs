//! Images that stages begin with or copy from.

use crate::{
    Environment, ImageSource, StepError, clock,
    lost::{lost, lost_if_false},
};
use slipway_oci::{
    Digest, Platform, Reference,
    layer::{LayerError, Tree},
    store::{ImageRecord, LayerFiles, LayerForm, Store, StoreError},
};
use slipway_runtime::{Lower, root};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

/// An image whose manifest and configuration are in the store; its layers may still be elsewhere.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Manifest and configuration.
    pub record: ImageRecord,
    /// Its layers, the base first.
    pub layers: Vec<LayerForm>,
}

/// Looks an image up in the store, then in its registry.
pub(crate) fn resolve(
    environment: &Environment<'_>,
    reference: &Reference,
    platform: &Platform,
    refresh: bool,
) -> Result<BaseImage, StepError> {
    if !refresh
        && let Some(target) = environment.store.find_reference(reference)?
        && let Some(digest) = environment.store.image_of(&target, platform)?
        && let Some(record) = environment.store.image_for(&digest, platform)?
    {
        environment.images.allow(reference, &target, &digest)?;
        // a use that cannot be noted fails no build
        let _ = environment.store.touch_image(&target);
        return from_record(digest, record);
    }
    let digest = environment.images.resolve(reference, platform, refresh)?;
    from_digest(environment, digest)
}

/// Reads an image whose manifest is in the store.
pub(crate) fn from_digest(environment: &Environment<'_>, digest: Digest) -> Result<BaseImage, StepError> {
    let record = environment.store.read_image(&digest)?;
    environment.store.put_forms(&record)?;
    from_record(digest, record)
}

fn from_record(digest: Digest, record: ImageRecord) -> Result<BaseImage, StepError> {
    let (ids, blobs) = (&record.config.rootfs.diff_ids, &record.manifest.layers);
    if ids.len() != blobs.len() {
        return Err(StepError::NotWhole { image: digest, diff_ids: ids.len(), layers: blobs.len() });
    }
    let layers = record.forms().collect();
    Ok(BaseImage { digest, record, layers })
}

/// Sees to it that the layer's blob is in the store.
pub(crate) fn fetch_layer(
    store: &Store,
    images: &dyn ImageSource,
    form: &LayerForm,
) -> Result<(), StepError> {
    let mut forms = vec![form.clone()];
    forms.extend(store.layer_forms(&form.diff_id)?);
    if forms.iter().any(|form| store.blobs().contains(&form.descriptor.digest).unwrap_or(false)) {
        return Ok(());
    }
    let gone = |form: &LayerForm, error| lost(std::slice::from_ref(form), error);
    for form in &forms {
        let sources = store.sources(&form.descriptor.digest)?;
        if !sources.is_empty() {
            return images.fetch(&form.descriptor, &sources).map_err(|error| gone(form, error));
        }
    }
    Err(lost(std::slice::from_ref(form), StoreError::LayerMissing(form.diff_id.clone())))
}

/// Does what needs a layer's bytes; where they are missing, fetches them and does it again.
fn with_layer<T>(
    environment: &Environment<'_>,
    form: &LayerForm,
    work: impl Fn() -> Result<T, StoreError>,
) -> Result<T, StepError> {
    let fetch = || fetch_layer(environment.store, environment.images, form);
    let false_or_not = |error: StoreError| lost_if_false(form, error);
    match work() {
        Err(StoreError::LayerMissing(_)) => {
            fetch()?;
            work().map_err(false_or_not)
        }
        Err(StoreError::Layer(LayerError::Blob(slipway_oci::blobs::BlobError::Missing(_)))) => {
            fetch()?;
            work().map_err(false_or_not)
        }
        other => other.map_err(false_or_not),
    }
}

/// Sees to it that the blobs of `needed`, some of the row `layers`, are in the store, as far as they can be had: those that
/// are missing come together, and all are made runnable beside each other.
fn fetch_layers(
    environment: &Environment<'_>,
    layers: &[LayerForm],
    needed: &[LayerForm],
) -> Result<(), StepError> {
    let store = environment.store;
    let (mut row, mut missing) = (layers.to_vec(), Vec::new());
    for form in needed {
        let mut forms = store.layer_forms(&form.diff_id)?;
        forms.insert(0, form.clone());
        let is_here = |form: &LayerForm| store.blobs().contains(&form.descriptor.digest).unwrap_or(false);
        let is_somewhere =
            |form: &LayerForm| store.sources(&form.descriptor.digest).is_ok_and(|found| !found.is_empty());
        let here = forms.iter().find(|form| is_here(form));
        let Some(found) = here.or_else(|| forms.iter().find(|form| is_somewhere(form))) else { continue };
        if here.is_none() {
            missing.push(found.clone());
        }
        row.iter_mut().filter(|own| own.diff_id == form.diff_id).for_each(|own| own.clone_from(found));
    }
    if missing.is_empty() {
        return Ok(store.make_runnable(&row)?);
    }
    environment.images.fetch_layers(&row, &missing).map_err(|error| {
        missing.retain(|form| !store.blobs().contains(&form.descriptor.digest).unwrap_or(false));
        lost(&missing, error)
    })
}

/// The file system of a row of layers, from tables of contents alone.
pub(crate) fn tree(environment: &Environment<'_>, layers: &[LayerForm]) -> Result<Tree, StepError> {
    let mut unknown = Vec::new();
    for form in layers {
        if !environment.store.has_toc(&form.diff_id)? {
            unknown.push(form.clone());
        }
    }
    if unknown.len() > 1 {
        fetch_layers(environment, layers, &unknown)?;
    }
    layers.iter().try_fold(Tree::default(), |below, form| {
        let toc = with_layer(environment, form, || environment.store.toc(&form.diff_id, &below))?;
        Ok(below.with(toc))
    })
}

/// The topmost of a row of layers, to read files from.
pub(crate) fn files(environment: &Environment<'_>, layers: &[LayerForm]) -> Result<LayerFiles, StepError> {
    let (form, below) = layers.split_last().expect("a file is in a layer");
    let below = tree(environment, below)?;
    with_layer(environment, form, || environment.store.layer_files(&form.diff_id, &below))
}

/// A row of layers to run on, the base first, each in the shape that it has or gets here.
pub(crate) fn runnable(environment: &Environment<'_>, layers: &[LayerForm]) -> Result<Vec<Lower>, StepError> {
    let packed = packed(environment, layers)?;
    match packed.len() {
        0 => make_runnable(environment, layers),
        count => {
            let reason = format!("unpacking {count} layer{}", if count == 1 { "" } else { "s" });
            clock::aside(environment.progress, &reason, || {
                fetch_layers(environment, layers, &packed)?;
                make_runnable(environment, layers)
            })
        }
    }
}

/// Those of the layers that nothing can run on yet. From the first one on whose table is not there, all count.
fn packed(environment: &Environment<'_>, layers: &[LayerForm]) -> Result<Vec<LayerForm>, StepError> {
    let (mut below, mut packed) = (Tree::default(), Vec::new());
    for (at, form) in layers.iter().enumerate() {
        if !environment.store.is_runnable(&form.diff_id, &below)? {
            if !environment.store.has_toc(&form.diff_id)? {
                packed.extend_from_slice(&layers[at..]);
                return Ok(packed);
            }
            packed.push(form.clone());
        }
        below = below.with(environment.store.toc(&form.diff_id, &below)?);
    }
    Ok(packed)
}

fn make_runnable(environment: &Environment<'_>, layers: &[LayerForm]) -> Result<Vec<Lower>, StepError> {
    let mut made = Vec::with_capacity(layers.len());
    let mut below = Tree::default();
    for form in layers {
        let runnable = with_layer(environment, form, || environment.store.runnable(&form.diff_id, &below))?;
        made.push(runnable.into());
        below = below.with(environment.store.toc(&form.diff_id, &below)?);
    }
    Ok(made)
}

/// Layers as folders of the host that show them: their own, or their mounts, which are there while this is held.
#[derive(Default)]
pub(crate) struct Shown {
    /// In the order of the layers.
    pub(crate) folders: Vec<PathBuf>,
    held: Vec<OwnedFd>,
}

impl Shown {
    /// Shows `layers` to this process.
    pub(crate) fn of(layers: &[Lower]) -> Result<Shown, StepError> {
        let mut shown = Shown::default();
        for layer in layers {
            match layer {
                Lower::Folder(path) => shown.folders.push(path.clone()),
                Lower::Image { path, devices, via } => shown.hold(root::mount_layer(path, devices, *via)?),
            }
        }
        Ok(shown)
    }

    fn hold(&mut self, mount: OwnedFd) {
        self.folders.push(PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())));
        self.held.push(mount);
    }

    /// What keeps the folders there.
    pub(crate) fn into_held(self) -> Vec<OwnedFd> {
        self.held
    }
}

/// The topmost of a row of layers as a folder that can be mounted in a sandbox.
pub(crate) fn mountable(environment: &Environment<'_>, layers: &[LayerForm]) -> Result<Shown, StepError> {
    let top = runnable(environment, layers)?.pop();
    let shown = Shown::of(top.as_slice())?;
    let can_be_mounted = shown.held.iter().all(root::can_be_cloned);
    match (can_be_mounted, layers.split_last()) {
        (false, Some((form, below))) => {
            let below = tree(environment, below)?;
            let folder = with_layer(environment, form, || environment.store.unpacked(&form.diff_id, &below))?;
            Ok(Shown { folders: vec![folder], held: Vec::new() })
        }
        _ => Ok(shown),
    }
}
