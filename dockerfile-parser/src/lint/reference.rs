//! Image names and platforms, as far as their text alone can be judged.

/// A platform's parts after normalising, as `containerd/platforms` does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlatformName {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) variant: String,
}

impl PlatformName {
    /// Reads `os[/architecture[/variant]]`, `architecture` or `local`; nothing when the text is no platform.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let valid = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        let lower = text.to_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        if parts.len() > 3 || !parts.iter().all(|part| valid(part)) {
            return None;
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [one] if ["linux", "windows", "darwin", "freebsd", "local"].contains(one) => (*one, "", ""),
            [one] => ("linux", *one, ""),
            [os, architecture] => (*os, *architecture, ""),
            [os, architecture, variant] => (*os, *architecture, *variant),
            _ => return None,
        };
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", _) => ("amd64", ""),
            ("aarch64", _) | ("arm64", "v8") => ("arm64", ""),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("i386" | "x86", _) => ("386", ""),
            other => other,
        };
        Some(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() })
    }
}

/// An image name's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImageName<'t> {
    /// Everything before tag and digest.
    pub(super) name: &'t str,
    pub(super) tag: Option<&'t str>,
    pub(super) digest: Option<&'t str>,
}

impl<'t> ImageName<'t> {
    /// Reads a reference by distribution's grammar; nothing when it breaks it.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let path = match name.split_once('/') {
            Some((host, path)) if is_registry(host) => {
                if !is_host(host) {
                    return None;
                }
                path
            }
            _ => name,
        };
        let valid = name.len() <= 255
            && path.split('/').all(is_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest)
            && !(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        valid.then_some(Self { name, tag, digest })
    }

    /// The name on Docker Hub's official shelf, such as `debian`.
    pub(super) fn official(&self) -> Option<&'t str> {
        let name = ["docker.io/library/", "index.docker.io/library/", "library/"]
            .into_iter()
            .find_map(|prefix| self.name.strip_prefix(prefix))
            .unwrap_or(self.name);
        (!name.contains('/')).then_some(name)
    }
}

/// Whether the part before the first slash names a registry.
fn is_registry(host: &str) -> bool {
    host.contains(['.', ':']) || host == "localhost" || host.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let name_valid = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        }),
    };
    name_valid && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    word(*first)
        && word(*last)
        && bytes.chunk_by(|a, b| word(*a) == word(*b)).all(|run| {
            word(run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.first().is_some_and(|first| word(*first))
        && bytes.len() <= 128
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return !algorithm.is_empty() && hex.len() >= 32,
    };
    hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [
            "debian",
            "a/b:c",
            "localhost:5000/a",
            "x.y/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert!(ImageName::parse(good).is_some(), "{good}");
        }
        for bad in ["", ":latest", "busybox:", "Debian", "a b", "a//b", "a@sha256:12", "x:y:z/a b", "-a"] {
            assert!(ImageName::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(ImageName::parse("docker.io/library/debian:12").unwrap().official(), Some("debian"));
        assert_eq!(ImageName::parse("me/debian").unwrap().official(), None);
    }

    #[test]
    fn platforms() {
        let parsed = |text: &str| PlatformName::parse(text).map(|p| format!("{}/{}", p.os, p.architecture));
        assert_eq!(parsed("linux/x86_64").as_deref(), Some("linux/amd64"));
        assert_eq!(parsed("arm64").as_deref(), Some("linux/arm64"));
        for bad in ["", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
