//! Tokens of the configuration: made once at random, kept as their hash.
//!
//! 256 random bits cannot be guessed, so one SHA-256 is enough, and a request by token costs no password's work.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use std::{fmt, str::FromStr};

/// How every token begins, so that people and scanners know one when they see it.
const PREFIX: &str = "slipway_";

/// The hash of a token, `sha256:HEX`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of a token.
    pub fn of(secret: &str) -> SecretHash {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        SecretHash(bytes)
    }

    /// Whether it is the token's. Comparing hashes tells nothing about the token, however long it takes.
    pub(super) fn is_of(&self, secret: &str) -> bool {
        SecretHash::of(secret) == *self
    }
}

/// A new token; `None` where the system has no random numbers.
pub fn new_secret() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for SecretHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<SecretHash, &'static str> {
        let wrong = "it is `sha256:` and 64 hexadecimal digits, as `slipway registry token` prints them";
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(wrong)?;
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = hex.get(2 * at..2 * at + 2).filter(|two| two.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok()).ok_or(wrong)?;
        }
        Ok(SecretHash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_token_alone() {
        let (one, other) = (new_secret().expect("random"), new_secret().expect("random"));
        let hash: SecretHash = SecretHash::of(&one).to_string().parse().expect("a hash");
        assert!(hash.is_of(&one) && !hash.is_of(&other) && !hash.is_of("") && one != other);
        // printf %s x | sha256sum
        let known = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(SecretHash::of("x").to_string(), known);
        for text in
            ["", "sha256:", "2d71", &known[..70], &format!("{known}0"), &known.replace('2', "g"), "sha256:é"]
        {
            assert!(text.parse::<SecretHash>().is_err(), "{text}");
        }
    }
}
