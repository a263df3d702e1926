//! Digests: `algorithm:hex`, the name of content (image-spec `descriptor.md`, section "Digests").

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512, digest::common::hazmat::SerializableState};
use std::{fmt, io, str::FromStr};

/// A registered digest algorithm (image-spec `descriptor.md`, "Registered algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the algorithm that everything Slipway makes is named by.
    Sha256,
    /// SHA-512, taken from others.
    Sha512,
    /// BLAKE3, by which a store knows the bytes of files ([`CONTENT`]). It names nothing that leaves the store, and none is
    /// taken from others.
    Blake3,
}

/// What the bytes of files are known by: in tables of contents, keys and the files that are mounted. Every byte of every
/// layer goes through it besides the SHA-256 that OCI asks for, so it is one that costs a third of that, and less still
/// where a processor has no instructions for SHA-256.
pub const CONTENT: Algorithm = Algorithm::Blake3;

impl Algorithm {
    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
            Algorithm::Blake3 => "blake3",
        }
    }

    /// How many hexadecimal digits follow the colon.
    pub const fn hex_length(self) -> usize {
        match self {
            Algorithm::Sha256 | Algorithm::Blake3 => 64,
            Algorithm::Sha512 => 128,
        }
    }

    /// Those that others may name content by.
    fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "sha256" => Some(Algorithm::Sha256),
            "sha512" => Some(Algorithm::Sha512),
            _ => None,
        }
    }
}

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigestError {
    /// No colon between algorithm and hex.
    #[error("`{0}` is not a digest: expected `algorithm:hex`")]
    Shape(String),
    /// An algorithm that is not registered or not supported.
    #[error("digest algorithm `{0}` is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// Wrong length, upper case or a character that is no hexadecimal digit.
    #[error("digest `{0}` must have exactly {1} lower-case hexadecimal digits")]
    Hex(String, usize),
}

/// The digest of some bytes. Layers have one for each of their files, so none needs memory of its own but the longest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Value);

/// One for each [`Algorithm`], in the same order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
    Blake3([u8; 32]),
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, bytes)
    }

    /// What a file of these bytes is known by ([`CONTENT`]).
    pub fn content(bytes: &[u8]) -> Digest {
        Digest::of(CONTENT, bytes)
    }

    /// The digest of `bytes` by `algorithm`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        Digest(match algorithm {
            Algorithm::Sha256 => Value::Sha256(Sha256::digest(bytes).into()),
            Algorithm::Sha512 => Value::Sha512(Box::new(Sha512::digest(bytes).into())),
            Algorithm::Blake3 => Value::Blake3(blake3::hash(bytes).into()),
        })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Value::Sha256(_) => Algorithm::Sha256,
            Value::Sha512(_) => Algorithm::Sha512,
            Value::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// The hexadecimal part: as many lower-case digits as the algorithm has.
    pub fn hex(&self) -> String {
        hex_of(self.as_bytes())
    }

    /// The first twelve digits, as docker shows image ids.
    pub fn short(&self) -> String {
        hex_of(&self.as_bytes()[..6])
    }

    /// The digest by [`CONTENT`] that these bytes are.
    pub fn of_content(bytes: &[u8; 32]) -> Digest {
        Digest(Value::Blake3(*bytes))
    }

    /// The bytes that the hexadecimal part stands for.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) | Value::Blake3(bytes) => bytes,
            Value::Sha512(bytes) => &bytes[..],
        }
    }
}

fn hex_of(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The bytes that exactly so many lower-case digits stand for.
fn bytes_of<const COUNT: usize>(hex: &str) -> Option<[u8; COUNT]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; COUNT];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != COUNT || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let (name, hex) =
            text.split_once(':').ok_or_else(|| DigestError::Shape(text.chars().take(80).collect()))?;
        let algorithm =
            Algorithm::parse(name).ok_or_else(|| DigestError::Algorithm(name.chars().take(40).collect()))?;
        let value = match algorithm {
            Algorithm::Sha256 => bytes_of(hex).map(Value::Sha256),
            Algorithm::Sha512 => bytes_of(hex).map(Box::new).map(Value::Sha512),
            Algorithm::Blake3 => bytes_of(hex).map(Value::Blake3),
        };
        let bad = || DigestError::Hex(text.chars().take(160).collect(), algorithm.hex_length());
        value.map(Digest).ok_or_else(bad)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest while bytes stream past.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
    // its state is two thousand bytes
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// A hasher of `algorithm` that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
            State::Blake3(state) => drop(state.update(bytes)),
        }
    }

    /// The state as bytes, for [`Hasher::restore`]: what a hash over many requests continues from. None that
    /// can be restored of BLAKE3, which no request asks for.
    pub fn save(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(state) => state.serialize().to_vec(),
            State::Sha512(state) => state.serialize().to_vec(),
            State::Blake3(_) => Vec::new(),
        }
    }

    /// The hasher that [`Hasher::save`] was asked of; `None` where the bytes are no state of `algorithm`.
    pub fn restore(algorithm: Algorithm, saved: &[u8]) -> Option<Hasher> {
        Some(Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::deserialize(saved.try_into().ok()?).ok()?),
            Algorithm::Sha512 => State::Sha512(Sha512::deserialize(saved.try_into().ok()?).ok()?),
            Algorithm::Blake3 => return None,
        }))
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => Digest(Value::Sha256(state.finalize().into())),
            State::Sha512(state) => Digest(Value::Sha512(Box::new(state.finalize().into()))),
            State::Blake3(state) => Digest(Value::Blake3(*state.finalize().as_bytes())),
        }
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes bytes on while digesting and counting them.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    size_bytes: u64,
}

impl<W: io::Write> HashingWriter<W> {
    /// Writes through to `inner` and digests with SHA-256.
    pub fn new(inner: W) -> HashingWriter<W> {
        HashingWriter { inner, hasher: Hasher::new(Algorithm::Sha256), size_bytes: 0 }
    }

    /// The inner writer, the digest of all bytes written and their count.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size_bytes)
    }
}

impl<W: io::Write> io::Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Passes bytes on while digesting and counting them.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    size_bytes: u64,
}

impl<R: io::Read> HashingReader<R> {
    /// Reads from `inner` and digests with `algorithm`.
    pub fn new(inner: R, algorithm: Algorithm) -> HashingReader<R> {
        HashingReader { inner, hasher: Hasher::new(algorithm), size_bytes: 0 }
    }

    /// The inner reader, the digest of all bytes read and their count.
    pub fn finish(self) -> (R, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size_bytes)
    }
}

impl<R: io::Read> io::Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        assert_eq!(
            Digest::sha256(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        assert!(hasher.finish().hex().starts_with("ddaf35a193617aba"));
        // blake3's test_vectors.json
        assert!(Digest::content(b"").hex().starts_with("af1349b9f5f9a1a6"));
        assert_eq!(
            Digest::of_content(Digest::content(b"x").as_bytes().try_into().expect("32")),
            Digest::content(b"x")
        );
        assert!(Digest::content(b"").to_string().parse::<Digest>().is_err(), "none comes from outside");
    }

    #[test]
    fn a_hash_goes_on_after_it_was_saved() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut whole = Hasher::new(algorithm);
            whole.update(&bytes);
            let whole = whole.finish();
            for cut in [0, 1, 63, 64, 65, 127, 128, 129, 999, 1000] {
                let mut first = Hasher::new(algorithm);
                first.update(&bytes[..cut]);
                let mut second = Hasher::restore(algorithm, &first.save()).expect("a state");
                second.update(&bytes[cut..]);
                assert_eq!(second.finish(), whole, "{cut}");
            }
            assert!(Hasher::restore(algorithm, b"").is_none());
            assert!(Hasher::restore(algorithm, &[0xff; 105]).is_none());
        }
    }

    #[test]
    fn bad_digests_are_refused() {
        let good = Digest::sha256(b"").to_string();
        for text in [
            "",
            "sha256",
            "sha256:",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &good.to_uppercase(),
            &good[..70],
            &format!("{good}0"),
            "sha256:../../../../etc/passwd",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert_eq!(good.parse::<Digest>().map(|digest| digest.to_string()), Ok(good));
    }
}
