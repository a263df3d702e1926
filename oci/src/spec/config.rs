//! The image configuration (image-spec `config.md`, with docker's extra keys).

use super::null_is_default;
use crate::{Digest, Platform, limits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why bytes are not a configuration that can be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Larger than [`limits::CONFIG_BYTES`].
    #[error("the image configuration has {0} bytes, more than the {max} that are taken", max = limits::CONFIG_BYTES)]
    Large(u64),
    /// Not JSON of the shape.
    #[error("the image configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
}

/// An image's configuration: how to run it, what it is made of, how it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339 time of creation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// Who made it (`MAINTAINER`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub author: Option<String>,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// How containers are run from it.
    #[serde(default)]
    pub config: ContainerConfig,
    /// Its layers.
    pub rootfs: RootFs,
    /// One entry an instruction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The diff ids of an image's layers, the base first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layer archives.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// How an image came to be, an instruction an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339 time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_by: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub author: Option<String>,
    /// Which tool.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// Whether no layer belongs to the entry.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub empty_layer: bool,
}

/// The `config` object: what a container from the image runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user[:group]`, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `port/protocol` keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// `NAME=value` entries, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Docker's health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Whether `Cmd` is already one escaped string (docker writes it after a shell-form CMD).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// Paths that are volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Docker's triggers for child builds.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that asks the container to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's default shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Docker's health check; durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between checks, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// Most time that one check takes, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Grace after start, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<u64>,
    /// Time between checks during the grace, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<u64>,
    /// Failures that make a container unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

impl ImageConfig {
    /// The configuration of an image with nothing in it.
    pub fn empty(platform: Platform) -> ImageConfig {
        ImageConfig {
            created: None,
            author: None,
            platform,
            config: ContainerConfig::default(),
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            history: Vec::new(),
        }
    }

    /// Reads a configuration.
    pub fn from_bytes(bytes: &[u8]) -> Result<ImageConfig, ConfigError> {
        if bytes.len() as u64 > limits::CONFIG_BYTES {
            return Err(ConfigError::Large(bytes.len() as u64));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Seconds since 1970 of `created`, if it is there and valid.
    pub fn created_seconds(&self) -> Option<i64> {
        self.created.as_deref().and_then(rfc3339::parse)
    }
}

/// RFC 3339 times of whole seconds in UTC, the only form that is written.
pub mod rfc3339 {
    use jiff::Timestamp;

    /// The first second of the year 0, before which the form has no times.
    const FIRST: i64 = -62_167_219_200;

    /// `1970-01-01T00:00:00Z` plus `seconds`; what lies outside of the years 0 to 9999 is their first or last second.
    pub fn format(seconds: i64) -> String {
        let seconds = seconds.clamp(FIRST, Timestamp::MAX.as_second());
        Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
    }

    /// Seconds since 1970 of an RFC 3339 time; fractions are cut off. `None` where it is not one.
    pub fn parse(text: &str) -> Option<i64> {
        let time: Timestamp = text.parse().ok()?;
        // towards the past on both sides of 1970
        Some(time.as_second() - i64::from(time.subsec_nanosecond() < 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
            (253_402_207_200, "9999-12-30T22:00:00Z"),
        ] {
            assert_eq!(rfc3339::format(seconds), text);
            assert_eq!(rfc3339::parse(text), Some(seconds));
        }
        assert_eq!(rfc3339::parse("2023-11-14T23:13:20.123456789+01:00"), Some(1_700_000_000));
        assert_eq!(rfc3339::parse("1969-12-31T23:59:58.5Z"), Some(-2));
        assert_eq!(rfc3339::format(i64::MAX), "9999-12-30T22:00:00Z");
        assert_eq!(rfc3339::format(i64::MIN), "0000-01-01T00:00:00Z");
        for text in [
            "",
            "yesterday",
            "2023-02-30T00:00:00Z",
            "0001-01-01",
            "2023-11-14T22:13:20+1:00",
            "2023-13-14T22:13:20Z",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13",
        ] {
            assert_eq!(rfc3339::parse(text), None, "{text}");
        }
    }

    #[test]
    fn foreign_configurations_are_taken() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"OnBuild":null,"Cmd":["sh"],
            "ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers","diff_ids":null},"x":1}"#;
        let config = ImageConfig::from_bytes(text).expect("taken");
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert!(config.rootfs.diff_ids.is_empty());
    }
}
