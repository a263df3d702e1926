//! Statements in in-toto's form, and the artifacts that carry them.

use serde_json::{Value, json};
use slipway_oci::{
    Descriptor, Platform, Reference,
    artifact::{EMPTY, EMPTY_TYPE},
    spec::{Manifest, media_type, to_json},
};

/// The media type of a statement, and the type of the artifact that carries it.
pub const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
/// Says of a layer and its manifest what the statement says (BuildKit, `docs/attestations/attestation-storage.md`).
pub const ANNOTATION_PREDICATE: &str = "in-toto.io/predicate-type";
/// `_type` of a statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// An artifact with a statement, to be kept: each of the three is a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Its configuration.
    pub config: &'static [u8],
    /// The statement.
    pub statement: Vec<u8>,
}

/// Package URL of an image (purl-spec, type `docker`), without a digest of its own.
pub fn image_uri(name: &Reference, platform: &Platform) -> String {
    let tag = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
    let mut qualifiers = Vec::new();
    if let Some(digest) = name.digest() {
        qualifiers.push(format!("digest={digest}"));
    }
    qualifiers.push(format!("platform={}", platform.to_string().replace('/', "%2F")));
    format!("pkg:docker/{}{tag}?{}", name.familiar_name().replace(':', "%3A"), qualifiers.join("&"))
}

/// The artifact with a statement of this kind about an image, under what it is called.
pub fn attestation(
    subject: &Descriptor,
    names: &[String],
    predicate_type: &str,
    predicate: &Value,
) -> Attestation {
    let digest = json!({ subject.digest.algorithm().name(): subject.digest.hex() });
    let one = |name: &str| json!({ "name": name, "digest": digest });
    let subjects: Vec<Value> = match names {
        [] => vec![one("_")],
        names => names.iter().map(|name| one(name)).collect(),
    };
    let statement = json!({
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": predicate_type,
        "predicate": predicate,
    });
    let statement = to_json(&statement);
    let mut layer = Descriptor::of(STATEMENT_TYPE, &statement);
    layer.annotations.insert(ANNOTATION_PREDICATE.to_owned(), predicate_type.to_owned());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: Some(STATEMENT_TYPE.to_owned()),
        config: Descriptor::of(EMPTY_TYPE, EMPTY),
        annotations: layer.annotations.clone(),
        layers: vec![layer],
        // what an index says of it beside is not the manifest's
        subject: Some(Descriptor::new(
            subject.media_type.clone(),
            subject.digest.clone(),
            subject.size_bytes,
        )),
    };
    Attestation { manifest: to_json(&manifest), config: EMPTY, statement }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_package_url() {
        let uri =
            |name: &str| image_uri(&name.parse().expect("name"), &"linux/arm/v7".parse().expect("platform"));
        assert_eq!(uri("alpine:3.17"), "pkg:docker/alpine@3.17?platform=linux%2Farm%2Fv7");
        assert_eq!(uri("host:5000/a/b:1"), "pkg:docker/host%3A5000/a/b@1?platform=linux%2Farm%2Fv7");
        let digest = slipway_oci::Digest::sha256(b"");
        assert!(uri(&format!("a@{digest}")).starts_with(&format!("pkg:docker/a?digest={digest}&platform=")));
    }

    #[test]
    fn the_artifact_names_its_subject_and_its_kind() {
        let subject = Descriptor::of(media_type::OCI_MANIFEST, b"x");
        let made = attestation(&subject, &[], "https://example.com/kind", &json!({ "a": 1 }));
        let manifest: Manifest = serde_json::from_slice(&made.manifest).expect("manifest");
        assert_eq!(manifest.subject, Some(subject.clone()));
        assert_eq!(manifest.artifact_type.as_deref(), Some(STATEMENT_TYPE));
        assert_eq!(manifest.layers[0].digest, slipway_oci::Digest::sha256(&made.statement));
        let statement: Value = serde_json::from_slice(&made.statement).expect("statement");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], subject.digest.hex());
        assert_eq!(statement["predicate"], json!({ "a": 1 }));
        assert_eq!(made, attestation(&subject, &[], "https://example.com/kind", &json!({ "a": 1 })));
    }
}
