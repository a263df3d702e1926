//! Descriptors, manifests and indexes (image-spec `descriptor.md`, `manifest.md`, `image-index.md`).

use super::{keys, media_type, null_is_default};
use crate::{Digest, Platform, limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Points at content: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// Where non-distributable content lives.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Free-form annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Platform, in an index.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub platform: Option<Platform>,
    /// Type of the artifact, in an index.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without annotations.
    pub fn new(media_type: impl Into<String>, digest: Digest, size_bytes: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size_bytes,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }
}

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the manifest itself; may be absent in foreign ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub media_type: Option<String>,
    /// Type of an artifact that is not an image.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// Layers, the base first. Go's tools write `null` or nothing for none.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<Descriptor>,
    /// Free-form annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the index itself; may be absent in foreign ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub media_type: Option<String>,
    /// Type of an artifact.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_type: Option<String>,
    /// The manifests. Go's tools write `null` or nothing for none.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<Descriptor>,
    /// Free-form annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest that can be taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`limits::MANIFEST_BYTES`].
    #[error("the manifest has {0} bytes, more than the {max} that are taken", max = limits::MANIFEST_BYTES)]
    Large(u64),
    /// Not JSON of the shape.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Not text.
    #[error("the manifest is not valid: it is not UTF-8")]
    Text(#[source] std::str::Utf8Error),
    /// A media type that is neither image nor index.
    #[error("media type `{0}` is neither an image manifest nor an index")]
    MediaType(String),
    /// The body says another type than its header (CVE-2021-41190).
    #[error("the manifest was sent as `{header}` but calls itself `{body}`")]
    TypeMismatch {
        /// What the descriptor or header said.
        header: String,
        /// What the document says.
        body: String,
    },
    /// Both `layers` or `config` and `manifests` (CVE-2021-41190).
    #[error("the manifest is an image and an index at once")]
    Ambiguous,
    /// A key that Go's tools take for another one: they read keys without case, and see another document.
    #[error("the key `{0}` is written `{1}` in a manifest")]
    KeyCase(String, &'static str),
    /// Docker's schema 1.
    #[error(
        "the manifest has schema version {0}; only version 2 is supported: push the image again with a current tool"
    )]
    Schema(u64),
    /// More layers or entries than the cap.
    #[error("the manifest has {0} entries, more than the {1} that are taken")]
    Entries(usize, usize),
}

/// A manifest of either kind.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// One image or artifact.
    Manifest(Box<Manifest>),
    /// A list of manifests.
    Index(Box<Index>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "a manifest")]
struct Probe {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Parsed {
    /// Reads `bytes` that came as `media_type` (from a header or descriptor; `None` to go by the body alone).
    pub fn from_bytes(bytes: &[u8], media_type: Option<&str>) -> Result<Parsed, ManifestError> {
        if bytes.len() as u64 > limits::MANIFEST_BYTES {
            return Err(ManifestError::Large(bytes.len() as u64));
        }
        // serde_json looks at no text that it skips (found by `fuzz/manifest`); RFC 8259, section 8.1: JSON is UTF-8
        let bytes = std::str::from_utf8(bytes).map_err(ManifestError::Text)?.as_bytes();
        keys::check(bytes)?;
        let mut probe: Probe = serde_json::from_slice(bytes)?;
        // Go's tools write an empty text for none
        probe.media_type = probe.media_type.filter(|text| !text.is_empty());
        if probe.schema_version != 2 {
            return Err(ManifestError::Schema(probe.schema_version));
        }
        if probe.manifests.is_some() && (probe.layers.is_some() || probe.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        if let (Some(header), Some(body)) = (media_type, &probe.media_type)
            && header != body
        {
            return Err(ManifestError::TypeMismatch { header: header.to_owned(), body: body.clone() });
        }
        let shape = if probe.manifests.is_some() { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
        let kind = media_type.or(probe.media_type.as_deref()).unwrap_or(shape);
        if media_type::is_index(kind) {
            let index: Index = serde_json::from_slice(bytes)?;
            check_count(index.manifests.len(), limits::INDEX_ENTRIES)?;
            Ok(Parsed::Index(Box::new(index)))
        } else if media_type::is_manifest(kind) {
            let manifest: Manifest = serde_json::from_slice(bytes)?;
            check_count(manifest.layers.len(), limits::MANIFEST_LAYERS)?;
            Ok(Parsed::Manifest(Box::new(manifest)))
        } else {
            Err(ManifestError::MediaType(kind.to_owned()))
        }
    }

    /// The media type that the document is to be served as.
    pub fn media_type(&self) -> &str {
        match self {
            Parsed::Manifest(manifest) => said(&manifest.media_type).unwrap_or(media_type::OCI_MANIFEST),
            Parsed::Index(index) => said(&index.media_type).unwrap_or(media_type::OCI_INDEX),
        }
    }
}

impl Index {
    /// The first entry that runs on `platform`; an index without platforms answers its only entry.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let attestation = |entry: &&Descriptor| {
            entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
                || entry.artifact_type.is_some()
        };
        let matching = self
            .manifests
            .iter()
            .find(|entry| entry.platform.as_ref().is_some_and(|p| p.satisfies(platform)));
        matching.or_else(|| {
            let mut images = self.manifests.iter().filter(|entry| !attestation(entry));
            // a platform that names no architecture or system says as little as none
            let silent = |platform: &Platform| platform.architecture.is_empty() || platform.os.is_empty();
            images.next().filter(|only| only.platform.as_ref().is_none_or(silent) && images.next().is_none())
        })
    }
}

/// A media type that says something.
fn said(media_type: &Option<String>) -> Option<&str> {
    media_type.as_deref().filter(|text| !text.is_empty())
}

fn check_count(count: usize, most: usize) -> Result<(), ManifestError> {
    if count > most { Err(ManifestError::Entries(count, most)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_confusion_is_refused() {
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#;
        assert!(matches!(Parsed::from_bytes(both, None), Err(ManifestError::Ambiguous)));
        let index =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let error = Parsed::from_bytes(index, Some(media_type::OCI_MANIFEST));
        assert!(matches!(error, Err(ManifestError::TypeMismatch { .. })));
        assert!(matches!(Parsed::from_bytes(index, None), Ok(Parsed::Index(_))));
        assert!(matches!(Parsed::from_bytes(br#"{"schemaVersion":1}"#, None), Err(ManifestError::Schema(1))));
        assert!(Parsed::from_bytes(b"[", None).is_err());
    }

    #[test]
    fn null_means_nothing() {
        let digest = Digest::sha256(b"");
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","annotations":null,"layers":[],
                "config":{{"mediaType":"x","digest":"{digest}","size":0,"urls":null,"annotations":null,"platform":null}}}}"#,
            media_type::OCI_MANIFEST
        );
        assert!(matches!(Parsed::from_bytes(text.as_bytes(), None), Ok(Parsed::Manifest(_))));
    }

    #[test]
    fn go_tools_leave_lists_and_platforms_out() {
        let digest = Digest::sha256(b"");
        let config = format!(r#""config":{{"mediaType":"x","digest":"{digest}","size":0}}"#);
        let entry = |platform: &str| {
            format!(r#"[{{"mediaType":"x","digest":"{digest}","size":0,"platform":{platform}}}]"#)
        };
        for (body, header, image) in [
            (config.clone(), media_type::OCI_MANIFEST, true),
            (format!("{config},\"layers\":null"), media_type::OCI_MANIFEST, true),
            (format!("{config},\"layers\":null,\"manifests\":null"), media_type::OCI_MANIFEST, true),
            ("\"manifests\":null".to_owned(), media_type::OCI_INDEX, false),
            ("\"annotations\":null".to_owned(), media_type::OCI_INDEX, false),
            (format!("\"manifests\":{}", entry("{\"os\":\"linux\"}")), media_type::OCI_INDEX, false),
            (format!("\"manifests\":{}", entry("{\"architecture\":\"arm\"}")), media_type::OCI_INDEX, false),
            (format!("\"manifests\":{}", entry("{}")), media_type::OCI_INDEX, false),
            (format!("\"manifests\":{}", entry("null")), media_type::OCI_INDEX, false),
        ] {
            let text = format!("{{\"schemaVersion\":2,{body}}}");
            let parsed = Parsed::from_bytes(text.as_bytes(), Some(header)).expect(&text);
            assert_eq!(matches!(parsed, Parsed::Manifest(_)), image, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_no_manifest() {
        for unknown in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xe9t\xe9"] {
            let bytes = [b"{\"schemaVersion\":2,\"manifests\":[],\"x\":\"", unknown, b"\"}"].concat();
            assert!(matches!(Parsed::from_bytes(&bytes, None), Err(ManifestError::Text(_))), "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_media_type_is_none() {
        let text = r#"{"schemaVersion":2,"mediaType":"","manifests":[]}"#;
        for header in [Some(media_type::OCI_INDEX), Some(media_type::DOCKER_LIST), None] {
            let parsed = Parsed::from_bytes(text.as_bytes(), header).expect(text);
            assert!(matches!(parsed, Parsed::Index(_)), "{header:?}");
            assert_eq!(parsed.media_type(), media_type::OCI_INDEX);
        }
    }

    #[test]
    fn selects_by_platform() {
        let entry = |platform: Option<&str>, text: &str| {
            let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes());
            descriptor.platform = platform.map(|p| p.parse().expect("platform"));
            descriptor
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests: vec![entry(Some("linux/arm64"), "a"), entry(Some("linux/amd64"), "b")],
            subject: None,
            annotations: BTreeMap::new(),
        };
        let wanted = "linux/amd64".parse().expect("platform");
        assert_eq!(index.select(&wanted).map(|d| &d.digest), Some(&Digest::sha256(b"b")));
        assert!(index.select(&"linux/s390x".parse().expect("platform")).is_none());
    }
}
