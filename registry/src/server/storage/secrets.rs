//! Small secrets that replicas share, as they lie in the database: sealed where there is a key.

use super::{Storage, StorageError, pointers::SharedSecrets, seal::Opened};
use std::collections::BTreeMap;

/// What is known of them: each name's number and value.
#[derive(Default)]
pub struct Secrets(BTreeMap<String, (i64, Vec<u8>)>);

impl Secrets {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|(_, value)| value.as_slice())
    }
}

/// JSON that nobody sealed; what is sealed begins with its version, 1.
fn is_plain(value: &[u8]) -> bool {
    value.first() == Some(&b'{')
}

impl Storage {
    fn shared_secrets(&self) -> SharedSecrets {
        self.pointers.secrets().expect("only what replicas share has them")
    }

    /// Learns what has changed since. What lies there otherwise than the configuration asks for is sealed anew.
    pub fn learn_secrets(&self, known: &mut Secrets) -> Result<(), StorageError> {
        let shared = self.shared_secrets();
        let numbers: Vec<i64> = known.0.values().map(|(number, _)| *number).collect();
        for (name, number, value) in shared.changed(&numbers)? {
            let length = if is_plain(&value) { value.len() } else { usize::MAX };
            let plain = match self.seals.open(&format!("secret {name}"), &value, length)? {
                Opened::Right(plain) => plain,
                Opened::Otherwise(plain) => {
                    shared.reseal(&name, number, &self.seals.seal(&format!("secret {name}"), &plain)?)?;
                    plain
                }
            };
            known.0.insert(name, (number, plain));
        }
        Ok(())
    }

    /// Keeps a secret, an object in JSON.
    pub fn keep_secret(&self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        assert!(is_plain(value), "a secret is an object in JSON");
        self.shared_secrets().keep(name, &self.seals.seal(&format!("secret {name}"), value)?)
    }
}
