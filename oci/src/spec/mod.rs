//! The image specification's objects, parsed leniently and written canonically.
//!
//! What comes from outside is kept as bytes and only looked at through these types; what Slipway makes itself is
//! written once through [`to_json`]. Unknown fields of foreign objects are therefore never lost: nothing parsed is
//! written back. Docker's configuration keys that the OCI specification lacks (`Healthcheck`, `OnBuild`, `Shell`,
//! `ArgsEscaped`) are carried because BuildKit, docker and podman read them.

mod config;
mod keys;
mod manifest;
pub mod media_type;

pub use config::{ConfigError, ContainerConfig, Healthcheck, History, ImageConfig, RootFs, rfc3339};
pub use manifest::{Descriptor, Index, Manifest, ManifestError, Parsed};

/// Compact JSON of an object that Slipway made.
pub fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("specification objects have string keys and no failing serialisers")
}

/// Foreign tools write `null` for an empty list.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    use serde::Deserialize;
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
