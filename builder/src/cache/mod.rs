//! Where results of steps are found and told: the store, and what the caller puts beside it.
//!
//! The store comes first and is always there. A [`CacheSource`] is asked for what the store has not (`--cache-from`); what
//! it knows is written into the store, layer by name only: bytes are fetched when a step reads them, so that a build of
//! what is known moves none. A [`CacheSink`] hears of every result of the build, found or made (`--cache-to`).

mod table;

pub use table::{CACHE_CONFIG_TYPE, CACHE_TYPE, CacheTable, PackedTable, TableError, TableResult};

use crate::{SourceError, StepError};
use slipway_oci::{
    Digest,
    layer::LayerError,
    limits,
    store::{CacheEntry, CachedLayer, LayerForm, Store},
};
use std::path::Path;

/// Knows results of steps that other builds made, elsewhere.
pub trait CacheSource: Sync {
    /// What `key` led to. A source that cannot answer and is no reason to fail answers nothing.
    fn find(&self, key: &Digest) -> Result<Option<FoundResult>, SourceError>;

    /// Fills the empty `folder` with the contents of a cache of `RUN --mount=type=cache` that the store has not, and answers the
    /// record of what it has seen; `cache` is its name in stores. Where that fails, the folder is empty again.
    fn fill_cache(&self, cache: &str, folder: &Path) -> Option<Vec<u8>> {
        let _ = (cache, folder);
        None
    }
}

/// What a source knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundResult {
    /// The layer; `None` where the step changed nothing.
    pub layer: Option<LayerForm>,
    /// Who has the layer's blob, registry and path: [`ImageSource::fetch`](crate::ImageSource::fetch) gets it from there
    /// when a step reads it.
    pub repositories: Vec<String>,
}

/// Hears of results.
pub trait CacheSink: Sync {
    /// Takes one result; the same one may come again.
    fn note(&self, result: &StepResult<'_>) -> Result<(), SourceError>;

    /// Hears that a step has used a cache of `RUN --mount=type=cache`; `cache` is its name in the store.
    fn used_cache(&self, cache: &str) {
        let _ = cache;
    }
}

/// What a key led to.
#[derive(Clone, Copy, Debug)]
pub struct StepResult<'a> {
    /// The key.
    pub key: &'a Digest,
    /// The layer; `None` where the step changed nothing.
    pub layer: Option<&'a LayerForm>,
    /// The step, for people.
    pub step: &'a str,
    /// What the key is a digest of, as JSON ([`StepDescription`](crate::StepDescription)), where that is known.
    pub description: Option<&'a str>,
}

/// The caches of one build, in the order in which they are asked.
#[derive(Clone, Copy)]
pub(crate) struct Caches<'a> {
    pub(crate) store: &'a Store,
    pub(crate) sources: &'a [&'a dyn CacheSource],
    pub(crate) sinks: &'a [&'a dyn CacheSink],
}

impl Caches<'_> {
    /// What `key` led to; `step` and `description` are what is written down of a result from elsewhere.
    pub(crate) fn find(
        &self,
        key: &Digest,
        step: &str,
        description: Option<&str>,
    ) -> Result<Option<Option<LayerForm>>, StepError> {
        let layer = match self.store.cached(key)? {
            Some(CachedLayer::Nothing) => None,
            Some(CachedLayer::Layer(form)) => Some(*form),
            None => {
                let Some(FoundResult { layer, repositories }) = self.elsewhere(key)? else { return Ok(None) };
                let layer = layer.map(|form| self.adopt(form, &repositories)).transpose()?;
                self.keep(&StepResult { key, layer: layer.as_ref(), step, description })?;
                layer
            }
        };
        self.tell(&StepResult { key, layer: layer.as_ref(), step, description })?;
        Ok(Some(layer))
    }

    /// Writes down a layer that somebody else told of. Of one that is here they have nothing to tell: the bytes that are here
    /// were checked.
    fn adopt(&self, form: LayerForm, repositories: &[String]) -> Result<LayerForm, StepError> {
        for own in self.store.layer_forms(&form.diff_id)? {
            if self.store.blobs().contains(&own.descriptor.digest).map_err(LayerError::from)? {
                return Ok(own);
            }
        }
        self.store.put_form(&form, 0)?;
        let digest = &form.descriptor.digest;
        repositories.iter().try_for_each(|repository| self.store.put_source(digest, repository))?;
        Ok(form)
    }

    fn elsewhere(&self, key: &Digest) -> Result<Option<FoundResult>, StepError> {
        for source in self.sources {
            if let Some(found) = source.find(key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps what was made. The layer's blob must be in the store already.
    pub(crate) fn put(&self, result: &StepResult<'_>) -> Result<(), StepError> {
        self.keep(result)?;
        self.tell(result)
    }

    fn keep(&self, result: &StepResult<'_>) -> Result<(), StepError> {
        let diff_id = result.layer.map(|form| &form.diff_id);
        let description = result.description.filter(|json| json.len() <= limits::DESCRIPTION_BYTES);
        Ok(self.store.put_cached(&CacheEntry { key: result.key, diff_id, step: result.step, description })?)
    }

    fn tell(&self, result: &StepResult<'_>) -> Result<(), StepError> {
        Ok(self.sinks.iter().try_for_each(|sink| sink.note(result))?)
    }
}
