//! Step keys: a digest over what a step does and what it starts from.
//!
//! Fields are length-prefixed and named, so that no two operations can run into each other, and the version is the
//! first: whoever changes what a step makes of its inputs raises [`VERSION`], and no old result is taken for a new one.

use slipway_oci::{Algorithm, Digest, Hasher};

/// Version of the meaning of keys.
const VERSION: &str = "slipway step 1";

/// Collects the fields of one key.
pub(crate) struct KeyBuilder(Hasher);

impl KeyBuilder {
    /// A key for `operation` on a file system with the chain id `chain`.
    pub(crate) fn new(operation: &str, chain: &str) -> KeyBuilder {
        let mut key = KeyBuilder(Hasher::new(Algorithm::Sha256));
        key.field("version", VERSION);
        key.field("operation", operation);
        key.field("chain", chain);
        key
    }

    /// Adds a named value.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut KeyBuilder {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a named list.
    pub(crate) fn list<S: AsRef<[u8]>>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = S>,
    ) -> &mut KeyBuilder {
        let values: Vec<S> = values.into_iter().collect();
        self.field(name, (values.len() as u64).to_le_bytes());
        for value in values {
            self.field("item", value);
        }
        self
    }

    /// The key.
    pub(crate) fn finish(self) -> Digest {
        self.0.finish()
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
            let mut key = KeyBuilder::new("RUN", "scratch");
            for (name, value) in fields {
                key.field(name, value);
            }
            key.finish()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bcd")]));
        let mut one = KeyBuilder::new("RUN", "scratch");
        one.list("l", ["a", "b"]);
        let mut two = KeyBuilder::new("RUN", "scratch");
        two.list("l", ["ab"]);
        assert_ne!(one.finish(), two.finish());
    }

    #[test]
    fn chains_are_the_specifications() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert_eq!(chain_id([&a]), a.to_string());
        assert_eq!(chain_id([&a, &b]), Digest::sha256(format!("{a} {b}").as_bytes()).to_string());
    }
}
