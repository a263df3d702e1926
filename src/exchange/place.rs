//! Where something is copied from or to, as skopeo writes it (containers-transports(5)).

use slipway_oci::Reference;
use std::{fmt, path::PathBuf, str::FromStr};

/// A place of `copy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `NAME`, `docker://NAME`
    Registry(Reference),
    /// `oci:FOLDER[:TAG]`
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`
    Archive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`
    DockerArchive(PathBuf, Option<String>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let file = |rest: &str| {
            let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
            match path.is_empty() {
                true => Err(format!("`{text}` names no path")),
                false => Ok((PathBuf::from(path), name)),
            }
        };
        // `oci:1` may be an image that is called so, which is written `docker://oci:1` here
        if let Some(rest) = text.strip_prefix("oci:") {
            return file(rest).map(|(path, name)| Place::Layout(path, name));
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return file(rest).map(|(path, name)| Place::Archive(path, name));
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return file(rest).map(|(path, name)| Place::DockerArchive(path, name));
        }
        for other in ["dir:", "docker-daemon:", "containers-storage:", "ostree:"] {
            if text.starts_with(other) {
                return Err(format!(
                    "`{other}` is no place that is known: there are NAME, oci:, oci-archive: and docker-archive:"
                ));
            }
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        name.parse::<Reference>()
            .map(|name| Place::Registry(name.or_latest()))
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut file = |kind: &str, path: &PathBuf, name: &Option<String>| {
            write!(f, "{kind}:{}", path.display())?;
            name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
        };
        match self {
            Place::Registry(reference) => f.write_str(&reference.familiar()),
            Place::Layout(path, name) => file("oci", path, name),
            Place::Archive(path, name) => file("oci-archive", path, name),
            Place::DockerArchive(path, name) => file("docker-archive", path, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_skopeo_has_them() {
        for (text, shown) in [
            ("r.example/a:1", "r.example/a:1"),
            ("docker://r.example/a", "r.example/a:latest"),
            ("oci:dir", "oci:dir"),
            ("oci:dir:tag", "oci:dir:tag"),
            ("oci:./a/b:v1", "oci:./a/b:v1"),
            ("oci-archive:f.tar:t", "oci-archive:f.tar:t"),
            ("docker-archive:f.tar:r.example/a:1", "docker-archive:f.tar:r.example/a:1"),
            ("oci:dir:", "oci:dir"),
        ] {
            assert_eq!(text.parse::<Place>().map(|place| place.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in ["", "oci:", "oci-archive::t", "dir:x", "docker-daemon:a:1", "docker://", "A B"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
