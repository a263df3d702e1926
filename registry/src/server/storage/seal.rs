//! Secrets in a database that others read too, sealed under keys of the configuration.
//!
//! ```text
//! 1 byte    1, the version
//! 8 bytes   which key: the beginning of a digest of it
//! 12 bytes  a random nonce
//! the secret, and 16 bytes of tag  (ChaCha20-Poly1305; the row's name is authenticated beside it)
//! ```
//!
//! The first key of the configuration seals, all of them open: whoever rolls them adds the next one behind, lets every replica
//! know it, puts it in front, and takes the former one away once nothing is sealed by it. What is sealed stays the same,
//! so nothing that was signed by it is refused meanwhile.

use super::{SigningKey, Storage, StorageError};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use std::{fmt, sync::Arc};

const VERSION: u8 = 1;
const NAME_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + NAME_BYTES + NONCE_LEN;

/// Least length of a key as it is written, in characters: 128 bits of whatever alphabet people use.
const SEAL_CHARACTERS: usize = 32;

/// Length of a key of tokens, in bytes.
const SEED_BYTES: usize = 32;

/// The keys.
#[derive(Clone, Default)]
pub struct Seals(Arc<[Seal]>);

struct Seal {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seals({})", self.0.len())
    }
}

/// What a secret is like in the database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Sealed by the first key.
    Right(Vec<u8>),
    /// Sealed by another one, or not at all.
    Otherwise(Vec<u8>),
}

impl Seals {
    /// Keys, a line each, the one that seals first; empty lines and those that begin with `#` are none.
    pub fn read(text: &str) -> Result<Seals, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let seal = |line: &str| {
            if line.chars().count() < SEAL_CHARACTERS {
                return Err(format!(
                    "a key has {SEAL_CHARACTERS} characters at least: `openssl rand -base64 32` makes one"
                ));
            }
            let bytes = digest(&SHA256, &[b"slipway token keys\0", line.as_bytes()].concat());
            let named = digest(&SHA256, &[b"name\0", bytes.as_ref()].concat());
            let mut name = [0; NAME_BYTES];
            name.copy_from_slice(&named.as_ref()[..NAME_BYTES]);
            let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref()).expect("a digest has its length");
            Ok(Seal { name, key: LessSafeKey::new(key) })
        };
        let seals: Vec<Seal> = lines.map(seal).collect::<Result<_, String>>()?;
        if seals.is_empty() { Err("it has no key".to_owned()) } else { Ok(Seals(seals.into())) }
    }

    /// Seals a secret of this name, where there is a key.
    pub(super) fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, StorageError> {
        let Some(seal) = self.0.first() else { return Ok(secret.to_vec()) };
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut sealed = secret.to_vec();
        let made = Nonce::assume_unique_for_key(nonce);
        let done = seal.key.seal_in_place_append_tag(made, Aad::from(name.as_bytes()), &mut sealed);
        done.expect("a key is shorter than what may be sealed");
        Ok([&[VERSION][..], &seal.name, &nonce, &sealed].concat())
    }

    /// Opens what [`Seals::seal`] made of a secret of `length` bytes, or what was never sealed.
    pub(super) fn open(&self, name: &str, stored: &[u8], length: usize) -> Result<Opened, StorageError> {
        if stored.len() == length {
            let plain = stored.to_vec();
            return Ok(if self.0.is_empty() { Opened::Right(plain) } else { Opened::Otherwise(plain) });
        }
        let refused = || StorageError::Sealed;
        let (head, body) = stored.split_at_checked(HEAD_BYTES).ok_or_else(refused)?;
        let (of, nonce) = (&head[1..=NAME_BYTES], &head[1 + NAME_BYTES..]);
        let mut mine = self.0.iter().enumerate().filter(|(_, seal)| head[0] == VERSION && seal.name == of);
        let (index, seal) = mine.next().ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let mut bytes = body.to_vec();
        let opened = seal.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut bytes);
        let secret = opened.map_err(|_| refused())?.to_vec();
        Ok(if index == 0 { Opened::Right(secret) } else { Opened::Otherwise(secret) })
    }
}

impl Storage {
    /// The keys that sign tokens. Those that lie there otherwise than the configuration asks for are sealed anew.
    pub fn signing_keys(&self) -> Result<Vec<SigningKey>, StorageError> {
        let mut keys = self.pointers.signing_keys()?;
        for key in &mut keys {
            key.seed = match self.seals.open(&key.id, &key.seed, SEED_BYTES)? {
                Opened::Right(seed) => seed,
                Opened::Otherwise(seed) => {
                    let sealed = self.seals.seal(&key.id, &seed)?;
                    match self.pointers.reseal_key(&key.id, &key.seed, &sealed) {
                        // they are sealed anew where they go
                        Err(StorageError::Moving) => {}
                        resealed => resealed?,
                    }
                    seed
                }
            };
        }
        Ok(keys)
    }

    /// Adds a key, unless there is one made after `young`, and drops those made before `old`.
    pub fn add_signing_key(&self, key: &SigningKey, young: i64, old: i64) -> Result<(), StorageError> {
        let sealed = SigningKey { seed: self.seals.seal(&key.id, &key.seed)?, ..key.clone() };
        self.pointers.add_signing_key(&sealed, young, old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn seals(lines: &[&str]) -> Seals {
        Seals::read(&lines.join("\n")).expect("keys")
    }

    #[test]
    fn what_is_sealed_opens_under_its_key_and_name_alone() {
        let (one, secret) = (seals(&[ONE]), [7_u8; 32]);
        let sealed = one.seal("k", &secret).expect("sealed");
        assert!(!sealed.windows(8).any(|part| part == [7; 8]));
        assert_ne!(one.seal("k", &secret).expect("sealed"), sealed, "no nonce comes twice");
        assert_eq!(one.open("k", &sealed, 32).expect("opened"), Opened::Right(secret.to_vec()));
        assert!(one.open("other", &sealed, 32).is_err(), "another row's");
        for index in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[index] ^= 1;
            assert!(one.open("k", &wrong, 32).is_err(), "{index}");
        }
        assert!(one.open("k", &sealed[..20], 32).is_err() && one.open("k", b"", 32).is_err());
        assert!(Seals::default().open("k", &sealed, 32).is_err());
        assert!(seals(&[OTHER]).open("k", &sealed, 32).is_err());
    }

    #[test]
    fn keys_roll() {
        let secret = [7_u8; 32];
        let sealed = seals(&[ONE]).seal("k", &secret).expect("sealed");
        // every replica knows the next one, then seals by it, then forgets the former
        assert_eq!(
            seals(&[ONE, OTHER]).open("k", &sealed, 32).expect("opened"),
            Opened::Right(secret.to_vec())
        );
        let rolled = seals(&[OTHER, ONE]);
        assert_eq!(rolled.open("k", &sealed, 32).expect("opened"), Opened::Otherwise(secret.to_vec()));
        let again = rolled.seal("k", &secret).expect("sealed");
        assert_eq!(
            seals(&[ONE, OTHER]).open("k", &again, 32).expect("opened"),
            Opened::Otherwise(secret.to_vec())
        );
        assert_eq!(seals(&[OTHER]).open("k", &again, 32).expect("opened"), Opened::Right(secret.to_vec()));
        // what was never sealed is read, and told to be so
        assert_eq!(rolled.open("k", &secret, 32).expect("read"), Opened::Otherwise(secret.to_vec()));
        assert_eq!(Seals::default().open("k", &secret, 32).expect("read"), Opened::Right(secret.to_vec()));
        assert_eq!(Seals::default().seal("k", &secret).expect("as it is"), secret);
    }

    #[test]
    fn keys_are_long_and_never_shown() {
        assert!(Seals::read("# none\n\n").is_err());
        let short = Seals::read("s3cr3t").expect_err("too short");
        assert!(!short.contains("s3cr3t"), "{short}");
        assert!(!format!("{:?}", seals(&[ONE])).contains("0123"));
    }
}
