//! What can be wrong with a mount.

use super::{KEYS, TYPES};
use crate::expand::ExpandError;

/// Why a `--mount` value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// Nothing between the commas, or nothing at all.
    #[error("mount has no options")]
    Empty,
    /// The CSV quoting is wrong.
    #[error("mount has a quote in the wrong place")]
    Quotes,
    /// No type has this key.
    #[error("unknown mount key `{key}`")]
    UnknownKey {
        /// The key in lower case.
        key: String,
    },
    /// Another type has this key.
    #[error("mount key `{key}` is not for type `{kind}`")]
    KeyNotForType {
        /// The key.
        key: String,
        /// The mount's type.
        kind: &'static str,
    },
    /// The key needs `=value`.
    #[error("mount key `{key}` needs a value")]
    MissingValue {
        /// The key.
        key: String,
    },
    /// `type` is given twice.
    #[error("mount has two types")]
    DuplicateType,
    /// The type does not exist.
    #[error("unknown mount type `{value}`")]
    UnknownType {
        /// The value.
        value: String,
    },
    /// The value has a wrong form.
    #[error("invalid value `{value}` for mount key `{key}`")]
    BadValue {
        /// The key.
        key: String,
        /// The value, expanded.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// `from` holds a variable.
    #[error("mount key `from` cannot hold a variable")]
    VariableInFrom {
        /// The value.
        value: String,
    },
    /// The target is `/`.
    #[error("mount target cannot be `/`")]
    TargetIsRoot,
    /// A secret has neither id nor target.
    #[error("secret mount needs an id or a target")]
    SecretWithoutName,
    /// A secret has both id and source, which mean the same.
    #[error("secret mount has both id and source")]
    SourceAndId,
    /// A value cannot be expanded.
    #[error("cannot expand mount key `{key}`: {source}")]
    Expand {
        /// The key.
        key: String,
        /// Why.
        source: ExpandError,
    },
}

impl MountError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        let near = |word: &str, names: &mut dyn Iterator<Item = &'static str>| {
            crate::nearest(word, names).map(|name| format!("did you mean `{name}`?"))
        };
        match self {
            Self::UnknownKey { key } => near(key, &mut KEYS.iter().map(|known| known.0)),
            Self::UnknownType { value } => near(value, &mut TYPES.into_iter()),
            Self::KeyNotForType { key, .. } => {
                let known = KEYS.iter().find(|known| known.0 == key)?;
                Some(format!("`{key}` is for type {}", known.1.join(", ")))
            }
            Self::VariableInFrom { value } => {
                Some(format!("define a stage before: `FROM {value} AS name`, and write `from=name`"))
            }
            Self::MissingValue { key } => Some(format!("write `{key}=…`")),
            Self::SourceAndId => Some("remove one of them; they mean the same".to_owned()),
            Self::Quotes => Some("put the quotes around the whole field: `\"target=/a,b\"`".to_owned()),
            _ => None,
        }
    }

    /// The part of the value that is wrong, when it stands there as it is reported.
    pub fn part(&self) -> Option<String> {
        match self {
            Self::UnknownKey { key } | Self::KeyNotForType { key, .. } | Self::MissingValue { key } => {
                Some(key.clone())
            }
            Self::UnknownType { value } => Some(format!("type={value}")),
            Self::BadValue { key, value, .. } => Some(format!("{key}={value}")),
            Self::VariableInFrom { value } => Some(format!("from={value}")),
            _ => None,
        }
    }

    /// What would have been right.
    pub fn expected(&self) -> Option<String> {
        match self {
            Self::UnknownKey { .. } => {
                Some(format!("one of {}", KEYS.iter().map(|known| known.0).collect::<Vec<_>>().join(", ")))
            }
            Self::UnknownType { .. } => Some(format!("one of {}", TYPES.join(", "))),
            Self::BadValue { expected, .. } => Some((*expected).to_owned()),
            Self::Empty => Some("`type=…,target=…`".to_owned()),
            _ => None,
        }
    }
}
