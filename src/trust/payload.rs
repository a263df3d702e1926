//! What is signed: cosign's simple signing, and the bundles of sigstore that its newer versions write.

use super::key::PublicKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use slipway_oci::{
    Descriptor, Digest,
    spec::{Manifest, media_type, to_json},
};

/// The media type of a simple signature's payload.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The type of the artifact in which such are attached to an image.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Beginning of the media types of sigstore's bundles.
pub(crate) const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle";
/// The signature of a layer's payload.
const ANNOTATION_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// `critical.type` that cosign writes; containers/image writes the other.
const TYPES: [&str; 2] = ["cosign container image signature", "atomic container signature"];
/// The type of what a bundle signs.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The kind of statement that says nothing but that somebody signs.
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Serialize, Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// A signature as it was found, believed by nobody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The bytes that are signed.
    pub(crate) signed: Vec<u8>,
    /// The signature.
    pub(crate) signature: Vec<u8>,
    /// What a bundle carries, of which the signed bytes are made.
    statement: Option<Vec<u8>>,
}

/// What a good signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Which manifest it is of.
    pub(crate) digest: Digest,
    /// What the image is called there; a bundle calls it nothing.
    pub(crate) reference: Option<String>,
}

/// The payload for an image under a name, as cosign writes it.
pub(crate) fn payload(reference: &str, digest: &Digest) -> Vec<u8> {
    let payload = Payload {
        critical: Critical {
            identity: Identity { reference: reference.to_owned() },
            image: Image { digest: digest.to_string() },
            kind: TYPES[0].to_owned(),
        },
        optional: None,
    };
    serde_json::to_vec(&payload).expect("texts are JSON")
}

/// A layer of a manifest of signatures.
pub(crate) fn layer(payload: &[u8], signature: &[u8]) -> Descriptor {
    let mut layer = Descriptor::of(PAYLOAD_TYPE, payload);
    layer.annotations.insert(ANNOTATION_SIGNATURE.to_owned(), STANDARD.encode(signature));
    layer
}

/// The manifest of signatures, with its configuration: an image whose layers they are, so that any registry takes it, or attached
/// to `subject`.
pub(crate) fn manifest(layers: Vec<Descriptor>, subject: Option<Descriptor>) -> (Manifest, Vec<u8>) {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let config = to_json(&serde_json::json!({
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "history": vec![serde_json::json!({ "created": "0001-01-01T00:00:00Z" }); layers.len()],
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "config": {},
    }));
    let kind = if subject.is_some() { ARTIFACT_TYPE } else { media_type::OCI_CONFIG };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: subject.is_some().then(|| ARTIFACT_TYPE.to_owned()),
        config: Descriptor::of(kind, &config),
        layers,
        subject,
        annotations: Default::default(),
    };
    (manifest, config)
}

impl Candidate {
    /// The signature that a layer of a manifest has, with the layer's bytes; `None` where it is none of a form that is known.
    pub(crate) fn of_layer(layer: &Descriptor, bytes: &[u8]) -> Option<Candidate> {
        if layer.media_type == PAYLOAD_TYPE {
            let signature = STANDARD.decode(layer.annotations.get(ANNOTATION_SIGNATURE)?).ok()?;
            return Some(Candidate { signed: bytes.to_vec(), signature, statement: None });
        }
        layer.media_type.starts_with(BUNDLE_TYPE).then(|| Candidate::of_bundle(bytes)).flatten()
    }

    /// A bundle's envelope (DSSE, `protocol.md`).
    fn of_bundle(bytes: &[u8]) -> Option<Candidate> {
        let bundle: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let envelope = bundle.get("dsseEnvelope")?;
        let kind = envelope.get("payloadType")?.as_str().filter(|kind| *kind == IN_TOTO)?;
        let statement = STANDARD.decode(envelope.get("payload")?.as_str()?).ok()?;
        let signature = STANDARD.decode(envelope.get("signatures")?.get(0)?.get("sig")?.as_str()?).ok()?;
        Some(Candidate { signed: authenticated(kind, &statement), signature, statement: Some(statement) })
    }

    /// What the signature says, if one of the keys has made it; with the key.
    pub(crate) fn verified<'a>(&self, keys: &'a [PublicKey]) -> Option<(Claim, &'a PublicKey)> {
        let key = keys.iter().find(|key| key.has_signed(&self.signed, &self.signature))?;
        let claim = match &self.statement {
            Some(statement) => of_statement(statement)?,
            None => of_payload(&self.signed)?,
        };
        Some((claim, key))
    }
}

/// The bytes that an envelope signs: "pre-authentication encoding".
fn authenticated(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn of_payload(bytes: &[u8]) -> Option<Claim> {
    let payload: Payload = serde_json::from_slice(bytes).ok()?;
    if !TYPES.contains(&payload.critical.kind.as_str()) {
        return None;
    }
    let digest = payload.critical.image.digest.parse().ok()?;
    Some(Claim { digest, reference: Some(payload.critical.identity.reference) })
}

fn of_statement(bytes: &[u8]) -> Option<Claim> {
    let statement: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    // who signs what an image is made of does not say that the image is to be run
    if statement.get("predicateType")?.as_str()? != SIGN {
        return None;
    }
    let [subject] = statement.get("subject")?.as_array()?.as_slice() else { return None };
    let hex = subject.get("digest")?.get("sha256")?.as_str()?;
    Some(Claim { digest: format!("sha256:{hex}").parse().ok()?, reference: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::key::PrivateKey;

    fn keys() -> (PrivateKey, Vec<PublicKey>) {
        let key = PrivateKey::read(include_str!("fixtures/cosign.key"), || Ok("pw".to_owned())).expect("key");
        let public = PublicKey::read(include_str!("fixtures/cosign.pub"), "k").expect("key");
        (key, vec![public])
    }

    fn read(manifest: &str) -> Manifest {
        serde_json::from_str(manifest).expect("manifest")
    }

    #[test]
    fn what_cosign_has_signed_is_verified() {
        let (_, keys) = keys();
        let signed: Digest = include_str!("fixtures/signed").trim().parse().expect("digest");
        let simple = include_bytes!("fixtures/simple.json");
        let layer = &read(include_str!("fixtures/simple.manifest.json")).layers[0];
        let (claim, _) = Candidate::of_layer(layer, simple).expect("one").verified(&keys).expect("good");
        assert_eq!(claim.digest, signed);
        assert!(claim.reference.is_some_and(|name| name.ends_with("/team/app")));
        let mut changed = simple.to_vec();
        let at = changed.len() - 3;
        changed[at] ^= 1;
        assert!(Candidate::of_layer(layer, &changed).expect("one").verified(&keys).is_none());
        assert!(Candidate::of_layer(layer, simple).expect("one").verified(&[]).is_none());

        let bundle = include_bytes!("fixtures/bundle.json");
        let layer = Descriptor::of("application/vnd.dev.sigstore.bundle.v0.3+json", bundle);
        let (claim, _) = Candidate::of_layer(&layer, bundle).expect("one").verified(&keys).expect("good");
        assert_eq!(claim, Claim { digest: signed, reference: None });
    }

    #[test]
    fn the_payload_and_the_manifest_are_those_of_cosign() {
        let digest: Digest = include_str!("fixtures/signed").trim().parse().expect("digest");
        let theirs = include_bytes!("fixtures/simple.json");
        let name = of_payload(theirs).and_then(|claim| claim.reference).expect("a name");
        assert_eq!(String::from_utf8_lossy(&payload(&name, &digest)), String::from_utf8_lossy(theirs));
        let theirs = read(include_str!("fixtures/simple.manifest.json"));
        let (ours, _) = manifest(theirs.layers.clone(), None);
        assert_eq!(
            (ours.config.media_type, ours.artifact_type),
            (theirs.config.media_type, theirs.artifact_type)
        );
    }

    #[test]
    fn who_signs_something_else_signs_no_image() {
        let (key, keys) = keys();
        for text in [
            "{}",
            r#"{"critical":{"identity":{"docker-reference":"a"},"image":{"docker-manifest-digest":"x"},"type":"cosign container image signature"}}"#,
            r#"{"critical":{"identity":{"docker-reference":"a"},"image":{"docker-manifest-digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"type":"other"}}"#,
        ] {
            let layer = layer(text.as_bytes(), &key.sign(text.as_bytes()).expect("signed"));
            let candidate = Candidate::of_layer(&layer, text.as_bytes()).expect("one");
            assert!(candidate.verified(&keys).is_none(), "{text}");
        }
        for kind in ["https://slsa.dev/provenance/v1", SIGN] {
            let digest = Digest::sha256(b"");
            let subject = serde_json::json!({ "name": "", "digest": { "sha256": digest.hex() } });
            let statement =
                serde_json::json!({ "subject": [subject], "predicateType": kind }).to_string().into_bytes();
            let signature = key.sign(&authenticated(IN_TOTO, &statement)).expect("signed");
            let bundle = serde_json::json!({ "dsseEnvelope": {
                "payloadType": IN_TOTO,
                "payload": STANDARD.encode(&statement),
                "signatures": [{ "sig": STANDARD.encode(signature) }],
            }});
            let bytes = bundle.to_string().into_bytes();
            let layer = Descriptor::of("application/vnd.dev.sigstore.bundle.v0.3+json", &bytes);
            let verified = Candidate::of_layer(&layer, &bytes).expect("one").verified(&keys);
            assert_eq!(verified.is_some(), kind == SIGN, "{kind}");
        }
    }
}
