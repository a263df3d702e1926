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
    /// `1970-01-01T00:00:00Z` plus `seconds`.
    pub fn format(seconds: i64) -> String {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Seconds since 1970 of an RFC 3339 time; fractions are cut off. `None` where it is not one.
    pub fn parse(text: &str) -> Option<i64> {
        let bytes = text.as_bytes();
        if !text.is_ascii() || bytes.len() < 20 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' {
            return None;
        }
        let number = |from: usize, to: usize| {
            let part = &text[from..to];
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok()).flatten()
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
        let offset = match zone.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
                let minutes = (digit(h1)? * 10 + digit(h2)?) * 60 + digit(m1)? * 10 + digit(m2)?;
                if *sign == b'-' { -minutes * 60 } else { minutes * 60 }
            }
            _ => return None,
        };
        // days_from_civil of the same paper
        let shifted_year = year - i64::from(month <= 2);
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
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
        ] {
            assert_eq!(rfc3339::format(seconds), text);
            assert_eq!(rfc3339::parse(text), Some(seconds));
        }
        assert_eq!(rfc3339::parse("2023-11-14T23:13:20.123456789+01:00"), Some(1_700_000_000));
        for text in ["", "yesterday", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14 22:13"] {
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
