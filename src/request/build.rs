//! What the flags of `build` ask for.

use super::Variables;
use crate::error::Failure;
use slipway_builder::NetworkMode;
use slipway_oci::{Reference, compression};
use std::{collections::BTreeMap, path::PathBuf};

/// The value of `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Network {
    /// The host's, without raw sockets and, where the kernel can, abstract sockets of others
    #[default]
    Default,
    /// The host's, with everything on it; allows RUN --network=host
    Host,
    /// None but loopback
    None,
}

impl From<Network> for NetworkMode {
    fn from(network: Network) -> NetworkMode {
        match network {
            Network::Default => NetworkMode::Default,
            Network::Host => NetworkMode::Host,
            Network::None => NetworkMode::None,
        }
    }
}

/// The value of `--compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compression {
    /// Small and fast
    #[default]
    Zstd,
    /// For old pullers
    Gzip,
    /// None
    #[value(alias = "none")]
    Uncompressed,
    /// gzip in chunks, for containerd's stargz-snapshotter
    Estargz,
    /// zstd in chunks, for podman, buildah and CRI-O
    #[value(name = "zstd:chunked")]
    ZstdChunked,
}

impl From<Compression> for compression::Compression {
    fn from(given: Compression) -> compression::Compression {
        match given {
            Compression::Zstd | Compression::ZstdChunked => compression::Compression::Zstd,
            Compression::Gzip | Compression::Estargz => compression::Compression::Gzip,
            Compression::Uncompressed => compression::Compression::None,
        }
    }
}

/// The value of `--timestamps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Timestamps {
    /// None later than the build's epoch
    #[default]
    Clamp,
    /// As they are
    Keep,
}

/// One value of `--allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Permission {
    /// RUN --network=host
    #[value(name = "network.host")]
    NetworkHost,
    /// RUN --security=insecure
    #[value(name = "security.insecure")]
    SecurityInsecure,
    /// RUN --device
    #[value(name = "device")]
    Device,
}

/// What SOURCE_DATE_EPOCH says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenEpoch {
    /// Since 1970.
    Seconds(i64),
    /// The commit time of the context, without which the build fails.
    Context,
}

/// The build's epoch; the build argument goes before the flag. Empty is as if it were not given.
///
/// # Errors
/// When it is neither a number nor `context`.
pub(crate) fn epoch(
    build_arguments: &BTreeMap<String, String>,
    flag: Option<&str>,
) -> Result<Option<GivenEpoch>, Failure> {
    let given = build_arguments.get("SOURCE_DATE_EPOCH").map(String::as_str).or(flag);
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(seconds) if seconds >= 0 => Ok(Some(GivenEpoch::Seconds(seconds))),
        _ if text == "context" => Ok(Some(GivenEpoch::Context)),
        _ => {
            let words = format!("SOURCE_DATE_EPOCH must be a number of seconds or `context`, not `{text}`");
            Err(Failure::usage(words).with_hint("times of other contexts and of stages are not taken"))
        }
    }
}

/// `STAGE[=NAME]` of `--target`, the names of each stage together. One that says nothing is as if it were not given.
///
/// # Errors
/// When a name is none.
pub(crate) fn targets(given: &[String]) -> Result<Vec<(String, Vec<Reference>)>, Failure> {
    let mut found: Vec<(String, Vec<Reference>)> = Vec::new();
    for text in given.iter().filter(|text| !text.is_empty()) {
        let (stage, name) = match text.split_once('=') {
            Some((stage, name)) => (stage, Some(name)),
            None => (text.as_str(), None),
        };
        if stage.is_empty() {
            return Err(Failure::usage(format!("--target: `{text}` is not STAGE[=NAME[:TAG]]")));
        }
        let name = name.map(|name| {
            name.parse::<Reference>().map_err(|error| Failure::usage(format!("--target: `{name}`: {error}")))
        });
        let name = name.transpose()?;
        // names of stages are alike in either case
        match found.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(stage)) {
            Some((_, names)) => names.extend(name),
            None => found.push((stage.to_owned(), name.into_iter().collect())),
        }
    }
    Ok(found)
}

/// `NAME=SOURCE` of `--build-context`.
///
/// # Errors
/// When one lacks a part.
pub(crate) fn contexts(given: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let one = |text| {
        let parts =
            str::split_once(text, '=').filter(|(name, source)| !name.is_empty() && !source.is_empty());
        parts.ok_or_else(|| Failure::usage(format!("--build-context: `{text}` is not NAME=SOURCE")))
    };
    given.iter().map(|text| one(text.as_str())).collect()
}

/// `ID=SOCKET` of `--ssh`, or an id alone for the agent of the environment.
///
/// # Errors
/// When there is no agent.
pub(crate) fn agents(
    given: &[String],
    variables: Variables<'_>,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let one = |text: &String| {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id.to_owned(), Some(socket.to_owned())),
            None => (text.clone(), variables("SSH_AUTH_SOCK")),
        };
        let socket = socket.ok_or_else(|| {
            Failure::new("--ssh: SSH_AUTH_SOCK is not set").with_hint("start an agent, or give ID=SOCKET")
        })?;
        Ok((id, PathBuf::from(socket)))
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_seconds_or_the_contexts() {
        let none = BTreeMap::new();
        for (flag, expected) in [
            (None, None),
            (Some(""), None),
            (Some("0"), Some(GivenEpoch::Seconds(0))),
            (Some("1700000000"), Some(GivenEpoch::Seconds(1_700_000_000))),
            (Some("context"), Some(GivenEpoch::Context)),
        ] {
            assert_eq!(epoch(&none, flag).unwrap(), expected, "{flag:?}");
        }
        for flag in ["-1", "1.5", "now", "99999999999999999999"] {
            assert!(epoch(&none, Some(flag)).unwrap_err().words().contains(flag), "{flag}");
        }
        let argument = BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), "7".to_owned())]);
        assert_eq!(epoch(&argument, Some("9")).unwrap(), Some(GivenEpoch::Seconds(7)));
    }

    #[test]
    fn targets_and_their_names() {
        let found = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = targets(&words).map_err(|failure| failure.words())?;
            let one = |(stage, names): (String, Vec<Reference>)| {
                let names: Vec<String> = names.iter().map(Reference::familiar).collect();
                format!("{stage}:{}", names.join("+"))
            };
            Ok::<_, String>(found.into_iter().map(one).collect::<Vec<_>>())
        };
        assert_eq!(found(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(found(&[""]).unwrap(), Vec::<String>::new());
        assert_eq!(found(&["app"]).unwrap(), ["app:"]);
        assert_eq!(found(&["a=x:1", "b", "A=r.test:5000/y"]).unwrap(), ["a:x:1+r.test:5000/y", "b:"]);
        for wrong in ["=x", "a=", "a=UPPER", "a=x y"] {
            assert!(found(&[wrong]).unwrap_err().contains("--target"), "{wrong}");
        }
    }

    #[test]
    fn contexts_and_agents() {
        let given = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let found = given(&["a=b=c", "x=./y"]);
        assert_eq!(contexts(&found).unwrap(), [("a", "b=c"), ("x", "./y")]);
        for text in ["a", "=b", "a=", "="] {
            assert!(contexts(&given(&[text])).unwrap_err().words().contains(text), "{text}");
        }
        let variables: Variables<'_> = &|name| (name == "SSH_AUTH_SOCK").then(|| "/agent".to_owned());
        let found = agents(&given(&["default", "other=/socket"]), variables).unwrap();
        assert_eq!(found, [("default".into(), "/agent".into()), ("other".into(), "/socket".into())].into());
        assert!(agents(&given(&["default"]), &|_| None).is_err());
    }
}
