//! Digests of long lists: fields are length-prefixed and named, so that no two lists can run into each other.

use slipway_oci::{Algorithm, Digest, Hasher};

/// Collects the fields of one digest.
pub(crate) struct Fields {
    hasher: Hasher,
    /// What the hasher has not seen yet: fields are short, and there are many.
    pending: Vec<u8>,
}

/// So many bytes are handed on at once.
const PENDING_BYTES: usize = 8 << 10;

impl Fields {
    /// No field yet.
    pub(crate) fn new() -> Fields {
        Fields { hasher: Hasher::new(Algorithm::Sha256), pending: Vec::new() }
    }

    /// Adds a named value.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Fields {
        for part in [name.as_bytes(), value.as_ref()] {
            self.pending.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.pending.extend_from_slice(part);
        }
        if self.pending.len() >= PENDING_BYTES {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
        self
    }

    /// The digest.
    pub(crate) fn finish(mut self) -> Digest {
        self.hasher.update(&self.pending);
        self.hasher.finish()
    }
}

/// The chain id of a row of layers, the base first (image-spec `config.md`, "Layer ChainID"); `scratch` for none.
pub(crate) fn chain_id<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> String {
    let mut chain: Option<String> = None;
    for diff_id in diff_ids {
        chain = Some(match chain {
            None => diff_id.to_string(),
            Some(chain) => Digest::sha256(format!("{chain} {diff_id}").as_bytes()).to_string(),
        });
    }
    chain.unwrap_or_else(|| "scratch".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let key = |fields: &[(&str, &str)]| {
            let mut key = Fields::new();
            for (name, value) in fields {
                key.field(name, value);
            }
            key.finish()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bcd")]));
    }

    #[test]
    fn chains_are_the_specifications() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert_eq!(chain_id([&a]), a.to_string());
        assert_eq!(chain_id([&a, &b]), Digest::sha256(format!("{a} {b}").as_bytes()).to_string());
    }
}
