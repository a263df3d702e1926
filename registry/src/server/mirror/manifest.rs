//! `GET` and `HEAD /v2/N/manifests/R` in a mirror: brought here first, then answered from here.
//!
//! What lies under a digest never changes and is asked for once. A tag is believed for a while, then upstream is asked what it
//! stands for, by HEAD, which registries do not count as a pull. What an index names is fetched when somebody asks for it.

use super::{
    At, Trouble,
    errand::{self, Sent},
};
use crate::server::{
    call::{Call, Shared, blocking},
    endpoint::manifest::{get as local, key},
    error::ApiError,
    event::Event,
    reply,
    storage::{Author, ManifestKey, ManifestRecord, NewManifest, Storage, StorageError},
    upstreams::Passing,
};
use axum::{
    http::{Method, header},
    response::Response,
};
use slipway_oci::{Descriptor, Digest, spec::Parsed};
use std::{sync::Arc, time::Duration};

pub(in crate::server) async fn get(call: Call, at: At, reference: &str) -> Result<Response, ApiError> {
    let key = key(reference)?;
    let fixed = match &key {
        ManifestKey::Digest(_) => true,
        ManifestKey::Tag(tag) => {
            call.visitor.is_immutable(&at.local, tag) || at.source.is_fresh(&at.local, tag)
        }
    };
    let known = known(&call.shared, &at, &key).await?;
    call.shared.metrics.mirror(fixed && known.is_some());
    let brought = match &known {
        Some(_) if fixed => Ok(None),
        known => bring(&call.shared, &at, &key, known.as_ref().map(|known| known.digest.clone())).await,
    };
    let trouble = match brought {
        Ok(Some(passing)) => return Ok(hand_on(&call, &key, &passing)),
        Ok(None) => None,
        Err(trouble) => Some(trouble),
    };
    match trouble {
        Some(trouble) if known.is_none() || !trouble.passes() => Err(at.manifest_error(trouble, reference)),
        trouble => {
            let mut response = local::get(call, at.local, reference).await?;
            if let Some(trouble) = trouble {
                reply::set(&mut response, header::WARNING, &stale(&trouble));
            }
            Ok(response)
        }
    }
}

/// Answers with what upstream has sent and a quota left no room for.
fn hand_on(call: &Call, key: &ManifestKey, passing: &Passing) -> Response {
    let unchanged = reply::not_modified(&call.headers, &passing.record.digest);
    let bytes = (call.method != Method::HEAD).then(|| passing.bytes.clone());
    local::respond(&passing.record, local::cached(key), unchanged, bytes)
}

/// What is said with something that may be older than upstream's (distribution specification, "Warnings": code 299 alone).
pub(super) fn stale(trouble: &Trouble) -> String {
    let why = match trouble {
        Trouble::Often { .. } => "takes no more requests for now",
        Trouble::Away { .. } => "does not answer",
        _ => "cannot be asked",
    };
    format!("299 - \"the upstream of this mirror {why}: this may be out of date\"")
}

async fn known(shared: &Arc<Shared>, at: &At, key: &ManifestKey) -> Result<Option<ManifestRecord>, ApiError> {
    let (storage, name, key) = (Arc::clone(&shared.storage), at.local.clone(), key.clone());
    blocking(move || match storage.manifest(&name, &key) {
        Err(StorageError::ManifestUnknown(_) | StorageError::RepositoryUnknown(_)) => Ok(None),
        other => other.map(Some),
    })
    .await
}

/// Sees to it that what is here is what upstream has, once for all who ask.
async fn bring(
    shared: &Arc<Shared>,
    at: &At,
    key: &ManifestKey,
    known: Option<Digest>,
) -> Result<Option<Arc<Passing>>, Trouble> {
    let (shared, own, key) = (Arc::clone(shared), at.clone(), key.clone());
    at.source
        .manifests
        .join((at.local.clone(), key.to_string()), move |flight| {
            drop(tokio::spawn(async move {
                let brought = for_all(&shared, &own, &key, known).await;
                if let Err(trouble) = &brought
                    && !matches!(trouble, Trouble::Absent)
                {
                    let operation = format!("fetch `{key}` of `{}`", own.local);
                    shared.tell(&Event::Failure { operation: &operation, error: trouble });
                }
                flight.tell(brought);
            }));
        })
        .await
}

/// Fetches, where no other replica is at it or has just done it.
async fn for_all(
    shared: &Arc<Shared>,
    at: &At,
    key: &ManifestKey,
    known: Option<Digest>,
) -> Result<Option<Arc<Passing>>, Trouble> {
    let what = format!("manifest {} {key}", at.local);
    let sent = match (key, &known) {
        (ManifestKey::Tag(tag), Some(_)) => {
            let fresh = at.source.fresh_for(&at.local, tag);
            errand::check(shared, &what, fresh, |age| at.source.check(&at.local, tag, age)).await?
        }
        _ => {
            let (name, key) = (at.local.clone(), key.clone());
            let is_here = move |storage: &Storage| match storage.manifest(&name, &key) {
                Err(StorageError::ManifestUnknown(_) | StorageError::RepositoryUnknown(_)) => Ok(false),
                other => other.map(|_| true),
            };
            errand::bring(shared, &what, is_here).await?
        }
    };
    let Sent::Mine(mine) = sent else { return Ok(None) };
    let brought = fetch(shared, at, key, known).await;
    mine.end(brought.is_ok()).await;
    brought
}

async fn fetch(
    shared: &Arc<Shared>,
    at: &At,
    key: &ManifestKey,
    known: Option<Digest>,
) -> Result<Option<Arc<Passing>>, Trouble> {
    let source = &at.source;
    let _turn = source.turn(&shared.fetches).await?;
    let (tag, digest) = match key {
        ManifestKey::Tag(tag) => (Some(tag.as_str()), None),
        ManifestKey::Digest(digest) => (None, Some(digest)),
    };
    if let (Some(tag), Some(known)) = (tag, known) {
        let what = ("resolve tag", tag);
        let found = at.ask(what, async |upstream| upstream.resolve(&at.remote, tag).await).await?;
        if found.digest == known {
            source.check(&at.local, tag, Duration::ZERO);
            return Ok(None);
        }
    }
    let what = ("fetch manifest", &*key.to_string());
    let asked = at.ask(what, async |upstream| upstream.manifest(&at.remote, tag, digest).await);
    let (descriptor, bytes) = asked.await?;
    let manifest = taken(descriptor, &bytes, tag)?;
    let (storage, local) = (Arc::clone(&shared.storage), at.local.clone());
    let author = Author { who: None, origin: Some(format!("mirror {}", source.name)) };
    let passing = Passing { record: manifest.record.clone(), bytes: bytes.into() };
    let kept = passing.bytes.clone();
    match blocking(move || storage.put_manifest(&local, &manifest, &kept, &author)).await {
        Ok(()) => {}
        Err(ApiError::Storage(error @ StorageError::OverQuota(_))) => {
            let operation = format!("keep `{key}` of `{}`", at.local);
            shared.tell(&Event::Failure { operation: &operation, error: &error });
            return Ok(Some(Arc::new(passing)));
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(tag) = tag {
        source.check(&at.local, tag, Duration::ZERO);
    }
    Ok(None)
}

/// As it is stored: nothing that it names needs to be here.
fn taken(descriptor: Descriptor, bytes: &[u8], tag: Option<&str>) -> Result<NewManifest, Trouble> {
    let wrong = |why: String| Trouble::Wrong { why: why.into() };
    let parsed =
        Parsed::from_bytes(bytes, Some(&descriptor.media_type)).map_err(|error| wrong(error.to_string()))?;
    let Descriptor { media_type, digest, size_bytes, .. } = descriptor;
    let record = ManifestRecord { digest, media_type, size_bytes };
    let mut manifest = NewManifest::described(record, &parsed, tag.map(str::to_owned).into_iter().collect());
    if manifest.required.iter().any(|required| required.size_bytes > i64::MAX as u64) {
        return Err(wrong("a size beyond all bounds".to_owned()));
    }
    manifest.required.iter_mut().for_each(|required| required.optional = true);
    Ok(manifest)
}
