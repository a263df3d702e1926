//! Results of earlier builds whose layers cannot be had any more, or are not what was said of them.
//!
//! A cached result is known by name until a step reads it: its registry may have forgotten the layer since, or whoever wrote
//! the cache lied. Such a result is none. The build forgets it, passes over whatever says it again, and begins anew, so that
//! it costs the time of the step and never a wrong image; layers of base images are no results, and their loss is an error.
//! Whoever said of a layer that it is one that it is not is not believed in anything else either.

use crate::{BuildError, CacheSource, FoundResult, SourceError, StepError, limits};
use slipway_oci::{
    Digest,
    blobs::BlobError,
    layer::LayerError,
    store::{LayerForm, Store, StoreError},
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Layers that a step needed and that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct LostLayers {
    /// Which.
    pub layers: Vec<LayerForm>,
    /// Whether their bytes came, and are those of other layers.
    pub is_false: bool,
    /// Why.
    pub source: Box<StepError>,
}

/// The failure of getting `layers`, as a loss where it is one: a full disk and a build that is given up are not.
pub(crate) fn lost(layers: &[LayerForm], error: impl Into<StepError>) -> StepError {
    let error = error.into();
    if matches!(error, StepError::Cancelled) || slipway_oci::file::is_full(&error) {
        return error;
    }
    StepError::Lost(LostLayers { layers: layers.to_vec(), is_false: false, source: Box::new(error) })
}

/// The failure of a layer whose bytes came, as a loss where they turn out not to be those of the layer.
pub(crate) fn lost_if_false(layer: &LayerForm, error: StoreError) -> StepError {
    if !is_false(&error) {
        return error.into();
    }
    StepError::Lost(LostLayers {
        layers: vec![layer.clone()],
        is_false: true,
        source: Box::new(error.into()),
    })
}

fn is_false(error: &StoreError) -> bool {
    match error {
        StoreError::Layer(LayerError::Blob(BlobError::DigestMismatch { .. })) => true,
        StoreError::Layer(LayerError::Archive(_) | LayerError::Blob(_)) => !error.is_full(),
        _ => false,
    }
}

/// What was lost, if that is what ended a build.
fn of(error: &StepError) -> Option<&LostLayers> {
    match error {
        StepError::Lost(lost) => Some(lost),
        StepError::Shared(shared) => of(shared),
        StepError::NearStage { error, .. } => of(error),
        _ => None,
    }
}

/// What one build has found to be lost, and what it took over from whom.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    blobs: BTreeSet<Digest>,
    /// Sources, by their number, that said of a layer what it was not: nothing that they say counts any more.
    liars: BTreeSet<usize>,
    taken: Mutex<Vec<Taken>>,
}

/// A result that a source gave.
#[derive(Debug)]
struct Taken {
    source: usize,
    key: Digest,
    blob: Option<Digest>,
}

impl Losses {
    /// Forgets the results whose loss ended a build, and answers what to say of it; `None` where the build is over.
    pub(crate) fn forget(&mut self, store: &Store, error: &BuildError) -> Result<Option<String>, StoreError> {
        let BuildError::Step(at) = error else { return Ok(None) };
        let Some(lost) = of(&at.error).filter(|_| self.blobs.len() < limits::LOST_LAYERS) else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for layer in &lost.layers {
            if store.forget_result(layer)? > 0 {
                self.blobs.insert(layer.descriptor.digest.clone());
                names.push(layer.diff_id.short());
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        let why = slipway_oci::error::chain(lost.source.as_ref());
        let mut words =
            format!("the cached layer {} cannot be used, and is made again: {why}", names.join(", "));
        if lost.is_false && self.distrust(store, lost)? {
            words.push_str("; its cache is not asked any more, and what it said is forgotten");
        }
        Ok(Some(words))
    }

    /// Forgets all that those said who said this; whether there was anybody.
    fn distrust(&mut self, store: &Store, lost: &LostLayers) -> Result<bool, StoreError> {
        let taken = self.taken.get_mut().unwrap_or_else(PoisonError::into_inner);
        let is_of = |blob: &Option<Digest>| {
            lost.layers.iter().any(|layer| blob.as_ref() == Some(&layer.descriptor.digest))
        };
        let liars: BTreeSet<usize> =
            taken.iter().filter(|one| is_of(&one.blob)).map(|one| one.source).collect();
        let said: Vec<&Digest> =
            taken.iter().filter(|one| liars.contains(&one.source)).map(|one| &one.key).collect();
        store.forget_keys(&said)?;
        self.liars.extend(&liars);
        Ok(!liars.is_empty())
    }

    /// The sources that are still believed, of which it is noted what they give.
    pub(crate) fn without<'a>(&'a self, sources: &[&'a dyn CacheSource]) -> Vec<Without<'a>> {
        let all = sources.iter().enumerate().filter(|(number, _)| !self.liars.contains(number));
        all.map(|(number, source)| Without { number, source: *source, losses: self }).collect()
    }
}

/// A source that does not say again what is lost.
pub(crate) struct Without<'a> {
    number: usize,
    source: &'a dyn CacheSource,
    losses: &'a Losses,
}

impl CacheSource for Without<'_> {
    fn find(&self, key: &Digest) -> Result<Option<FoundResult>, SourceError> {
        let Some(found) = self.source.find(key)? else { return Ok(None) };
        let blob = found.layer.as_ref().map(|layer| layer.descriptor.digest.clone());
        if blob.as_ref().is_some_and(|blob| self.losses.blobs.contains(blob)) {
            return Ok(None);
        }
        let taken = Taken { source: self.number, key: key.clone(), blob };
        self.losses.taken.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        Ok(Some(found))
    }

    fn fill_cache(&self, cache: &str, folder: &Path) -> Option<Vec<u8>> {
        self.source.fill_cache(cache, folder)
    }
}
