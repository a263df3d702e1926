//! `--network`, `--ipc`, `--uts` and `--cgroupns`: whose namespaces a container has.

use super::flags::Flags;
use crate::error::Failure;
use slipway_runtime::{Namespace, container::config::Sharing};
use std::fs::File;

fn parse(text: &str, own: &[&str]) -> Result<Sharing, String> {
    match text.strip_prefix("ns:") {
        Some(path) if !path.is_empty() => Ok(Sharing::File(path.into())),
        None if text == "host" => Ok(Sharing::Host),
        None if own.contains(&text) => Ok(Sharing::Own),
        _ if text.starts_with("container:") => {
            Err("containers cannot share theirs by name yet: give ns:/proc/PID/ns/NAME, with the PID of `slipway inspect`"
                .to_owned())
        }
        _ => Err(format!("it is none of {}, host, ns:PATH", own.join(", "))),
    }
}

/// Opens what a flag has asked for.
pub(super) fn open(flag: &str, sharing: &Sharing) -> Result<Namespace, Failure> {
    match sharing {
        Sharing::Own => Ok(Namespace::New),
        Sharing::Host => Ok(Namespace::Host),
        Sharing::File(path) => {
            let file = File::open(path).map_err(Failure::from);
            let file = file.map_err(|failure| failure.about(format!("{flag}: `{}`", path.display())))?;
            Ok(Namespace::Join(file.into()))
        }
    }
}

/// Reads a value of `--network`.
pub(super) fn network(text: &str) -> Result<Sharing, String> {
    parse(text, &["none"]).map_err(|words| {
        format!("{words}; there are no networks of containers, and their ports are the host's")
    })
}

/// Reads a value of `--ipc`.
pub(super) fn ipc(text: &str) -> Result<Sharing, String> {
    parse(text, &["private", "shareable"])
}

/// Reads a value of `--uts` or `--cgroupns`.
pub(super) fn private(text: &str) -> Result<Sharing, String> {
    match parse(text, &["private"])? {
        Sharing::File(_) => Err("it is none of private, host".to_owned()),
        whose => Ok(whose),
    }
}

/// Whose namespace it is, as a caller writes it.
pub(super) fn word(sharing: &Sharing) -> String {
    match sharing {
        Sharing::Own => "private".to_owned(),
        Sharing::Host => "host".to_owned(),
        Sharing::File(path) => format!("ns:{}", path.display()),
    }
}

/// What the container is called.
pub(super) fn hostname(flags: &Flags) -> Result<String, Failure> {
    match (&flags.uts, &flags.hostname) {
        (Sharing::Own, given) => Ok(given.clone().unwrap_or_else(random_name)),
        (_, Some(_)) => {
            Err(Failure::usage("--hostname needs a UTS namespace of the container's own: leave --uts out"))
        }
        (_, None) => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
    }
}

/// Twelve random hexadecimal digits, as docker names containers.
fn random_name() -> String {
    let mut bytes = [0u8; 6];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(6) => {}
        // unique is all that is needed
        _ => bytes.copy_from_slice(&(u64::from(std::process::id()) << 16).to_le_bytes()[..6]),
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_read_as_docker_and_podman_write_them() {
        let file = |path: &str| Ok(Sharing::File(path.into()));
        type Read = fn(&str) -> Result<Sharing, String>;
        let cases: [(Read, &str, Result<Sharing, ()>); 12] = [
            (network, "host", Ok(Sharing::Host)),
            (network, "none", Ok(Sharing::Own)),
            (network, "ns:/run/netns/x", file("/run/netns/x")),
            (network, "bridge", Err(())),
            (network, "ns:", Err(())),
            (ipc, "private", Ok(Sharing::Own)),
            (ipc, "shareable", Ok(Sharing::Own)),
            (ipc, "host", Ok(Sharing::Host)),
            (ipc, "container:x", Err(())),
            (private, "host", Ok(Sharing::Host)),
            (private, "private", Ok(Sharing::Own)),
            (private, "ns:/proc/1/ns/uts", Err(())),
        ];
        for (read, text, expected) in cases {
            assert_eq!(read(text).map_err(drop), expected, "{text}");
        }
    }
}
