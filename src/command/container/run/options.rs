//! Values of `run`'s flags.

use crate::error::Failure;
use crate::request::size::bytes;
use slipway_runtime::Mount;
use std::path::PathBuf;

/// One `-v`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) readonly: bool,
}

impl Volume {
    /// `SOURCE:TARGET[:ro|rw|z|Z]`. Labels of SELinux are taken and mean nothing here.
    pub(super) fn parse(text: &str) -> Result<Volume, Failure> {
        let bad = |why: &str| Failure::usage(format!("-v: `{text}`: {why}"));
        let mut parts = text.split(':');
        let (source, target) = match (parts.next(), parts.next()) {
            (Some(source), Some(target)) if !source.is_empty() => (source, target),
            _ => return Err(bad("expected SOURCE:TARGET[:ro]")),
        };
        let options = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return Err(bad("expected SOURCE:TARGET[:ro]"));
        }
        if !target.starts_with('/') {
            return Err(bad("the target must be an absolute path"));
        }
        if !source.contains('/') && source != "." && source != ".." {
            return Err(bad(
                "named volumes are not supported yet: give the source as a path, such as ./data",
            ));
        }
        let mut readonly = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => readonly = true,
                "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "rprivate" | "private" => {}
                other => return Err(bad(&format!("`{other}` is not one of ro, rw, z, Z"))),
            }
        }
        let source = std::path::absolute(source)?;
        if !source.exists() {
            let words = format!("-v: `{}` does not exist", source.display());
            return Err(Failure::new(words)
                .with_hint("make the folder first: slipway does not make folders of the host on its own"));
        }
        Ok(Volume { source, target: PathBuf::from(target), readonly })
    }
}

/// The mounts that `-v` and `--tmpfs` ask for.
pub(super) fn mounts(volumes: &[Volume], tmpfs: &[String]) -> Result<Vec<Mount>, Failure> {
    let mut mounts: Vec<Mount> = volumes.iter().map(super::bind).collect();
    for text in tmpfs {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        if !target.starts_with('/') {
            return Err(Failure::usage(format!("--tmpfs: `{text}`: the target must be an absolute path")));
        }
        let (mut size_bytes, mut mode, mut exec) = (None, 0o1777, false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => size_bytes = Some(bytes(value)?),
                Some(("mode", value)) => {
                    mode = u32::from_str_radix(value, 8)
                        .map_err(|_| Failure::usage(format!("--tmpfs: `{value}` is not an octal mode")))?;
                }
                None if option == "exec" => exec = true,
                None if matches!(option, "rw" | "noexec" | "nosuid" | "nodev") => {}
                _ => {
                    return Err(Failure::usage(format!(
                        "--tmpfs: `{option}` is not one of size=, mode=, exec"
                    )));
                }
            }
        }
        mounts.push(Mount::Tmpfs { target: PathBuf::from(target), size_bytes, mode, exec });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let volume = Volume::parse("/:/host:ro,z").expect("volume");
        assert!(volume.readonly);
        for text in ["/", "/:x", "/:/a:b:c", ":/a", "/:/a:fast", "data:/a", "/missing/x:/a"] {
            assert!(Volume::parse(text).is_err(), "{text}");
        }
    }
}
