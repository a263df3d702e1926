//! Values of `run`'s flags.

use crate::error::Failure;
use crate::request::size::bytes;
use slipway_runtime::container::config::{Bind, MemoryFolder};
use std::path::PathBuf;

/// `SOURCE:TARGET[:ro|rw|z|Z]`. Labels of SELinux are taken and mean nothing here.
fn bind(text: &str) -> Result<Bind, Failure> {
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
        return Err(bad("named volumes are not supported yet: give the source as a path, such as ./data"));
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
    Ok(Bind { source, target: PathBuf::from(target), readonly })
}

/// What `-v` asks for.
pub(super) fn binds(volumes: &[String]) -> Result<Vec<Bind>, Failure> {
    volumes.iter().map(|text| bind(text)).collect()
}

/// What `--tmpfs` asks for.
pub(super) fn memory_folders(texts: &[String]) -> Result<Vec<MemoryFolder>, Failure> {
    let mut folders = Vec::new();
    for text in texts {
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
        folders.push(MemoryFolder { target: PathBuf::from(target), size_bytes, mode, exec });
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let volume = bind("/:/host:ro,z").expect("volume");
        assert!(volume.readonly);
        for text in ["/", "/:x", "/:/a:b:c", ":/a", "/:/a:fast", "data:/a", "/missing/x:/a"] {
            assert!(bind(text).is_err(), "{text}");
        }
    }
}
