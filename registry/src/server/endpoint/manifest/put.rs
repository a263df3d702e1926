//! `PUT /v2/N/manifests/R`: checks a manifest and stores its bytes as they came.

use crate::server::{
    access::{Action, Visitor},
    body::{self, Incoming},
    call::{Call, blocking},
    error::ApiError,
    precondition, reply,
    storage::{Kept, ManifestKey, ManifestRecord, NewManifest},
};
use crate::{limits, protocol};
use axum::{http::header, response::Response};
use slipway_oci::{
    Algorithm, Digest, Hasher,
    reference::is_tag,
    spec::{Parsed, media_type},
};

pub(in crate::server) async fn put(
    mut call: Call,
    name: String,
    reference: &str,
) -> Result<Response, ApiError> {
    let key = super::key(reference)?;
    let tags = tags(&call, &key)?;
    // of two types nobody knows which one whoever looked at the request before has seen
    let types = call.headers.get_all(header::CONTENT_TYPE).iter().count();
    let content_type = call.header(header::CONTENT_TYPE).filter(|_| types == 1).map(str::to_owned);
    let length = call.content_length();
    let storage = call.shared.storage.clone();
    let incoming = Incoming::new(&call.shared, std::mem::take(&mut call.body));
    let bytes = body::manifest(incoming, length).await?;
    let mut manifest = examine(&bytes.bytes, content_type.as_deref(), &key, tags)?;
    if call.shared.policy.current().is_sparse(&name) {
        manifest.required.iter_mut().for_each(|required| required.optional = true);
    }
    manifest.condition = precondition::read(&call.headers)?;
    manifest.kept = kept(&call.visitor, &name, &manifest.tags);
    let (digest, subject) = (manifest.record.digest.clone(), manifest.subject.clone());
    let shown = matches!(key, ManifestKey::Digest(_))
        .then(|| manifest.tags.join(", "))
        .filter(|tags| !tags.is_empty());
    let (repository, author) = (name.clone(), call.author());
    let put = blocking(move || storage.put_manifest(&repository, &manifest, &bytes.bytes, &author)).await;
    put.map_err(|error| precondition::veiled(error, &call.visitor, &name))?;
    let mut response = reply::created(&name, "manifests", &digest);
    if let Some(subject) = subject {
        reply::set(&mut response, protocol::SUBJECT_HEADER, &subject.to_string());
    }
    if let Some(tags) = shown {
        reply::set(&mut response, protocol::TAG_HEADER, &tags);
    }
    Ok(response)
}

/// The tags that this push moves: that of the path, or those of `?tag=` beside a digest.
fn tags(call: &Call, key: &ManifestKey) -> Result<Vec<String>, ApiError> {
    let mut asked: Vec<String> = Vec::new();
    for tag in call.query.all("tag") {
        // one that is named twice is moved once, and counted once
        if !asked.iter().any(|other| other == tag) {
            asked.push(tag.to_owned());
        }
        if asked.len() > limits::TAGS_PER_PUSH {
            return Err(ApiError::TagsMany);
        }
    }
    if let Some(wrong) = asked.iter().find(|tag| !is_tag(tag)) {
        return Err(ApiError::TagInvalid(wrong.chars().take(160).collect()));
    }
    match key {
        ManifestKey::Tag(_) if !asked.is_empty() => Err(ApiError::TagsWithTag),
        ManifestKey::Tag(tag) => Ok(vec![tag.clone()]),
        ManifestKey::Digest(_) => Ok(asked),
    }
}

/// Tags that must stay as they are where they are there; what is there is seen by the transaction alone (CVE-2026-31801).
fn kept(visitor: &Visitor, name: &str, tags: &[String]) -> Vec<(String, Kept)> {
    let foreign = !visitor.may(Action::Overwrite, name);
    let why = |tag: &String| match visitor.is_immutable(name, tag) {
        true => Some(Kept::Immutable),
        false => foreign.then_some(Kept::Foreign),
    };
    tags.iter().filter_map(|tag| Some((tag.clone(), why(tag)?))).collect()
}

/// Everything that can be said about a manifest without looking at the repository. Pure.
fn examine(
    bytes: &[u8],
    content_type: Option<&str>,
    key: &ManifestKey,
    tags: Vec<String>,
) -> Result<NewManifest, ApiError> {
    // parameters such as `charset` are no part of the type that is stored and answered
    let header = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let header = header.filter(|text| !text.is_empty()).ok_or(ApiError::ManifestTypeMissing)?;
    // RFC 9110, section 8.3.1: case does not count
    let header = header.to_ascii_lowercase();
    let header = header.as_str();
    if !media_type::is_manifest(header) && !media_type::is_index(header) {
        return Err(ApiError::ManifestType(header.chars().take(160).collect()));
    }
    let parsed = Parsed::from_bytes(bytes, Some(header))?;
    let digest = match key {
        ManifestKey::Digest(expected) => {
            let actual = digest(expected.algorithm(), bytes);
            if actual != *expected {
                return Err(ApiError::ManifestDigest { expected: expected.clone(), actual });
            }
            actual
        }
        ManifestKey::Tag(_) => digest(Algorithm::Sha256, bytes),
    };
    let record = ManifestRecord { digest, media_type: header.to_owned(), size_bytes: bytes.len() as u64 };
    let manifest = NewManifest::described(record, &parsed, tags);
    // SQLite and most clients count in signed 63 bits
    if let Some(required) = manifest.required.iter().find(|required| required.size_bytes > i64::MAX as u64) {
        return Err(ApiError::ManifestSize(required.digest.clone()));
    }
    Ok(manifest)
}

fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}
