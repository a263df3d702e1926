//! What is said of images that were built: made when they are, kept beside them, and sent and written with them.

use super::{Job, exports::Made};
use crate::{app::App, error::Failure, packages, request::attest::Provenance as Wanted};
use slipway_builder::{
    BuildOutput, BuildRequest, BuiltImage,
    attest::{ANNOTATION_PREDICATE, PROVENANCE_TYPE, Provenance, Vcs, attestation, image_uri},
    epoch::Epoch,
    history::BuildRecord,
};
use slipway_oci::{Descriptor, Digest, spec::rfc3339};
use std::collections::BTreeMap;

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// What was attached to which images.
#[derive(Debug, Default)]
pub(super) struct Attached {
    by_image: BTreeMap<Digest, Vec<Digest>>,
    provenance: BTreeMap<String, serde_json::Value>,
}

impl Attached {
    /// What is attached to these images, each once.
    pub(super) fn of<'a>(&self, images: impl Iterator<Item = &'a BuiltImage>) -> Vec<Digest> {
        let mut all: Vec<Digest> = Vec::new();
        for digest in images.filter_map(|image| self.by_image.get(&image.manifest.digest)).flatten() {
            if !all.contains(digest) {
                all.push(digest.clone());
            }
        }
        all
    }

    /// Where the images come from, by platform.
    pub(super) fn provenance(&self) -> impl Iterator<Item = (&String, &serde_json::Value)> {
        self.provenance.iter()
    }
}

/// Builds that ended, and what is to be said of them.
pub(super) struct Said<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) outputs: &'a [BuildOutput],
    pub(super) made: &'a [Made],
    /// When they began and ended, in seconds since 1970.
    pub(super) times: (i64, i64),
}

impl Said<'_> {
    /// Says it: the statements are in the store, attached to those images that are registered there.
    ///
    /// # Errors
    /// When a statement cannot be made or kept.
    pub(super) fn attach(&self, app: &App) -> Result<Attached, Failure> {
        let mut attached = Attached::default();
        let wanted = &self.job.attestations;
        if wanted.is_empty() {
            return Ok(attached);
        }
        let records = self.job.trace.records();
        for (at, (output, made)) in self.outputs.iter().zip(self.made).enumerate() {
            let names = self.job.exports.all_names();
            let names: Vec<String> = names.iter().map(|name| image_uri(name, &made.platform)).collect();
            let provenance = match (&wanted.provenance, records.get(at)) {
                (Some(wanted), Some(record)) => Some(self.provenance(wanted, output, record, made)),
                _ => None,
            };
            let mut seen: Vec<&Digest> = Vec::new();
            for image in made.images.values() {
                if seen.contains(&&image.manifest.digest) {
                    continue;
                }
                seen.push(&image.manifest.digest);
                let mut all = Vec::new();
                if let Some(predicate) = &provenance {
                    all.push(keep(app, &image.manifest, &names, PROVENANCE_TYPE, predicate)?);
                }
                if let Some(format) = wanted.packages {
                    let created = output.config.created_seconds().unwrap_or(0);
                    let record = app.store.read_image(&image.manifest.digest)?;
                    let list = packages::list(&self.job.images, &record)?;
                    let called = names.first().map(String::as_str);
                    let document =
                        packages::document(&list, format, &record, called, &rfc3339::format(created));
                    let kind = packages::predicate_type(format);
                    all.push(keep(app, &image.manifest, &names, kind, &document)?);
                }
                attached.by_image.insert(image.manifest.digest.clone(), all);
            }
            attached.provenance.extend(provenance.map(|it| (made.platform.to_string(), it)));
        }
        Ok(attached)
    }

    fn provenance(
        &self,
        wanted: &Wanted,
        output: &BuildOutput,
        record: &BuildRecord,
        made: &Made,
    ) -> serde_json::Value {
        let context = &self.job.context;
        let request = BuildRequest { platform: made.platform.clone(), ..self.job.request.clone() };
        let (times, invocation) = match request.epoch {
            // the same twice is the same
            Epoch::Given(seconds) => ((seconds, seconds), None),
            _ => (self.times, output.build.as_deref()),
        };
        let mut materials = output.materials.clone();
        materials.extend(context.fetched.clone());
        let vcs = match &context.source {
            None => context.head().map(|revision| Vcs { source: None, revision }),
            Some(_) => None,
        };
        Provenance {
            mode: wanted.mode,
            builder_id: wanted.builder_id.as_deref(),
            reproducible: wanted.reproducible,
            version: env!("CARGO_PKG_VERSION"),
            request: &request,
            record,
            materials: &materials,
            source: context.source.as_ref().map(|(url, commit)| (url.as_str(), commit.as_str())),
            vcs: vcs.as_ref(),
            times,
            invocation,
        }
        .predicate()
    }
}

/// Keeps a statement, attached to its image where that is registered, in the place of an earlier one of its kind.
fn keep(
    app: &App,
    image: &Descriptor,
    names: &[String],
    kind: &str,
    predicate: &serde_json::Value,
) -> Result<Digest, Failure> {
    let made = attestation(image, names, kind, predicate);
    let blobs = app.store.blobs();
    blobs.put(made.config)?;
    blobs.put(&made.statement)?;
    let digest = blobs.put(&made.manifest)?;
    if app.store.manifest_kind(&image.digest)?.is_some() {
        let earlier = app.store.referrers(&image.digest)?.into_iter().map(|one| one.descriptor);
        let same = |one: &Descriptor| one.annotations.get(ANNOTATION_PREDICATE).is_some_and(|it| it == kind);
        let replaced: Vec<Digest> = earlier.filter(same).map(|one| one.digest).collect();
        app.store.put_referrer(&digest, &replaced)?;
    }
    Ok(digest)
}
