//! The public keys of an issuer: a JWK set (RFC 7517), and what of it verifies signatures (RFC 7518, RFC 8037).
//!
//! The signatures are `ring`'s, as all of the house's. (`jsonwebtoken` would bring a second library for cryptography along:
//! aws-lc, which wants cmake, or the `rsa` crate, which leaks its timing.) A key is used with the algorithms of its own type
//! alone, so that no header turns a public key into a secret of HMAC.

use crate::limits;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

/// The algorithms that tokens may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// By RFC 7518's name; `None` for every other, `none` and those with secrets among them.
    pub(super) fn named(name: &str) -> Option<Algorithm> {
        Some(match name {
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            // RFC 9864 gives the second name to what the first one means here
            "EdDSA" | "Ed25519" => Algorithm::EdDsa,
            _ => return None,
        })
    }

    fn of_rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            _ => return None,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    id: String,
    /// The algorithm that it is for, where it says one.
    algorithm: Option<String>,
    material: Material,
}

impl PublicKey {
    /// Whether the signature is its own, by this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.as_deref().is_some_and(|own| Algorithm::named(own) != Some(algorithm)) {
            return false;
        }
        let plain = |kind: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(kind, key).verify(signed, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, _) => algorithm
                .of_rsa()
                .is_some_and(|kind| RsaPublicKeyComponents { n, e }.verify(kind, signed, signature).is_ok()),
            (Material::P256(point), Algorithm::Es256) => plain(&ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), Algorithm::Es384) => plain(&ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(key), Algorithm::EdDsa) => plain(&ED25519, key),
            _ => false,
        }
    }
}

/// Why a document is no set of keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// Not the form of RFC 7517, section 5.
    #[error("it is no set of keys, `{{\"keys\": [...]}}`")]
    Form,
    /// More than anybody has.
    #[error("it has more than {} keys", limits::ISSUER_KEYS)]
    Many,
    /// None that can be used.
    #[error("it has no key with an id that verifies signatures: RSA, P-256, P-384 or Ed25519")]
    Nothing,
}

/// All keys of an issuer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet(Vec<PublicKey>);

#[derive(Deserialize)]
struct SetJson {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct KeyJson {
    kid: String,
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys of other kinds and for other uses are passed over, as RFC 7517, section 5, has it.
    pub(super) fn parse(bytes: &[u8]) -> Result<KeySet, KeySetError> {
        let set: SetJson = serde_json::from_slice(bytes).map_err(|_| KeySetError::Form)?;
        if set.keys.len() > limits::ISSUER_KEYS {
            return Err(KeySetError::Many);
        }
        let keys: Vec<PublicKey> = set.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() { Err(KeySetError::Nothing) } else { Ok(KeySet(keys)) }
    }

    /// Whether a key of this id is there.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether the signature is that of a key of this id. Several of one id are of several kinds.
    pub(super) fn verifies(&self, id: &str, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.0.iter().any(|key| key.id == id && key.verifies(algorithm, signed, signature))
    }
}

fn key(value: serde_json::Value) -> Option<PublicKey> {
    let json: KeyJson = serde_json::from_value(value).ok()?;
    let verifies = json.key_ops.is_none_or(|all| all.iter().any(|one| one == "verify"));
    if json.usage.is_some_and(|usage| usage != "sig") || !verifies || json.kid.is_empty() {
        return None;
    }
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
    // an uncompressed point (SEC 1, section 2.3.3), whose halves have their full length (RFC 7518, section 6.2.1.2)
    let point = |x: Option<String>, y: Option<String>, length: usize| {
        let (x, y) = (bytes(x)?, bytes(y)?);
        let fits = x.len() == length && y.len() == length;
        fits.then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    };
    let material = match (json.kty.as_str(), json.crv.as_deref()) {
        ("RSA", _) => {
            let n = bytes(json.n)?;
            // some write the sign's zero, which ring does not take
            let n = n.iter().position(|byte| *byte != 0).map(|at| n[at..].to_vec())?;
            Material::Rsa { n, e: bytes(json.e)? }
        }
        ("EC", Some("P-256")) => Material::P256(point(json.x, json.y, 32)?),
        ("EC", Some("P-384")) => Material::P384(point(json.x, json.y, 48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(json.x).filter(|key| key.len() == 32)?),
        _ => return None,
    };
    Some(PublicKey { id: json.kid, algorithm: json.alg, material })
}
