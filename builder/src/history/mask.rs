//! Takes the values of secrets out of what is kept.
//!
//! A value is masked as a whole, without the line ends around it, and of a value with several lines each line of some length as
//! well. What a command makes of a secret (encoded, reversed, cut) is not known to be one.

use crate::{BuildRequest, SecretSource, limits};

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";
/// Shortest line of a value of several lines that is masked by itself: a bracket is no secret.
const LINE_BYTES: usize = 4;

/// The values that are masked, the longest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks {
    values: Vec<Vec<u8>>,
}

impl Masks {
    /// Those of a build. A secret that cannot be read is none that a command could have shown.
    pub(crate) fn of(request: &BuildRequest) -> Masks {
        let mut values = Vec::new();
        for source in request.secrets.values() {
            let value = match source {
                SecretSource::Value(value) => value.clone(),
                SecretSource::File(path) => {
                    slipway_oci::file::read_capped(path, limits::SECRET_BYTES).unwrap_or_default()
                }
            };
            let whole = value.trim_ascii();
            values.push(whole.to_vec());
            let lines: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').collect();
            if lines.len() > 1 {
                let long = lines.iter().map(|line| line.trim_ascii()).filter(|line| line.len() >= LINE_BYTES);
                values.extend(long.map(<[u8]>::to_vec));
            }
        }
        values.retain(|value| !value.is_empty());
        values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        Masks { values }
    }

    /// Whether nothing is masked.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Takes what can be written from the front of `pending`, masked. What may be the beginning of a secret stays until more
    /// has come, unless there will be no `more`.
    pub(crate) fn take(&self, pending: &mut Vec<u8>, more: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(pending.len());
        let mut at = 0;
        while at < pending.len() {
            let rest = &pending[at..];
            // a longer secret that may still come goes before a shorter one that is there
            if more && self.values.iter().any(|value| value.len() > rest.len() && value.starts_with(rest)) {
                break;
            }
            match self.values.iter().find(|value| rest.starts_with(value)) {
                Some(value) => {
                    out.extend_from_slice(MASK);
                    at += value.len();
                }
                None => {
                    out.push(rest[0]);
                    at += 1;
                }
            }
        }
        pending.drain(..at);
        out
    }

    /// A text, masked.
    pub(crate) fn text(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        String::from_utf8_lossy(&self.take(&mut text.as_bytes().to_vec(), false)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(values: &[&str]) -> Masks {
        let mut values: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Masks { values }
    }

    #[test]
    fn a_secret_is_masked_wherever_it_is_cut() {
        let masks = masks(&["hunter2", "hunter22-long", "x\ny"]);
        let text = b"a hunter2 b hunter22-long\nx\ny hunter hunter2";
        let expected = "a *** b ***\n*** hunter ***";
        for size in 1..text.len() {
            let (mut pending, mut out) = (Vec::new(), Vec::new());
            for part in text.chunks(size) {
                pending.extend_from_slice(part);
                out.extend(masks.take(&mut pending, true));
                assert!(pending.len() < 13, "no more is held back than a secret is long");
            }
            out.extend(masks.take(&mut pending, false));
            assert_eq!(String::from_utf8(out).expect("text"), expected, "in parts of {size}");
        }
        assert_eq!(masks.text("hunter2hunter2"), "******");
        assert_eq!(Masks::default().text("hunter2"), "hunter2");
    }
}
