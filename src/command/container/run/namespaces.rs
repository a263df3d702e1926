//! `--network`, `--ipc`, `--uts` and `--cgroupns`: whose namespaces a container has.

use super::{Arguments, random_name};
use crate::error::Failure;
use slipway_runtime::{Namespace, Namespaces};
use std::{fs::File, path::PathBuf};

/// A value of one of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// One of the container's own; of networks one with nothing but loopback.
    Own,
    /// The host's.
    Host,
    /// That of a file such as `/run/netns/NAME` or `/proc/PID/ns/net` (podman's `ns:PATH`).
    File(PathBuf),
}

impl Whose {
    fn parse(text: &str, own: &[&str]) -> Result<Whose, String> {
        match text.strip_prefix("ns:") {
            Some(path) if !path.is_empty() => Ok(Whose::File(path.into())),
            None if text == "host" => Ok(Whose::Host),
            None if own.contains(&text) => Ok(Whose::Own),
            _ if text.starts_with("container:") => {
                Err("containers are not kept, so there is none to share with: give ns:/proc/PID/ns/NAME"
                    .to_owned())
            }
            _ => Err(format!("it is none of {}, host, ns:PATH", own.join(", "))),
        }
    }

    fn open(&self, flag: &str) -> Result<Namespace, Failure> {
        match self {
            Whose::Own => Ok(Namespace::New),
            Whose::Host => Ok(Namespace::Host),
            Whose::File(path) => {
                let file = File::open(path).map_err(Failure::from);
                let file = file.map_err(|failure| failure.about(format!("{flag}: `{}`", path.display())))?;
                Ok(Namespace::Join(file.into()))
            }
        }
    }
}

/// Reads a value of `--network`.
pub(super) fn network(text: &str) -> Result<Whose, String> {
    Whose::parse(text, &["none"]).map_err(|words| {
        format!("{words}; there are no networks of containers, and their ports are the host's")
    })
}

/// Reads a value of `--ipc`.
pub(super) fn ipc(text: &str) -> Result<Whose, String> {
    Whose::parse(text, &["private", "shareable"])
}

/// Reads a value of `--uts` or `--cgroupns`.
pub(super) fn private(text: &str) -> Result<Whose, String> {
    match Whose::parse(text, &["private"])? {
        Whose::File(_) => Err("it is none of private, host".to_owned()),
        whose => Ok(whose),
    }
}

/// What the flags ask for.
pub(super) fn of(arguments: &Arguments) -> Result<Namespaces, Failure> {
    Ok(Namespaces {
        network: arguments.network.open("--network")?,
        ipc: arguments.ipc.open("--ipc")?,
        uts: arguments.uts.open("--uts")?,
        cgroup: arguments.cgroupns.open("--cgroupns")?,
    })
}

/// What the container is called, and whether that is to be set.
pub(super) fn hostname(arguments: &Arguments) -> Result<(String, bool), Failure> {
    match (&arguments.uts, &arguments.hostname) {
        (Whose::Own, given) => Ok((given.clone().unwrap_or_else(random_name), true)),
        (_, Some(_)) => {
            Err(Failure::usage("--hostname needs a UTS namespace of the container's own: leave --uts out"))
        }
        (_, None) => Ok((rustix::system::uname().nodename().to_string_lossy().into_owned(), false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_read_as_docker_and_podman_write_them() {
        let file = |path: &str| Ok(Whose::File(path.into()));
        type Read = fn(&str) -> Result<Whose, String>;
        let cases: [(Read, &str, Result<Whose, ()>); 12] = [
            (network, "host", Ok(Whose::Host)),
            (network, "none", Ok(Whose::Own)),
            (network, "ns:/run/netns/x", file("/run/netns/x")),
            (network, "bridge", Err(())),
            (network, "ns:", Err(())),
            (ipc, "private", Ok(Whose::Own)),
            (ipc, "shareable", Ok(Whose::Own)),
            (ipc, "host", Ok(Whose::Host)),
            (ipc, "container:x", Err(())),
            (private, "host", Ok(Whose::Host)),
            (private, "private", Ok(Whose::Own)),
            (private, "ns:/proc/1/ns/uts", Err(())),
        ];
        for (read, text, expected) in cases {
            assert_eq!(read(text).map_err(drop), expected, "{text}");
        }
    }
}
