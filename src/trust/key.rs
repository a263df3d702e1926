//! Keys: cosign's pairs (P-256, the private one under a password), plain PKCS #8, and public keys of the kinds that cosign takes.
//!
//! cosign's private key is a PEM block around JSON: scrypt's parameters, the nonce and the ciphertext of NaCl's secretbox over PKCS #8
//! (go-securesystemslib, `encrypted`). A key that somebody gives may ask for any amount of work: there is a cap.

use crate::error::Failure;
use base64::{Engine, engine::general_purpose::STANDARD};
use crypto_secretbox::{KeyInit, XSalsa20Poly1305, aead::Aead};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use x509_cert::{der::Decode, spki::SubjectPublicKeyInfoRef};

/// Largest file with a key, in bytes.
pub(crate) const KEY_BYTES: u64 = 64 << 10;
/// Most memory that scrypt may take, in bytes: four times what cosign's own keys take.
const SCRYPT_BYTES: u64 = 256 << 20;
/// The PEM blocks of private keys that are encrypted as cosign's, by its name today and before.
const ENCRYPTED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
const PLAIN: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// P-256's SubjectPublicKeyInfo up to the point (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The kinds of keys, by the object identifiers of their algorithm and curve (RFC 5480, 8017, 8410).
const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const RSA: &str = "1.2.840.113549.1.1.1";
const ED25519: &str = "1.3.101.112";

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// A key that signs.
pub(crate) struct PrivateKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

/// A key that signatures are checked with.
#[derive(Clone)]
pub(crate) struct PublicKey {
    algorithm: &'static dyn signature::VerificationAlgorithm,
    bytes: Vec<u8>,
    /// What it is called in words: the file, or its digest.
    pub(crate) name: String,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, into: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(into, "PublicKey({})", self.name)
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.as_bytes()).ok()
}

/// The first PEM block of a text: its label and content.
fn pem(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    Some((label, decoded(&body.split_whitespace().collect::<String>())?))
}

fn to_pem(label: &str, content: &[u8]) -> String {
    let text = STANDARD.encode(content);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        let _ = writeln!(out, "{}", String::from_utf8_lossy(line));
    }
    let _ = writeln!(out, "-----END {label}-----");
    out
}

/// The key that a password gives.
fn derived(password: &str, salt: &[u8], params: &Params) -> Result<[u8; 32], Failure> {
    let work = params.n.saturating_mul(u64::from(params.r)).saturating_mul(128);
    if !params.n.is_power_of_two() || params.n < 2 || work > SCRYPT_BYTES || params.p > 16 {
        return Err(Failure::new("the key asks for more work to be opened than is done for one"));
    }
    let log_n = params.n.trailing_zeros() as u8;
    let params = scrypt::Params::new(log_n, params.r, params.p)
        .map_err(|error| Failure::new(format!("the key cannot be opened: {error}")))?;
    let mut key = [0; 32];
    scrypt::scrypt(password.as_bytes(), salt, &params, &mut key)
        .map_err(|error| Failure::new(format!("the key cannot be opened: {error}")))?;
    Ok(key)
}

impl PrivateKey {
    /// A new pair: the private key under a password, and the public one, each as PEM.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn generate(password: &str) -> Result<(String, String), Failure> {
        let random = SystemRandom::new();
        let failed = |_| Failure::new("the system gives no random bytes");
        let key = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(failed)?;
        let (mut salt, mut nonce) = ([0; 32], [0; 24]);
        random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(failed)?;
        // cosign's own
        let params = Params { n: 65536, r: 8, p: 1 };
        let cipher = XSalsa20Poly1305::new(&derived(password, &salt, &params)?.into());
        let sealed = cipher.encrypt(&nonce.into(), key.as_ref());
        let sealed = sealed.map_err(|_| Failure::new("the key cannot be encrypted"))?;
        let sealed = Sealed {
            kdf: Kdf { name: "scrypt".to_owned(), params, salt: STANDARD.encode(salt) },
            cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
            ciphertext: STANDARD.encode(sealed),
        };
        let json = serde_json::to_vec(&sealed).expect("texts and numbers are JSON");
        let own = PrivateKey::of_pkcs8(key.as_ref())?;
        Ok((to_pem(ENCRYPTED[0], &json), own.public_pem()))
    }

    /// Reads a private key; `password` is asked for one that is encrypted.
    ///
    /// # Errors
    /// When it is none of those that are known, or the password is another.
    pub(crate) fn read(
        text: &str,
        password: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<PrivateKey, Failure> {
        let Some((label, content)) = pem(text) else {
            return Err(Failure::new("it is no key in PEM's form")
                .with_hint("`slipway generate-key-pair` makes a pair"));
        };
        if label == PLAIN {
            return PrivateKey::of_pkcs8(&content);
        }
        if !ENCRYPTED.contains(&label) {
            let words = format!("it is a `{label}`, and no private key of cosign's nor PKCS #8");
            return Err(Failure::new(words));
        }
        let broken = || Failure::new("the encrypted key is damaged");
        let sealed: Sealed = serde_json::from_slice(&content).map_err(|_| broken())?;
        if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
            let words = format!("the key is encrypted by {} and {}", sealed.kdf.name, sealed.cipher.name);
            return Err(Failure::new(words).with_hint("those of cosign are by scrypt and nacl/secretbox"));
        }
        let salt = decoded(&sealed.kdf.salt).ok_or_else(broken)?;
        let nonce: [u8; 24] =
            decoded(&sealed.cipher.nonce).and_then(|nonce| nonce.try_into().ok()).ok_or_else(broken)?;
        let ciphertext = decoded(&sealed.ciphertext).ok_or_else(broken)?;
        let key = derived(&password()?, &salt, &sealed.kdf.params)?;
        let opened = XSalsa20Poly1305::new(&key.into()).decrypt(&nonce.into(), ciphertext.as_slice());
        let opened =
            opened.map_err(|_| Failure::new("the password is not the key's, or the key is damaged"))?;
        PrivateKey::of_pkcs8(&opened)
    }

    fn of_pkcs8(bytes: &[u8]) -> Result<PrivateKey, Failure> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, bytes, &random);
        let pair = pair.map_err(|error| {
            Failure::new(format!("the private key is none of P-256 in PKCS #8: {error}"))
                .with_hint("cosign's keys are; `slipway generate-key-pair` makes a pair")
        })?;
        Ok(PrivateKey { pair, random })
    }

    /// Its public key.
    pub(crate) fn public(&self) -> PublicKey {
        let bytes = self.pair.public_key().as_ref().to_vec();
        PublicKey { algorithm: &signature::ECDSA_P256_SHA256_ASN1, bytes, name: "the key itself".to_owned() }
    }

    /// The same as PEM.
    fn public_pem(&self) -> String {
        to_pem(PUBLIC, &[&P256_PREFIX[..], self.pair.public_key().as_ref()].concat())
    }

    /// Signs bytes: ECDSA over their SHA-256, as ASN.1.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let signed = self.pair.sign(&self.random, bytes);
        Ok(signed.map_err(|_| Failure::new("the system gives no random bytes"))?.as_ref().to_vec())
    }
}

impl PublicKey {
    /// Reads a public key of ECDSA (P-256, P-384), Ed25519 or RSA; `name` is what it is called in words.
    ///
    /// # Errors
    /// When it is none of these.
    pub(crate) fn read(text: &str, name: &str) -> Result<PublicKey, Failure> {
        let failed = |why: &str| Failure::new(format!("`{name}`: {why}"));
        let (label, content) = pem(text).ok_or_else(|| failed("it is no key in PEM's form"))?;
        if label != PUBLIC {
            let hint = "the public key of the pair is wanted: `cosign.pub` beside `cosign.key`";
            return Err(failed(&format!("it is a `{label}`, and no `{PUBLIC}`")).with_hint(hint));
        }
        let info =
            SubjectPublicKeyInfoRef::from_der(&content).map_err(|_| failed("the public key is damaged"))?;
        let kind = info.algorithm.oid.to_string();
        let curve = info.algorithm.parameters_oid().map(|oid| oid.to_string());
        let algorithm: &'static dyn signature::VerificationAlgorithm = match (kind.as_str(), curve.as_deref())
        {
            (EC, Ok(P256)) => &signature::ECDSA_P256_SHA256_ASN1,
            (EC, Ok(P384)) => &signature::ECDSA_P384_SHA384_ASN1,
            (ED25519, _) => &signature::ED25519,
            (RSA, _) => &signature::RSA_PKCS1_2048_8192_SHA256,
            _ => {
                return Err(failed("it is a key of another kind than ECDSA (P-256, P-384), Ed25519 and RSA"));
            }
        };
        let bytes = info.subject_public_key.raw_bytes().to_vec();
        Ok(PublicKey { algorithm, bytes, name: name.to_owned() })
    }

    /// Whether the key has signed the bytes so.
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.bytes).verify(bytes, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = include_str!("fixtures/cosign.key");
    const PUBLIC_OF_THEIRS: &str = include_str!("fixtures/cosign.pub");

    fn failure<T>(result: Result<T, Failure>) -> String {
        result.err().expect("a failure").words()
    }

    #[test]
    fn the_keys_of_cosign_are_read() {
        let key = PrivateKey::read(THEIRS, || Ok("pw".to_owned())).expect("cosign's");
        assert_eq!(key.public_pem(), PUBLIC_OF_THEIRS);
        let public = PublicKey::read(PUBLIC_OF_THEIRS, "cosign.pub").expect("cosign's");
        let signature = key.sign(b"bytes").expect("signed");
        assert!(public.has_signed(b"bytes", &signature));
        assert!(key.public().has_signed(b"bytes", &signature));
        assert!(!public.has_signed(b"other", &signature));
        assert!(!public.has_signed(b"bytes", &signature[1..]));
        let wrong = failure(PrivateKey::read(THEIRS, || Ok("other".to_owned())));
        assert!(wrong.contains("the password is not the key's"), "{wrong}");
    }

    #[test]
    fn a_new_pair_is_one() {
        let (private, public) = PrivateKey::generate("word").expect("a pair");
        let key = PrivateKey::read(&private, || Ok("word".to_owned())).expect("own");
        assert_eq!(key.public_pem(), public);
        assert!(private.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    }

    #[test]
    fn what_is_no_key_is_said() {
        let no = || -> Result<String, Failure> { panic!("no password is asked for") };
        assert!(failure(PrivateKey::read("text", no)).contains("no key in PEM's form"));
        assert!(failure(PrivateKey::read(PUBLIC_OF_THEIRS, no)).contains("`PUBLIC KEY`"));
        assert!(failure(PublicKey::read(THEIRS, "k")).contains("no `PUBLIC KEY`"));
        let (_, json) = pem(THEIRS).expect("pem");
        for (from, to, words) in [
            ("65536", "1073741824", "more work"),
            ("65536", "65535", "more work"),
            ("scrypt", "pbkdf2", "encrypted by pbkdf2"),
            ("\"nonce\":\"", "\"nonce\":\"AAAA", "damaged"),
        ] {
            let changed = String::from_utf8(json.clone()).expect("text").replace(from, to);
            let text = to_pem(ENCRYPTED[0], changed.as_bytes());
            let found = failure(PrivateKey::read(&text, || Ok("pw".to_owned())));
            assert!(found.contains(words), "{from}: {found}");
        }
    }
}
