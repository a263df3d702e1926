//! Caches that are written.

use super::{Built, import::Source, mounts};
use crate::{
    error::Failure,
    images::Images,
    remote,
    request::{
        build::Compression,
        cache::{Mounts, Place, To},
    },
};
use slipway_builder::{BuildOutput, CacheTable, PackedTable};
use slipway_oci::{
    Descriptor, Digest, Reference,
    artifact::{EMPTY, EMPTY_TYPE},
    blobs::Blobs,
    layout::{self, ANNOTATION_REF_NAME},
    spec::media_type,
    store::LayerForm,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// Writes what a build led to to one place.
pub(super) fn write(
    images: &Images<'_>,
    to: &To,
    (heard, caches): (&CacheTable, &BTreeSet<String>),
    built: &Built<'_>,
) -> Result<(), Failure> {
    let image_layers = image_layers(images, built)?;
    let mut table = match to.all {
        true => heard.clone(),
        false => of_images(heard, built.outputs),
    };
    // a layer that the image has too goes as the image has it: then it is one blob
    table.set_forms(|layer| match (&to.compression, image_layers.get(&layer.diff_id)) {
        (None, Some(descriptor)) => Ok(descriptor.clone()),
        (None, None) => Ok(layer.descriptor.clone()),
        (Some(wanted), _) => images.in_form(layer, Compression::into(*wanted)),
    })?;
    if to.place == Place::Inline {
        return built.outputs.iter().try_for_each(|output| attach(images, &table, output, built.pushed));
    }
    let mut packed = pack(images, &table, None)?;
    if let Some(mounts) = &to.mounts {
        let earlier = Source::quiet(images, to.place.clone());
        mounts::add(images, mounts, caches, earlier.kept_mounts(), &mut packed)?;
    }
    send(images, to, &packed, table.len())
}

/// Writes caches of RUN to a place, beside the results that it has.
///
/// # Errors
/// When the place cannot be written.
pub(crate) fn write_caches(
    images: &Images<'_>,
    to: &To,
    mounts: &Mounts,
    names: &BTreeSet<String>,
) -> Result<(), Failure> {
    let earlier = Source::quiet(images, to.place.clone());
    let results = earlier.results();
    for (layer, place) in results.iter().flat_map(|(table, place)| {
        table.layers().into_iter().map(move |layer| (layer.descriptor.digest.clone(), *place))
    }) {
        images.store.put_source(&layer, place)?;
    }
    let table = results.first().map_or_else(CacheTable::default, |(table, _)| (*table).clone());
    let mut packed = pack(images, &table, None)?;
    mounts::add(images, mounts, names, earlier.kept_mounts(), &mut packed)?;
    send(images, to, &packed, table.len())
}

fn send(images: &Images<'_>, to: &To, packed: &PackedTable, results: usize) -> Result<(), Failure> {
    match &to.place {
        Place::Registry(reference) => push(images, reference, packed, results),
        Place::Local(folder, tag) => save(images, folder, tag, packed, results),
        Place::Inline => Ok(()),
    }
}

/// What made the images' own layers.
fn of_images(heard: &CacheTable, outputs: &[BuildOutput]) -> CacheTable {
    let mut table = CacheTable::default();
    for output in outputs {
        table.add(heard.of_image(&output.config.rootfs.diff_ids));
    }
    table
}

/// The blobs of the images' layers, by diff id.
fn image_layers(images: &Images<'_>, built: &Built<'_>) -> Result<BTreeMap<Digest, Descriptor>, Failure> {
    let mut layers = BTreeMap::new();
    for output in built.outputs {
        let record = images.store.read_image(&output.image.manifest.digest)?;
        layers.extend(record.forms().map(|LayerForm { diff_id, descriptor }| (diff_id, descriptor)));
    }
    Ok(layers)
}

/// Puts a table into the store, from where it goes like any artifact.
fn pack(
    images: &Images<'_>,
    table: &CacheTable,
    subject: Option<Descriptor>,
) -> Result<PackedTable, Failure> {
    let packed = table.pack(subject).map_err(|error| Failure::of(&error).about("the cache"))?;
    let blobs = images.store.blobs();
    for bytes in [&packed.config_bytes, &packed.manifest_bytes] {
        blobs.put(bytes)?;
    }
    if packed.manifest.layers.iter().any(|layer| layer.media_type == EMPTY_TYPE) {
        blobs.put(EMPTY)?;
    }
    Ok(packed)
}

fn push(
    images: &Images<'_>,
    reference: &Reference,
    packed: &PackedTable,
    results: usize,
) -> Result<(), Failure> {
    let digest = Digest::sha256(&packed.manifest_bytes);
    let familiar = reference.familiar();
    if images.names(reference, &digest) {
        crate::show::note(format_args!("cache `{familiar}` has these {results} results already"));
        return Ok(());
    }
    let pushed = images.push(reference, &digest, None)?;
    crate::show::note(format_args!(
        "cache `{familiar}`: {results} results; of {} blobs {} sent, {} mounted, {} there before",
        packed.manifest.layers.len() + 1,
        pushed.uploaded,
        pushed.mounted,
        pushed.present
    ));
    Ok(())
}

/// Attaches what made an image to it, wherever it was pushed: its own digest stays.
fn attach(
    images: &Images<'_>,
    table: &CacheTable,
    output: &BuildOutput,
    pushed: &[Reference],
) -> Result<(), Failure> {
    if pushed.is_empty() {
        crate::show::note(
            "note: an inline cache goes with the image that is pushed; without --push there is none",
        );
        return Ok(());
    }
    let table = &table.of_image(&output.config.rootfs.diff_ids);
    let packed = pack(images, table, Some(output.image.manifest.clone()))?;
    let digest = Digest::sha256(&packed.manifest_bytes);
    for name in pushed {
        push(images, &remote::by_digest(name, &digest), &packed, table.len())?;
    }
    Ok(())
}

/// Adds a table to an OCI layout: blobs that are there stay, and the tag goes last.
fn save(
    images: &Images<'_>,
    folder: &Path,
    tag: &str,
    packed: &PackedTable,
    results: usize,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("--cache-to: cannot write `{}`: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let target = Blobs::open(&folder.join("blobs"), &folder.join(".slipway-tmp"))?;
    let mut entry = Descriptor::of(media_type::OCI_MANIFEST, &packed.manifest_bytes);
    entry.artifact_type.clone_from(&packed.manifest.artifact_type);
    let mut written = 0;
    for blob in packed.manifest.layers.iter().chain([&packed.manifest.config, &entry]) {
        if target.size(&blob.digest)? != Some(blob.size_bytes) {
            images.fetched(blob)?;
            target.copy_from(images.store.blobs().open_blob(&blob.digest)?, blob)?;
            written += 1;
        }
    }
    entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag.to_owned());
    layout::add_to_folder(folder, &[entry]).map_err(|error| Failure::of(&error))?;
    crate::show::note(format_args!(
        "cache `{}`: {results} results; of {} blobs {written} written",
        folder.display(),
        packed.manifest.layers.len() + 2
    ));
    Ok(())
}
