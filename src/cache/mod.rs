//! Caches beyond the local store: where `--cache-from` finds results of other machines, and where `--cache-to` puts this
//! build's.
//!
//! The form is the builder's ([`CacheTable`]); what differs is how a table and its layers are had and kept: in a registry, in an
//! OCI layout, beside an image. Whatever is wrong with a cache that is read (not there, not reachable, damaged) is said, and costs
//! time: results are found elsewhere or made.

mod export;
mod import;
pub(crate) mod mounts;

use crate::{
    error::Failure,
    images::Images,
    request::cache::{From, To},
};
pub(crate) use export::write_caches;
pub(crate) use import::import_caches;
use slipway_builder::{BuildOutput, CacheSink, CacheSource, CacheTable, SourceError, StepResult};
use slipway_oci::{Digest, Platform, Reference};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// The caches of one build.
pub(crate) struct Caches<'a> {
    sources: Vec<import::Source<'a>>,
    to: Vec<To>,
    heard: Heard,
}

/// What a build is told to have led to.
#[derive(Default)]
struct Heard {
    results: Mutex<CacheTable>,
    /// Names of caches of RUN.
    caches: Mutex<BTreeSet<String>>,
}

impl CacheSink for Heard {
    fn note(&self, result: &StepResult<'_>) -> Result<(), SourceError> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).note(result);
        Ok(())
    }

    fn used_cache(&self, cache: &str) {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).insert(cache.to_owned());
    }
}

/// What was built, for the caches that are written.
pub(crate) struct Built<'a> {
    /// The builds, one for each platform.
    pub(crate) outputs: &'a [BuildOutput],
    /// Where the image was pushed to.
    pub(crate) pushed: &'a [Reference],
}

impl<'a> Caches<'a> {
    /// Nothing is asked or opened before a result is missing here.
    pub(crate) fn new(
        images: &'a Images<'a>,
        from: &[From],
        to: Vec<To>,
        platforms: &[Platform],
    ) -> Caches<'a> {
        let of = |platform: &Platform| {
            let one = |from: &From| import::Source::new(images, from.clone(), platform.clone());
            from.iter().map(one).collect::<Vec<_>>()
        };
        let sources = platforms.iter().flat_map(of).collect();
        Caches { sources, to, heard: Heard::default() }
    }

    /// Who is asked by the build for a platform, in the order that was given.
    pub(crate) fn sources(&self, platform: &Platform) -> Vec<&dyn CacheSource> {
        let own = self.sources.iter().filter(|source| source.is_for(platform));
        own.map(|source| source as &dyn CacheSource).collect()
    }

    /// Who hears.
    pub(crate) fn sinks(&self) -> Vec<&dyn CacheSink> {
        if self.to.is_empty() { Vec::new() } else { vec![&self.heard] }
    }

    /// Adds what is known of the contents of the layers that were heard of, here and in the sources that were read.
    fn add_contents(&self, images: &Images<'_>, heard: &mut CacheTable) -> Result<(), Failure> {
        let mut known = CacheTable::default();
        for layer in heard.layers() {
            for (key, step, description) in images.store.results_of(&layer.diff_id)? {
                let (step, description) = (step.as_str(), Some(description.as_str()));
                known.note(&StepResult { key: &key, layer: Some(layer), step, description });
            }
        }
        let layers: BTreeSet<Digest> = heard.layers().iter().map(|layer| layer.diff_id.clone()).collect();
        heard.add(known.contents_of(&layers));
        for table in self.sources.iter().flat_map(import::Source::read) {
            heard.add(table.contents_of(&layers));
        }
        Ok(())
    }

    /// Writes what was heard to every place.
    ///
    /// # Errors
    /// When one cannot be written whose failures are not to be passed over.
    pub(crate) fn write(&self, images: &Images<'_>, built: &Built<'_>) -> Result<(), Failure> {
        if self.to.is_empty() {
            return Ok(());
        }
        let mut heard = self.heard.results.lock().unwrap_or_else(PoisonError::into_inner);
        let caches = self.heard.caches.lock().unwrap_or_else(PoisonError::into_inner);
        self.add_contents(images, &mut heard)?;
        for to in &self.to {
            match export::write(images, to, (&heard, &caches), built) {
                Err(failure) if to.ignore_error => {
                    crate::show::note(format_args!(
                        "warning: the cache was not written: {}",
                        failure.words()
                    ));
                }
                other => other?,
            }
        }
        Ok(())
    }
}

/// What `build` says a layout's blob is called: where a layer of a cache in a folder can be had again.
pub(crate) fn layout_source(folder: &std::path::Path) -> String {
    format!("{LAYOUT}{}", folder.display())
}

const LAYOUT: &str = "oci-layout://";

/// Opens a blob that is said to be in a layout: nothing where `source` names none.
pub(crate) fn open_in_layout(source: &str, digest: &Digest) -> Option<std::io::Result<std::fs::File>> {
    let folder = source.strip_prefix(LAYOUT)?;
    let path = format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
    Some(import::open_within(std::path::Path::new(folder), &path))
}
