//! Platforms: operating system, architecture and variant (image-spec `image-index.md`, "platform").

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture in Go's words: `amd64`, `arm64` …; empty where an index does not say.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's words; empty where an index does not say.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none", default)]
    pub os_version: Option<String>,
    /// CPU variant: `v7`, `v8` …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a platform: expected `os/architecture[/variant]`, for example `linux/amd64`")]
pub struct PlatformError(String);

impl Platform {
    /// The platform that this binary was compiled for.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform { architecture: architecture.into(), os: "linux".into(), os_version: None, variant: None }
    }

    /// Whether an image for `self` is what someone who asks for `wanted` gets.
    pub fn satisfies(&self, wanted: &Platform) -> bool {
        let variant =
            |platform: &Platform| match (platform.architecture.as_str(), platform.variant.as_deref()) {
                // containerd's normalisation: v8 is what arm64 means
                ("arm64", None) => Some("v8".to_owned()),
                ("arm", None) => Some("v7".to_owned()),
                (_, variant) => variant.map(str::to_owned),
            };
        self.os == wanted.os && self.architecture == wanted.architecture && variant(self) == variant(wanted)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let error = || PlatformError(text.to_owned());
        let valid = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        let parts: Vec<String> = text.split('/').map(str::to_lowercase).collect();
        if !parts.iter().all(|part| valid(part)) {
            return Err(error());
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os] if os == "local" => return Ok(Platform::host()),
            [os] if os == "linux" => (os.clone(), Platform::host().architecture, None),
            [architecture] => ("linux".to_owned(), architecture.clone(), None),
            [os, architecture] => (os.clone(), architecture.clone(), None),
            [os, architecture, variant] => (os.clone(), architecture.clone(), Some(variant.clone())),
            _ => return Err(error()),
        };
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64", _) => ("amd64".to_owned(), None),
            ("aarch64", _) | ("arm64", Some("v8")) => ("arm64".to_owned(), None),
            ("armhf", _) => ("arm".to_owned(), Some("v7".to_owned())),
            ("armel", _) => ("arm".to_owned(), Some("v6".to_owned())),
            ("i386" | "x86", _) => ("386".to_owned(), None),
            _ => (architecture, variant),
        };
        Ok(Platform { architecture, os, os_version: None, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print() {
        for (text, printed) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()), Ok(printed.to_owned()));
        }
        assert!("linux//".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
    }
}
