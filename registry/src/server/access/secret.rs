//! Tokens of the configuration: made once at random, kept as their hash.
//!
//! 256 random bits cannot be guessed, so one SHA-256 is enough, and a request by token costs no password's work.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use slipway_oci::spec::rfc3339;
use std::{fmt, str::FromStr};

/// How every token begins, so that people and scanners know one when they see it.
const PREFIX: &str = "slipway_";

/// The hash of a token, `sha256:HEX`, and when that ends, ` until 2027-01-31` or with a time of day (RFC 3339).
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    hash: [u8; 32],
    /// As it was written, and in seconds since 1970.
    until: Option<(String, i64)>,
}

impl SecretHash {
    /// Of a token.
    pub fn of(secret: &str) -> SecretHash {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        SecretHash { hash: bytes, until: None }
    }

    /// The same until a moment, a date (its beginning, UTC) or RFC 3339's form.
    pub fn until(self, text: &str) -> Result<SecretHash, &'static str> {
        let day = || rfc3339::parse(&format!("{text}T00:00:00Z"));
        let seconds = rfc3339::parse(text).or_else(day);
        let seconds =
            seconds.ok_or("a token ends at a date, `2027-01-31`, or at a moment, `2027-01-31T12:00:00Z`")?;
        Ok(SecretHash { until: Some((text.to_owned(), seconds)), ..self })
    }

    /// Whether it is over, at a time in seconds since 1970.
    pub fn is_over(&self, now: i64) -> bool {
        self.until.as_ref().is_some_and(|(_, until)| *until <= now)
    }

    /// Whether it is the token's, and that holds. Comparing hashes tells nothing about the token, however long it takes.
    pub(in crate::server) fn is_of(&self, secret: &str, now: i64) -> bool {
        SecretHash::of(secret).hash == self.hash && !self.is_over(now)
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
        self.hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        self.until.iter().try_for_each(|(until, _)| write!(f, " until {until}"))
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
        if let Some((hash, until)) = text.split_once(" until ") {
            return hash.parse::<SecretHash>()?.until(until.trim());
        }
        let wrong = "it is `sha256:` and 64 hexadecimal digits, as `slipway registry token` prints them";
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(wrong)?;
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = hex.get(2 * at..2 * at + 2).filter(|two| two.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok()).ok_or(wrong)?;
        }
        Ok(SecretHash { hash: bytes, until: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_token_alone() {
        let (one, other) = (new_secret().expect("random"), new_secret().expect("random"));
        let hash: SecretHash = SecretHash::of(&one).to_string().parse().expect("a hash");
        assert!(hash.is_of(&one, 0) && !hash.is_of(&other, 0) && !hash.is_of("", 0) && one != other);
        // printf %s x | sha256sum
        let known = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(SecretHash::of("x").to_string(), known);
        let ends: SecretHash = format!("{hash} until 2026-01-01").parse().expect("a hash");
        assert_eq!(ends.to_string(), format!("{hash} until 2026-01-01"));
        let end = 1_767_225_600;
        assert!(ends.is_of(&one, end - 1) && !ends.is_of(&one, end) && ends != hash);
        for until in ["", "tomorrow", "2026-13-01", "2026-01-01 until 2027-01-01", "1767225600"] {
            assert!(format!("{hash} until {until}").parse::<SecretHash>().is_err(), "{until}");
        }
        for text in
            ["", "sha256:", "2d71", &known[..70], &format!("{known}0"), &known.replace('2', "g"), "sha256:é"]
        {
            assert!(text.parse::<SecretHash>().is_err(), "{text}");
        }
    }
}
